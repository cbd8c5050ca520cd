//! Whom a new batch may take over, and when it must do without a device: what core decides, told again here. A check
//! that asks the same function finds nothing.

use crate::{Violation, ensure};
use std::collections::BTreeMap;
use updraft_core::id::{FirmwareNo, JobNo, TaskNo};
use updraft_core::job::OverwriteMode;
use updraft_core::task::{DESC_DEVICE_BUSY, DESC_OVERWRITTEN, Task, TaskStatus};
use updraft_store::Job;

/// The tasks before and after a step.
pub(crate) struct Step<'a> {
    /// As they were.
    pub(crate) before: &'a BTreeMap<TaskNo, Task>,
    /// As they are: all that may have changed.
    pub(crate) after: &'a BTreeMap<TaskNo, &'a Task>,
    /// The batches.
    pub(crate) jobs: BTreeMap<JobNo, &'a Job>,
    /// The modules that packages are for.
    pub(crate) modules: BTreeMap<FirmwareNo, &'a str>,
}

impl Step<'_> {
    /// Whether every new task and every replaced one has its reason.
    pub(crate) fn check(&self) -> Result<(), Violation> {
        for task in self.after.values() {
            let was = self.before.get(&task.no);
            if was.is_none() && task.desc == DESC_DEVICE_BUSY {
                self.gives_way(task)?;
            } else if was.is_none() && task.status.is_open() {
                self.has_room(task)?;
            }
            let ends = was.is_none_or(|was| was.status.is_open()) && !task.status.is_open();
            if ends && task.desc == DESC_OVERWRITTEN {
                self.has_a_successor(task, was)?;
            }
        }
        Ok(())
    }

    /// Whether a batch's task cannot be beside `other`, by the batch's own modes.
    fn collides(&self, no: TaskNo, other: TaskNo) -> bool {
        let module = |no: TaskNo| self.jobs.get(&no.job).and_then(|job| self.modules.get(&job.firmware));
        let multi = self.jobs.get(&no.job).is_some_and(|job| job.conduct.multi_module);
        !multi || module(no) == module(other)
    }

    fn replaces(&self, no: TaskNo) -> bool {
        let conduct = self.jobs.get(&no.job).map(|job| job.conduct);
        conduct.is_some_and(|conduct| conduct.multi_module || conduct.overwrite == OverwriteMode::Replace)
    }

    /// The other tasks of its device that collide with a new one, and how they stood.
    fn met(&self, task: &Task) -> Vec<(TaskNo, TaskStatus)> {
        let new = self.after.values().copied().filter(|other| !self.before.contains_key(&other.no));
        let all = self.before.values().chain(new);
        let met = all.filter(|other| {
            other.device == task.device
                && other.no != task.no
                && other.status.is_open()
                && self.collides(task.no, other.no)
        });
        met.map(|other| (other.no, other.status)).collect()
    }

    /// A task is born failed only of a device with a task that this batch may not replace.
    fn gives_way(&self, task: &Task) -> Result<(), Violation> {
        let met = self.met(task);
        // What is about to be cancelled takes nobody's place.
        let unwanted = self.jobs.get(&task.no.job).is_some_and(|job| {
            let born = if job.need_confirm { TaskStatus::Confirm } else { TaskStatus::Queued };
            job.conduct.dynamic.is_none() && job.cancel.reaches(born)
        });
        let takes = self.replaces(task.no) && !unwanted;
        // What a batch made later has decided stays, also when the tasks of this one come after it.
        let kept =
            |(no, status): &(TaskNo, TaskStatus)| *status == TaskStatus::InProgress || no.job >= task.no.job;
        let protected = met.iter().any(kept) || !met.is_empty() && !takes;
        ensure(protected, || format!("task {} failed as busy, but its device had {met:?}", task.no))
    }

    /// Where a new task is open, no other is in its way.
    fn has_room(&self, task: &Task) -> Result<(), Violation> {
        let now = |other: &Task| self.after.get(&other.no).map_or(other.status, |after| after.status);
        let left = self.before.values().find(|other| {
            other.device == task.device && now(other).is_open() && self.collides(task.no, other.no)
        });
        ensure(left.is_none(), || {
            format!("task {} was made although its device has {:?}", task.no, left.map(|other| other.no))
        })
    }

    /// Who is replaced had not begun, and what replaces it is there in the same step.
    fn has_a_successor(&self, task: &Task, was: Option<&Task>) -> Result<(), Violation> {
        let begun = was.is_some_and(|was| was.status == TaskStatus::InProgress);
        ensure(!begun && task.status == TaskStatus::Canceled, || {
            format!("task {} was replaced while it was in progress", task.no)
        })?;
        let successor = self.after.values().any(|other| {
            other.device == task.device
                && !self.before.contains_key(&other.no)
                && other.desc != DESC_DEVICE_BUSY
                && self.replaces(other.no)
                && self.collides(other.no, task.no)
        });
        ensure(successor, || format!("task {} was replaced by nothing", task.no))
    }
}
