//! What an open task waits for.

use super::{
    Check, Explanation, Foreseen, Holds, Next, Said, Seen, Verdict, Wait, Waiting, package_check, since,
    version_check,
};
use crate::history::Line;
use crate::id::TaskNo;
use crate::pace;
use crate::task::{Condition, Event, Hindrance, Obstacle, Task, TaskStatus, Terms, Way, obstacle, step};
use crate::time::Timestamp;
use crate::turn::{self, Holder};

/// What is known of a task that may still change.
#[derive(Debug, Clone, Copy)]
pub struct OpenTask<'a> {
    /// The task.
    pub task: &'a Task,
    /// What its batch demands.
    pub terms: &'a Terms<'a>,
    /// What its batch is going through.
    pub condition: Condition,
    /// When its batch starts, if it has a time.
    pub start: Option<Timestamp>,
    /// All unfinished tasks of its device.
    pub all: &'a [Task],
    /// How long a device that was told, and says nothing, keeps its other tasks waiting, in milliseconds.
    pub turn_ms: i64,
    /// Whether its push slot is of a rate that holds no more.
    pub slot_is_void: bool,
    /// The last line of its history.
    pub last: Option<&'a Line>,
    /// Its device.
    pub device: &'a Seen<'a>,
}

/// Explains a task that may still change; `named` tells the id of another task of the device.
pub fn open(of: &OpenTask<'_>, named: impl Fn(TaskNo) -> String, now: Timestamp) -> Explanation {
    let OpenTask { task, terms, device, .. } = *of;
    let holder = turn::holder(task, of.all, now, of.turn_ms);
    let (wait, next) = wait(of, holder, now);
    let next = unless_over(task, terms, next);
    let entered = since(task, of.last);
    let since = match wait {
        // It waits for the device no longer than the device is away.
        Wait::Connection => entered.max(device.status_at),
        _ => entered,
    };
    let ends_by = if task.status == TaskStatus::InProgress { task.timeout_at } else { terms.finish_at };
    let told = matches!(task.status, TaskStatus::Notified | TaskStatus::InProgress);
    let verdict = if told { Verdict::UnderWay } else { Verdict::Waiting };
    let so_far = match task.status {
        TaskStatus::Confirm | TaskStatus::Queued => "the device has not been told of the package".to_owned(),
        TaskStatus::Notified => "the device was told of the package".to_owned(),
        _ => format!("the device reported {} %", task.progress),
    };
    let summary =
        Said::of(format!("{so_far}; the task waits since ")).at(since).and(format!(" for {}", wait.text()));
    let checks = checks(of, holder, &named, now);
    Explanation { verdict, summary, checks, waiting: Some(Waiting { since, wait }), next, ends_by }
}

/// What the task waits for, and what happens to it by itself.
fn wait(of: &OpenTask<'_>, holder: Option<Holder>, now: Timestamp) -> (Wait, Next) {
    let OpenTask { task, terms, condition, .. } = *of;
    let hindrance = condition.hindrance(task.status);
    if matches!(hindrance, Some(Hindrance::Canceling | Hindrance::PackageDeleted))
        || condition.cancel.reaches(task.status)
    {
        return (Wait::Cancellation, Next::soon(Foreseen::Cancel));
    }
    let first = match obstacle(task, terms, Way::Push, now) {
        Some(Obstacle::LeftToTheDevice) => {
            obstacle(task, terms, Way::Pull, now).or(Some(Obstacle::LeftToTheDevice))
        }
        first => first,
    };
    match first {
        Some(Obstacle::Unconfirmed) if step(task, terms, &Event::Confirm, now).is_ok() => {
            (Wait::Consent, at_finish(terms))
        }
        Some(Obstacle::LeftToTheDevice) => (Wait::Question, at_finish(terms)),
        Some(Obstacle::RetryNotDue) => (Wait::Retry, due(task, Foreseen::Retry)),
        Some(Obstacle::TimeOver) => (Wait::Cancellation, Next::soon(Foreseen::Cancel)),
        Some(Obstacle::Unconfirmed | Obstacle::NotNow) => match (hindrance, of.start) {
            (Some(Hindrance::Planned), Some(start)) => (Wait::Start, Next::at(Foreseen::Start, start)),
            (Some(Hindrance::OthersCanceling), _) => (Wait::OthersCancellation, Next::soon(Foreseen::Look)),
            // The batch's time is over: nobody can agree any more.
            (None, _) => (Wait::Cancellation, Next::soon(Foreseen::Cancel)),
            _ => (Wait::Round, Next::soon(Foreseen::Look)),
        },
        Some(Obstacle::Ended) | None => free(of, holder, now),
    }
}

