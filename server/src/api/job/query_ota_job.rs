//! QueryOTAJob: everything about one batch.

use crate::api::answer::Object;
use crate::api::error::ApiError;
use crate::api::job::request::find_job;
use crate::api::job::wording::{SELECTION_STATIC, Wording, with_tags};
use crate::api::{Call, Operation};

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "QueryOTAJob",
    qps: 10,
    required: &["JobId"],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

async fn run(call: Call) -> Result<Object, ApiError> {
    let instance = call.instance;
    let id = call.params.need("JobId")?.to_owned();
    let (job, firmware, product) = call.app.store.read(move |tx| find_job(tx, instance, &id)).await?;
    let data = Object::new()
        .text("JobId", &job.job_id)
        .text("FirmwareId", &firmware.firmware_id)
        .text("Name", &firmware.name)
        .text("ProductKey", &product.product_key)
        .text("DestVersion", &firmware.dest_version)
        .text("JobType", Wording::Modern.job_type(job.job_type))
        .text("JobStatus", Wording::Modern.status(job.status))
        .text("SelectionType", SELECTION_STATIC)
        .text("TargetSelection", job.target_selection.name())
        .opt_int("MaximumPerMinute", job.per_minute)
        .opt_int("TimeoutInMinutes", job.timeout_minutes)
        .int("OverwriteMode", 1)
        .flag("NeedPush", job.need_push)
        .flag("NeedConfirm", false)
        .flag("MultiModuleMode", false)
        .text("DownloadProtocol", "HTTPS")
        .utc("UtcCreate", job.created_at)
        .utc("UtcModified", job.modified_at)
        .opt_utc("UtcStartTime", job.start_at)
        .opt_utc("UtcEndTime", job.end_at);
    Ok(Object::new().object("Data", with_tags(data, &job.tags)))
}
