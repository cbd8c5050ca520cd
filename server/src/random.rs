//! Randomness: identifiers and secrets, from one generator per purpose.
//!
//! Each purpose has a generator of its own, so that one more draw in one place does not change what
//! another place draws: a seed replays a simulation even after such a change.

use parking_lot::Mutex;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng as _};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

/// The source of all randomness in the server.
pub struct Random {
    seed: [u8; 32],
    children: Mutex<BTreeMap<&'static str, ChaCha20Rng>>,
}

impl Random {
    /// A generator seeded by the operating system.
    pub fn from_system() -> Result<Self, getrandom::Error> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed)?;
        Ok(Self::from_seed(seed))
    }

    /// A generator that repeats itself for the same seed.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self { seed, children: Mutex::new(BTreeMap::new()) }
    }

    /// Random bytes for a purpose.
    pub fn bytes<const N: usize>(&self, purpose: &'static str) -> [u8; N] {
        let mut out = [0; N];
        let mut children = self.children.lock();
        children
            .entry(purpose)
            .or_insert_with(|| {
                let mut hash = Sha256::new();
                hash.update(self.seed);
                hash.update(purpose.as_bytes());
                ChaCha20Rng::from_seed(hash.finalize().into())
            })
            .fill_bytes(&mut out);
        out
    }

    /// A secret of 32 hexadecimal digits, as device secrets are.
    pub fn secret(&self, purpose: &'static str) -> String {
        hex::encode(self.bytes::<16>(purpose))
    }

    /// An upper-case UUID (version 4), as RequestIds are.
    pub fn request_id(&self) -> String {
        let mut b = self.bytes::<16>("request_id");
        b[6] = (b[6] & 0x0f) | 0x40;
        b[8] = (b[8] & 0x3f) | 0x80;
        let hex = hex::encode_upper(b);
        format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn purposes_do_not_disturb_one_another() {
        let one = Random::from_seed([1; 32]);
        let two = Random::from_seed([1; 32]);
        let _: [u8; 4] = one.bytes("job_id");
        assert_eq!(one.bytes::<8>("device_secret"), two.bytes::<8>("device_secret"));
        assert_ne!(one.bytes::<8>("device_secret"), one.bytes::<8>("device_secret"));
    }

    #[test]
    fn request_ids_are_upper_case_uuids() {
        let id = Random::from_seed([7; 32]).request_id();
        assert_eq!(id.len(), 36);
        assert_eq!(&id[14..15], "4");
        assert_eq!(id, id.to_uppercase());
    }
}
