//! Blobs that no row names: an upload whose node died between the blob and its row, or a purge between the row and the
//! blob.
//!
//! In the server's own folder they are found at its start. In a bucket, or a folder that several nodes use, what nobody
//! names yet may be another node's upload: only what is a day old is looked at, slowly, once a day and after a start.

use crate::app::App;
use crate::config::Config;
use crate::files::Blobs;
use crate::files::blobs::Folder;
use crate::serve::moment;
use crate::setup;
use anyhow::Context as _;
use object_store::path::Path;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use updraft_core::time::{SECOND_MS, Timestamp};
use updraft_store::{Store, StoreError};

/// From one end of a round to the next round.
const ROUND: Duration = Duration::from_hours(24);
/// From one page of names to the next.
const PAGE: Duration = Duration::from_secs(2);
/// How often credentials of the machine are renewed.
const RENEW: Duration = Duration::from_mins(1);
/// What is younger may be an upload in progress: none takes a day.
const AGE_MS: i64 = 24 * 60 * 60 * SECOND_MS;

/// Opens what the configuration names, and puts aside what nobody names in a folder of the server's own.
///
/// # Errors
/// A folder cannot be read; a bucket cannot be used or belongs to another installation.
pub async fn open(config: &Config, store: &Store) -> anyhow::Result<Blobs> {
    let blobs = Blobs::configured(config)?;
    match &blobs {
        Blobs::Bucket(bucket) => {
            let installation =
                setup::folder_name(config)?.context("the data folder names no installation")?;
            bucket.claim(&installation).await?;
            metrics::gauge!("updraft_object_store_working").set(1.0);
        }
        Blobs::Folder(folder) if config.blobs_url.is_none() => {
            put_aside(folder, unnamed(store, folder.names()?).await?)?;
        }
        Blobs::Folder(_) => {}
    }
    Ok(blobs)
}

/// Sweeps until `stopped`, if the blobs are where other nodes may write; and keeps the credentials for
/// `downloads_direct` fresh.
pub async fn run(app: Arc<App>, mut stopped: watch::Receiver<bool>) {
    if app.config.blobs_url.is_none() {
        return;
    }
    let stop = async move { stopped.wait_for(|stop| *stop).await.map(|_| ()) };
    let mut stop = std::pin::pin!(stop);
    let mut renewals = tokio::time::interval(RENEW);
    let mut after = None;
    let mut pause = Box::pin(tokio::time::sleep(Duration::ZERO));
    loop {
        tokio::select! {
            _ = &mut stop => return,
            _ = renewals.tick() => {
                if let Blobs::Bucket(bucket) = &app.blobs && app.config.downloads_direct {
                    bucket.renew().await;
                }
                continue;
            }
            () = &mut pause => {}
        }
        after = turn(&app, after).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "files that nobody names could not be looked for; trying again tomorrow");
            None
        });
        let wait = if after.is_some() { PAGE } else { ROUND };
        pause.as_mut().reset(tokio::time::Instant::now() + wait);
    }
}

/// Looks at some blobs behind `after`, and takes away the old ones that nobody names; answers where to go on.
pub async fn turn(app: &App, after: Option<Path>) -> anyhow::Result<Option<Path>> {
    let before = app.now().plus_ms(-AGE_MS);
    match &app.blobs {
        Blobs::Folder(folder) => {
            let (folder, before) = (folder.clone(), moment(Timestamp(before.0.max(0))));
            let look = folder.clone();
            let old = tokio::task::spawn_blocking(move || {
                look.remove_unfinished(before)?;
                look.names_older(before)
            });
            put_aside(&folder, unnamed(&app.store, old.await??).await?)?;
            Ok(None)
        }
        Blobs::Bucket(bucket) => {
            let page = bucket.old(after.as_ref(), before).await?;
            for name in unnamed(&app.store, page.names).await? {
                bucket.remove(&name).await?;
                metrics::counter!("updraft_blobs_swept_total").increment(1);
                tracing::info!(blob = name, "removed an object that no upload or package names");
            }
            Ok(page.next)
        }
    }
}

/// Those of these blobs that no row names.
async fn unnamed(store: &Store, names: Vec<String>) -> Result<Vec<String>, StoreError> {
    if names.is_empty() {
        return Ok(names);
    }
    let look = move |tx: &mut updraft_store::Tx<'_>| {
        let mut unnamed = Vec::new();
        for name in &names {
            if !tx.file_blob_exists(name)? {
                unnamed.push(name.clone());
            }
        }
        Ok(unnamed)
    };
    store.read(look).await
}

fn put_aside(folder: &Folder, names: Vec<String>) -> io::Result<()> {
    for name in names {
        folder.put_aside(&name)?;
        metrics::counter!("updraft_blobs_swept_total").increment(1);
        tracing::info!(
            blob = name,
            "put an upload aside that was never acknowledged: see `lost` among the blobs"
        );
    }
    Ok(())
}
