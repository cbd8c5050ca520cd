//! What is remembered of a task's life: every change of its state, who caused it, and what was said.
//!
//! Deadlines and push slots come and go without a line: they are in the task itself while they matter.

use crate::id::TaskNo;
use crate::task::{Event, Task, TaskStatus};
use crate::time::Timestamp;

/// Who caused a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// A call of the API or a command.
    Operator,
    /// The device itself.
    Device,
    /// The server, when a moment had come: a push slot, a time-out, the next attempt.
    Timer,
    /// A newer batch.
    Batch,
}

impl Cause {
    /// The name on the wire (ours).
    pub fn name(self) -> &'static str {
        match self {
            Self::Operator => "OPERATOR",
            Self::Device => "DEVICE",
            Self::Timer => "TIMER",
            Self::Batch => "BATCH",
        }
    }
}

/// What happened to a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// The end user agreed.
    Confirmed,
    /// The device was told.
    Pushed,
    /// The device asked, and was told.
    Pulled,
    /// The device reported progress.
    Progressed,
    /// The device reported a failure.
    Failed,
    /// The device reported a version.
    Reported,
    /// Its time was over.
    TimedOut,
    /// The wait for the next attempt was over.
    Retried,
    /// An operator cancelled it.
    Canceled,
    /// A newer batch replaced it.
    Replaced,
    /// An operator put it back in line.
    Reupgraded,
    /// The time of its batch was over (ScheduleFinishTime).
    Finished,
}

impl What {
    /// Every kind, in storage order.
    pub const ALL: [Self; 12] = [
        Self::Confirmed,
        Self::Pushed,
        Self::Pulled,
        Self::Progressed,
        Self::Failed,
        Self::Reported,
        Self::TimedOut,
        Self::Retried,
        Self::Canceled,
        Self::Replaced,
        Self::Reupgraded,
        Self::Finished,
    ];

    /// The name on the wire (ours).
    pub fn name(self) -> &'static str {
        match self {
            Self::Confirmed => "CONFIRMED",
            Self::Pushed => "PUSHED",
            Self::Pulled => "PULLED",
            Self::Progressed => "PROGRESS",
            Self::Failed => "FAILURE",
            Self::Reported => "VERSION",
            Self::TimedOut => "TIMEOUT",
            Self::Retried => "RETRY",
            Self::Canceled => "CANCEL",
            Self::Replaced => "REPLACED",
            Self::Reupgraded => "REUPGRADE",
            Self::Finished => "FINISH_TIME",
        }
    }

    /// The number in the database.
    pub fn code(self) -> i64 {
        self as i64
    }

    /// The kind of a number in the database.
    pub fn from_code(code: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|what| what.code() == code)
    }

    /// Who causes it.
    pub fn cause(self) -> Cause {
        match self {
            Self::Confirmed | Self::Canceled | Self::Reupgraded => Cause::Operator,
            Self::Pulled | Self::Progressed | Self::Failed | Self::Reported => Cause::Device,
            Self::Pushed | Self::TimedOut | Self::Retried | Self::Finished => Cause::Timer,
            Self::Replaced => Cause::Batch,
        }
    }
}

/// One line of a task's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The task.
    pub task: TaskNo,
    /// Its revision after the change: orders the lines.
    pub revision: i64,
    /// When.
    pub at: Timestamp,
    /// What happened.
    pub what: What,
    /// Where the task stood before.
    pub from: TaskStatus,
    /// Where it stands since.
    pub to: TaskStatus,
    /// What the device said or reported, or why the task failed.
    pub detail: String,
}

/// The line that an event leaves which made `after` of `before`; `None`: nothing that is worth one. `finished`: the
/// time of its batch is over.
pub fn line(before: &Task, after: &Task, event: &Event<'_>, finished: bool, now: Timestamp) -> Option<Line> {
    let again = before.retry_at.is_none() != after.retry_at.is_none();
    let agreed = before.confirmed != after.confirmed;
    if before.status == after.status && !again && !agreed {
        return None;
    }
    let what = match event {
        Event::Confirm => What::Confirmed,
        // The others of the engine's own events only move deadlines.
        Event::Push | Event::Turn | Event::Slot(_) | Event::SlotLost | Event::Hold(_) => What::Pushed,
        Event::Pull => What::Pulled,
        Event::Progress { .. } => What::Progressed,
        Event::Failure { .. } => What::Failed,
        Event::Version(_) => What::Reported,
        Event::Timeout => What::TimedOut,
        Event::RetryDue => What::Retried,
        Event::Cancel(_) if finished => What::Finished,
        Event::Cancel(_) => What::Canceled,
        Event::Overwritten => What::Replaced,
        Event::Reupgrade(_) => What::Reupgraded,
    };
    let failed = after.status == TaskStatus::Failed || after.retry_at.is_some();
    let detail = match event {
        Event::Version(version) => said(version, if failed { &after.desc } else { "" }),
        Event::Progress { percent, .. } => said(&format!("{percent} %"), &after.desc),
        _ if failed => after.desc.clone(),
        _ => String::new(),
    };
    let (from, to) = (before.status, after.status);
    Some(Line { task: after.no, revision: after.revision, at: now, what, from, to, detail })
}

fn said(first: &str, second: &str) -> String {
    if second.is_empty() { first.to_owned() } else { format!("{first}; {second}") }
}
