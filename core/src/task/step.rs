//! What each event does to a task: the one table, state by state.

use super::telling::{Way, obstacle};
use super::{
    DESC_OVERWRITTEN, DESC_SOURCE_CHANGED, DESC_TIMEOUT, DESC_WRONG_VERSION, Event, FailedStep, Refused,
    Step, Task, TaskStatus, Terms,
};
use crate::limits::PROGRESS_DESC_CHARS_MAX;
use crate::text::clip;
use crate::time::Timestamp;

/// The shortest wait before another attempt (RetryInterval 0): a device that tells its failure twice in one
/// breath must not use up two attempts.
const RETRY_PAUSE_MS: i64 = 3_000;

type Outcome = Result<Step, Refused>;

/// Applies one event to one task at `now`.
///
/// The rules are those of the platform's pages on update states; where they are silent the reading
/// is recorded in `docs/compatibility.md`.
#[expect(clippy::match_same_arms, reason = "the table reads state by state; each arm has its own reason")]
#[expect(clippy::too_many_lines, reason = "a table: each state with each event")]
pub fn step(task: &Task, terms: &Terms<'_>, event: &Event<'_>, now: Timestamp) -> Outcome {
    use TaskStatus::{Canceled, Confirm, Failed, InProgress, Notified, Queued, Succeeded};
    let refuse = |why| refuse(task, event, why);
    match (task.status, *event) {
        (Confirm, Event::Confirm) if !terms.started || terms.is_finished(now) => {
            refuse("the batch is not within its time")
        }
        (Confirm, Event::Confirm) => next(task, now, |t| {
            t.status = Queued;
            t.confirmed = true;
        }),
        (Queued | Notified | InProgress, Event::Confirm) => Ok(Step::Same),

        (Queued, Event::Slot(at)) => next(task, now, |t| {
            t.slot_at = Some(at);
            t.hold_until = None;
        }),
        (Confirm, Event::Slot(_)) => refuse("the task waits for confirmation"),
        // Slots are for the first push only; a repeated one changes nothing.
        (Notified | InProgress, Event::Slot(_)) => Ok(Step::Same),

        (Queued | Notified | InProgress, Event::SlotLost)
            if task.slot_at.is_some() || task.hold_until.is_some() =>
        {
            next(task, now, |t| {
                t.slot_at = None;
                t.hold_until = None;
            })
        }
        (Confirm | Queued | Notified | InProgress, Event::SlotLost) => Ok(Step::Same),

        (Confirm, Event::Hold(_)) => refuse("the task waits for confirmation"),
        (Notified | InProgress, Event::Hold(_)) if task.retry_at.is_some() => {
            refuse("the next attempt's time has not come")
        }
        // It is looked at soon enough, and need not be written again.
        (Queued | Notified | InProgress, Event::Hold(until))
            if task.slot_at.is_none() && task.hold_until.is_some_and(|at| now < at && at <= until) =>
        {
            Ok(Step::Same)
        }
        (Queued | Notified | InProgress, Event::Hold(until)) => next(task, now, |t| {
            t.slot_at = None;
            t.hold_until = Some(until);
        }),

        (Notified | InProgress, Event::Turn) if task.told_at == Some(now) && task.hold_until.is_none() => {
            Ok(Step::Same)
        }
        (Notified | InProgress, Event::Turn) => next(task, now, |t| {
            t.told_at = Some(now);
            t.hold_until = None;
        }),
        (Confirm | Queued, Event::Turn) => refuse("the device has not been given the package"),

        (Confirm | Queued | Notified | InProgress, Event::Push | Event::Pull) => {
            told(task, terms, event, now)
        }
        (Confirm | Queued | Notified | InProgress, Event::Progress { percent, desc }) => {
            progress(task, terms, event, percent, clip(desc, PROGRESS_DESC_CHARS_MAX), now)
        }
        // A task that was told is NOTIFIED in the same commit, before a byte goes out: a device that reports
        // about one that was not speaks of an earlier time. It will be told, or reports its version.
        (Confirm | Queued, Event::Failure { .. }) => refuse("the device has not been given the package"),
        (Notified | InProgress, Event::Failure { step, desc }) => {
            attempt_failed(task, terms, &failure(step, desc), None, now)
        }
        (Confirm | Queued | Notified | InProgress, Event::Version(version)) => {
            reported(task, terms, version, now)
        }

        (InProgress, Event::Timeout) if task.timeout_at.is_some_and(|due| due <= now) => {
            next(task, now, |t| end(t, Failed, DESC_TIMEOUT))
        }
        // The timer came too early or for a state without a time-out.
        (Confirm | Queued | Notified | InProgress, Event::Timeout) => Ok(Step::Same),

        (Notified | InProgress, Event::RetryDue) if task.retry_at.is_some_and(|due| due <= now) => {
            // What the device told meanwhile decides whether there is another attempt.
            if terms.accepts_source(task.src_version.as_deref()) {
                next(task, now, |t| t.retry_at = None)
            } else {
                next(task, now, |t| end(t, Failed, DESC_SOURCE_CHANGED))
            }
        }
        (Confirm | Queued | Notified | InProgress, Event::RetryDue) => Ok(Step::Same),

        (Confirm | Queued | Notified | InProgress, Event::Cancel(cancel)) if cancel.reaches(task.status) => {
            next(task, now, |t| {
                let said = std::mem::take(&mut t.desc);
                end(t, Canceled, &said);
            })
        }
        (Confirm | Queued | Notified | InProgress, Event::Cancel(_)) => Ok(Step::Same),

        (Confirm | Queued | Notified, Event::Overwritten) => {
            next(task, now, |t| end(t, Canceled, DESC_OVERWRITTEN))
        }
        (InProgress, Event::Overwritten) => refuse("the device is at work"),

        (Confirm | Queued | Notified | InProgress, Event::Reupgrade(_)) => refuse("the task has not ended"),
        (Succeeded, Event::Reupgrade(_)) => refuse("the task has succeeded"),
        (Failed | Canceled, Event::Reupgrade(version)) => reupgraded(task, terms, event, version, now),

        // Final states. What a device reports after the end is its own news, not the task's.
        (
            Succeeded | Failed | Canceled,
            Event::Version(_)
            | Event::Timeout
            | Event::RetryDue
            | Event::SlotLost
            | Event::Cancel(_)
            | Event::Overwritten,
        ) => Ok(Step::Same),
        (
            Succeeded | Failed | Canceled,
            Event::Confirm
            | Event::Slot(_)
            | Event::Hold(_)
            | Event::Turn
            | Event::Push
            | Event::Pull
            | Event::Progress { .. }
            | Event::Failure { .. },
        ) => refuse("the task has ended"),
    }
}

