//! Operators who ask something of single tasks: that they are confirmed, or put back in line.

use crate::api::{Answer, Pairs, pairs};
use crate::invariant::Invariant;
use crate::world::World;
use crate::{Violation, ensure};
use std::collections::BTreeSet;
use updraft_core::id::{JobNo, TaskNo, task_id};
use updraft_core::task::{Task, TaskStatus};

impl World {
    /// Up to three tasks of one batch that stand like this, with their ids.
    fn some_tasks(&mut self, like: impl Fn(&Task) -> bool) -> Option<(String, Vec<(TaskNo, String)>)> {
        let found: Vec<TaskNo> = self.checker.tasks().filter(|task| like(task)).map(|task| task.no).collect();
        if found.is_empty() {
            return None;
        }
        let job = self.operator.pick(&found).job;
        let id = self.checker.job(job)?.job_id.clone();
        let of: Vec<TaskNo> = found.into_iter().filter(|no| no.job == job).collect();
        let some = self.operator.some(3, of.len());
        let named = some.into_iter().map(|at| (of[at], task_id(&id, of[at].ordinal))).collect();
        Some((id, named))
    }

    /// Confirms tasks that wait for it, and tries it on others.
    pub(crate) fn confirm_some(&mut self) -> Result<(), Violation> {
        let any = self.operator.percent(10);
        let like: fn(&Task) -> bool = if any { |_| true } else { |task| task.status == TaskStatus::Confirm };
        let Some((_, tasks)) = self.some_tasks(like) else { return Ok(()) };
        self.ask("ConfirmOTATask", Vec::new(), &tasks)
    }

    /// Puts ended tasks back in line, and tries it on others: most of all on those that succeeded, of devices that
    /// have left the version since.
    pub(crate) fn reupgrade_some(&mut self) -> Result<(), Violation> {
        let left = |task: &Task| {
            let firmware = self.checker.firmware(task.no.job);
            let runs = firmware.and_then(|of| self.reported.get(&(task.device, of.module.clone())));
            task.status == TaskStatus::Succeeded && runs != firmware.map(|of| &of.dest_version)
        };
        let left: BTreeSet<TaskNo> =
            self.checker.tasks().filter(|task| left(task)).map(|task| task.no).collect();
        let drawn = self.operator.below(100);
        let like = |task: &Task| match drawn {
            0..10 => true,
            10..40 if !left.is_empty() => left.contains(&task.no),
            _ => matches!(task.status, TaskStatus::Failed | TaskStatus::Canceled),
        };
        let Some((id, tasks)) = self.some_tasks(like) else { return Ok(()) };
        self.ask("ReupgradeOTATask", pairs(&[("JobId", &id)]), &tasks)
    }

    /// Confirms or puts back in line what these devices have in a batch.
    pub(crate) fn ask_for(&mut self, action: &str, job: JobNo, names: &[&str]) -> Result<(), Violation> {
        let id = self.checker.job(job).map(|job| job.job_id.clone()).unwrap_or_default();
        let named = |no| self.nodes.iter().any(|node| node.no == no && names.contains(&node.name.as_str()));
        let of = self.checker.tasks().filter(|task| task.no.job == job && named(task.device));
        let tasks: Vec<(TaskNo, String)> = of.map(|task| (task.no, task_id(&id, task.no.ordinal))).collect();
        let params = if action == "ReupgradeOTATask" { pairs(&[("JobId", &id)]) } else { Vec::new() };
        self.ask(action, params, &tasks)
    }

    pub(crate) fn ask(
        &mut self,
        action: &str,
        mut params: Pairs,
        tasks: &[(TaskNo, String)],
    ) -> Result<(), Violation> {
        let named = tasks.iter().zip(1..).map(|((_, id), n)| (format!("TaskId.{n}"), id.clone()));
        params.extend(named);
        let numbers: Vec<String> = tasks.iter().map(|(no, _)| no.to_string()).collect();
        self.note(format!("operator: {action} {}", numbers.join(" ")));
        self.checker.expect(tasks.iter().map(|(no, _)| *no));
        match self.call(action, &params)? {
            // A package may have failed its verification after it was rolled out, or be gone.
            Answer::Refused(code) => match code.as_str() {
                "iot.ota.TaskStatusForbids" | "iot.ota.FirmwareNotVerified" => Ok(()),
                "iot.ota.FirmwareNotFound" if tasks.iter().all(|(no, _)| self.is_gone(no.job)) => Ok(()),
                _ => Err(Violation(format!("{action} was refused: {code}"))),
            },
            Answer::Done(_) if action == "ReupgradeOTATask" && self.is_gone(tasks[0].0.job) => {
                Err(Violation(format!("{} goes on without its package", tasks[0].0)))
            }
            Answer::Done(_) => {
                self.stats.looked(Invariant::Answered, tasks.len());
                let done = |task: &Task| match action {
                    "ConfirmOTATask" => task.status != TaskStatus::Confirm,
                    _ => task.status.is_open(),
                };
                let asked = |task: &&Task| tasks.iter().any(|(no, _)| *no == task.no);
                let left = self.checker.tasks().filter(asked).find(|task| !done(task));
                ensure(left.is_none(), || format!("{action} was answered, but there is {left:?}"))
            }
            Answer::Lost => Ok(()),
        }
    }
}
