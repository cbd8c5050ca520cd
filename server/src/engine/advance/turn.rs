//! One module at a time: which of a device's tasks it is told of now (`core/src/turn.rs` decides).
//!
//! The wait of a task is a row (`hold_until`), and whoever ends the reason for it, in whatever way, offers it in the
//! same transaction.

use super::{Door, Downlink, Reach};
use crate::engine::terms;
use std::collections::BTreeSet;
use updraft_core::id::{DeviceNo, TaskNo};
use updraft_core::task::{Event, Task, TaskStatus};
use updraft_core::time::Timestamp;
use updraft_core::turn;
use updraft_store::StoreError;

impl Door<'_, '_> {
    /// Sends a listening device what it needs of all its tasks in hand, which are all that it has.
    pub fn offer_all(&mut self, device: DeviceNo) -> Result<(), StoreError> {
        let mut tasks = self.open_of(device);
        tasks.sort_by_key(|task| turn::order(task));
        for no in tasks.into_iter().map(|task| task.no).collect::<Vec<_>>() {
            self.offer(no)?;
        }
        Ok(())
    }

    /// Sends a listening device a task now, or notes that it waits for its turn.
    pub(super) fn push_in_turn(&mut self, no: TaskNo) -> Result<(), StoreError> {
        match self.waits(no)? {
            Some(until) => self.apply(no, &Event::Hold(until)).map(|_| ()),
            None => self.push(no),
        }
    }

    pub(super) fn push(&mut self, no: TaskNo) -> Result<(), StoreError> {
        if !self.apply(no, &Event::Push)? {
            return Ok(());
        }
        if self.begins_a_turn(no) {
            self.apply(no, &Event::Turn)?;
        }
        if let Some((revision, package, device)) = self.package(no) {
            let downlink = Downlink::Push { task: no, revision, package, id: self.now.0 };
            self.effects.downlinks.push((device, downlink));
        }
        Ok(())
    }

    /// Whether that the device was told again is to be noted, so that others wait: not if there are none, but for
    /// another attempt. What it was told for the first time has its turn from that.
    pub(super) fn begins_a_turn(&self, no: TaskNo) -> bool {
        let Some(task) = self.task(no) else { return false };
        let alone = self.open_of(task.device).len() == 1;
        task.hold_until.is_some()
            || (!alone || task.retries > 0) && !turn::claims(task, self.now, self.turn_ms())
    }

    /// Until when a task in hand must wait for its turn, if it must.
    pub(super) fn waits(&mut self, no: TaskNo) -> Result<Option<Timestamp>, StoreError> {
        let Some(device) = self.task(no).map(|task| task.device) else { return Ok(None) };
        if !self.whole.contains(&device) {
            self.load_devices(&[device])?;
        }
        let Some(task) = self.task(no) else { return Ok(None) };
        Ok(turn::wait(task, self.open_of(device), self.now, self.turn_ms()))
    }

    fn turn_ms(&self) -> i64 {
        terms::turn_ms(&self.app.config)
    }

    pub(super) fn open_of(&self, device: DeviceNo) -> Vec<&Task> {
        let open = |no: &TaskNo| self.task(*no).filter(|task| task.status.is_open());
        self.by_device.get(&device).into_iter().flatten().filter_map(open).collect()
    }

    /// Takes all unfinished tasks of these devices in hand, as far as they are not.
    pub(super) fn make_whole(&mut self, devices: BTreeSet<DeviceNo>) -> Result<(), StoreError> {
        let missing: Vec<DeviceNo> =
            devices.into_iter().filter(|device| !self.whole.contains(device)).collect();
        if missing.is_empty() { Ok(()) } else { self.load_devices(&missing) }
    }

    /// Offers the tasks that waited for one that ended here, or that waits for its next attempt now.
    pub(super) fn pass_turns_on(&mut self) -> Result<(), StoreError> {
        let mut freed = BTreeSet::new();
        for held in self.tasks.values().filter(|held| held.task.revision != held.revision_before) {
            let told = |status| matches!(status, TaskStatus::Notified | TaskStatus::InProgress);
            let device = held.task.device;
            let over = !held.task.status.is_open() || held.task.retry_at.is_some();
            // Who was not told before can have been told here only with all tasks of its device in hand.
            if over && (told(held.status_before) || self.whole.contains(&device)) {
                freed.insert(device);
            }
        }
        self.make_whole(freed.clone())?;
        for device in freed {
            if self.open_of(device).iter().any(|task| task.hold_until.is_some())
                && self.reach(device)? != Reach::Nowhere
            {
                let mut waiting = self.open_of(device);
                waiting.retain(|task| task.hold_until.is_some());
                waiting.sort_by_key(|task| turn::order(task));
                for no in waiting.into_iter().map(|task| task.no).collect::<Vec<_>>() {
                    self.offer(no)?;
                }
            }
        }
        Ok(())
    }
}
