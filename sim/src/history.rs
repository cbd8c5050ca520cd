//! Nothing is silent: each change of a task's state has its line, each refusal is counted, and what waits says for
//! what and since when.

use crate::api::{Answer, pairs};
use crate::invariant::Invariant;
use crate::operator::text;
use crate::stats::Of;
use crate::world::World;
use crate::{Violation, ensure};
use std::collections::BTreeMap;
use updraft_core::history::Line;
use updraft_core::id::{TaskNo, task_id};
use updraft_core::page::Page;
use updraft_core::task::{Task, TaskStatus};

/// Lines of a task that are read.
const LINES: i64 = 100;

impl World {
    /// The history of the tasks whose state the last step changed leads to where they stand.
    pub(crate) fn history_is_kept(&mut self) -> Result<(), Violation> {
        let changed: Vec<Task> = self.checker.changed().cloned().collect();
        self.stats.looked(Invariant::History, changed.len());
        let numbers: Vec<TaskNo> = changed.iter().map(|task| task.no).collect();
        let Some(page) = Page::new(1, LINES, LINES) else { return Ok(()) };
        let histories = self.server.read(move |tx| {
            numbers.iter().map(|no| tx.task_history(*no, page)).collect::<Result<Vec<_>, _>>()
        })?;
        for (task, lines) in changed.iter().zip(histories) {
            leads_to(task, &lines)?;
        }
        Ok(())
    }

    /// What the machine refused is counted; only in worlds that lost nothing with a server.
    pub(crate) fn refusals_are_counted(&mut self) -> Result<(), Violation> {
        if self.stats.total(Of::Crash) > 0 || self.stats.of(Of::Fault, "storage that fails") > 0 {
            return Ok(());
        }
        let tasks: Vec<TaskNo> = self.checker.tasks().map(|task| task.no).collect();
        let counted = self.server.read(move |tx| {
            let mut counted: BTreeMap<String, u64> = BTreeMap::new();
            for task in &tasks {
                for refused in tx.task_refusals(*task)? {
                    let name = format!("{} refused: {}", refused.event, refused.why);
                    *counted.entry(name).or_default() += refused.count.unsigned_abs();
                }
            }
            Ok(counted)
        })?;
        // What operators ask for themselves is their answer, and not counted.
        let asked = |name: &str| name.starts_with("confirm ") || name.starts_with("reupgrade ");
        let mut heard = self.machine.refused();
        heard.retain(|name, _| !asked(name));
        self.stats.looked(Invariant::Refusals, heard.len());
        ensure(heard == counted, || format!("refused were {heard:?}, counted are {counted:?}"))
    }

    /// ExplainOTATask says for what each open task waits, and since when.
    pub(crate) fn what_waits_is_explained(&mut self) -> Result<(), Violation> {
        let open: Vec<Task> = self.checker.tasks().filter(|task| task.status.is_open()).cloned().collect();
        for task in open {
            self.stats.looked(Invariant::Explained, 1);
            let Some(node) = self.nodes.iter().find(|node| node.no == task.device) else { continue };
            let (key, name) = (self.products[node.product].key.clone(), node.name.clone());
            let job = self.checker.job(task.no.job).map(|job| job.job_id.clone()).unwrap_or_default();
            let id = task_id(&job, task.no.ordinal);
            let params = [("ProductKey", key.as_str()), ("DeviceName", &name), ("JobId", &job)];
            let Answer::Done(body) = self.call("ExplainOTATask", &pairs(&params))? else {
                return Err(Violation(format!("task {} cannot be explained", task.no)));
            };
            let told = body["Data"]["Batches"]["BatchExplanation"].as_array().cloned().unwrap_or_default();
            let told = told.iter().find(|told| text(&told["TaskId"]) == id);
            let (status, waits, since) = told.map_or_else(Default::default, |told| {
                (text(&told["TaskStatus"]), text(&told["WaitsFor"]), text(&told["UtcWaitsSince"]))
            });
            let now = updraft_server::api::answer::utc(self.server.clock.peek());
            let right =
                status == task.status.name() && !waits.is_empty() && !since.is_empty() && since <= now;
            // A clock that was set back may be behind its own notes.
            ensure(right || since > now && self.set_back_ms > 0, || {
                format!(
                    "task {} is {:?}, and is said to be {status}, waiting for {waits:?} since {since:?}: {body}",
                    task.no, task.status
                )
            })?;
        }
        Ok(())
    }
}

/// Whether these lines are a way from where a task is born to where it stands.
fn leads_to(task: &Task, lines: &[Line]) -> Result<(), Violation> {
    let wrong = |why: &str| Violation(format!("the history of task {} {why}: {task:?}, {lines:?}", task.no));
    if lines.len() >= LINES as usize {
        return Ok(());
    }
    let Some((first, last)) = lines.first().zip(lines.last()) else {
        return ensure(task.revision == 1, || wrong("is empty").0);
    };
    let born = matches!(first.from, TaskStatus::Confirm | TaskStatus::Queued | TaskStatus::Failed);
    ensure(born, || wrong("begins in the middle").0)?;
    let linked = lines.windows(2).all(|two| two[0].to == two[1].from && two[0].revision < two[1].revision);
    ensure(linked, || wrong("has a gap").0)?;
    ensure(last.to == task.status && last.revision <= task.revision, || wrong("ends elsewhere").0)
}
