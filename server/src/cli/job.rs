//! `updraft job …` and `updraft task …`: batches and their devices; stopping a batch.

use crate::cli::browse::{opt_utc, place_fields, positional};
use crate::cli::out::{Row, show};
use crate::cli::page::{self, place_args};
use crate::cli::{Beside, admin, explain, history, need, now, owned, say, switch, text, text_arg, watch};
use anyhow::{Context as _, ensure};
use clap::{ArgMatches, Command};
use serde_json::json;
use updraft_core::id::{JobNo, task_id, task_id_parts};
use updraft_core::job::{Counts, JobStatus};
use updraft_core::task::{Cancel, TaskStatus};
use updraft_server::api::answer::utc;
use updraft_server::api::job::wording::Wording;
use updraft_server::engine;
use updraft_store::{AuditLine, BrowseFilter, BrowsedJob, BrowsedTask, Tx};

/// `updraft job …`.
pub fn job_command() -> Command {
    let [account, product] = place_args();
    let id = || positional("id", "JOB_ID", "The batch");
    let filters = [
        account,
        product,
        text_arg("firmware", "FIRMWARE_ID", "Only of this package"),
        text_arg("status", "STATUS", "Only these").value_parser(JobStatus::ALL.map(status_name)),
    ];
    page::commands(
        "job",
        "Update batches, newest first, with the number of their tasks in each state",
        "batches",
        &filters,
        &[id()],
    )
    .subcommand(
        admin(
            "watch",
            "Follows a batch until it ends: a live view on a terminal, else a line per change",
        )
        .arg(id()),
    )
    .subcommand(
        admin(
            "stop",
            "Stops a batch at once: no further device is told, and every task that no device has begun is \
             cancelled. The running server does it within a second, or the next start does; it cannot be undone, \
             but ReupgradeOTATask puts cancelled tasks back in line",
        )
        .arg(id())
        .arg(switch("all", "Cancels also the tasks that devices are working on")),
    )
}

/// `updraft task …`.
pub fn task_command() -> Command {
    let filters = [
        positional("job", "JOB_ID", "The batch"),
        text_arg("status", "STATUS", "Only these").value_parser(TaskStatus::ALL.map(TaskStatus::name)),
    ];
    page::commands(
        "task",
        "Tasks: the devices of a batch",
        "tasks of a batch",
        &filters,
        &[positional("id", "TASK_ID", "The task")],
    )
    .subcommand(
        admin("history", "What happened to a task, by whom and why, and what of it was refused")
            .arg(positional("id", "TASK_ID", "The task"))
            .arg(switch("json", "Prints it as JSON")),
    )
}

/// Runs `updraft job …`.
pub fn run_job(args: &ArgMatches) -> anyhow::Result<()> {
    let Some((name, args)) = args.subcommand() else { return Ok(()) };
    let beside = Beside::open(args)?;
    match name {
        "show" => {
            let id = need(args, "id")?.to_owned();
            let found = beside.read(move |tx| find(tx, &id))?;
            return show(&full_row(&found), args.get_flag("json"));
        }
        "watch" => return watch::run(&beside, need(args, "id")?),
        "stop" => return stop(&beside, args),
        _ => {}
    }
    let filter = BrowseFilter {
        account: owned(args, "account"),
        product_key: owned(args, "product"),
        firmware_id: owned(args, "firmware"),
        job_id: None,
    };
    let status = text(args, "status")
        .and_then(|wanted| JobStatus::ALL.into_iter().find(|status| status_name(*status) == wanted));
    page::run(args, name == "export", i64::MAX, |before, limit| {
        let filter = filter.clone();
        let found = beside.read(move |tx| Ok(tx.browse_jobs(&filter, status, before, limit)?))?;
        Ok(found.iter().map(|found| (found.job.no.0, row(found))).collect())
    })
}

/// Runs `updraft task …`.
pub fn run_task(args: &ArgMatches) -> anyhow::Result<()> {
    let Some((name, args)) = args.subcommand() else { return Ok(()) };
    let beside = Beside::open(args)?;
    if name == "show" {
        let id = need(args, "id")?.to_owned();
        let (job, task) = beside.read(move |tx| {
            let found = find_task(tx, &id)?;
            found.with_context(|| format!("there is no task {id}"))
        })?;
        let mut row = task_row(&job, &task);
        row.extend(explain::fields(&beside, need(args, "id")?)?);
        return show(&row, args.get_flag("json"));
    }
    if name == "history" {
        return history::show(&beside, need(args, "id")?, args.get_flag("json"));
    }
    let id = need(args, "job")?.to_owned();
    let job = beside.read(move |tx| find(tx, &id))?;
    let status = text(args, "status").and_then(TaskStatus::from_name);
    let no = job.job.no;
    page::run(args, name == "export", 0, |after, limit| {
        let found = beside.read(move |tx| Ok(tx.browse_tasks(no, status, after, limit)?))?;
        Ok(found.iter().map(|task| (task.ordinal, task_row(&job, task))).collect())
    })
}

/// The batch of this id, whoever's.
pub fn find(tx: &mut Tx<'_>, id: &str) -> anyhow::Result<BrowsedJob> {
    let filter = BrowseFilter { job_id: Some(id.to_owned()), ..BrowseFilter::default() };
    tx.browse_jobs(&filter, None, i64::MAX, 1)?.pop().with_context(|| format!("there is no batch {id}"))
}

