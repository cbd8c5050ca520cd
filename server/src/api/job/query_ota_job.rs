//! QueryOTAJob: everything about one batch.

use crate::api::answer::{Node, Object};
use crate::api::error::ApiError;
use crate::api::job::request::find_job;
use crate::api::job::wording::{Wording, selection_type, with_tags};
use crate::api::{Call, Operation};
use updraft_core::job::DynamicMode;

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "QueryOTAJob",
    qps: 10,
    changes: false,
    required: &["JobId"],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

async fn run(call: Call) -> Result<Object, ApiError> {
    let instance = call.instance;
    let id = call.params.need("JobId")?.to_owned();
    let ((job, firmware, product), group) = call
        .app
        .store
        .read(move |tx| {
            let found = find_job(tx, instance, &id)?;
            let group = found.0.conduct.group.map(|no| tx.group_load(no)).transpose()?.flatten();
            Ok::<_, ApiError>((found, group))
        })
        .await?;
    let data = Object::new()
        .text("JobId", &job.job_id)
        .text("FirmwareId", &firmware.firmware_id)
        .text("Name", &firmware.name)
        .text("ProductKey", &product.product_key)
        .text("DestVersion", &firmware.dest_version)
        .text("JobType", Wording::Modern.job_type(job.job_type))
        .text("JobStatus", Wording::Modern.status(job.status))
        .text("SelectionType", selection_type(job.conduct.dynamic.is_some()))
        .text("TargetSelection", job.target_selection.name())
        .opt_text("GrayPercent", job.gray_percent.map(|percent| percent.to_string()))
        .opt_int("MaximumPerMinute", job.per_minute)
        .opt_int("TimeoutInMinutes", job.timeout_minutes)
        .int("OverwriteMode", job.conduct.overwrite.code())
        .opt_int("DynamicMode", job.conduct.dynamic.map(DynamicMode::code))
        .flag("NeedPush", job.need_push)
        .flag("NeedConfirm", job.need_confirm)
        .opt_int("RetryInterval", job.retry.map(|retry| retry.interval_minutes))
        .opt_int("RetryCount", job.retry.map(|retry| retry.count))
        .flag("MultiModuleMode", job.conduct.multi_module)
        .text("DownloadProtocol", job.conduct.download.name())
        .opt_text("GroupId", group.as_ref().map(|group| group.group_id.as_str()))
        .opt_text("GroupName", group.as_ref().map(|group| group.name.as_str()))
        .utc("UtcCreate", job.created_at)
        .utc("UtcModified", job.modified_at)
        .opt_utc("UtcStartTime", job.start_at)
        .opt_utc("UtcEndTime", job.end_at)
        .opt_utc("UtcScheduleTime", job.schedule.start)
        .opt_utc("UtcScheduleFinishTime", job.schedule.finish);
    let data = match job.src_versions.as_slice() {
        [] => data,
        versions => {
            data.list("SrcVersions", "SrcVersion", versions.iter().cloned().map(Node::Text).collect())
        }
    };
    Ok(Object::new().object("Data", with_tags(data, &job.tags)))
}
