//! The history of tasks: what changed them, and what was refused.

use crate::error::StoreError;
use crate::tx::{Column, Hot, Tx};
use crate::value::{Row, Value};
use updraft_core::history::{Line, What};
use updraft_core::id::{JobNo, TaskNo};
use updraft_core::page::Page;
use updraft_core::task::TaskStatus;
use updraft_core::time::Timestamp;

/// How often an event of a task was refused for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusals {
    /// The task.
    pub task: TaskNo,
    /// The event.
    pub event: String,
    /// Why it was refused.
    pub why: String,
    /// How often.
    pub count: i64,
    /// The first time.
    pub first_at: Timestamp,
    /// The last time.
    pub last_at: Timestamp,
}

/// The columns of a new row, in the order of its values.
macro_rules! columns {
    () => {
        "job, ordinal, revision, at, what, from_status, to_status, detail"
    };
}

const ADD: Hot = Hot {
    row: concat!("INSERT INTO task_history (", columns!(), ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"),
    set: concat!(
        "INSERT INTO task_history (",
        columns!(),
        ") SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], \
         $6::bigint[], $7::bigint[], $8::text[])"
    ),
    columns: &[
        Column::Int,
        Column::Int,
        Column::Int,
        Column::Int,
        Column::Int,
        Column::Int,
        Column::Int,
        Column::Text,
    ],
};

const COPY: &str = concat!("COPY task_history (", columns!(), ") FROM STDIN (FORMAT binary)");

const REFUSE: Hot = Hot {
    row: "INSERT INTO task_refusal (job, ordinal, event, why, n, first_at, last_at)
          VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)
          ON CONFLICT (job, ordinal, event, why)
          DO UPDATE SET n = task_refusal.n + excluded.n, last_at = excluded.last_at",
    set: "INSERT INTO task_refusal (job, ordinal, event, why, n, first_at, last_at)
          SELECT r.job, r.ordinal, r.event, r.why, r.n, r.at, r.at
          FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::bigint[], $6::bigint[])
            AS r(job, ordinal, event, why, n, at)
          ON CONFLICT (job, ordinal, event, why)
          DO UPDATE SET n = task_refusal.n + excluded.n, last_at = excluded.last_at",
    columns: &[Column::Int, Column::Int, Column::Text, Column::Text, Column::Int, Column::Int],
};

fn line(row: &Row<'_>) -> Result<Line, StoreError> {
    let status = |at: usize| {
        let code = row.int(at)?;
        TaskStatus::from_code(code).ok_or_else(|| corrupt("task_history.status", code))
    };
    let what = row.int(4)?;
    Ok(Line {
        task: TaskNo { job: JobNo(row.int(0)?), ordinal: row.int(1)? },
        revision: row.int(2)?,
        at: Timestamp(row.int(3)?),
        what: What::from_code(what).ok_or_else(|| corrupt("task_history.what", what))?,
        from: status(5)?,
        to: status(6)?,
        detail: row.opt_text(7)?.unwrap_or_default(),
    })
}

