//! `updraft task history`: a task's life, line by line.

use crate::cli::Beside;
use crate::cli::job::find_task;
use crate::cli::out::{Form, Out, Row};
use anyhow::Context as _;
use serde_json::json;
use updraft_core::history::Line;
use updraft_core::id::TaskNo;
use updraft_core::page::Page;
use updraft_core::task::TaskStatus;
use updraft_core::time::Timestamp;
use updraft_server::api::answer::utc;
use updraft_store::{BrowsedTask, Refusals};

/// Lines that are read at once; a task has a handful.
const PAGE_ROWS: i64 = 1_000;

/// Prints the history of the task of this id, oldest first, then what was refused.
pub fn show(beside: &Beside, id: &str, as_json: bool) -> anyhow::Result<()> {
    let wanted = id.to_owned();
    let (task, lines, refusals) = beside.read(move |tx| {
        let found = find_task(tx, &wanted)?;
        let (job, task) = found.with_context(|| format!("there is no task {wanted}"))?;
        let no = TaskNo { job: job.job.no, ordinal: task.ordinal };
        let page = Page::new(1, PAGE_ROWS, PAGE_ROWS).context("no page")?;
        Ok((task, tx.task_history(no, page)?, tx.task_refusals(no)?))
    })?;
    let mut rows = vec![birth(&task, lines.first())];
    rows.extend(lines.iter().map(line));
    rows.extend(refusals.iter().map(refusal));
    let mut out = Out::new(if as_json { Form::Json } else { Form::Table });
    out.page(&rows)
}

fn row(at: Timestamp, event: &str, cause: &str, from: &str, to: &str, detail: &str) -> Row {
    vec![
        ("Utc", json!(utc(at))),
        ("Event", json!(event)),
        ("Cause", json!(cause)),
        ("FromStatus", json!(from)),
        ("ToStatus", json!(to)),
        ("Detail", json!(detail)),
    ]
}

/// How it was born is known from what it was before its first change.
fn birth(task: &BrowsedTask, first: Option<&Line>) -> Row {
    let born = first.map_or(task.status, |line| line.from);
    let why = task.description.as_deref().filter(|_| first.is_none() && born == TaskStatus::Failed);
    row(task.created_at, "CREATED", "BATCH", "", born.name(), why.unwrap_or_default())
}

fn line(line: &Line) -> Row {
    let (what, from, to) = (line.what, line.from.name(), line.to.name());
    row(line.at, what.name(), what.cause().name(), from, to, &line.detail)
}

fn refusal(refused: &Refusals) -> Row {
    let Refusals { event, why, count, first_at, last_at, .. } = refused;
    let often = if *count == 1 { String::new() } else { format!("; {count} times since {}", utc(*first_at)) };
    row(*last_at, "REFUSED", "", "", "", &format!("{event}: {why}{often}"))
}
