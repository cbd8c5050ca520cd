//! Modules: the parts of a product's devices that have versions of their own.

pub mod create_ota_module;
pub mod delete_ota_module;
pub mod list_ota_module_by_product;
pub mod list_ota_module_versions_by_device;
pub mod request;
pub mod update_ota_module;
