//! Where a task may go from where it stood, and when: what core decides, told again here.

use super::Checker;
use crate::{Violation, ensure};
use updraft_core::task::{DESC_TIMEOUT, FINISH_GRACE_MINUTES, Task, TaskStatus};
use updraft_core::time::{MINUTE_MS, Timestamp};
use updraft_store::Job;

impl Checker {
    /// A task goes forward, and what changes of it has its reason; answers what changed, in words.
    pub(super) fn task_moves_forward(
        &mut self,
        task: &Task,
        job: &Job,
        sent: bool,
        now: Timestamp,
    ) -> Result<Option<String>, Violation> {
        let no = task.no;
        let due = task.due_at().is_none()
            || matches!(task.status, TaskStatus::Queued | TaskStatus::Notified | TaskStatus::InProgress);
        ensure(due, || format!("task {no} is {:?} and has a deadline", task.status))?;
        times_out_in_time(self.tasks.get(&no), task, job, now)?;
        let Some(was) = self.tasks.get(&no) else {
            let born = task.revision == 1
                && matches!(task.status, TaskStatus::Confirm | TaskStatus::Queued | TaskStatus::Failed);
            ensure(born || task.revision > 1, || format!("task {no} is born {:?}", task.status))?;
            return Ok(Some(format!("task {no} is {:?}{}", task.status, why(task))));
        };
        if was == task {
            return Ok(None);
        }
        ensure(task.revision > was.revision, || {
            format!("task {no} changed within revision {}", was.revision)
        })?;
        let again = self.asked.contains(&no) && !was.status.is_open();
        let may_leave = was.status.is_open() || again && was.status != TaskStatus::Succeeded;
        ensure(may_leave, || format!("task {no} left {:?} for {:?}", was.status, task.status))?;
        ensure(task.status >= was.status || again, || {
            format!("task {no} went back from {:?} to {:?}", was.status, task.status)
        })?;
        let job = self.jobs.get(&no.job);
        let limit = job.and_then(|job| job.retry).map_or(0, |retry| retry.count);
        ensure(task.retries <= limit || job.is_none(), || {
            format!("task {no} has {} retries of {limit}", task.retries)
        })?;
        ensure(task.device == was.device, || format!("task {no} changed its device"))?;
        let told = matches!(task.status, TaskStatus::Notified | TaskStatus::InProgress);
        ensure(was.status >= TaskStatus::Notified || !told || sent, || {
            format!("task {no} went from {:?} to {:?} and nothing was sent", was.status, task.status)
        })?;
        let line = (was.status != task.status)
            .then(|| format!("task {no}: {:?} -> {:?}{}", was.status, task.status, why(task)));
        self.before.insert(no, (was.status, was.retries));
        Ok(line)
    }

    /// A round of the engine at this time that had nothing left to do leaves no deadline behind.
    pub(crate) fn nothing_is_overdue(&self, now: Timestamp) -> Result<(), Violation> {
        let late = self.tasks.values().find(|task| task.due_at().is_some_and(|due| due <= now));
        ensure(late.is_none(), || format!("a round left something overdue: {late:?}"))
    }
}

/// A time-out begins with the first progress of a run, nothing moves it, and it strikes when it has come.
fn times_out_in_time(was: Option<&Task>, task: &Task, job: &Job, now: Timestamp) -> Result<(), Violation> {
    let no = task.no;
    let before = was.filter(|was| was.status == TaskStatus::InProgress);
    match task.status {
        TaskStatus::InProgress => {
            let timeout = job.timeout_minutes_of(no.ordinal).map(|minutes| now.plus_ms(minutes * MINUTE_MS));
            let grace_ms = FINISH_GRACE_MINUTES * MINUTE_MS;
            let finish = job.schedule.finish.map(|at| at.max(now).plus_ms(grace_ms));
            let first = timeout.into_iter().chain(finish).min();
            let wanted = before.map_or(first, |was| was.timeout_at);
            ensure(task.timeout_at == wanted, || {
                format!("task {no} runs out of time at {:?} instead of {wanted:?}", task.timeout_at)
            })
        }
        TaskStatus::Failed if task.desc == DESC_TIMEOUT && was.is_none_or(|was| was.status.is_open()) => {
            let came = before.and_then(|was| was.timeout_at).is_some_and(|at| at <= now);
            ensure(came, || format!("task {no} ran out of time too early: it was {was:?}"))
        }
        _ => Ok(()),
    }
}

fn why(task: &Task) -> String {
    if task.desc.is_empty() { String::new() } else { format!(" ({})", task.desc) }
}
