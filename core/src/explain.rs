//! Why a device is, is not, or will be updated by a batch.
//!
//! Nothing is decided here: each predicate is answered by the function that decides by it, with the values that it
//! saw. [`open()`] explains a task that may still change, [`ended()`] one that may not, and [`newcomer()`] a device
//! that has none.

mod ended;
mod newcomer;
mod open;

pub use ended::{EndedTask, ended};
pub use newcomer::{Making, Newcomer, Rule, newcomer};
pub use open::{OpenTask, open};

use crate::device::DeviceStatus;
use crate::dynamic::Reported;
use crate::history::Line;
use crate::task::{Task, TaskStatus};
use crate::time::Timestamp;

/// A text with moments in it: how those are written is not for rules to say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Said(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    At(Timestamp),
}

impl Said {
    /// A text.
    pub fn of(text: impl Into<String>) -> Self {
        Self(vec![Part::Text(text.into())])
    }

    /// And more text.
    #[must_use]
    pub fn and(mut self, text: impl Into<String>) -> Self {
        self.0.push(Part::Text(text.into()));
        self
    }

    /// And a moment.
    #[must_use]
    pub fn at(mut self, at: Timestamp) -> Self {
        self.0.push(Part::At(at));
        self
    }

    /// And what another one says.
    #[must_use]
    pub fn join(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// The text, with moments written like this.
    pub fn render(&self, at: impl Fn(Timestamp) -> String) -> String {
        let part = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::At(moment) => at(*moment),
        };
        self.0.iter().map(part).collect()
    }
}

/// How a predicate was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// It holds.
    Yes,
    /// It does not.
    No,
    /// It was not asked, or what it asks for is not known.
    NotAsked,
}

impl Holds {
    /// The name on the wire (ours).
    pub fn name(self) -> &'static str {
        match self {
            Self::Yes => "YES",
            Self::No => "NO",
            Self::NotAsked => "NOT_ASKED",
        }
    }
}

impl From<bool> for Holds {
    fn from(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }
}

/// A predicate, with what it was asked of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// The name on the wire (ours).
    pub name: &'static str,
    /// The answer.
    pub holds: Holds,
    /// What was seen.
    pub seen: Said,
    /// What is wanted.
    pub wanted: Said,
}

impl Check {
    fn new(name: &'static str, holds: impl Into<Holds>, seen: Said, wanted: &str) -> Self {
        Self { name, holds: holds.into(), seen, wanted: Said::of(wanted) }
    }

    /// In a sentence.
    pub fn text(&self, at: impl Fn(Timestamp) -> String) -> String {
        let (seen, wanted) = (sentence(&self.seen.render(&at)), self.wanted.render(&at));
        match self.holds {
            Holds::Yes => format!("{seen}."),
            Holds::No => format!("{seen}; wanted: {wanted}."),
            Holds::NotAsked => format!("{seen}; not asked whether it is as wanted: {wanted}."),
        }
    }
}

/// A text that begins a sentence.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| format!("{}{}", first.to_uppercase(), letters.as_str())).unwrap_or_default()
}

/// How things stand between the device and the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The batch has updated it.
    Updated,
    /// Its task failed or was cancelled.
    Ended,
    /// It was told of the package.
    UnderWay,
    /// It has a task and has not been told of the package.
    Waiting,
    /// It has no task, and may get one without being asked for again.
    ToCome,
    /// It has no task and gets none, as things stand.
    LeftOut,
}

impl Verdict {
    /// The name on the wire (ours).
    pub fn name(self) -> &'static str {
        match self {
            Self::Updated => "UPDATED",
            Self::Ended => "ENDED",
            Self::UnderWay => "UNDER_WAY",
            Self::Waiting => "WAITING",
            Self::ToCome => "TO_COME",
            Self::LeftOut => "LEFT_OUT",
        }
    }
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// The batch's ScheduleTime.
    Start,
    /// The end user's consent (ConfirmOTATask).
    Consent,
    /// The cancellation that reaches the task.
    Cancellation,
    /// The end of a cancellation that does not reach it.
    OthersCancellation,
    /// The device, which is not connected, or does not listen.
    Connection,
    /// The device to ask, since the batch pushes nothing.
    Question,
    /// The end of the device's turn with another task.
    Turn,
    /// Its push slot (MaximumPerMinute).
    Slot,
    /// The next attempt's time (RetryInterval).
    Retry,
    /// The device's word, which was told.
    Answer,
    /// The device's work, and the version that it reports after it.
    Version,
    /// The choice of a gray batch's devices.
    Choice,
    /// The batch's tasks, which are being made.
    Making,
    /// The server's next round.
    Round,
    /// A version report of the device.
    Report,
    /// The end of another task of the device.
    Free,
    /// The package's verification.
    Verification,
}

