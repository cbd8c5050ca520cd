//! The part of the disk that uploads leave to the database.

use crate::app::App;

/// How many bytes of an upload are written before the disk is measured again: what many uploads at once may take of
/// the reserve is this much each.
pub const STEP_BYTES: i64 = 4 * 1024 * 1024;

/// An upload would take of the reserve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "The server's disk has {free} bytes free, and {wanted} more would leave less than its reserve of {reserve} \
     (disk_reserve_bytes): remove something, or give the server a larger disk."
)]
pub struct NoRoom {
    /// Bytes free.
    pub free: u64,
    /// Bytes that would be written.
    pub wanted: u64,
    /// Bytes that stay free.
    pub reserve: u64,
}

/// Whether `wanted` more bytes leave the reserve alone.
pub fn room_for(app: &App, wanted: u64) -> Result<(), NoRoom> {
    let reserve = app.config.disk_reserve_bytes.max(0).unsigned_abs();
    if reserve == 0 {
        return Ok(());
    }
    let free = match app.blobs.free_bytes() {
        Ok(Some(free)) => free,
        // The store of the files has no end that we could see.
        Ok(None) => return Ok(()),
        Err(error) => {
            // A disk that cannot be measured may be written to all the same; a full one refuses by itself.
            tracing::warn!(%error, "the free space of the data folder cannot be measured");
            return Ok(());
        }
    };
    if free.saturating_sub(wanted) >= reserve { Ok(()) } else { Err(NoRoom { free, wanted, reserve }) }
}
