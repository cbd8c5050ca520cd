//! Which other nodes live: told by their beats, and by no clock but the watcher's own stopwatch.
//!
//! A node beats in the database. Who looks there and finds the beat of another one unchanged for long enough gives that
//! one up; but only who could look all the time knows that the other one could not beat: while the database is away
//! nobody beats, and nobody may be given up for it.

use std::collections::BTreeMap;

/// What is known of one other node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Watched {
    beat: i64,
    /// Since when it has had this beat, by the stopwatch.
    since_ms: i64,
}

/// Watches the other nodes.
#[derive(Debug, Clone)]
pub struct Lookout {
    /// Without a beat for so long, a node is given up.
    lease_ms: i64,
    /// Between two looks may lie so much, or the watcher itself was away.
    gap_ms: i64,
    last_look_ms: Option<i64>,
    watched: BTreeMap<i64, Watched>,
}

impl Lookout {
    /// Gives nodes up that have not beaten for `lease_ms` while a look was taken at least every `gap_ms`.
    pub fn new(lease_ms: i64, gap_ms: i64) -> Self {
        Self { lease_ms, gap_ms, last_look_ms: None, watched: BTreeMap::new() }
    }

    /// Looks at the other nodes and their beats; answers who is to be given up. `now_ms` is of a stopwatch that never
    /// goes back.
    pub fn look(&mut self, nodes: &[(i64, i64)], now_ms: i64) -> Vec<i64> {
        let was_away = self.last_look_ms.is_none_or(|last| now_ms - last > self.gap_ms);
        self.last_look_ms = Some(now_ms);
        let before = std::mem::take(&mut self.watched);
        for (id, beat) in nodes {
            let since_ms = match before.get(id) {
                Some(known) if known.beat == *beat && !was_away => known.since_ms,
                _ => now_ms,
            };
            self.watched.insert(*id, Watched { beat: *beat, since_ms });
        }
        let silent = |(_, known): &(&i64, &Watched)| now_ms - known.since_ms >= self.lease_ms;
        self.watched.iter().filter(silent).map(|(id, _)| *id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookout() -> Lookout {
        Lookout::new(10_000, 3_000)
    }

    #[test]
    fn who_beats_is_never_given_up() {
        let mut lookout = lookout();
        for second in 0..100 {
            assert_eq!(lookout.look(&[(1, second)], second * 1_000), [0_i64; 0]);
        }
    }

    #[test]
    fn who_falls_silent_is_given_up_when_the_lease_is_over_and_not_before() {
        let mut lookout = lookout();
        for second in 0..10 {
            assert_eq!(lookout.look(&[(1, 7), (2, second)], second * 1_000), [0_i64; 0], "second {second}");
        }
        assert_eq!(lookout.look(&[(1, 7), (2, 10)], 10_000), [1]);
        assert_eq!(lookout.look(&[(2, 10)], 11_000), [0_i64; 0], "it has left, or was taken out");
    }

    #[test]
    fn one_beat_begins_a_new_lease() {
        let mut lookout = lookout();
        for second in 0..10 {
            lookout.look(&[(1, 7)], second * 1_000);
        }
        lookout.look(&[(1, 8)], 9_999);
        for second in 10..19 {
            assert_eq!(lookout.look(&[(1, 8)], second * 1_000), [0_i64; 0]);
        }
        assert_eq!(lookout.look(&[(1, 8)], 19_999), [1]);
    }

    #[test]
    fn who_could_not_look_gives_nobody_up_for_that_time() {
        let mut lookout = lookout();
        lookout.look(&[(1, 7)], 0);
        assert_eq!(lookout.look(&[(1, 7)], 3_000), [0_i64; 0]);
        assert_eq!(
            lookout.look(&[(1, 7)], 60_000),
            [0_i64; 0],
            "the database was away, for the other one too"
        );
        for second in 61..70 {
            assert_eq!(lookout.look(&[(1, 7)], second * 1_000), [0_i64; 0]);
        }
        assert_eq!(lookout.look(&[(1, 7)], 70_000), [1]);
    }

    #[test]
    fn a_look_in_time_is_no_absence() {
        let mut lookout = lookout();
        for look in 0..4 {
            assert_eq!(lookout.look(&[(1, 7)], look * 3_000), [0_i64; 0]);
        }
        assert_eq!(lookout.look(&[(1, 7)], 12_000), [1]);
    }
}
