//! The tasks of batches.

pub mod cancel_ota_task_by_device;
pub mod cancel_ota_task_by_job;
pub mod confirm_ota_task;
pub mod explain_ota_task;
pub mod ids;
pub mod list_ota_task_by_job;
pub mod list_ota_task_history;
pub mod list_ota_unfinished_task_by_device;
pub mod reupgrade_ota_task;
