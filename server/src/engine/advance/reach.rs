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
    /// Looks for devices at other nodes that are not connected here, if there are others.
    pub(super) fn look_elsewhere(
        &mut self,
        devices: impl Iterator<Item = DeviceNo>,
    ) -> Result<(), StoreError> {
        if !self.app.nodes.is_shared() {
            return Ok(());
        }
        let unknown =
            |device: &DeviceNo| !self.elsewhere.contains_key(device) && !self.app.link.listening(*device);
        let devices: Vec<DeviceNo> = devices.filter(unknown).collect();
        for place in self.tx.device_places(&devices)? {
            let there = place.online && self.app.nodes.is_other(place.node());
            self.elsewhere.insert(place.device, there);
        }
        Ok(())
    }

    /// Where a device is.
    pub fn reach(&mut self, device: DeviceNo) -> Result<Reach, StoreError> {
        if self.app.link.listening(device) {
            return Ok(Reach::Here);
        }
        self.look_elsewhere(std::iter::once(device))?;
        let there = self.elsewhere.get(&device).copied().unwrap_or_default();
        Ok(if there { Reach::Elsewhere } else { Reach::Nowhere })
    }

    /// Whether a push would reach the device of a task in hand now, from here or from another node.
    pub fn is_reached(&mut self, no: TaskNo) -> Result<bool, StoreError> {
        let Some(device) = self.task(no).map(|task| task.device) else { return Ok(false) };
        Ok(self.reach(device)? != Reach::Nowhere)
    }
}
