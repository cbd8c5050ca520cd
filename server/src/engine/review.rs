//! Devices to look at again: which dynamic groups they are in now, and which dynamic batch takes them in.
//!
//! Whatever may change the answer notes the device (`reviews_add`) in the transaction of the change. What is to be
//! done follows from what is stored when the note is taken, not from what wrote it: a note too many does no harm.

use crate::app::App;
use crate::engine::{chunk_rows, dynamic, groups, write};
use std::sync::Arc;
use updraft_core::id::DeviceNo;
use updraft_store::{Lane, StoreError};

/// Looks at the next devices; answers whether there may be more.
pub async fn review_chunk(app: &Arc<App>) -> Result<bool, StoreError> {
    if app.store.read(|tx| tx.reviews(1)).await?.is_empty() {
        return Ok(false);
    }
    let shared = Arc::clone(app);
    write(app, Lane::Bulk, move |tx| {
        let rows = chunk_rows(&shared);
        let devices: Vec<DeviceNo> = tx.reviews(rows)?;
        // First the groups, then the batches that ask for them. What these change is another note.
        groups::refresh(tx, &devices)?;
        tx.reviews_done(&devices)?;
        let effects = dynamic::take_in(tx, &shared, &devices, shared.now())?;
        Ok((devices.len() as i64 == rows, effects))
    })
    .await
}
