//! CreateOTAStaticUpgradeJob: upgrades all devices of a product, a share of them, those of a group, or those given
//! by name; at once or at a given time.
//!
//! The set of devices is fixed at creation: a device registered later is not in the batch. Unless the devices are
//! named in the call, it returns at once and the engine makes the tasks in bounded chunks.

use crate::api::answer::Object;
use crate::api::error::{ApiError, Code};
use crate::api::group::kind;
use crate::api::job::list_file;
use crate::api::job::request::{
    BatchRequest, check_named, check_sources, conduct, per_minute, retry, schedule, src_versions,
    target_devices, target_names,
};
use crate::api::params::Params;
use crate::api::{Call, Operation};
use crate::engine::advance::Effects;
use crate::engine::{self, expand};
use std::sync::Arc;
use updraft_core::id::{DeviceNo, InstanceNo};
use updraft_core::job::{Conduct, JobType, TargetSelection};
use updraft_core::target::GrayPercent;
use updraft_core::{id, limits};
use updraft_store::{Firmware, Lane, NewJob, Tx};

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "CreateOTAStaticUpgradeJob",
    qps: 20,
    changes: true,
    required: &["FirmwareId", "ProductKey", "TargetSelection"],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

/// Which devices a caller wants.
struct Targets {
    selection: TargetSelection,
    names: Vec<String>,
    /// `DnListFileUrl`.
    list: Option<String>,
    group_id: Option<String>,
    gray_percent: Option<GrayPercent>,
    src_versions: Vec<String>,
}

async fn run(call: Call) -> Result<Object, ApiError> {
    let request = BatchRequest::read(&call.params)?;
    let targets = targets(&call.params)?;
    let per_minute = per_minute(&call.params)?;
    let conduct = conduct(&call.params)?;
    let retry = retry(&call.params, request.timeout_minutes)?;
    let app = &call.app;
    let (instance, now) = (call.instance, app.now());
    let schedule = schedule(&call.params, now, app.config.minute_ms)?;
    let job_id = id::job_id(&app.random.bytes("job_id"));
    let answer = Object::new().text("JobId", &job_id).utc("UtcCreate", now);
    let listed = listed(&call, &request, &targets).await?;
    let part_devices = app.config.engine_chunk_rows as usize;
    let engine_app = Arc::clone(app);
    let create = move |tx: &mut Tx<'_>| {
        let firmware = upgradable(tx, &request, instance)?;
        if matches!(targets.selection, TargetSelection::All | TargetSelection::Gray) {
            check_sources(&firmware, &targets.src_versions)?;
        }
        let mut new = NewJob {
            instance,
            job_id: job_id.clone(),
            firmware: firmware.no,
            product: firmware.product,
            job_type: JobType::Upgrade,
            target_selection: targets.selection,
            need_push: request.need_push,
            per_minute: Some(per_minute),
            timeout_minutes: request.timeout_minutes,
            need_confirm: request.need_confirm,
            src_versions: targets.src_versions.clone(),
            gray_percent: targets.gray_percent,
            retry,
            schedule,
            conduct: Conduct { download: request.download(&firmware, &engine_app)?, ..conduct },
            tags: request.tags.clone(),
            expanded: false,
            expand_upto: DeviceNo(0),
        };
        if let Some(group_id) = &targets.group_id {
            new.conduct.group = Some(kind::find_of_kind(tx, instance, group_id, false)?.no);
        }
        let effects = match targets.selection {
            TargetSelection::All | TargetSelection::Gray | TargetSelection::Group => {
                new.expand_upto = tx.device_last(firmware.product)?;
                tx.job_insert(&new, now)?;
                Effects::default()
            }
            TargetSelection::Specific if listed.is_some() => {
                let job = tx.job_insert(&new, now)?;
                tx.job_list_insert(job, listed.as_deref().unwrap_or_default(), part_devices)?;
                Effects::default()
            }
            TargetSelection::Specific => {
                let devices = target_devices(tx, &firmware, &targets.names)?;
                let numbers: Vec<DeviceNo> = devices.iter().map(|device| device.no).collect();
                let candidates = tx.candidates_of(&numbers, &firmware.module)?;
                check_named(&firmware, &devices, &candidates)?;
                new.expanded = true;
                let job = tx.job_insert(&new, now)?;
                expand::create_all(tx, &engine_app, job, &candidates, now)?
            }
        };
        Ok::<_, ApiError>(((), Effects { wake: true, ..effects }))
    };
    engine::write(app, Lane::Interactive, create).await?;
    Ok(Object::new().object("Data", answer))
}

