//! How long a batch would take and how much it would send: from its pace and schedule, and from how the last batches
//! of the product went.
//!
//! A device that is connected is pushed at its slot and then takes as long as one of the past did. The batch has ended
//! when the slowest has, so a few slow ones among many decide: its end is the latest of many draws from the past, and
//! not the last push and a median. Who is not connected begins when it comes, which nobody can foresee.

use crate::pace::Slots;
use crate::task::TaskStatus;
use crate::time::{SECOND_MS, Timestamp};

/// How tasks of the past went.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Past {
    took_ms: Vec<i64>,
    succeeded: i64,
    retries: i64,
    open: i64,
}

impl Past {
    /// Adds a task: where it stands, how many attempts were repeated, when its device was told, if it is known, and
    /// when it last changed. What ended before its device was told, or was cancelled, says nothing of devices.
    pub fn add(
        &mut self,
        status: TaskStatus,
        retries: i64,
        told_at: Option<Timestamp>,
        changed_at: Timestamp,
    ) {
        let Some(told_at) = told_at else { return };
        match status {
            TaskStatus::Succeeded | TaskStatus::Failed => {
                let took_ms = changed_at.since_ms(told_at).max(0);
                self.took_ms.insert(self.took_ms.partition_point(|other| *other <= took_ms), took_ms);
                self.succeeded += i64::from(status == TaskStatus::Succeeded);
                self.retries += retries;
            }
            TaskStatus::Notified | TaskStatus::InProgress => self.open += 1,
            TaskStatus::Confirm | TaskStatus::Queued | TaskStatus::Canceled => {}
        }
    }

    /// How many have ended.
    pub fn ended(&self) -> i64 {
        self.took_ms.len() as i64
    }

    /// How many of those have succeeded.
    pub fn succeeded(&self) -> i64 {
        self.succeeded
    }

    /// How many were told and have not ended.
    pub fn open(&self) -> i64 {
        self.open
    }

    /// The time that `percent` of the ended ones took at most.
    pub fn took_ms(&self, percent: usize) -> Option<i64> {
        let rank = (self.took_ms.len() * percent).div_ceil(100).max(1);
        self.took_ms.get(rank - 1).copied()
    }

    /// How many attempts a device makes on average if `count` may be repeated: attempts fail as often as they did.
    fn attempts(&self, count: i64) -> Option<f64> {
        let ended = self.ended();
        let failed = (self.retries + ended - self.succeeded) as f64 / (self.retries + ended) as f64;
        (ended > 0).then(|| (0..=count).map(|again| failed.powi(again as i32)).sum())
    }
}

/// What of a batch decides how long it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rollout {
    /// MaximumPerMinute.
    pub per_minute: i64,
    /// When it may push first.
    pub start: Timestamp,
    /// From when on it tells nobody.
    pub finish: Option<Timestamp>,
    /// Whether devices are told without asking and without consent.
    pub pushes: bool,
    /// How often a failed attempt is repeated.
    pub retries: i64,
    /// Devices that it is for.
    pub devices: i64,
    /// How many of them are connected.
    pub online: i64,
    /// Bytes of the package.
    pub bytes_each: i64,
    /// Bytes a second that all downloads share, if they are capped.
    pub cap: Option<i64>,
    /// Bytes a second of one download, if that is capped.
    pub cap_each: Option<i64>,
}

/// When the pushes to connected devices would go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pushes {
    /// How many there are.
    pub told: i64,
    /// How many devices there would be no time for (ScheduleFinishTime).
    pub too_late: i64,
    /// The first and the last one, if there is any.
    pub span: Option<(Timestamp, Timestamp)>,
    /// Milliseconds that the downloads take longer than the pushes, since they share a bandwidth.
    pub stretch_ms: i64,
    /// When half, and nine tenths, of such batches would have ended for these devices; unknown without a past.
    pub end: Option<(Timestamp, Timestamp)>,
}

/// What would be downloaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Bytes, if each device downloads the package once.
    pub once: i64,
    /// Bytes, if attempts fail as often as in the past and are repeated as the batch says; unknown without a past.
    pub expected: Option<i64>,
    /// Bytes a second while devices are told at the batch's pace.
    pub per_second: i64,
}

