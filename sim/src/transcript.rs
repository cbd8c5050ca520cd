//! What happened, line by line: a hash of all of it, and the last lines (or all) for people.

use sha2::{Digest as _, Sha256};
use std::collections::VecDeque;
use std::fmt::Display;
use updraft_core::time::{HOUR_MS, MINUTE_MS, SECOND_MS, Timestamp};

/// Lines that a failure shows.
const TAIL_LINES: usize = 120;

/// The record of one world.
pub(crate) struct Transcript {
    start: Timestamp,
    hash: Sha256,
    kept: VecDeque<String>,
    keep_all: bool,
    lines: u64,
}

impl Transcript {
    pub(crate) fn new(start: Timestamp, keep_all: bool) -> Self {
        Self { start, hash: Sha256::new(), kept: VecDeque::new(), keep_all, lines: 0 }
    }

    /// Notes one line.
    pub(crate) fn note(&mut self, now: Timestamp, text: impl Display) {
        let line = format!("{} {text}", since(now.since_ms(self.start)));
        self.hash.update(line.as_bytes());
        self.hash.update(b"\n");
        self.lines += 1;
        self.kept.push_back(line);
        if !self.keep_all && self.kept.len() > TAIL_LINES {
            self.kept.pop_front();
        }
    }

    /// Lines so far.
    pub(crate) fn lines(&self) -> u64 {
        self.lines
    }

    /// The hash of all lines so far.
    pub(crate) fn hash(&self) -> String {
        hex::encode(self.hash.clone().finalize())
    }

    /// The kept lines.
    pub(crate) fn text(&self) -> String {
        self.kept.iter().fold(String::new(), |text, line| text + line + "\n")
    }
}

fn since(ms: i64) -> String {
    let day = 24 * HOUR_MS;
    let (hours, minutes) = (ms % day / HOUR_MS, ms % HOUR_MS / MINUTE_MS);
    let (seconds, rest) = (ms % MINUTE_MS / SECOND_MS, ms % SECOND_MS);
    format!("{}d {hours:02}:{minutes:02}:{seconds:02}.{rest:03}", ms / day)
}
