//! The engine: carries batches out at its own pace.
//!
//! [`turn`] does one bounded round and says when the next is due; [`run`] is a few lines around it that
//! wait. Nothing sleeps inside the logic: deadlines are rows, so a restart forgets nothing, and the
//! simulation calls [`turn`] itself and moves the clock.

pub mod advance;
mod applies;
pub mod dynamic;
pub mod expand;
pub mod explain;
pub mod gateway;
pub mod groups;
pub mod ingest;
mod package;
mod repace;
pub mod review;
pub mod select;
pub mod survey;
pub mod terms;

use crate::app::App;
use crate::engine::advance::{Door, Effects, Reach};
use crate::nodes::mail;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use updraft_core::id::{DeviceNo, JobNo, TaskNo};
use updraft_core::job::JobStatus;
use updraft_core::pace::SLOT_GRACE_MS;
use updraft_core::task::{Cancel, Event, TaskStatus};
use updraft_core::time::Timestamp;
use updraft_store::{DueAt, Job, Lane, StoreError, Tx};

/// Cancellations that one round carries on.
const CANCELING_MAX: i64 = 16;
/// The engine looks at the rows at least this often: a wake-up may be lost, and a command beside the server
/// (`updraft job stop`) gives none.
const LOOK_MS: i64 = 1_000;
/// Starts and finish times that are read at once.
const JOBS_DUE_MAX: i64 = 100;
/// A deadline so long past was not seen to by the node that its device is connected to. Longer than a push slot may be
/// used, so that no slot of a living node is taken away.
const NEGLECTED_MS: i64 = 2 * SLOT_GRACE_MS;
/// Devices that are told again at once.
const UNTOLD_MAX: usize = 500;
/// How long the engine waits after the database failed.
pub const FAILED_MS: i64 = 1_000;
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

/// One bounded round: starts and finishes batches, cancels, makes tasks and devices, tends groups, pushes and times out what is due.
/// Of several nodes one does it all; the others see to what is due of devices that are connected to them.
///
/// Each kind of work is done whatever became of the others, so that a row that one of them cannot stomach does
/// not stop all batches; the first error is answered.
pub async fn turn(app: &Arc<App>) -> Result<Turn, StoreError> {
    if !app.nodes.leads() {
        let more = tell_again(app).await? | due_chunk(app).await?;
        return Ok(Turn { more, next_due: next_due(app).await? });
    }
    let done = [
        repace::notice_set_back(app).await,
        tell_again(app).await,
        cancel_chunk(app).await,
        select::select_one(app).await,
        expand_chunk(app).await,
        applies::work_chunk(app).await,
        groups::clear_chunk(app).await,
        groups::walk_chunk(app).await,
        review::review_chunk(app).await,
        repace::repace_chunk(app).await,
        due_chunk(app).await,
    ];
    let mut more = false;
    for outcome in done {
        more |= outcome?;
    }
    Ok(Turn { more, next_due: next_due(app).await? })
}

/// Tells devices again what they may not have been told: a database that went away in the middle of a commit may have
/// it all the same, and then nobody would tell a device that stays connected.
async fn tell_again(app: &Arc<App>) -> Result<bool, StoreError> {
    let devices: Vec<DeviceNo> = app.untold.lock().iter().copied().take(UNTOLD_MAX).collect();
    if devices.is_empty() {
        return Ok(false);
    }
    let (shared, telling) = (Arc::clone(app), devices.clone());
    let more = write(app, Lane::Bulk, move |tx| {
        let mut door = Door::open(tx, &shared, shared.now());
        door.load_devices(&telling)?;
        for device in &telling {
            if door.reach(*device)? == Reach::Here {
                door.offer_all(*device)?;
            }
        }
        Ok::<_, StoreError>((telling.len() == UNTOLD_MAX, door.close()?))
    });
    let more = more.await?;
    let mut untold = app.untold.lock();
    for device in &devices {
        untold.remove(device);
    }
    Ok(more)
}

/// When the next deadline comes that this node looks after.
async fn next_due(app: &Arc<App>) -> Result<Option<Timestamp>, StoreError> {
    let shared = Arc::clone(app);
    app.store
        .read(move |tx| {
            let task = if shared.nodes.is_shared() {
                tx.task_next_due_of(&mine(&shared, shared.now()), shared.now().plus_ms(LOOK_MS))?
            } else {
                tx.task_next_due()?
            };
            Ok::<_, StoreError>([task, tx.job_next_due()?].into_iter().flatten().min())
        })
        .await
}

