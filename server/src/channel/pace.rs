//! How many messages a device may send by HTTP in a second. A device has no connection here that could remember it.

use parking_lot::Mutex;
use std::collections::HashMap;
use updraft_core::id::DeviceNo;
use updraft_core::time::{SECOND_MS, Timestamp};

/// The messages of the current second, by device: no more entries than messages in a second.
#[derive(Default)]
pub struct Paces(Mutex<Second>);

#[derive(Default)]
struct Second {
    number: i64,
    counts: HashMap<DeviceNo, u32>,
}

impl Paces {
    /// Counts a message; whether the device may send it. `per_second` 0: no limit.
    pub fn allows(&self, device: DeviceNo, per_second: u32, now: Timestamp) -> bool {
        if per_second == 0 {
            return true;
        }
        let number = now.0.div_euclid(SECOND_MS);
        let mut second = self.0.lock();
        if second.number != number {
            *second = Second { number, counts: HashMap::new() };
        }
        let count = second.counts.entry(device).or_default();
        *count = count.saturating_add(1);
        *count <= per_second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_device_has_its_own_second() {
        let paces = Paces::default();
        let allowed =
            |device, ms| (0..10).filter(|_| paces.allows(DeviceNo(device), 3, Timestamp(ms))).count();
        assert_eq!((allowed(1, 1_000), allowed(2, 1_999), allowed(1, 1_999)), (3, 3, 0));
        assert_eq!(allowed(1, 2_000), 3);
        // A clock that goes back locks nobody out.
        assert_eq!(allowed(1, 1_000), 3);
        assert!((0..99).all(|_| paces.allows(DeviceNo(1), 0, Timestamp(0))));
        assert_eq!(paces.0.lock().counts.len(), 1);
    }
}
