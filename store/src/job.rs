//! Update batches.

use crate::error::StoreError;
use crate::job_update::{FormerTerms, former_decode};
use crate::tx::{Column, Hot, Tx};
use crate::value::{Row, Value};
use updraft_core::id::{DeviceNo, FirmwareNo, GroupNo, InstanceNo, JobNo, ProductNo};
use updraft_core::job::{
    Conduct, DownloadProtocol, DynamicMode, JobStatus, JobType, OverwriteMode, Schedule, Tag, TargetSelection,
};
use updraft_core::pace::Pace;
use updraft_core::page::Page;
use updraft_core::target::GrayPercent;
use updraft_core::task::Cancel;
use updraft_core::time::Timestamp;

/// How a batch repeats failed attempts, as it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryRule {
    /// RetryInterval, in minutes.
    pub interval_minutes: i64,
    /// RetryCount.
    pub count: i64,
}

/// A batch as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Row number.
    pub no: JobNo,
    /// The id on the wire.
    pub job_id: String,
    /// Its package.
    pub firmware: FirmwareNo,
    /// Its product.
    pub product: ProductNo,
    /// Verification or upgrade.
    pub job_type: JobType,
    /// Where it stands.
    pub status: JobStatus,
    /// Which devices it is for.
    pub target_selection: TargetSelection,
    /// Whether devices are told without asking.
    pub need_push: bool,
    /// Devices per minute; `None`: not limited (verification).
    pub per_minute: Option<i64>,
    /// Minutes from the first progress report to failure.
    pub timeout_minutes: Option<i64>,
    /// Whether the end user must agree first.
    pub need_confirm: bool,
    /// The versions that devices may come from; empty: any.
    pub src_versions: Vec<String>,
    /// The share of devices of a gray batch.
    pub gray_percent: Option<GrayPercent>,
    /// How failed attempts are repeated.
    pub retry: Option<RetryRule>,
    /// When it starts and when it tells no further device.
    pub schedule: Schedule,
    /// How it finds its devices and treats what it meets there.
    pub conduct: Conduct,
    /// A dynamic batch: whether it still takes devices in.
    pub policy: bool,
    /// What held for its first tasks before it was changed, oldest first.
    pub former: Vec<FormerTerms>,
    /// While its tasks get other push slots, since its rate was changed: the last one that has.
    pub repace_after: Option<i64>,
    /// Whether its devices are still to be chosen.
    pub selecting: bool,
    /// Its tags.
    pub tags: Vec<Tag>,
    /// The next free push slot.
    pub pace: Pace,
    /// Whether all its tasks exist.
    pub expanded: bool,
    /// Expansion: the last device looked at.
    pub expand_after: DeviceNo,
    /// Expansion: the last device to look at.
    pub expand_upto: DeviceNo,
    /// Tasks so far; the newest one's ordinal.
    pub task_count: i64,
    /// Tasks in these states are being cancelled.
    pub cancel: Cancel,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed itself (not its tasks).
    pub modified_at: Timestamp,
    /// When it started.
    pub start_at: Option<Timestamp>,
    /// When it ended.
    pub end_at: Option<Timestamp>,
}

impl Job {
    /// Whether none of its tasks can be open any more. Those of a dynamic batch outlive its end.
    pub fn is_over(&self) -> bool {
        self.status.is_ended() && self.conduct.dynamic.is_none()
    }
}

/// A page of a package's batches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirmwareJobs {
    /// The key of the package's product.
    pub product_key: String,
    /// How many batches the package has in all.
    pub total: i64,
    /// The batches of the page.
    pub page: Vec<ListedJob>,
}

