//! A static batch as it is asked for: read and checked in one place, for the call that makes it
//! (CreateOTAStaticUpgradeJob) and for the one that only says what it would do (PlanOTAJob).

use crate::api::error::{ApiError, Code};
use crate::api::group::kind;
use crate::api::job::list_file;
use crate::api::job::request::{
    BatchRequest, check_named, check_sources, conduct, per_minute, retry, schedule, src_versions,
    target_devices, target_names,
};
use crate::api::params::Params;
use crate::app::App;
use std::sync::Arc;
use updraft_core::id::{DeviceNo, InstanceNo};
use updraft_core::job::{Conduct, JobType, Schedule, TargetSelection};
use updraft_core::limits;
use updraft_core::target::GrayPercent;
use updraft_core::time::Timestamp;
use updraft_store::{Candidate, Firmware, NewJob, RetryRule, Tx};

/// Parameters without which it is not a batch.
pub const REQUIRED: &[&str] = &["FirmwareId", "ProductKey", "TargetSelection"];

/// What a caller says of the batch.
pub struct StaticBatch {
    pub request: BatchRequest,
    pub targets: Targets,
    pub per_minute: i64,
    pub retry: Option<RetryRule>,
    pub schedule: Schedule,
    conduct: Conduct,
}

/// Which devices a caller wants.
pub struct Targets {
    pub selection: TargetSelection,
    pub gray_percent: Option<GrayPercent>,
    pub src_versions: Vec<String>,
    names: Vec<String>,
    /// `DnListFileUrl`.
    list: Option<String>,
    group_id: Option<String>,
}

/// A batch that may be made now.
pub struct Allowed {
    pub firmware: Firmware,
    pub conduct: Conduct,
    pub whom: Whom,
}

/// The devices that a batch looks at.
pub enum Whom {
    /// All of the product, a share of them, or those in a group, up to this one: the last that there is.
    UpTo(DeviceNo),
    /// Those that the call names.
    Named(Vec<Candidate>),
    /// Those of its list.
    Listed,
}

impl StaticBatch {
    pub fn read(params: &Params, now: Timestamp, minute_ms: i64) -> Result<Self, ApiError> {
        let request = BatchRequest::read(params)?;
        let targets = targets(params)?;
        let per_minute = per_minute(params)?;
        let conduct = conduct(params)?;
        let retry = retry(params, request.timeout_minutes)?;
        let schedule = schedule(params, now, minute_ms)?;
        Ok(Self { request, targets, per_minute, retry, schedule, conduct })
    }

    /// The devices of the list file, if there is one.
    pub async fn listed(
        &self,
        app: &Arc<App>,
        instance: InstanceNo,
    ) -> Result<Option<Vec<DeviceNo>>, ApiError> {
        let Some(url) = &self.targets.list else { return Ok(None) };
        // What else is wrong is told before a large file is read.
        let asked = self.request.clone();
        app.store.read(move |tx| upgradable(tx, &asked, instance)).await?;
        list_file::devices(app, instance, &self.request.product_key, url).await.map(Some)
    }

    /// Whether it may be made; looks at the devices that the call names.
    pub fn check(&self, tx: &mut Tx<'_>, app: &App, instance: InstanceNo) -> Result<Allowed, ApiError> {
        let firmware = upgradable(tx, &self.request, instance)?;
        let targets = &self.targets;
        if matches!(targets.selection, TargetSelection::All | TargetSelection::Gray) {
            check_sources(&firmware, &targets.src_versions)?;
        }
        let mut conduct = Conduct { download: self.request.download(&firmware, app)?, ..self.conduct };
        if let Some(group_id) = &targets.group_id {
            conduct.group = Some(kind::find_of_kind(tx, instance, group_id, false)?.no);
        }
        let whom = match targets.selection {
            TargetSelection::All | TargetSelection::Gray | TargetSelection::Group => {
                Whom::UpTo(tx.device_last(firmware.product)?)
            }
            TargetSelection::Specific if targets.list.is_some() => Whom::Listed,
            TargetSelection::Specific => {
                let devices = target_devices(tx, &firmware, &targets.names)?;
                let numbers: Vec<DeviceNo> = devices.iter().map(|device| device.no).collect();
                let candidates = tx.candidates_of(&numbers, &firmware.module)?;
                check_named(&firmware, &devices, &candidates)?;
                Whom::Named(candidates)
            }
        };
        Ok(Allowed { firmware, conduct, whom })
    }

    /// The row of the batch.
    pub fn row(&self, allowed: &Allowed, instance: InstanceNo, job_id: &str) -> NewJob {
        let Allowed { firmware, conduct, whom } = allowed;
        NewJob {
            instance,
            job_id: job_id.to_owned(),
            firmware: firmware.no,
            product: firmware.product,
            job_type: JobType::Upgrade,
            target_selection: self.targets.selection,
            need_push: self.request.need_push,
            per_minute: Some(self.per_minute),
            timeout_minutes: self.request.timeout_minutes,
            need_confirm: self.request.need_confirm,
            src_versions: self.targets.src_versions.clone(),
            gray_percent: self.targets.gray_percent,
            retry: self.retry,
            schedule: self.schedule,
            conduct: *conduct,
            tags: self.request.tags.clone(),
            expanded: matches!(whom, Whom::Named(_)),
            expand_upto: if let Whom::UpTo(last) = whom { *last } else { DeviceNo(0) },
        }
    }
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
    Ok(Targets { selection, gray_percent, src_versions, names, list, group_id })
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