impl Rollout {
    /// The pushes; `None`: it tells nobody by itself.
    pub fn pushes(&self, past: &Past) -> Option<Pushes> {
        if !self.pushes {
            return None;
        }
        let slots = Slots::new(self.per_minute, self.start);
        let in_time = self.finish.map_or(i64::MAX, |finish| slots.until(finish.plus_ms(-1)));
        let told = self.online.min(in_time);
        let span = (told > 0).then(|| (slots.at(0), slots.at(told - 1)));
        let stretch_ms = self.cap.zip(span).map_or(0, |(cap, (first, last))| {
            let all = i128::from(told) * i128::from(self.bytes_each);
            (transfer_ms(all, cap) - last.since_ms(first)).max(0)
        });
        let floor_ms = self.cap_each.map_or(0, |cap| transfer_ms(self.bytes_each.into(), cap));
        let takes: Vec<i64> = past.took_ms.iter().map(|took| *took.max(&floor_ms)).collect();
        let end = |percent: f64| end(slots, told, &takes, percent).plus_ms(stretch_ms);
        let end = (span.is_some() && !takes.is_empty()).then(|| (end(0.5), end(0.9)));
        Some(Pushes { told, too_late: self.online - told, span, stretch_ms, end })
    }

    /// The downloads.
    pub fn load(&self, past: &Past) -> Load {
        let once = self.bytes_each.saturating_mul(self.devices);
        Load {
            once,
            expected: past.attempts(self.retries).map(|attempts| (once as f64 * attempts).round() as i64),
            per_second: self.bytes_each.saturating_mul(self.per_minute) / 60,
        }
    }
}

fn transfer_ms(bytes: i128, per_second: i64) -> i64 {
    let ms = bytes.saturating_mul(SECOND_MS.into()) / i128::from(per_second.max(1));
    i64::try_from(ms).unwrap_or(i64::MAX)
}

/// The moment by which all of the first `count` slots' devices have ended with this probability, if each takes as
/// long as any of `takes`, which are sorted.
fn end(slots: Slots, count: i64, takes: &[i64], probability: f64) -> Timestamp {
    let (Some(shortest), Some(longest)) = (takes.first(), takes.last()) else { return slots.at(0) };
    let last = slots.at(count - 1);
    // Every device has ended `longest` after its slot, and none before `shortest` after it.
    let (mut early, mut late) = (last.plus_ms(*shortest - 1), last.plus_ms(*longest));
    while late.since_ms(early) > 1 {
        let middle = early.plus_ms(late.since_ms(early) / 2);
        if ln_all_ended(slots, count, takes, middle) >= probability.ln() {
            late = middle;
        } else {
            early = middle;
        }
    }
    late
}