/// The package information goes out to a device with an open task, pushed or asked for.
fn told(task: &Task, terms: &Terms<'_>, event: &Event<'_>, now: Timestamp) -> Outcome {
    let way = if matches!(event, Event::Push) { Way::Push } else { Way::Pull };
    if let Some(obstacle) = obstacle(task, terms, way, now) {
        return refuse(task, event, obstacle.why());
    }
    match task.status {
        TaskStatus::Queued => next(task, now, |t| {
            t.status = TaskStatus::Notified;
            t.slot_at = None;
            t.hold_until = None;
            t.told_at = Some(now);
        }),
        // It asked for it before its turn came.
        _ if way == Way::Pull && task.hold_until.is_some() => next(task, now, |t| {
            t.hold_until = None;
            t.told_at = Some(now);
        }),
        // A repeat after a reconnect: the same information goes out, the time-out goes on.
        _ => Ok(Step::Same),
    }
}

/// The device reported progress on an open task.
fn progress(
    task: &Task,
    terms: &Terms<'_>,
    event: &Event<'_>,
    percent: i64,
    desc: &str,
    now: Timestamp,
) -> Outcome {
    // Between two attempts a device may go on by itself; the next attempt comes all the same.
    let working = task.retry_at.is_none();
    match task.status {
        TaskStatus::Notified => next(task, now, |t| {
            t.status = TaskStatus::InProgress;
            t.progress = percent;
            desc.clone_into(&mut t.desc);
            t.working = working;
            t.hold_until = None;
            t.timeout_at = deadline(terms, now);
        }),
        TaskStatus::InProgress => {
            let before = (task.progress, task.desc.as_str(), task.working);
            if before == (percent, desc, task.working || working) && task.hold_until.is_none() {
                return Ok(Step::Same);
            }
            next(task, now, |t| {
                t.progress = percent;
                desc.clone_into(&mut t.desc);
                t.working |= working;
                // Who is at work need not be told again.
                t.hold_until = None;
            })
        }
        _ => refuse(task, event, "the device has not been given the package"),
    }
}

