//! The tasks of batches: one row per device and batch.

use crate::error::StoreError;
use crate::tx::{Column, Hot, Sql, Tx};
use crate::value::{Row, Value};
use updraft_core::id::{DeviceNo, JobNo, TaskNo};
use updraft_core::page::Page;
use updraft_core::task::{Task, TaskStatus};
use updraft_core::time::Timestamp;

/// A task with the names that lists show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedTask {
    /// The task.
    pub task: Task,
    /// Its device's name.
    pub device_name: String,
    /// Its device's IotId.
    pub iot_id: String,
}

/// An unfinished task with the batch and package that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenTask {
    /// The task.
    pub task: Task,
    /// Its batch's id.
    pub job_id: String,
    /// Its package's id.
    pub firmware_id: String,
    /// The module that it is for.
    pub module: String,
    /// The version that it leads to.
    pub dest_version: String,
}

/// Whose deadlines one of several nodes looks after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DueAt {
    /// The node: it looks after tasks of devices that are connected to it.
    pub node: i64,
    /// It also looks after those of devices that are connected nowhere, and of all whose deadline was at this moment or
    /// before it: whoever should have seen to those did not.
    pub neglected: Option<Timestamp>,
}

/// Which tasks of a batch a list shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskFilter {
    /// All of them: a range of the primary key, whatever the page.
    All,
    /// Those in one state: an index scan that skips the pages before.
    Status(TaskStatus),
}

/// A query for tasks, in the order of columns that [`task`] reads.
macro_rules! tasks {
    ($rest:literal) => {
        concat!(
            "SELECT t.job, t.ordinal, t.device, t.status, t.src_version, t.progress, t.description, t.due_at, ",
            "t.retry_at, t.timeout_at, t.retries, t.working, t.confirmed, t.revision, t.created_at, ",
            "t.modified_at, t.told_at, t.hold_until ",
            $rest
        )
    };
}

/// The same with the names that lists show, as [`listed`] reads them.
macro_rules! listed_tasks {
    ($rest:literal) => {
        concat!(
            "SELECT t.job, t.ordinal, t.device, t.status, t.src_version, t.progress, t.description, t.due_at, ",
            "t.retry_at, t.timeout_at, t.retries, t.working, t.confirmed, t.revision, t.created_at, ",
            "t.modified_at, t.told_at, t.hold_until, d.name, d.iot_id ",
            $rest
        )
    };
}

fn task(row: &Row<'_>) -> Result<Task, StoreError> {
    let code = row.int(3)?;
    let status = TaskStatus::from_code(code)
        .ok_or(StoreError::Corrupt { place: "task.status", detail: code.to_string() })?;
    let hold_until = row.opt_int(17)?.map(Timestamp);
    Ok(Task {
        no: TaskNo { job: JobNo(row.int(0)?), ordinal: row.int(1)? },
        device: DeviceNo(row.int(2)?),
        status,
        src_version: row.opt_text(4)?,
        progress: row.int(5)?,
        desc: row.opt_text(6)?.unwrap_or_default(),
        // A queued task has no other deadline than its slot, or waits for its turn and has none.
        slot_at: row
            .opt_int(7)?
            .filter(|_| status == TaskStatus::Queued && hold_until.is_none())
            .map(Timestamp),
        retry_at: row.opt_int(8)?.map(Timestamp),
        timeout_at: row.opt_int(9)?.map(Timestamp),
        retries: row.int(10)?,
        working: row.flag(11)?,
        confirmed: row.flag(12)?,
        revision: row.int(13)?,
        created_at: Timestamp(row.int(14)?),
        modified_at: Timestamp(row.int(15)?),
        told_at: row.opt_int(16)?.map(Timestamp),
        hold_until,
    })
}

pub(crate) fn listed(row: &Row<'_>) -> Result<ListedTask, StoreError> {
    Ok(ListedTask { task: task(row)?, device_name: row.text(18)?, iot_id: row.text(19)? })
}

/// An empty description is stored as NULL: most tasks have none.
fn desc(task: &Task) -> Value<'_> {
    if task.desc.is_empty() { Value::Null } else { Value::Text(&task.desc) }
}

pub(crate) const OPEN: Hot = Hot {
    row: tasks!("FROM task t INDEXED BY task_open WHERE device = ?1 AND status < 4 ORDER BY job, ordinal"),
    set: tasks!(
        "FROM task t WHERE device = ANY($1::bigint[]) AND status < 4 ORDER BY job, ordinal FOR UPDATE"
    ),
    columns: &[Column::Int],
};