/// The task of this id, whoever's, with its batch.
pub fn find_task(tx: &mut Tx<'_>, id: &str) -> anyhow::Result<Option<(BrowsedJob, BrowsedTask)>> {
    let Some((head, ordinal)) = task_id_parts(id) else { return Ok(None) };
    let candidates: Vec<JobNo> = tx.browse_jobs_of_head(head)?;
    for job in tx.jobs_load(&candidates)? {
        if task_id(&job.job_id, ordinal) != id {
            continue;
        }
        if let Some(task) = tx.browse_tasks(job.no, None, ordinal - 1, 1)?.pop()
            && task.ordinal == ordinal
        {
            return Ok(Some((find(tx, &job.job_id)?, task)));
        }
    }
    Ok(None)
}

/// A batch's status, as the newer pages spell it.
pub fn status_name(status: JobStatus) -> &'static str {
    Wording::Modern.status(status)
}

fn row(found: &BrowsedJob) -> Row {
    let job = &found.job;
    let mut row = vec![
        ("JobId", json!(job.job_id)),
        ("JobStatus", json!(status_name(job.status))),
        ("JobType", json!(Wording::Modern.job_type(job.job_type))),
        ("FirmwareId", json!(found.firmware_id)),
        ("DestVersion", json!(found.dest_version)),
        ("ProductKey", json!(found.product_key)),
    ];
    row.extend(place_fields(&found.place));
    row.push(("Total", json!(found.counts.total())));
    row.extend(TaskStatus::ALL.map(|status| (status.name(), json!(found.counts.of(status)))));
    row.push(("UtcCreate", json!(utc(job.created_at))));
    row.push(("UtcStartTime", opt_utc(job.start_at)));
    row.push(("UtcEndTime", opt_utc(job.end_at)));
    row
}

fn full_row(found: &BrowsedJob) -> Row {
    let job = &found.job;
    let tags: Vec<String> = job.tags.iter().map(|tag| format!("{}={}", tag.key, tag.value)).collect();
    let mut row = row(found);
    row.push(("TargetSelection", json!(job.target_selection.name())));
    row.push(("TasksAreBeingMade", json!(!job.expanded || job.selecting)));
    row.push(("IsBeingCancelled", json!(job.cancel != Cancel::default())));
    row.push(("NeedPush", json!(job.need_push)));
    row.push(("NeedConfirm", json!(job.need_confirm)));
    row.push(("MaximumPerMinute", json!(job.per_minute)));
    row.push(("TimeoutInMinutes", json!(job.timeout_minutes)));
    row.push(("SrcVersions", json!(job.src_versions)));
    row.push(("Tags", json!(tags)));
    row
}

fn task_row(found: &BrowsedJob, task: &BrowsedTask) -> Row {
    vec![
        ("TaskId", json!(task_id(&found.job.job_id, task.ordinal))),
        ("JobId", json!(found.job.job_id)),
        ("DeviceName", json!(task.device_name)),
        ("IotId", json!(task.iot_id)),
        ("TaskStatus", json!(task.status.name())),
        ("Progress", json!(task.progress)),
        ("SrcVersion", json!(task.src_version)),
        ("DestVersion", json!(found.dest_version)),
        ("TaskDesc", json!(task.description)),
        ("Retries", json!(task.retries)),
        ("UtcCreate", json!(utc(task.created_at))),
        ("UtcModified", json!(utc(task.modified_at))),
    ]
}

fn stop(beside: &Beside, args: &ArgMatches) -> anyhow::Result<()> {
    let id = need(args, "id")?.to_owned();
    let all = args.get_flag("all");
    let wanted = id.clone();
    let found = beside.read(move |tx| find(tx, &wanted))?;
    let line = AuditLine {
        account: found.place.account,
        instance: found.place.instance_id.unwrap_or_default(),
        action: "job stop".to_owned(),
        subject: format!("JobId={id} All={all}"),
        ..AuditLine::default()
    };
    let now = now();
    let found = beside.change(line, move |tx| {
        let found = find(tx, &id)?;
        let status = found.job.status;
        let over = status.is_ended() && (found.job.is_over() || found.counts.open() == 0);
        ensure!(!over, "the batch has ended already: it is {}", status_name(status));
        engine::stop(tx, &found.job, all, now)?;
        Ok(found)
    })?;
    say(&what_happens(&found.counts, all, found.job.expanded && !found.job.selecting));
    if found.job.policy {
        say("The batch is dynamic: it takes nobody in any more.");
    }
    Ok(())
}

/// What a stop does to how many tasks.
fn what_happens(counts: &Counts, all: bool, complete: bool) -> String {
    let working = counts.of(TaskStatus::InProgress);
    let unbegun = counts.open() - working;
    let begun = match (working, all) {
        (0, _) => String::new(),
        (_, true) => format!(", and so are {working} in progress"),
        (_, false) => format!("; {working} in progress go on to their end (--all cancels them too)"),
    };
    let more = if complete {
        ""
    } else {
        " The batch's tasks are still being made: those to come are cancelled, too."
    };
    format!(
        "Stopped. No further device is told; {} cancelled{begun}.{more}",
        if unbegun == 1 {
            "1 task that no device has begun is".to_owned()
        } else {
            format!("{unbegun} tasks that no device has begun are")
        }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_says_what_happens_to_how_many() {
        let mut counts = Counts::default();
        counts.add(TaskStatus::Queued, 2);
        counts.add(TaskStatus::Notified, 1);
        counts.add(TaskStatus::InProgress, 4);
        counts.add(TaskStatus::Succeeded, 9);
        let said = what_happens(&counts, false, true);
        assert!(said.contains(" 3 tasks") && said.contains("4 in progress go on"), "{said}");
        let said = what_happens(&counts, true, false);
        assert!(said.contains("and so are 4 in progress") && said.contains("still being made"), "{said}");
    }
}
