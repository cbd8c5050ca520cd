//! Devices.

pub mod query_device_detail;
pub mod register_device;
