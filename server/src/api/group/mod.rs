//! Device groups.

pub mod batch_add_device_group_relations;
pub mod batch_delete_device_group_relations;
pub mod create_device_dynamic_group;
pub mod create_device_group;
pub mod delete;
pub mod delete_device_dynamic_group;
pub mod delete_device_group;
pub mod kind;
pub mod query_device_group_by_device;
pub mod query_device_group_info;
pub mod query_device_group_list;
pub mod query_device_list_by_device_group;
pub mod query_dynamic_group_devices;
pub mod query_super_device_group;
pub mod relations;
pub mod update_device_group;