macro_rules! list_open {
    ($task:literal) => {
        concat!(
            "SELECT t.job, t.ordinal, t.device, t.status, t.src_version, t.progress, t.description, t.due_at,
                    t.retry_at, t.timeout_at, t.retries, t.working, t.confirmed, t.revision, t.created_at,
                    t.modified_at, t.told_at, t.hold_until, j.job_id, f.firmware_id, f.module, f.dest_version
             FROM ",
            $task,
            " JOIN job j ON j.id = t.job JOIN firmware f ON f.id = j.firmware
             WHERE t.device = ?1 AND t.status < 4 ORDER BY t.job, t.ordinal"
        )
    };
}

/// Whether a node looks after a task `t`. Asked of each task that is due, in their order: as a join PostgreSQL would
/// rather begin with all devices that are connected, of which it believes that a node has one.
macro_rules! is_looked_after {
    () => {
        "(SELECT d.status = 1 AND d.session >> 40 = ?2
             OR CAST(?3 AS BIGINT) IS NOT NULL AND (d.status <> 1 OR t.due_at <= ?3)
          FROM device d WHERE d.id = t.device)"
    };
}

pub(crate) const DUE_OF: &str = concat!(
    "SELECT t.job, t.ordinal FROM task t WHERE t.due_at IS NOT NULL AND t.due_at <= ?1 AND ",
    is_looked_after!(),
    " ORDER BY t.due_at, t.job, t.ordinal LIMIT ?4"
);

pub(crate) const NEXT_DUE_OF: &str = concat!(
    "SELECT t.due_at FROM task t WHERE t.due_at IS NOT NULL AND t.due_at <= ?1 AND ",
    is_looked_after!(),
    " ORDER BY t.due_at LIMIT 1"
);

pub(crate) const LIST_OPEN: Sql =
    Sql { sqlite: list_open!("task t INDEXED BY task_open"), postgres: list_open!("task t") };

const LOAD: Hot = Hot {
    row: tasks!("FROM task t WHERE job = ?1 AND ordinal = ?2"),
    set: tasks!(
        "FROM task t JOIN unnest($1::bigint[], $2::bigint[]) AS n(job, ordinal)
            ON t.job = n.job AND t.ordinal = n.ordinal
          ORDER BY t.job, t.ordinal FOR UPDATE OF t"
    ),
    columns: &[Column::Int, Column::Int],
};

/// The columns of a new row, in the order of its values.
macro_rules! inserted {
    () => {
        concat!(
            "job, ordinal, device, status, src_version, progress, description, due_at, retry_at, ",
            "timeout_at, retries, working, confirmed, revision, created_at, modified_at, told_at, ",
            "hold_until",
        )
    };
}

const INSERT: Hot = Hot {
    row: concat!(
        "INSERT INTO task (",
        inserted!(),
        ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)"
    ),
    set: concat!(
        "INSERT INTO task (",
        inserted!(),
        ") SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[], \
         $6::bigint[], $7::text[], $8::bigint[], $9::bigint[], $10::bigint[], \
         $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[], $15::bigint[], \
         $16::bigint[], $17::bigint[], $18::bigint[])"
    ),
    columns: &[
        Column::Int,
        Column::Int,
        Column::Int,
        Column::Int,
        Column::Text,
        Column::Int,
        Column::Text,
        Column::Int,
        Column::Int,
        Column::Int,
        Column::Int,
        Column::Int,
        Column::Int,
        Column::Int,
        Column::Int,
        Column::Int,
        Column::Int,
        Column::Int,
    ],
};

const COPY: &str = concat!("COPY task (", inserted!(), ") FROM STDIN (FORMAT binary)");

// The last parameter is the revision that the change was made from.
const APPLY: Hot = Hot {
    row: "UPDATE task SET status = ?3, src_version = ?4, progress = ?5, description = ?6, due_at = ?7, retry_at = ?8,
                          timeout_at = ?9, retries = ?10, working = ?11, confirmed = ?12, revision = ?13,
                          modified_at = ?14, told_at = ?15, hold_until = ?16
          WHERE job = ?1 AND ordinal = ?2 AND revision = ?17",
    set: "UPDATE task SET status = n.status, src_version = n.src_version, progress = n.progress,
                          description = n.description, due_at = n.due_at, retry_at = n.retry_at,
                          timeout_at = n.timeout_at, retries = n.retries, working = n.working,
                          confirmed = n.confirmed, revision = n.revision, modified_at = n.modified_at,
                          told_at = n.told_at, hold_until = n.hold_until
          FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::bigint[], $6::text[], $7::bigint[],
                      $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[],
                      $14::bigint[], $15::bigint[], $16::bigint[], $17::bigint[])
            AS n(job, ordinal, status, src_version, progress, description, due_at, retry_at, timeout_at, retries,
                 working, confirmed, revision, modified_at, told_at, hold_until, before)
          WHERE task.job = n.job AND task.ordinal = n.ordinal AND task.revision = n.before",
    columns: &[
        Column::Int,
        Column::Int,
        Column::Int,
        Column::Text,
        Column::Int,
        Column::Text,
        Column::Int,
        Column::Int,
        Column::Int,
        Column::Int,
        Column::Int,
        Column::Int,
        Column::Int,
        Column::Int,
        Column::Int,
        Column::Int,
        Column::Int,
    ],
};

