//! ListOTAUnfinishedTaskByDevice: what a device still has to do, oldest first; not paged, since it has few.

use crate::api::answer::{Node, Object};
use crate::api::device::address::Address;
use crate::api::error::{ApiError, Code};
use crate::api::params::Params;
use crate::api::{Call, Operation};
use updraft_core::task::TaskStatus;
use updraft_core::{id, text};
use updraft_store::{Device, OpenTask, Product};

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "ListOTAUnfinishedTaskByDevice",
    qps: 10,
    changes: false,
    required: &[],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

/// The states that an unfinished task may be in.
const STATUSES_MAX: usize = 4;

async fn run(call: Call) -> Result<Object, ApiError> {
    let instance = call.instance;
    let address = Address::read(&call.params)?;
    let module = call.params.text("ModuleName").map(str::to_owned);
    if module.as_deref().is_some_and(|name| !text::module_name(name)) {
        return Err(ApiError::invalid("ModuleName", "It must be 1 to 64 letters, digits and . _ -"));
    }
    let statuses = statuses(&call.params)?;
    let (product, device, tasks) = call
        .app
        .store
        .read(move |tx| {
            let (product, device) = address.find(tx, instance)?;
            let tasks = tx.task_list_open(device.no)?;
            Ok::<_, ApiError>((product, device, tasks))
        })
        .await?;
    let rows = tasks
        .iter()
        .filter(|open| module.as_ref().is_none_or(|module| *module == open.module))
        .filter(|open| statuses.is_empty() || statuses.contains(&open.task.status))
        .map(|open| row(&product, &device, open))
        .collect();
    Ok(Object::new().list("Data", "SimpleOTATaskInfo", rows))
}

/// `TaskStatus` or `TaskStatusList.N`; empty: any.
fn statuses(params: &Params) -> Result<Vec<TaskStatus>, ApiError> {
    let mut names = params.list("TaskStatusList", STATUSES_MAX)?;
    if let Some(name) = params.text("TaskStatus") {
        if !names.is_empty() {
            return Err(ApiError::invalid("TaskStatusList", "Give it or TaskStatus, not both."));
        }
        names.push(name);
    }
    let open = |name| TaskStatus::from_name(name).filter(|status| status.is_open());
    names
        .into_iter()
        .map(|name| {
            open(name).ok_or_else(|| {
                ApiError::with(
                    Code::InvalidTaskStatus,
                    "An unfinished task is CONFIRM, QUEUED, NOTIFIED or IN_PROGRESS.",
                )
            })
        })
        .collect()
}

fn row(product: &Product, device: &Device, open: &OpenTask) -> Node {
    let task = &open.task;
    Node::Object(
        Object::new()
            .text("TaskId", id::task_id(&open.job_id, task.no.ordinal))
            .text("JobId", &open.job_id)
            .text("FirmwareId", &open.firmware_id)
            .text("ProductKey", &product.product_key)
            .text("ProductName", &product.name)
            .text("DeviceName", &device.name)
            .text("IotId", &device.iot_id)
            .text("ModuleName", &open.module)
            .text("SrcVersion", task.src_version.as_deref().unwrap_or_default())
            .text("DestVersion", &open.dest_version)
            .text("TaskStatus", task.status.name())
            .utc("UtcCreate", task.created_at)
            .utc("UtcModified", task.modified_at),
    )
}