/// The tasks that this node looks after, if there may be others: those of devices that are connected here, and, if it
/// leads, of those that are connected nowhere or where nobody sees to them.
fn mine(app: &App, now: Timestamp) -> DueAt {
    DueAt { node: app.nodes.me(), neglected: app.nodes.leads().then(|| now.plus_ms(-NEGLECTED_MS)) }
}

/// The tasks whose deadline has come and that this node looks after, earliest first.
fn tasks_due(tx: &mut Tx<'_>, app: &App, now: Timestamp, limit: i64) -> Result<Vec<TaskNo>, StoreError> {
    if app.nodes.is_shared() {
        tx.tasks_due_of(&mine(app, now), now, limit)
    } else {
        tx.tasks_due(now, limit)
    }
}

fn job_due(tx: &mut Tx<'_>, job: &Job, now: Timestamp) -> Result<(), StoreError> {
    match job.status {
        JobStatus::Planned => {
            tracing::info!(job.id = job.job_id, tasks = job.task_count, "a planned batch starts");
            tx.job_open(job.no, JobStatus::InProgress, job.schedule.due_at(JobStatus::InProgress), now)
        }
        JobStatus::InProgress => {
            tracing::info!(job.id = job.job_id, "a batch's time is over: who has not begun is cancelled");
            tx.job_cancel_add(job.no, Cancel::UNBEGUN, now)?;
            tx.job_due_clear(job.no)
        }
        JobStatus::Completed | JobStatus::Canceled => tx.job_due_clear(job.no),
    }
}

/// Stops a batch at once: from this commit on no further device is told, and the engine cancels every task that
/// no device has begun, with `all` also those in progress. A dynamic one takes nobody in any more.
pub fn stop(tx: &mut Tx<'_>, job: &Job, all: bool, now: Timestamp) -> Result<(), StoreError> {
    let cancel = if all { Cancel::ALL } else { Cancel::UNBEGUN };
    if job.policy {
        tx.policy_end(job, now)?;
    }
    tx.job_cancel_add(job.no, cancel, now)
}

async fn expand_chunk(app: &Arc<App>) -> Result<bool, StoreError> {
    if app.store.read(|tx| tx.jobs_unexpanded(1)).await?.is_empty() {
        return Ok(false);
    }
    let shared = Arc::clone(app);
    write(app, Lane::Bulk, move |tx| {
        let Some(job) = tx.jobs_unexpanded(1)?.pop() else { return Ok((false, Effects::default())) };
        // The time is taken here: the batch may be younger than the wait for this transaction.
        let effects = expand::create_chunk(tx, &shared, job, chunk_rows(&shared), shared.now())?;
        Ok((true, effects))
    })
    .await
}

/// Does what is due: starts and finish times of batches, then slots, attempts and time-outs of tasks. A batch
/// starts in the transaction that uses its first slots, never after it.
async fn due_chunk(app: &Arc<App>) -> Result<bool, StoreError> {
    let (now, looking) = (app.now(), Arc::clone(app));
    let nothing = app
        .store
        .read(move |tx| {
            Ok::<_, StoreError>(
                tx.jobs_due(now, 1)?.is_empty() && tasks_due(tx, &looking, now, 1)?.is_empty(),
            )
        })
        .await?;
    if nothing {
        return Ok(false);
    }
    let shared = Arc::clone(app);
    write(app, Lane::Bulk, move |tx| {
        let (now, rows) = (shared.now(), chunk_rows(&shared));
        let finished = jobs_due(tx, now)?;
        let tasks = tasks_due(tx, &shared, now, rows)?;
        let mut door = Door::open(tx, &shared, now);
        door.load_tasks_and_beside(&tasks)?;
        for task in &tasks {
            door.due(*task)?;
        }
        let effects = door.close()?;
        Ok((finished || tasks.len() as i64 == rows, effects))
    })
    .await
}

/// Deals with every batch whose start or finish time has come; answers whether there was one.
fn jobs_due(tx: &mut Tx<'_>, now: Timestamp) -> Result<bool, StoreError> {
    let mut any = false;
    loop {
        let due = tx.jobs_due(now, JOBS_DUE_MAX)?;
        if due.is_empty() {
            return Ok(any);
        }
        any = true;
        for job in tx.jobs_load(&due)? {
            job_due(tx, &job, now)?;
        }
    }
}

/// Carries out one chunk of each cancellation that was stored with a batch.
async fn cancel_chunk(app: &Arc<App>) -> Result<bool, StoreError> {
    let mut more = false;
    for job in app.store.read(|tx| tx.jobs_canceling(CANCELING_MAX)).await? {
        let shared = Arc::clone(app);
        more |= write(app, Lane::Bulk, move |tx| cancel_step(tx, &shared, job)).await?;
    }
    Ok(more)
}

