//! The end of what no package uses: tickets that were never used, uploads that no package was made of, and the
//! files of deleted packages.
//!
//! The row goes first, then the blob: a crash in between leaves a blob that no row names, which `sweep.rs` finds.
//! A key that is being uploaded to is left alone, however old its ticket is.

use crate::app::App;
use crate::files::blobs::free_bytes;
use crate::files::busy::Busy;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use updraft_core::id::FileNo;
use updraft_core::time::{SECOND_MS, Timestamp};
use updraft_store::{Lane, StoreError};

/// How often it looks at least, in seconds; more often if uploads may wait less.
const ROUND_SECONDS: i64 = 30;
/// Rows that one transaction removes at most.
const CHUNK_ROWS: i64 = 200;
/// Deleted packages whose files one transaction lets go of at most.
const CHUNK_PACKAGES: i64 = 50;

/// The moment before which an upload, or an unused ticket, is too old to become a package.
pub fn too_old_before(app: &App, now: Timestamp) -> Timestamp {
    now.plus_ms(-app.config.upload_unused_seconds.saturating_mul(SECOND_MS))
}

/// Purges until `stopped`, and measures the disk meanwhile.
pub async fn run(app: Arc<App>, mut stopped: watch::Receiver<bool>) {
    let round = Duration::from_secs(app.config.upload_unused_seconds.clamp(1, ROUND_SECONDS).unsigned_abs());
    loop {
        let free = app.blobs.free_bytes().and_then(|free| match free {
            Some(free) => Ok(free),
            None => free_bytes(&app.config.data_dir),
        });
        match free {
            Ok(free) => metrics::gauge!("updraft_disk_free_bytes").set(free as f64),
            Err(error) => tracing::warn!(%error, "the free space of the data folder cannot be measured"),
        }
        // Of several nodes one is enough.
        let more = app.nodes.leads() && chunk(&app).await;
        let pause = if more { Duration::ZERO } else { round };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = stopped.wait_for(|stop| *stop) => return,
        }
    }
}

/// Purges one chunk of each kind; answers whether there may be more.
async fn chunk(app: &App) -> bool {
    let mut more = false;
    for (what, outcome) in [("unused uploads", turn(app).await), ("deleted packages", deleted(app).await)] {
        more |= outcome.unwrap_or_else(|error| {
            tracing::warn!(%error, "the files of {what} could not be purged; trying again later");
            false
        });
    }
    more
}

/// Purges one chunk; answers whether there may be more.
pub async fn turn(app: &App) -> Result<bool, StoreError> {
    let before = too_old_before(app, app.now());
    let old = app.store.read(move |tx| tx.files_unused(before, CHUNK_ROWS)).await?;
    let full = old.len() as i64 == CHUNK_ROWS;
    // Whoever wants to upload to such a key meanwhile is refused: its row is about to go.
    let taken: Vec<(FileNo, Busy<'_>)> =
        old.iter().filter_map(|file| Busy::take(app, &file.object_key).map(|busy| (file.no, busy))).collect();
    if taken.is_empty() {
        return Ok(false);
    }
    let numbers: Vec<FileNo> = taken.iter().map(|(no, _)| *no).collect();
    let (rows, blobs) = app.store.write(Lane::Bulk, move |tx| tx.files_purge(&numbers, before)).await?;
    drop(taken);
    remove(app, &blobs).await;
    metrics::counter!("updraft_uploads_purged_total").increment(blobs.len() as u64);
    if !blobs.is_empty() {
        tracing::info!(uploads = blobs.len(), tickets = rows - blobs.len(), "purged what no package used");
    }
    Ok(full)
}

/// Removes the files of some deleted packages that no open task refers to; answers whether there may be more.
pub async fn deleted(app: &App) -> Result<bool, StoreError> {
    if !app.store.read(|tx| tx.firmware_purge_exists()).await? {
        return Ok(false);
    }
    let (packages, blobs) = app.store.write(Lane::Bulk, |tx| tx.firmwares_purge(CHUNK_PACKAGES)).await?;
    remove(app, &blobs).await;
    if packages > 0 {
        tracing::info!(packages, files = blobs.len(), "removed the files of deleted packages");
    }
    Ok(packages as i64 == CHUNK_PACKAGES)
}

/// Removes blobs that no row names any more.
async fn remove(app: &App, blobs: &[String]) {
    for blob in blobs {
        if let Err(error) = app.blobs.remove(blob).await {
            tracing::warn!(%error, blob, "the blob of a purged file could not be removed");
        }
    }
}
