//! `updraft explain`: why a device is, is not, or will be updated.

use crate::cli::browse::find_product;
use crate::cli::job::find_task;
use crate::cli::out::{Row, visible};
use crate::cli::{Beside, admin, need, now, owned, say, switch, text_arg};
use anyhow::Context as _;
use clap::{ArgMatches, Command};
use serde_json::json;
use updraft_core::explain::Holds;
use updraft_core::id::TaskNo;
use updraft_server::api::answer::{Format, utc};
use updraft_server::api::task::explain_ota_task::{data, next, summary};
use updraft_server::engine::explain::{Asked, OfBatch, OfDevice, View, deleted_of_job, explain};
use updraft_store::{BrowsedTask, Job, Tx};

/// `updraft explain`.
pub fn command() -> Command {
    admin(
        "explain",
        "Why a device is, is not, or will be updated: by one batch, or by all that run. Each predicate with the value \
         seen, what is waited for and since when, and what happens next",
    )
    .arg(
        text_arg("device", "DEVICE", "The device: PRODUCT_KEY/DEVICE_NAME, or its IotId").required(true),
    )
    .arg(text_arg("job", "JOB_ID", "The batch; without it: all running batches of the device's product"))
    .arg(switch("json", "Prints it as JSON, as ExplainOTATask answers it"))
}

/// Runs it.
pub fn run(args: &ArgMatches) -> anyhow::Result<()> {
    let beside = Beside::open(args)?;
    let device = need(args, "device")?.to_owned();
    let job = owned(args, "job");
    let config = beside.config.clone();
    let found = beside.read(move |tx| {
        let job = match &job {
            Some(id) => Some(tx.job_find_any(id)?.with_context(|| format!("there is no batch {id}"))?),
            None => None,
        };
        let asked = find(tx, &device, job.as_ref())?;
        let view = View { config: &config, now: now(), listening: None };
        Ok(explain(tx, view, asked, job)?)
    })?;
    if args.get_flag("json") {
        say(&String::from_utf8_lossy(&data(&found).render(Format::Json, "")));
        return Ok(());
    }
    let mut lines = vec![head(&found)];
    lines.extend(found.batches.iter().flat_map(of_batch));
    lines.extend(found.refusals.iter().map(|refused| {
        let (module, since, last) = (&refused.module, utc(refused.first_at), utc(refused.last_at));
        format!(
            "In vain: {} (module {module}): {}; {} times since {since}, last at {last}",
            refused.event, refused.why, refused.count
        )
    }));
    for line in lines {
        say(&visible(&line));
    }
    Ok(())
}

/// The device that is named, whoever's; or one that was deleted and has a task of the batch.
fn find(tx: &mut Tx<'_>, device: &str, job: Option<&Job>) -> anyhow::Result<Asked> {
    let missing = || format!("there is no device {device}");
    let no = if let Some((key, name)) = device.split_once('/') {
        let product = find_product(tx, key)?.no;
        let Some(found) = tx.device_find(product, name)? else {
            let deleted = job.map(|job| deleted_of_job(tx, job, key, name)).transpose()?;
            return deleted.flatten().with_context(missing);
        };
        found.no
    } else {
        tx.browse_device_by_iot_id(device)?.with_context(missing)?.no
    };
    let (device, deleted_at) = tx.device_load(no)?.with_context(missing)?;
    let product = tx.product_load(device.product)?.with_context(missing)?;
    Ok(Asked { product, device, deleted_at })
}

fn head(found: &OfDevice) -> String {
    let Asked { product, device, .. } = &found.asked;
    let of =
        format!("Device {} of product {} is {}.", device.name, product.product_key, device.status.name());
    if found.batches.len() == 1 { of } else { format!("{of} {}", summary(found)) }
}

fn of_batch(of: &OfBatch) -> Vec<String> {
    let OfBatch { job, firmware, explanation, .. } = of;
    let mut lines = vec![
        format!(
            "Batch {} to {} of module {}: {}. {}",
            job.job_id,
            firmware.dest_version,
            firmware.module,
            explanation.verdict.name(),
            explanation.sentence(utc)
        ),
        format!("  Next: {}", next(explanation)),
    ];
    if let Some(at) = explanation.ends_by {
        lines.push(format!("  It ends by {} at the latest.", utc(at)));
    }
    if of.tasks > 1 {
        lines.push(format!("  The device has had {} tasks of this batch; this is the last one.", of.tasks));
    }
    for check in &explanation.checks {
        let mark = match check.holds {
            Holds::Yes => "yes",
            Holds::No => "NO ",
            Holds::NotAsked => " - ",
        };
        lines.push(format!("  {mark}  {:14}  {}", check.name, check.text(utc)));
    }
    for refused in &of.refusals {
        let (since, last) = (utc(refused.first_at), utc(refused.last_at));
        let (event, why, count) = (&refused.event, &refused.why, refused.count);
        lines.push(format!("  Refused: {event}: {why}; {count} times since {since}, last at {last}"));
    }
    lines
}

/// What an open task waits for, as fields of it.
pub fn fields(beside: &Beside, id: &str) -> anyhow::Result<Row> {
    let (id, config) = (id.to_owned(), beside.config.clone());
    let found = beside.read(move |tx| {
        let missing = || format!("there is no task {id}");
        let (job, task): (_, BrowsedTask) = find_task(tx, &id)?.with_context(missing)?;
        if !task.status.is_open() {
            return Ok(None);
        }
        let asked = find(tx, &task.iot_id, None)?;
        let view = View { config: &config, now: now(), listening: None };
        let no = TaskNo { job: job.job.no, ordinal: task.ordinal };
        let found = explain(tx, view, asked, Some(job.job))?.batches.pop();
        Ok(found.filter(|of| of.task.as_ref().is_some_and(|task| task.no == no)))
    })?;
    let explanation = found.as_ref().map(|of| &of.explanation);
    let waiting = explanation.and_then(|explanation| explanation.waiting);
    Ok(vec![
        ("WaitsFor", json!(waiting.map(|waiting| waiting.wait.name()))),
        ("UtcWaitsSince", json!(waiting.map(|waiting| utc(waiting.since)))),
        ("Next", json!(explanation.map(|explanation| explanation.next.what.name()))),
        ("UtcNext", json!(explanation.and_then(|explanation| explanation.next.at).map(utc))),
    ])
}
