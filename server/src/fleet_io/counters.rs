//! What a fleet is doing, counted while it does it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;
use updraft_fleet::{Phase, Stats};

/// Shared by all devices of a fleet.
#[derive(Debug)]
pub(super) struct Counters {
    devices: u64,
    connected: AtomicU64,
    phases: [AtomicU64; Phase::ALL.len()],
    missing: AtomicU64,
    missing_most: AtomicU64,
    bytes_downloaded: AtomicU64,
    acknowledged: AtomicU64,
    pushes: AtomicU64,
    downloads: AtomicU64,
    connections: AtomicU64,
    refused: AtomicU64,
    started: AtomicU64,
    upgraded: AtomicU64,
    failed: AtomicU64,
    changed: std::sync::Arc<Notify>,
}

/// What a fleet is doing at one moment. The numbers are read one after another, so a device that is
/// just moving may be seen twice or not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// All devices.
    pub devices: u64,
    /// Devices with a connection.
    pub connected: u64,
    /// Devices that had a connection, lost it against their will and have no other yet.
    pub missing: u64,
    /// Devices in each phase, in the order of [`Phase::ALL`].
    pub phases: [u64; Phase::ALL.len()],
    /// Bytes of packages, of all downloads.
    pub bytes_downloaded: u64,
    /// Messages of devices that the server has acknowledged so far.
    pub acknowledged: u64,
    /// Pushes that arrived so far.
    pub pushes: u64,
    /// Files downloaded whole and found good so far.
    pub downloads: u64,
    /// Accepted connections so far.
    pub connections: u64,
    /// Connections so far that could not be made or were refused.
    pub refused: u64,
    /// Updates taken up so far.
    pub started: u64,
    /// Reboots into the offered version so far.
    pub upgraded: u64,
    /// Updates given up so far.
    pub failed: u64,
}

impl Snapshot {
    /// Devices in this phase.
    pub fn of(&self, phase: Phase) -> u64 {
        self.phases[phase as usize]
    }
}

impl Counters {
    pub(super) fn new(devices: u64) -> Self {
        let phases: [AtomicU64; Phase::ALL.len()] = Default::default();
        phases[Phase::Waiting as usize].store(devices, Relaxed);
        Self {
            devices,
            connected: AtomicU64::new(0),
            phases,
            missing: AtomicU64::new(0),
            missing_most: AtomicU64::new(0),
            bytes_downloaded: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            pushes: AtomicU64::new(0),
            downloads: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            started: AtomicU64::new(0),
            upgraded: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            changed: std::sync::Arc::default(),
        }
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let mut phases = [0; Phase::ALL.len()];
        for (number, counter) in phases.iter_mut().zip(&self.phases) {
            *number = counter.load(Relaxed);
        }
        Snapshot {
            devices: self.devices,
            connected: self.connected.load(Relaxed),
            phases,
            missing: self.missing.load(Relaxed),
            bytes_downloaded: self.bytes_downloaded.load(Relaxed),
            acknowledged: self.acknowledged.load(Relaxed),
            pushes: self.pushes.load(Relaxed),
            downloads: self.downloads.load(Relaxed),
            connections: self.connections.load(Relaxed),
            refused: self.refused.load(Relaxed),
            started: self.started.load(Relaxed),
            upgraded: self.upgraded.load(Relaxed),
            failed: self.failed.load(Relaxed),
        }
    }

    /// Ready after the next change; changes count from this call on.
    pub(super) fn changed(&self) -> OwnedNotified {
        std::sync::Arc::clone(&self.changed).notified_owned()
    }

    pub(super) fn downloaded(&self, bytes: u64) {
        self.bytes_downloaded.fetch_add(bytes, Relaxed);
    }

    pub(super) fn acknowledged(&self) {
        self.acknowledged.fetch_add(1, Relaxed);
        self.changed.notify_waiters();
    }

    /// A device lost its connection against its will, or has one again.
    pub(super) fn missing(&self, missing: bool) {
        if missing {
            let now = self.missing.fetch_add(1, Relaxed) + 1;
            self.missing_most.fetch_max(now, Relaxed);
        } else {
            self.missing.fetch_sub(1, Relaxed);
        }
        self.changed.notify_waiters();
    }

    /// The most devices that were missing at a time since the last call.
    pub(super) fn missing_most(&self) -> u64 {
        self.missing_most.swap(self.missing.load(Relaxed), Relaxed)
    }

    pub(super) fn refused(&self) {
        self.refused.fetch_add(1, Relaxed);
        self.changed.notify_waiters();
    }

    /// A device has changed from the first state to the second.
    pub(super) fn moved(&self, before: &State, after: &State) {
        if before == after {
            return;
        }
        if before.phase != after.phase {
            self.phases[before.phase as usize].fetch_sub(1, Relaxed);
            self.phases[after.phase as usize].fetch_add(1, Relaxed);
        }
        match (before.connected, after.connected) {
            (false, true) => self.connected.fetch_add(1, Relaxed),
            (true, false) => self.connected.fetch_sub(1, Relaxed),
            _ => 0,
        };
        self.connections.fetch_add(after.stats.connections - before.stats.connections, Relaxed);
        self.started.fetch_add(after.stats.started - before.stats.started, Relaxed);
        self.upgraded.fetch_add(after.stats.upgraded - before.stats.upgraded, Relaxed);
        self.failed.fetch_add(after.stats.failed - before.stats.failed, Relaxed);
        self.pushes.fetch_add(after.stats.pushes - before.stats.pushes, Relaxed);
        self.downloads.fetch_add(after.stats.downloads - before.stats.downloads, Relaxed);
        self.changed.notify_waiters();
    }
}

/// A device as the counters see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct State {
    pub(super) phase: Phase,
    pub(super) connected: bool,
    pub(super) stats: Stats,
}
