//! What is forgotten: the audit log's oldest lines, by age and by number.

use crate::app::App;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use updraft_core::time::{HOUR_MS, Timestamp};
use updraft_store::{Lane, StoreError};

/// How often it is looked for what is too old.
const LOOK: Duration = Duration::from_secs(10);
/// Lines that one transaction looks at: it must not hold up others.
const CHUNK_ROWS: i64 = 1_000;

/// Forgets until `shutdown` says stop.
pub async fn run(app: Arc<App>, mut shutdown: watch::Receiver<bool>) {
    while !*shutdown.borrow() {
        match forget_chunk(&app).await {
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

/// Forgets a chunk; answers whether there may be more.
pub async fn forget_chunk(app: &App) -> Result<bool, StoreError> {
    let config = &app.config;
    let rows_max = config.audit_rows_max;
    let older_than = Timestamp(app.now().0.saturating_sub(config.audit_days.saturating_mul(24 * HOUR_MS)));
    // A look first: a write transaction that finds nothing would still hold up others.
    if !app.store.read(move |tx| tx.audit_overdue(older_than, rows_max)).await? {
        return Ok(false);
    }
    let gone = app.store.write(Lane::Bulk, move |tx| tx.audit_trim(older_than, rows_max, CHUNK_ROWS)).await?;
    Ok(gone as i64 == CHUNK_ROWS)
}
