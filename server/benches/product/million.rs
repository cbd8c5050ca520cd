//! A million devices: registering them, remembering them, and batches over all of them.

use crate::batch::{Pairs, Stage, Took, p99};
use crate::database::Engine;
use crate::process::Process;
use crate::report::{Reach, Report, millis, number};
use crate::seed::Seeded;
use crate::{Scale, devices};
use anyhow::{Context as _, ensure};
use std::time::{Duration, Instant};
use updraft_server::fleet_io::load;

/// The goals are for a million devices.
const MILLION: f64 = 1e6;
const MIB: f64 = 1_048_576.0;
/// Devices of one call of BatchRegisterDevice: the most that it takes.
const REGISTERED_AT_ONCE: usize = 10_000;
/// Restarts, of which the slowest counts.
const RESTARTS: usize = 3;

const ALL: Pairs<'static> = &[("TargetSelection", "ALL")];
const GRAY: Pairs<'static> = &[("TargetSelection", "GRAY"), ("GrayPercent", "50")];
const STATIC: &str = "CreateOTAStaticUpgradeJob";
const DYNAMIC: &str = "CreateOTADynamicUpgradeJob";

/// Measures all of it.
pub async fn measure(engine: &Engine, scale: Scale, report: &mut Report) -> anyhow::Result<()> {
    report.place(engine.name(), "million");
    // A database of its own: its size should not weigh on the other figures.
    let alone = Scale { batches: 10_000, reporting: 1, image_bytes: 1, ..scale };
    let seeded = Seeded::make(engine, alone).await?;
    let process = Process::start(&seeded)?;
    let count = number(seeded.crowd.devices as f64);
    report.part(&format!(
        "Many devices: {count} registered, {} of others connected",
        number(scale.idle as f64)
    ));
    let calm_start = process.ready;
    memory(&process, &seeded, report).await?;
    register(&Stage::new(&process, &seeded)?, scale, report).await?;
    report.part(&format!("Batches over {count} devices, none connected"));
    let stage = Stage::new(&process, &seeded)?;
    let calm = stage.listed(tokio::time::sleep(Duration::from_secs(1))).await?.1;
    let list = stage.upload().await?;
    report.row(
        "list of all names: its upload",
        &millis(list.took),
        &format!("{} bytes", number(list.bytes as f64)),
    );
    let by_list = [("TargetSelection", "SPECIFIC"), ("DnListFileUrl", list.url.as_str())];
    for (what, target) in [("ALL", ALL), ("GRAY 50 %", GRAY), ("list file", &by_list)] {
        plan(&stage, what, target, report).await?;
    }
    let took = batch(&stage, "list file", 0, STATIC, &by_list, &calm, report).await?;
    plan(&stage, "ALL, every device busy", ALL, report).await?;
    let peak = process.peak_bytes()? as f64 / MIB;
    report.row("most memory of the server until here", &format!("{peak:.0} MiB"), "VmHWM, since its start");
    drop(process);
    let process = restart(&seeded, &took.job_id, calm_start, report).await?;
    let stage = Stage::new(&process, &seeded)?;
    cancel(&stage, "list file", &took, seeded.crowd.devices, report).await?;
    for (what, package, action, target) in [
        ("ALL", 1, STATIC, ALL),
        ("GRAY 50 %", 2, STATIC, GRAY),
        ("dynamic", 3, DYNAMIC, &[("SrcVersion.1", "1.0.0")]),
    ] {
        let took = batch(&stage, what, package, action, target, &calm, report).await?;
        if what != "dynamic" {
            cancel(&stage, what, &took, tasks_of(&seeded, what), report).await?;
        }
    }
    Ok(())
}

fn tasks_of(seeded: &Seeded, what: &str) -> usize {
    if what.starts_with("GRAY") { seeded.crowd.devices / 2 } else { seeded.crowd.devices }
}

/// Connects the other devices, which report a version and stay.
async fn memory(process: &Process, seeded: &Seeded, report: &mut Report) -> anyhow::Result<()> {
    let before = process.resident_bytes()? as f64 / MIB;
    let identities = devices::identities(&seeded.idle);
    let listeners = load::listeners(&process.mqtt.into(), &identities, "1.0.0", false).await?;
    let (all, own) = (process.resident_bytes()? as f64 / MIB, process.anonymous_bytes()? as f64 / MIB);
    drop(listeners);
    report.reach(
        "memory of the server, many registered, many connected (RSS)",
        &format!("{all:.0} MiB"),
        &Reach::at_most(all, 512.0, " MiB"),
        &format!("its own pages (RssAnon): {own:.0} MiB; RSS with nobody connected: {before:.0} MiB"),
    );
    Ok(())
}

