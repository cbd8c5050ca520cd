//! What the engine does for device groups: it forgets the members of deleted ones, in chunks.

use crate::app::App;
use crate::engine::chunk_rows;
use std::sync::Arc;
use updraft_store::{Lane, StoreError};

/// Forgets the next members of a deleted group; answers whether there may be more.
pub async fn clear_chunk(app: &Arc<App>) -> Result<bool, StoreError> {
    if app.store.read(|tx| tx.group_clearing()).await?.is_none() {
        return Ok(false);
    }
    let rows = chunk_rows(app);
    app.store
        .write(Lane::Bulk, move |tx| {
            let Some(group) = tx.group_clearing()? else { return Ok(false) };
            tx.group_clear(group, rows)?;
            Ok(true)
        })
        .await
}
