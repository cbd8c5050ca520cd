//! ListOTATaskHistory (ours): what happened to a task, by whom and why; and what of it was refused.

use crate::api::answer::{Node, Object};
use crate::api::error::{ApiError, Code};
use crate::api::params::Params;
use crate::api::task::{explain_ota_task::refusal, ids};
use crate::api::{Call, Operation, page};
use updraft_core::history::Line;
use updraft_core::limits::TASK_PAGE_SIZE_MAX;
use updraft_core::page::Page;
use updraft_core::task::TaskStatus;
use updraft_store::{BrowsedTask, Job, Product, Refusals};

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "ListOTATaskHistory",
    qps: 10,
    changes: false,
    required: &["TaskId"],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

/// Lines per page if the caller does not say.
const PAGE_SIZE_DEFAULT: i64 = 20;

struct Found {
    job: Job,
    product: Product,
    task: BrowsedTask,
    total: i64,
    lines: Vec<Line>,
    refusals: Vec<Refusals>,
}

async fn run(call: Call) -> Result<Object, ApiError> {
    let instance = call.instance;
    let id = call.params.need("TaskId")?.to_owned();
    let wanted = read_page(&call.params)?;
    let found = call
        .app
        .store
        .read(move |tx| {
            let no = ids::find(tx, instance, &id)?;
            let unknown = || ApiError::new(Code::TaskNotFound);
            let job = tx.jobs_load(&[no.job])?.pop().ok_or_else(unknown)?;
            let product = tx.product_load(job.product)?.ok_or_else(unknown)?;
            let task = tx.browse_tasks(no.job, None, no.ordinal - 1, 1)?.pop().ok_or_else(unknown)?;
            let (total, lines) = (tx.task_history_count(no)?, tx.task_history(no, wanted)?);
            let refusals = tx.task_refusals(no)?;
            Ok::<_, ApiError>(Found { job, product, task, total, lines, refusals })
        })
        .await?;
    let task = &found.task;
    let data = Object::new()
        .text("TaskId", updraft_core::id::task_id(&found.job.job_id, task.ordinal))
        .text("JobId", &found.job.job_id)
        .text("ProductKey", &found.product.product_key)
        .text("DeviceName", &task.device_name)
        .text("IotId", &task.iot_id)
        .text("TaskStatus", task.status.name())
        // A task that was refused a start says why at once: its device was busy.
        .text("TaskDesc", desc(task))
        .utc("UtcCreate", task.created_at)
        .list("Events", "TaskEvent", found.lines.iter().map(event).collect())
        .list("Refusals", "TaskRefusal", found.refusals.iter().map(refusal).collect());
    Ok(page::fields(Object::new(), wanted, found.total).object("Data", data))
}

fn read_page(params: &Params) -> Result<Page, ApiError> {
    let number = params.int("CurrentPage")?.unwrap_or(1);
    page::new(number, params.int("PageSize")?.unwrap_or(PAGE_SIZE_DEFAULT), TASK_PAGE_SIZE_MAX)
}

fn desc(task: &BrowsedTask) -> &str {
    task.description.as_deref().filter(|_| task.status == TaskStatus::Failed).unwrap_or_default()
}

fn event(line: &Line) -> Node {
    Node::Object(
        Object::new()
            .utc("UtcTime", line.at)
            .text("Event", line.what.name())
            .text("Cause", line.what.cause().name())
            .text("FromStatus", line.from.name())
            .text("ToStatus", line.to.name())
            .text("Detail", &line.detail),
    )
}
