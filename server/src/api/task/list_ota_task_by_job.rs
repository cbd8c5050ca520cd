//! ListOTATaskByJob: the devices of a batch and where each stands.
//!
//! Without a filter a page is a range of the primary key. With `TaskStatus` it is an index scan that skips
//! the pages before it, which the platform's own bound (page × size up to 100,000) keeps short.

use crate::api::answer::{Node, Object};
use crate::api::error::{ApiError, Code};
use crate::api::job::request::find_job;
use crate::api::params::Params;
use crate::api::{Call, Operation, page};
use updraft_core::limits::{TASK_DEVICE_NAMES_MAX, TASK_PAGE_REACH_MAX, TASK_PAGE_SIZE_MAX};
use updraft_core::page::Page;
use updraft_core::task::TaskStatus;
use updraft_core::{id, job};
use updraft_store::{Firmware, Job, ListedTask, Product, TaskFilter, Tx};

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "ListOTATaskByJob",
    qps: 10,
    changes: false,
    required: &["JobId"],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

/// Rows per page if the caller does not say (the page leaves it open).
const PAGE_SIZE_DEFAULT: i64 = 10;

struct Found {
    job: Job,
    firmware: Firmware,
    product: Product,
    tasks: Vec<ListedTask>,
    total: i64,
}

async fn run(call: Call) -> Result<Object, ApiError> {
    let instance = call.instance;
    let id = call.params.need("JobId")?.to_owned();
    let status = call.params.text("TaskStatus").map(read_status).transpose()?;
    let mut names: Vec<String> =
        call.params.list("DeviceNames", TASK_DEVICE_NAMES_MAX)?.into_iter().map(str::to_owned).collect();
    // A name given twice is still one device.
    names.sort_unstable();
    names.dedup();
    let wanted = read_page(&call.params)?;
    let by_name = !names.is_empty();
    let found = call
        .app
        .store
        .read(move |tx| {
            let (job, firmware, product) = find_job(tx, instance, &id)?;
            let (tasks, total) = if names.is_empty() {
                by_page(tx, &job, status, wanted)?
            } else {
                by_devices(tx, &job, status, &names)?
            };
            Ok::<_, ApiError>(Found { job, firmware, product, tasks, total })
        })
        .await?;
    // Names override paging: everything found is one page, of a dynamic batch up to ten tasks of each.
    let rows = found.total.max(1);
    let shown = if by_name { page::new(1, rows, rows)? } else { wanted };
    let rows = found.tasks.iter().map(|listed| row(&found, listed)).collect();
    Ok(page::fields(Object::new(), shown, found.total).list("Data", "SimpleOTATaskInfo", rows))
}

fn read_status(name: &str) -> Result<TaskStatus, ApiError> {
    TaskStatus::from_name(name).ok_or_else(|| Code::InvalidTaskStatus.into())
}

fn read_page(params: &Params) -> Result<Page, ApiError> {
    let number = params.int("CurrentPage")?.unwrap_or(1);
    let size = params.int("PageSize")?.unwrap_or(PAGE_SIZE_DEFAULT);
    let page = page::new(number, size, TASK_PAGE_SIZE_MAX)?;
    if page.number() * page.size() > TASK_PAGE_REACH_MAX {
        return Err(ApiError::with(
            Code::InvalidPageParams,
            format!("CurrentPage times PageSize must be at most {TASK_PAGE_REACH_MAX}."),
        ));
    }
    Ok(page)
}

fn by_page(
    tx: &mut Tx<'_>,
    job: &Job,
    status: Option<TaskStatus>,
    page: Page,
) -> Result<(Vec<ListedTask>, i64), ApiError> {
    let (filter, total) = match status {
        None => (TaskFilter::All, job.task_count),
        Some(status) => {
            let counts = tx.counts_load(&[job.no])?.remove(&job.no).unwrap_or(job::Counts::default());
            (TaskFilter::Status(status), counts.of(status))
        }
    };
    Ok((tx.task_list_by_job(job.no, &filter, page, total)?, total))
}

fn by_devices(
    tx: &mut Tx<'_>,
    job: &Job,
    status: Option<TaskStatus>,
    names: &[String],
) -> Result<(Vec<ListedTask>, i64), ApiError> {
    let devices = tx.devices_of_job(job.no, job.product, names)?;
    let mut tasks = tx.task_list_by_devices(job.no, &devices)?;
    tasks.retain(|listed| status.is_none_or(|status| listed.task.status == status));
    tasks.sort_by_key(|listed| listed.task.no);
    let total = tasks.len() as i64;
    Ok((tasks, total))
}

fn row(found: &Found, listed: &ListedTask) -> Node {
    let task = &listed.task;
    // TaskDesc says why a task failed; what a running device says of its progress is not part of the answer.
    let desc = if task.status == TaskStatus::Failed { task.desc.as_str() } else { "" };
    Node::Object(
        Object::new()
            .text("TaskId", id::task_id(&found.job.job_id, task.no.ordinal))
            .text("JobId", &found.job.job_id)
            .text("FirmwareId", &found.firmware.firmware_id)
            .text("ProductKey", &found.product.product_key)
            .text("ProductName", &found.product.name)
            .text("DeviceName", &listed.device_name)
            .text("IotId", &listed.iot_id)
            .text("SrcVersion", task.src_version.as_deref().unwrap_or_default())
            .text("DestVersion", &found.firmware.dest_version)
            .text("TaskStatus", task.status.name())
            .text("Progress", format!("{}.00", task.progress))
            .text("TaskDesc", desc)
            .opt_text(
                "Timeout",
                found.job.timeout_minutes_of(task.no.ordinal).map(|minutes| minutes.to_string()),
            )
            .utc("UtcCreate", task.created_at)
            .utc("UtcModified", task.modified_at),
    )
}
