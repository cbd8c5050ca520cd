//! How many tasks of a batch are in each state: kept in the transaction of the change, never counted per
//! request. Of several nodes one writes at a time, so a batch has one row for each state; rows are summed on read.

use crate::error::StoreError;
use crate::tx::{Column, Hot, Tx};
use crate::value::Value;
use std::collections::BTreeMap;
use updraft_core::id::JobNo;
use updraft_core::job::Counts;
use updraft_core::task::TaskStatus;

/// What stands in the column `node`, which the first schema made for nodes that write side by side.
pub(crate) const NODE: i64 = 0;

const ADD: Hot = Hot {
    row: "INSERT INTO job_count (job, status, node, n) VALUES (?1, ?2, ?3, ?4)
          ON CONFLICT (job, status, node) DO UPDATE SET n = job_count.n + excluded.n",
    set: "INSERT INTO job_count (job, status, node, n)
          SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[])
          ON CONFLICT (job, status, node) DO UPDATE SET n = job_count.n + excluded.n",
    columns: &[Column::Int, Column::Int, Column::Int, Column::Int],
};

const LOAD: Hot = Hot {
    row: "SELECT job, status, n FROM job_count WHERE job = ?1",
    set: "SELECT job, status, n FROM job_count WHERE job = ANY($1::bigint[])",
    columns: &[Column::Int],
};

impl Tx<'_> {
    /// Adds to (or takes from) the counts of batches; zero entries cost nothing.
    pub fn counts_add(&mut self, deltas: &BTreeMap<(JobNo, TaskStatus), i64>) -> Result<(), StoreError> {
        let rows: Vec<Vec<Value<'_>>> = deltas
            .iter()
            .filter(|(_, n)| **n != 0)
            .map(|((job, status), n)| vec![job.0.into(), status.code().into(), NODE.into(), (*n).into()])
            .collect();
        self.exec_set(&ADD, &rows)?;
        Ok(())
    }

    /// The counts of these batches; a batch without tasks is absent.
    pub fn counts_load(&mut self, jobs: &[JobNo]) -> Result<BTreeMap<JobNo, Counts>, StoreError> {
        let keys: Vec<Vec<Value<'_>>> = jobs.iter().map(|job| vec![job.0.into()]).collect();
        let rows = self.query_set(&LOAD, &keys, |row| Ok((JobNo(row.int(0)?), row.int(1)?, row.int(2)?)))?;
        let mut counts: BTreeMap<JobNo, Counts> = BTreeMap::new();
        for (job, status, n) in rows {
            let status = TaskStatus::from_code(status)
                .ok_or(StoreError::Corrupt { place: "job_count.status", detail: status.to_string() })?;
            counts.entry(job).or_default().add(status, n);
        }
        Ok(counts)
    }

    /// The counts of a batch, taken from its rows: what the kept ones must equal. For checks; costs a scan.
    pub fn counts_from_rows(&mut self, job: JobNo) -> Result<Counts, StoreError> {
        let rows = self.query(
            "SELECT status, COUNT(*) FROM task WHERE job = ?1 GROUP BY status ORDER BY status",
            &[job.0.into()],
            |row| Ok((row.int(0)?, row.int(1)?)),
        )?;
        let mut counts = Counts::default();
        for (status, n) in rows {
            let status = TaskStatus::from_code(status)
                .ok_or(StoreError::Corrupt { place: "task.status", detail: status.to_string() })?;
            counts.add(status, n);
        }
        Ok(counts)
    }
}
