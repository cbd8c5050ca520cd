//! ReupgradeOTATask: puts up to ten failed or cancelled tasks of a batch back in line. All or none.
//!
//! A batch that had ended runs again, and so does the verification that it was for.

use crate::api::answer::Object;
use crate::api::error::{ApiError, Code};
use crate::api::job::request::find_job;
use crate::api::task::ids;
use crate::api::{Call, Operation};
use crate::engine;
use crate::engine::advance::Door;
use std::sync::Arc;
use updraft_core::id::{DeviceNo, TaskNo};
use updraft_core::job::JobType;
use updraft_core::target;
use updraft_core::task::{Cancel, Event, TaskStatus};
use updraft_store::{Job, Lane, Tx};

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "ReupgradeOTATask",
    qps: 20,
    changes: true,
    required: &["JobId", "TaskId"],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

async fn run(call: Call) -> Result<Object, ApiError> {
    let id = call.params.need("JobId")?.to_owned();
    let wanted = ids::read(&call.params)?;
    let (instance, app) = (call.instance, Arc::clone(&call.app));
    engine::write(&call.app, Lane::Interactive, move |tx| {
        let (job, firmware, _) = find_job(tx, instance, &id)?;
        if firmware.deleted_at.is_some() {
            return Err(ApiError::with(Code::FirmwareNotFound, "The job's firmware is deleted."));
        }
        if job.job_type == JobType::Upgrade && !firmware.status.may_upgrade() {
            return Err(ApiError::new(Code::FirmwareNotVerified));
        }
        let tasks = wanted.iter().map(|id| Ok((id.as_str(), ids::find_in(&job, id)?)));
        let tasks = tasks.collect::<Result<Vec<_>, ApiError>>()?;
        let devices = free_devices(tx, &job, &firmware.module, &tasks)?;
        let mut versions = Vec::new();
        for device in devices {
            versions.push(tx.version_find(device, &firmware.module)?);
        }
        let mut door = Door::open(tx, &app, app.now());
        door.load_tasks_and_beside(&tasks.iter().map(|(_, no)| *no).collect::<Vec<_>>())?;
        for ((id, no), version) in tasks.into_iter().zip(versions) {
            door.apply_asked(no, &Event::Reupgrade(version.as_deref()))?
                .map_err(|refused| ids::forbidden(id, refused.status.name(), refused.why))?;
            if door.is_reached(no)? {
                door.offer(no)?;
            }
        }
        Ok::<_, ApiError>(((), door.close()?))
    })
    .await?;
    Ok(Object::new())
}

/// The devices of these tasks, in the tasks' order; none of them may have another task in the way by now.
fn free_devices(
    tx: &mut Tx<'_>,
    job: &Job,
    module: &str,
    tasks: &[(&str, TaskNo)],
) -> Result<Vec<DeviceNo>, ApiError> {
    if job.cancel != Cancel::default() {
        return Err(ApiError::with(
            Code::TaskStatusForbids,
            "A cancellation of the job is still being carried out; try again in a moment.",
        ));
    }
    let mut devices = Vec::new();
    for (id, no) in tasks {
        let task = tx.tasks_load(&[*no])?.pop().ok_or_else(|| ApiError::new(Code::TaskNotFound))?;
        let other = tx
            .task_list_open(task.device)?
            .into_iter()
            .find(|open| open.task.no != *no && target::in_the_way(&job.conduct, module, &open.module));
        if let Some(other) = other {
            let why = format!("its device has an unfinished task in job {}", other.job_id);
            return Err(ids::forbidden(id, task.status.name(), &why));
        }
        if task.status == TaskStatus::Succeeded {
            return Err(ids::forbidden(id, task.status.name(), "it has succeeded"));
        }
        if !tx.devices_deleted(&[task.device])?.is_empty() {
            return Err(ids::forbidden(id, task.status.name(), "its device was deleted"));
        }
        // A dynamic batch may have several tasks of a device, of which one at most is open.
        if devices.contains(&task.device) {
            return Err(ids::forbidden(id, task.status.name(), "another task of its device is named too"));
        }
        devices.push(task.device);
    }
    Ok(devices)
}
