//! Limits per address, pure: no clock, no I/O. [`crate::gate`] applies them to connections and calls.
//!
//! What strangers can make it remember is bounded: a table that is full of addresses of this minute forgets
//! nobody and learns nobody, so that a flood from many addresses never locks an honest one out.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

/// The length of a window, in milliseconds.
pub const WINDOW_MS: u64 = 60_000;
/// Most addresses that one table remembers: some megabytes.
pub const SOURCES_MAX: usize = 65_536;
/// A full table is swept at most this often, in milliseconds: a sweep looks at every entry.
const SWEEP_MS: u64 = 1_000;

/// Whom a limit is about: an IPv4 address, or the /64 network of an IPv6 address, which one host owns whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Source(IpAddr);

impl Source {
    /// The source that an address belongs to. An IPv4 address in IPv6 form is the IPv4 address.
    pub fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(v4) => IpAddr::V4(v4),
            IpAddr::V6(v6) => {
                let [a, b, c, d, ..] = v6.segments();
                IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
        })
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            IpAddr::V4(v4) => v4.fmt(f),
            IpAddr::V6(v6) => write!(f, "{v6}/64"),
        }
    }
}

/// Counts of things that happened, by source, within a minute that begins with the first of them.
#[derive(Debug)]
pub struct Windows {
    sources_max: usize,
    counts: HashMap<Source, Window>,
    swept_at: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Window {
    began: u64,
    count: u32,
}

impl Window {
    /// How long it goes on, in milliseconds; a clock that went back ends it.
    fn left(self, now: u64) -> Option<u64> {
        let age = now.checked_sub(self.began)?;
        WINDOW_MS.checked_sub(age).filter(|left| *left > 0)
    }
}

impl Windows {
    /// An empty table for at most `sources_max` sources.
    pub fn new(sources_max: usize) -> Self {
        Self { sources_max, counts: HashMap::new(), swept_at: None }
    }

    /// How often it happened to `source` in its window, and how many milliseconds are left of that.
    pub fn look(&self, source: Source, now: u64) -> Option<(u32, u64)> {
        let window = self.counts.get(&source)?;
        Some((window.count, window.left(now)?))
    }

    /// Counts once more; answers how often it has now happened in the window. `None`: the table is full.
    pub fn count(&mut self, source: Source, now: u64) -> Option<u32> {
        if let Some(window) = self.counts.get_mut(&source) {
            if window.left(now).is_none() {
                *window = Window { began: now, count: 0 };
            }
            window.count = window.count.saturating_add(1);
            return Some(window.count);
        }
        if self.counts.len() >= self.sources_max && !self.sweep(now) {
            return None;
        }
        self.counts.insert(source, Window { began: now, count: 1 });
        Some(1)
    }

    /// Forgets windows that are over; whether there is room now.
    fn sweep(&mut self, now: u64) -> bool {
        if self.swept_at.is_some_and(|at| now.checked_sub(at).is_some_and(|age| age < SWEEP_MS)) {
            return false;
        }
        self.swept_at = Some(now);
        self.counts.retain(|_, window| window.left(now).is_some());
        self.counts.len() < self.sources_max
    }

    /// How many sources are remembered.
    pub fn len(&self) -> usize {
        self.counts.len()
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }
}

/// How many things of each source are open at this moment; as large as what is open, no larger.
#[derive(Debug, Default)]
pub struct Open(HashMap<Source, u32>);

impl Open {
    /// Opens one more, unless `source` has `limit` already.
    pub fn enter(&mut self, source: Source, limit: u32) -> bool {
        let count = self.0.entry(source).or_default();
        if *count >= limit {
            // With a limit of 0 the entry was made just now.
            if *count == 0 {
                self.0.remove(&source);
            }
            return false;
        }
        *count += 1;
        true
    }

