//! Nothing is silent: each change of a task's state has its line, and each refusal is counted.

use crate::invariant::Invariant;
use crate::stats::Of;
use crate::world::World;
use crate::{Violation, ensure};
use std::collections::BTreeMap;
use updraft_core::history::Line;
use updraft_core::id::TaskNo;
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
