//! What the checks look at: packages, batches and tasks as they are in the database at one moment. Tasks that have
//! not changed are not read again, but at a thorough look: then all of them are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use updraft_core::id::{DeviceNo, JobNo, TaskNo};
use updraft_core::job::Counts;
use updraft_core::task::Task;
use updraft_store::{Firmware, Job, StoreError, TaskMark, Tx};

/// What to photograph.
pub(crate) struct Camera {
    /// Batches whose tasks are left out.
    pub(crate) settled: BTreeSet<JobNo>,
    /// Who was just told of which task.
    pub(crate) told: Vec<(DeviceNo, TaskNo)>,
    /// Packages as they were, if they need not be read again while their mark is this.
    pub(crate) shelf: Option<Shelf>,
}

/// Packages, and what says that they are the same.
#[derive(Clone, Default)]
pub(crate) struct Shelf {
    pub(crate) mark: Vec<i64>,
    pub(crate) firmwares: Arc<[Firmware]>,
}

/// The database at one moment.
pub(crate) struct Shot {
    pub(crate) shelf: Shelf,
    pub(crate) jobs: Vec<JobShot>,
    /// What those run who were just told of a differential package.
    pub(crate) versions: BTreeMap<TaskNo, Option<String>>,
    /// Devices that may not connect, and whether they are deleted.
    pub(crate) barred: Vec<(DeviceNo, bool)>,
    /// The tasks that were read.
    pub(crate) tasks: Vec<Task>,
}

impl Shot {
    /// The package of a batch.
    pub(crate) fn firmware(&self, job: JobNo) -> Option<&Firmware> {
        let job = self.jobs.iter().find(|of| of.job.no == job)?;
        self.shelf.firmwares.iter().find(|firmware| firmware.no == job.job.firmware)
    }
}

/// A batch at that moment.
pub(crate) struct JobShot {
    pub(crate) job: Job,
    pub(crate) kept: Counts,
    /// Its rows, unless it is left out.
    pub(crate) rows: Option<Vec<TaskMark>>,
}

impl Camera {
    /// Reads everything but the tasks in one transaction.
    pub(crate) fn take(&self, tx: &mut Tx<'_>) -> Result<Shot, StoreError> {
        let mark = tx.firmwares_mark()?;
        let shelf = match &self.shelf {
            Some(shelf) if shelf.mark == mark => shelf.clone(),
            _ => Shelf { mark, firmwares: tx.firmwares_all()?.into() },
        };
        let all = tx.counts_all()?;
        let mut jobs = Vec::new();
        for job in tx.jobs_all()? {
            let rows = if self.settled.contains(&job.no) { None } else { Some(tx.task_marks(job.no)?) };
            jobs.push(JobShot { kept: all.get(&job.no).copied().unwrap_or_default(), job, rows });
        }
        let barred = tx.devices_barred_all()?;
        let mut shot = Shot { shelf, jobs, versions: BTreeMap::new(), barred, tasks: Vec::new() };
        for (device, task) in &self.told {
            let difference = shot.firmware(task.job).filter(|firmware| firmware.differs_from().is_some());
            let Some(module) = difference.map(|firmware| firmware.module.clone()) else { continue };
            shot.versions.insert(*task, tx.version_find(*device, &module)?);
        }
        Ok(shot)
    }
}
