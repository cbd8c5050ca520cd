//! Operators who delete products and modules, or put a whole batch back in line, at bad moments; and clients that call
//! again since the answer was lost.

use crate::api::{Answer, Pairs, pairs};
use crate::packages::MODULE;
use crate::world::World;
use crate::{Violation, ensure};
use updraft_core::id::{TaskNo, task_id};
use updraft_core::task::TaskStatus;

/// In so many of a hundred worlds this happens.
const WORLDS_PERCENT: usize = 50;
/// How often of a hundred acts of the operator.
const ACTS_PERCENT: usize = 6;
/// Tasks that one call may name.
const TASKS_MAX: usize = 10;
/// Operations whose callers do not mind that they are done twice.
const REPEATABLE: [&str; 6] = [
    "CancelOTATaskByJob",
    "CreateOTAStaticUpgradeJob",
    "CreateOTADynamicUpgradeJob",
    "DisableThing",
    "EnableThing",
    "ModifyOTAFirmware",
];

impl World {
    /// Whether such things happen in this world, and how often answers are lost on their way.
    pub(crate) fn draw_ends(&mut self) {
        self.ends = self.ending.percent(WORLDS_PERCENT);
        self.lost_answers = if self.ending.percent(67) { self.ending.range(1, 15) as usize } else { 0 };
    }

    /// Now and then one of it.
    pub(crate) fn end_something(&mut self) -> Result<(), Violation> {
        if !self.ends || !self.ending.percent(ACTS_PERCENT) {
            return Ok(());
        }
        let product = self.ending.below(self.products.len());
        match self.ending.below(3) {
            0 => self.try_to_delete_product(product),
            1 => self.try_to_delete_module(product),
            _ => self.reupgrade_many(),
        }
    }

    /// A product that has devices is not deleted, whatever its batches do.
    fn try_to_delete_product(&mut self, product: usize) -> Result<(), Violation> {
        let has_devices = |product: usize| {
            self.nodes.iter().any(|node| node.product == product && !self.deleted.contains(&node.no))
        };
        if !has_devices(product) {
            return Ok(());
        }
        let key = self.products[product].key.clone();
        self.note(format!("operator: DeleteProduct {key}"));
        match self.call("DeleteProduct", &pairs(&[("ProductKey", &key)]))? {
            Answer::Done(_) => Err(Violation(format!("product {key} was deleted and has devices"))),
            Answer::Refused(_) | Answer::Lost => Ok(()),
        }
    }

    /// A module is deleted only when no package is for it; then it is made again.
    fn try_to_delete_module(&mut self, product: usize) -> Result<(), Violation> {
        let of_module = |at: usize| {
            let package = &self.packages[at];
            package.product == product && package.module == MODULE
        };
        let packages: Vec<usize> = (0..self.packages.len()).filter(|at| of_module(*at)).collect();
        if packages.is_empty() {
            return Ok(());
        }
        let key = self.products[product].key.clone();
        let params = pairs(&[("ProductKey", key.as_str()), ("ModuleName", MODULE)]);
        self.note(format!("operator: DeleteOTAModule {MODULE}"));
        let done = match self.call("DeleteOTAModule", &params)? {
            Answer::Done(_) => true,
            Answer::Refused(_) => return Ok(()),
            Answer::Lost => false,
        };
        let used = packages.iter().any(|at| !self.checker.is_gone(self.packages[*at].no));
        ensure(!done || !used, || format!("a module of {key} was deleted and has packages"))?;
        // It may be there still, or again.
        self.call("CreateOTAModule", &params).map(drop)
    }

    /// Puts as many tasks of one batch back in line as a call may name.
    fn reupgrade_many(&mut self) -> Result<(), Violation> {
        let ended = |status| matches!(status, TaskStatus::Failed | TaskStatus::Canceled);
        let tasks: Vec<TaskNo> =
            self.checker.tasks().filter(|task| ended(task.status)).map(|task| task.no).collect();
        if tasks.is_empty() {
            return Ok(());
        }
        let job = self.ending.pick(&tasks).job;
        let id = self.checker.job(job).map(|job| job.job_id.clone()).unwrap_or_default();
        let of = tasks.into_iter().filter(|no| no.job == job).take(TASKS_MAX);
        let tasks: Vec<(TaskNo, String)> = of.map(|no| (no, task_id(&id, no.ordinal))).collect();
        self.ask("ReupgradeOTATask", pairs(&[("JobId", &id)]), &tasks)
    }

    /// Calls an operation as a client does: if the answer is lost on its way, it calls again.
    pub(crate) fn call(&mut self, action: &str, params: &Pairs) -> Result<Answer, Violation> {
        let answer = self.call_once(action, params)?;
        let lost = REPEATABLE.contains(&action)
            && self.plan.is_some()
            && !matches!(answer, Answer::Lost)
            && self.ending.percent(self.lost_answers);
        if !lost || self.server.running.is_none() {
            return Ok(answer);
        }
        self.note(format!("the answer to {action} is lost: it is called again"));
        self.call_once(action, params)
    }
}
