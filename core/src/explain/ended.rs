//! Why a task ended.

use super::{Check, Explanation, Next, Said, Seen, Verdict, since};
use crate::history::{Cause, Line};
use crate::task::{Event, Task, TaskStatus, Terms, step};
use crate::time::Timestamp;

/// What is known of a task that has ended.
#[derive(Debug, Clone, Copy)]
pub struct EndedTask<'a> {
    /// The task.
    pub task: &'a Task,
    /// What its batch demands.
    pub terms: &'a Terms<'a>,
    /// The last line of its history.
    pub last: Option<&'a Line>,
    /// Its device.
    pub device: &'a Seen<'a>,
}

/// Explains a task that has ended.
pub fn ended(of: &EndedTask<'_>, now: Timestamp) -> Explanation {
    let EndedTask { task, terms, last, device } = *of;
    let at = since(task, last);
    let by = last.filter(|line| line.to == task.status).map(|line| line.what.cause());
    let by = match by {
        Some(Cause::Operator) => ", by an operator",
        Some(Cause::Device) => ", by the device's own word",
        Some(Cause::Timer) => ", by the clock",
        Some(Cause::Batch) => ", by a newer batch",
        None => "",
    };
    let why = if task.desc.is_empty() { String::new() } else { format!(": {}", task.desc) };
    let (verdict, word) = match task.status {
        TaskStatus::Succeeded => (Verdict::Updated, "the device was updated by this batch"),
        TaskStatus::Failed => (Verdict::Ended, "the update failed"),
        _ => (Verdict::Ended, "the task was cancelled"),
    };
    let summary = Said::of(format!("{word} at ")).at(at).and(format!("{by}{why}"));
    let succeeded = task.status == TaskStatus::Succeeded;
    let mut checks = vec![
        Check::new(
            "TASK",
            succeeded,
            Said::of(format!("the task is {}{why}", task.status.name())),
            "SUCCEEDED",
        ),
        device.check(),
        device.connection(),
    ];
    if !succeeded {
        // As far as the task itself goes: the call looks at the package and at the device's other tasks, too.
        let again = step(task, terms, &Event::Reupgrade(device.version()), now);
        let seen = again.as_ref().err().map_or("ReupgradeOTATask may put the task back in line", |no| no.why);
        checks.push(Check::new(
            "REUPGRADE",
            again.is_ok(),
            Said::of(seen),
            "a task that may be put back in line",
        ));
    }
    Explanation { verdict, summary, checks, waiting: None, next: Next::NOTHING, ends_by: None }
}
