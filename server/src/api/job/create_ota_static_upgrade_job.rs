//! CreateOTAStaticUpgradeJob: upgrades all devices of a product, or those given by name.
//!
//! The set of devices is fixed at creation: a device registered later is not in the batch. For all devices
//! of a product the call returns at once and the engine makes the tasks in bounded chunks.

use crate::api::answer::Object;
use crate::api::error::{ApiError, Code};
use crate::api::job::request::{BatchRequest, per_minute, target_devices, target_names};
use crate::api::params::Params;
use crate::api::{Call, Operation};
use crate::engine::expand;
use std::sync::Arc;
use updraft_core::id::DeviceNo;
use updraft_core::job::{JobType, TargetSelection};
use updraft_core::{id, limits};
use updraft_store::{Lane, NewJob, Tx};

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "CreateOTAStaticUpgradeJob",
    qps: 20,
    required: &["FirmwareId", "ProductKey", "TargetSelection"],
    not_served: &[
        ("DnListFileUrl", None),
        ("DownloadProtocol", Some("HTTPS")),
        ("GrayPercent", None),
        ("GroupId", None),
        ("GroupType", None),
        ("MultiModuleMode", Some("false")),
        ("NeedConfirm", Some("false")),
        ("OverwriteMode", Some("1")),
        ("RetryCount", None),
        ("RetryInterval", None),
        ("ScheduleFinishTime", None),
        ("ScheduleTime", None),
        ("SrcVersion", None),
    ],
    run: |call| Box::pin(run(call)),
};

async fn run(call: Call) -> Result<Object, ApiError> {
    let request = BatchRequest::read(&call.params)?;
    let (selection, names) = targets(&call.params)?;
    let per_minute = per_minute(&call.params)?;
    let app = &call.app;
    let job_id = id::job_id(&app.random.bytes("job_id"));
    let (instance, now) = (call.instance, app.now());
    let answer = Object::new().text("JobId", &job_id).utc("UtcCreate", now);
    let wake = Arc::clone(app);
    // Also if the caller is gone by then: the engine has work.
    let begin = move |(): &()| wake.wake.notify_one();
    let create = move |tx: &mut Tx<'_>| {
        let firmware = request.firmware(tx, instance)?;
        if !firmware.status.may_upgrade() {
            return Err(ApiError::new(Code::FirmwareNotVerified));
        }
        let mut new = NewJob {
            instance,
            job_id: job_id.clone(),
            firmware: firmware.no,
            product: firmware.product,
            job_type: JobType::Upgrade,
            target_selection: selection,
            need_push: request.need_push,
            per_minute: Some(per_minute),
            timeout_minutes: request.timeout_minutes,
            tags: request.tags.clone(),
            expanded: false,
            expand_upto: DeviceNo(0),
        };
        match selection {
            TargetSelection::All => {
                new.expand_upto = tx.device_last(firmware.product)?;
                tx.job_insert(&new, now)?;
            }
            TargetSelection::Specific => {
                let devices: Vec<DeviceNo> =
                    target_devices(tx, &firmware, &names)?.iter().map(|device| device.no).collect();
                let candidates = tx.candidates_of(&devices, &firmware.module)?;
                new.expanded = true;
                let job = tx.job_insert(&new, now)?;
                expand::create_all(tx, job, &candidates, now)?;
            }
        }
        Ok::<_, ApiError>(())
    };
    app.store.write_then(Lane::Interactive, create, begin).await?;
    Ok(Object::new().object("Data", answer))
}

fn targets(params: &Params) -> Result<(TargetSelection, Vec<String>), ApiError> {
    let names = target_names(params, limits::STATIC_TARGETS_MAX)?;
    match params.need("TargetSelection")? {
        "ALL" if names.is_empty() => Ok((TargetSelection::All, names)),
        "ALL" => Err(ApiError::with(
            Code::InvalidTargets,
            "TargetDeviceName must not be given together with TargetSelection ALL.",
        )),
        "SPECIFIC" if names.is_empty() => Err(ApiError::with(
            Code::InvalidTargets,
            "TargetSelection SPECIFIC needs TargetDeviceName.1 to TargetDeviceName.200.",
        )),
        "SPECIFIC" => Ok((TargetSelection::Specific, names)),
        found @ ("GRAY" | "GROUP") => Err(ApiError::with(
            Code::ParameterNotSupported,
            format!("TargetSelection {found} is not supported by this release."),
        )),
        _ => Err(ApiError::invalid("TargetSelection", "It must be ALL, SPECIFIC, GRAY or GROUP.")),
    }
}
