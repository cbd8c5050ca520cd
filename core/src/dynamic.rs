//! Dynamic batches: which of them takes a device in, and when. A function of what is stored, whoever asks.

use crate::id::{GroupNo, JobNo};
use crate::job::{Conduct, DynamicMode};
use crate::limits::DYNAMIC_MATCHES_MAX;
use crate::target::is_for;
use crate::task::TaskStatus;
use crate::time::Timestamp;

/// What a running dynamic batch asks of devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy<'a> {
    /// The batch.
    pub job: JobNo,
    /// When it takes devices in, and of which group.
    pub conduct: Conduct,
    /// When it was made.
    pub since: Timestamp,
    /// The versions that devices may come from; empty: any, also one that was never told.
    pub src_versions: &'a [String],
    /// The version that it leads to.
    pub dest_version: &'a str,
}

/// A version that a device reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reported<'a> {
    /// The version.
    pub version: &'a str,
    /// When it was reported last.
    pub at: Timestamp,
}

/// Why a device does not fit a dynamic batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misfit {
    /// It is for none that runs this version, or that never told one ([`is_for`]).
    Version,
    /// The device is not in the batch's group.
    Group,
    /// The device has reported no version since the batch was made.
    NotReportedSince,
}

impl Policy<'_> {
    /// Whether a device fits that last reported this of the package's module and is in the groups for which
    /// `is_member` says so. Whether it gets a task is another question ([`is_due`]).
    pub fn fits(&self, reported: Option<Reported<'_>>, is_member: impl Fn(GroupNo) -> bool) -> bool {
        self.misfit(reported, is_member).is_none()
    }

    /// The first reason why it does not.
    pub fn misfit(
        &self,
        reported: Option<Reported<'_>>,
        is_member: impl Fn(GroupNo) -> bool,
    ) -> Option<Misfit> {
        let told_since = reported.is_some_and(|reported| reported.at >= self.since);
        if !is_for(reported.map(|reported| reported.version), self.src_versions, self.dest_version) {
            return Some(Misfit::Version);
        }
        if !self.conduct.group.is_none_or(is_member) {
            return Some(Misfit::Group);
        }
        (self.conduct.dynamic == Some(DynamicMode::Later) && !told_since).then_some(Misfit::NotReportedSince)
    }
}

/// Which of the dynamic batches for a module, newest first, a device follows: the first that it fits. Its place among
/// them.
pub fn followed<'p>(
    policies: impl IntoIterator<Item = Policy<'p>>,
    reported: Option<Reported<'_>>,
    is_member: impl Fn(GroupNo) -> bool,
) -> Option<usize> {
    policies.into_iter().position(|policy| policy.fits(reported, &is_member))
}

/// A task that a device had or has in a dynamic batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Earlier {
    /// Where it stands.
    pub status: TaskStatus,
    /// When it last changed: when it ended, if it has.
    pub changed_at: Timestamp,
}

/// Whether a device that fits a dynamic batch is to get a task of it, after those that it had there (in their
/// order): not while one is open, not after a cancelled one, and again only if it reported its version since the
/// last one ended, [`DYNAMIC_MATCHES_MAX`] times in all.
pub fn is_due(earlier: &[Earlier], reported: Option<Reported<'_>>) -> bool {
    not_due(earlier, reported).is_none()
}

/// Why a device that fits a dynamic batch gets no task of it now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotDue {
    /// It has one that is open.
    Open,
    /// It had as many as there may be.
    TooOften,
    /// The last one was cancelled at this moment: that decision stands.
    Canceled(Timestamp),
    /// It has reported no version since the last one ended, at this moment.
    NotReportedSince(Timestamp),
}