impl Tx<'_> {
    /// Adds lines, in the order in which they happened.
    pub fn task_history_add(&mut self, lines: &[Line]) -> Result<(), StoreError> {
        let rows: Vec<Vec<Value<'_>>> = lines
            .iter()
            .map(|line| {
                let detail = if line.detail.is_empty() { Value::Null } else { Value::Text(&line.detail) };
                vec![
                    line.task.job.0.into(),
                    line.task.ordinal.into(),
                    line.revision.into(),
                    line.at.0.into(),
                    line.what.code().into(),
                    line.from.code().into(),
                    line.to.code().into(),
                    detail,
                ]
            })
            .collect();
        self.insert_set(&ADD, COPY, &rows)
    }

    /// Counts refusals of each task, event and reason once.
    pub fn task_refusals_add(&mut self, refusals: &[Refusals]) -> Result<(), StoreError> {
        let rows: Vec<Vec<Value<'_>>> = refusals
            .iter()
            .map(|refused| {
                let TaskNo { job, ordinal } = refused.task;
                let (event, why) = ((&refused.event).into(), (&refused.why).into());
                vec![job.0.into(), ordinal.into(), event, why, refused.count.into(), refused.last_at.0.into()]
            })
            .collect();
        self.exec_set(&REFUSE, &rows)?;
        Ok(())
    }

    /// How many lines a task's history has.
    pub fn task_history_count(&mut self, task: TaskNo) -> Result<i64, StoreError> {
        let count = self.query_one(
            "SELECT COUNT(*) FROM task_history WHERE job = ?1 AND ordinal = ?2",
            &[task.job.0.into(), task.ordinal.into()],
            |row| row.int(0),
        )?;
        Ok(count.unwrap_or_default())
    }

    /// A page of a task's history, oldest first.
    pub fn task_history(&mut self, task: TaskNo, page: Page) -> Result<Vec<Line>, StoreError> {
        self.query(
            "SELECT job, ordinal, revision, at, what, from_status, to_status, detail FROM task_history
             WHERE job = ?1 AND ordinal = ?2 ORDER BY id LIMIT ?3 OFFSET ?4",
            &[task.job.0.into(), task.ordinal.into(), page.size().into(), page.skip().into()],
            line,
        )
    }

    /// The last line of a task's history.
    pub fn task_history_last(&mut self, task: TaskNo) -> Result<Option<Line>, StoreError> {
        self.query_one(
            "SELECT job, ordinal, revision, at, what, from_status, to_status, detail FROM task_history
             WHERE job = ?1 AND ordinal = ?2 ORDER BY id DESC LIMIT 1",
            &[task.job.0.into(), task.ordinal.into()],
            line,
        )
    }

    /// What was refused of a task, the newest first.
    pub fn task_refusals(&mut self, task: TaskNo) -> Result<Vec<Refusals>, StoreError> {
        self.query(
            "SELECT event, why, n, first_at, last_at FROM task_refusal WHERE job = ?1 AND ordinal = ?2
             ORDER BY last_at DESC, event, why",
            &[task.job.0.into(), task.ordinal.into()],
            |row| {
                Ok(Refusals {
                    task,
                    event: row.text(0)?,
                    why: row.text(1)?,
                    count: row.int(2)?,
                    first_at: Timestamp(row.int(3)?),
                    last_at: Timestamp(row.int(4)?),
                })
            },
        )
    }

    /// Whether the oldest lines or refusals are older than `older_than`, or there are more than `max` lines.
    pub fn task_history_overdue(&mut self, older_than: Timestamp, max: i64) -> Result<bool, StoreError> {
        let found = self.query_one(
            "SELECT CASE WHEN
               COALESCE((SELECT at FROM task_history ORDER BY id LIMIT 1), ?1) < ?1
               OR COALESCE((SELECT MAX(id) FROM task_history), 0) - COALESCE((SELECT MIN(id) FROM task_history), 0) >= ?2
               OR EXISTS (SELECT 1 FROM task_refusal WHERE last_at < ?1)
               OR EXISTS (SELECT 1 FROM device_refusal WHERE last_at < ?1)
             THEN CAST(1 AS BIGINT) ELSE CAST(0 AS BIGINT) END",
            &[older_than.0.into(), max.into()],
            |row| row.flag(0),
        )?;
        Ok(found.unwrap_or_default())
    }

    /// Forgets at most `chunk` lines, and as many refusals of tasks and of devices: those older than `older_than`, and the oldest of more than
    /// `max`. Answers how many.
    pub fn task_history_trim(
        &mut self,
        older_than: Timestamp,
        max: i64,
        chunk: i64,
    ) -> Result<usize, StoreError> {
        let lines = self.exec(
            "DELETE FROM task_history WHERE id IN (
               SELECT oldest.id FROM (SELECT id, at FROM task_history ORDER BY id LIMIT ?3) AS oldest
               WHERE oldest.at < ?1 OR oldest.id <= (SELECT MAX(id) FROM task_history) - ?2)",
            &[older_than.0.into(), max.into(), chunk.into()],
        )?;
        let refusals = self.exec(
            "DELETE FROM task_refusal WHERE (job, ordinal, event, why) IN (
               SELECT job, ordinal, event, why FROM task_refusal WHERE last_at < ?1 ORDER BY last_at LIMIT ?2)",
            &[older_than.0.into(), chunk.into()],
        )?;
        let of_devices = self.exec(
            "DELETE FROM device_refusal WHERE (device, event, why) IN (
               SELECT device, event, why FROM device_refusal WHERE last_at < ?1 ORDER BY last_at LIMIT ?2)",
            &[older_than.0.into(), chunk.into()],
        )?;
        Ok(lines + refusals + of_devices)
    }
}

fn corrupt(place: &'static str, code: i64) -> StoreError {
    StoreError::Corrupt { place, detail: code.to_string() }
}
