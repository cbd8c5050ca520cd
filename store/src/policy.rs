//! Dynamic batches: the rules that stand (`job.policy`), and the devices that they may ask for.

use crate::candidate::{Candidate, candidate, candidates};
use crate::error::StoreError;
use crate::job::{Job, job, jobs};
use crate::tx::{Column, Hot, Tx};
use crate::value::Value;
use updraft_core::id::{DeviceNo, FirmwareNo, GroupNo, JobNo, ProductNo};
use updraft_core::job::JobStatus;
use updraft_core::task::TaskStatus;
use updraft_core::time::Timestamp;

const NOTE: Hot = Hot {
    row: "INSERT INTO device_review (device)
          SELECT d.id FROM device d
          WHERE d.id = ?1 AND d.deleted_at IS NULL
            AND EXISTS (SELECT 1 FROM job j WHERE j.policy <> 0 AND j.product = d.product)
          ON CONFLICT (device) DO NOTHING",
    set: "INSERT INTO device_review (device)
          SELECT d.id FROM device d
          WHERE d.id = ANY($1::bigint[]) AND d.deleted_at IS NULL
            AND EXISTS (SELECT 1 FROM job j WHERE j.policy <> 0 AND j.product = d.product)
          ON CONFLICT (device) DO NOTHING",
    columns: &[Column::Int],
};

const PRODUCTS: Hot = Hot {
    row: "SELECT d.product, d.id FROM device d WHERE d.id = ?1 AND d.deleted_at IS NULL",
    set: "SELECT d.product, d.id FROM device d
          WHERE d.id = ANY($1::bigint[]) AND d.deleted_at IS NULL ORDER BY d.id",
    columns: &[Column::Int],
};

pub(crate) const CANDIDATES: Hot = Hot {
    row: candidates!(
        ", v.reported_at FROM device d LEFT JOIN device_version v ON v.device = d.id AND v.module = ?2
          WHERE d.id = ?1"
    )
    .sqlite,
    set: candidates!(
        ", v.reported_at FROM unnest($1::bigint[], $2::text[]) AS n(device, module)
          JOIN device d ON d.id = n.device
          LEFT JOIN device_version v ON v.device = d.id AND v.module = n.module ORDER BY d.id"
    )
    .postgres,
    columns: &[Column::Int, Column::Text],
};

pub(crate) const EARLIER: Hot = Hot {
    // The `+` keeps SQLite from reading all tasks of the batch (plan.rs).
    row: "SELECT job, device, status, modified_at FROM task WHERE device = ?2 AND +job = ?1 ORDER BY ordinal",
    set: "SELECT t.job, t.device, t.status, t.modified_at
          FROM unnest($1::bigint[], $2::bigint[]) AS n(job, device)
          JOIN task t ON t.job = n.job AND t.device = n.device ORDER BY t.job, t.ordinal",
    columns: &[Column::Int, Column::Int],
};

/// A task that a device had in a batch, as the next one is decided by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EarlierTask {
    /// The batch.
    pub job: JobNo,
    /// The device.
    pub device: DeviceNo,
    /// Where it stands.
    pub status: TaskStatus,
    /// When it last changed.
    pub changed_at: Timestamp,
}

fn each(devices: &[DeviceNo]) -> Vec<Vec<Value<'static>>> {
    devices.iter().map(|device| vec![device.0.into()]).collect()
}

