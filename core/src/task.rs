//! One device in one batch: its states, and what each event does to it.
//!
//! [`step`] is total: every (state, event) pair has an outcome, and `tests/transitions.golden` prints
//! them all, with the reasons of those that surprise. It is called by the engine's door only (`server/src/engine/advance.rs`).

mod step;
mod telling;

pub use step::{PushNeed, push_need, step};
pub use telling::{Condition, Hindrance, Obstacle, Way, obstacle};

use crate::id::{DeviceNo, TaskNo};
use crate::time::Timestamp;

/// Where a task stands. Names and meaning are ListOTATaskByJob's `TaskStatus`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TaskStatus {
    /// Waits for the end user's consent (ConfirmOTATask).
    Confirm,
    /// The device has not been told yet.
    Queued,
    /// The device was told; it has reported nothing yet.
    Notified,
    /// The device reported progress.
    InProgress,
    /// The device reported the batch's version.
    Succeeded,
    /// The update failed or ran out of time.
    Failed,
    /// An operator ended it, or a newer batch replaced it.
    Canceled,
}

impl TaskStatus {
    /// Every status, in storage order.
    pub const ALL: [Self; 7] = [
        Self::Confirm,
        Self::Queued,
        Self::Notified,
        Self::InProgress,
        Self::Succeeded,
        Self::Failed,
        Self::Canceled,
    ];

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Confirm => "CONFIRM",
            Self::Queued => "QUEUED",
            Self::Notified => "NOTIFIED",
            Self::InProgress => "IN_PROGRESS",
            Self::Succeeded => "SUCCEEDED",
            Self::Failed => "FAILED",
            Self::Canceled => "CANCELED",
        }
    }

    /// The status with this name on the wire.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }

    /// The number in the database; open states come before [`TaskStatus::Succeeded`].
    pub fn code(self) -> i64 {
        self as i64
    }

    /// The status of a number in the database.
    pub fn from_code(code: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.code() == code)
    }

    /// Whether the task may still change.
    pub fn is_open(self) -> bool {
        self < Self::Succeeded
    }
}

/// A task as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Batch and position.
    pub no: TaskNo,
    /// The device.
    pub device: DeviceNo,
    /// Where the task stands.
    pub status: TaskStatus,
    /// The version that the device runs before the update, as far as it ever told.
    pub src_version: Option<String>,
    /// Last reported progress, 0–100 percent.
    pub progress: i64,
    /// Why the task failed; or what the device last said about its progress.
    pub desc: String,
    /// While `Queued`: the reserved push slot, if any.
    pub slot_at: Option<Timestamp>,
    /// While `Notified` or `InProgress`: a failed attempt is repeated at this moment; nothing is sent before.
    pub retry_at: Option<Timestamp>,
    /// While `InProgress`: when the task runs out of time, if it can.
    pub timeout_at: Option<Timestamp>,
    /// How many attempts were repeated.
    pub retries: i64,
    /// Whether the device has reported progress in the present attempt: only then does a wrong version mean
    /// that the attempt failed.
    pub working: bool,
    /// Whether the end user agreed (batches with NeedConfirm).
    pub confirmed: bool,
    /// When the device was told and its turn began (`core/src/turn.rs`); a repeated push within it, or to a device
    /// without other tasks, begins no other one.
    pub told_at: Option<Timestamp>,
    /// While it waits for its turn: when it is looked at again, if nothing happens before.
    pub hold_until: Option<Timestamp>,
    /// Counts the changes of this row; a change made from an older revision is refused.
    pub revision: i64,
    /// When the task was created.
    pub created_at: Timestamp,
    /// When the task last changed.
    pub modified_at: Timestamp,
}