/// When a task that begins now must have ended: by the batch's time-out, and by its finish time and the grace
/// after it.
fn deadline(terms: &Terms<'_>, now: Timestamp) -> Option<Timestamp> {
    let timeout = terms.timeout_ms.map(|ms| now.plus_ms(ms));
    let finish = terms.finish_at.map(|at| at.max(now).plus_ms(terms.finish_grace_ms));
    [timeout, finish].into_iter().flatten().min()
}

/// The device with an open task reported the version that it runs. Only this decides about success.
fn reported(task: &Task, terms: &Terms<'_>, version: &str, now: Timestamp) -> Outcome {
    if version == terms.dest_version {
        return next(task, now, |t| {
            t.progress = 100;
            end(t, TaskStatus::Succeeded, "");
        });
    }
    match task.src_version.as_deref() {
        // An attempt that was repeated, and carried out to its end, has left the device where it was.
        Some(source) if source == version && task.retries > 0 && task.working && task.progress == 100 => {
            attempt_failed(task, terms, DESC_WRONG_VERSION, Some(version), now)
        }
        // As before; and a reboot into the old image is no failure.
        Some(source) if source == version => Ok(Step::Same),
        // The batch names its source versions, so that no other one is ever given the package; a difference
        // not even again, after the device was told or between two attempts.
        _ if !terms.accepts_source(Some(version))
            && (matches!(task.status, TaskStatus::Confirm | TaskStatus::Queued)
                || terms.differential && !task.working) =>
        {
            next(task, now, |t| {
                t.src_version = Some(version.to_owned());
                end(t, TaskStatus::Failed, DESC_SOURCE_CHANGED);
            })
        }
        Some(_) if task.status == TaskStatus::InProgress && task.working => {
            attempt_failed(task, terms, DESC_WRONG_VERSION, Some(version), now)
        }
        // Before the device begins, whatever it runs is the version that it starts from, also before it begins
        // another attempt; and a device that never told what it ran is telling now.
        _ => next(task, now, |t| t.src_version = Some(version.to_owned())),
    }
}

/// An attempt failed: there is another one if the batch asks for it, there is time for it, and the device does
/// not run a version (`left`, if it told one) that the batch does not come from. Until then the task looks as it
/// did.
fn attempt_failed(task: &Task, terms: &Terms<'_>, why: &str, left: Option<&str>, now: Timestamp) -> Outcome {
    // The present attempt has failed already; its device says so again.
    if task.retry_at.is_some() {
        return Ok(Step::Same);
    }
    let again = terms
        .retry
        .filter(|retry| task.retries < retry.count)
        .filter(|_| left.is_none() || terms.accepts_source(left))
        .map(|retry| now.plus_ms(retry.interval_ms.max(RETRY_PAUSE_MS)));
    let in_time = |at: &Timestamp| {
        [task.timeout_at, terms.finish_at].into_iter().flatten().all(|deadline| *at < deadline)
    };
    match again.filter(in_time) {
        Some(at) => next(task, now, |t| {
            why.clone_into(&mut t.desc);
            t.retry_at = Some(at);
            t.retries += 1;
            t.working = false;
            t.hold_until = None;
            if let Some(version) = left {
                t.src_version = Some(version.to_owned());
            }
        }),
        None => next(task, now, |t| end(t, TaskStatus::Failed, why)),
    }
}