/// A batch as lists show it: what ListOTAJobByFirmware answers, and no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedJob {
    /// Row number.
    pub no: JobNo,
    /// The id on the wire.
    pub job_id: String,
    /// Verification or upgrade.
    pub job_type: JobType,
    /// Where it stands.
    pub status: JobStatus,
    /// Which devices it is for.
    pub target_selection: TargetSelection,
    /// Whether it takes devices in by a standing rule.
    pub dynamic: bool,
    /// Its tags.
    pub tags: Vec<Tag>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed itself (not its tasks).
    pub modified_at: Timestamp,
    /// When it started.
    pub start_at: Option<Timestamp>,
    /// When it ended.
    pub end_at: Option<Timestamp>,
}

/// A batch to add.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// The instance that it belongs to.
    pub instance: InstanceNo,
    /// The id on the wire.
    pub job_id: String,
    /// Its package.
    pub firmware: FirmwareNo,
    /// Its product.
    pub product: ProductNo,
    /// Verification or upgrade.
    pub job_type: JobType,
    /// Which devices it is for.
    pub target_selection: TargetSelection,
    /// Whether devices are told without asking.
    pub need_push: bool,
    /// Devices per minute; `None`: not limited.
    pub per_minute: Option<i64>,
    /// Minutes from the first progress report to failure.
    pub timeout_minutes: Option<i64>,
    /// Whether the end user must agree first.
    pub need_confirm: bool,
    /// The versions that devices may come from; empty: any.
    pub src_versions: Vec<String>,
    /// The share of devices of a gray batch, which are chosen later.
    pub gray_percent: Option<GrayPercent>,
    /// How failed attempts are repeated.
    pub retry: Option<RetryRule>,
    /// When it starts and when it tells no further device.
    pub schedule: Schedule,
    /// How it finds its devices and treats what it meets there; a dynamic batch takes devices in from now on.
    pub conduct: Conduct,
    /// Its tags.
    pub tags: Vec<Tag>,
    /// Whether all its tasks are made in the same transaction.
    pub expanded: bool,
    /// Expansion: the last device to look at.
    pub expand_upto: DeviceNo,
}

pub(crate) fn tags_encode(tags: &[Tag]) -> String {
    let pairs: Vec<(&str, &str)> = tags.iter().map(|tag| (tag.key.as_str(), tag.value.as_str())).collect();
    // Pairs of texts always serialise.
    serde_json::to_string(&pairs).unwrap_or_else(|_| "[]".to_owned())
}

fn tags_decode(text: &str) -> Result<Vec<Tag>, StoreError> {
    if text == "[]" {
        return Ok(Vec::new());
    }
    let pairs: Vec<(String, String)> = serde_json::from_str(text)
        .map_err(|error| StoreError::Corrupt { place: "job.tags", detail: error.to_string() })?;
    Ok(pairs.into_iter().map(|(key, value)| Tag { key, value }).collect())
}

pub(crate) fn versions_encode(versions: &[String]) -> String {
    // Texts always serialise.
    serde_json::to_string(versions).unwrap_or_else(|_| "[]".to_owned())
}

fn versions_decode(text: &str) -> Result<Vec<String>, StoreError> {
    if text == "[]" {
        return Ok(Vec::new());
    }
    serde_json::from_str(text)
        .map_err(|error| StoreError::Corrupt { place: "job.src_versions", detail: error.to_string() })
}

fn gray(code: i64) -> Result<GrayPercent, StoreError> {
    GrayPercent::from_code(code)
        .ok_or(StoreError::Corrupt { place: "job.gray_percent", detail: code.to_string() })
}

fn cancel_decode(mask: i64) -> Cancel {
    Cancel {
        confirm: mask & 1 != 0,
        queued: mask & 2 != 0,
        notified: mask & 4 != 0,
        in_progress: mask & 8 != 0,
    }
}

/// A query for whole batches, in the order of columns that [`job`] reads.
macro_rules! jobs {
    ($rest:literal) => {
        concat!(
            "SELECT id, job_id, firmware, product, job_type, status, target_selection, need_push, per_minute, ",
            "timeout_minutes, tags, pace_next_us, expanded, expand_after, expand_upto, task_count, cancel_mask, ",
            "created_at, modified_at, start_at, end_at, need_confirm, src_versions, gray_percent, ",
            "retry_minutes, retry_count, schedule_at, finish_at, selecting, overwrite_mode, multi_module, ",
            "dynamic_mode, device_group, download, policy, former_terms, repace_after FROM job ",
            $rest
        )
    };
}
pub(crate) use jobs;

