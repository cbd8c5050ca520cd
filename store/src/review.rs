//! Devices to look at again, because something changed that a group or a dynamic batch may ask for.

use crate::error::StoreError;
use crate::tx::{Column, Hot, Tx};
use crate::value::Value;
use updraft_core::id::DeviceNo;

const ADD: Hot = Hot {
    row: "INSERT INTO device_review (device) VALUES (?1) ON CONFLICT (device) DO NOTHING",
    set: "INSERT INTO device_review (device) SELECT DISTINCT * FROM unnest($1::bigint[]) AS n
          ON CONFLICT (device) DO NOTHING",
    columns: &[Column::Int],
};

const DONE: Hot = Hot {
    row: "DELETE FROM device_review WHERE device = ?1",
    set: "DELETE FROM device_review WHERE device = ANY($1::bigint[])",
    columns: &[Column::Int],
};

impl Tx<'_> {
    /// Notes devices that are to be looked at again.
    pub fn reviews_add(&mut self, devices: &[DeviceNo]) -> Result<(), StoreError> {
        let rows: Vec<Vec<Value<'_>>> = devices.iter().map(|device| vec![device.0.into()]).collect();
        self.exec_set(&ADD, &rows)?;
        Ok(())
    }

    /// Devices that are to be looked at again.
    pub fn reviews(&mut self, limit: i64) -> Result<Vec<DeviceNo>, StoreError> {
        self.query("SELECT device FROM device_review ORDER BY device LIMIT ?1", &[limit.into()], |row| {
            Ok(DeviceNo(row.int(0)?))
        })
    }

    /// These devices were looked at, in this transaction.
    pub fn reviews_done(&mut self, devices: &[DeviceNo]) -> Result<(), StoreError> {
        let rows: Vec<Vec<Value<'_>>> = devices.iter().map(|device| vec![device.0.into()]).collect();
        self.exec_set(&DONE, &rows)?;
        Ok(())
    }
}
