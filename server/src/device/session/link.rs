//! The registry as the engine's way to devices.

use super::{Ending, Sessions};
use crate::device::link::{DeviceLink, Downlink};
use std::sync::atomic::Ordering;
use updraft_core::id::{DeviceNo, TaskNo};

impl DeviceLink for Sessions {
    fn listening(&self, device: DeviceNo) -> bool {
        Self::listening(self, device)
    }

    fn send(&self, device: DeviceNo, downlink: Downlink) {
        // Whatever was not queued is offered again when the device next listens.
        let sent = Self::send(self, device, downlink);
        tracing::trace!(device = device.0, ?sent, "downlink");
    }

    fn withdraw(&self, device: DeviceNo, task: TaskNo, revision: i64) {
        Self::withdraw(self, device, task, revision);
    }

    fn kick(&self, device: DeviceNo) {
        Self::kick(self, device);
    }

    fn log_out(&self, device: DeviceNo) {
        Self::log_out(self, device);
    }

    fn end(&self, device: DeviceNo, session: i64) {
        Self::end(self, device, session);
    }

    fn cut_off(&self) {
        self.each(|session| session.end(Ending::CutOff));
    }

    fn renumber(&self, first: i64) {
        self.next_number.fetch_max(first, Ordering::SeqCst);
    }
}