/// Reads three neighbouring columns: type, status, selection.
fn kinds(row: &Row<'_>, column: usize) -> Result<(JobType, JobStatus, TargetSelection), StoreError> {
    let (kind, status, selection) = (row.int(column)?, row.int(column + 1)?, row.int(column + 2)?);
    let corrupt = |place, found: i64| StoreError::Corrupt { place, detail: found.to_string() };
    Ok((
        JobType::from_code(kind).ok_or_else(|| corrupt("job.job_type", kind))?,
        JobStatus::from_code(status).ok_or_else(|| corrupt("job.status", status))?,
        TargetSelection::from_code(selection).ok_or_else(|| corrupt("job.target_selection", selection))?,
    ))
}

fn listed(row: &Row<'_>) -> Result<ListedJob, StoreError> {
    let (job_type, status, target_selection) = kinds(row, 2)?;
    Ok(ListedJob {
        no: JobNo(row.int(0)?),
        job_id: row.text(1)?,
        job_type,
        status,
        target_selection,
        tags: tags_decode(&row.text(5)?)?,
        created_at: Timestamp(row.int(6)?),
        modified_at: Timestamp(row.int(7)?),
        start_at: row.opt_int(8)?.map(Timestamp),
        end_at: row.opt_int(9)?.map(Timestamp),
        dynamic: row.opt_int(10)?.is_some(),
    })
}

pub(crate) fn job(row: &Row<'_>) -> Result<Job, StoreError> {
    let (job_type, status, target_selection) = kinds(row, 4)?;
    Ok(Job {
        no: JobNo(row.int(0)?),
        job_id: row.text(1)?,
        firmware: FirmwareNo(row.int(2)?),
        product: ProductNo(row.int(3)?),
        job_type,
        status,
        target_selection,
        need_push: row.flag(7)?,
        per_minute: row.opt_int(8)?,
        timeout_minutes: row.opt_int(9)?,
        tags: tags_decode(&row.text(10)?)?,
        pace: Pace { next_us: row.int(11)? },
        expanded: row.flag(12)?,
        expand_after: DeviceNo(row.int(13)?),
        expand_upto: DeviceNo(row.int(14)?),
        task_count: row.int(15)?,
        cancel: cancel_decode(row.int(16)?),
        created_at: Timestamp(row.int(17)?),
        modified_at: Timestamp(row.int(18)?),
        start_at: row.opt_int(19)?.map(Timestamp),
        end_at: row.opt_int(20)?.map(Timestamp),
        need_confirm: row.flag(21)?,
        src_versions: versions_decode(&row.text(22)?)?,
        gray_percent: row.opt_int(23)?.map(gray).transpose()?,
        retry: row
            .opt_int(24)?
            .zip(row.opt_int(25)?)
            .map(|(interval_minutes, count)| RetryRule { interval_minutes, count }),
        schedule: Schedule {
            start: row.opt_int(26)?.map(Timestamp),
            finish: row.opt_int(27)?.map(Timestamp),
        },
        selecting: row.flag(28)?,
        conduct: conduct(row, 29)?,
        policy: row.flag(34)?,
        former: former_decode(&row.text(35)?)?,
        repace_after: row.opt_int(36)?,
    })
}

