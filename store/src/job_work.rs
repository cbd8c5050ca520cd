//! What the engine asks and notes of batches: which of them need work, and how far it has come.

use crate::error::StoreError;
use crate::tx::{Column, Conn, Hot, Tx};
use crate::value::Value;
use updraft_core::id::{DeviceNo, FirmwareNo, JobNo};
use updraft_core::job::JobStatus;
use updraft_core::pace::Pace;
use updraft_core::task::Cancel;
use updraft_core::time::Timestamp;

const TARGETS_INSERT: Hot = Hot {
    row: "INSERT INTO job_target (job, device) VALUES (?1, ?2) ON CONFLICT (job, device) DO NOTHING",
    set: "INSERT INTO job_target (job, device) SELECT * FROM unnest($1::bigint[], $2::bigint[])
          ON CONFLICT (job, device) DO NOTHING",
    columns: &[Column::Int, Column::Int],
};

pub(crate) fn cancel_encode(cancel: Cancel) -> i64 {
    i64::from(cancel.confirm)
        | i64::from(cancel.queued) << 1
        | i64::from(cancel.notified) << 2
        | i64::from(cancel.in_progress) << 3
}

impl Tx<'_> {
    /// Batches of which tasks are still to be made, and whose devices are known. Dynamic ones come last: a look at
    /// all devices for a rule, of which the end of another rule may start many, holds up no batch that waits.
    pub fn jobs_unexpanded(&mut self, limit: i64) -> Result<Vec<JobNo>, StoreError> {
        self.query(
            "SELECT id FROM job WHERE expanded = 0 AND selecting = 0 ORDER BY policy, id LIMIT ?1",
            &[limit.into()],
            |row| Ok(JobNo(row.int(0)?)),
        )
    }

    /// Batches whose devices are still to be chosen.
    pub fn jobs_selecting(&mut self, limit: i64) -> Result<Vec<JobNo>, StoreError> {
        self.query("SELECT id FROM job WHERE selecting <> 0 ORDER BY id LIMIT ?1", &[limit.into()], |row| {
            Ok(JobNo(row.int(0)?))
        })
    }

    /// Batches whose start or finish time has come, earliest first.
    pub fn jobs_due(&mut self, now: Timestamp, limit: i64) -> Result<Vec<JobNo>, StoreError> {
        self.query(
            "SELECT id FROM job WHERE due_at IS NOT NULL AND due_at <= ?1 ORDER BY due_at, id LIMIT ?2",
            &[now.0.into(), limit.into()],
            |row| Ok(JobNo(row.int(0)?)),
        )
    }

    /// When the next start or finish time comes.
    pub fn job_next_due(&mut self) -> Result<Option<Timestamp>, StoreError> {
        self.query_one(
            "SELECT due_at FROM job WHERE due_at IS NOT NULL ORDER BY due_at LIMIT 1",
            &[],
            |row| Ok(Timestamp(row.int(0)?)),
        )
    }

    /// Opens a batch that waited or had ended: its status, and when to look at it next.
    pub fn job_open(
        &mut self,
        no: JobNo,
        status: JobStatus,
        due_at: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let started = (status == JobStatus::InProgress).then_some(now.0);
        self.exec(
            "UPDATE job SET status = ?2, due_at = ?3, end_at = NULL, start_at = COALESCE(start_at, ?4),
                            modified_at = ?5
             WHERE id = ?1",
            &[no.0.into(), status.code().into(), due_at.map(|at| at.0).into(), started.into(), now.0.into()],
        )?;
        Ok(())
    }

    /// Notes that a batch's finish time was dealt with.
    pub fn job_due_clear(&mut self, no: JobNo) -> Result<(), StoreError> {
        self.exec("UPDATE job SET due_at = NULL WHERE id = ?1", &[no.0.into()])?;
        Ok(())
    }

    /// Adds devices to those chosen for a batch; one that is chosen already stays so.
    pub fn job_targets_insert(&mut self, no: JobNo, devices: &[DeviceNo]) -> Result<(), StoreError> {
        let rows: Vec<Vec<Value<'_>>> =
            devices.iter().map(|device| vec![no.0.into(), device.0.into()]).collect();
        self.exec_set(&TARGETS_INSERT, &rows)?;
        Ok(())
    }

    /// Forgets up to `limit` chosen devices of a batch, behind one and up to another; answers how many.
    // A range, not a set of numbers: for that PostgreSQL would read all that were chosen, for every page of them.
    pub fn job_targets_delete(
        &mut self,
        no: JobNo,
        after: DeviceNo,
        upto: DeviceNo,
        limit: i64,
    ) -> Result<usize, StoreError> {
        let ends = self.query_one(
            "SELECT MIN(n.device), MAX(n.device) FROM
               (SELECT device FROM job_target WHERE job = ?1 AND device > ?2 AND device <= ?3
                ORDER BY device LIMIT ?4) AS n",
            &[no.0.into(), after.0.into(), upto.0.into(), limit.into()],
            |row| Ok(row.opt_int(0)?.zip(row.opt_int(1)?)),
        )?;
        let Some((first, last)) = ends.flatten() else { return Ok(0) };
        self.exec(
            "DELETE FROM job_target WHERE job = ?1 AND device >= ?2 AND device <= ?3",
            &[no.0.into(), first.into(), last.into()],
        )
    }

    /// Notes that all devices of a batch are chosen.
    pub fn job_selected(&mut self, no: JobNo) -> Result<(), StoreError> {
        self.exec("UPDATE job SET selecting = 0 WHERE id = ?1", &[no.0.into()])?;
        match &mut self.conn {
            Conn::Sqlite(_) => Ok(()),
            // The table was empty a moment ago, and is planned for as if it were: each page of candidates would be sorted
            // out of all that are left. PostgreSQL's own look at it comes a minute later.
            Conn::Postgres(conn) => conn.batch("ANALYZE job_target"),
        }
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

    /// Adds to the states of a batch whose tasks are to be cancelled.
    pub fn job_cancel_add(&mut self, no: JobNo, cancel: Cancel, now: Timestamp) -> Result<(), StoreError> {
        self.exec(
            "UPDATE job SET cancel_mask = cancel_mask | ?2, modified_at = ?3 WHERE id = ?1",
            &[no.0.into(), cancel_encode(cancel).into(), now.0.into()],
        )?;
        Ok(())
    }

    /// Takes states away whose tasks are cancelled; what somebody added meanwhile stays.
    pub fn job_cancel_done(&mut self, no: JobNo, done: Cancel, now: Timestamp) -> Result<(), StoreError> {
        self.exec(
            "UPDATE job SET cancel_mask = cancel_mask & ?2, modified_at = ?3 WHERE id = ?1",
            &[no.0.into(), (!cancel_encode(done)).into(), now.0.into()],
        )?;
        Ok(())
    }

    /// Whether tasks of a package's batches, or of one of them, are still to be made.
    pub fn job_unexpanded_exists(
        &mut self,
        firmware: FirmwareNo,
        job: Option<JobNo>,
    ) -> Result<bool, StoreError> {
        let found = self.query_one(
            "SELECT 1 FROM job WHERE expanded = 0 AND firmware = ?1 AND id = COALESCE(?2, id) LIMIT 1",
            &[firmware.0.into(), job.map(|job| job.0).into()],
            |_| Ok(()),
        )?;
        Ok(found.is_some())
    }

    /// Ends a batch.
    pub fn job_end(&mut self, no: JobNo, status: JobStatus, now: Timestamp) -> Result<(), StoreError> {
        self.exec(
            "UPDATE job SET status = ?2, end_at = ?3, modified_at = ?3, due_at = NULL WHERE id = ?1",
            &[no.0.into(), status.code().into(), now.0.into()],
        )?;
        Ok(())
    }
}
