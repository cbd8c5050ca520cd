//! Who gets a task when a batch is expanded.

use crate::id::{DeviceNo, JobNo};
use crate::job::{Conduct, OverwriteMode};
use crate::task::{TaskStatus, accepts_source};
use std::fmt;

/// An unfinished task that a device has already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing<'a> {
    /// Its batch.
    pub job: JobNo,
    /// The module that it is for.
    pub module: &'a str,
    /// Where it stands.
    pub status: TaskStatus,
}

/// What is known of a device that a batch might be for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// The version of the package's module that the device last reported.
    pub version: Option<&'a str>,
    /// Its unfinished tasks.
    pub standing: &'a [Standing<'a>],
}

/// What a batch wants of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demand<'a> {
    /// The batch. One that is yet to be made is newer than all.
    pub job: JobNo,
    /// The versions that it may come from; empty: any.
    pub src_versions: &'a [String],
    /// The version that it leads to.
    pub dest_version: &'a str,
    /// The module that the package is for.
    pub module: &'a str,
    /// How it treats what it meets.
    pub conduct: Conduct,
    /// Whether its tasks are about to be cancelled: then they take nobody's place.
    pub unwanted: bool,
}

/// What a candidate gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// A queued task.
    Queue,
    /// A queued task, in place of all those in its way ([`in_the_way`]).
    Replace,
    /// None now, since the device is busy: a static batch's task fails at once.
    Busy,
    /// No task: the device already runs the version.
    SkipOnDestVersion,
    /// No task: the device runs none of the batch's source versions.
    SkipOtherSource,
}

/// Whether a batch from `src_versions` (empty: any) to `dest_version` is for a device that runs `version`.
pub fn is_for(version: Option<&str>, src_versions: &[String], dest_version: &str) -> bool {
    version != Some(dest_version) && accepts_source(src_versions, version)
}

/// Whether an unfinished task of a device for the module `other` stands in the way of a batch for `module`: any
/// does, but with MultiModuleMode only one for the same module.
pub fn in_the_way(conduct: &Conduct, module: &str, other: &str) -> bool {
    !conduct.multi_module || module == other
}

/// Whether an unfinished task of the batch `other` is there to stay when the batch `job` meets it: what a newer
/// batch decided is not undone by an older one, be it a rule that stands or a batch whose tasks are still being made.
pub fn yields_to(job: JobNo, other: JobNo) -> bool {
    other >= job
}

/// Decides for one candidate of a batch.
pub fn judge(candidate: &Candidate<'_>, demand: &Demand<'_>) -> Verdict {
    if candidate.version == Some(demand.dest_version) {
        return Verdict::SkipOnDestVersion;
    }
    if !accepts_source(demand.src_versions, candidate.version) {
        return Verdict::SkipOtherSource;
    }
    let conduct = &demand.conduct;
    let replaces = (conduct.multi_module || conduct.overwrite == OverwriteMode::Replace) && !demand.unwanted;
    let mut verdict = Verdict::Queue;
    for task in candidate.standing.iter().filter(|task| in_the_way(conduct, demand.module, task.module)) {
        // Who has begun is never interrupted, and then nothing is replaced at all.
        if !replaces || task.status == TaskStatus::InProgress || yields_to(demand.job, task.job) {
            return Verdict::Busy;
        }
        verdict = Verdict::Replace;
    }
    verdict
}

/// A share of devices, in thousandths of a percent: GrayPercent has three decimals at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GrayPercent(i64);

/// 100 percent.
const WHOLE: i64 = 100_000;

impl GrayPercent {
    /// Reads a text such as `33.33`: above 0, 100 at most, three decimals at most.
    pub fn parse(text: &str) -> Option<Self> {
        let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |part: &str, len: usize| {
            (1..=len).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit())
        };
        if !digits(whole, 3) || !digits(decimals, 3) {
            return None;
        }
        let thousandths: i64 = format!("{decimals:0<3}").parse().ok()?;
        Self::from_code(whole.parse::<i64>().ok()? * 1_000 + thousandths)
    }

    /// The number in the database.
    pub fn code(self) -> i64 {
        self.0
    }

    /// The share of a number in the database.
    pub fn from_code(code: i64) -> Option<Self> {
        (1..=WHOLE).contains(&code).then_some(Self(code))
    }

    /// How many of `candidates` the share is: rounded down, but at least one of any.
    pub fn of(self, candidates: usize) -> usize {
        let share = (candidates as u128 * self.0 as u128 / WHOLE as u128) as usize;
        share.max(1).min(candidates)
    }
}

impl fmt::Display for GrayPercent {
    /// Two decimals, as the platform shows them, and the third if there is one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / 1_000, self.0 % 1_000);
        if rest % 10 == 0 { write!(f, "{whole}.{:02}", rest / 10) } else { write!(f, "{whole}.{rest:03}") }
    }
}

