//! Gives the waiting tasks of a batch other push slots after its rate was changed (UpdateOTAJob), or the clock was
//! set back.
//!
//! Slots are handed out far ahead, at the rate and by the clock of their time. From the change on the old ones are
//! void (`Job::slot_is_void`), and this walk gives their tasks others, in order.

use crate::app::App;
use crate::engine::advance::{Door, Effects};
use crate::engine::{chunk_rows, write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use updraft_core::task::Event;
use updraft_store::{Lane, StoreError};

/// A clock that goes back further than this was set; less is read in another order than it is used.
const SET_BACK_MS: i64 = 1_000;

/// Looks whether the clock was set back. Then slots lie as much too far ahead, and running batches would stand still
/// for that long.
pub async fn notice_set_back(app: &Arc<App>) -> Result<bool, StoreError> {
    let now = app.now();
    let back_ms = app.latest_ms.fetch_max(now.0, Ordering::Relaxed).saturating_sub(now.0);
    if back_ms <= SET_BACK_MS {
        return Ok(false);
    }
    let voided = app.store.write(Lane::Bulk, move |tx| {
        let jobs = tx.jobs_paced_beyond(now)?;
        for job in tx.jobs_load(&jobs)? {
            let Some(per_minute) = job.per_minute else { continue };
            let mut pace = job.pace;
            pace.give_back(per_minute, now);
            tx.job_pace_set(job.no, pace)?;
            tx.job_repace_set(job.no, Some(0))?;
        }
        Ok::<_, StoreError>(jobs.len())
    });
    let batches = voided.await?;
    tracing::warn!(back_ms, batches, "the clock was set back: running batches get other push slots");
    app.latest_ms.store(now.0, Ordering::Relaxed);
    Ok(batches > 0)
}

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
            if door.is_reached(*task)? {
                door.offer(*task)?;
            }
        }
        Ok((true, door.close()?))
    })
    .await
}
