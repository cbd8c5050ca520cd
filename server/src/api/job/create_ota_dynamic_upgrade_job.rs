//! CreateOTADynamicUpgradeJob: a batch that is a standing rule. It takes in every device that comes to fit, by the
//! version that it reports or by its group, until CancelOTAStrategyByJob.
//!
//! The call only writes the rule down; which devices it takes in is decided by `engine/dynamic.rs`.

use crate::api::answer::Object;
use crate::api::error::{ApiError, Code};
use crate::api::group::kind;
use crate::api::job::request::{BatchRequest, check_sources, conduct, per_minute, retry, src_versions};
use crate::api::params::Params;
use crate::api::{Call, Operation};
use std::sync::Arc;
use updraft_core::id::{self, DeviceNo};
use updraft_core::job::{Conduct, DynamicMode, JobType, Schedule, TargetSelection};
use updraft_store::{Firmware, Group, Lane, NewJob, Tx};

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "CreateOTADynamicUpgradeJob",
    qps: 20,
    changes: true,
    required: &["FirmwareId", "ProductKey"],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

async fn run(call: Call) -> Result<Object, ApiError> {
    let request = BatchRequest::read(&call.params)?;
    let per_minute = per_minute(&call.params)?;
    let retry = retry(&call.params, request.timeout_minutes)?;
    let mode = mode(&call.params)?;
    let conduct = Conduct { dynamic: Some(mode), ..conduct(&call.params)? };
    let (src_versions, group_id) = asked(&call.params)?;
    let app = &call.app;
    let (instance, now) = (call.instance, app.now());
    let job_id = id::job_id(&app.random.bytes("job_id"));
    let answer = Object::new().text("JobId", &job_id).utc("UtcCreate", now);
    let (wake, rules) = (Arc::clone(app), Arc::clone(app));
    // Also if the caller is gone by then: the engine has work.
    let begin = move |(): &()| wake.awaken();
    let create = move |tx: &mut Tx<'_>| {
        let firmware = request.firmware(tx, instance)?;
        if !firmware.status.may_upgrade() {
            return Err(ApiError::new(Code::FirmwareNotVerified));
        }
        check_alone(tx, &firmware)?;
        let group = match &group_id {
            None => {
                check_sources(&firmware, &src_versions)?;
                None
            }
            Some(id) => {
                let group = kind::find_of_kind(tx, instance, id, true)?;
                check_alike(tx, &group, &conduct)?;
                Some(group.no)
            }
        };
        let new = NewJob {
            instance,
            job_id: job_id.clone(),
            firmware: firmware.no,
            product: firmware.product,
            job_type: JobType::Upgrade,
            target_selection: TargetSelection::All,
            need_push: request.need_push,
            per_minute: Some(per_minute),
            timeout_minutes: request.timeout_minutes,
            need_confirm: request.need_confirm,
            src_versions: src_versions.clone(),
            gray_percent: None,
            retry,
            schedule: Schedule::default(),
            conduct: Conduct { group, download: request.download(&firmware, &rules)?, ..conduct },
            tags: request.tags.clone(),
            // Nobody can have reported since.
            expanded: mode == DynamicMode::Later,
            expand_upto: match mode {
                DynamicMode::NowAndLater => tx.device_last(firmware.product)?,
                DynamicMode::Later => DeviceNo(0),
            },
        };
        tx.job_insert(&new, now)?;
        Ok::<_, ApiError>(())
    };
    app.store.write_then(Lane::Interactive, create, begin).await?;
    Ok(Object::new().object("Data", answer))
}

fn mode(params: &Params) -> Result<DynamicMode, ApiError> {
    match params.int("DynamicMode")? {
        None => Ok(DynamicMode::NowAndLater),
        Some(code) => DynamicMode::from_code(code).ok_or_else(|| {
            ApiError::invalid(
                "DynamicMode",
                "It must be 1 (devices that fit now or later) or 2 (only devices that report a version later).",
            )
        }),
    }
}

/// The source versions, or the id of the group: exactly one of the two.
fn asked(params: &Params) -> Result<(Vec<String>, Option<String>), ApiError> {
    let src_versions = src_versions(params)?;
    let group_id = params.text("GroupId").map(str::to_owned);
    let group_type = params.text("GroupType");
    let wrong = |why: &str| Err(ApiError::with(Code::InvalidDynamicTargets, why));
    if group_type.is_some_and(|given| given != kind::DYNAMIC) {
        return Err(ApiError::with(
            Code::InvalidGroupType,
            "GroupType must be LINK_PLATFORM_DYNAMIC: a dynamic batch is for a dynamic group.",
        ));
    }
    match (group_id.is_some(), group_type.is_some(), src_versions.is_empty()) {
        (true, false, _) | (false, true, _) => wrong("GroupId and GroupType go together."),
        (true, true, false) => wrong("SrcVersion and GroupId exclude one another."),
        (false, false, true) => wrong(
            "Give either SrcVersion.1 to SrcVersion.10, or GroupId and GroupType LINK_PLATFORM_DYNAMIC.",
        ),
        _ => Ok((src_versions, group_id)),
    }
}

/// A package has one running dynamic batch at most.
fn check_alone(tx: &mut Tx<'_>, firmware: &Firmware) -> Result<(), ApiError> {
    match tx.policy_of_firmware(firmware.no)? {
        None => Ok(()),
        Some(other) => Err(ApiError::with(
            Code::DynamicJobRuns,
            format!(
                "The firmware's dynamic job {} takes devices in; end it by CancelOTAStrategyByJob first.",
                other.job_id
            ),
        )),
    }
}

/// The running dynamic batches of a group all treat what they meet alike.
fn check_alike(tx: &mut Tx<'_>, group: &Group, conduct: &Conduct) -> Result<(), ApiError> {
    let alike =
        |other: &Conduct| (other.overwrite, other.multi_module) == (conduct.overwrite, conduct.multi_module);
    match tx.policies_of_group(group.no)?.into_iter().find(|other| !alike(&other.conduct)) {
        None => Ok(()),
        Some(other) => Err(ApiError::with(
            Code::GroupModesDiffer,
            format!(
                "The group's dynamic job {} has OverwriteMode {} and MultiModuleMode {}; all dynamic jobs of a \
                 group must have the same.",
                other.job_id,
                other.conduct.overwrite.code(),
                other.conduct.multi_module
            ),
        )),
    }
}
