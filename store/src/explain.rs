//! What is asked to explain why a device is updated or not; and what devices said that belongs to no task.

use crate::device::{Device, device, devices};
use crate::error::StoreError;
use crate::job::{Job, job, jobs};
use crate::task::{BY_DEVICES, ListedTask, listed};
use crate::tx::{Column, Hot, Tx};
use crate::value::Value;
use updraft_core::id::{DeviceNo, JobNo, ProductNo};
use updraft_core::time::Timestamp;

/// How often something that a device said was refused for one reason, since no task is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceRefusals {
    /// Who said it.
    pub device: DeviceNo,
    /// What.
    pub event: String,
    /// Why it was refused.
    pub why: String,
    /// The module that it was about the last time.
    pub module: String,
    /// How often.
    pub count: i64,
    /// The first time.
    pub first_at: Timestamp,
    /// The last time.
    pub last_at: Timestamp,
}

/// A version that a device reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportedVersion {
    /// The module.
    pub module: String,
    /// The version.
    pub version: String,
    /// When it was reported last.
    pub at: Timestamp,
}

const REFUSE: Hot = Hot {
    row: "INSERT INTO device_refusal (device, event, why, module, n, first_at, last_at)
          VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)
          ON CONFLICT (device, event, why)
          DO UPDATE SET n = device_refusal.n + excluded.n, module = excluded.module, last_at = excluded.last_at",
    set: "INSERT INTO device_refusal (device, event, why, module, n, first_at, last_at)
          SELECT r.device, r.event, r.why, r.module, r.n, r.at, r.at
          FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[])
            AS r(device, event, why, module, n, at)
          ON CONFLICT (device, event, why)
          DO UPDATE SET n = device_refusal.n + excluded.n, module = excluded.module, last_at = excluded.last_at",
    columns: &[Column::Int, Column::Text, Column::Text, Column::Text, Column::Int, Column::Int],
};

impl Tx<'_> {
    /// Counts refusals of each device, event and reason once.
    pub fn device_refusals_add(&mut self, refusals: &[DeviceRefusals]) -> Result<(), StoreError> {
        let rows: Vec<Vec<Value<'_>>> = refusals
            .iter()
            .map(|refused| {
                let DeviceRefusals { device, event, why, module, count, last_at, .. } = refused;
                let (event, why, module) = (event.into(), why.into(), module.into());
                vec![device.0.into(), event, why, module, (*count).into(), last_at.0.into()]
            })
            .collect();
        self.exec_set(&REFUSE, &rows)?;
        Ok(())
    }

    /// What was refused of a device, the newest first.
    pub fn device_refusals(&mut self, device: DeviceNo) -> Result<Vec<DeviceRefusals>, StoreError> {
        self.query(
            "SELECT event, why, module, n, first_at, last_at FROM device_refusal WHERE device = ?1
             ORDER BY last_at DESC, event, why",
            &[device.0.into()],
            |row| {
                Ok(DeviceRefusals {
                    device,
                    event: row.text(0)?,
                    why: row.text(1)?,
                    module: row.text(2)?,
                    count: row.int(3)?,
                    first_at: Timestamp(row.int(4)?),
                    last_at: Timestamp(row.int(5)?),
                })
            },
        )
    }

    /// The newest running batches of a product.
    pub fn jobs_running(&mut self, product: ProductNo, limit: i64) -> Result<Vec<Job>, StoreError> {
        self.query(
            jobs!("WHERE product = ?1 AND status < 2 ORDER BY id DESC LIMIT ?2"),
            &[product.0.into(), limit.into()],
            job,
        )
    }

    /// A device, also one that was deleted, with the moment when it was.
    pub fn device_load(
        &mut self,
        device: DeviceNo,
    ) -> Result<Option<(Device, Option<Timestamp>)>, StoreError> {
        let deleted =
            self.query_one("SELECT deleted_at FROM device WHERE id = ?1", &[device.0.into()], |row| {
                Ok(row.opt_int(0)?.map(Timestamp))
            })?;
        let found =
            self.query_one(devices!("FROM device d WHERE d.id = ?1"), &[device.0.into()], self::device)?;
        Ok(found.zip(deleted))
    }

    /// The versions that a device reported, by module.
    pub fn versions_reported(&mut self, device: DeviceNo) -> Result<Vec<ReportedVersion>, StoreError> {
        self.query(
            "SELECT module, version, reported_at FROM device_version WHERE device = ?1 ORDER BY module",
            &[device.0.into()],
            |row| {
                Ok(ReportedVersion {
                    module: row.text(0)?,
                    version: row.text(1)?,
                    at: Timestamp(row.int(2)?),
                })
            },
        )
    }

    /// A device's tasks in these batches.
    pub fn tasks_of_device(
        &mut self,
        device: DeviceNo,
        jobs: &[JobNo],
    ) -> Result<Vec<ListedTask>, StoreError> {
        let keys: Vec<Vec<Value<'_>>> = jobs.iter().map(|job| vec![job.0.into(), device.0.into()]).collect();
        self.query_set(&BY_DEVICES, &keys, listed)
    }

    /// Whether a device is one of those that were chosen for a batch, and that have no task yet.
    pub fn job_target_exists(&mut self, job: JobNo, device: DeviceNo) -> Result<bool, StoreError> {
        let found = self.query_one(
            "SELECT 1 FROM job_target WHERE job = ?1 AND device = ?2",
            &[job.0.into(), device.0.into()],
            |_| Ok(()),
        )?;
        Ok(found.is_some())
    }

    /// Whether a device is noted to be looked at again.
    pub fn review_exists(&mut self, device: DeviceNo) -> Result<bool, StoreError> {
        let found =
            self.query_one("SELECT 1 FROM device_review WHERE device = ?1", &[device.0.into()], |_| Ok(()))?;
        Ok(found.is_some())
    }
}
