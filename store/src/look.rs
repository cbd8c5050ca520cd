//! What checks of the whole look at: every row of a kind, in one statement. For the simulation, which looks after
//! each step; each costs a scan.

use crate::error::StoreError;
use crate::firmware::{Firmware, firmware, firmwares, gather};
use crate::job::{Job, job, jobs};
use crate::tx::Tx;
use std::collections::BTreeMap;
use updraft_core::id::{DeviceNo, JobNo};
use updraft_core::job::Counts;
use updraft_core::task::TaskStatus;

/// As much of a task as tells whether it has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskMark {
    /// Its position in the batch.
    pub ordinal: i64,
    /// Where it stands.
    pub status: TaskStatus,
    /// Counts its changes.
    pub revision: i64,
}

impl Tx<'_> {
    /// Says whether packages have changed: two equal answers in a row mean that hardly anything has.
    pub fn firmwares_mark(&mut self) -> Result<Vec<i64>, StoreError> {
        let marks = self.query(
            "SELECT COUNT(*), COUNT(deleted_at), COUNT(verify_job), COALESCE(MAX(verify_job), 0),
                    COALESCE(MAX(modified_at), 0), CAST(COALESCE(SUM(status), 0) AS BIGINT),
                    CAST(COALESCE(SUM(job_count), 0) AS BIGINT) FROM firmware",
            &[],
            |row| (0..7).map(|column| row.int(column)).collect::<Result<Vec<i64>, StoreError>>(),
        )?;
        Ok(marks.into_iter().flatten().collect())
    }

    /// Every package, deleted ones too.
    pub fn firmwares_all(&mut self) -> Result<Vec<Firmware>, StoreError> {
        Ok(gather(self.query(firmwares!(""), &[], firmware)?))
    }

    /// Every batch.
    pub fn jobs_all(&mut self) -> Result<Vec<Job>, StoreError> {
        self.query(jobs!("ORDER BY id"), &[], job)
    }

    /// The kept counts of every batch that has any.
    pub fn counts_all(&mut self) -> Result<BTreeMap<JobNo, Counts>, StoreError> {
        let rows =
            self.query("SELECT job, status, n FROM job_count ORDER BY job, status, node", &[], |row| {
                Ok((JobNo(row.int(0)?), status("job_count.status", row.int(1)?)?, row.int(2)?))
            })?;
        let mut counts: BTreeMap<JobNo, Counts> = BTreeMap::new();
        for (job, status, n) in rows {
            counts.entry(job).or_default().add(status, n);
        }
        Ok(counts)
    }

    /// Every task of a batch, in order, as far as it tells whether it has changed.
    pub fn task_marks(&mut self, job: JobNo) -> Result<Vec<TaskMark>, StoreError> {
        self.query(
            "SELECT ordinal, status, revision FROM task WHERE job = ?1 ORDER BY ordinal",
            &[job.0.into()],
            |row| {
                let status = status("task.status", row.int(1)?)?;
                Ok(TaskMark { ordinal: row.int(0)?, status, revision: row.int(2)? })
            },
        )
    }

    /// Every device that may not connect, and whether it is deleted.
    pub fn devices_barred_all(&mut self) -> Result<Vec<(DeviceNo, bool)>, StoreError> {
        self.query(
            "SELECT id, CASE WHEN deleted_at IS NULL THEN CAST(0 AS BIGINT) ELSE CAST(1 AS BIGINT) END
             FROM device WHERE disabled <> 0 OR deleted_at IS NOT NULL ORDER BY id",
            &[],
            |row| Ok((DeviceNo(row.int(0)?), row.flag(1)?)),
        )
    }
}

fn status(place: &'static str, code: i64) -> Result<TaskStatus, StoreError> {
    TaskStatus::from_code(code).ok_or_else(|| StoreError::Corrupt { place, detail: code.to_string() })
}
