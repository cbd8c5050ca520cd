//! Update batches.

use crate::error::StoreError;
use crate::tx::{Column, Hot, Tx};
use crate::value::{Row, Value};
use updraft_core::id::{DeviceNo, FirmwareNo, InstanceNo, JobNo, ProductNo};
use updraft_core::job::{JobStatus, JobType, Tag, TargetSelection};
use updraft_core::pace::Pace;
use updraft_core::task::Cancel;
use updraft_core::time::Timestamp;

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
    /// Its tags.
    pub tags: Vec<Tag>,
    /// Whether all its tasks are made in the same transaction.
    pub expanded: bool,
    /// Expansion: the last device to look at.
    pub expand_upto: DeviceNo,
}

fn tags_encode(tags: &[Tag]) -> String {
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

fn cancel_encode(cancel: Cancel) -> i64 {
    i64::from(cancel.confirm)
        | i64::from(cancel.queued) << 1
        | i64::from(cancel.notified) << 2
        | i64::from(cancel.in_progress) << 3
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
            "created_at, modified_at, start_at, end_at FROM job ",
            $rest
        )
    };
}

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
    })
}

fn job(row: &Row<'_>) -> Result<Job, StoreError> {
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
    })
}

const LOAD: Hot = Hot {
    row: jobs!("WHERE id = ?1"),
    set: jobs!("JOIN unnest($1::bigint[]) WITH ORDINALITY AS n(no, at) ON job.id = n.no ORDER BY n.at"),
    columns: &[Column::Int],
};

impl Tx<'_> {
    /// Adds a running batch as the newest of its package.
    pub fn job_insert(&mut self, new: &NewJob, now: Timestamp) -> Result<JobNo, StoreError> {
        let missing = || StoreError::Internal("the package of a new batch vanished".to_owned());
        let ordinal = self
            .query_one(
                "UPDATE firmware SET job_count = job_count + 1 WHERE id = ?1 RETURNING job_count",
                &[new.firmware.0.into()],
                |row| row.int(0),
            )?
            .ok_or_else(missing)?;
        self.query_one(
            "INSERT INTO job (instance, job_id, firmware, ordinal, product, job_type, status, target_selection,
                              need_push, per_minute, timeout_minutes, tags, pace_next_us, expanded, expand_after,
                              expand_upto, task_count, cancel_mask, created_at, modified_at, start_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, 0, ?13, 0, ?14, 0, 0, ?15, ?15, ?15)
             RETURNING id",
            &[
                new.instance.0.into(),
                (&new.job_id).into(),
                new.firmware.0.into(),
                ordinal.into(),
                new.product.0.into(),
                new.job_type.code().into(),
                JobStatus::InProgress.code().into(),
                new.target_selection.code().into(),
                new.need_push.into(),
                new.per_minute.into(),
                new.timeout_minutes.into(),
                (&tags_encode(&new.tags)).into(),
                new.expanded.into(),
                new.expand_upto.0.into(),
                now.0.into(),
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

    /// A package's batches from ordinal `low` to `high`, newest first: a range of an index, whatever the page.
    pub fn job_list_by_firmware(
        &mut self,
        firmware: FirmwareNo,
        low: i64,
        high: i64,
    ) -> Result<Vec<ListedJob>, StoreError> {
        self.query(
            "SELECT id, job_id, job_type, status, target_selection, tags, created_at, modified_at, start_at, end_at
             FROM job WHERE firmware = ?1 AND ordinal >= ?2 AND ordinal <= ?3 ORDER BY ordinal DESC",
            &[firmware.0.into(), low.into(), high.into()],
            listed,
        )
    }

    /// Batches of which tasks are still to be made.
    pub fn jobs_unexpanded(&mut self, limit: i64) -> Result<Vec<JobNo>, StoreError> {
        self.query("SELECT id FROM job WHERE expanded = 0 ORDER BY id LIMIT ?1", &[limit.into()], |row| {
            Ok(JobNo(row.int(0)?))
        })
    }

    /// Batches of which tasks are being cancelled.
    pub fn jobs_canceling(&mut self, limit: i64) -> Result<Vec<JobNo>, StoreError> {
        self.query("SELECT id FROM job WHERE cancel_mask <> 0 ORDER BY id LIMIT ?1", &[limit.into()], |row| {
            Ok(JobNo(row.int(0)?))
        })
    }

    /// Notes how far a batch's expansion has come.
    pub fn job_expansion_set(
        &mut self,
        no: JobNo,
        after: DeviceNo,
        expanded: bool,
        task_count: i64,
    ) -> Result<(), StoreError> {
        self.exec(
            "UPDATE job SET expand_after = ?2, expanded = ?3, task_count = ?4 WHERE id = ?1",
            &[no.0.into(), after.0.into(), expanded.into(), task_count.into()],
        )?;
        Ok(())
    }

    /// Notes a batch's next free push slot.
    pub fn job_pace_set(&mut self, no: JobNo, pace: Pace) -> Result<(), StoreError> {
        self.exec("UPDATE job SET pace_next_us = ?2 WHERE id = ?1", &[no.0.into(), pace.next_us.into()])?;
        Ok(())
    }

    /// Notes which tasks of a batch are being cancelled.
    pub fn job_cancel_set(&mut self, no: JobNo, cancel: Cancel, now: Timestamp) -> Result<(), StoreError> {
        self.exec(
            "UPDATE job SET cancel_mask = ?2, modified_at = ?3 WHERE id = ?1",
            &[no.0.into(), cancel_encode(cancel).into(), now.0.into()],
        )?;
        Ok(())
    }

    /// Ends a batch.
    pub fn job_end(&mut self, no: JobNo, status: JobStatus, now: Timestamp) -> Result<(), StoreError> {
        self.exec(
            "UPDATE job SET status = ?2, end_at = ?3, modified_at = ?3 WHERE id = ?1",
            &[no.0.into(), status.code().into(), now.0.into()],
        )?;
        Ok(())
    }
}
