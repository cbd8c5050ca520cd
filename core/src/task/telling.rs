//! Whether a device may be told of its task now; and if not, what stands in the way.
//!
//! Whoever decides asks for the first obstacle, and whoever explains (`core/src/explain.rs`) asks the same.

use super::{Cancel, Task, TaskStatus, Terms};
use crate::job::JobStatus;
use crate::time::Timestamp;

/// How the information about a package reaches a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// It is pushed.
    Push,
    /// The device asks for it.
    Pull,
}

/// What keeps the information about a package from its device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// The task has ended.
    Ended,
    /// The end user has not agreed.
    Unconfirmed,
    /// The batch pushes nothing (NeedPush).
    LeftToTheDevice,
    /// The batch tells nobody now: see [`Hindrance`].
    NotNow,
    /// The batch's time is over.
    TimeOver,
    /// The last attempt failed, and the next one's time has not come.
    RetryNotDue,
}

impl Obstacle {
    /// In words.
    pub fn why(self) -> &'static str {
        match self {
            Self::Ended => "the task has ended",
            Self::Unconfirmed => "the task waits for confirmation",
            Self::LeftToTheDevice => "the batch leaves it to the device to ask",
            Self::NotNow => "the batch does not tell devices now",
            Self::TimeOver => "the batch's time is over",
            Self::RetryNotDue => "the next attempt's time has not come",
        }
    }
}

/// The first obstacle for a task, if there is one.
pub fn obstacle(task: &Task, terms: &Terms<'_>, way: Way, now: Timestamp) -> Option<Obstacle> {
    match task.status {
        TaskStatus::Succeeded | TaskStatus::Failed | TaskStatus::Canceled => Some(Obstacle::Ended),
        TaskStatus::Confirm => Some(Obstacle::Unconfirmed),
        TaskStatus::Queued if way == Way::Push && !terms.need_push => Some(Obstacle::LeftToTheDevice),
        _ if !terms.started => Some(Obstacle::NotNow),
        TaskStatus::Queued if terms.is_finished(now) => Some(Obstacle::TimeOver),
        TaskStatus::Queued => None,
        TaskStatus::Notified | TaskStatus::InProgress => task.retry_at.map(|_| Obstacle::RetryNotDue),
    }
}

/// What a batch is going through, as far as it concerns its tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition {
    /// Where the batch stands.
    pub status: JobStatus,
    /// Whether it is a dynamic one, whose tasks do without it.
    pub dynamic: bool,
    /// Whether its package is deleted: nobody is told anything of that.
    pub package_deleted: bool,
    /// The tasks that are being cancelled.
    pub cancel: Cancel,
}

/// Why a batch tells the device of a task nothing now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hindrance {
    /// It waits for its time.
    Planned,
    /// It has ended.
    Ended,
    /// Its package is deleted.
    PackageDeleted,
    /// A cancellation is carried out, which reaches the task.
    Canceling,
    /// A cancellation is carried out, which does not reach the task: until its end no further device is told.
    OthersCanceling,
}

impl Condition {
    /// Why the batch does not tell the device of a task in this state now; `None`: it does ([`Terms::started`]).
    pub fn hindrance(&self, task: TaskStatus) -> Option<Hindrance> {
        if self.status != JobStatus::InProgress && !self.dynamic {
            let planned = self.status == JobStatus::Planned;
            return Some(if planned { Hindrance::Planned } else { Hindrance::Ended });
        }
        if self.package_deleted {
            return Some(Hindrance::PackageDeleted);
        }
        if self.cancel.reaches(task) {
            return Some(Hindrance::Canceling);
        }
        let waits = task == TaskStatus::Queued && self.is_canceling();
        waits.then_some(Hindrance::OthersCanceling)
    }

    /// Whether tasks are being cancelled.
    pub fn is_canceling(&self) -> bool {
        self.cancel != Cancel::default()
    }

    /// Whether a task in this state, of a batch that pushes, is looked at again and again until a cancellation that
    /// does not reach it is over.
    pub fn holds_up(&self, task: TaskStatus, need_push: bool) -> bool {
        task == TaskStatus::Queued && need_push && self.is_canceling() && !self.cancel.reaches(task)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUNS: Condition = Condition {
        status: JobStatus::InProgress,
        dynamic: false,
        package_deleted: false,
        cancel: Cancel { confirm: false, queued: false, notified: false, in_progress: false },
    };

    #[test]
    fn a_batch_tells_its_devices_while_it_runs_and_the_tasks_of_a_dynamic_one_outlive_it() {
        use TaskStatus::{Notified, Queued};
        let of = |status, dynamic| Condition { status, dynamic, ..RUNS }.hindrance(Queued);
        assert_eq!(of(JobStatus::InProgress, false), None);
        assert_eq!(of(JobStatus::Planned, false), Some(Hindrance::Planned));
        assert_eq!(of(JobStatus::Completed, false), Some(Hindrance::Ended));
        assert_eq!(of(JobStatus::Canceled, true), None);
        let deleted = Condition { package_deleted: true, ..RUNS };
        assert_eq!(deleted.hindrance(Notified), Some(Hindrance::PackageDeleted));
    }

    #[test]
    fn a_cancellation_holds_up_whoever_waits_and_ends_whom_it_reaches() {
        use TaskStatus::{InProgress, Notified, Queued};
        let told = Condition { cancel: Cancel { notified: true, ..Cancel::default() }, ..RUNS };
        assert_eq!(told.hindrance(Notified), Some(Hindrance::Canceling));
        assert_eq!(told.hindrance(Queued), Some(Hindrance::OthersCanceling));
        assert_eq!(told.hindrance(InProgress), None);
        assert!(told.holds_up(Queued, true) && !told.holds_up(Queued, false));
        assert!(!told.holds_up(Notified, true) && !RUNS.holds_up(Queued, true));
        let queued = Condition { cancel: Cancel::UNBEGUN, ..RUNS };
        assert_eq!(queued.hindrance(Queued), Some(Hindrance::Canceling));
        assert!(!queued.holds_up(Queued, true), "it is cancelled, and waits for nothing");
    }
}
