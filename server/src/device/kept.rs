//! Sessions whose devices are away, until they come back or their time is over.

use super::session::Session;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use updraft_core::id::DeviceNo;

/// How many sessions are kept without their connections, and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keeping {
    /// Longest time, in seconds; 0: none is kept.
    pub seconds: u32,
    /// Most sessions; beyond it the one whose time is over first goes.
    pub sessions: usize,
}

impl Default for Keeping {
    fn default() -> Self {
        Self { seconds: 7 * 24 * 60 * 60, sessions: 100_000 }
    }
}

/// The kept sessions.
pub struct KeptSessions {
    max: usize,
    /// The times at which they end, in milliseconds.
    ends: HashMap<DeviceNo, u64>,
    by_end: BTreeMap<(u64, DeviceNo), Arc<Session>>,
}

impl KeptSessions {
    /// None yet, and never more than `max`.
    pub fn new(max: usize) -> Self {
        Self { max, ends: HashMap::new(), by_end: BTreeMap::new() }
    }

    /// Keeps a session until `end`, in place of any other one of its device.
    pub fn keep(&mut self, session: Arc<Session>, end: u64) {
        let device = session.device;
        self.take(device, 0);
        self.ends.insert(device, end);
        self.by_end.insert((end, device), session);
        while self.by_end.len() > self.max
            && let Some(((_, device), _)) = self.by_end.pop_first()
        {
            self.ends.remove(&device);
        }
    }

    /// Takes a device's session out; `None` if there is none, or its time is over.
    pub fn take(&mut self, device: DeviceNo, now: u64) -> Option<Arc<Session>> {
        let end = self.ends.remove(&device)?;
        self.by_end.remove(&(end, device)).filter(|_| end > now)
    }

    /// A device's session, if its time is not over.
    pub fn get(&self, device: DeviceNo, now: u64) -> Option<&Arc<Session>> {
        let end = *self.ends.get(&device)?;
        self.by_end.get(&(end, device)).filter(|_| end > now)
    }

    /// Drops the sessions whose time is over.
    pub fn expire(&mut self, now: u64) {
        while let Some(first) = self.by_end.first_entry()
            && first.key().0 <= now
        {
            self.ends.remove(&first.key().1);
            first.remove();
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_end.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_end.is_empty()
    }
}
