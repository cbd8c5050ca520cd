//! Where devices are: here, at another node, or nowhere.

use super::Door;
use updraft_core::id::{DeviceNo, TaskNo};
use updraft_store::StoreError;

/// Where a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// A push from here reaches it now.
    Here,
    /// It is connected to another node, which sees to it as soon as its deadline says so.
    Elsewhere,
    /// Nothing reaches it.
    Nowhere,
}

impl Door<'_, '_> {
    /// Looks which devices are at other nodes, if there are others.
    pub(super) fn look_elsewhere(
        &mut self,
        devices: impl Iterator<Item = DeviceNo>,
    ) -> Result<(), StoreError> {
        if !self.app.nodes.is_shared() {
            return Ok(());
        }
        let devices: Vec<DeviceNo> = devices.filter(|device| !self.elsewhere.contains_key(device)).collect();
        for place in self.tx.device_places(&devices)? {
            let there = place.online && self.app.nodes.is_other(place.node());
            self.elsewhere.insert(place.device, there);
        }
        Ok(())
    }

    /// Where a device is. A login that is left over here counts for nothing once the device has logged in at another
    /// node: what was sent down its connection would be lost.
    pub fn reach(&mut self, device: DeviceNo) -> Result<Reach, StoreError> {
        if !self.elsewhere.contains_key(&device) {
            // With those of all others in hand: each may be asked for next.
            let all: Vec<DeviceNo> = self.by_device.keys().copied().chain([device]).collect();
            self.look_elsewhere(all.into_iter())?;
        }
        let there = self.elsewhere.get(&device).copied().unwrap_or_default();
        Ok(match there {
            true => Reach::Elsewhere,
            false if self.app.link.listening(device) => Reach::Here,
            false => Reach::Nowhere,
        })
    }

    /// Whether a push would reach the device of a task in hand now, from here or from another node.
    pub fn is_reached(&mut self, no: TaskNo) -> Result<bool, StoreError> {
        let Some(device) = self.task(no).map(|task| task.device) else { return Ok(false) };
        Ok(self.reach(device)? != Reach::Nowhere)
    }
}
