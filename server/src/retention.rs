//! What is forgotten: lines of the audit log, by age and by number; temporary keys, a day after their
//! end; registrations in bulk, but not their devices; histories of tasks, but not the tasks.
//!
//! Beyond `audit_rows_max` the account with the most lines loses some, so that no account pushes out another's
//! lines; of an account refused calls go first, then changes, then commands, and of each the oldest. A
//! twentieth of the room is made at once: counting means to look at every line.

use crate::api::audit;
use crate::app::App;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use updraft_core::time::{HOUR_MS, Timestamp};
use updraft_store::{AuditWorth, Lane, StoreError};

/// How often it is looked for what is too much.
const LOOK: Duration = Duration::from_secs(10);
/// Lines that one transaction deletes at most: it must not hold up others.
const CHUNK_ROWS: i64 = 1_000;
/// Lines that are counted at a time.
const SCAN_ROWS: i64 = 5_000;
/// How long an expired temporary key is kept, in milliseconds: whoever uses it still is told that it expired, not
/// that there is no such key.
const STS_KEPT_MS: i64 = 24 * HOUR_MS;
/// The part of `audit_rows_max` that is freed at once.
const ROOM_PART: i64 = 20;

/// Lines, by account and worth.
type Counts = BTreeMap<(String, AuditWorth), i64>;

/// Keeps the audit log within its limits.
#[derive(Debug, Default)]
pub struct Retention {
    /// Below this highest number there cannot be too many lines: they were counted.
    enough_until: i64,
}

/// Forgets until `shutdown` says stop.
pub async fn run(app: Arc<App>, mut shutdown: watch::Receiver<bool>) {
    let mut retention = Retention::default();
    while !*shutdown.borrow() {
        audit::tell_left_out(&app, false).await;
        // Of several nodes one is enough.
        let forgotten = if app.nodes.leads() { retention.forget(&app).await } else { Ok(false) };
        match forgotten {
            Ok(true) => {
                tokio::task::yield_now().await;
                continue;
            }
            Ok(false) => {}
            Err(error) => tracing::error!(%error, "the audit log could not be trimmed; it is tried again"),
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            _ = shutdown.changed() => {}
        }
    }
}

impl Retention {
    /// Forgets some of what is too old, and all that is too much; answers whether there may be more.
    pub async fn forget(&mut self, app: &App) -> Result<bool, StoreError> {
        let days = app.config.audit_days;
        let older_than = Timestamp(app.now().0.saturating_sub(days.saturating_mul(24 * HOUR_MS)));
        // A look first: a write transaction that finds nothing would still hold up others.
        let mut gone = 0;
        if app.store.read(move |tx| tx.audit_overdue(older_than, CHUNK_ROWS)).await? {
            gone = app.store.write(Lane::Bulk, move |tx| tx.audit_trim(older_than, CHUNK_ROWS)).await?;
        }
        self.forget_surplus(app).await?;
        let more = forget_histories(app).await? || forget_sts_keys(app).await? > 0;
        Ok(forget_applies(app).await? || more || gone > 0)
    }

    async fn forget_surplus(&mut self, app: &App) -> Result<(), StoreError> {
        let max = app.config.audit_rows_max;
        let Some((lowest, highest)) = app.store.read(|tx| tx.audit_span()).await? else { return Ok(()) };
        if highest.saturating_sub(lowest) < max || highest < self.enough_until {
            return Ok(());
        }
        let counts = count(app).await?;
        let mut lines: i64 = counts.values().sum();
        if lines > max {
            let mut surplus = surplus(&counts, max - max / ROOM_PART);
            lines -= surplus.values().sum::<i64>();
            delete(app, &mut surplus).await?;
        }
        self.enough_until = highest.saturating_add(max - lines + 1);
        Ok(())
    }
}

/// Forgets some temporary keys that ended long ago; answers how many.
async fn forget_sts_keys(app: &App) -> Result<usize, StoreError> {
    let before = app.now().plus_ms(-STS_KEPT_MS);
    if !app.store.read(move |tx| tx.sts_keys_overdue(before)).await? {
        return Ok(0);
    }
    app.store.write(Lane::Bulk, move |tx| tx.sts_keys_trim(before, CHUNK_ROWS)).await
}