/// Reads five neighbouring columns.
fn conduct(row: &Row<'_>, column: usize) -> Result<Conduct, StoreError> {
    let corrupt = |place, found: i64| StoreError::Corrupt { place, detail: found.to_string() };
    let (overwrite, dynamic, download) = (row.int(column)?, row.opt_int(column + 2)?, row.int(column + 4)?);
    Ok(Conduct {
        overwrite: OverwriteMode::from_code(overwrite)
            .ok_or_else(|| corrupt("job.overwrite_mode", overwrite))?,
        multi_module: row.flag(column + 1)?,
        dynamic: dynamic
            .map(|code| DynamicMode::from_code(code).ok_or_else(|| corrupt("job.dynamic_mode", code)))
            .transpose()?,
        group: row.opt_int(column + 3)?.map(GroupNo),
        download: DownloadProtocol::from_code(download).ok_or_else(|| corrupt("job.download", download))?,
    })
}

const LOAD: Hot = Hot {
    row: jobs!("WHERE id = ?1"),
    set: jobs!("JOIN unnest($1::bigint[]) WITH ORDINALITY AS n(no, at) ON job.id = n.no ORDER BY n.at"),
    columns: &[Column::Int],
};

impl Tx<'_> {
    /// Adds a batch as the newest of its package: running, or planned if its schedule says so.
    pub fn job_insert(&mut self, new: &NewJob, now: Timestamp) -> Result<JobNo, StoreError> {
        let missing = || StoreError::Internal("the package of a new batch vanished".to_owned());
        let ordinal = self
            .query_one(
                "UPDATE firmware SET job_count = job_count + 1 WHERE id = ?1 RETURNING job_count",
                &[new.firmware.0.into()],
                |row| row.int(0),
            )?
            .ok_or_else(missing)?;
        let status = new.schedule.open_status(now);
        let started = (status == JobStatus::InProgress).then_some(now.0);
        self.query_one(
            "INSERT INTO job (instance, job_id, firmware, ordinal, product, job_type, status, target_selection,
                              need_push, per_minute, timeout_minutes, tags, pace_next_us, expanded, expand_after,
                              expand_upto, task_count, cancel_mask, created_at, modified_at, start_at,
                              need_confirm, src_versions, gray_percent, retry_minutes, retry_count, schedule_at,
                              finish_at, due_at, selecting, overwrite_mode, multi_module, dynamic_mode,
                              device_group, download, policy)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, 0, ?13, 0, ?14, 0, 0, ?15, ?15, ?16,
                     ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28, ?29, ?30, ?31)
             RETURNING id",
            &[
                new.instance.0.into(),
                (&new.job_id).into(),
                new.firmware.0.into(),
                ordinal.into(),
                new.product.0.into(),
                new.job_type.code().into(),
                status.code().into(),
                new.target_selection.code().into(),
                new.need_push.into(),
                new.per_minute.into(),
                new.timeout_minutes.into(),
                (&tags_encode(&new.tags)).into(),
                new.expanded.into(),
                new.expand_upto.0.into(),
                now.0.into(),
                started.into(),
                new.need_confirm.into(),
                (&versions_encode(&new.src_versions)).into(),
                new.gray_percent.map(GrayPercent::code).into(),
                new.retry.map(|retry| retry.interval_minutes).into(),
                new.retry.map(|retry| retry.count).into(),
                new.schedule.start.map(|at| at.0).into(),
                new.schedule.finish.map(|at| at.0).into(),
                new.schedule.due_at(status).map(|at| at.0).into(),
                new.gray_percent.is_some().into(),
                new.conduct.overwrite.code().into(),
                new.conduct.multi_module.into(),
                new.conduct.dynamic.map(DynamicMode::code).into(),
                new.conduct.group.map(|group| group.0).into(),
                new.conduct.download.code().into(),
                new.conduct.dynamic.is_some().into(),
            ],
            |row| Ok(JobNo(row.int(0)?)),
        )?
        .ok_or_else(missing)
    }

    /// The instance's batch with this id.
    pub fn job_find(&mut self, instance: InstanceNo, job_id: &str) -> Result<Option<Job>, StoreError> {
        self.query_one(jobs!("WHERE job_id = ?1 AND instance = ?2"), &[job_id.into(), instance.0.into()], job)
    }

    /// The batches with these row numbers, in that order.
    pub fn jobs_load(&mut self, jobs: &[JobNo]) -> Result<Vec<Job>, StoreError> {
        let keys: Vec<Vec<Value<'_>>> = jobs.iter().map(|job| vec![job.0.into()]).collect();
        self.query_set(&LOAD, &keys, job)
    }

    /// A page of the batches of the instance's package with this id, newest first: a range of an index, whatever the
    /// page. `None`: there is no such package.
    // The busiest list, so one statement, for `Store::glance`. A page without batches is a row without a batch.
    pub fn job_list_by_firmware(
        &mut self,
        instance: InstanceNo,
        firmware_id: &str,
        page: Page,
    ) -> Result<Option<FirmwareJobs>, StoreError> {
        let mut of_firmware = None;
        let rows = self.query(
            "SELECT j.id, j.job_id, j.job_type, j.status, j.target_selection, j.tags, j.created_at, j.modified_at,
                    j.start_at, j.end_at, j.dynamic_mode, f.job_count, p.product_key
             FROM firmware f JOIN product p ON p.id = f.product
             LEFT JOIN job j ON j.firmware = f.id AND j.ordinal <= f.job_count - ?3 AND j.ordinal > f.job_count - ?4
             WHERE f.firmware_id = ?1 AND f.instance = ?2 AND f.deleted_at IS NULL
             ORDER BY j.ordinal DESC",
            &[
                firmware_id.into(),
                instance.0.into(),
                page.skip().into(),
                page.skip().saturating_add(page.size()).into(),
            ],
            |row| {
                if of_firmware.is_none() {
                    of_firmware = Some((row.int(11)?, row.text(12)?));
                }
                row.opt_int(0)?.map(|_| listed(row)).transpose()
            },
        )?;
        Ok(of_firmware.map(|(total, product_key)| FirmwareJobs {
            product_key,
            total,
            page: rows.into_iter().flatten().collect(),
        }))
    }

    /// The instance's batches whose id begins like this.
    pub fn jobs_by_prefix(&mut self, instance: InstanceNo, prefix: &str) -> Result<Vec<Job>, StoreError> {
        // Ids are letters and digits, all of which sort before `~`.
        let end = format!("{prefix}~");
        self.query(
            jobs!("WHERE job_id >= ?1 AND job_id < ?2 AND instance = ?3 ORDER BY job_id"),
            &[prefix.into(), (&end).into(), instance.0.into()],
            job,
        )
    }

    /// The batch with this id, whosever it is: for commands of the operator.
    pub fn job_find_any(&mut self, job_id: &str) -> Result<Option<Job>, StoreError> {
        self.query_one(jobs!("WHERE job_id = ?1"), &[job_id.into()], job)
    }

    /// The batches of a package in which a device has tasks, newest first, each once, and how many there are in
    /// all. Costs as much as the device has tasks.
    pub fn job_list_by_device(
        &mut self,
        firmware: FirmwareNo,
        device: DeviceNo,
        page: Page,
    ) -> Result<(Vec<ListedJob>, i64), StoreError> {
        let total = self.query_one(
            "SELECT COUNT(*) FROM (SELECT DISTINCT job FROM task WHERE device = ?1) t
             JOIN job j ON j.id = t.job WHERE j.firmware = ?2",
            &[device.0.into(), firmware.0.into()],
            |row| row.int(0),
        )?;
        let rows = self.query(
            "SELECT j.id, j.job_id, j.job_type, j.status, j.target_selection, j.tags, j.created_at, j.modified_at,
                    j.start_at, j.end_at, j.dynamic_mode
             FROM (SELECT DISTINCT job FROM task WHERE device = ?1) t
             JOIN job j ON j.id = t.job WHERE j.firmware = ?2
             ORDER BY j.ordinal DESC LIMIT ?3 OFFSET ?4",
            &[device.0.into(), firmware.0.into(), page.size().into(), page.skip().into()],
            listed,
        )?;
        Ok((rows, total.unwrap_or_default()))
    }
}