/// Cancels the next chunk of tasks that a batch's stored cancellation reaches; answers whether there are more
/// of them now.
///
/// Tasks that do not exist yet cannot be cancelled: while a batch's tasks are still being made, its wish for
/// `QUEUED` and `CONFIRM` ones stays, and the rest is carried out at once.
pub fn cancel_step(tx: &mut Tx<'_>, app: &App, job: JobNo) -> Result<(bool, Effects), StoreError> {
    let Some(job) = tx.jobs_load(&[job])?.pop() else { return Ok((false, Effects::default())) };
    let now = Cancel {
        confirm: job.cancel.confirm && job.expanded,
        queued: job.cancel.queued && job.expanded,
        ..job.cancel
    };
    let rows = chunk_rows(app);
    let mut tasks = Vec::new();
    for status in TaskStatus::ALL.into_iter().filter(|status| now.reaches(*status)) {
        tasks.extend(tx.tasks_by_status(job.no, status, rows - tasks.len() as i64)?);
    }
    let at = app.now();
    let mut door = Door::open(tx, app, at);
    door.load_tasks(&tasks)?;
    for task in &tasks {
        door.apply(*task, &Event::Cancel(now))?;
    }
    let effects = door.close()?;
    let more = tasks.len() as i64 == rows;
    if !more && now != Cancel::default() {
        tx.job_cancel_done(job.no, now, at)?;
        if now.queued {
            give_slots_back(tx, &job, at)?;
        }
    }
    Ok((more, effects))
}

/// Nobody of a batch waits for a slot any more: who is put back in line later need not wait behind those that were
/// cancelled.
fn give_slots_back(tx: &mut Tx<'_>, job: &Job, now: Timestamp) -> Result<(), StoreError> {
    let waiting = tx.counts_load(&[job.no])?.get(&job.no).map_or(0, |counts| counts.of(TaskStatus::Queued));
    let (Some(per_minute), 0) = (job.per_minute, waiting) else { return Ok(()) };
    let mut pace = job.pace;
    pace.give_back(per_minute, now);
    tx.job_pace_set(job.no, pace)
}

/// Carries a stored cancellation on for its caller; the rest of a very large one is left to the engine.
pub async fn finish_cancel(app: &Arc<App>, job: JobNo) -> Result<(), StoreError> {
    for _ in 0..CANCEL_CHUNKS {
        let shared = Arc::clone(app);
        if !write(app, Lane::Bulk, move |tx| cancel_step(tx, &shared, job)).await? {
            break;
        }
    }
    app.awaken();
    Ok(())
}

/// Runs `run` in a transaction and performs its effects right after the commit; those on devices of other nodes are left
/// for them in the transaction.
pub async fn write<T, E, F>(app: &Arc<App>, lane: Lane, run: F) -> Result<T, E>
where
    T: Send + 'static,
    E: From<StoreError> + Send + 'static,
    F: Fn(&mut Tx<'_>) -> Result<(T, Effects), E> + Send + 'static,
{
    let (shared, posting) = (Arc::clone(app), Arc::clone(app));
    let told: Arc<Mutex<Vec<DeviceNo>>> = Arc::default();
    let telling = Arc::clone(&told);
    let perform = move |(_, effects): &(T, Effects)| {
        effects.perform(shared.link.as_ref());
        let mut untold = shared.untold.lock();
        if !untold.is_empty() {
            untold.retain(|device| !effects.told().any(|told| told == *device));
        }
        drop(untold);
        if effects.wake {
            shared.awaken();
        } else if effects.mailed {
            shared.nodes.call_others();
        }
    };
    let post = move |tx: &mut Tx<'_>| {
        telling.lock().clear();
        posting.nodes.fence(tx)?;
        let (answer, mut effects) = run(tx)?;
        mail::post(tx, &posting, &mut effects)?;
        telling.lock().extend(effects.told());
        Ok::<_, E>((answer, effects))
    };
    match app.store.write_then(lane, post, perform).await {
        Ok((answer, effects)) => {
            effects.report(app);
            Ok(answer)
        }
        Err(error) => {
            // It went through to the commit, and the answer to that may be what was lost.
            app.untold.lock().extend(told.lock().drain(..));
            Err(error)
        }
    }
}

fn chunk_rows(app: &App) -> i64 {
    i64::from(app.config.engine_chunk_rows)
}
