//! Whose turn it is: a device is told of one module at a time.
//!
//! A device may have an unfinished task for each of its modules (MultiModuleMode). One of them has the turn, and the
//! others wait until it ends, waits for its next attempt, or has said nothing for too long.

use crate::id::TaskNo;
use crate::task::{Task, TaskStatus};
use crate::time::Timestamp;

/// Until when a task must wait with being told; `None`: it may be told at `now`.
///
/// `all` are the unfinished tasks of the device, the task itself among them or not. A device that was told and never
/// answers gives the turn away after `turn_ms` milliseconds. Whoever waits for one that is being worked on looks
/// again after as long: the end of that one is what it really waits for.
pub fn wait<'t>(
    task: &Task,
    all: impl IntoIterator<Item = &'t Task>,
    now: Timestamp,
    turn_ms: i64,
) -> Option<Timestamp> {
    holder(task, all, now, turn_ms).map(|holder| holder.until)
}

/// The task that another one waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// Which.
    pub task: TaskNo,
    /// Whether its device reports progress on it: then its end is what is really waited for.
    pub works: bool,
    /// When the one that waits is looked at again.
    pub until: Timestamp,
}

/// Which of the device's tasks has the turn, if it is another one than `task`; see [`wait`].
pub fn holder<'t>(
    task: &Task,
    all: impl IntoIterator<Item = &'t Task>,
    now: Timestamp,
    turn_ms: i64,
) -> Option<Holder> {
    let holder = all
        .into_iter()
        .filter_map(|of| claim(of, now, turn_ms).map(|claim| (claim, of)))
        .max_by(|(a, first), (b, second)| a.strength().cmp(&b.strength()).then(second.no.cmp(&first.no)));
    let (claim, holder) = holder.filter(|(_, holder)| holder.no != task.no)?;
    Some(match claim {
        Claim::Works => Holder { task: holder.no, works: true, until: now.plus_ms(turn_ms) },
        Claim::Told(_) => {
            Holder { task: holder.no, works: false, until: turn_end(holder, turn_ms).unwrap_or(now) }
        }
    })
}

/// Why a task has the turn, or would have it if no other had.
#[derive(Debug, Clone, Copy)]
enum Claim {
    /// The device reports progress on it.
    Works,
    /// The device was told at this moment, and may be at work without saying so.
    Told(Timestamp),
}

impl Claim {
    /// Who works comes before who was told, and of those who were told the last one: the device may have asked for
    /// it itself.
    fn strength(self) -> (bool, Timestamp) {
        match self {
            Self::Works => (true, Timestamp(0)),
            Self::Told(at) => (false, at),
        }
    }
}

/// What a task's state says, without a look at others.
fn claim(task: &Task, now: Timestamp, turn_ms: i64) -> Option<Claim> {
    match task.status {
        // Nobody works on what waits for its next attempt.
        _ if task.retry_at.is_some() => None,
        TaskStatus::InProgress if task.working => Some(Claim::Works),
        TaskStatus::Notified | TaskStatus::InProgress => {
            turn_end(task, turn_ms).filter(|end| *end > now).and(task.told_at).map(Claim::Told)
        }
        _ => None,
    }
}

fn turn_end(task: &Task, turn_ms: i64) -> Option<Timestamp> {
    task.told_at.map(|at| at.plus_ms(turn_ms))
}

/// Whether the task is one that others wait for at `now`, unless another one has the turn.
pub fn claims(task: &Task, now: Timestamp, turn_ms: i64) -> bool {
    claim(task, now, turn_ms).is_some()
}

