//! The blocks that one device has asked for and not got yet: how many, and how fast.

use super::file_download::Request;
use super::talk::Budget;
use crate::files::pace::Pace;
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use updraft_core::limits::MQTT_BLOCK_BYTES_MAX;

/// Most blocks that one device may ask for before it is answered; further questions are dropped.
const ASKED_MAX: usize = 16;

/// A device's questions for blocks.
pub struct Fetches {
    asked: VecDeque<Request>,
    pace: Budget,
    /// What holds back its bytes, and whether that was asked for.
    bandwidth: Option<Pace>,
    asked_bandwidth: bool,
    /// Bytes of the next block that were let through.
    passed: u64,
}

impl Fetches {
    /// None yet; `per_second` of them may be answered in a second, 0: any number.
    pub fn new(per_second: u32, now: Instant) -> Self {
        Self {
            asked: VecDeque::new(),
            pace: Budget::new(per_second, now),
            bandwidth: None,
            asked_bandwidth: false,
            passed: 0,
        }
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

    /// How long the next one must still wait for its time.
    pub fn wait(&mut self, now: Instant) -> Duration {
        self.pace.wait(now)
    }

    /// How long the next one must still wait for its bytes; what holds them back is asked for once.
    pub fn held_back(&mut self, bandwidth: impl FnOnce() -> Option<Pace>) -> Duration {
        if !self.asked_bandwidth {
            self.asked_bandwidth = true;
            self.bandwidth = bandwidth();
        }
        let bytes = u64::from(self.next_bytes());
        let Some(bandwidth) = &mut self.bandwidth else { return Duration::ZERO };
        while self.passed < bytes {
            match bandwidth.pass(bytes - self.passed) {
                Ok(passed) => self.passed += passed,
                Err(wait) => return wait,
            }
        }
        Duration::ZERO
    }

    /// Most bytes that the next block can have.
    pub fn next_bytes(&self) -> u32 {
        let size = self.asked.front().map_or(0, |next| next.wanted.size);
        u32::try_from(size.clamp(1, MQTT_BLOCK_BYTES_MAX)).unwrap_or(1)
    }

    /// The next one, which counts from now on.
    pub fn next(&mut self, now: Instant) -> Option<Request> {
        self.pace.allows(now);
        self.passed = 0;
        self.asked.pop_front()
    }
}
