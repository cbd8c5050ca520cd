//! Devices.

pub mod address;
pub mod batch_get_device_state;
pub mod batch_query_device_detail;
pub mod delete_device_prop;
pub mod get_device_status;
pub mod query_device;
pub mod query_device_by_tags;
pub mod query_device_cert;
pub mod query_device_detail;
pub mod query_device_info;
pub mod query_device_prop;
pub mod query_device_statistics;
pub mod register_device;
pub mod save_device_prop;
pub mod tags;
