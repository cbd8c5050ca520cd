//! Makes the tasks of a batch: at once for named devices, in bounded chunks for a whole product.

use crate::engine::advance::end_jobs;
use std::collections::BTreeMap;
use updraft_core::id::{JobNo, TaskNo};
use updraft_core::job::TargetSelection;
use updraft_core::target::{self, Verdict};
use updraft_core::task::{DESC_DEVICE_BUSY, Task, TaskStatus};
use updraft_core::time::Timestamp;
use updraft_store::{Candidate, Firmware, Job, StoreError, Tx};

/// Makes all tasks of a new batch in the transaction that makes the batch.
pub fn create_all(
    tx: &mut Tx<'_>,
    job: JobNo,
    candidates: &[Candidate],
    now: Timestamp,
) -> Result<(), StoreError> {
    let (mut job, firmware) = load(tx, job)?;
    create(tx, &mut job, &firmware, candidates, now)?;
    tx.job_expansion_set(job.no, job.expand_after, true, job.task_count)?;
    end_jobs(tx, &[&job], now)
}

/// Makes the next tasks of a batch that is for all devices of its product, and notes how far it came.
pub fn create_chunk(tx: &mut Tx<'_>, job: JobNo, rows: i64, now: Timestamp) -> Result<(), StoreError> {
    let (mut job, firmware) = load(tx, job)?;
    let candidates = match job.target_selection {
        TargetSelection::All => {
            tx.candidates_of_product(job.product, &firmware.module, job.expand_after, job.expand_upto, rows)?
        }
        // Made whole with the batch; nothing is left to do but to say so.
        TargetSelection::Specific => Vec::new(),
    };
    create(tx, &mut job, &firmware, &candidates, now)?;
    job.expanded = (candidates.len() as i64) < rows;
    if let Some(last) = candidates.last() {
        job.expand_after = last.device;
    }
    tx.job_expansion_set(job.no, job.expand_after, job.expanded, job.task_count)?;
    end_jobs(tx, &[&job], now)
}

fn load(tx: &mut Tx<'_>, job: JobNo) -> Result<(Job, Firmware), StoreError> {
    let missing =
        || StoreError::Corrupt { place: "job", detail: format!("job {job} has no row or firmware") };
    let job = tx.jobs_load(&[job])?.pop().ok_or_else(missing)?;
    let firmware = tx.firmwares_load(&[job.firmware])?.pop().ok_or_else(missing)?;
    Ok((job, firmware))
}

fn create(
    tx: &mut Tx<'_>,
    job: &mut Job,
    firmware: &Firmware,
    candidates: &[Candidate],
    now: Timestamp,
) -> Result<(), StoreError> {
    let mut tasks = Vec::with_capacity(candidates.len());
    let mut counts: BTreeMap<(JobNo, TaskStatus), i64> = BTreeMap::new();
    for candidate in candidates {
        let known = target::Candidate { version: candidate.version.as_deref(), busy: candidate.busy };
        let status = match target::judge(&known, &firmware.dest_version) {
            Verdict::SkipOnDestVersion => continue,
            Verdict::Queue => TaskStatus::Queued,
            Verdict::FailBusy => TaskStatus::Failed,
        };
        let pushed = status == TaskStatus::Queued && job.need_push && candidate.online;
        let due_at = pushed.then(|| match job.per_minute {
            None => now,
            Some(per_minute) => job.pace.reserve(per_minute, now),
        });
        job.task_count += 1;
        *counts.entry((job.no, status)).or_default() += 1;
        tasks.push(Task {
            no: TaskNo { job: job.no, ordinal: job.task_count },
            device: candidate.device,
            status,
            src_version: candidate.version.clone(),
            progress: 0,
            desc: if status == TaskStatus::Failed { DESC_DEVICE_BUSY.to_owned() } else { String::new() },
            due_at,
            revision: 1,
            created_at: now,
            modified_at: now,
        });
    }
    tx.tasks_insert(&tasks)?;
    tx.counts_add(&counts)?;
    tx.job_pace_set(job.no, job.pace)
}