impl Wait {
    /// The name on the wire (ours).
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "START",
            Self::Consent => "CONSENT",
            Self::Cancellation => "CANCELLATION",
            Self::OthersCancellation => "OTHERS_CANCELLATION",
            Self::Connection => "CONNECTION",
            Self::Question => "QUESTION",
            Self::Turn => "TURN",
            Self::Slot => "SLOT",
            Self::Retry => "RETRY",
            Self::Answer => "ANSWER",
            Self::Version => "VERSION",
            Self::Choice => "CHOICE",
            Self::Making => "MAKING",
            Self::Round => "ROUND",
            Self::Report => "REPORT",
            Self::Free => "FREE",
            Self::Verification => "VERIFICATION",
        }
    }

    /// In words that go on after "it waits for".
    pub fn text(self) -> &'static str {
        match self {
            Self::Start => "the batch's time to start",
            Self::Consent => "the end user's consent (ConfirmOTATask)",
            Self::Cancellation => "its cancellation, which is being carried out",
            Self::OthersCancellation => "the end of a cancellation that does not reach it",
            Self::Connection => "the device to connect and listen, or to ask",
            Self::Question => "the device to ask, since the batch pushes nothing (NeedPush)",
            Self::Turn => "its turn, which another task of the device has",
            Self::Slot => "its push slot (MaximumPerMinute)",
            Self::Retry => "the time of the next attempt",
            Self::Answer => "a word of the device, which was told",
            Self::Version => "the device to finish, and to report the new version",
            Self::Choice => "the choice of the batch's devices",
            Self::Making => "the batch's tasks, which are being made",
            Self::Round => "the server's next round",
            Self::Report => "a version report of the device",
            Self::Free => "the end of another task of the device",
            Self::Verification => "the package's verification",
        }
    }
}

/// Since when something waits, and for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// Since when.
    pub since: Timestamp,
    /// For what.
    pub wait: Wait,
}

/// What happens by itself, if nobody stirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foreseen {
    /// The batch starts.
    Start,
    /// The package information goes out to the device.
    Push,
    /// The task is looked at again.
    Look,
    /// There is another attempt.
    Retry,
    /// The task runs out of time.
    TimeOut,
    /// The task is cancelled.
    Cancel,
    /// It is decided whether the device gets a task.
    Decision,
    /// Nothing.
    Nothing,
}

impl Foreseen {
    /// The name on the wire (ours).
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "START",
            Self::Push => "PUSH",
            Self::Look => "LOOK",
            Self::Retry => "RETRY",
            Self::TimeOut => "TIMEOUT",
            Self::Cancel => "CANCEL",
            Self::Decision => "DECISION",
            Self::Nothing => "NOTHING",
        }
    }

    /// In a sentence without its end.
    pub fn text(self) -> &'static str {
        match self {
            Self::Start => "the batch starts",
            Self::Push => "the package information is pushed to the device",
            Self::Look => "the task is looked at again",
            Self::Retry => "the next attempt begins",
            Self::TimeOut => "the task runs out of time and fails",
            Self::Cancel => "the task is cancelled",
            Self::Decision => "it is decided whether the device gets a task",
            Self::Nothing => "nothing happens by itself",
        }
    }
}

/// What happens next by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Next {
    /// What.
    pub what: Foreseen,
    /// When; `None`: at once, or never if it is nothing.
    pub at: Option<Timestamp>,
}

impl Next {
    const NOTHING: Self = Self { what: Foreseen::Nothing, at: None };

    fn at(what: Foreseen, at: Timestamp) -> Self {
        Self { what, at: Some(at) }
    }

    fn soon(what: Foreseen) -> Self {
        Self { what, at: None }
    }
}

/// Why things stand between a device and a batch as they do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// How they stand.
    pub verdict: Verdict,
    /// In a sentence.
    pub summary: Said,
    /// Every predicate.
    pub checks: Vec<Check>,
    /// Since when it is waited, and for what.
    pub waiting: Option<Waiting>,
    /// What happens next by itself.
    pub next: Next,
    /// When a task has ended at the latest, whatever the device does; `None`: it may stay for ever.
    pub ends_by: Option<Timestamp>,
}

