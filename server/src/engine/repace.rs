//! Gives the waiting tasks of a batch other push slots after its rate was changed (UpdateOTAJob).
//!
//! Slots are handed out far ahead, at the rate of their time. From the change on the old ones are void
//! (`Job::slot_is_void`), and this walk gives their tasks others, in order.

use crate::app::App;
use crate::engine::advance::{Door, Effects};
use crate::engine::{chunk_rows, write};
use std::sync::Arc;
use updraft_core::task::Event;
use updraft_store::{Lane, StoreError};

/// Goes on with one batch; answers whether there was one.
pub async fn repace_chunk(app: &Arc<App>) -> Result<bool, StoreError> {
    if app.store.read(|tx| tx.jobs_repacing(1)).await?.is_empty() {
        return Ok(false);
    }
    let shared = Arc::clone(app);
    write(app, Lane::Bulk, move |tx| {
        let Some(no) = tx.jobs_repacing(1)?.pop() else { return Ok((false, Effects::default())) };
        let Some(job) = tx.jobs_load(&[no])?.pop() else { return Ok((false, Effects::default())) };
        let rows = chunk_rows(&shared);
        let tasks = tx.tasks_queued_after(no, job.repace_after.unwrap_or_default(), rows)?;
        let more = tasks.last().filter(|_| tasks.len() as i64 == rows).map(|task| task.ordinal);
        // First the cursor: it says which slots the door takes for good.
        tx.job_repace_set(no, more)?;
        let mut door = Door::open(tx, &shared, shared.now());
        door.load_tasks_and_beside(&tasks)?;
        for task in &tasks {
            door.apply(*task, &Event::SlotLost)?;
            if door.is_listening(*task) {
                door.offer(*task)?;
            }
        }
        Ok((true, door.close()?))
    })
    .await
}
