//! One batch: its states, and what its tasks' counts mean for it.

use crate::task::TaskStatus;

/// Where a batch stands. Names and meaning are QueryOTAJob's `JobStatus`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum JobStatus {
    /// Waits for its scheduled time.
    Planned,
    /// Runs.
    InProgress,
    /// Every task has ended.
    Completed,
    /// Every task was cancelled.
    Canceled,
}

impl JobStatus {
    /// Every status, in storage order.
    pub const ALL: [Self; 4] = [Self::Planned, Self::InProgress, Self::Completed, Self::Canceled];

    /// The number in the database; the states that may still change come first.
    pub fn code(self) -> i64 {
        self as i64
    }

    /// The status of a number in the database.
    pub fn from_code(code: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.code() == code)
    }

    /// Whether the batch has ended.
    pub fn is_ended(self) -> bool {
        self >= Self::Completed
    }
}

/// What a batch is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobType {
    /// Proves a package on test devices.
    Verify,
    /// Upgrades a fleet.
    Upgrade,
}

impl JobType {
    /// Every type, in storage order.
    pub const ALL: [Self; 2] = [Self::Verify, Self::Upgrade];

    /// The number in the database.
    pub fn code(self) -> i64 {
        self as i64
    }

    /// The type of a number in the database.
    pub fn from_code(code: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }
}

/// Which devices a batch is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetSelection {
    /// All devices of the product.
    All,
    /// Devices given by name.
    Specific,
}

impl TargetSelection {
    /// Every selection, in storage order.
    pub const ALL: [Self; 2] = [Self::All, Self::Specific];

    /// The number in the database.
    pub fn code(self) -> i64 {
        self as i64
    }

    /// The selection of a number in the database.
    pub fn from_code(code: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|selection| selection.code() == code)
    }

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::All => "ALL",
            Self::Specific => "SPECIFIC",
        }
    }
}

/// A batch's tag: delivered to devices with each push, shown in lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// 1–30 of `A-Za-z0-9.`.
    pub key: String,
    /// 1–1024 characters.
    pub value: String,
}

/// How many tasks of a batch are in each state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts([i64; 7]);

impl Counts {
    /// Tasks in `status`.
    pub fn of(&self, status: TaskStatus) -> i64 {
        self.0[status.code() as usize]
    }

    /// Adds `n` (or takes away, if negative) tasks in `status`.
    pub fn add(&mut self, status: TaskStatus, n: i64) {
        self.0[status.code() as usize] += n;
    }

    /// All tasks.
    pub fn total(&self) -> i64 {
        self.0.iter().sum()
    }

    /// Tasks that may still change.
    pub fn open(&self) -> i64 {
        TaskStatus::ALL.into_iter().filter(|status| status.is_open()).map(|status| self.of(status)).sum()
    }

    /// The share of ended tasks in percent, rounded down; 0 while there are none.
    pub fn percent_ended(&self) -> i64 {
        if self.total() == 0 { 0 } else { (self.total() - self.open()) * 100 / self.total() }
    }
}

/// The final state of a running batch whose tasks all exist and stand like `counts`; `None` while one
/// is open.
///
/// A batch of which every task was cancelled is CANCELED; any other mixture is COMPLETED, and so is a
/// batch that matched no device.
pub fn ending(counts: &Counts) -> Option<JobStatus> {
    if counts.open() > 0 {
        return None;
    }
    let canceled = counts.of(TaskStatus::Canceled);
    Some(if canceled > 0 && canceled == counts.total() { JobStatus::Canceled } else { JobStatus::Completed })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(list: &[(TaskStatus, i64)]) -> Counts {
        let mut counts = Counts::default();
        for (status, n) in list {
            counts.add(*status, *n);
        }
        counts
    }

    #[test]
    fn a_batch_ends_with_its_last_task() {
        use TaskStatus::{Canceled, Confirm, Failed, InProgress, Notified, Queued, Succeeded};
        for open in [Confirm, Queued, Notified, InProgress] {
            assert_eq!(ending(&counts(&[(open, 1), (Succeeded, 9), (Canceled, 3)])), None);
        }
        assert_eq!(ending(&counts(&[(Failed, 2)])), Some(JobStatus::Completed));
        assert_eq!(ending(&counts(&[(Canceled, 2), (Succeeded, 1)])), Some(JobStatus::Completed));
        assert_eq!(ending(&counts(&[(Canceled, 2)])), Some(JobStatus::Canceled));
        assert_eq!(ending(&counts(&[])), Some(JobStatus::Completed));
    }

    #[test]
    fn percent_is_of_all_tasks() {
        use TaskStatus::{Failed, Queued};
        assert_eq!(counts(&[]).percent_ended(), 0);
        assert_eq!(counts(&[(Queued, 2), (Failed, 1)]).percent_ended(), 33);
    }
}