/// Forgets some lines of tasks' histories that are too old or too many; answers whether there were any.
async fn forget_histories(app: &App) -> Result<bool, StoreError> {
    let before = app.now().plus_ms(app.config.history_days.saturating_mul(-24 * HOUR_MS));
    let max = app.config.history_rows_max;
    if !app.store.read(move |tx| tx.task_history_overdue(before, max)).await? {
        return Ok(false);
    }
    let trimmed =
        app.store.write(Lane::Bulk, move |tx| tx.task_history_trim(before, max, CHUNK_ROWS)).await?;
    Ok(trimmed > 0)
}

/// Forgets a part of a registration in bulk that is too old, or crowded out; answers whether there was one.
async fn forget_applies(app: &App) -> Result<bool, StoreError> {
    let before = app.now().plus_ms(app.config.device_apply_days.saturating_mul(-24 * HOUR_MS));
    let Some(apply) = app.store.read(move |tx| tx.apply_overdue(before)).await? else { return Ok(false) };
    app.store.write(Lane::Bulk, move |tx| tx.apply_forget(apply, CHUNK_ROWS)).await?;
    Ok(true)
}

async fn count(app: &App) -> Result<Counts, StoreError> {
    let mut counts = Counts::new();
    let mut after = i64::MIN;
    loop {
        let lines = app.store.read(move |tx| tx.audit_scan(after, SCAN_ROWS)).await?;
        let Some(last) = lines.last() else { return Ok(counts) };
        after = last.no;
        for line in lines {
            *counts.entry((line.account, line.worth)).or_default() += 1;
        }
        tokio::task::yield_now().await;
    }
}

/// How many lines of each kind must go so that `target` are left.
fn surplus(counts: &Counts, target: i64) -> Counts {
    let mut accounts: BTreeMap<&str, i64> = BTreeMap::new();
    for ((account, _), lines) in counts {
        *accounts.entry(account).or_default() += lines;
    }
    // Who has less than an equal share keeps all; the others share what that leaves.
    let mut sizes: Vec<i64> = accounts.values().copied().collect();
    sizes.sort_unstable();
    let (mut left, mut sharing, mut share) = (target, sizes.len() as i64, i64::MAX);
    for size in sizes {
        if size > left / sharing {
            share = left / sharing;
            break;
        }
        left -= size;
        sharing -= 1;
    }
    let mut too_many: BTreeMap<&str, i64> =
        accounts.into_iter().map(|(account, lines)| (account, (lines - share).max(0))).collect();
    // The keys are in order of worth.
    let mut out = Counts::new();
    for ((account, worth), lines) in counts {
        let Some(too_many) = too_many.get_mut(account.as_str()) else { continue };
        let gone = (*too_many).min(*lines);
        *too_many -= gone;
        out.insert((account.clone(), *worth), gone);
    }
    out
}

/// Deletes so many of each kind, the oldest first.
async fn delete(app: &App, surplus: &mut Counts) -> Result<(), StoreError> {
    let mut after = i64::MIN;
    while surplus.values().any(|lines| *lines > 0) {
        let lines = app.store.read(move |tx| tx.audit_scan(after, CHUNK_ROWS)).await?;
        let Some(last) = lines.last() else { break };
        after = last.no;
        let mut gone = Vec::new();
        for line in lines {
            if let Some(left) = surplus.get_mut(&(line.account, line.worth)).filter(|left| **left > 0) {
                *left -= 1;
                gone.push(line.no);
            }
        }
        if !gone.is_empty() {
            app.store.write(Lane::Bulk, move |tx| tx.audit_delete(&gone)).await?;
        }
        tokio::task::yield_now().await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use AuditWorth::{Change, Command, Refusal};

    fn counts(of: &[(&str, AuditWorth, i64)]) -> Counts {
        of.iter().map(|(account, worth, lines)| (((*account).to_owned(), *worth), *lines)).collect()
    }

    #[test]
    fn the_largest_account_loses_its_refusals_first_and_its_commands_last() {
        let all =
            counts(&[("big", Refusal, 50), ("big", Change, 40), ("big", Command, 10), ("small", Refusal, 5)]);
        let gone = |target| -> Vec<i64> { surplus(&all, target).into_values().collect() };
        assert_eq!(gone(105), [0, 0, 0, 0]);
        assert_eq!(gone(65), [40, 0, 0, 0]);
        assert_eq!(gone(35), [50, 20, 0, 0]);
        assert_eq!(gone(11), [50, 40, 4, 0]);
        assert_eq!(gone(4), [50, 40, 8, 3], "equal shares when nobody has less");
        assert_eq!(gone(0), [50, 40, 10, 5]);
    }
}
