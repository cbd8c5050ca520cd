//! One device in one batch: its states, and what each event does to it.
//!
//! [`step`] is total: every (state, event) pair has an outcome, and `tests/transitions.golden` prints
//! them all. It is called by the engine's door only (`server/src/engine/advance.rs`).

use crate::id::{DeviceNo, TaskNo};
use crate::limits::PROGRESS_DESC_CHARS_MAX;
use crate::text::clip;
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
    /// An operator ended it.
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
    /// While `Queued`: the reserved push slot, if any. While `InProgress`: the time-out, if any.
    pub due_at: Option<Timestamp>,
    /// Counts the changes of this row; a change made from an older revision is refused.
    pub revision: i64,
    /// When the task was created.
    pub created_at: Timestamp,
    /// When the task last changed.
    pub modified_at: Timestamp,
}

/// What a batch demands of its tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms<'a> {
    /// The version whose report means success.
    pub dest_version: &'a str,
    /// Whether devices are told without asking.
    pub need_push: bool,
    /// Milliseconds from the first progress report to failure.
    pub timeout_ms: Option<i64>,
    /// Whether the batch may tell devices: it has started, and no cancellation is about to reach the task.
    pub started: bool,
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
    /// The reserved slot could not be used: the device is not listening, or the slot is too old.
    SlotLost,
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
    /// An operator cancels tasks in these states.
    Cancel(Cancel),
}

impl Event<'_> {
    /// A short name, for refusals and logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Confirm => "confirm",
            Self::Slot(_) => "slot",
            Self::SlotLost => "slot lost",
            Self::Push => "push",
            Self::Pull => "pull",
            Self::Progress { .. } => "progress",
            Self::Failure { .. } => "failure",
            Self::Version(_) => "version",
            Self::Timeout => "timeout",
            Self::Cancel(_) => "cancel",
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
/// TaskDesc of a task that was born failed because its device was busy in another batch (our text).
pub const DESC_DEVICE_BUSY: &str = "the device has an unfinished task in another batch";