pub(crate) const BY_DEVICES: Hot = Hot {
    // The `+` keeps SQLite from reading all tasks of the batch (plan.rs).
    row: listed_tasks!("FROM task t JOIN device d ON d.id = t.device WHERE +t.job = ?1 AND t.device = ?2"),
    set: listed_tasks!(
        "FROM unnest($1::bigint[], $2::bigint[]) AS n(job, device)
          JOIN task t ON t.job = n.job AND t.device = n.device JOIN device d ON d.id = t.device
          ORDER BY t.ordinal"
    ),
    columns: &[Column::Int, Column::Int],
};

impl Tx<'_> {
    /// The unfinished tasks of these devices.
    pub fn tasks_open(&mut self, devices: &[DeviceNo]) -> Result<Vec<Task>, StoreError> {
        let keys: Vec<Vec<Value<'_>>> = devices.iter().map(|device| vec![device.0.into()]).collect();
        self.query_set(&OPEN, &keys, task)
    }

    /// These tasks.
    pub fn tasks_load(&mut self, tasks: &[TaskNo]) -> Result<Vec<Task>, StoreError> {
        let keys: Vec<Vec<Value<'_>>> =
            tasks.iter().map(|no| vec![no.job.0.into(), no.ordinal.into()]).collect();
        self.query_set(&LOAD, &keys, task)
    }

    /// Adds tasks; in device order this is ten times as fast as in random order.
    pub fn tasks_insert(&mut self, tasks: &[Task]) -> Result<(), StoreError> {
        let rows: Vec<Vec<Value<'_>>> = tasks
            .iter()
            .map(|t| {
                vec![
                    t.no.job.0.into(),
                    t.no.ordinal.into(),
                    t.device.0.into(),
                    t.status.code().into(),
                    t.src_version.as_ref().into(),
                    t.progress.into(),
                    desc(t),
                    t.due_at().map(|due| due.0).into(),
                    t.retry_at.map(|at| at.0).into(),
                    t.timeout_at.map(|at| at.0).into(),
                    t.retries.into(),
                    t.working.into(),
                    t.confirmed.into(),
                    t.revision.into(),
                    t.created_at.0.into(),
                    t.modified_at.0.into(),
                    t.told_at.map(|at| at.0).into(),
                    t.hold_until.map(|at| at.0).into(),
                ]
            })
            .collect();
        self.insert_set(&INSERT, COPY, &rows)
    }

    /// Writes changed tasks, each with the revision that it was changed from; a row that has another one by
    /// now is a conflict, and nothing may stand.
    pub fn tasks_apply(&mut self, changed: &[(i64, Task)]) -> Result<(), StoreError> {
        let rows: Vec<Vec<Value<'_>>> = changed
            .iter()
            .map(|(before, t)| {
                vec![
                    t.no.job.0.into(),
                    t.no.ordinal.into(),
                    t.status.code().into(),
                    t.src_version.as_ref().into(),
                    t.progress.into(),
                    desc(t),
                    t.due_at().map(|due| due.0).into(),
                    t.retry_at.map(|at| at.0).into(),
                    t.timeout_at.map(|at| at.0).into(),
                    t.retries.into(),
                    t.working.into(),
                    t.confirmed.into(),
                    t.revision.into(),
                    t.modified_at.0.into(),
                    t.told_at.map(|at| at.0).into(),
                    t.hold_until.map(|at| at.0).into(),
                    (*before).into(),
                ]
            })
            .collect();
        if self.exec_set(&APPLY, &rows)? == rows.len() { Ok(()) } else { Err(StoreError::Conflict("task")) }
    }

    /// Tasks whose slot, retry, time-out or wait for a turn has come, earliest first.
    pub fn tasks_due(&mut self, now: Timestamp, limit: i64) -> Result<Vec<TaskNo>, StoreError> {
        self.query(
            "SELECT job, ordinal FROM task WHERE due_at IS NOT NULL AND due_at <= ?1
             ORDER BY due_at, job, ordinal LIMIT ?2",
            &[now.0.into(), limit.into()],
            |row| Ok(TaskNo { job: JobNo(row.int(0)?), ordinal: row.int(1)? }),
        )
    }

    /// The same of tasks that a node looks after. The rows of other nodes' tasks are passed over: they are few, since
    /// each node sees to its own at once.
    pub fn tasks_due_of(
        &mut self,
        whose: &DueAt,
        now: Timestamp,
        limit: i64,
    ) -> Result<Vec<TaskNo>, StoreError> {
        self.query(
            DUE_OF,
            &[now.0.into(), whose.node.into(), whose.neglected.map(|at| at.0).into(), limit.into()],
            |row| Ok(TaskNo { job: JobNo(row.int(0)?), ordinal: row.int(1)? }),
        )
    }

    /// When the next deadline of a task comes that a node looks after, if it comes before `horizon`.
    pub fn task_next_due_of(
        &mut self,
        whose: &DueAt,
        horizon: Timestamp,
    ) -> Result<Option<Timestamp>, StoreError> {
        self.query_one(
            NEXT_DUE_OF,
            &[horizon.0.into(), whose.node.into(), whose.neglected.map(|at| at.0).into()],
            |row| Ok(Timestamp(row.int(0)?)),
        )
    }

    /// Takes a deadline away from a task that must have none: a mended row, not a change of the task.
    pub fn task_due_clear(&mut self, no: TaskNo) -> Result<(), StoreError> {
        self.exec(
            "UPDATE task SET due_at = NULL WHERE job = ?1 AND ordinal = ?2",
            &[no.job.0.into(), no.ordinal.into()],
        )?;
        Ok(())
    }

    /// When the next slot, retry or time-out comes.
    pub fn task_next_due(&mut self) -> Result<Option<Timestamp>, StoreError> {
        self.query_one(
            "SELECT due_at FROM task WHERE due_at IS NOT NULL ORDER BY due_at LIMIT 1",
            &[],
            |row| Ok(Timestamp(row.int(0)?)),
        )
    }

    /// A batch's tasks in one state, in order.
    pub fn tasks_by_status(
        &mut self,
        job: JobNo,
        status: TaskStatus,
        limit: i64,
    ) -> Result<Vec<TaskNo>, StoreError> {
        self.query(
            "SELECT job, ordinal FROM task WHERE job = ?1 AND status = ?2 ORDER BY ordinal LIMIT ?3",
            &[job.0.into(), status.code().into(), limit.into()],
            |row| Ok(TaskNo { job: JobNo(row.int(0)?), ordinal: row.int(1)? }),
        )
    }

    /// One page of a batch's tasks, in ordinal order; `total` is what the filter matches in all.
    pub fn task_list_by_job(
        &mut self,
        job: JobNo,
        filter: &TaskFilter,
        page: Page,
        total: i64,
    ) -> Result<Vec<ListedTask>, StoreError> {
        match filter {
            TaskFilter::All => {
                let (low, high) = page.oldest_first(total);
                self.query(
                    listed_tasks!(
                        "FROM task t JOIN device d ON d.id = t.device
                     WHERE t.job = ?1 AND t.ordinal >= ?2 AND t.ordinal <= ?3 ORDER BY t.ordinal"
                    ),
                    &[job.0.into(), low.into(), high.into()],
                    listed,
                )
            }
            TaskFilter::Status(status) => self.query(
                listed_tasks!(
                    "FROM task t JOIN device d ON d.id = t.device
                 WHERE t.job = ?1 AND t.status = ?2 ORDER BY t.ordinal LIMIT ?3 OFFSET ?4"
                ),
                &[job.0.into(), status.code().into(), page.size().into(), page.skip().into()],
                listed,
            ),
        }
    }

    /// The unfinished tasks of a device, oldest batch first: it has few.
    pub fn task_list_open(&mut self, device: DeviceNo) -> Result<Vec<OpenTask>, StoreError> {
        self.query(self.text_of(LIST_OPEN), &[device.0.into()], |row| {
            Ok(OpenTask {
                task: task(row)?,
                job_id: row.text(18)?,
                firmware_id: row.text(19)?,
                module: row.text(20)?,
                dest_version: row.text(21)?,
            })
        })
    }

    /// The tasks of these devices in a batch.
    pub fn task_list_by_devices(
        &mut self,
        job: JobNo,
        devices: &[DeviceNo],
    ) -> Result<Vec<ListedTask>, StoreError> {
        let keys: Vec<Vec<Value<'_>>> =
            devices.iter().map(|device| vec![job.0.into(), device.0.into()]).collect();
        self.query_set(&BY_DEVICES, &keys, listed)
    }
}
