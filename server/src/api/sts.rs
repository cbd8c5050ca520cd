//! Temporary keys (STS): what they look like, and whether a call carries the right token.
//!
//! A token is a secret of its own: it is stored as a hash, and compared in constant time. The signature covers it
//! in both schemes, so nobody can put another token into a call that was signed.

use crate::api::error::{ApiError, Code};
use crate::random::Random;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use updraft_core::id;
use updraft_core::policy::Policy;
use updraft_core::time::Timestamp;

/// What the AccessKeyIds of temporary keys begin with, as the platform's do.
const ID_PREFIX: &str = "STS.";
/// What tokens begin with: it tells them from tokens of other servers.
const TOKEN_PREFIX: &str = "UPDRAFT";
/// The letters and digits of a token behind its prefix.
const TOKEN_CHARS: usize = 64;

/// A new temporary key as its holder sees it.
pub struct NewStsKey {
    /// AccessKeyId.
    pub id: String,
    /// AccessKeySecret.
    pub secret: String,
    /// SecurityToken.
    pub token: String,
}

/// What a call with a temporary key is checked against, beyond the key itself.
pub struct Session {
    /// The hash of its token.
    pub token_hash: Vec<u8>,
    /// From when on it signs nothing.
    pub expires_at: Timestamp,
    /// What it may do at most; `None`: what its user may.
    pub policy: Option<Policy>,
}

/// A new temporary key.
pub fn fresh(random: &Random) -> NewStsKey {
    NewStsKey {
        id: format!("{ID_PREFIX}{}", id::alphanumeric(&random.bytes::<24>("sts_key_id"))),
        secret: id::alphanumeric(&random.bytes::<44>("sts_key_secret")),
        token: format!("{TOKEN_PREFIX}{}", id::alphanumeric(&random.bytes::<TOKEN_CHARS>("sts_token"))),
    }
}

/// Whether an AccessKeyId is a temporary key's.
pub fn is_temporary(key_id: &str) -> bool {
    key_id.starts_with(ID_PREFIX)
}

/// What is stored of a token.
pub fn hash(token: &str) -> Vec<u8> {
    Sha256::digest(token.as_bytes()).to_vec()
}

fn is_well_formed(token: &str) -> bool {
    token.strip_prefix(TOKEN_PREFIX).is_some_and(|rest| {
        rest.len() == TOKEN_CHARS && rest.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })
}

/// Checks the token that a call carries against its key's session (`None`: a lasting key).
pub fn check(session: Option<&Session>, token: Option<&str>, now: Timestamp) -> Result<(), ApiError> {
    let session = match (session, token) {
        (None, None) => return Ok(()),
        (Some(_), None) => {
            return Err(ApiError::missing("SecurityToken").because("a temporary key without its token"));
        }
        (_, Some(token)) if !is_well_formed(token) => return Err(Code::SecurityTokenMalformed.into()),
        (None, Some(_)) => {
            return Err(ApiError::new(Code::SecurityTokenMismatch).because("a lasting key with a token"));
        }
        (Some(session), Some(token)) => {
            if !bool::from(hash(token).ct_eq(&session.token_hash)) {
                return Err(ApiError::new(Code::SecurityTokenMismatch).because("another key's token"));
            }
            session
        }
    };
    if now >= session.expires_at {
        return Err(ApiError::with(
            Code::SecurityTokenExpired,
            format!(
                "{} It expired at {}.",
                Code::SecurityTokenExpired.text(),
                crate::api::answer::utc(session.expires_at)
            ),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: Timestamp = Timestamp(1_000);

    fn code(session: Option<&Session>, token: Option<&str>, now: i64) -> String {
        check(session, token, Timestamp(now)).map_or_else(|error| error.code.into_owned(), |()| String::new())
    }

    #[test]
    fn a_token_goes_with_its_key_alone_and_until_its_end() {
        let random = Random::from_seed([1; 32]);
        let (key, other) = (fresh(&random), fresh(&random));
        assert!(is_temporary(&key.id) && !is_temporary("UPDRx") && key.token != other.token);
        let session = Session { token_hash: hash(&key.token), expires_at: END, policy: None };
        let (of, token) = (Some(&session), key.token.as_str());
        assert_eq!(code(None, None, 0), "");
        assert_eq!(code(of, Some(token), 999), "");
        assert_eq!(code(of, Some(token), 1_000), "InvalidSecurityToken.Expired");
        assert_eq!(code(of, None, 0), "MissingSecurityToken");
        assert_eq!(code(of, Some(&other.token), 0), "InvalidSecurityToken.MismatchWithAccessKey");
        assert_eq!(code(None, Some(token), 0), "InvalidSecurityToken.MismatchWithAccessKey");
        for bad in ["token", &token[1..], &token[..70], &format!("{token}x"), &token.replace('U', "u")] {
            assert_eq!(code(of, Some(bad), 0), "InvalidSecurityToken.Malformed", "{bad}");
            assert_eq!(code(None, Some(bad), 0), "InvalidSecurityToken.Malformed", "{bad}");
        }
    }
}
