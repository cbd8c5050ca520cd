//! Whether a batch is what its tasks make of it, and a package what its verification does.

use super::Checker;
use crate::shot::JobShot;
use crate::{Violation, ensure};
use std::collections::BTreeMap;
use updraft_core::firmware::FirmwareStatus;
use updraft_core::id::TaskNo;
use updraft_core::job::{Counts, JobStatus};
use updraft_core::task::{Task, TaskStatus};
use updraft_store::{Firmware, Job};

impl Checker {
    pub(super) fn job_fits(
        &self,
        of: &JobShot,
        gone: bool,
        seen: &BTreeMap<TaskNo, &Task>,
    ) -> Result<(), Violation> {
        let JobShot { job, kept, rows } = of;
        let at = |why: String| format!("batch {}: {why}", job.no);
        if let Some(marks) = rows {
            let mut rows = Counts::default();
            for mark in marks {
                rows.add(mark.status, 1);
            }
            ensure(*kept == rows, || at(format!("kept counts {kept:?}, rows {rows:?}")))?;
            let gapless = marks.iter().map(|mark| mark.ordinal).eq(1..=job.task_count);
            ensure(gapless && rows.total() == job.task_count, || {
                at(format!(
                    "{} tasks counted, rows {rows:?}, ordinals with gaps: {}",
                    job.task_count, !gapless
                ))
            })?;
        }
        if job.conduct.dynamic.is_some() {
            return self.rule_fits(job, seen);
        }
        let over = job.expanded && kept.open() == 0;
        ensure(job.status.is_ended() == over, || at(format!("{:?} with {kept:?}", job.status)))?;
        let finished = job.end_at.is_some_and(|end| job.schedule.is_finished(end));
        // Before any of its tasks was made only the end of its package can cancel it.
        let some = kept.total() > 0 || gone && job.status == JobStatus::Canceled;
        let all_canceled = !finished && some && kept.of(TaskStatus::Canceled) == kept.total();
        let stopped = job.status.is_ended() || job.cancel.queued;
        ensure(!gone || stopped, || at("goes on without its package".to_owned()))?;
        let told = kept.of(TaskStatus::Notified) + kept.of(TaskStatus::InProgress);
        ensure(job.status != JobStatus::Planned || told == 0, || at(format!("planned with {kept:?}")))?;
        ensure(!over || (job.status == JobStatus::Canceled) == all_canceled, || {
            at(format!("{:?} with {kept:?}", job.status))
        })?;
        ensure(job.end_at.is_some() == over, || at(format!("ends at {:?}", job.end_at)))?;
        let was = self.jobs.get(&job.no);
        let again = self.asked.iter().any(|task| task.job == job.no);
        let revived = was.is_some_and(|was| was.status.is_ended() && was.status != job.status) && !again;
        ensure(!revived, || at(format!("was ended, is {:?}", job.status)))?;
        let shrank = was.is_some_and(|was| was.task_count > job.task_count || was.expanded && !job.expanded);
        ensure(!shrank, || at("lost tasks".to_owned()))
    }

    /// A dynamic batch runs while its rule stands, whatever its tasks do, and gives a device ten tasks at most.
    fn rule_fits(&self, job: &Job, seen: &BTreeMap<TaskNo, &Task>) -> Result<(), Violation> {
        let at = |why: String| format!("batch {}: {why}", job.no);
        let status = if job.policy { JobStatus::InProgress } else { JobStatus::Canceled };
        ensure(job.status == status && job.end_at.is_none() == job.policy, || {
            at(format!("is {:?}", job.status))
        })?;
        let range = TaskNo { job: job.no, ordinal: 0 }..=TaskNo { job: job.no, ordinal: i64::MAX };
        let new = seen.range(range.clone()).map(|(_, task)| *task);
        let born: Vec<&Task> = new.filter(|task| !self.tasks.contains_key(&task.no)).collect();
        for task in &born {
            let all = self.tasks.range(range.clone()).map(|(_, task)| task).chain(born.iter().copied());
            let count = all.filter(|other| other.device == task.device).count();
            ensure(count <= 10, || at(format!("device {} has {count} tasks", task.device)))?;
            let fits = task.src_version.as_ref().is_some_and(|version| job.src_versions.contains(version));
            let fits = fits || task.revision > 1;
            ensure(fits, || at(format!("device {} runs {:?}", task.device, task.src_version)))?;
        }
        let was = self.jobs.get(&job.no);
        ensure(was.is_none_or(|was| was.policy || !job.policy), || at("takes devices in again".to_owned()))?;
        let grew = was.is_some_and(|was| !was.policy && was.task_count != job.task_count);
        ensure(!grew, || at("takes devices in after its end".to_owned()))
    }
}

/// A package's status is what its verification batch makes of it.
pub(super) fn firmware_fits(firmware: &Firmware, jobs: &[JobShot]) -> Result<(), Violation> {
    let number = jobs.iter().filter(|of| of.job.firmware == firmware.no).count() as i64;
    ensure(number == firmware.job_count, || {
        format!("package {}: {} batches counted, {number} rows", firmware.no, firmware.job_count)
    })?;
    let of = jobs.iter().find(|of| Some(of.job.no) == firmware.verify_job);
    let fits = match of {
        None => matches!(firmware.status, FirmwareStatus::NoVerification | FirmwareStatus::Unverified),
        // Told again here, not asked of core: a check that asks the same function finds nothing.
        Some(of) if of.job.status.is_ended() => {
            let all = of.kept.total() > 0 && of.kept.of(TaskStatus::Succeeded) == of.kept.total();
            firmware.status == if all { FirmwareStatus::Verified } else { FirmwareStatus::VerifyFailed }
        }
        Some(_) => firmware.status == FirmwareStatus::Verifying,
    };
    ensure(fits, || {
        format!(
            "package {} is {:?}, its verification {:?}",
            firmware.no, firmware.status, firmware.verify_job
        )
    })
}
