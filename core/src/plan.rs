//! What a batch would do, counted: its devices go through [`judge`] as at its creation, and nothing changes.

use crate::device::DeviceStatus;
use crate::id::DeviceNo;
use crate::target::{Candidate, Demand, Verdict, in_the_way, judge};
use std::collections::BTreeMap;

/// Devices that are named as examples of each fate.
pub const EXAMPLES_MAX: usize = 5;

/// What a batch would mean for a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// It gets a task.
    Queued,
    /// It gets a task in place of others.
    Replacing,
    /// It gets a task that fails at once: it is busy with another.
    Busy,
    /// It gets none: it runs the version.
    OnDestVersion,
    /// It gets none: it runs none of the source versions.
    OtherSource,
    /// It gets none: it never told a version, and the batch asks for one.
    NoVersion,
    /// It gets none: the share takes others.
    NotChosen,
}

impl Fate {
    /// Every fate.
    pub const ALL: [Self; 7] = [
        Self::Queued,
        Self::Replacing,
        Self::Busy,
        Self::OnDestVersion,
        Self::OtherSource,
        Self::NoVersion,
        Self::NotChosen,
    ];

    /// The name on the wire (ours).
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "QUEUED",
            Self::Replacing => "REPLACING",
            Self::Busy => "BUSY",
            Self::OnDestVersion => "ON_DEST_VERSION",
            Self::OtherSource => "OTHER_SRC_VERSION",
            Self::NoVersion => "NO_VERSION",
            Self::NotChosen => "NOT_CHOSEN",
        }
    }

    /// What it means, in words.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Queued => "is updated",
            Self::Replacing => "is updated; what waits for it in other batches is cancelled",
            Self::Busy => "its task fails at once: it is busy in another batch",
            Self::OnDestVersion => "runs the version already",
            Self::OtherSource => "runs none of the source versions",
            Self::NoVersion => "never told its version, and source versions are asked for",
            Self::NotChosen => "is not in the share",
        }
    }

    /// The fate of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fate| fate.name() == name)
    }

    /// What a verdict means for a device that last told `version`.
    pub fn of(verdict: Verdict, version: Option<&str>) -> Self {
        match verdict {
            Verdict::Queue => Self::Queued,
            Verdict::Replace => Self::Replacing,
            Verdict::Busy => Self::Busy,
            Verdict::SkipOnDestVersion => Self::OnDestVersion,
            Verdict::SkipOtherSource if version.is_none() => Self::NoVersion,
            Verdict::SkipOtherSource => Self::OtherSource,
        }
    }

    /// Whether the device would be updated.
    pub fn is_taken(self) -> bool {
        matches!(self, Self::Queued | Self::Replacing)
    }

    /// Whether it gets a task, be it one that fails at once.
    pub fn has_task(self) -> bool {
        self.is_taken() || self == Self::Busy
    }
}

/// The devices of one fate.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counted {
    /// How many.
    pub devices: i64,
    /// The first of them.
    pub examples: Vec<DeviceNo>,
}

/// What a batch would do, added up device by device.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tally {
    fates: BTreeMap<Fate, Counted>,
    present: BTreeMap<DeviceStatus, i64>,
    /// Tasks of others that would be cancelled.
    pub replaced: i64,
}

impl Tally {
    /// Judges a candidate and adds it.
    pub fn judge(
        &mut self,
        device: DeviceNo,
        status: DeviceStatus,
        candidate: &Candidate<'_>,
        demand: &Demand<'_>,
    ) {
        let fate = Fate::of(judge(candidate, demand), candidate.version);
        self.add(device, fate);
        if fate.is_taken() {
            *self.present.entry(status).or_default() += 1;
        }
        if fate == Fate::Replacing {
            let met = |module| in_the_way(&demand.conduct, demand.module, module);
            self.replaced += candidate.standing.iter().filter(|task| met(task.module)).count() as i64;
        }
    }

    /// Adds a device of a known fate that gets no task.
    pub fn add(&mut self, device: DeviceNo, fate: Fate) {
        let counted = self.fates.entry(fate).or_default();
        counted.devices += 1;
        if counted.examples.len() < EXAMPLES_MAX {
            counted.examples.push(device);
        }
    }

