//! What the checks look at: packages, batches and tasks as they are in the database at one moment.

use std::collections::{BTreeMap, BTreeSet};
use updraft_core::id::{DeviceNo, FirmwareNo, JobNo, TaskNo};
use updraft_core::job::Counts;
use updraft_core::task::Task;
use updraft_store::{Firmware, Job, StoreError, Tx};

/// What to photograph.
pub(crate) struct Camera {
    pub(crate) firmwares: Vec<FirmwareNo>,
    /// Batches whose tasks are left out.
    pub(crate) settled: BTreeSet<JobNo>,
    /// Who was just told of which task.
    pub(crate) told: Vec<(DeviceNo, TaskNo)>,
}

/// The database at one moment.
pub(crate) struct Shot {
    pub(crate) firmwares: Vec<Firmware>,
    pub(crate) jobs: Vec<JobShot>,
    /// What those run who were just told of a differential package.
    pub(crate) versions: BTreeMap<TaskNo, Option<String>>,
}

impl Shot {
    /// The package of a batch.
    pub(crate) fn firmware(&self, job: JobNo) -> Option<&Firmware> {
        let job = self.jobs.iter().find(|of| of.job.no == job)?;
        self.firmwares.iter().find(|firmware| firmware.no == job.job.firmware)
    }
}

/// A batch at that moment.
pub(crate) struct JobShot {
    pub(crate) job: Job,
    pub(crate) kept: Counts,
    /// Its rows, unless it is left out.
    pub(crate) rows: Option<(Counts, Vec<Task>)>,
}

impl Camera {
    /// Reads everything in one transaction.
    pub(crate) fn take(&self, tx: &mut Tx<'_>) -> Result<Shot, StoreError> {
        let firmwares = tx.firmwares_load(&self.firmwares)?;
        let mut numbers = Vec::new();
        for firmware in &firmwares {
            // One more than there should be: a row that is not counted must not hide.
            let listed = tx.job_list_by_firmware(firmware.no, 0, firmware.job_count + 1)?;
            numbers.extend(listed.iter().map(|job| job.no));
        }
        numbers.sort_unstable();
        let jobs = tx.jobs_load(&numbers)?;
        let all = tx.counts_load(&jobs.iter().map(|job| job.no).collect::<Vec<_>>())?;
        let mut shots = Vec::new();
        for job in jobs {
            let rows = if self.settled.contains(&job.no) {
                None
            } else {
                let rows = tx.counts_from_rows(job.no)?;
                let numbers: Vec<TaskNo> =
                    (0..=job.task_count + 1).map(|ordinal| TaskNo { job: job.no, ordinal }).collect();
                Some((rows, tx.tasks_load(&numbers)?))
            };
            shots.push(JobShot { kept: all.get(&job.no).copied().unwrap_or_default(), job, rows });
        }
        let mut shot = Shot { firmwares, jobs: shots, versions: BTreeMap::new() };
        for (device, task) in &self.told {
            let difference = shot.firmware(task.job).filter(|firmware| firmware.differs_from().is_some());
            let Some(module) = difference.map(|firmware| firmware.module.clone()) else { continue };
            shot.versions.insert(*task, tx.version_find(*device, &module)?);
        }
        Ok(shot)
    }
}
