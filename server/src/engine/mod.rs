//! The engine: carries batches out at its own pace.
//!
//! [`turn`] does one bounded round and says when the next is due; [`run`] is a few lines around it that
//! wait. Nothing sleeps inside the logic: deadlines are rows, so a restart forgets nothing, and the
//! simulation calls [`turn`] itself and moves the clock.

pub mod advance;
pub mod expand;
pub mod ingest;

use crate::app::App;
use crate::engine::advance::{Door, Effects};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use updraft_core::id::JobNo;
use updraft_core::task::{Event, TaskStatus};
use updraft_core::time::Timestamp;
use updraft_store::{Lane, StoreError, Tx};

/// Rows that one transaction of the engine touches at most, so that calls never wait long behind it.
pub const CHUNK_ROWS: i64 = 2_000;
/// The engine looks at the rows at least this often, in case a wake-up was lost.
const LOOK_MS: i64 = 30_000;
/// How long the engine waits after the database failed.
const FAILED_MS: i64 = 1_000;
/// Chunks of a cancellation that its caller waits for; the engine does the rest.
const CANCEL_CHUNKS: usize = 100;

/// What a round found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// Whether there is more to do at once.
    pub more: bool,
    /// When the next deadline is.
    pub next_due: Option<Timestamp>,
}

/// Runs the engine until `shutdown` says stop.
pub async fn run(app: Arc<App>, mut shutdown: watch::Receiver<bool>) {
    while !*shutdown.borrow() {
        let wait_ms = match turn(&app).await {
            Ok(Turn { more: true, .. }) => 0,
            Ok(Turn { next_due, .. }) => {
                next_due.map_or(LOOK_MS, |due| due.since_ms(app.now()).clamp(0, LOOK_MS))
            }
            Err(error) => {
                tracing::error!(%error, "the engine could not work; it tries again");
                FAILED_MS
            }
        };
        if wait_ms == 0 {
            tokio::task::yield_now().await;
            continue;
        }
        tokio::select! {
            () = app.wake.notified() => {}
            () = tokio::time::sleep(Duration::from_millis(wait_ms.unsigned_abs())) => {}
            _ = shutdown.changed() => {}
        }
    }
}

/// One bounded round: cancels, makes tasks, pushes and times out what is due.
pub async fn turn(app: &Arc<App>) -> Result<Turn, StoreError> {
    let mut more = cancel_chunk(app, None).await?;
    more |= expand_chunk(app).await?;
    more |= due_chunk(app).await?;
    let next_due = app.store.read(|tx| tx.task_next_due()).await?;
    Ok(Turn { more, next_due })
}

async fn expand_chunk(app: &Arc<App>) -> Result<bool, StoreError> {
    let now = app.now();
    if app.store.read(|tx| tx.jobs_unexpanded(1)).await?.is_empty() {
        return Ok(false);
    }
    app.store
        .write(Lane::Bulk, move |tx| {
            let Some(job) = tx.jobs_unexpanded(1)?.pop() else { return Ok(false) };
            expand::create_chunk(tx, job, CHUNK_ROWS, now)?;
            Ok(true)
        })
        .await
}

async fn due_chunk(app: &Arc<App>) -> Result<bool, StoreError> {
    let now = app.now();
    if app.store.read(move |tx| tx.tasks_due(now, 1)).await?.is_empty() {
        return Ok(false);
    }
    let shared = Arc::clone(app);
    let due = move |tx: &mut Tx<'_>| {
        let tasks = tx.tasks_due(now, CHUNK_ROWS)?;
        let mut door = Door::open(tx, &shared, now);
        door.load_tasks(&tasks)?;
        for task in &tasks {
            door.due(*task)?;
        }
        let effects = door.close()?;
        Ok::<_, StoreError>((tasks.len() as i64 == CHUNK_ROWS, effects))
    };
    let link = Arc::clone(&app.link);
    let (more, _) = app
        .store
        .write_then(Lane::Bulk, due, move |(_, effects): &(bool, Effects)| effects.perform(link.as_ref()))
        .await?;
    Ok(more)
}

/// Carries out one chunk of a cancellation that was stored with a batch: of `job`, or of any.
async fn cancel_chunk(app: &Arc<App>, job: Option<JobNo>) -> Result<bool, StoreError> {
    let now = app.now();
    let wanted = move |tx: &mut Tx<'_>| {
        let jobs = job.map_or_else(|| tx.jobs_canceling(1), |job| Ok(vec![job]))?;
        let jobs = tx.jobs_load(&jobs)?;
        // Tasks that do not exist yet cannot be cancelled; the expansion comes first.
        Ok(jobs.into_iter().find(|job| job.expanded && job.cancel != updraft_core::task::Cancel::default()))
    };
    if app.store.read(move |tx| wanted(tx)).await?.is_none() {
        return Ok(false);
    }
    let shared = Arc::clone(app);
    let chunk = move |tx: &mut Tx<'_>| {
        let Some(job) = wanted(tx)? else { return Ok((false, Effects::default())) };
        let mut tasks = Vec::new();
        for status in TaskStatus::ALL.into_iter().filter(|status| job.cancel.reaches(*status)) {
            tasks.extend(tx.tasks_by_status(job.no, status, CHUNK_ROWS - tasks.len() as i64)?);
        }
        let mut door = Door::open(tx, &shared, now);
        door.load_tasks(&tasks)?;
        for task in &tasks {
            door.apply(*task, &Event::Cancel(job.cancel))?;
        }
        let effects = door.close()?;
        let more = tasks.len() as i64 == CHUNK_ROWS;
        if !more {
            tx.job_cancel_set(job.no, updraft_core::task::Cancel::default(), now)?;
        }
        Ok::<_, StoreError>((more, effects))
    };
    let link = Arc::clone(&app.link);
    let (more, _) = app
        .store
        .write_then(Lane::Bulk, chunk, move |(_, effects): &(bool, Effects)| effects.perform(link.as_ref()))
        .await?;
    Ok(more)
}

/// Carries a stored cancellation out for its caller; a very large one is left to the engine in the end.
pub async fn finish_cancel(app: &Arc<App>, job: JobNo) -> Result<(), StoreError> {
    for _ in 0..CANCEL_CHUNKS {
        if !cancel_chunk(app, Some(job)).await? {
            break;
        }
    }
    app.wake.notify_one();
    Ok(())
}
