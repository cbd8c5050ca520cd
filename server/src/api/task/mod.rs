//! The tasks of batches.

pub mod cancel_ota_task_by_job;
pub mod list_ota_task_by_job;
