//! Pace: how many devices of a batch get the package in a minute (`MaximumPerMinute`).
//!
//! A batch hands out slots, evenly spaced; a device whose task is queued reserves one and is pushed
//! when it comes. Even spacing also keeps a fleet from downloading in one burst at the start of each
//! minute.

use crate::time::{MINUTE_MS, Timestamp};

/// How late a slot may be used. A slot older than this (the server was down or overloaded) is given
/// back and reserved anew, so that a restart does not push all missed devices at once.
pub const SLOT_GRACE_MS: i64 = 1_000;

/// Slots are spaced so that the grace is paid for: within any minute, at most `per_minute` pushes.
fn spacing_us(per_minute: i64) -> i64 {
    (((MINUTE_MS + SLOT_GRACE_MS) * 1_000) as u64).div_ceil(per_minute.max(1) as u64) as i64
}

/// The next free slot of a batch, as stored with it, in microseconds since the epoch; 0 at first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pace {
    /// The earliest moment not yet reserved, in microseconds since the epoch.
    pub next_us: i64,
}

impl Pace {
    /// Reserves the next slot of a batch that serves `per_minute` devices a minute.
    pub fn reserve(&mut self, per_minute: i64, now: Timestamp) -> Timestamp {
        let slot_us = self.next_us.max(now.0.saturating_mul(1_000));
        self.next_us = slot_us.saturating_add(spacing_us(per_minute));
        // Rounded up: a slot is never used before its time.
        Timestamp(slot_us.saturating_add(999) / 1_000)
    }
}

impl Pace {
    /// Gives back the slots that nobody will use: the next one is as if the last had been used now.
    pub fn give_back(&mut self, per_minute: i64, now: Timestamp) {
        let soonest = now.0.saturating_mul(1_000).saturating_add(spacing_us(per_minute));
        self.next_us = self.next_us.min(soonest);
    }
}

/// The slots that an idle batch hands out one after another from a moment on, without handing them out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slots {
    from: Timestamp,
    spacing_us: i64,
}

impl Slots {
    /// Those of a batch that serves `per_minute` devices a minute.
    pub fn new(per_minute: i64, from: Timestamp) -> Self {
        Self { from, spacing_us: spacing_us(per_minute) }
    }

    /// The moment of slot `n`, counted from 0.
    pub fn at(self, n: i64) -> Timestamp {
        let after_us = n.saturating_mul(self.spacing_us);
        // Rounded up, as when it is reserved.
        self.from.plus_ms(after_us.saturating_add(999) / 1_000)
    }

    /// How many lie at this moment or before it.
    pub fn until(self, moment: Timestamp) -> i64 {
        let after_ms = moment.since_ms(self.from);
        if after_ms < 0 { 0 } else { (after_ms.saturating_mul(1_000) / self.spacing_us).saturating_add(1) }
    }
}

/// Whether a slot reserved for `slot` may still be used at `now`.
pub fn is_usable(slot: Timestamp, now: Timestamp) -> bool {
    (0..=SLOT_GRACE_MS).contains(&now.since_ms(slot))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_slot_is_now_and_the_next_one_is_spaced() {
        let mut pace = Pace::default();
        assert_eq!(pace.reserve(10, Timestamp(5_000)), Timestamp(5_000));
        assert_eq!(pace.reserve(10, Timestamp(5_000)), Timestamp(11_100));
    }

    #[test]
    fn a_slot_is_usable_from_its_time_on_for_the_grace() {
        let usable = |now| is_usable(Timestamp(10), Timestamp(now));
        assert!(!usable(9) && usable(10) && usable(10 + SLOT_GRACE_MS) && !usable(11 + SLOT_GRACE_MS));
    }

    #[test]
    fn unused_time_is_not_saved_up() {
        let mut pace = Pace::default();
        pace.reserve(10, Timestamp(0));
        assert_eq!(pace.reserve(10, Timestamp(500_000)), Timestamp(500_000));
        assert_eq!(pace.reserve(10, Timestamp(500_000)), Timestamp(506_100));
    }

    #[test]
    fn slots_given_back_are_free_again_but_no_sooner_than_after_one_used_now() {
        let mut pace = Pace::default();
        for _ in 0..1_000 {
            pace.reserve(10, Timestamp(5_000));
        }
        pace.give_back(10, Timestamp(7_000));
        assert_eq!(pace.reserve(10, Timestamp(7_000)), Timestamp(13_100));
        pace.give_back(10, Timestamp(500_000));
        assert_eq!(pace.reserve(10, Timestamp(500_000)), Timestamp(500_000), "idle time is not saved up");
    }

    proptest! {
        #[test]
        fn slots_are_foreseen_as_they_are_reserved(per_minute in 10_i64..10_001, count in 1_usize..300) {
            let (from, mut pace) = (Timestamp(7_000), Pace::default());
            let slots = Slots::new(per_minute, from);
            let reserved: Vec<Timestamp> = (0..count).map(|_| pace.reserve(per_minute, from)).collect();
            let foreseen: Vec<Timestamp> = (0..count).map(|n| slots.at(n as i64)).collect();
            prop_assert_eq!(&foreseen, &reserved);
            for moment in reserved.iter().flat_map(|at| [at.plus_ms(-1), *at]) {
                let found = reserved.iter().filter(|at| **at <= moment).count();
                prop_assert_eq!(slots.until(moment).min(count as i64), found as i64);
            }
        }

        #[test]
        fn no_minute_holds_more_than_the_limit(
            per_minute in 10_i64..400,
            gaps in prop::collection::vec((0_i64..2_000, 0_i64..=SLOT_GRACE_MS), 1..600),
        ) {
            let mut pace = Pace::default();
            let mut now = Timestamp(1_000_000);
            let mut used: Vec<i64> = Vec::new();
            for (gap, late) in gaps {
                now = now.plus_ms(gap);
                let slot = pace.reserve(per_minute, now);
                let at = slot.plus_ms(late);
                prop_assert!(is_usable(slot, at));
                used.push(at.0);
            }
            used.sort_unstable();
            for (index, first) in used.iter().enumerate() {
                let within = used[index..].iter().filter(|at| **at - first < MINUTE_MS).count();
                prop_assert!(within as i64 <= per_minute);
            }
        }
    }
}