    /// The fates that there are, with their devices.
    pub fn fates(&self) -> impl Iterator<Item = (Fate, &Counted)> {
        self.fates.iter().map(|(fate, counted)| (*fate, counted))
    }

    /// How many devices of such fates there are.
    pub fn count(&self, wanted: impl Fn(Fate) -> bool) -> i64 {
        self.fates().filter(|(fate, _)| wanted(*fate)).map(|(_, counted)| counted.devices).sum()
    }

    /// How many of those that would be updated have this status.
    pub fn taken_with(&self, status: DeviceStatus) -> i64 {
        self.present.get(&status).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::JobNo;
    use crate::job::{Conduct, OverwriteMode};
    use crate::target::Standing;
    use crate::task::TaskStatus;

    const TASK: Standing<'static> = Standing { job: JobNo(1), module: "default", status: TaskStatus::Queued };

    fn tally(conduct: Conduct, sources: &[String], devices: &[(Option<&str>, &[Standing<'_>])]) -> Tally {
        let demand = Demand {
            job: JobNo(9),
            src_versions: sources,
            dest_version: "2.0",
            module: "default",
            conduct,
            unwanted: false,
        };
        let mut tally = Tally::default();
        for ((version, standing), no) in devices.iter().zip(1..) {
            let candidate = Candidate { version: *version, standing };
            tally.judge(DeviceNo(no), DeviceStatus::Offline, &candidate, &demand);
        }
        tally
    }

    #[test]
    fn each_device_has_one_fate_and_only_those_that_are_taken_have_a_presence() {
        let sources = ["1.0".to_owned()];
        let found = tally(
            Conduct::default(),
            &sources,
            &[
                (Some("1.0"), &[]),
                (Some("1.0"), &[TASK]),
                (Some("2.0"), &[]),
                (Some("0.9"), &[]),
                (None, &[]),
            ],
        );
        let fates: Vec<(Fate, i64)> = found.fates().map(|(fate, counted)| (fate, counted.devices)).collect();
        let expected = [Fate::Queued, Fate::Busy, Fate::OnDestVersion, Fate::OtherSource, Fate::NoVersion];
        assert_eq!(fates, expected.map(|fate| (fate, 1)));
        assert_eq!((found.count(Fate::has_task), found.count(Fate::is_taken)), (2, 1));
        assert_eq!(found.taken_with(DeviceStatus::Offline), 1);
        assert_eq!(found.taken_with(DeviceStatus::Online), 0);
    }

    #[test]
    fn replaced_tasks_are_those_in_the_way() {
        let radio = Standing { module: "radio", ..TASK };
        let at_work = Standing { status: TaskStatus::InProgress, ..TASK };
        let devices: &[(_, &[Standing<'_>])] =
            &[(None, &[TASK, radio]), (None, &[radio]), (None, &[at_work])];
        let of = |conduct| {
            let found = tally(conduct, &[], devices);
            let count = |wanted| found.count(|fate| fate == wanted);
            (count(Fate::Queued), count(Fate::Replacing), count(Fate::Busy), found.replaced)
        };
        assert_eq!(of(Conduct::default()), (0, 0, 3, 0));
        assert_eq!(of(Conduct { overwrite: OverwriteMode::Replace, ..Conduct::default() }), (0, 2, 1, 3));
        assert_eq!(of(Conduct { multi_module: true, ..Conduct::default() }), (1, 1, 1, 1));
    }

    #[test]
    fn the_first_of_a_fate_are_examples() {
        let many: Vec<(Option<&str>, &[Standing<'_>])> = vec![(None, &[]); EXAMPLES_MAX + 2];
        let found = tally(Conduct::default(), &[], &many);
        let (fate, counted) = found.fates().next().unwrap();
        assert_eq!((fate, counted.devices), (Fate::Queued, 7));
        assert_eq!(counted.examples, [1, 2, 3, 4, 5].map(DeviceNo));
    }

    #[test]
    fn a_fate_is_found_by_its_name() {
        for fate in Fate::ALL {
            assert_eq!(Fate::from_name(fate.name()), Some(fate));
        }
        assert_eq!(Fate::from_name("LOST"), None);
    }
}
