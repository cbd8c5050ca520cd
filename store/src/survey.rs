//! What the plan of a batch asks: whom the batch would meet, and how the product's last batches went.

use crate::error::StoreError;
use crate::tx::{Column, Hot, Tx};
use crate::value::Value;
use updraft_core::id::{DeviceNo, JobNo, ProductNo, TaskNo};
use updraft_core::task::TaskStatus;
use updraft_core::time::Timestamp;

/// An unfinished task of a device, as another batch meets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StandingTask {
    /// The device.
    pub device: DeviceNo,
    /// Its batch.
    pub job: JobNo,
    /// The module that it is for.
    pub module: String,
    /// Where it stands.
    pub status: TaskStatus,
}

/// What became of a task, as far as it is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PastTask {
    /// Where it stands.
    pub status: TaskStatus,
    /// How many attempts were repeated.
    pub retries: i64,
    /// When its device was told, in the last line of its history that says so.
    pub told_at: Option<Timestamp>,
    /// When it last changed: when it ended, if it has.
    pub changed_at: Timestamp,
}

pub(crate) const STANDING: Hot = Hot {
    row: "SELECT t.device, t.job, f.module, t.status
          FROM task t INDEXED BY task_open JOIN job j ON j.id = t.job JOIN firmware f ON f.id = j.firmware
          WHERE t.device = ?1 AND t.status < 4 ORDER BY t.job, t.ordinal",
    set: "SELECT t.device, t.job, f.module, t.status
          FROM task t JOIN job j ON j.id = t.job JOIN firmware f ON f.id = j.firmware
          WHERE t.device = ANY($1::bigint[]) AND t.status < 4 ORDER BY t.device, t.job, t.ordinal",
    columns: &[Column::Int],
};

// 1: QUEUED, 2: NOTIFIED.
const PAST: Hot = Hot {
    row: "SELECT t.status, t.retries, t.modified_at,
                 (SELECT MAX(h.at) FROM task_history h
                  WHERE h.job = t.job AND h.ordinal = t.ordinal AND h.from_status = 1 AND h.to_status = 2)
          FROM task t WHERE t.job = ?1 AND t.ordinal = ?2",
    set: "SELECT t.status, t.retries, t.modified_at,
                 (SELECT MAX(h.at) FROM task_history h
                  WHERE h.job = t.job AND h.ordinal = t.ordinal AND h.from_status = 1 AND h.to_status = 2)
          FROM unnest($1::bigint[], $2::bigint[]) AS n(job, ordinal)
          JOIN task t ON t.job = n.job AND t.ordinal = n.ordinal ORDER BY t.job, t.ordinal",
    columns: &[Column::Int, Column::Int],
};

fn status(code: i64) -> Result<TaskStatus, StoreError> {
    TaskStatus::from_code(code).ok_or(StoreError::Corrupt { place: "task.status", detail: code.to_string() })
}

impl Tx<'_> {
    /// The unfinished tasks of these devices: of one device together, oldest batch first. For reading only;
    /// whoever changes them loads them (`tasks_open`).
    pub fn tasks_standing(&mut self, devices: &[DeviceNo]) -> Result<Vec<StandingTask>, StoreError> {
        let keys: Vec<Vec<Value<'_>>> = devices.iter().map(|device| vec![device.0.into()]).collect();
        self.query_set(&STANDING, &keys, |row| {
            Ok(StandingTask {
                device: DeviceNo(row.int(0)?),
                job: JobNo(row.int(1)?),
                module: row.text(2)?,
                status: status(row.int(3)?)?,
            })
        })
    }

    /// The number that the next batch gets, if nothing comes in between.
    pub fn job_next(&mut self) -> Result<JobNo, StoreError> {
        let last =
            self.query_one("SELECT COALESCE(MAX(id), 0) FROM job", &[], |row| Ok(JobNo(row.int(0)?)))?;
        Ok(JobNo(last.unwrap_or_default().0.saturating_add(1)))
    }

    /// The newest `limit` batches of a product's packages for a module, newest first, each with how many tasks it has.
    /// Costs a look at each batch of these packages.
    pub fn jobs_lately(
        &mut self,
        product: ProductNo,
        module: &str,
        limit: i64,
    ) -> Result<Vec<(JobNo, i64)>, StoreError> {
        self.query(
            "SELECT j.id, j.task_count FROM firmware f JOIN job j ON j.firmware = f.id
             WHERE f.product = ?1 AND f.module = ?2 AND f.deleted_at IS NULL ORDER BY j.id DESC LIMIT ?3",
            &[product.0.into(), module.into(), limit.into()],
            |row| Ok((JobNo(row.int(0)?), row.int(1)?)),
        )
    }

    /// What became of these tasks; give them in order.
    pub fn tasks_past(&mut self, tasks: &[TaskNo]) -> Result<Vec<PastTask>, StoreError> {
        let keys: Vec<Vec<Value<'_>>> =
            tasks.iter().map(|no| vec![no.job.0.into(), no.ordinal.into()]).collect();
        self.query_set(&PAST, &keys, |row| {
            Ok(PastTask {
                status: status(row.int(0)?)?,
                retries: row.int(1)?,
                changed_at: Timestamp(row.int(2)?),
                told_at: row.opt_int(3)?.map(Timestamp),
            })
        })
    }
}
