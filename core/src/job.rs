//! One batch: its states, and what its tasks' counts mean for it.

use crate::id::GroupNo;
use crate::limits::{SCHEDULE_AHEAD_MINUTES, SCHEDULE_LENGTH_MINUTES};
use crate::task::TaskStatus;
use crate::time::Timestamp;

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
    /// A share of the product's devices.
    Gray,
    /// The devices of a group.
    Group,
}

impl TargetSelection {
    /// Every selection, in storage order.
    pub const ALL: [Self; 4] = [Self::All, Self::Specific, Self::Gray, Self::Group];

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
            Self::Gray => "GRAY",
            Self::Group => "GROUP",
        }
    }
}

/// When a dynamic batch takes a device in (DynamicMode).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DynamicMode {
    /// 1: devices that fit now, and any that fit later.
    NowAndLater,
    /// 2: only devices that report a version afterwards.
    Later,
}

impl DynamicMode {
    /// The number on the wire and in the database.
    pub fn code(self) -> i64 {
        match self {
            Self::NowAndLater => 1,
            Self::Later => 2,
        }
    }

    /// The mode of a number.
    pub fn from_code(code: i64) -> Option<Self> {
        [Self::NowAndLater, Self::Later].into_iter().find(|mode| mode.code() == code)
    }
}

/// What becomes of a device's unfinished task when a newer batch wants the device (OverwriteMode).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OverwriteMode {
    /// 1: it stays, and the newer batch does without the device.
    #[default]
    Keep,
    /// 2: it is replaced, unless it is in progress.
    Replace,
}

impl OverwriteMode {
    /// The number on the wire and in the database.
    pub fn code(self) -> i64 {
        match self {
            Self::Keep => 1,
            Self::Replace => 2,
        }
    }

    /// The mode of a number.
    pub fn from_code(code: i64) -> Option<Self> {
        [Self::Keep, Self::Replace].into_iter().find(|mode| mode.code() == code)
    }
}

/// How devices fetch the package's files (DownloadProtocol).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DownloadProtocol {
    /// From an address.
    #[default]
    Https,
    /// Piece by piece over their MQTT connection.
    Mqtt,
}

impl DownloadProtocol {
    /// Every protocol, in storage order.
    pub const ALL: [Self; 2] = [Self::Https, Self::Mqtt];

    /// The number in the database.
    pub fn code(self) -> i64 {
        self as i64
    }

    /// The protocol of a number in the database.
    pub fn from_code(code: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|protocol| protocol.code() == code)
    }

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Https => "HTTPS",
            Self::Mqtt => "MQTT",
        }
    }
}

/// How a batch finds its devices beyond naming them, and how it treats what it meets there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Conduct {
    /// What becomes of tasks that its devices have already.
    pub overwrite: OverwriteMode,
    /// Whether tasks of different modules of a device are independent (MultiModuleMode).
    pub multi_module: bool,
    /// When it takes devices in; `None`: it is a static batch.
    pub dynamic: Option<DynamicMode>,
    /// The group whose devices it is for.
    pub group: Option<GroupNo>,
    /// How devices fetch the files.
    pub download: DownloadProtocol,
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

/// The final state of a batch whose tasks all exist and stand like `counts`; `None` while one is open.
///
/// A batch of which every task was cancelled by an operator is CANCELED; any other mixture is COMPLETED,
/// and so is a batch that matched no device, or one whose time was over (`finished`, ScheduleFinishTime).
pub fn ending(counts: &Counts, finished: bool) -> Option<JobStatus> {
    if counts.open() > 0 {
        return None;
    }
    let canceled = counts.of(TaskStatus::Canceled);
    let by_operator = !finished && canceled > 0 && canceled == counts.total();
    Some(if by_operator { JobStatus::Canceled } else { JobStatus::Completed })
}

/// When a batch starts and when it tells no further device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Schedule {
    /// ScheduleTime; `None`: at once.
    pub start: Option<Timestamp>,
    /// ScheduleFinishTime; `None`: never.
    pub finish: Option<Timestamp>,
}