/// Applies one event to one task at `now`.
///
/// The rules are those of the platform's pages on update states; where they are silent the reading
/// is recorded in `docs/compatibility.md`.
#[expect(clippy::too_many_lines, reason = "one table, state by state")]
#[expect(clippy::match_same_arms, reason = "the table reads state by state; each arm has its own reason")]
pub fn step(task: &Task, terms: &Terms<'_>, event: &Event<'_>, now: Timestamp) -> Result<Step, Refused> {
    use TaskStatus::{Canceled, Confirm, Failed, InProgress, Notified, Queued, Succeeded};
    let refuse = |why| Err(Refused { status: task.status, event: event.name(), why });
    let ended = || refuse("the task has ended");
    match (task.status, *event) {
        (Confirm, Event::Confirm) => next(task, now, |t| t.status = Queued),
        (Queued | Notified | InProgress, Event::Confirm) => Ok(Step::Same),

        (Queued, Event::Slot(at)) => next(task, now, |t| t.due_at = Some(at)),
        (Confirm, Event::Slot(_)) => refuse("the task waits for confirmation"),
        // Slots are for the first push only; a repeated one changes nothing.
        (Notified | InProgress, Event::Slot(_)) => Ok(Step::Same),

        (Queued, Event::SlotLost) if task.due_at.is_some() => next(task, now, |t| t.due_at = None),
        (Confirm | Queued | Notified | InProgress, Event::SlotLost) => Ok(Step::Same),

        (Confirm, Event::Push | Event::Pull) => refuse("the task waits for confirmation"),
        (Queued, Event::Push) if !terms.need_push => refuse("the batch leaves it to the device to ask"),
        (Queued, Event::Push | Event::Pull) if !terms.started => {
            refuse("the batch does not tell devices now")
        }
        (Queued, Event::Push | Event::Pull) => next(task, now, |t| {
            t.status = Notified;
            t.due_at = None;
        }),
        (Notified | InProgress, Event::Push | Event::Pull) if !terms.started => {
            refuse("the batch does not tell devices now")
        }
        // A repeat after a reconnect: the same information goes out, the time-out goes on.
        (Notified | InProgress, Event::Push | Event::Pull) => Ok(Step::Same),

        (Confirm | Queued, Event::Progress { .. } | Event::Failure { .. }) => {
            refuse("the device has not been given the package")
        }
        (Notified, Event::Progress { percent, desc }) => next(task, now, |t| {
            t.status = InProgress;
            t.progress = percent;
            clip(desc, PROGRESS_DESC_CHARS_MAX).clone_into(&mut t.desc);
            t.due_at = terms.timeout_ms.map(|ms| now.plus_ms(ms));
        }),
        (InProgress, Event::Progress { percent, desc }) => {
            let desc = clip(desc, PROGRESS_DESC_CHARS_MAX);
            if (task.progress, task.desc.as_str()) == (percent, desc) {
                return Ok(Step::Same);
            }
            next(task, now, |t| {
                t.progress = percent;
                desc.clone_into(&mut t.desc);
            })
        }
        (Notified | InProgress, Event::Failure { step, desc }) => next(task, now, |t| {
            let said = clip(desc, PROGRESS_DESC_CHARS_MAX);
            t.desc =
                if said.is_empty() { step.text().to_owned() } else { format!("{}: {said}", step.text()) };
            t.status = Failed;
            t.due_at = None;
        }),

        // Only the reported version decides, from any open state.
        (Confirm | Queued | Notified | InProgress, Event::Version(version))
            if version == terms.dest_version =>
        {
            next(task, now, |t| {
                t.status = Succeeded;
                t.progress = 100;
                t.desc.clear();
                t.due_at = None;
            })
        }
        // Before the device starts, whatever it runs is the version that it starts from.
        (Confirm | Queued | Notified, Event::Version(version)) => {
            if task.src_version.as_deref() == Some(version) {
                return Ok(Step::Same);
            }
            next(task, now, |t| t.src_version = Some(version.to_owned()))
        }
        (InProgress, Event::Version(version)) => match task.src_version.as_deref() {
            // A reboot into the old image is no failure.
            Some(source) if source == version => Ok(Step::Same),
            Some(_) => next(task, now, |t| {
                t.status = Failed;
                DESC_WRONG_VERSION.clone_into(&mut t.desc);
                t.due_at = None;
            }),
            // The device never told what it ran; it is telling now.
            None => next(task, now, |t| t.src_version = Some(version.to_owned())),
        },

        (InProgress, Event::Timeout) if task.due_at.is_some_and(|due| due <= now) => next(task, now, |t| {
            t.status = Failed;
            DESC_TIMEOUT.clone_into(&mut t.desc);
            t.due_at = None;
        }),
        // The timer came too early or for a state without a time-out.
        (Confirm | Queued | Notified | InProgress, Event::Timeout) => Ok(Step::Same),

        (Confirm | Queued | Notified | InProgress, Event::Cancel(cancel)) => {
            if !cancel.reaches(task.status) {
                return Ok(Step::Same);
            }
            next(task, now, |t| {
                t.status = Canceled;
                t.due_at = None;
            })
        }

        // Final states. What a device reports after the end is its own news, not the task's.
        (
            Succeeded | Failed | Canceled,
            Event::Version(_) | Event::Timeout | Event::SlotLost | Event::Cancel(_),
        ) => Ok(Step::Same),
        (
            Succeeded | Failed | Canceled,
            Event::Confirm
            | Event::Slot(_)
            | Event::Push
            | Event::Pull
            | Event::Progress { .. }
            | Event::Failure { .. },
        ) => ended(),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "it is an outcome of `step`, like the refusals beside it")]
fn next(task: &Task, now: Timestamp, change: impl FnOnce(&mut Task)) -> Result<Step, Refused> {
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
    /// The first push, once a slot is reserved.
    Slot,
    /// The first push, at the reserved slot.
    WaitForSlot,
    /// The same push again, at once: the device may have missed it or lost its session.
    Repeat,
}

/// Whether a listening device should be pushed a task, and how.
pub fn push_need(task: &Task, terms: &Terms<'_>) -> PushNeed {
    if !terms.need_push || !terms.started {
        return PushNeed::Nothing;
    }
    match task.status {
        TaskStatus::Queued if task.due_at.is_some() => PushNeed::WaitForSlot,
        TaskStatus::Queued => PushNeed::Slot,
        TaskStatus::Notified | TaskStatus::InProgress => PushNeed::Repeat,
        TaskStatus::Confirm | TaskStatus::Succeeded | TaskStatus::Failed | TaskStatus::Canceled => {
            PushNeed::Nothing
        }
    }
}
