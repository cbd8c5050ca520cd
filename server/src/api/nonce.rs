//! Nonces: each may be used once within the time in which its timestamp is good.
//!
//! Kept as short hashes in buckets of a minute by expiry, with a hard cap; a full memory refuses calls
//! rather than forget.

use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, HashSet};
use updraft_core::time::{MINUTE_MS, Timestamp};
use updraft_store::{Store, StoreError};

/// The nonces used lately.
pub struct Nonces {
    max: usize,
    buckets: Mutex<Buckets>,
}

#[derive(Default)]
struct Buckets {
    by_minute: BTreeMap<i64, HashSet<u64>>,
    count: usize,
}

/// Why a nonce is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It was used before.
    Used,
    /// No room to remember it.
    Full,
}

impl Nonces {
    /// Remembers at most `max` nonces.
    pub fn new(max: u32) -> Self {
        Self { max: max as usize, buckets: Mutex::default() }
    }

    /// Uses a nonce of an access key whose timestamp is good until `expires`.
    pub fn take(&self, key_id: &str, nonce: &str, expires: Timestamp, now: Timestamp) -> Result<(), Refusal> {
        let hash = hash(key_id, nonce);
        let minute = expires.0.div_euclid(MINUTE_MS);
        let mut buckets = self.buckets.lock();
        buckets.forget_before(now.0.div_euclid(MINUTE_MS));
        // The same nonce with another timestamp is the same nonce.
        if buckets.by_minute.values().any(|bucket| bucket.contains(&hash)) {
            return Err(Refusal::Used);
        }
        if buckets.count >= self.max {
            return Err(Refusal::Full);
        }
        buckets.by_minute.entry(minute).or_default().insert(hash);
        buckets.count += 1;
        Ok(())
    }
}

/// Uses a nonce for several nodes together: it is remembered in the database, whose room is the only limit.
pub async fn take_together(
    store: &Store,
    key_id: &str,
    nonce: &str,
    expires: Timestamp,
) -> Result<Result<(), Refusal>, StoreError> {
    let hash = hash(key_id, nonce).cast_signed();
    let fresh = store.ledger(move |tx| tx.nonce_use(hash, expires)).await?;
    Ok(if fresh { Ok(()) } else { Err(Refusal::Used) })
}

impl Buckets {
    fn forget_before(&mut self, minute: i64) {
        while let Some(first) = self.by_minute.first_entry().filter(|first| *first.key() < minute) {
            self.count -= first.remove().len();
        }
    }
}

fn hash(key_id: &str, nonce: &str) -> u64 {
    let mut hash = Sha256::new();
    hash.update((key_id.len() as u64).to_le_bytes());
    hash.update(key_id.as_bytes());
    hash.update(nonce.as_bytes());
    let digest: [u8; 32] = hash.finalize().into();
    u64::from_le_bytes(digest.first_chunk().copied().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_counts_once_per_key_until_it_expires() {
        let nonces = Nonces::new(100);
        let (now, expires) = (Timestamp(0), Timestamp(30 * MINUTE_MS));
        assert_eq!(nonces.take("a", "n", expires, now), Ok(()));
        assert_eq!(nonces.take("a", "n", expires, now), Err(Refusal::Used));
        assert_eq!(nonces.take("a", "n", expires.plus_ms(3 * MINUTE_MS), now), Err(Refusal::Used));
        assert_eq!(nonces.take("b", "n", expires, now), Ok(()));
        let later = expires.plus_ms(MINUTE_MS);
        assert_eq!(nonces.take("a", "n", later, later), Ok(()));
    }

    #[test]
    fn a_full_memory_refuses_until_nonces_expire() {
        let nonces = Nonces::new(1);
        assert_eq!(nonces.take("a", "1", Timestamp(0), Timestamp(0)), Ok(()));
        assert_eq!(nonces.take("a", "2", Timestamp(0), Timestamp(0)), Err(Refusal::Full));
        let later = Timestamp(2 * MINUTE_MS);
        assert_eq!(nonces.take("a", "2", later, later), Ok(()));
    }
}
