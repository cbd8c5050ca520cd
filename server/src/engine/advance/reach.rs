//! Where devices are: here, at another node, or nowhere.

use super::Door;
use crate::app::App;
use updraft_core::id::{DeviceNo, TaskNo};
use updraft_store::{DevicePlace, StoreError, Tx};

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

impl Reach {
    /// Where a device is. A login that is left over here counts for nothing once the device has logged in at another
    /// node: what was sent down its connection would be lost.
    pub fn of(tx: &mut Tx<'_>, app: &App, device: DeviceNo) -> Result<Self, StoreError> {
        let there = elsewhere(tx, app, &[device])?.into_iter().any(|(_, there)| there);
        Ok(Self::judge(app, device, there))
    }

    fn judge(app: &App, device: DeviceNo, elsewhere: bool) -> Self {
        match elsewhere {
            true => Self::Elsewhere,
            false if app.link.listening(device) => Self::Here,
            false => Self::Nowhere,
        }
    }
}

/// Of each of these devices, whether it is at another node, if there may be others.
fn elsewhere(tx: &mut Tx<'_>, app: &App, devices: &[DeviceNo]) -> Result<Vec<(DeviceNo, bool)>, StoreError> {
    if !app.nodes.is_shared() {
        return Ok(Vec::new());
    }
    let there = |place: DevicePlace| (place.device, place.online && app.nodes.is_other(place.node()));
    Ok(tx.device_places(devices)?.into_iter().map(there).collect())
}

impl Door<'_, '_> {
    /// Looks which devices are at other nodes, if there are others.
    pub(super) fn look_elsewhere(
        &mut self,
        devices: impl Iterator<Item = DeviceNo>,
    ) -> Result<(), StoreError> {
        let devices: Vec<DeviceNo> = devices.filter(|device| !self.elsewhere.contains_key(device)).collect();
        self.elsewhere.extend(elsewhere(self.tx, self.app, &devices)?);
        Ok(())
    }

    /// Where a device is, as [`Reach::of`] says.
    pub fn reach(&mut self, device: DeviceNo) -> Result<Reach, StoreError> {
        if !self.elsewhere.contains_key(&device) {
            // With those of all others in hand: each may be asked for next.
            let all: Vec<DeviceNo> = self.by_device.keys().copied().chain([device]).collect();
            self.look_elsewhere(all.into_iter())?;
        }
        let there = self.elsewhere.get(&device).copied().unwrap_or_default();
        Ok(Reach::judge(self.app, device, there))
    }

    /// Whether a push would reach the device of a task in hand now, from here or from another node.
    pub fn is_reached(&mut self, no: TaskNo) -> Result<bool, StoreError> {
        let Some(device) = self.task(no).map(|task| task.device) else { return Ok(false) };
        Ok(self.reach(device)? != Reach::Nowhere)
    }
}
