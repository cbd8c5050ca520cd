//! What must hold, by name. `docs/reliability.md` says where each is looked at.

/// Something that must hold whatever goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Invariant {
    /// `check`: open tasks of a device.
    OneOpenTask,
    /// `check`: moves of tasks.
    Forward,
    /// `check`: kept counts, and rows.
    Counts,
    /// `check`: states of batches.
    BatchEnds,
    /// `check`: states of packages.
    Verified,
    /// `check`: first pushes of a minute.
    Pace,
    /// `check/moves`: time-outs, and every other deadline.
    Timeouts,
    /// `check`: what was decided to be sent, and when.
    Allowed,
    /// `owns`: whose package it is.
    Own,
    /// `check`: what is written to the network.
    NotCancelled,
    /// `turns`.
    Turns,
    /// `takeover`.
    Takeover,
    /// `world`: disabled and deleted devices.
    Gone,
    /// `endpoint`: what devices were told is stored.
    Durable,
    /// `operator`, `packages`, `lives`, `rules`: what operators were told is stored.
    Answered,
    /// `history`: changes of tasks.
    History,
    /// `history`: events that were refused.
    Refusals,
    /// `explained`: what open tasks wait for.
    Explained,
    /// `quiet`: who is online.
    Presence,
    /// `quiet`, `groups`, `lives`: what operators are shown.
    Shown,
    /// `quiet`: tasks and batches at the end.
    Ends,
    /// `rules`: dynamic batches at the end.
    Rules,
}

impl Invariant {
    /// Every one.
    pub(crate) const ALL: [Self; 22] = [
        Self::OneOpenTask,
        Self::Forward,
        Self::Counts,
        Self::BatchEnds,
        Self::Verified,
        Self::Pace,
        Self::Timeouts,
        Self::Allowed,
        Self::Own,
        Self::NotCancelled,
        Self::Turns,
        Self::Takeover,
        Self::Gone,
        Self::Durable,
        Self::Answered,
        Self::History,
        Self::Refusals,
        Self::Explained,
        Self::Presence,
        Self::Shown,
        Self::Ends,
        Self::Rules,
    ];

    /// What holds, in words.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::OneOpenTask => "a device has one open task, or one for each module",
            Self::Forward => "tasks only go forward, and final states are final",
            Self::Counts => "counts equal rows",
            Self::BatchEnds => "a batch ends if and only if its tasks have",
            Self::Verified => "a package is what its verification makes of it",
            Self::Pace => "no minute has more first pushes than the batch allows",
            Self::Timeouts => "time-outs begin with the first progress and strike once, in time",
            Self::Own => "a package is of the device's product, instance and module",
            Self::Allowed => "only what may be sent is decided to be sent",
            Self::NotCancelled => "nothing is written for a cancelled task",
            Self::Turns => "a device is told of one module at a time",
            Self::Takeover => "a newer batch replaces what it may, and nothing else",
            Self::Gone => "a disabled or deleted device hears nothing",
            Self::Durable => "what was acknowledged to a device is stored",
            Self::Answered => "what was answered to an operator is stored",
            Self::History => "each change of a state has its line in the history",
            Self::Refusals => "each refusal is counted",
            Self::Explained => "what waits says for what, and since when",
            Self::Presence => "presence is stored as it is",
            Self::Shown => "operators are shown what is stored",
            Self::Ends => "everything that can end ends within its bound",
            Self::Rules => "dynamic batches overlook nobody",
        }
    }
}
