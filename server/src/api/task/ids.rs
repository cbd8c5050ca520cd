//! Tasks named by their wire ids.

use crate::api::error::{ApiError, Code};
use crate::api::params::Params;
use std::collections::BTreeSet;
use updraft_core::id::{InstanceNo, TaskNo, task_id, task_id_parts};
use updraft_core::limits::TASK_IDS_MAX;
use updraft_core::text;
use updraft_store::{Job, Tx};

/// `TaskId.N`, each once.
pub fn read(params: &Params) -> Result<Vec<String>, ApiError> {
    let ids: BTreeSet<&str> = params.list("TaskId", TASK_IDS_MAX)?.into_iter().collect();
    if ids.is_empty() {
        return Err(ApiError::missing("TaskId.1"));
    }
    Ok(ids.into_iter().map(str::to_owned).collect())
}

/// The task with this id in one of the instance's batches.
pub fn find(tx: &mut Tx<'_>, instance: InstanceNo, id: &str) -> Result<TaskNo, ApiError> {
    let (head, _) = task_id_parts(id).ok_or_else(|| unknown(id))?;
    let jobs = tx.jobs_by_prefix(instance, head)?;
    jobs.iter().find_map(|job| within(job, id)).ok_or_else(|| unknown(id))
}

/// The task with this id in this batch.
pub fn find_in(job: &Job, id: &str) -> Result<TaskNo, ApiError> {
    within(job, id).ok_or_else(|| unknown(id))
}

fn within(job: &Job, id: &str) -> Option<TaskNo> {
    let (_, ordinal) = task_id_parts(id)?;
    let is = ordinal <= job.task_count && task_id(&job.job_id, ordinal) == id;
    is.then_some(TaskNo { job: job.no, ordinal })
}

fn unknown(id: &str) -> ApiError {
    ApiError::with(Code::TaskNotFound, format!("There is no task {}.", text::clip(id, 40)))
}

/// The answer to an operator whose wish a task's state forbids.
pub fn forbidden(id: &str, status: &str, why: &str) -> ApiError {
    ApiError::with(Code::TaskStatusForbids, format!("Task {id} is {status}: {why}."))
}
