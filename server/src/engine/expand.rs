//! Makes the tasks of a batch: at once for named devices, in bounded chunks for a whole product or a share of it.

use crate::engine::advance::end_jobs;
use std::collections::BTreeMap;
use updraft_core::id::{DeviceNo, JobNo, TaskNo};
use updraft_core::job::{JobStatus, TargetSelection};
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

/// Makes the next tasks of a batch that is for its whole product or a share of it, and notes how far it came.
pub fn create_chunk(tx: &mut Tx<'_>, job: JobNo, rows: i64, now: Timestamp) -> Result<(), StoreError> {
    let (mut job, firmware) = load(tx, job)?;
    if firmware.deleted_at.is_some() {
        return cut_off(tx, job, rows, now);
    }
    let candidates = match job.target_selection {
        TargetSelection::All => {
            tx.candidates_of_product(job.product, &firmware.module, job.expand_after, job.expand_upto, rows)?
        }
        TargetSelection::Gray => {
            tx.candidates_of_targets(job.no, &firmware.module, job.expand_after, rows)?
        }
        // Made whole with the batch; nothing is left to do but to say so.
        TargetSelection::Specific | TargetSelection::Group => Vec::new(),
    };
    create(tx, &mut job, &firmware, &candidates, now)?;
    job.expanded = (candidates.len() as i64) < rows;
    if let Some(last) = candidates.last() {
        job.expand_after = last.device;
    }
    if job.target_selection == TargetSelection::Gray {
        tx.job_targets_delete(job.no, job.expand_after, i64::MAX)?;
    }
    tx.job_expansion_set(job.no, job.expand_after, job.expanded, job.task_count)?;
    end_jobs(tx, &[&job], now)
}

/// The batch's package is deleted: no further task is made, and the devices that were chosen are forgotten.
fn cut_off(tx: &mut Tx<'_>, mut job: Job, rows: i64, now: Timestamp) -> Result<(), StoreError> {
    job.expanded = (tx.job_targets_delete(job.no, DeviceNo(i64::MAX), rows)? as i64) < rows;
    tx.job_expansion_set(job.no, job.expand_after, job.expanded, job.task_count)?;
    if job.expanded && job.task_count == 0 && !job.status.is_ended() {
        return tx.job_end(job.no, JobStatus::Canceled, now);
    }
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
    // A batch that waits for its time hands out its slots beforehand.
    let earliest = job.schedule.start.map_or(now, |start| start.max(now));
    let mut tasks = Vec::with_capacity(candidates.len());
    let mut counts: BTreeMap<(JobNo, TaskStatus), i64> = BTreeMap::new();
    for candidate in candidates {
        let known = target::Candidate { version: candidate.version.as_deref(), busy: candidate.busy };
        let status = match target::judge(&known, firmware.sources(job), &firmware.dest_version) {
            Verdict::SkipOnDestVersion | Verdict::SkipOtherSource => continue,
            Verdict::Queue if job.need_confirm => TaskStatus::Confirm,
            Verdict::Queue => TaskStatus::Queued,
            Verdict::FailBusy => TaskStatus::Failed,
        };
        job.task_count += 1;
        *counts.entry((job.no, status)).or_default() += 1;
        let no = TaskNo { job: job.no, ordinal: job.task_count };
        let mut task = Task::new(no, candidate.device, status, candidate.version.clone(), now);
        if status == TaskStatus::Failed {
            DESC_DEVICE_BUSY.clone_into(&mut task.desc);
        }
        if status == TaskStatus::Queued && job.need_push && candidate.online {
            task.slot_at = Some(match job.per_minute {
                None => earliest,
                Some(per_minute) => job.pace.reserve(per_minute, earliest),
            });
        }
        tasks.push(task);
    }
    tx.tasks_insert(&tasks)?;
    tx.counts_add(&counts)?;
    tx.job_pace_set(job.no, job.pace)
}
