//! Tokens of the HTTP channel: which device, until when, and of which of its credentials, signed with a key of the
//! server. Nothing is stored of them; what ends one early is in the device's row.

use crate::api::sign::{hmac_sha256, same};
use crate::seal::MasterKey;
use updraft_core::id::DeviceNo;
use updraft_core::time::{SECOND_MS, Timestamp};

/// Makes and reads tokens.
pub struct Tokens {
    key: [u8; 32],
    valid_ms: i64,
}

/// What a token says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The device.
    pub device: DeviceNo,
    /// How often what it proves itself with had changed when the token was made.
    pub credentials: i64,
}

/// Why a token is no good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadToken {
    /// This server did not make it.
    NotOurs,
    /// Its time is over.
    Expired,
}

impl Tokens {
    /// Tokens that are good for so many seconds, with a key derived from the master key.
    pub fn new(master: &MasterKey, valid_seconds: u32) -> Self {
        Self { key: master.derive("http_token"), valid_ms: i64::from(valid_seconds) * SECOND_MS }
    }

    /// A token, of less than 128 letters, digits and dashes: Link SDKs for C keep 192.
    pub fn issue(&self, claim: Claim, now: Timestamp) -> String {
        let ends = now.plus_ms(self.valid_ms);
        let said = format!("{:x}-{:x}-{:x}", claim.device.0, claim.credentials, ends.0);
        let sign = self.sign(&said);
        format!("{said}-{sign}")
    }

    /// What a token says, if it is good.
    pub fn read(&self, token: &str, now: Timestamp) -> Result<Claim, BadToken> {
        let (said, sign) = token.rsplit_once('-').ok_or(BadToken::NotOurs)?;
        if !same(sign, &self.sign(said)) {
            return Err(BadToken::NotOurs);
        }
        // What we signed we can read.
        let mut numbers = said.split('-').map(|number| i64::from_str_radix(number, 16));
        let mut next = || numbers.next().and_then(Result::ok).ok_or(BadToken::NotOurs);
        let (device, credentials, ends) = (DeviceNo(next()?), next()?, Timestamp(next()?));
        if now >= ends { Err(BadToken::Expired) } else { Ok(Claim { device, credentials }) }
    }

    fn sign(&self, said: &str) -> String {
        hex::encode(hmac_sha256(&self.key, said.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLAIM: Claim = Claim { device: DeviceNo(1_000_000), credentials: 3 };
    const NOW: Timestamp = Timestamp(1_716_206_400_000);

    fn tokens(key: u8) -> Tokens {
        Tokens::new(&MasterKey::new(&[key; 32]).unwrap(), 7)
    }

    #[test]
    fn a_token_is_read_until_its_end_and_by_its_server_alone() {
        let ours = tokens(1);
        let token = ours.issue(CLAIM, NOW);
        assert!(token.len() < 128 && token.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'));
        assert_eq!(ours.read(&token, NOW), Ok(CLAIM));
        assert_eq!(ours.read(&token, NOW.plus_ms(6_999)), Ok(CLAIM));
        assert_eq!(ours.read(&token, NOW.plus_ms(7_000)), Err(BadToken::Expired));
        assert_eq!(tokens(2).read(&token, NOW), Err(BadToken::NotOurs));
    }

    #[test]
    fn what_was_changed_is_not_ours() {
        let ours = tokens(1);
        let token = ours.issue(CLAIM, NOW);
        for place in 0..token.len() {
            let mut other = token.clone();
            let digit = if &token[place..=place] == "0" { "1" } else { "0" };
            other.replace_range(place..=place, digit);
            assert_eq!(ours.read(&other, NOW), Err(BadToken::NotOurs), "{other}");
        }
        for odd in ["", "-", "---", "x", "路-路", &token[1..], &token[..token.len() - 1]] {
            assert_eq!(ours.read(odd, NOW), Err(BadToken::NotOurs), "{odd}");
        }
    }
}