/// The logarithm of the probability that all have ended at `moment`, from the last slot's shortest on.
fn ln_all_ended(slots: Slots, count: i64, takes: &[i64], moment: Timestamp) -> f64 {
    let told = |before_ms: i64| slots.until(moment.plus_ms(-before_ms)).min(count);
    // Between two neighbouring times of the past the share that would have ended is the same.
    let pairs = takes.iter().zip(takes.iter().skip(1)).zip(1_usize..);
    pairs
        .map(|((short, long), rank)| {
            let devices = told(*short) - told(*long);
            devices as f64 * (rank as f64 / takes.len() as f64).ln()
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const START: Timestamp = Timestamp(1_000_000);

    const ROLLOUT: Rollout = Rollout {
        per_minute: 61,
        start: START,
        finish: None,
        pushes: true,
        retries: 0,
        devices: 20,
        online: 10,
        bytes_each: 6_000,
        cap: None,
        cap_each: None,
    };

    fn past(took_ms: &[i64]) -> Past {
        let mut past = Past::default();
        for took in took_ms {
            past.add(TaskStatus::Succeeded, 0, Some(START), START.plus_ms(*took));
        }
        past
    }

    #[test]
    fn only_tasks_whose_devices_were_told_tell_of_devices() {
        use TaskStatus::{Canceled, Failed, InProgress, Notified, Queued, Succeeded};
        let mut past = Past::default();
        for status in [Succeeded, Succeeded, Failed, InProgress, Notified, Queued, Canceled] {
            past.add(status, 1, Some(START), START.plus_ms(7));
            past.add(status, 1, None, START.plus_ms(9));
        }
        assert_eq!((past.ended(), past.succeeded(), past.open()), (3, 2, 2));
        assert_eq!((past.took_ms(50), past.took_ms(100)), (Some(7), Some(7)));
        assert_eq!(Past::default().took_ms(50), None);
        let many = self::past(&[10, 9, 8, 7, 6, 5, 4, 3, 2, 1]);
        assert_eq!(
            [0, 10, 50, 90, 91, 100].map(|percent| many.took_ms(percent).unwrap()),
            [1, 1, 5, 9, 10, 10]
        );
    }

    #[test]
    fn the_pace_decides_when_connected_devices_are_told() {
        let pushes = ROLLOUT.pushes(&Past::default()).unwrap();
        assert_eq!((pushes.told, pushes.too_late), (10, 0));
        assert_eq!(pushes.span, Some((START, START.plus_ms(9_000))));
        assert_eq!(pushes.end, None, "nothing is known of how long a device takes");
        // The slot at the finish time itself is too late.
        let finish = Some(START.plus_ms(4_000));
        let pushes = Rollout { finish, ..ROLLOUT }.pushes(&past(&[500])).unwrap();
        assert_eq!((pushes.told, pushes.too_late), (4, 6));
        assert_eq!(pushes.span, Some((START, START.plus_ms(3_000))));
        assert_eq!(pushes.end, Some((START.plus_ms(3_500), START.plus_ms(3_500))));
        let nobody = Rollout { online: 0, ..ROLLOUT }.pushes(&past(&[500])).unwrap();
        assert_eq!((nobody.told, nobody.span, nobody.end), (0, None, None));
        assert_eq!(Rollout { pushes: false, ..ROLLOUT }.pushes(&past(&[500])), None);
    }

    #[test]
    fn a_few_slow_devices_among_many_decide_about_the_end() {
        // One in ten takes an hour.
        let mut took = [60_000; 10];
        took[9] = 3_600_000;
        let end = |online| Rollout { online, ..ROLLOUT }.pushes(&past(&took)).unwrap().end.unwrap();
        let (median, most) = end(1);
        assert_eq!((median.since_ms(START), most.since_ms(START)), (60_000, 60_000));
        let (median, most) = end(100);
        assert!(median.since_ms(START) > 3_600_000 && most > median, "{median:?} {most:?}");
        assert!(most.since_ms(START) <= 99_000 + 3_600_000);
    }

    #[test]
    fn a_bandwidth_that_is_too_small_stretches_the_downloads() {
        // Ten packages of 6,000 bytes in nine seconds; 3,000 bytes a second take twenty.
        let pushes = Rollout { cap: Some(3_000), ..ROLLOUT }.pushes(&past(&[500])).unwrap();
        assert_eq!(pushes.stretch_ms, 11_000);
        assert_eq!(pushes.end.unwrap().0.since_ms(START), 9_500 + 11_000);
        let wide = Rollout { cap: Some(1_000_000), ..ROLLOUT }.pushes(&past(&[500])).unwrap();
        assert_eq!(wide.stretch_ms, 0);
        // Nobody is quicker than its own cap allows.
        let each = Rollout { cap_each: Some(1_000), ..ROLLOUT }.pushes(&past(&[500, 9_000])).unwrap();
        assert!(each.end.unwrap().0.since_ms(START) >= 9_000 + 6_000);
    }

    #[test]
    fn attempts_are_expected_to_fail_as_often_as_they_did() {
        let load = |retries, past: &Past| Rollout { retries, ..ROLLOUT }.load(past);
        assert_eq!(load(0, &Past::default()), Load { once: 120_000, expected: None, per_second: 6_100 });
        assert_eq!(load(5, &past(&[1, 2])).expected, Some(120_000));
        // Two devices: one needed two attempts, and one failed at its only one. Two attempts of three have failed.
        let mut past = past(&[]);
        past.add(TaskStatus::Succeeded, 1, Some(START), START);
        past.add(TaskStatus::Failed, 0, Some(START), START);
        assert_eq!(load(0, &past).expected, Some(120_000));
        assert_eq!(load(1, &past).expected, Some(200_000));
    }

    proptest! {
        #[test]
        fn the_end_is_that_of_each_device_by_itself(
            took in prop::collection::vec(0_i64..5_000, 1..8),
            online in 1_i64..40,
            per_minute in 10_i64..10_000,
        ) {
            let past = past(&took);
            let rollout = Rollout { per_minute, online, ..ROLLOUT };
            let (median, most) = rollout.pushes(&past).unwrap().end.unwrap();
            let slots = Slots::new(per_minute, START);
            // One by one: the share of the past that was as quick as each would have to be.
            let all_ended = |at: Timestamp| -> f64 {
                (0..online)
                    .map(|n| {
                        let within = at.since_ms(slots.at(n));
                        past.took_ms.iter().filter(|took| **took <= within).count() as f64 / took.len() as f64
                    })
                    .product()
            };
            for (end, probability) in [(median, 0.5), (most, 0.9)] {
                prop_assert!(all_ended(end) >= probability - 1e-9);
                prop_assert!(all_ended(end.plus_ms(-1)) < probability + 1e-9);
            }
        }

        #[test]
        fn nothing_overflows(
            per_minute in 10_i64..=10_000,
            online in 0_i64..=i64::MAX,
            bytes_each in 0_i64..=i64::MAX,
            start in 0_i64..=i64::MAX,
            took in 0_i64..=i64::MAX,
        ) {
            let rollout = Rollout {
                per_minute, online, bytes_each, devices: online, start: Timestamp(start), cap: Some(1), cap_each: Some(1),
                ..ROLLOUT
            };
            let mut past = Past::default();
            past.add(TaskStatus::Failed, 3, Some(Timestamp(0)), Timestamp(took));
            let _ = (rollout.pushes(&past), rollout.load(&past));
        }
    }
}