/// The same of a task of which its device may be told.
fn free(of: &OpenTask<'_>, holder: Option<Holder>, now: Timestamp) -> (Wait, Next) {
    let OpenTask { task, terms, device, .. } = *of;
    if task.status != TaskStatus::Queued {
        let by_clock = task.timeout_at.map_or_else(|| at_finish(terms), |at| Next::at(Foreseen::TimeOut, at));
        return match task.hold_until {
            Some(until) if holder.is_some() && device.hears() => {
                (Wait::Turn, Next::at(Foreseen::Look, until))
            }
            _ if task.working => (Wait::Version, by_clock),
            _ => (Wait::Answer, by_clock),
        };
    }
    if !device.hears() {
        return (Wait::Connection, at_finish(terms));
    }
    match (holder, task.slot_at) {
        (Some(holder), _) => {
            let until = task.due_at().unwrap_or(holder.until);
            (Wait::Turn, Next::at(Foreseen::Look, until))
        }
        // An old one is given back, and another one taken.
        (None, Some(slot)) if of.slot_is_void || !pace::is_usable(slot, now.max(slot)) => {
            (Wait::Slot, Next::soon(Foreseen::Look))
        }
        (None, Some(slot)) => (Wait::Slot, Next::at(Foreseen::Push, slot)),
        // Who listens has a slot at once; who does not is known to the running server only.
        (None, None) if device.listening.is_none() && task.hold_until.is_none() => {
            (Wait::Connection, at_finish(terms))
        }
        (None, None) => (Wait::Round, Next { what: Foreseen::Look, at: task.hold_until }),
    }
}

/// What comes next, unless the batch's time is over before.
fn unless_over(task: &Task, terms: &Terms<'_>, next: Next) -> Next {
    let over = |finish: &Timestamp| next.at.is_some_and(|at| *finish <= at);
    match terms.finish_at.filter(over) {
        Some(finish) if task.status != TaskStatus::InProgress => Next::at(Foreseen::Cancel, finish),
        _ => next,
    }
}

/// Whoever has not begun when the batch's time is over is cancelled.
fn at_finish(terms: &Terms<'_>) -> Next {
    terms.finish_at.map_or(Next::NOTHING, |at| Next::at(Foreseen::Cancel, at))
}

/// What the task's own deadline brings: `then`, unless its time-out comes first.
fn due(task: &Task, then: Foreseen) -> Next {
    let first = task.timeout_at.is_some_and(|at| Some(at) == task.due_at());
    Next { what: if first { Foreseen::TimeOut } else { then }, at: task.due_at() }
}