/// In which order the tasks of a device are told when nobody has the turn: first who never was, oldest batch first;
/// then whoever was told longest ago, so that a device that comes for moments only hears of all of them in the end.
pub fn order(task: &Task) -> impl Ord + use<> {
    (task.told_at, task.no)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{DeviceNo, JobNo};

    const NOW: Timestamp = Timestamp(1_000_000);
    const TURN_MS: i64 = 60_000;

    fn task(job: i64, status: TaskStatus, told_at: Option<i64>) -> Task {
        let no = TaskNo { job: JobNo(job), ordinal: 1 };
        Task { told_at: told_at.map(Timestamp), ..Task::new(no, DeviceNo(1), status, None, Timestamp(0)) }
    }

    fn working(job: i64) -> Task {
        Task { working: true, ..task(job, TaskStatus::InProgress, Some(1)) }
    }

    fn waits(task: &Task, others: &[Task]) -> Option<i64> {
        let all = others.iter().chain(std::iter::once(task));
        wait(task, all, NOW, TURN_MS).map(|until| until.since_ms(NOW))
    }

    #[test]
    fn alone_it_is_always_its_turn() {
        for task in
            [task(1, TaskStatus::Queued, None), task(1, TaskStatus::Notified, Some(999_999)), working(1)]
        {
            assert_eq!(waits(&task, &[]), None);
        }
    }

    #[test]
    fn who_was_told_keeps_the_others_waiting_for_a_turn() {
        let queued = task(2, TaskStatus::Queued, None);
        let told = |ago: i64| task(1, TaskStatus::Notified, Some(NOW.0 - ago));
        assert_eq!(waits(&queued, &[told(0)]), Some(TURN_MS));
        assert_eq!(waits(&queued, &[told(59_999)]), Some(1));
        assert_eq!(waits(&queued, &[told(60_000)]), None, "it never answers");
        assert_eq!(
            waits(&queued, &[task(1, TaskStatus::Notified, None)]),
            None,
            "told before turns were noted"
        );
        assert_eq!(waits(&told(5), &[queued]), None, "who has the turn is told again");
    }

    #[test]
    fn who_works_keeps_the_others_waiting_however_long_it_takes() {
        let queued = task(1, TaskStatus::Queued, None);
        assert_eq!(waits(&queued, &[working(2)]), Some(TURN_MS));
        assert_eq!(waits(&task(1, TaskStatus::Notified, Some(NOW.0)), &[working(2)]), Some(TURN_MS));
        assert_eq!(waits(&working(2), &[task(1, TaskStatus::Notified, Some(NOW.0))]), None);
        assert_eq!(waits(&working(2), &[working(1)]), Some(TURN_MS), "of two that it asked for: the older");
        assert_eq!(waits(&working(1), &[working(2)]), None);
    }

    #[test]
    fn who_waits_for_an_attempt_or_for_consent_or_has_ended_keeps_nobody() {
        let queued = task(9, TaskStatus::Queued, None);
        for status in TaskStatus::ALL {
            let other =
                Task { retry_at: Some(NOW.plus_ms(5)), working: true, ..task(1, status, Some(NOW.0)) };
            assert_eq!(waits(&queued, &[other]), None, "{status:?}");
        }
        for status in TaskStatus::ALL {
            let keeps = matches!(status, TaskStatus::Notified | TaskStatus::InProgress);
            assert_eq!(waits(&queued, &[task(1, status, Some(NOW.0))]).is_some(), keeps, "{status:?}");
        }
    }

    #[test]
    fn a_repeated_attempt_has_a_turn_like_a_first_one_until_the_device_begins() {
        let queued = task(2, TaskStatus::Queued, None);
        let again = |ago: i64| task(1, TaskStatus::InProgress, Some(NOW.0 - ago));
        assert_eq!(waits(&queued, &[again(1)]), Some(TURN_MS - 1));
        assert_eq!(waits(&queued, &[again(TURN_MS)]), None);
    }

    #[test]
    fn of_two_that_were_told_the_last_has_the_turn() {
        let (first, second) =
            (task(1, TaskStatus::Notified, Some(NOW.0 - 10)), task(2, TaskStatus::Notified, Some(NOW.0 - 5)));
        assert_eq!(waits(&first, std::slice::from_ref(&second)), Some(TURN_MS - 5));
        assert_eq!(waits(&second, &[first]), None);
    }

    #[test]
    fn others_wait_for_who_works_and_for_who_was_told_lately() {
        let claims = |task: &Task| super::claims(task, NOW, TURN_MS);
        assert!(claims(&working(1)) && claims(&task(1, TaskStatus::Notified, Some(NOW.0))));
        assert!(!claims(&task(1, TaskStatus::Queued, None)));
        assert!(!claims(&task(1, TaskStatus::Notified, Some(NOW.0 - TURN_MS))));
    }

    #[test]
    fn the_order_is_who_never_was_told_then_who_was_longest_ago() {
        let mut tasks = [
            task(1, TaskStatus::Notified, Some(7)),
            task(2, TaskStatus::Notified, Some(3)),
            task(4, TaskStatus::Queued, None),
            task(3, TaskStatus::Queued, None),
        ];
        tasks.sort_by_key(order);
        assert_eq!(tasks.map(|task| task.no.job.0), [3, 4, 2, 1]);
    }
}
