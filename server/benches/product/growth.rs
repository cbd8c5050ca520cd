//! What each hot path costs with a thousand devices, tasks and batches, and with a million.

use crate::api::{self, Caller, Connection};
use crate::batch::Stage;
use crate::database::Engine;
use crate::figures::{Course, Growth, cost};
use crate::process::Process;
use crate::report::{Report, revision};
use crate::seed::Seeded;
use crate::{Scale, devices};
use anyhow::ensure;
use std::time::{Duration, Instant};
use updraft_server::fleet_io::load;

/// Makes the n-th request of a kind.
type Asking<'a> = &'a dyn Fn(usize) -> Vec<u8>;

/// Devices whose messages are measured; as many at each size.
const SPEAKING: usize = 500;
const LOGINS: usize = 64;
/// How often each of them logs in: processor time is told in steps of 10 ms.
const ROUNDS: usize = 6;
/// A list shows no more rows than these.
const LISTED_MAX: usize = 100_000;
const ALL: &[(&str, &str)] = &[("TargetSelection", "ALL")];

/// Measures all paths at each size.
pub async fn measure(engine: &Engine, scale: Scale, report: &mut Report) -> anyhow::Result<()> {
    report.place(engine.name(), "growth");
    report.part("Growth: microseconds for one, with so many devices, open tasks and batches of a package");
    let mut growth = Growth { revision: revision(), sizes: scale.sizes.to_vec(), paths: Vec::new() };
    for size in scale.sizes {
        let found = at(engine, *size, scale).await?;
        if growth.paths.is_empty() {
            growth.paths =
                found.iter().map(|(what, _)| Course { what: what.clone(), micros: Vec::new() }).collect();
        }
        for (course, (_, micros)) in growth.paths.iter_mut().zip(&found) {
            course.micros.push(*micros);
        }
    }
    for course in &growth.paths {
        let costs: Vec<String> = course.micros.iter().map(|micros| cost(*micros)).collect();
        report.row(&course.what, &costs.join(" / "), "");
    }
    report.growth(engine.name(), growth);
    Ok(())
}

type Found = Vec<(String, f64)>;

async fn at(engine: &Engine, size: usize, scale: Scale) -> anyhow::Result<Found> {
    let scale = Scale {
        crowd: size,
        batches: size,
        idle: SPEAKING,
        reporting: SPEAKING,
        pushed: SPEAKING,
        image_bytes: 1,
        ..scale
    };
    let seeded = Seeded::make(engine, scale).await?;
    let process = Process::start(&seeded)?;
    let stage = Stage::new(&process, &seeded)?;
    let mut found = Found::new();
    let each = |took: Duration| took.as_secs_f64() * 1e6 / size as f64;
    found.push(("plan over all, for each device".to_owned(), each(stage.plan(ALL).await?.took)));
    let batch = stage.batch("CreateOTAStaticUpgradeJob", 0, ALL, size).await?;
    found.push(("batch over all, for each task".to_owned(), each(batch.done)));
    found.extend(calls(&process, &seeded, scale, &batch.job_id)?);
    found.push(("batch for one device, the call".to_owned(), single(&process, &seeded).await?));
    found.extend(speech(&process, &seeded, scale).await?);
    drop(process);
    let process = Process::start(&seeded)?;
    found.push(("start after kill -9".to_owned(), process.ready.as_secs_f64() * 1e6));
    let canceled = Stage::new(&process, &seeded)?.cancel(&batch.job_id, size).await?;
    found.push(("cancellation, for each task".to_owned(), each(canceled)));
    Ok(found)
}