fn reupgraded(
    task: &Task,
    terms: &Terms<'_>,
    event: &Event<'_>,
    version: Option<&str>,
    now: Timestamp,
) -> Outcome {
    if terms.is_finished(now) {
        return refuse(task, event, "the batch's time is over");
    }
    if terms.need_confirm && !task.confirmed {
        return refuse(task, event, "the task was never confirmed");
    }
    if version == Some(terms.dest_version) {
        return refuse(task, event, "the device runs the batch's version already");
    }
    if !terms.accepts_source(version) {
        return refuse(task, event, "the device runs none of the batch's source versions");
    }
    next(task, now, |t| {
        end(t, TaskStatus::Queued, "");
        t.progress = 0;
        t.retries = 0;
        if let Some(version) = version {
            t.src_version = Some(version.to_owned());
        }
    })
}

/// What a failed task says: the kind of failure, and the device's own words.
fn failure(step: FailedStep, desc: &str) -> String {
    let said = clip(desc, PROGRESS_DESC_CHARS_MAX);
    if said.is_empty() { step.text().to_owned() } else { format!("{}: {said}", step.text()) }
}

/// Takes a task out of its run: no deadline is left.
fn end(task: &mut Task, status: TaskStatus, desc: &str) {
    task.status = status;
    desc.clone_into(&mut task.desc);
    task.slot_at = None;
    task.retry_at = None;
    task.timeout_at = None;
    task.hold_until = None;
    task.told_at = None;
    task.working = false;
}

fn refuse(task: &Task, event: &Event<'_>, why: &'static str) -> Outcome {
    Err(Refused { status: task.status, event: event.name(), why })
}

#[expect(clippy::unnecessary_wraps, reason = "it is an outcome of `step`, like the refusals beside it")]
fn next(task: &Task, now: Timestamp, change: impl FnOnce(&mut Task)) -> Outcome {
    let mut after = task.clone();
    change(&mut after);
    after.revision += 1;
    after.modified_at = now;
    Ok(Step::Next(after))
}

/// What a listening device should be sent for a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushNeed {
    /// Nothing: the task has ended, waits for something else, or is for the device to ask.
    Nothing,
    /// The first push, once a slot is reserved, from this moment on.
    Slot(Timestamp),
    /// The first push, at the reserved slot.
    WaitForSlot,
    /// The same push again, at once: the device may have missed it or lost its session.
    Repeat,
}

/// Whether a listening device should be pushed a task at `now`, and how.
pub fn push_need(task: &Task, terms: &Terms<'_>, now: Timestamp) -> PushNeed {
    if !terms.need_push || terms.is_finished(now) && task.status == TaskStatus::Queued {
        return PushNeed::Nothing;
    }
    match task.status {
        TaskStatus::Queued if task.slot_at.is_some() => PushNeed::WaitForSlot,
        // A batch that waits for its time hands out its slots beforehand: nothing has to be done to all its
        // devices at the moment when it starts.
        TaskStatus::Queued => match terms.planned_at {
            Some(start) => PushNeed::Slot(start.max(now)),
            None if terms.started => PushNeed::Slot(now),
            None => PushNeed::Nothing,
        },
        TaskStatus::Notified | TaskStatus::InProgress if terms.started && task.retry_at.is_none() => {
            PushNeed::Repeat
        }
        _ => PushNeed::Nothing,
    }
}
