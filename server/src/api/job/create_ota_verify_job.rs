//! CreateOTAVerifyJob: proves a package on up to ten test devices.

use crate::api::answer::Object;
use crate::api::error::{ApiError, Code};
use crate::api::job::request::{BatchRequest, check_named, target_devices, target_names};
use crate::api::{Call, Operation};
use crate::engine::advance::Effects;
use crate::engine::{self, expand};
use std::sync::Arc;
use updraft_core::firmware::FirmwareStatus;
use updraft_core::id::DeviceNo;
use updraft_core::job::{Conduct, JobType, Schedule, TargetSelection};
use updraft_core::{id, limits};
use updraft_store::{Lane, NewJob, Tx};

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "CreateOTAVerifyJob",
    qps: 10,
    changes: true,
    required: &["FirmwareId", "ProductKey", "TargetDeviceName"],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

async fn run(call: Call) -> Result<Object, ApiError> {
    let request = BatchRequest::read(&call.params)?;
    let names = target_names(&call.params, limits::VERIFY_TARGETS_MAX)?;
    if names.is_empty() {
        return Err(ApiError::missing("TargetDeviceName.1"));
    }
    let app = &call.app;
    let job_id = id::job_id(&app.random.bytes("job_id"));
    let (instance, now) = (call.instance, app.now());
    let answer = Object::new().text("JobId", &job_id).utc("UtcCreate", now);
    let engine_app = Arc::clone(app);
    let create = move |tx: &mut Tx<'_>| {
        let firmware = request.firmware(tx, instance)?;
        if !firmware.status.may_verify() {
            return Err(ApiError::new(Code::VerifyNotAllowed));
        }
        let devices = target_devices(tx, &firmware, &names)?;
        let numbers: Vec<DeviceNo> = devices.iter().map(|device| device.no).collect();
        let candidates = tx.candidates_of(&numbers, &firmware.module)?;
        if candidates.iter().any(|c| c.version.as_deref() == Some(firmware.dest_version.as_str())) {
            return Err(Code::DeviceOnDestVersion.into());
        }
        check_named(&firmware, &devices, &candidates)?;
        let new = NewJob {
            instance,
            job_id: job_id.clone(),
            firmware: firmware.no,
            product: firmware.product,
            job_type: JobType::Verify,
            target_selection: TargetSelection::Specific,
            need_push: request.need_push,
            per_minute: None,
            timeout_minutes: request.timeout_minutes,
            need_confirm: request.need_confirm,
            src_versions: Vec::new(),
            gray_percent: None,
            retry: None,
            schedule: Schedule::default(),
            conduct: Conduct { download: request.download(&firmware, &engine_app)?, ..Conduct::default() },
            tags: request.tags.clone(),
            expanded: true,
            expand_upto: DeviceNo(0),
        };
        let job = tx.job_insert(&new, now)?;
        tx.firmware_status_set(firmware.no, FirmwareStatus::Verifying, now)?;
        tx.firmware_verify_job_set(firmware.no, job)?;
        let effects = expand::create_all(tx, &engine_app, job, &candidates, now)?;
        Ok::<_, ApiError>(((), Effects { wake: true, ..effects }))
    };
    engine::write(app, Lane::Interactive, create).await?;
    Ok(Object::new().object("Data", answer))
}
