//! At most so many calls in any second: an exact sliding window.

use crate::time::{SECOND_MS, Timestamp};
use std::collections::VecDeque;

/// The calls of one account to one operation within the last second.
///
/// It remembers at most `limit` moments, so its memory is bounded by the quota itself. Unlike a token
/// bucket it never lets a burst and the following refill add up to more than the limit within a
/// second.
#[derive(Debug, Default, Clone)]
pub struct CallWindow {
    taken: VecDeque<Timestamp>,
}

impl CallWindow {
    /// The window of calls that were taken at these moments, oldest first.
    pub fn of(taken: impl IntoIterator<Item = Timestamp>) -> Self {
        Self { taken: taken.into_iter().collect() }
    }

    /// The moments of the calls in it, oldest first.
    pub fn moments(&self) -> impl Iterator<Item = Timestamp> {
        self.taken.iter().copied()
    }

    /// Takes one call of at most `limit` a second, or says in how many milliseconds to try again.
    pub fn take(&mut self, limit: u32, now: Timestamp) -> Result<(), i64> {
        // Calls meet here in another order than they read the clock: a slightly older one counts as now.
        let now = match self.taken.back() {
            Some(last) if (0..SECOND_MS).contains(&last.since_ms(now)) => *last,
            _ => now,
        };
        // A clock that was set back must not lock the account out for the length of the jump.
        while self.taken.back().is_some_and(|last| *last > now) {
            self.taken.pop_back();
        }
        while self.taken.front().is_some_and(|first| now.since_ms(*first) >= SECOND_MS) {
            self.taken.pop_front();
        }
        if self.taken.len() >= limit as usize {
            let wait = self.taken.front().map_or(SECOND_MS, |first| SECOND_MS - now.since_ms(*first));
            return Err(wait.max(1));
        }
        self.taken.push_back(now);
        Ok(())
    }

    /// Whether the window holds no call younger than a second, so it may be forgotten.
    pub fn is_idle(&self, now: Timestamp) -> bool {
        self.taken.back().is_none_or(|last| now.since_ms(*last) >= SECOND_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_eleventh_call_in_a_second_waits() {
        let mut window = CallWindow::default();
        for call in 0..10 {
            assert_eq!(window.take(10, Timestamp(call * 10)), Ok(()));
        }
        assert_eq!(window.take(10, Timestamp(100)), Err(900));
        assert_eq!(window.take(10, Timestamp(1_000)), Ok(()));
        assert_eq!(window.take(10, Timestamp(1_000)), Err(10));
    }

    #[test]
    fn a_window_is_kept_as_its_moments_and_counts_on() {
        let mut window = CallWindow::default();
        window.take(2, Timestamp(5)).unwrap();
        window.take(2, Timestamp(7)).unwrap();
        let kept: Vec<Timestamp> = window.moments().collect();
        assert_eq!(kept, [Timestamp(5), Timestamp(7)]);
        let mut again = CallWindow::of(kept);
        assert_eq!(again.take(2, Timestamp(8)), Err(997));
        assert_eq!(again.take(2, Timestamp(1_005)), Ok(()));
    }

    #[test]
    fn a_call_that_read_the_clock_earlier_forgets_no_later_one() {
        let mut window = CallWindow::default();
        for _ in 0..10 {
            window.take(10, Timestamp(1_000)).unwrap();
        }
        assert_eq!(window.take(10, Timestamp(995)), Err(1_000));
    }

    #[test]
    fn a_clock_set_back_does_not_lock_out() {
        let mut window = CallWindow::default();
        for _ in 0..10 {
            window.take(10, Timestamp(1_000_000)).unwrap();
        }
        let mut by_a_second = window.clone();
        assert_eq!(window.take(10, Timestamp(5)), Ok(()));
        assert_eq!(by_a_second.take(10, Timestamp(999_000)), Ok(()));
    }

    #[test]
    fn a_window_is_idle_once_its_last_call_is_a_second_old() {
        let mut window = CallWindow::default();
        assert!(window.is_idle(Timestamp(0)));
        window.take(10, Timestamp(500)).unwrap();
        assert!(!window.is_idle(Timestamp(1_499)) && window.is_idle(Timestamp(1_500)));
    }

    proptest! {
        #[test]
        fn no_second_ever_holds_more_than_the_limit(steps in prop::collection::vec(0_i64..400, 1..200)) {
            let mut window = CallWindow::default();
            let mut now = Timestamp(0);
            let mut accepted: Vec<Timestamp> = Vec::new();
            for step in steps {
                now = now.plus_ms(step);
                if window.take(5, now).is_ok() {
                    accepted.push(now);
                }
            }
            for (index, first) in accepted.iter().enumerate() {
                let within = accepted[index..].iter().filter(|at| at.since_ms(*first) < SECOND_MS).count();
                prop_assert!(within <= 5);
            }
        }
    }
}
