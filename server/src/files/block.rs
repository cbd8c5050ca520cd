//! A block of a package's file, for devices that download by MQTT.

use crate::app::App;
use crate::device::file_download::crc16;
use crate::device::link::{Block, NoBlock, Wanted};
use crate::files::Blobs;
use crate::files::blobs::is_away;
use std::io;
use std::os::unix::fs::FileExt as _;
use updraft_core::id::{DeviceNo, JobNo};
use updraft_core::limits::MQTT_BLOCK_BYTES_MAX;

/// Reads a block, if an unfinished task that the device was told of is for its file. The stream is the batch, so
/// that no other file can be meant; and the task is looked up for each block, so that a cancellation ends the
/// download too.
pub async fn read(app: &App, device: DeviceNo, wanted: Wanted) -> Result<Block, NoBlock> {
    let Wanted { stream, file, offset, size } = wanted;
    let found = app.store.read(move |tx| tx.file_of_task(device, JobNo(stream), file)).await;
    let (blob, file_bytes) = found
        .map_err(|error| {
            tracing::error!(%error, "a block could not be looked up");
            NoBlock::Unavailable
        })?
        .ok_or(NoBlock::NotYours)?;
    if !(1..=MQTT_BLOCK_BYTES_MAX).contains(&size) || !(0..file_bytes).contains(&offset) {
        return Err(NoBlock::OutOfRange);
    }
    let length = size.min(file_bytes - offset);
    let block = bytes_of(app, &blob, file_bytes, offset, length).await.map_err(|error| {
        if !is_away(&error) {
            tracing::error!(%error, blob, "a block cannot be read");
        }
        NoBlock::Unavailable
    })?;
    metrics::counter!("updraft_mqtt_blocks_total").increment(1);
    Ok(block)
}

async fn bytes_of(app: &App, blob: &str, file_bytes: i64, offset: i64, length: i64) -> io::Result<Block> {
    let (at, length) = (offset.unsigned_abs(), usize::try_from(length).map_err(io::Error::other)?);
    let block = move |bytes: Vec<u8>| Block { crc: crc16(&bytes), bytes, file_bytes };
    match &app.blobs {
        Blobs::Folder(folder) => {
            let (folder, name) = (folder.clone(), blob.to_owned());
            let read = tokio::task::spawn_blocking(move || {
                let mut bytes = vec![0; length];
                folder.read(&name, file_bytes)?.read_exact_at(&mut bytes, at)?;
                io::Result::Ok(block(bytes))
            });
            read.await.map_err(io::Error::other).flatten()
        }
        Blobs::Bucket(bucket) => bucket.object(blob, file_bytes).read(at, length).await.map(block),
    }
}
