//! Batches that are changed while they run, and the terms that hold for the tasks that they have already.

use crate::error::StoreError;
use crate::firmware::Firmware;
use crate::job::{Job, tags_encode, versions_encode};
use crate::tx::Tx;
use updraft_core::firmware::FirmwareKind;
use updraft_core::id::{JobNo, TaskNo};
use updraft_core::job::{JobStatus, Tag};
use updraft_core::pace::Pace;
use updraft_core::task::TaskStatus;
use updraft_core::time::Timestamp;

/// What held for the first tasks of a batch, before it was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormerTerms {
    /// The last task that it holds for.
    pub upto: i64,
    /// Minutes from the first progress report to failure.
    pub timeout_minutes: Option<i64>,
    /// The versions that devices may come from; empty: any.
    pub src_versions: Vec<String>,
}

/// What a batch is changed to.
#[derive(Debug, Clone)]
pub struct JobUpdate {
    /// Devices per minute.
    pub per_minute: i64,
    /// The next free push slot.
    pub pace: Pace,
    /// Whether tasks that have a slot get another one: the old ones are of another rate.
    pub repace: bool,
    /// Minutes from the first progress report to failure.
    pub timeout_minutes: Option<i64>,
    /// The versions that devices may come from.
    pub src_versions: Vec<String>,
    /// Its tags.
    pub tags: Vec<Tag>,
    /// What held before, oldest first.
    pub former: Vec<FormerTerms>,
}

pub(crate) fn former_encode(former: &[FormerTerms]) -> String {
    let rows: Vec<_> = former.iter().map(|of| (of.upto, of.timeout_minutes, &of.src_versions)).collect();
    // Numbers and texts always serialise.
    serde_json::to_string(&rows).unwrap_or_else(|_| "[]".to_owned())
}

pub(crate) fn former_decode(text: &str) -> Result<Vec<FormerTerms>, StoreError> {
    if text == "[]" {
        return Ok(Vec::new());
    }
    let rows: Vec<(i64, Option<i64>, Vec<String>)> = serde_json::from_str(text)
        .map_err(|error| StoreError::Corrupt { place: "job.former_terms", detail: error.to_string() })?;
    let former = |(upto, timeout_minutes, src_versions)| FormerTerms { upto, timeout_minutes, src_versions };
    Ok(rows.into_iter().map(former).collect())
}

impl Job {
    fn former_of(&self, ordinal: i64) -> Option<&FormerTerms> {
        self.former.iter().find(|former| ordinal <= former.upto)
    }

    /// The time-out of one of its tasks, in minutes.
    pub fn timeout_minutes_of(&self, ordinal: i64) -> Option<i64> {
        self.former_of(ordinal).map_or(self.timeout_minutes, |former| former.timeout_minutes)
    }

    /// Whether a task's push slot was reserved at a rate that holds no more.
    pub fn slot_is_void(&self, ordinal: i64) -> bool {
        self.repace_after.is_some_and(|after| ordinal > after)
    }
}

impl Firmware {
    /// The versions that the device of one of the batch's tasks may come from (empty: any), as
    /// [`Firmware::sources`] says of the next one.
    pub fn sources_of<'a>(&'a self, job: &'a Job, ordinal: i64) -> &'a [String] {
        match (self.kind, job.former_of(ordinal)) {
            (FirmwareKind::Full, Some(former)) => &former.src_versions,
            _ => self.sources(job),
        }
    }
}

impl Tx<'_> {
    /// Changes a batch.
    pub fn job_update(&mut self, no: JobNo, update: &JobUpdate, now: Timestamp) -> Result<(), StoreError> {
        self.exec(
            "UPDATE job SET per_minute = ?2, pace_next_us = ?3, timeout_minutes = ?4, src_versions = ?5, tags = ?6,
                            former_terms = ?7, modified_at = ?8
             WHERE id = ?1",
            &[
                no.0.into(),
                update.per_minute.into(),
                update.pace.next_us.into(),
                update.timeout_minutes.into(),
                (&versions_encode(&update.src_versions)).into(),
                (&tags_encode(&update.tags)).into(),
                (&former_encode(&update.former)).into(),
                now.0.into(),
            ],
        )?;
        if update.repace { self.job_repace_set(no, Some(0)) } else { Ok(()) }
    }

    /// Batches of which tasks are to get other push slots.
    pub fn jobs_repacing(&mut self, limit: i64) -> Result<Vec<JobNo>, StoreError> {
        self.query(
            "SELECT id FROM job WHERE repace_after IS NOT NULL ORDER BY id LIMIT ?1",
            &[limit.into()],
            |row| Ok(JobNo(row.int(0)?)),
        )
    }

    /// Running batches whose next free push slot lies after `at`.
    pub fn jobs_paced_beyond(&mut self, at: Timestamp) -> Result<Vec<JobNo>, StoreError> {
        self.query(
            // `status < 2` is the index's condition.
            "SELECT id FROM job WHERE status < 2 AND status = ?1 AND pace_next_us > ?2 ORDER BY id",
            &[JobStatus::InProgress.code().into(), at.0.saturating_mul(1_000).into()],
            |row| Ok(JobNo(row.int(0)?)),
        )
    }

    /// Notes up to which task a batch's tasks have other push slots; `None`: all have.
    pub fn job_repace_set(&mut self, no: JobNo, after: Option<i64>) -> Result<(), StoreError> {
        self.exec("UPDATE job SET repace_after = ?2 WHERE id = ?1", &[no.0.into(), after.into()])?;
        Ok(())
    }

    /// A batch's queued tasks after this one, in order.
    pub fn tasks_queued_after(
        &mut self,
        job: JobNo,
        after: i64,
        limit: i64,
    ) -> Result<Vec<TaskNo>, StoreError> {
        self.query(
            "SELECT ordinal FROM task WHERE job = ?1 AND status = ?2 AND ordinal > ?3 ORDER BY ordinal LIMIT ?4",
            &[job.0.into(), TaskStatus::Queued.code().into(), after.into(), limit.into()],
            |row| Ok(TaskNo { job, ordinal: row.int(0)? }),
        )
    }
}