    /// Closes one that was opened.
    pub fn leave(&mut self, source: Source) {
        if let Some(count) = self.0.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(&source);
            }
        }
    }

    /// How many sources have something open.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is open.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn source(text: &str) -> Source {
        Source::of(text.parse().unwrap())
    }

    #[test]
    fn a_host_is_one_source_whatever_it_calls_itself() {
        assert_eq!(source("2001:db8:1:2::1"), source("2001:db8:1:2:ffff::9"));
        assert_ne!(source("2001:db8:1:2::1"), source("2001:db8:1:3::1"));
        assert_eq!(source("::ffff:10.0.0.1"), source("10.0.0.1"));
        assert_ne!(source("10.0.0.1"), source("10.0.0.2"));
        assert_eq!(source("2001:db8:1:2::1").to_string(), "2001:db8:1:2::/64");
        assert_eq!(source("::ffff:10.0.0.1").to_string(), "10.0.0.1");
    }

    #[test]
    fn a_window_begins_with_the_first_and_ends_a_minute_later() {
        let mut windows = Windows::new(10);
        let a = source("10.0.0.1");
        assert_eq!(windows.look(a, 5), None);
        assert_eq!(windows.count(a, 1_000), Some(1));
        assert_eq!(windows.count(a, 60_999), Some(2));
        assert_eq!(windows.look(a, 60_999), Some((2, 1)));
        assert_eq!(windows.look(a, 61_000), None);
        assert_eq!(windows.count(a, 61_000), Some(1));
        // A clock that goes back starts anew instead of locking out for ever.
        assert_eq!(windows.look(a, 500), None);
        assert_eq!(windows.count(a, 500), Some(1));
    }

    #[test]
    fn a_full_table_keeps_whom_it_knows_and_has_room_again_later() {
        let mut windows = Windows::new(2);
        let (a, b, c) = (source("10.0.0.1"), source("10.0.0.2"), source("10.0.0.3"));
        windows.count(a, 0);
        windows.count(b, 30_000);
        assert_eq!(windows.count(c, 30_000), None);
        assert_eq!(windows.count(a, 30_000), Some(2));
        assert_eq!(windows.count(c, 60_000), Some(1), "the first one's minute is over");
        assert_eq!(windows.look(a, 60_000), None);
        assert_eq!(windows.look(b, 60_000), Some((1, 30_000)));
    }

    #[test]
    fn a_limit_of_open_things_holds_and_frees() {
        let mut open = Open::default();
        let a = source("10.0.0.1");
        assert!(open.enter(a, 2) && open.enter(a, 2));
        assert!(!open.enter(a, 2));
        assert!(open.enter(source("10.0.0.2"), 2), "another one's count");
        open.leave(a);
        assert!(open.enter(a, 2));
        assert!(!open.enter(source("10.0.0.3"), 0));
        assert_eq!(open.len(), 2);
    }

    proptest! {
        /// Against a list of everything that happened: exact while there is room, and never above its bound.
        #[test]
        fn windows_count_exactly_and_stay_small(
            steps in prop::collection::vec((0_u8..6, 0_u64..40_000), 1..200),
            room in 1_usize..8,
        ) {
            let mut windows = Windows::new(room);
            let mut model: HashMap<u8, Vec<u64>> = HashMap::new();
            let mut now = 0;
            for (who, pause) in steps {
                now += pause;
                let counted = windows.count(source(&format!("10.0.0.{who}")), now);
                prop_assert!(windows.len() <= room);
                let times = model.entry(who).or_default();
                if times.first().is_some_and(|began| now - began >= WINDOW_MS) {
                    times.clear();
                }
                match counted {
                    Some(count) => {
                        times.push(now);
                        prop_assert_eq!(count as usize, times.len());
                    }
                    None => prop_assert!(room < 6 && times.is_empty()),
                }
            }
        }

        /// Whatever order: no source has more open than its limit, and when all have left nothing is kept.
        #[test]
        fn open_things_never_exceed_the_limit(steps in prop::collection::vec((0_u8..4, any::<bool>()), 0..200)) {
            let mut open = Open::default();
            let mut model = [0_u32; 4];
            for (who, enters) in steps {
                let (at, count) = (source(&format!("10.0.0.{who}")), &mut model[usize::from(who)]);
                if enters {
                    prop_assert_eq!(open.enter(at, 3), *count < 3);
                    *count = (*count + 1).min(3);
                } else if *count > 0 {
                    open.leave(at);
                    *count -= 1;
                }
                prop_assert_eq!(open.len(), model.iter().filter(|count| **count > 0).count());
            }
        }
    }
}
