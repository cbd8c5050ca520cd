//! Makes the tasks of a batch: at once for named devices, in bounded chunks for a whole product, a share of it, a
//! group, or a list file.

use crate::app::App;
use crate::engine::advance::{Door, Effects, end_jobs};
use crate::engine::dynamic;
use std::collections::BTreeMap;
use updraft_core::device::DeviceStatus;
use updraft_core::id::{DeviceNo, JobNo, TaskNo};
use updraft_core::job::{JobStatus, TargetSelection};
use updraft_core::target::{self, Demand, Standing, Verdict};
use updraft_core::task::{DESC_DEVICE_BUSY, Event, Task, TaskStatus};
use updraft_core::time::Timestamp;
use updraft_store::{Candidate, Firmware, Job, StoreError, Tx};

/// Makes all tasks of a new batch in the transaction that makes the batch.
pub fn create_all(
    tx: &mut Tx<'_>,
    app: &App,
    job: JobNo,
    candidates: &[Candidate],
    now: Timestamp,
) -> Result<Effects, StoreError> {
    let (mut job, firmware) = load(tx, job)?;
    let effects = create(tx, app, &mut job, &firmware, candidates, now)?;
    tx.job_expansion_set(job.no, job.expand_after, true, job.task_count)?;
    end_jobs(tx, &[&job], now)?;
    Ok(effects)
}

/// Makes the next tasks of a batch whose devices are not named in its call, and notes how far it came.
pub fn create_chunk(
    tx: &mut Tx<'_>,
    app: &App,
    job: JobNo,
    rows: i64,
    now: Timestamp,
) -> Result<Effects, StoreError> {
    let (mut job, firmware) = load(tx, job)?;
    if firmware.deleted_at.is_some() {
        cut_off(tx, job, rows, now)?;
        return Ok(Effects::default());
    }
    if job.conduct.dynamic.is_some() {
        return dynamic::walk_chunk(tx, app, &job, &firmware, rows, now);
    }
    let candidates = match job.target_selection {
        TargetSelection::All => {
            tx.candidates_of_product(job.product, &firmware.module, job.expand_after, job.expand_upto, rows)?
        }
        TargetSelection::Gray => {
            tx.candidates_of_targets(job.no, &firmware.module, job.expand_after, rows)?
        }
        TargetSelection::Group => {
            let group = job.conduct.group.ok_or_else(|| StoreError::Corrupt {
                place: "job.device_group",
                detail: format!("job {} has none and is for one", job.no),
            })?;
            let (after, upto) = (job.expand_after, job.expand_upto);
            tx.candidates_of_group(group, job.product, &firmware.module, after, upto, rows)?
        }
        // Of a list file; what is named in the call was made whole with the batch.
        TargetSelection::Specific => {
            let devices = tx.job_list_take(job.no)?;
            tx.candidates_of(&devices, &firmware.module)?
        }
    };
    let effects = create(tx, app, &mut job, &firmware, &candidates, now)?;
    job.expanded = match job.target_selection {
        TargetSelection::Specific => tx.job_list_is_empty(job.no)?,
        _ => (candidates.len() as i64) < rows,
    };
    let before = job.expand_after;
    if let Some(last) = candidates.last() {
        job.expand_after = last.device;
    }
    if job.target_selection == TargetSelection::Gray {
        // At the end all of them: chosen devices that were deleted meanwhile are no candidates.
        let upto = if job.expanded { DeviceNo(i64::MAX) } else { job.expand_after };
        tx.job_targets_delete(job.no, before, upto, i64::MAX)?;
    }
    tx.job_expansion_set(job.no, job.expand_after, job.expanded, job.task_count)?;
    end_jobs(tx, &[&job], now)?;
    Ok(effects)
}

/// Makes tasks of a dynamic batch for those of these devices that no other batch keeps busy.
pub fn take_in(
    tx: &mut Tx<'_>,
    app: &App,
    job: &mut Job,
    firmware: &Firmware,
    candidates: &[Candidate],
    now: Timestamp,
) -> Result<Effects, StoreError> {
    let effects = create(tx, app, job, firmware, candidates, now)?;
    tx.job_task_count_set(job.no, job.task_count)?;
    Ok(effects)
}

