//! Quotas: calls per second of an account and all its RAM users together, by operation.

use crate::api::find;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt;
use updraft_core::id::AccountNo;
use updraft_core::quota::CallWindow;
use updraft_core::time::Timestamp;
use updraft_store::{Store, StoreError};

/// Idle windows are dropped once there are this many.
const WINDOWS_MAX: usize = 10_000;

/// Calls per second that an operator sets in place of the platform's, by operation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnQps(BTreeMap<&'static str, u32>);

impl OwnQps {
    /// Reads `Name=N`, between commas; a name that no operation has is refused, and so is one given twice.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut found = BTreeMap::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, value) =
                part.split_once('=').map_or((part, ""), |(name, value)| (name.trim(), value.trim()));
            let operation = find(name).ok_or_else(|| {
                format!("there is no operation `{name}`; `updraft api --list` shows them (capitals count)")
            })?;
            let qps = value.parse().map_err(|_| {
                format!("{name} wants calls per second as a whole number (0: no limit), not `{value}`")
            })?;
            if found.insert(operation.name, qps).is_some() {
                return Err(format!("{name} is given twice"));
            }
        }
        Ok(Self(found))
    }
}

impl fmt::Display for OwnQps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<String> = self.0.iter().map(|(name, qps)| format!("{name}={qps}")).collect();
        f.write_str(&all.join(","))
    }
}

/// The windows of all accounts.
pub struct Quotas {
    scale: f64,
    own: OwnQps,
    windows: Mutex<BTreeMap<(AccountNo, &'static str), CallWindow>>,
}

impl Quotas {
    /// Quotas, some of them the operator's own, multiplied by `scale`; 0 switches them off.
    pub fn new(scale: f64, own: OwnQps) -> Self {
        Self { scale, own, windows: Mutex::default() }
    }

    /// Takes one call, or says in how many milliseconds to try again.
    pub fn take(
        &self,
        account: AccountNo,
        operation: &'static str,
        per_second: u32,
        now: Timestamp,
    ) -> Result<(), i64> {
        let Some(limit) = self.limit(operation, per_second) else { return Ok(()) };
        let mut windows = self.windows.lock();
        if windows.len() > WINDOWS_MAX {
            windows.retain(|_, window| !window.is_idle(now));
        }
        windows.entry((account, operation)).or_default().take(limit, now)
    }

    /// The same for several nodes together: their calls are counted in the database. A call counts when it gets its turn
    /// there, for which it may have waited.
    pub async fn take_together(
        &self,
        store: &Store,
        now: impl Fn() -> Timestamp + Send + 'static,
        account: AccountNo,
        operation: &'static str,
        per_second: u32,
    ) -> Result<Result<(), i64>, StoreError> {
        let Some(limit) = self.limit(operation, per_second) else { return Ok(Ok(())) };
        store
            .ledger(move |tx| {
                let mut window = CallWindow::of(tx.call_window(account, operation)?);
                let taken = window.take(limit, now());
                if taken.is_ok() {
                    tx.call_window_set(account, operation, window.moments())?;
                }
                Ok(taken)
            })
            .await
    }

    /// Calls per second of an operation; `None`: any number.
    fn limit(&self, operation: &'static str, per_second: u32) -> Option<u32> {
        let per_second = self.own.0.get(operation).copied().unwrap_or(per_second);
        if self.scale == 0.0 || per_second == 0 {
            return None;
        }
        Some(((f64::from(per_second) * self.scale).ceil() as u32).max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock as _, ManualClock};
    use std::sync::Arc;
    use updraft_store::Location;

    #[test]
    fn accounts_and_operations_have_windows_of_their_own() {
        let quotas = Quotas::new(0.1, OwnQps::default());
        let now = Timestamp(0);
        assert!(quotas.take(AccountNo(1), "A", 10, now).is_ok());
        assert_eq!(quotas.take(AccountNo(1), "A", 10, now), Err(1_000));
        assert!(quotas.take(AccountNo(2), "A", 10, now).is_ok());
        assert!(quotas.take(AccountNo(1), "B", 10, now).is_ok());
        assert!((0..99).all(|_| Quotas::new(0.0, OwnQps::default()).take(AccountNo(1), "A", 1, now).is_ok()));
    }

    #[tokio::test]
    async fn a_call_of_several_nodes_counts_when_it_gets_its_turn() {
        let store = Store::open(&Location::Inline).unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp(0)));
        let quotas = Quotas::new(1.0, OwnQps::default());
        let take = || {
            let clock = Arc::clone(&clock);
            quotas.take_together(&store, move || clock.now(), AccountNo(1), "A", 1)
        };
        let first = take();
        // The database was away meanwhile.
        clock.set(Timestamp(5_000));
        assert_eq!(first.await.unwrap(), Ok(()));
        assert_eq!(take().await.unwrap(), Err(1_000));
    }

    #[test]
    fn an_operators_own_quotas_stand_in_place_of_the_platforms() {
        let own = OwnQps::parse("QueryProduct=2, CreateProduct = 0").unwrap();
        assert_eq!(own.to_string(), "CreateProduct=0,QueryProduct=2");
        let quotas = Quotas::new(1.0, own);
        let now = Timestamp(0);
        let take = |operation| quotas.take(AccountNo(1), operation, 1, now).is_ok();
        assert!(take("QueryProduct") && take("QueryProduct") && !take("QueryProduct"));
        assert!((0..99).all(|_| take("CreateProduct")), "0 is no limit");
        assert!(take("QueryDevice") && !take("QueryDevice"));
        for (bad, named) in [
            ("QueryProdct=2", "`QueryProdct`"),
            ("queryproduct=2", "capitals"),
            ("QueryProduct", "whole number"),
            ("QueryProduct=-1", "`-1`"),
            ("QueryProduct=1.5", "`1.5`"),
            ("QueryProduct=1,QueryProduct=2", "twice"),
        ] {
            let why = OwnQps::parse(bad).unwrap_err();
            assert!(why.contains(named), "{bad}: {why}");
        }
    }
}