/// A device's place in the draw of a gray batch. For one batch no two devices have the same place, and in
/// another batch a device has another place.
pub fn gray_rank(job: JobNo, device: DeviceNo) -> u64 {
    // The finaliser of SplitMix64: a permutation that leaves no pattern.
    fn mix(mut x: u64) -> u64 {
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }
    mix(mix(job.0 as u64 ^ 0x9e37_79b9_7f4a_7c15) ^ device.0 as u64)
}

/// The share of `candidates` that a gray batch takes: exactly as many as the percentage says, those with the
/// smallest ranks, in order of their numbers.
pub fn gray_choice(job: JobNo, mut candidates: Vec<DeviceNo>, percent: GrayPercent) -> Vec<DeviceNo> {
    let chosen = percent.of(candidates.len());
    if chosen < candidates.len() {
        candidates.select_nth_unstable_by_key(chosen, |device| gray_rank(job, *device));
        candidates.truncate(chosen);
    }
    candidates.sort_unstable();
    candidates
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::DownloadProtocol;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const QUEUED: Standing<'static> =
        Standing { job: JobNo(1), module: "default", status: TaskStatus::Queued };

    const DEMAND: Demand<'static> = Demand {
        job: JobNo(2),
        src_versions: &[],
        dest_version: "2.0",
        module: "default",
        conduct: Conduct {
            overwrite: OverwriteMode::Keep,
            multi_module: false,
            dynamic: None,
            group: None,
            download: DownloadProtocol::Https,
        },
        unwanted: false,
    };

    fn judge(version: Option<&str>, standing: &[Standing<'_>], src_versions: &[String]) -> Verdict {
        super::judge(&Candidate { version, standing }, &Demand { src_versions, ..DEMAND })
    }

    #[test]
    fn an_older_batch_does_not_undo_what_a_newer_one_decided() {
        assert!(yields_to(JobNo(1), JobNo(2)) && yields_to(JobNo(1), JobNo(1)));
        assert!(!yields_to(JobNo(2), JobNo(1)));
        let conduct = Conduct { overwrite: OverwriteMode::Replace, ..Conduct::default() };
        let meets = |job: i64, others: &[i64], unwanted| {
            let standing: Vec<Standing<'_>> =
                others.iter().map(|other| Standing { job: JobNo(*other), ..QUEUED }).collect();
            let candidate = Candidate { version: None, standing: &standing };
            super::judge(&candidate, &Demand { job: JobNo(job), conduct, unwanted, ..DEMAND })
        };
        assert_eq!(meets(5, &[3, 4], false), Verdict::Replace);
        assert_eq!(meets(5, &[3, 6], false), Verdict::Busy, "nor then what is older");
        assert_eq!(meets(5, &[5], false), Verdict::Busy);
        // Nor does one whose tasks are about to be cancelled take a place.
        assert_eq!(meets(5, &[3], true), Verdict::Busy);
        assert_eq!(meets(5, &[], true), Verdict::Queue);
    }

    #[test]
    fn devices_on_the_version_are_skipped_even_when_busy() {
        assert_eq!(judge(Some("2.0"), &[QUEUED], &[]), Verdict::SkipOnDestVersion);
        assert_eq!(judge(Some("1.0"), &[QUEUED], &[]), Verdict::Busy);
        assert_eq!(judge(Some("1.0"), &[], &[]), Verdict::Queue);
        assert_eq!(judge(None, &[], &[]), Verdict::Queue);
    }

    #[test]
    fn devices_with_another_source_version_are_skipped_even_when_busy() {
        let sources = ["1.0".to_owned(), "1.1".to_owned()];
        assert_eq!(judge(Some("1.1"), &[], &sources), Verdict::Queue);
        assert_eq!(judge(Some("1.1"), &[QUEUED], &sources), Verdict::Busy);
        assert_eq!(judge(Some("0.9"), &[QUEUED], &sources), Verdict::SkipOtherSource);
        assert_eq!(
            judge(None, &[], &sources),
            Verdict::SkipOtherSource,
            "who never told a version cannot be matched"
        );
        assert_eq!(judge(Some("2.0"), &[], &sources), Verdict::SkipOnDestVersion);
    }

    /// Every mode against every state of a task of the same module and of another one.
    #[test]
    fn what_a_batch_meets_is_kept_replaced_or_left_alone() {
        use TaskStatus::{Confirm, InProgress, Notified, Queued};
        let met = |multi_module, overwrite, standing: &[Standing<'_>]| {
            let conduct = Conduct { overwrite, multi_module, ..Conduct::default() };
            let demand = Demand { module: "radio", conduct, ..DEMAND };
            super::judge(&Candidate { version: Some("1.0"), standing }, &demand)
        };
        let same = |status| Standing { job: JobNo(1), module: "radio", status };
        let other = |status| Standing { job: JobNo(1), module: "default", status };
        for status in [Confirm, Queued, Notified, InProgress] {
            let replaced = if status == InProgress { Verdict::Busy } else { Verdict::Replace };
            for standing in [same(status), other(status)] {
                assert_eq!(met(false, OverwriteMode::Keep, &[standing]), Verdict::Busy);
                assert_eq!(met(false, OverwriteMode::Replace, &[standing]), replaced);
            }
            assert_eq!(met(true, OverwriteMode::Keep, &[same(status)]), replaced);
            assert_eq!(met(true, OverwriteMode::Keep, &[other(status)]), Verdict::Queue);
        }
        let both = [other(Queued), same(InProgress)];
        assert_eq!(met(false, OverwriteMode::Replace, &both), Verdict::Busy);
        assert_eq!(met(false, OverwriteMode::Replace, &[other(InProgress), same(Queued)]), Verdict::Busy);
        assert_eq!(met(true, OverwriteMode::Keep, &[other(InProgress), same(Queued)]), Verdict::Replace);
        assert_eq!(met(true, OverwriteMode::Keep, &both), Verdict::Busy);
    }

    #[test]
    fn percentages_are_read_and_shown_as_the_platform_does() {
        let shown = |text| GrayPercent::parse(text).map(|percent| percent.to_string());
        for (text, expected) in [
            ("33.33", "33.33"),
            ("50", "50.00"),
            ("100", "100.00"),
            ("100.0", "100.00"),
            ("0.001", "0.001"),
            ("7.125", "7.125"),
            ("007.1", "7.10"),
        ] {
            assert_eq!(shown(text).as_deref(), Some(expected), "{text}");
        }
        assert_eq!(GrayPercent::parse("33.334").map(GrayPercent::code), Some(33_334));
        for text in
            ["", "0", "0.000", "100.001", "101", "1.2345", "-1", "+1", "1.", ".5", "1e1", "1,5", "٣", "1000"]
        {
            assert_eq!(shown(text), None, "{text}");
        }
    }

    #[test]
    fn a_share_is_rounded_down_but_never_to_nobody() {
        let of = |text, n| GrayPercent::parse(text).unwrap().of(n);
        assert_eq!(of("33.33", 100), 33);
        assert_eq!(of("0.001", 10), 1);
        assert_eq!(of("100", 7), 7);
        assert_eq!(of("50", 1), 1);
        assert_eq!(of("50", 0), 0);
    }

    #[test]
    fn a_share_that_is_everybody_takes_everybody() {
        for (text, count) in [("100", 3), ("0.001", 1), ("50", 0)] {
            let candidates: Vec<DeviceNo> = (1..=count).map(DeviceNo).collect();
            let percent = GrayPercent::parse(text).unwrap();
            assert_eq!(gray_choice(JobNo(1), candidates.clone(), percent), candidates, "{text} of {count}");
        }
    }

    proptest! {
        #[test]
        fn a_gray_batch_takes_exactly_its_share_and_always_the_same(
            devices in prop::collection::btree_set(1_i64..100_000, 0..300),
            thousandths in 1_i64..=100_000,
            job in 1_i64..1_000,
        ) {
            let percent = GrayPercent::from_code(thousandths).unwrap();
            let candidates: Vec<DeviceNo> = devices.iter().copied().map(DeviceNo).collect();
            let mut shuffled = candidates.clone();
            shuffled.reverse();
            let chosen = gray_choice(JobNo(job), candidates.clone(), percent);
            prop_assert_eq!(chosen.len(), percent.of(devices.len()));
            prop_assert_eq!(&gray_choice(JobNo(job), shuffled, percent), &chosen);
            prop_assert!(chosen.is_sorted());
            let inside: BTreeSet<DeviceNo> = chosen.iter().copied().collect();
            let rank = |device: &DeviceNo| gray_rank(JobNo(job), *device);
            let worst = chosen.iter().map(rank).max();
            prop_assert!(candidates.iter().filter(|d| !inside.contains(d)).all(|d| Some(rank(d)) > worst));
        }
    }

    #[test]
    fn the_draw_is_that_of_split_mix_64() {
        // A server of another version that goes on with a batch must draw the same devices.
        for (job, device, rank) in [
            (0, 0, 0x4821_8226_ff3c_d4bf),
            (1, 1, 0x1943_8ae6_b813_b33d),
            (2, 1_000_000, 0x3826_ceda_f1eb_08b3),
        ] {
            assert_eq!(gray_rank(JobNo(job), DeviceNo(device)), rank);
        }
    }

    #[test]
    fn batches_draw_independently() {
        let candidates: Vec<DeviceNo> = (1..=1_000).map(DeviceNo).collect();
        let half = GrayPercent::parse("50").unwrap();
        let first: BTreeSet<DeviceNo> = gray_choice(JobNo(1), candidates.clone(), half).into_iter().collect();
        let both = gray_choice(JobNo(2), candidates, half).iter().filter(|d| first.contains(d)).count();
        assert!((180..320).contains(&both), "{both} of 500 are in both halves");
    }
}
