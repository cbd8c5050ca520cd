//! Devices.

pub mod address;
pub mod get_device_status;
pub mod query_device;
pub mod query_device_detail;
pub mod register_device;
