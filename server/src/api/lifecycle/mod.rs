//! The life of a device: whether it may connect, its end, registration in bulk.

pub mod apply;
pub mod batch_check_device_names;
pub mod batch_register_device;
pub mod batch_register_device_with_apply_id;
pub mod delete_device;
pub mod disable_thing;
pub mod enable_thing;
pub mod query_batch_register_device_status;
pub mod query_page_by_apply_id;
pub mod reset_thing;