/// The batch's package is deleted: no further task is made, and the devices that were chosen are forgotten.
fn cut_off(tx: &mut Tx<'_>, mut job: Job, rows: i64, now: Timestamp) -> Result<(), StoreError> {
    tx.job_list_take(job.no)?;
    let forgotten = tx.job_targets_delete(job.no, DeviceNo(0), DeviceNo(i64::MAX), rows)? as i64;
    job.expanded = forgotten < rows && tx.job_list_is_empty(job.no)?;
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

/// How a task of the batch begins that may be carried out.
fn born(job: &Job) -> TaskStatus {
    if job.need_confirm { TaskStatus::Confirm } else { TaskStatus::Queued }
}

/// What a batch asks of devices that it has no task for yet.
pub fn demand<'a>(job: &'a Job, firmware: &'a Firmware) -> Demand<'a> {
    Demand {
        job: job.no,
        src_versions: firmware.sources(job),
        dest_version: &firmware.dest_version,
        module: &firmware.module,
        conduct: job.conduct,
        // A rule goes on after a cancellation, and may find its device again.
        unwanted: job.conduct.dynamic.is_none() && job.cancel.reaches(born(job)),
    }
}

/// Decides for each candidate; what stands in the way of the batch and may be replaced goes through the door.
fn judge(
    tx: &mut Tx<'_>,
    app: &App,
    job: &Job,
    firmware: &Firmware,
    candidates: &[Candidate],
    now: Timestamp,
) -> Result<(Vec<Verdict>, Effects), StoreError> {
    let demand = demand(job, firmware);
    let busy: Vec<DeviceNo> =
        candidates.iter().filter(|candidate| candidate.busy).map(|candidate| candidate.device).collect();
    let mut door = Door::open(tx, app, now);
    door.load_devices(&busy)?;
    let mut verdicts = Vec::with_capacity(candidates.len());
    for candidate in candidates {
        let open = door.open_tasks_of(candidate.device);
        let standing: Vec<Standing<'_>> = open.iter().map(|(_, standing)| *standing).collect();
        let known = target::Candidate { version: candidate.version.as_deref(), standing: &standing };
        let verdict = target::judge(&known, &demand);
        if verdict == Verdict::Replace {
            let in_the_way: Vec<TaskNo> = open
                .iter()
                .filter(|(_, other)| target::in_the_way(&job.conduct, &firmware.module, other.module))
                .map(|(no, _)| *no)
                .collect();
            for no in in_the_way {
                door.apply(no, &Event::Overwritten)?;
            }
        }
        verdicts.push(verdict);
    }
    Ok((verdicts, door.close()?))
}

fn create(
    tx: &mut Tx<'_>,
    app: &App,
    job: &mut Job,
    firmware: &Firmware,
    candidates: &[Candidate],
    now: Timestamp,
) -> Result<Effects, StoreError> {
    let (verdicts, effects) = judge(tx, app, job, firmware, candidates, now)?;
    // A batch that waits for its time hands out its slots beforehand.
    let earliest = job.schedule.start.map_or(now, |start| start.max(now));
    let mut tasks = Vec::with_capacity(candidates.len());
    let mut counts: BTreeMap<(JobNo, TaskStatus), i64> = BTreeMap::new();
    for (candidate, verdict) in candidates.iter().zip(verdicts) {
        let status = match verdict {
            Verdict::SkipOnDestVersion | Verdict::SkipOtherSource => continue,
            Verdict::Queue | Verdict::Replace => born(job),
            // It may fit again once the device is free.
            Verdict::Busy if job.conduct.dynamic.is_some() => continue,
            Verdict::Busy => TaskStatus::Failed,
        };
        job.task_count += 1;
        *counts.entry((job.no, status)).or_default() += 1;
        let no = TaskNo { job: job.no, ordinal: job.task_count };
        let mut task = Task::new(no, candidate.device, status, candidate.version.clone(), now);
        if status == TaskStatus::Failed {
            DESC_DEVICE_BUSY.clone_into(&mut task.desc);
        }
        if status == TaskStatus::Queued && job.need_push && candidate.status == DeviceStatus::Online {
            task.slot_at = Some(match job.per_minute {
                None => earliest,
                Some(per_minute) => job.pace.reserve(per_minute, earliest),
            });
        }
        tasks.push(task);
    }
    tx.tasks_insert(&tasks)?;
    tx.counts_add(&counts)?;
    tx.job_pace_set(job.no, job.pace)?;
    Ok(effects)
}
