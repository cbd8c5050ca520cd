//! How downloads share a bandwidth: whoever wants to send next is given a moment for it.
//!
//! One line for all, first come, first served, with at most one piece of each download in it: so those that are
//! quick to come back take turns, piece by piece, and one that takes its bytes slowly leaves its turns to the others.
//! Pieces become small when many wait, so that nobody waits long for the next one.

use crate::time::{MILLI_US, SECOND_US};

/// Largest piece of a download, in bytes.
pub const PIECE_BYTES_MAX: i64 = 64 * 1024;
/// Smallest piece, in bytes: below it the work for each would cost more than the wait is worth.
pub const PIECE_BYTES_MIN: i64 = 1_024;
/// How long a round of all that wait should take at most, in microseconds.
const ROUND_US: i64 = SECOND_US / 2;
/// How much time that timers and threads lost may be made up for, in microseconds.
const CREDIT_US: i64 = 20 * MILLI_US;

/// A bandwidth that is shared. Moments are microseconds of any clock that does not go back.
#[derive(Debug, Clone)]
pub struct Share {
    per_second: i64,
    /// When the line is free, if nobody joins it.
    free_at_us: i64,
    waiting: i64,
}

impl Share {
    /// A share of this many bytes a second.
    pub fn new(per_second: i64) -> Self {
        Self { per_second: per_second.max(1), free_at_us: i64::MIN, waiting: 0 }
    }

    /// How many bytes one who joins the line now may ask for.
    pub fn piece(&self) -> i64 {
        let in_a_round = i128::from(self.per_second) * i128::from(ROUND_US) / i128::from(SECOND_US);
        let each = in_a_round / i128::from(self.waiting + 1);
        each.clamp(PIECE_BYTES_MIN.into(), PIECE_BYTES_MAX.into()) as i64
    }

    /// Joins the line with this many bytes; answers the moment to send them. Whoever is told a later moment than
    /// `now_us` is waiting until [`Share::leave`].
    pub fn join(&mut self, bytes: i64, now_us: i64) -> i64 {
        let at = self.free_at_us.max(now_us - CREDIT_US);
        let takes = i128::from(bytes.max(0)) * i128::from(SECOND_US) / i128::from(self.per_second);
        self.free_at_us = at.saturating_add(i64::try_from(takes).unwrap_or(i64::MAX));
        if at > now_us {
            self.waiting += 1;
        }
        at
    }

    /// One who was waiting has been served, or is gone.
    pub fn leave(&mut self) {
        self.waiting = (self.waiting - 1).max(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// A download: when it begins, and how long it takes to come back after each piece.
    #[derive(Clone, Copy)]
    struct Client {
        from_us: i64,
        pause_us: i64,
    }

    const QUICK: Client = Client { from_us: 0, pause_us: 200 };

    /// What each client got by second, on a clock of its own.
    fn run(per_second: i64, clients: &[Client], seconds: i64) -> Vec<Vec<i64>> {
        let mut share = Share::new(per_second);
        let mut got = vec![vec![0; seconds as usize]; clients.len()];
        // (moment, order) → client, bytes that it sends then, whether it waited.
        let mut events: BTreeMap<(i64, usize), (usize, i64, bool)> = BTreeMap::new();
        let mut order = clients.len();
        for (at, client) in clients.iter().enumerate() {
            events.insert((client.from_us, at), (at, 0, false));
        }
        while let Some(((now, _), (client, bytes, waited))) = events.pop_first() {
            if now >= seconds * SECOND_US {
                break;
            }
            order += 1;
            if waited {
                share.leave();
            }
            if bytes > 0 {
                got[client][(now / SECOND_US) as usize] += bytes;
                events.insert((now + clients[client].pause_us, order), (client, 0, false));
                continue;
            }
            let piece = share.piece();
            let at = share.join(piece, now);
            events.insert((at.max(now), order), (client, piece, at > now));
        }
        got
    }

    fn near(found: i64, expected: i64) -> bool {
        (found - expected).abs() * 20 <= expected
    }

    #[test]
    fn all_together_get_the_bandwidth_and_each_the_same() {
        for (per_second, count) in [(1_000_000, 1), (1_000_000, 7), (200_000, 50), (50_000_000, 3)] {
            let got = run(per_second, &vec![QUICK; count], 6);
            for second in 1..6 {
                let all: i64 = got.iter().map(|of| of[second]).sum();
                assert!(near(all, per_second), "{all} of {per_second} for {count}");
            }
            for of in &got {
                let mine: i64 = of[1..].iter().sum();
                let due = 5 * per_second / count as i64;
                assert!((mine - due).abs() <= due / 20 + PIECE_BYTES_MAX, "{mine} of {due} for {count}");
            }
        }
    }

    #[test]
    fn who_is_slow_leaves_its_share_to_the_others() {
        // It takes a piece, and then nothing for a second.
        let slow = Client { pause_us: SECOND_US, ..QUICK };
        let got = run(900_000, &[slow, QUICK, QUICK], 8);
        let of = |client: usize| got[client][1..].iter().sum::<i64>() / 7;
        assert!(of(0) <= PIECE_BYTES_MAX, "{}", of(0));
        assert!(of(0) >= 10_000, "it is not starved: {}", of(0));
        assert!(
            near(of(1), (900_000 - of(0)) / 2) && near(of(2), (900_000 - of(0)) / 2),
            "{} {}",
            of(1),
            of(2)
        );
    }

    #[test]
    fn who_is_new_has_its_share_within_a_second() {
        let late = Client { from_us: 3 * SECOND_US, ..QUICK };
        let mut clients = vec![QUICK; 99];
        clients.push(late);
        let got = run(2_000_000, &clients, 6);
        assert!(got[99][3] >= 10_000, "its first second: {}", got[99][3]);
        assert!(near(got[99][4], 20_000), "{}", got[99][4]);
    }

    #[test]
    fn an_idle_line_saves_nothing_up() {
        let mut share = Share::new(1_000);
        assert!(share.join(1_000, 0) <= 0);
        let later = 60 * SECOND_US;
        assert!(share.join(1_000, later) <= later, "at once");
        assert!(share.join(1_000, later) >= later + SECOND_US - CREDIT_US, "and no second's worth more");
    }

    #[test]
    fn what_timers_lost_is_made_up_for_by_20_ms_and_who_may_send_at_once_does_not_wait() {
        let mut share = Share::new(100_000);
        assert_eq!(share.join(2_000, 0), -20_000, "20 ms' worth of bytes");
        assert_eq!((share.join(1, 0), share.piece()), (0, 50_000), "half a second's worth for one");
        assert_eq!((share.join(1, 0), share.piece()), (10, 25_000), "it waits, so that there are two");
    }

    #[test]
    fn pieces_are_small_when_many_wait_and_never_absurd() {
        let mut share = Share::new(1_000_000);
        assert_eq!(share.piece(), PIECE_BYTES_MAX);
        for _ in 0..99 {
            share.join(PIECE_BYTES_MAX, 0);
        }
        assert!((5_000..6_000).contains(&share.piece()), "{}", share.piece());
        assert_eq!(Share::new(1).piece(), PIECE_BYTES_MIN);
        assert_eq!(Share::new(i64::MAX).piece(), PIECE_BYTES_MAX);
        let mut slow = Share::new(1);
        slow.join(i64::MAX, 0);
        assert!(slow.join(1, 0) > i64::MAX / 2, "for ever, and no overflow");
        for _ in 0..200 {
            share.leave();
        }
        assert_eq!(share.piece(), PIECE_BYTES_MAX);
    }
}
