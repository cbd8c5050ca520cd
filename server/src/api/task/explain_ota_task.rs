//! ExplainOTATask (ours): why a device is, is not, or will be updated, by one batch or by all that run.

use crate::api::answer::{Node, Object, utc};
use crate::api::device::address::Address;
use crate::api::error::{ApiError, Code};
use crate::api::{Call, Operation};
use crate::engine::advance::Reach;
use crate::engine::explain::{Asked, OfBatch, OfDevice, View, deleted_of_job, explain};
use updraft_core::explain::{Check, Explanation, Foreseen};
use updraft_core::id::{InstanceNo, task_id};
use updraft_store::{DeviceRefusals, Job, Refusals, Tx};

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "ExplainOTATask",
    qps: 10,
    changes: false,
    required: &[],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

async fn run(call: Call) -> Result<Object, ApiError> {
    let instance = call.instance;
    let address = Address::read(&call.params)?;
    let job_id = call.params.text("JobId").map(str::to_owned);
    let app = std::sync::Arc::clone(&call.app);
    let found = call
        .app
        .store
        .read(move |tx| {
            let job = match &job_id {
                Some(id) => Some(tx.job_find(instance, id)?.ok_or_else(|| ApiError::new(Code::JobNotFound))?),
                None => None,
            };
            let asked = find(tx, instance, &address, job.as_ref())?;
            let listening = match asked.deleted_at {
                Some(_) => Some(false),
                None => match Reach::of(tx, &app, asked.device.no)? {
                    Reach::Here => Some(true),
                    // Its node knows.
                    Reach::Elsewhere => None,
                    Reach::Nowhere => Some(false),
                },
            };
            let view = View { config: &app.config, now: app.now(), listening };
            Ok::<_, ApiError>(explain(tx, view, asked, job)?)
        })
        .await?;
    Ok(Object::new().object("Data", data(&found)))
}

/// The device, or one of that name that was deleted and has a task of the batch.
fn find(
    tx: &mut Tx<'_>,
    instance: InstanceNo,
    address: &Address,
    job: Option<&Job>,
) -> Result<Asked, ApiError> {
    let missing = match address.find(tx, instance) {
        Ok((product, device)) => return Ok(Asked { product, device, deleted_at: None }),
        Err(missing) => missing,
    };
    let (Address::Names(key, name), Some(job)) = (address, job) else { return Err(missing) };
    deleted_of_job(tx, job, key, name)?.ok_or(missing)
}

/// What is answered: the same as `updraft explain --json` prints.
pub fn data(found: &OfDevice) -> Object {
    let Asked { product, device, .. } = &found.asked;
    Object::new()
        .text("ProductKey", &product.product_key)
        .text("DeviceName", &device.name)
        .text("IotId", &device.iot_id)
        .text("Status", device.status.name())
        .text("Summary", summary(found))
        .list("Batches", "BatchExplanation", found.batches.iter().map(batch).collect())
        .list("Refusals", "DeviceRefusal", found.refusals.iter().map(device_refusal).collect())
}

/// The whole answer in a sentence.
pub fn summary(found: &OfDevice) -> String {
    match found.batches.as_slice() {
        [] => "The device has no open task, and no batch of its product runs: nothing updates it.".to_owned(),
        [only] => only.explanation.sentence(utc),
        all => {
            let more = if found.more { " (there are more, which are not told)" } else { "" };
            let with =
                all.iter().filter(|of| of.task.as_ref().is_some_and(|task| task.status.is_open())).count();
            format!("The device has open tasks of {with} of the {} batches told of{more}.", all.len())
        }
    }
}

/// What happens next, as a sentence.
pub fn next(explanation: &Explanation) -> String {
    let next = explanation.next;
    match next.at {
        Some(at) => format!("At {} {}.", utc(at), next.what.text()),
        None if next.what == Foreseen::Nothing => "Nothing happens by itself.".to_owned(),
        None => format!("In the server's next round {}.", next.what.text()),
    }
}

fn batch(of: &OfBatch) -> Node {
    let OfBatch { job, firmware, task, explanation, .. } = of;
    let waiting = explanation.waiting;
    Node::Object(
        Object::new()
            .text("JobId", &job.job_id)
            .text("FirmwareId", &firmware.firmware_id)
            .text("ModuleName", &firmware.module)
            .text("DestVersion", &firmware.dest_version)
            .opt_text("TaskId", task.as_ref().map(|task| task_id(&job.job_id, task.no.ordinal)))
            .opt_text("TaskStatus", task.as_ref().map(|task| task.status.name()))
            .int("TaskCount", of.tasks as i64)
            .text("Verdict", explanation.verdict.name())
            .text("Summary", explanation.sentence(utc))
            .opt_text("WaitsFor", waiting.map(|waiting| waiting.wait.name()))
            .opt_utc("UtcWaitsSince", waiting.map(|waiting| waiting.since))
            .text("Next", explanation.next.what.name())
            .text("NextDesc", next(explanation))
            .opt_utc("UtcNext", explanation.next.at)
            .opt_utc("UtcEndsBy", explanation.ends_by)
            .list("Checks", "Check", explanation.checks.iter().map(check).collect())
            .list("Refusals", "TaskRefusal", of.refusals.iter().map(refusal).collect()),
    )
}

fn check(check: &Check) -> Node {
    Node::Object(
        Object::new()
            .text("Name", check.name)
            .text("Holds", check.holds.name())
            .text("Seen", check.seen.render(utc))
            .text("Wanted", check.wanted.render(utc))
            .text("Text", check.text(utc)),
    )
}

/// What of a task was refused, as ListOTATaskHistory tells it, too.
pub fn refusal(refused: &Refusals) -> Node {
    Node::Object(
        Object::new()
            .text("Event", &refused.event)
            .text("Reason", &refused.why)
            .int("Count", refused.count)
            .utc("UtcFirst", refused.first_at)
            .utc("UtcLast", refused.last_at),
    )
}

fn device_refusal(refused: &DeviceRefusals) -> Node {
    Node::Object(
        Object::new()
            .text("Event", &refused.event)
            .text("Reason", &refused.why)
            .text("ModuleName", &refused.module)
            .int("Count", refused.count)
            .utc("UtcFirst", refused.first_at)
            .utc("UtcLast", refused.last_at),
    )
}