/// The first reason why [`is_due`] says no.
pub fn not_due(earlier: &[Earlier], reported: Option<Reported<'_>>) -> Option<NotDue> {
    if earlier.iter().any(|task| task.status.is_open()) {
        return Some(NotDue::Open);
    }
    if earlier.len() >= DYNAMIC_MATCHES_MAX {
        return Some(NotDue::TooOften);
    }
    let last = earlier.iter().max_by_key(|task| task.changed_at)?;
    if last.status == TaskStatus::Canceled {
        return Some(NotDue::Canceled(last.changed_at));
    }
    let again = reported.is_some_and(|reported| reported.at > last.changed_at);
    (!again).then_some(NotDue::NotReportedSince(last.changed_at))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MADE: Timestamp = Timestamp(1_000);

    fn at(version: &str, ms: i64) -> Reported<'_> {
        Reported { version, at: Timestamp(ms) }
    }

    fn policy(mode: DynamicMode, group: Option<GroupNo>, src_versions: &[String]) -> Policy<'_> {
        let conduct = Conduct { dynamic: Some(mode), group, ..Conduct::default() };
        Policy { job: JobNo(1), conduct, since: MADE, src_versions, dest_version: "2.0" }
    }

    #[test]
    fn by_version_fits_who_last_reported_one_of_them() {
        let sources = ["1.0".to_owned(), "1.1".to_owned()];
        let fits = |reported| policy(DynamicMode::NowAndLater, None, &sources).fits(reported, |_| false);
        assert!(fits(Some(at("1.0", 1))) && fits(Some(at("1.1", 5_000))));
        assert!(!fits(Some(at("0.9", 5_000))) && !fits(Some(at("2.0", 5_000))) && !fits(None));
    }

    #[test]
    fn by_group_fits_every_member_that_does_not_run_the_version() {
        let of = policy(DynamicMode::NowAndLater, Some(GroupNo(7)), &[]);
        let fits = |reported, group| of.fits(reported, |asked| asked == GroupNo(group));
        assert!(fits(None, 7) && fits(Some(at("0.1", 1)), 7));
        assert!(!fits(Some(at("2.0", 1)), 7), "it runs the version");
        assert!(!fits(None, 8), "it is in another group");
        // A differential package asks for its source version in the group, too.
        let sources = ["1.0".to_owned()];
        let of = policy(DynamicMode::NowAndLater, Some(GroupNo(7)), &sources);
        assert!(of.fits(Some(at("1.0", 1)), |_| true));
        assert!(!of.fits(Some(at("1.1", 1)), |_| true) && !of.fits(None, |_| true));
    }

    #[test]
    fn the_later_mode_wants_a_report_since_the_batch_was_made() {
        let sources = ["1.0".to_owned()];
        for group in [None, Some(GroupNo(7))] {
            let of = policy(DynamicMode::Later, group, &sources);
            assert!(!of.fits(Some(at("1.0", 999)), |_| true));
            assert!(of.fits(Some(at("1.0", 1_000)), |_| true));
        }
        assert!(!policy(DynamicMode::Later, Some(GroupNo(7)), &[]).fits(None, |_| true));
    }

    #[test]
    fn a_device_follows_the_first_batch_that_it_fits() {
        let (new, old) = (["1.0".to_owned()], ["1.0".to_owned(), "0.9".to_owned()]);
        let follows = |version, group| {
            let batches = [
                policy(DynamicMode::NowAndLater, Some(GroupNo(7)), &[]),
                policy(DynamicMode::NowAndLater, None, &new),
                policy(DynamicMode::NowAndLater, None, &old),
            ];
            followed(batches, Some(at(version, 1)), |asked| asked == GroupNo(group))
        };
        assert_eq!((follows("1.0", 7), follows("1.0", 8), follows("0.9", 8)), (Some(0), Some(1), Some(2)));
        assert_eq!((follows("2.0", 7), follows("0.8", 8)), (None, None), "it fits none");
    }

    #[test]
    fn a_second_task_comes_after_a_report_that_came_after_the_first_ones_end() {
        let ended = |status| [Earlier { status, changed_at: Timestamp(50) }];
        assert!(is_due(&[], None), "the first one");
        for status in [TaskStatus::Failed, TaskStatus::Succeeded] {
            assert!(is_due(&ended(status), Some(at("1.0", 51))));
            // The report that ended the task is not one that came after it.
            assert!(!is_due(&ended(status), Some(at("1.0", 50))) && !is_due(&ended(status), None));
        }
        assert!(
            !is_due(&ended(TaskStatus::Canceled), Some(at("1.0", 99))),
            "a decision is not undone by a reboot"
        );
        for open in TaskStatus::ALL.into_iter().filter(|status| status.is_open()) {
            assert!(!is_due(&ended(open), Some(at("1.0", 99))), "{open:?}");
        }
    }

    #[test]
    fn of_several_tasks_the_one_that_changed_last_decides() {
        let task = |status, ms| Earlier { status, changed_at: Timestamp(ms) };
        let again = [task(TaskStatus::Canceled, 10), task(TaskStatus::Failed, 20)];
        assert!(is_due(&again, Some(at("1.0", 21))));
        // The first one was put back in line and cancelled.
        let canceled = [task(TaskStatus::Canceled, 30), task(TaskStatus::Failed, 20)];
        assert!(!is_due(&canceled, Some(at("1.0", 31))));
    }

    #[test]
    fn a_device_is_matched_ten_times_at_most() {
        let many = |count| vec![Earlier { status: TaskStatus::Failed, changed_at: Timestamp(1) }; count];
        assert!(is_due(&many(DYNAMIC_MATCHES_MAX - 1), Some(at("1.0", 2))));
        assert!(!is_due(&many(DYNAMIC_MATCHES_MAX), Some(at("1.0", 2))));
    }
}