/// Registers devices in bulk, as back ends do.
async fn register(stage: &Stage<'_>, scale: Scale, report: &mut Report) -> anyhow::Result<()> {
    let (rounds, size) = (scale.registered / REGISTERED_AT_ONCE, REGISTERED_AT_ONCE.to_string());
    let key = stage.seeded.empty_key.as_str();
    let start = Instant::now();
    for _ in 0..rounds {
        let made = stage.call("BatchRegisterDevice", &[("ProductKey", key), ("Count", &size)]).await?;
        let apply_id = made["Data"]["ApplyId"].as_i64().context("no ApplyId")?.to_string();
        loop {
            let asked = [("ProductKey", key), ("ApplyId", apply_id.as_str())];
            let status = stage.call("QueryBatchRegisterDeviceStatus", &asked).await?;
            match status["Data"]["Status"].as_str() {
                Some("CREATE_SUCCESS") => break,
                Some("CREATE") => tokio::time::sleep(Duration::from_millis(2)).await,
                other => anyhow::bail!("a registration in bulk is {other:?}"),
            }
        }
    }
    let registered = (rounds * REGISTERED_AT_ONCE) as f64;
    let rate = registered / start.elapsed().as_secs_f64();
    report.row(
        "devices registered in bulk, per second",
        &number(rate),
        &format!(
            "BatchRegisterDevice, {size} a call, {} in all; {:.0} s for a million",
            number(registered),
            MILLION / rate
        ),
    );
    Ok(())
}

async fn plan(stage: &Stage<'_>, what: &str, target: Pairs<'_>, report: &mut Report) -> anyhow::Result<()> {
    let plan = stage.plan(target).await?;
    report.row(
        &format!("plan, {what}: until PlanOTAJob is answered"),
        &millis(plan.took),
        &format!(
            "{} devices looked at; ListOTAJobByFirmware meanwhile, p99: {}",
            number(plan.looked as f64),
            millis(p99(&plan.calls))
        ),
    );
    Ok(())
}

async fn batch(
    stage: &Stage<'_>,
    what: &str,
    package: usize,
    action: &str,
    target: Pairs<'_>,
    calm: &[Duration],
    report: &mut Report,
) -> anyhow::Result<Took> {
    let tasks = tasks_of(stage.seeded, what);
    let before = stage.seeded.database.bytes_used()?;
    let took = stage.batch(action, package, target, tasks).await?;
    let accepted = took.accepted.as_secs_f64();
    let seconds = took.done.as_secs_f64();
    let rate = tasks as f64 / seconds;
    let meanwhile = p99(&took.calls).as_secs_f64() * 1e3;
    let bytes = stage.seeded.database.bytes_used()?.saturating_sub(before) as f64 / tasks as f64;
    report.reach(
        &format!("batch, {what}: until the call is answered"),
        &millis(took.accepted),
        &Reach::at_most(accepted, 1.0, " s"),
        "",
    );
    report.reach(
        &format!("batch, {what}: tasks made, per second"),
        &number(rate),
        &Reach::at_least(rate, 100_000.0, ""),
        &format!("{} tasks in {seconds:.1} s; a million in {:.1} s", number(tasks as f64), MILLION / rate),
    );
    report.reach(
        &format!("batch, {what}: ListOTAJobByFirmware meanwhile, p99"),
        &format!("{meanwhile:.1} ms"),
        &Reach::at_most(meanwhile, 50.0, " ms"),
        &format!("{} calls; {} of {} without the batch", took.calls.len(), millis(p99(calm)), calm.len()),
    );
    report.reach(
        &format!("batch, {what}: bytes on disk for each device"),
        &number(bytes),
        &Reach::at_most(bytes, 200.0, ""),
        "pages of the database that are in use, its indexes too",
    );
    Ok(took)
}

async fn cancel(
    stage: &Stage<'_>,
    what: &str,
    took: &Took,
    tasks: usize,
    report: &mut Report,
) -> anyhow::Result<()> {
    let seconds = stage.cancel(&took.job_id, tasks).await?.as_secs_f64();
    let rate = tasks as f64 / seconds;
    report.row(&format!("batch, {what}: its cancellation, tasks per second"), &number(rate), "");
    Ok(())
}

/// Kills the server, starts it again and asks for what it had; answers the last one.
async fn restart(
    seeded: &Seeded,
    job_id: &str,
    calm: Duration,
    report: &mut Report,
) -> anyhow::Result<Process> {
    let mut slowest = Duration::ZERO;
    let mut last = None;
    for _ in 0..RESTARTS {
        drop(last.take());
        let start = Instant::now();
        let process = Process::start(seeded)?;
        let stage = Stage::new(&process, seeded)?;
        let total = stage.total(&[("JobId", job_id), ("TaskStatus", "QUEUED"), ("PageSize", "1")]).await?;
        slowest = slowest.max(start.elapsed());
        ensure!(total == seeded.crowd.devices as u64, "{total} open tasks are left");
        last = Some(process);
    }
    report.reach(
        &format!("restart with {} open tasks, until a call is answered", number(seeded.crowd.devices as f64)),
        &millis(slowest),
        &Reach::at_most(slowest.as_secs_f64(), 2.0, " s"),
        &format!("after kill -9, the slowest of {RESTARTS}, nothing lost; without tasks: {}", millis(calm)),
    );
    last.context("no restart")
}