/// The devices of the list file, if there is one.
async fn listed(
    call: &Call,
    request: &BatchRequest,
    targets: &Targets,
) -> Result<Option<Vec<DeviceNo>>, ApiError> {
    let Some(url) = &targets.list else { return Ok(None) };
    // What else is wrong is told before a large file is read.
    let (asked, instance) = (request.clone(), call.instance);
    call.app.store.read(move |tx| upgradable(tx, &asked, instance)).await?;
    list_file::devices(&call.app, instance, &request.product_key, url).await.map(Some)
}

/// The package, if devices may be upgraded to it.
fn upgradable(tx: &mut Tx<'_>, request: &BatchRequest, instance: InstanceNo) -> Result<Firmware, ApiError> {
    let firmware = request.firmware(tx, instance)?;
    if firmware.status.may_upgrade() { Ok(firmware) } else { Err(Code::FirmwareNotVerified.into()) }
}

fn targets(params: &Params) -> Result<Targets, ApiError> {
    let names = target_names(params, limits::STATIC_TARGETS_MAX)?;
    let src_versions = src_versions(params)?;
    let gray = params.text("GrayPercent");
    let wrong = |why: &str| Err(ApiError::with(Code::InvalidTargets, why));
    let selection = match params.need("TargetSelection")? {
        "ALL" => TargetSelection::All,
        "SPECIFIC" => TargetSelection::Specific,
        "GRAY" => TargetSelection::Gray,
        "GROUP" => TargetSelection::Group,
        _ => return Err(ApiError::invalid("TargetSelection", "It must be ALL, SPECIFIC, GRAY or GROUP.")),
    };
    let list = params.text("DnListFileUrl").map(str::to_owned);
    match (selection == TargetSelection::Specific, names.is_empty(), list.is_none()) {
        (true, true, true) => {
            return wrong(
                "TargetSelection SPECIFIC needs TargetDeviceName.1 to TargetDeviceName.200, or DnListFileUrl.",
            );
        }
        (true, false, false) => return wrong("TargetDeviceName and DnListFileUrl exclude each other."),
        (false, false, _) | (false, _, false) => {
            return wrong("TargetDeviceName and DnListFileUrl go with TargetSelection SPECIFIC only.");
        }
        _ => {}
    }
    let group_id = group(params, selection)?;
    if matches!(selection, TargetSelection::Specific | TargetSelection::Group) && !src_versions.is_empty() {
        return Err(Code::InvalidSrcVersion.into());
    }
    let gray_percent = match (selection, gray) {
        (TargetSelection::Gray, Some(text)) => {
            Some(GrayPercent::parse(text).ok_or(Code::InvalidGrayPercent)?)
        }
        (TargetSelection::Gray, None) | (_, Some(_)) => return Err(Code::InvalidGrayPercent.into()),
        (_, None) => None,
    };
    Ok(Targets { selection, names, list, group_id, gray_percent, src_versions })
}

/// `GroupId` and `GroupType`, which go with TargetSelection GROUP and with it only.
fn group(params: &Params, selection: TargetSelection) -> Result<Option<String>, ApiError> {
    let wrong = |why: &str| Err(ApiError::with(Code::InvalidTargets, why));
    let (id, group_type) = (params.text("GroupId"), params.text("GroupType"));
    if group_type.is_some_and(|given| given != kind::STATIC) {
        return Err(ApiError::with(
            Code::InvalidGroupType,
            "GroupType of a static batch must be LINK_PLATFORM: it takes the devices of a static group.",
        ));
    }
    match (selection, id, group_type) {
        (TargetSelection::Group, Some(id), Some(_)) => Ok(Some(id.to_owned())),
        (TargetSelection::Group, ..) => {
            wrong("TargetSelection GROUP needs GroupId, and GroupType LINK_PLATFORM.")
        }
        (_, None, None) => Ok(None),
        _ => wrong("GroupId and GroupType go with TargetSelection GROUP only."),
    }
}