fn checks(
    of: &OpenTask<'_>,
    holder: Option<Holder>,
    named: &impl Fn(TaskNo) -> String,
    now: Timestamp,
) -> Vec<Check> {
    let OpenTask { task, terms, device, .. } = *of;
    let unbegun = matches!(task.status, TaskStatus::Confirm | TaskStatus::Queued);
    let mut checks = vec![device.check(), package_check(of.condition.package_deleted), batch(of)];
    checks.push(schedule(of, now));
    if terms.need_confirm {
        let seen = if task.confirmed { "the end user agreed" } else { "the end user has not agreed" };
        let agreed = task.status != TaskStatus::Confirm;
        checks.push(Check::new("CONFIRMATION", agreed, Said::of(seen), "the end user's consent"));
    }
    if unbegun {
        checks.push(version_check(device, terms.accepts_source(device.version()), terms.src_versions));
    }
    let seen =
        if terms.need_push { "the batch pushes" } else { "the batch pushes nothing: the device has to ask" };
    checks.push(Check::new(
        "NEED_PUSH",
        terms.need_push,
        Said::of(seen),
        "a push, or else a question of the device",
    ));
    if task.retries > 0 {
        let tries = format!("{} of the attempts failed", task.retries);
        let seen = match task.retry_at {
            Some(at) => Said::of(format!("{tries} ({}); the next begins at ", task.desc)).at(at),
            None => Said::of(tries),
        };
        checks.push(Check::new("RETRY", task.retry_at.is_none(), seen, "the time of the next attempt"));
    }
    let seen = match holder {
        None => Said::of("no other task of the device has the turn"),
        Some(Holder { task, works: true, .. }) => {
            Said::of(format!("the device works on task {}", named(task)))
        }
        Some(Holder { task, until, .. }) => {
            Said::of(format!("the device was told of task {}, whose turn lasts until ", named(task)))
                .at(until)
        }
    };
    checks.push(Check::new("TURN", holder.is_none(), seen, "one module at a time"));
    if unbegun && terms.need_push {
        checks.push(slot(of, now));
    }
    checks.push(device.connection());
    if task.status == TaskStatus::InProgress {
        let seen = match task.timeout_at {
            Some(at) => Said::of("the task fails at ").at(at),
            None => Said::of("the batch has no time-out: the task may stay for ever"),
        };
        checks.push(Check::new(
            "TIMEOUT",
            task.timeout_at.is_none_or(|at| at > now),
            seen,
            "time that is left",
        ));
    }
    checks
}

/// The batch is within its time, and nothing holds it up.
fn batch(of: &OpenTask<'_>) -> Check {
    let hindrance = of.condition.hindrance(of.task.status);
    let seen = match (hindrance, of.start) {
        (None, _) => Said::of("the batch runs"),
        (Some(Hindrance::Planned), Some(start)) => Said::of("the batch starts at ").at(start),
        (Some(Hindrance::Planned), None) => Said::of("the batch waits for its time"),
        (Some(Hindrance::Ended), _) => Said::of("the batch has ended"),
        (Some(Hindrance::PackageDeleted), _) => Said::of("the package is deleted"),
        (Some(Hindrance::Canceling), _) => Said::of("the task is being cancelled"),
        (Some(Hindrance::OthersCanceling), _) => {
            Said::of("other tasks of the batch are being cancelled, and meanwhile no further device is told")
        }
    };
    Check::new("BATCH", hindrance.is_none(), seen, "a batch that tells its devices")
}

fn schedule(of: &OpenTask<'_>, now: Timestamp) -> Check {
    let begun = of.task.status == TaskStatus::InProgress;
    let over = of.terms.is_finished(now);
    let seen = match of.terms.finish_at {
        None => Said::of("the batch has no finish time"),
        Some(at) if begun => {
            Said::of("the batch's finish time, which ends nothing that has begun, is ").at(at)
        }
        Some(at) => Said::of("the batch tells devices until ").at(at),
    };
    Check::new("SCHEDULE", begun || !over, seen, "a time that is not over")
}

fn slot(of: &OpenTask<'_>, now: Timestamp) -> Check {
    let (holds, seen) = match of.task.slot_at {
        None => (Holds::NotAsked, Said::of("no push slot is reserved: a device that listens is given one")),
        Some(_) if of.slot_is_void => {
            (Holds::No, Said::of("the reserved slot is of a rate that was changed; another one is given"))
        }
        Some(at) => (Holds::from(pace::is_usable(at, now)), Said::of("a push slot is reserved for ").at(at)),
    };
    Check::new("SLOT", holds, seen, "its push slot (MaximumPerMinute)")
}