impl Schedule {
    /// Checks a schedule asked for at `now`: the start 5 minutes to 7 days ahead, the finish 1 hour to 30 days
    /// after the start (or after now). `minute_ms` is the length of a minute.
    pub fn check(self, now: Timestamp, minute_ms: i64) -> Result<Self, &'static str> {
        let within = |ms: i64, minutes: &std::ops::RangeInclusive<i64>| {
            (minutes.start().saturating_mul(minute_ms)..=minutes.end().saturating_mul(minute_ms))
                .contains(&ms)
        };
        if self.start.is_some_and(|start| !within(start.since_ms(now), &SCHEDULE_AHEAD_MINUTES)) {
            return Err("ScheduleTime must lie 5 minutes to 7 days ahead.");
        }
        let start = self.start.unwrap_or(now);
        if self.finish.is_some_and(|finish| !within(finish.since_ms(start), &SCHEDULE_LENGTH_MINUTES)) {
            return Err("ScheduleFinishTime must lie 1 hour to 30 days after the start.");
        }
        Ok(self)
    }

    /// The status that a batch with this schedule has while it is open.
    pub fn open_status(self, now: Timestamp) -> JobStatus {
        if self.start.is_some_and(|start| start > now) { JobStatus::Planned } else { JobStatus::InProgress }
    }

    /// When an open batch must be looked at next.
    pub fn due_at(self, status: JobStatus) -> Option<Timestamp> {
        match status {
            JobStatus::Planned => self.start,
            JobStatus::InProgress => self.finish,
            JobStatus::Completed | JobStatus::Canceled => None,
        }
    }

    /// Whether the batch's time is over.
    pub fn is_finished(self, now: Timestamp) -> bool {
        self.finish.is_some_and(|finish| finish <= now)
    }
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
            assert_eq!(ending(&counts(&[(open, 1), (Succeeded, 9), (Canceled, 3)]), true), None);
        }
        let ending = |list: &[(TaskStatus, i64)]| super::ending(&counts(list), false);
        assert_eq!(ending(&[(Failed, 2)]), Some(JobStatus::Completed));
        assert_eq!(ending(&[(Canceled, 2), (Succeeded, 1)]), Some(JobStatus::Completed));
        assert_eq!(ending(&[(Canceled, 2)]), Some(JobStatus::Canceled));
        assert_eq!(ending(&[]), Some(JobStatus::Completed));
        assert_eq!(super::ending(&counts(&[(Canceled, 2)]), true), Some(JobStatus::Completed));
    }

    #[test]
    fn a_schedule_lies_within_its_bounds() {
        const MINUTE: i64 = 60_000;
        let now = Timestamp(1_000_000_000_000);
        let at = |minutes: i64| Some(now.plus_ms(minutes * MINUTE));
        let ok = |start, finish| Schedule { start, finish }.check(now, MINUTE).is_ok();
        assert!(ok(None, None));
        assert!(ok(at(5), None) && ok(at(7 * 1_440), None));
        assert!(
            !ok(Some(now.plus_ms(5 * MINUTE - 1)), None) && !ok(at(7 * 1_440 + 1), None) && !ok(at(-5), None)
        );
        assert!(ok(at(10), at(70)) && !ok(at(10), at(69)), "an hour after the start at least");
        assert!(ok(None, at(60)) && !ok(None, at(59)), "an hour from now at least");
        assert!(ok(None, at(30 * 1_440)) && !ok(None, at(30 * 1_440 + 1)));
        assert!(!ok(Some(Timestamp(i64::MIN)), Some(Timestamp(i64::MAX))));
    }

    #[test]
    fn a_batch_is_due_at_its_start_and_then_at_its_finish() {
        let both = Schedule { start: Some(Timestamp(10)), finish: Some(Timestamp(90)) };
        assert_eq!(both.open_status(Timestamp(9)), JobStatus::Planned);
        assert_eq!(both.open_status(Timestamp(10)), JobStatus::InProgress);
        assert_eq!(both.due_at(JobStatus::Planned), both.start);
        assert_eq!(both.due_at(JobStatus::InProgress), both.finish);
        assert_eq!(both.due_at(JobStatus::Completed), None);
        assert!(both.is_finished(Timestamp(90)) && !both.is_finished(Timestamp(89)));
    }

    #[test]
    fn percent_is_of_all_tasks() {
        use TaskStatus::{Failed, Queued};
        assert_eq!(counts(&[]).percent_ended(), 0);
        assert_eq!(counts(&[(Queued, 2), (Failed, 1)]).percent_ended(), 33);
        assert_eq!(counts(&[(Queued, 1), (Failed, 3)]).percent_ended(), 75);
    }

    #[test]
    fn ended_is_what_is_completed_or_cancelled() {
        let ended = JobStatus::ALL.map(JobStatus::is_ended);
        assert_eq!(ended, [false, false, true, true]);
    }
}