impl Tx<'_> {
    /// Notes those of these devices for review whose product has a running dynamic batch; answers whether there
    /// were any. Costs one look at an index that is usually empty.
    pub fn reviews_add_for_policies(&mut self, devices: &[DeviceNo]) -> Result<bool, StoreError> {
        if devices.is_empty() {
            return Ok(false);
        }
        let any = self.query_one("SELECT 1 FROM job WHERE policy <> 0 LIMIT 1", &[], |_| Ok(()))?;
        if any.is_none() {
            return Ok(false);
        }
        Ok(self.exec_set(&NOTE, &each(devices))? > 0)
    }

    /// The running dynamic batches of a product, newest first.
    pub fn policies_of_product(&mut self, product: ProductNo) -> Result<Vec<Job>, StoreError> {
        self.query(jobs!("WHERE product = ?1 AND policy <> 0 ORDER BY id DESC"), &[product.0.into()], job)
    }

    /// The running dynamic batches that ask for a group, newest first.
    pub fn policies_of_group(&mut self, group: GroupNo) -> Result<Vec<Job>, StoreError> {
        self.query(jobs!("WHERE device_group = ?1 AND policy <> 0 ORDER BY id DESC"), &[group.0.into()], job)
    }

    /// The running dynamic batch of a package; it has one at most.
    pub fn policy_of_firmware(&mut self, firmware: FirmwareNo) -> Result<Option<Job>, StoreError> {
        self.query_one(
            jobs!("WHERE firmware = ?1 AND dynamic_mode IS NOT NULL AND policy <> 0 LIMIT 1"),
            &[firmware.0.into()],
            job,
        )
    }

    /// The products of these devices.
    pub fn products_of(&mut self, devices: &[DeviceNo]) -> Result<Vec<(ProductNo, DeviceNo)>, StoreError> {
        self.query_set(&PRODUCTS, &each(devices), |row| Ok((ProductNo(row.int(0)?), DeviceNo(row.int(1)?))))
    }

    /// These devices as candidates for a module, each with the moment of its last report.
    pub fn candidates_reported(
        &mut self,
        devices: &[DeviceNo],
        module: &str,
    ) -> Result<Vec<(Candidate, Option<Timestamp>)>, StoreError> {
        let keys: Vec<Vec<Value<'_>>> =
            devices.iter().map(|device| vec![device.0.into(), module.into()]).collect();
        self.query_set(&CANDIDATES, &keys, |row| Ok((candidate(row)?, row.opt_int(4)?.map(Timestamp))))
    }

    /// The tasks of these devices in these batches, of each pair in their order.
    pub fn tasks_earlier(&mut self, pairs: &[(JobNo, DeviceNo)]) -> Result<Vec<EarlierTask>, StoreError> {
        let keys: Vec<Vec<Value<'_>>> =
            pairs.iter().map(|(job, device)| vec![job.0.into(), device.0.into()]).collect();
        self.query_set(&EARLIER, &keys, |row| {
            let status = row.int(2)?;
            Ok(EarlierTask {
                job: JobNo(row.int(0)?),
                device: DeviceNo(row.int(1)?),
                status: TaskStatus::from_code(status)
                    .ok_or(StoreError::Corrupt { place: "task.status", detail: status.to_string() })?,
                changed_at: Timestamp(row.int(3)?),
            })
        })
    }

    /// Notes how many tasks a batch has.
    pub fn job_task_count_set(&mut self, no: JobNo, task_count: i64) -> Result<(), StoreError> {
        self.exec("UPDATE job SET task_count = ?2 WHERE id = ?1", &[no.0.into(), task_count.into()])?;
        Ok(())
    }

    /// Notes how far the walk of a dynamic batch over its devices has come.
    pub fn policy_walk_set(&mut self, no: JobNo, after: DeviceNo, done: bool) -> Result<(), StoreError> {
        self.exec(
            "UPDATE job SET expand_after = ?2, expanded = ?3 WHERE id = ?1",
            &[no.0.into(), after.0.into(), done.into()],
        )?;
        Ok(())
    }

    /// Lets a dynamic batch that still takes devices in look at all of them again, up to this one.
    pub fn policy_walk_again(&mut self, no: JobNo, upto: DeviceNo) -> Result<(), StoreError> {
        self.exec(
            "UPDATE job SET expand_after = 0, expand_upto = ?2, expanded = 0 WHERE id = ?1 AND policy <> 0",
            &[no.0.into(), upto.0.into()],
        )?;
        Ok(())
    }

    /// Ends the taking in of devices by a dynamic batch: it is CANCELED, its tasks live on. The older ones of the
    /// same module look at their devices again, which may be theirs now.
    pub fn policy_end(&mut self, ended: &Job, now: Timestamp) -> Result<(), StoreError> {
        self.exec(
            "UPDATE job SET policy = 0, status = ?2, end_at = ?3, modified_at = ?3, expanded = 1
             WHERE id = ?1 AND policy <> 0",
            &[ended.no.0.into(), JobStatus::Canceled.code().into(), now.0.into()],
        )?;
        self.policies_older_walk(ended)
    }

    /// The running dynamic batches of the same product and module that are older than this one look at their
    /// devices again: it follows fewer than before.
    pub fn policies_older_walk(&mut self, of: &Job) -> Result<(), StoreError> {
        self.exec(
            "UPDATE job SET expand_after = 0, expanded = 0,
                            expand_upto = COALESCE((SELECT MAX(id) FROM device
                                                    WHERE product = ?1 AND deleted_at IS NULL), 0)
             WHERE product = ?1 AND policy <> 0 AND id < ?2
               AND (SELECT f.module FROM firmware f WHERE f.id = job.firmware) =
                   (SELECT f.module FROM firmware f WHERE f.id = ?3)",
            &[of.product.0.into(), of.no.0.into(), of.firmware.0.into()],
        )?;
        Ok(())
    }
}
