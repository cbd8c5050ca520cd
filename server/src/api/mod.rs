//! The RPC door and the operations behind it, one file each.

pub mod access;
pub mod answer;
pub mod audit;
pub mod catalogue;
pub mod code;
pub mod device;
pub mod error;
pub mod firmware;
pub mod group;
pub mod job;
pub mod lifecycle;
pub mod module;
pub mod nonce;
pub mod openapi;
pub mod page;
pub mod params;
pub mod policy;
pub mod product;
pub mod quota;
pub mod rpc;
pub mod sign;
pub mod sts;
pub mod task;
pub mod ticket;
pub mod topo;
pub mod verify;

use crate::api::answer::Object;
use crate::api::error::ApiError;
use crate::api::params::Params;
use crate::app::App;
use futures_util::future::BoxFuture;
use std::sync::Arc;
use updraft_core::id::{AccountNo, InstanceNo};

/// One verified call of an operation.
pub struct Call {
    /// The application.
    pub app: Arc<App>,
    /// Who calls: the account, whichever of its users.
    pub account: AccountNo,
    /// The instance that the call is about; everything it reads or changes belongs to it.
    pub instance: InstanceNo,
    /// What it says.
    pub params: Params,
    /// The base of addresses that this caller can reach, without a final `/`.
    pub base: String,
}

/// An entry of the table of operations.
pub struct Operation {
    /// The name on the wire.
    pub name: &'static str,
    /// Calls per second of an account and its RAM users together.
    pub qps: u32,
    /// Whether it changes something: such calls leave a line in the audit log.
    pub changes: bool,
    /// Parameters without which a call is refused before anything else is looked at.
    pub required: &'static [&'static str],
    /// Parameters of the platform that this release does not serve, each with the one value that it may have
    /// all the same because it changes nothing. Others are refused by name, never ignored.
    pub not_served: &'static [(&'static str, Option<&'static str>)],
    /// What it does.
    pub run: fn(Call) -> BoxFuture<'static, Result<Object, ApiError>>,
}

/// Every operation, in the order of the API's families.
pub const OPERATIONS: &[&Operation] = &[
    &product::create_product::OPERATION,
    &product::query_product::OPERATION,
    &product::query_product_list::OPERATION,
    &product::update_product::OPERATION,
    &product::delete_product::OPERATION,
    &product::create_product_tags::OPERATION,
    &product::update_product_tags::OPERATION,
    &product::delete_product_tags::OPERATION,
    &product::list_product_tags::OPERATION,
    &product::list_product_by_tags::OPERATION,
    &product::set_product_dynamic_register::OPERATION,
    &product::query_product_dynamic_register::OPERATION,
    &device::register_device::OPERATION,
    &device::query_device::OPERATION,
    &device::query_device_detail::OPERATION,
    &device::query_device_cert::OPERATION,
    &device::get_device_status::OPERATION,
    &group::create_device_group::OPERATION,
    &group::create_device_dynamic_group::OPERATION,
    &group::delete_device_dynamic_group::OPERATION,
    &group::query_dynamic_group_devices::OPERATION,
    &group::update_device_group::OPERATION,
    &group::delete_device_group::OPERATION,
    &group::query_device_group_list::OPERATION,
    &group::query_device_group_info::OPERATION,
    &group::batch_add_device_group_relations::OPERATION,
    &group::batch_delete_device_group_relations::OPERATION,
    &group::query_device_list_by_device_group::OPERATION,
    &group::query_device_group_by_device::OPERATION,
    &group::query_super_device_group::OPERATION,
    &device::query_device_info::OPERATION,
    &device::batch_query_device_detail::OPERATION,
    &device::batch_get_device_state::OPERATION,
    &device::save_device_prop::OPERATION,
    &device::query_device_prop::OPERATION,
    &device::delete_device_prop::OPERATION,
    &device::query_device_by_tags::OPERATION,
    &lifecycle::enable_thing::OPERATION,
    &lifecycle::disable_thing::OPERATION,
    &lifecycle::delete_device::OPERATION,
    &lifecycle::reset_thing::OPERATION,
    &device::query_device_statistics::OPERATION,
    &lifecycle::batch_check_device_names::OPERATION,
    &lifecycle::batch_register_device_with_apply_id::OPERATION,
    &lifecycle::batch_register_device::OPERATION,
    &lifecycle::query_batch_register_device_status::OPERATION,
    &lifecycle::query_page_by_apply_id::OPERATION,
    &topo::get_thing_topo::OPERATION,
    &topo::get_gateway_by_sub_device::OPERATION,
    &topo::remove_thing_topo::OPERATION,
    &topo::batch_add_thing_topo::OPERATION,
    &topo::notify_add_thing_topo::OPERATION,
    &firmware::generate_ota_upload_url::OPERATION,
    &firmware::create_ota_firmware::OPERATION,
    &firmware::modify_ota_firmware::OPERATION,
    &firmware::delete_ota_firmware::OPERATION,
    &firmware::query_ota_firmware::OPERATION,
    &firmware::list_ota_firmware::OPERATION,
    &module::create_ota_module::OPERATION,
    &module::update_ota_module::OPERATION,
    &module::delete_ota_module::OPERATION,
    &module::list_ota_module_by_product::OPERATION,
    &module::list_ota_module_versions_by_device::OPERATION,
    &job::generate_device_name_list_url::OPERATION,
    &job::create_ota_verify_job::OPERATION,
    &job::create_ota_static_upgrade_job::OPERATION,
    &job::plan_ota_job::OPERATION,
    &job::create_ota_dynamic_upgrade_job::OPERATION,
    &job::query_ota_job::OPERATION,
    &job::list_ota_job_by_firmware::OPERATION,
    &job::list_ota_job_by_device::OPERATION,
    &job::update_ota_job::OPERATION,
    &job::cancel_ota_strategy_by_job::OPERATION,
    &task::list_ota_task_by_job::OPERATION,
    &task::list_ota_task_history::OPERATION,
    &task::explain_ota_task::OPERATION,
    &task::list_ota_unfinished_task_by_device::OPERATION,
    &task::confirm_ota_task::OPERATION,
    &task::reupgrade_ota_task::OPERATION,
    &task::cancel_ota_task_by_job::OPERATION,
    &task::cancel_ota_task_by_device::OPERATION,
];

/// The operation of this name.
pub fn find(name: &str) -> Option<&'static Operation> {
    OPERATIONS.iter().find(|operation| operation.name == name).copied()
}