impl Task {
    /// A task as it is born, in `status`, of a device that runs `src_version` as far as it ever told.
    pub fn new(
        no: TaskNo,
        device: DeviceNo,
        status: TaskStatus,
        src_version: Option<String>,
        now: Timestamp,
    ) -> Self {
        Self {
            no,
            device,
            status,
            src_version,
            progress: 0,
            desc: String::new(),
            slot_at: None,
            retry_at: None,
            timeout_at: None,
            retries: 0,
            working: false,
            confirmed: false,
            told_at: None,
            hold_until: None,
            revision: 1,
            created_at: now,
            modified_at: now,
        }
    }

    /// When the task must be looked at next, if nobody stirs before.
    pub fn due_at(&self) -> Option<Timestamp> {
        [self.slot_at, self.retry_at, self.timeout_at, self.hold_until].into_iter().flatten().min()
    }
}

/// How a batch repeats failed attempts (RetryInterval, RetryCount).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// From a failure to the next attempt, in milliseconds.
    pub interval_ms: i64,
    /// How often.
    pub count: i64,
}

/// How long after ScheduleFinishTime a device that has begun may go on: as long as the longest time-out
/// (1440 minutes), in minutes. A batch with a finish time therefore always ends.
pub const FINISH_GRACE_MINUTES: i64 = 1_440;

/// What a batch demands of its tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms<'a> {
    /// The version whose report means success.
    pub dest_version: &'a str,
    /// The versions that devices may come from; empty: any.
    pub src_versions: &'a [String],
    /// Whether the package is the difference to its source version: then no device with another version may be
    /// given it, not even one that was told before.
    pub differential: bool,
    /// Whether devices are told without asking.
    pub need_push: bool,
    /// Whether the end user must agree first.
    pub need_confirm: bool,
    /// Milliseconds from the first progress report to failure.
    pub timeout_ms: Option<i64>,
    /// Whether and how failed attempts are repeated.
    pub retry: Option<Retry>,
    /// A batch that waits for its time: when it starts.
    pub planned_at: Option<Timestamp>,
    /// When no device is told any more (ScheduleFinishTime).
    pub finish_at: Option<Timestamp>,
    /// Milliseconds after `finish_at` in which those that have begun may end.
    pub finish_grace_ms: i64,
    /// Whether the batch may tell devices: it has started, and no cancellation is about to reach the task.
    pub started: bool,
}

impl Terms<'_> {
    /// Whether a device that runs `version` may be told; one that never told its version may only if the batch
    /// does not ask.
    pub fn accepts_source(&self, version: Option<&str>) -> bool {
        accepts_source(self.src_versions, version)
    }

    /// Whether the time of the batch is over.
    pub fn is_finished(&self, now: Timestamp) -> bool {
        self.finish_at.is_some_and(|finish| finish <= now)
    }
}

/// Whether `version` is one of the versions that a batch names as sources; none named: any will do.
pub fn accepts_source(src_versions: &[String], version: Option<&str>) -> bool {
    src_versions.is_empty() || version.is_some_and(|version| src_versions.iter().any(|src| src == version))
}

/// Why a device says that its update failed: the negative `step` of a progress report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailedStep {
    /// -1
    Upgrade,
    /// -2
    Download,
    /// -3
    Verification,
    /// -4
    Flashing,
}

impl FailedStep {
    /// The failure that a negative step stands for.
    pub fn from_step(step: i64) -> Option<Self> {
        match step {
            -1 => Some(Self::Upgrade),
            -2 => Some(Self::Download),
            -3 => Some(Self::Verification),
            -4 => Some(Self::Flashing),
            _ => None,
        }
    }

    /// The failure in words.
    fn text(self) -> &'static str {
        match self {
            Self::Upgrade => "upgrade failed",
            Self::Download => "download failed",
            Self::Verification => "verification failed",
            Self::Flashing => "flashing failed",
        }
    }
}

