//! The life of a device: whether it may connect, its end, registration in bulk.

pub mod delete_device;
pub mod disable_thing;
pub mod enable_thing;
pub mod reset_thing;