/// Processor time of calls that read, server and database.
fn calls(process: &Process, seeded: &Seeded, scale: Scale, job_id: &str) -> anyhow::Result<Found> {
    let caller = Caller::new(process.api.to_string())?;
    let crowd = &seeded.crowd;
    let last = |page: usize| (crowd.devices.min(LISTED_MAX) / page).to_string();
    let (batches, tasks) = (last(10), last(100));
    let names: Vec<String> =
        (0..97).map(|number| format!("crowd-{:06}", number * 7_919 % crowd.devices)).collect();
    let of_package = |page: &str| {
        caller.request(
            "ListOTAJobByFirmware",
            "JSON",
            &[("FirmwareId", seeded.firmware_id.as_str()), ("CurrentPage", page), ("PageSize", "10")],
        )
    };
    let of_batch = |page: &str| {
        let list = [("JobId", job_id), ("CurrentPage", page), ("PageSize", "100")];
        caller.request("ListOTATaskByJob", "JSON", &list)
    };
    let of_device = |number: usize| {
        let name = names[number % names.len()].as_str();
        caller.request(
            "QueryDeviceDetail",
            "JSON",
            &[("ProductKey", crowd.product_key.as_str()), ("DeviceName", name)],
        )
    };
    let mut found = Found::new();
    let kinds: [(&str, Asking<'_>); 4] = [
        ("batches of a package, page 1", &|_| of_package("1")),
        ("batches of a package, last page that is shown", &|_| of_package(&batches)),
        ("tasks of a batch, last page that is shown", &|_| of_batch(&tasks)),
        ("a device by its name", &of_device),
    ];
    for (what, request) in kinds {
        // Once before, so that readers are open and caches are warm.
        api::load(process, seeded, api::each(scale.grown / 10, request), "\"Success\":true")?;
        let load = api::load(process, seeded, api::each(scale.grown, request), "\"Success\":true")?;
        found.push((what.to_owned(), load.cpu.as_secs_f64() * 1e6));
    }
    Ok(found)
}

/// How long a call takes that makes a batch for one device, which is busy: one after another.
async fn single(process: &Process, seeded: &Seeded) -> anyhow::Result<f64> {
    const CALLS: u32 = 100;
    let caller = Caller::new(process.api.to_string())?;
    let mut connection = Connection::open(process.api).await?;
    let start = Instant::now();
    for _ in 0..CALLS {
        connection.call(&caller.wake(seeded)?, "\"Success\":true").await?;
    }
    Ok(start.elapsed().as_secs_f64() * 1e6 / f64::from(CALLS))
}

/// What devices say, and are told: processor time of server and database.
async fn speech(process: &Process, seeded: &Seeded, scale: Scale) -> anyhow::Result<Found> {
    let mut found = Found::new();
    let cpu = || anyhow::Ok(process.cpu_seconds()? + seeded.database.cpu_seconds()?);
    let idle = devices::identities(&seeded.idle);
    let (before, mut count) = (cpu()?, 0);
    for _ in 0..ROUNDS {
        let logins = load::login_load(&process.mqtt.into(), &idle, "1.0.0", LOGINS).await;
        ensure!(logins.errors == 0, "{} logins failed", logins.errors);
        count += logins.count;
    }
    let each = |before: f64, after: f64, count: u64| (after - before) * 1e6 / count.max(1) as f64;
    found.push(("login and version report".to_owned(), each(before, cpu()?, count)));
    let busy = devices::identities(&seeded.reporting);
    let lasting = Duration::from_secs(scale.report_seconds.min(2));
    let before = cpu()?;
    let reports = load::publish_load(&process.mqtt.into(), &busy, lasting, devices::progress_of).await?;
    ensure!(reports.errors == 0, "{} devices failed", reports.errors);
    found.push(("durable progress report".to_owned(), each(before, cpu()?, reports.count)));
    let listeners = load::listeners(&process.mqtt.into(), &idle, "1.0.0", false).await?;
    seeded.push_now(&seeded.idle).await?;
    let mut connection = Connection::open(process.api).await?;
    let wake = Caller::new(process.api.to_string())?.wake(seeded)?;
    let start = Instant::now();
    connection.call(&wake, "\"Success\":true").await?;
    listeners.wait_for(seeded.idle.len() as u64).await;
    found.push((
        "push, of 500 at once".to_owned(),
        start.elapsed().as_secs_f64() * 1e6 / seeded.idle.len() as f64,
    ));
    Ok(found)
}