/// Something that happened to a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// The end user agreed.
    Confirm,
    /// A push slot was reserved for this moment.
    Slot(Timestamp),
    /// The reserved slot could not be used, since the device is not listening, or the slot is too old; or the wait
    /// for its turn is over.
    SlotLost,
    /// Another task of the device has the turn: this one is looked at again at this moment, and has no slot.
    Hold(Timestamp),
    /// The device is told again, and its turn begins.
    Turn,
    /// The package information goes out to the listening device now.
    Push,
    /// The device asked for the package information.
    Pull,
    /// The device reported progress, in percent.
    Progress {
        /// 0–100.
        percent: i64,
        /// Free text of the device.
        desc: &'a str,
    },
    /// The device reported failure.
    Failure {
        /// What failed.
        step: FailedStep,
        /// Free text of the device.
        desc: &'a str,
    },
    /// The device reported the version that it runs.
    Version(&'a str),
    /// The time-out may have passed.
    Timeout,
    /// The wait for the next attempt may be over.
    RetryDue,
    /// An operator cancels tasks in these states.
    Cancel(Cancel),
    /// A newer batch takes the device over (OverwriteMode, MultiModuleMode).
    Overwritten,
    /// An operator puts an ended task back in line; the device runs this version now, as far as it ever told.
    Reupgrade(Option<&'a str>),
}

impl Event<'_> {
    /// A short name, for refusals and logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Confirm => "confirm",
            Self::Slot(_) => "slot",
            Self::SlotLost => "slot lost",
            Self::Hold(_) => "hold",
            Self::Turn => "turn",
            Self::Push => "push",
            Self::Pull => "pull",
            Self::Progress { .. } => "progress",
            Self::Failure { .. } => "failure",
            Self::Version(_) => "version",
            Self::Timeout => "timeout",
            Self::RetryDue => "retry due",
            Self::Cancel(_) => "cancel",
            Self::Overwritten => "overwritten",
            Self::Reupgrade(_) => "reupgrade",
        }
    }
}

/// Which open tasks a cancel call reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cancel {
    /// Tasks that wait for consent.
    pub confirm: bool,
    /// Tasks not yet pushed.
    pub queued: bool,
    /// Tasks pushed, without progress.
    pub notified: bool,
    /// Tasks with progress.
    pub in_progress: bool,
}

impl Cancel {
    /// Tasks that no device has begun.
    pub const UNBEGUN: Self = Self { confirm: true, queued: true, notified: true, in_progress: false };
    /// Every open task.
    pub const ALL: Self = Self { in_progress: true, ..Self::UNBEGUN };

    /// What one or the other reaches.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            confirm: self.confirm || other.confirm,
            queued: self.queued || other.queued,
            notified: self.notified || other.notified,
            in_progress: self.in_progress || other.in_progress,
        }
    }

    /// Whether tasks of this status are reached.
    pub fn reaches(self, status: TaskStatus) -> bool {
        match status {
            TaskStatus::Confirm => self.confirm,
            TaskStatus::Queued => self.queued,
            TaskStatus::Notified => self.notified,
            TaskStatus::InProgress => self.in_progress,
            TaskStatus::Succeeded | TaskStatus::Failed | TaskStatus::Canceled => false,
        }
    }
}

/// What an event does to a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing: the event is neutral or was already taken into account.
    Same,
    /// The task becomes this one.
    Next(Task),
}

/// An event that the task's state forbids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// The state that refused.
    pub status: TaskStatus,
    /// The event's name.
    pub event: &'static str,
    /// Why, in words.
    pub why: &'static str,
}

/// TaskDesc of a version report that is neither the source nor the target (the platform's text).
pub const DESC_WRONG_VERSION: &str = "report version is not conform";
/// TaskDesc of a task that ran out of time (the platform's text).
pub const DESC_TIMEOUT: &str = "timeout";
/// TaskDesc of a task whose device left the batch's source versions before it was told (our text).
pub const DESC_SOURCE_CHANGED: &str = "the device no longer runs a source version of the batch";
/// TaskDesc of a task that was born failed because its device was busy in another batch (our text).
pub const DESC_DEVICE_BUSY: &str = "the device has an unfinished task in another batch";
/// What is kept of a task that a newer batch replaced (our text; the API shows the texts of failures only).
pub const DESC_OVERWRITTEN: &str = "a newer batch replaced the task";
