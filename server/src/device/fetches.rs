//! The blocks that one device has asked for and not got yet: how many, and how fast.

use super::file_download::Request;
use super::talk::Budget;
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use updraft_core::limits::MQTT_BLOCK_BYTES_MAX;

/// Most blocks that one device may ask for before it is answered; further questions are dropped.
const ASKED_MAX: usize = 16;

/// A device's questions for blocks.
pub struct Fetches {
    asked: VecDeque<Request>,
    pace: Budget,
}

impl Fetches {
    /// None yet; `per_second` of them may be answered in a second, 0: any number.
    pub fn new(per_second: u32, now: Instant) -> Self {
        Self { asked: VecDeque::new(), pace: Budget::new(per_second, now) }
    }

    /// Whether no more may be asked for now.
    pub fn is_full(&self) -> bool {
        self.asked.len() >= ASKED_MAX
    }

    /// Takes a question.
    pub fn ask(&mut self, request: Request) {
        self.asked.push_back(request);
    }

    /// Whether none waits for its answer.
    pub fn is_empty(&self) -> bool {
        self.asked.is_empty()
    }

    /// How long the next one must still wait.
    pub fn wait(&mut self, now: Instant) -> Duration {
        self.pace.wait(now)
    }

    /// Most bytes that the next block can have.
    pub fn next_bytes(&self) -> u32 {
        let size = self.asked.front().map_or(0, |next| next.wanted.size);
        u32::try_from(size.clamp(1, MQTT_BLOCK_BYTES_MAX)).unwrap_or(1)
    }

    /// The next one, which counts from now on.
    pub fn next(&mut self, now: Instant) -> Option<Request> {
        self.pace.allows(now);
        self.asked.pop_front()
    }
}