impl Explanation {
    /// What is to be said first, in a sentence.
    pub fn sentence(&self, at: impl Fn(Timestamp) -> String) -> String {
        format!("{}.", sentence(&self.summary.render(at)))
    }

    /// Of a device whose task of a dynamic batch has ended: what there is to say of the next one.
    #[must_use]
    pub fn then(mut self, next: Self) -> Self {
        let known: Vec<&str> = self.checks.iter().map(|check| check.name).collect();
        let more = next.checks.into_iter().filter(|check| !known.contains(&check.name)).collect::<Vec<_>>();
        self.checks.extend(more);
        self.summary = self.summary.and(". The next one: ").join(next.summary);
        self.waiting = next.waiting;
        self.next = next.next;
        self
    }

    /// The check of this name.
    pub fn check(&self, name: &str) -> Option<&Check> {
        self.checks.iter().find(|check| check.name == name)
    }
}

/// What is seen of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen<'a> {
    /// Its presence, or that it is disabled.
    pub status: DeviceStatus,
    /// Since when.
    pub status_at: Timestamp,
    /// When it was registered.
    pub created_at: Timestamp,
    /// When it was deleted.
    pub deleted_at: Option<Timestamp>,
    /// Whether a push would reach it now; `None`: only the running server knows.
    pub listening: Option<bool>,
    /// What it last reported of the package's module.
    pub reported: Option<Reported<'a>>,
}

impl Seen<'_> {
    /// Whether a push would reach it, as far as that is known.
    fn hears(&self) -> bool {
        self.listening.unwrap_or(self.status == DeviceStatus::Online)
    }

    fn version(&self) -> Option<&str> {
        self.reported.map(|reported| reported.version)
    }

    fn reported_said(&self) -> Said {
        match self.reported {
            None => Said::of("the device never reported a version of the module"),
            Some(Reported { version, at }) => {
                Said::of(format!("the device last reported version {version}, at ")).at(at)
            }
        }
    }

    /// That the device exists.
    fn check(&self) -> Check {
        let seen = match self.deleted_at {
            Some(at) => Said::of("the device was deleted at ").at(at),
            None => Said::of("the device is registered since ").at(self.created_at),
        };
        Check::new("DEVICE", self.deleted_at.is_none(), seen, "a device that is not deleted")
    }

    /// That a push would reach it.
    fn connection(&self) -> Check {
        let since = |text: &str| Said::of(text).at(self.status_at);
        let (holds, seen) = match (self.status, self.listening) {
            (_, Some(true)) => (Holds::Yes, Said::of("the device listens")),
            (DeviceStatus::Online, Some(false)) => (
                Holds::No,
                since(
                    "the device is connected but has neither subscribed nor asked for automatic delivery; since ",
                ),
            ),
            (DeviceStatus::Online, None) => (
                Holds::NotAsked,
                since("the device is connected (only the running server knows whether it listens); since "),
            ),
            (DeviceStatus::Unactive, _) => (Holds::No, Said::of("the device has never connected")),
            (DeviceStatus::Offline, _) => (Holds::No, since("the device is offline since ")),
            (DeviceStatus::Disable, _) => (Holds::No, since("the device is disabled since ")),
        };
        Check::new("CONNECTION", holds, seen, "a device that is connected and listens")
    }
}

/// Since when a task is in its state, or waits for its next attempt: since the last line of its history. Lines that are
/// forgotten leave what the task itself says.
pub fn since(task: &Task, last: Option<&Line>) -> Timestamp {
    let said = match task.status {
        TaskStatus::Confirm | TaskStatus::Queued => None,
        TaskStatus::Notified | TaskStatus::InProgress => task.told_at,
        TaskStatus::Succeeded | TaskStatus::Failed | TaskStatus::Canceled => Some(task.modified_at),
    };
    last.filter(|line| line.to == task.status).map(|line| line.at).or(said).unwrap_or(task.created_at)
}

/// The package is there.
fn package_check(deleted: bool) -> Check {
    let seen = if deleted { "the package is deleted" } else { "the package is there" };
    Check::new("PACKAGE", !deleted, Said::of(seen), "a package that is not deleted")
}

/// The version that the device runs is one that the batch comes from.
fn version_check(seen: &Seen<'_>, accepted: bool, src_versions: &[String]) -> Check {
    let wanted = if src_versions.is_empty() {
        "any version".to_owned()
    } else {
        format!("one of {}", src_versions.join(", "))
    };
    Check::new("SOURCE_VERSION", accepted, seen.reported_said(), &wanted)
}
