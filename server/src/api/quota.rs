//! Quotas: calls per second of an account and all its RAM users together, by operation.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use updraft_core::id::AccountNo;
use updraft_core::quota::CallWindow;
use updraft_core::time::Timestamp;

/// Idle windows are dropped once there are this many.
const WINDOWS_MAX: usize = 10_000;

/// The windows of all accounts.
pub struct Quotas {
    scale: f64,
    windows: Mutex<BTreeMap<(AccountNo, &'static str), CallWindow>>,
}

impl Quotas {
    /// Quotas multiplied by `scale`; 0 switches them off.
    pub fn new(scale: f64) -> Self {
        Self { scale, windows: Mutex::default() }
    }

    /// Takes one call, or says in how many milliseconds to try again.
    pub fn take(
        &self,
        account: AccountNo,
        operation: &'static str,
        per_second: u32,
        now: Timestamp,
    ) -> Result<(), i64> {
        if self.scale == 0.0 {
            return Ok(());
        }
        let limit = (f64::from(per_second) * self.scale).ceil() as u32;
        let mut windows = self.windows.lock();
        if windows.len() > WINDOWS_MAX {
            windows.retain(|_, window| !window.is_idle(now));
        }
        windows.entry((account, operation)).or_default().take(limit.max(1), now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_and_operations_have_windows_of_their_own() {
        let quotas = Quotas::new(0.1);
        let now = Timestamp(0);
        assert!(quotas.take(AccountNo(1), "A", 10, now).is_ok());
        assert_eq!(quotas.take(AccountNo(1), "A", 10, now), Err(1_000));
        assert!(quotas.take(AccountNo(2), "A", 10, now).is_ok());
        assert!(quotas.take(AccountNo(1), "B", 10, now).is_ok());
        assert!((0..99).all(|_| Quotas::new(0.0).take(AccountNo(1), "A", 1, now).is_ok()));
    }
}
