//! Update batches.

pub mod cancel_ota_strategy_by_job;
pub mod create_ota_dynamic_upgrade_job;
pub mod create_ota_static_upgrade_job;
pub mod create_ota_verify_job;
pub mod generate_device_name_list_url;
mod list_file;
pub mod list_ota_job_by_device;
pub mod list_ota_job_by_firmware;
pub mod plan_ota_job;
pub mod query_ota_job;
pub(crate) mod request;
mod static_batch;
pub mod update_ota_job;
pub mod wording;
