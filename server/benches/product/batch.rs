//! A static batch over every device of a large product, one over half of them, and one by list file with plans before
//! it, beside calls of the API.

use crate::api::{Caller, Connection};
use crate::process::Process;
use crate::report::{Report, millis, number};
use crate::seed::Seeded;
use anyhow::Context as _;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Connections that list batches meanwhile.
const LISTERS: usize = 8;
/// What each of them waits between two calls: together they make 1,600 calls a second at most.
const PAUSE: Duration = Duration::from_millis(5);
/// How often it is looked whether the tasks are there.
const LOOK: Duration = Duration::from_millis(5);
/// The goals are for a million devices.
const MILLION: f64 = 1e6;

/// What a batch took.
struct Took {
    accepted: Duration,
    done: Duration,
    calls: Vec<Duration>,
    job_id: String,
}

/// Measures both batches, and the cancellation between them.
pub async fn measure(process: &Process, seeded: &Seeded, report: &mut Report) -> anyhow::Result<()> {
    let devices = seeded.crowd.devices;
    report.part(&format!("A static batch over {} devices, none connected", number(devices as f64)));
    let caller = Arc::new(Caller::new(process.api.to_string())?);
    let database = seeded.dir.path().join("updraft.db");
    let calm = listed(process, seeded, &caller, tokio::time::sleep(Duration::from_secs(1))).await?.1;
    let before = bytes_used(&database)?;
    let all = batch(process, seeded, &caller, 0, &[("TargetSelection", "ALL")], devices).await?;
    let bytes = (bytes_used(&database)? - before) as f64 / devices as f64;
    rows(report, "ALL", devices, &all, &calm);
    report.row(
        "  bytes on disk for each device",
        &number(bytes),
        "pages of the database that are in use, its indexes too",
    );
    let start = Instant::now();
    let mut connection = Connection::open(process.api).await?;
    let flags = [("JobId", all.job_id.as_str()), ("CancelQueuedTask", "true")];
    connection.call(&caller.request("CancelOTATaskByJob", "JSON", &flags), "\"Success\":true").await?;
    let canceled = [("JobId", all.job_id.as_str()), ("TaskStatus", "CANCELED"), ("PageSize", "1")];
    wait_for_total(process, &caller, &canceled, devices).await?;
    let rate = devices as f64 / start.elapsed().as_secs_f64();
    report.row("  its cancellation, tasks per second", &number(rate), "");
    let share = devices / 2;
    let gray = [("TargetSelection", "GRAY"), ("GrayPercent", "50")];
    let half = batch(process, seeded, &caller, 1, &gray, share).await?;
    rows(report, "GRAY 50 %", share, &half, &calm);
    Ok(())
}

/// Measures a batch by list file over every device of the product.
pub async fn measure_list(process: &Process, seeded: &Seeded, report: &mut Report) -> anyhow::Result<()> {
    let devices = seeded.crowd.devices;
    report.part(&format!(
        "A static batch by list file over {} devices, none connected",
        number(devices as f64)
    ));
    let caller = Arc::new(Caller::new(process.api.to_string())?);
    let database = seeded.dir.path().join("updraft.db");
    let (url, bytes, uploaded) = upload(process, &caller, devices).await?;
    report.row("its upload", &millis(uploaded), &format!("{} bytes", number(bytes as f64)));
    let calm = listed(process, seeded, &caller, tokio::time::sleep(Duration::from_secs(1))).await?.1;
    let before = bytes_used(&database)?;
    let target = [("TargetSelection", "SPECIFIC"), ("DnListFileUrl", url.as_str())];
    let gray = [("TargetSelection", "GRAY"), ("GrayPercent", "50")];
    plan(process, seeded, &caller, "ALL", &[("TargetSelection", "ALL")], report).await?;
    plan(process, seeded, &caller, "GRAY 50 %", &gray, report).await?;
    plan(process, seeded, &caller, "list file", &target, report).await?;
    let took = batch(process, seeded, &caller, 0, &target, devices).await?;
    let bytes = (bytes_used(&database)? - before) as f64 / devices as f64;
    rows(report, "list file", devices, &took, &calm);
    report.row("  bytes on disk for each device", &number(bytes), "as above, when all tasks are there");
    plan(process, seeded, &caller, "ALL, every device busy", &[("TargetSelection", "ALL")], report).await?;
    let peak = process.peak_bytes()? as f64 / f64::from(1 << 20);
    report.row("  most memory of the server", &format!("{peak:.0} MiB"), "VmHWM, since its start");
    Ok(())
}

/// Measures the plan of a batch over all devices.
async fn plan(
    process: &Process,
    seeded: &Seeded,
    caller: &Arc<Caller>,
    what: &str,
    target: &[(&str, &str)],
    report: &mut Report,
) -> anyhow::Result<()> {
    let crowd = &seeded.crowd;
    let package = crowd.firmware_ids.first().context("no package")?;
    let mut request = vec![("FirmwareId", package.as_str()), ("ProductKey", crowd.product_key.as_str())];
    request.extend_from_slice(target);
    let request = caller.request("PlanOTAJob", "JSON", &request);
    let work = async {
        let mut connection = Connection::open(process.api).await?;
        let start = Instant::now();
        connection.call(&request, "\"Success\":true").await?;
        let looked = connection.body()?["Data"]["Devices"]["Looked"].as_u64().context("no Looked")?;
        anyhow::Ok((start.elapsed(), looked))
    };
    let (work, calls) = listed(process, seeded, caller, work).await?;
    let (took, looked) = work?;
    let looked = format!("{} devices looked at", number(looked as f64));
    report.row(&format!("plan, {what}: until PlanOTAJob is answered"), &millis(took), &looked);
    let meanwhile = format!("{} calls", calls.len());
    report.row("  ListOTAJobByFirmware meanwhile, p99", &millis(p99(&calls)), &meanwhile);
    Ok(())
}

/// Uploads a list of the whole product; answers its FileUrl, its bytes, and how long the upload took.
async fn upload(
    process: &Process,
    caller: &Caller,
    devices: usize,
) -> anyhow::Result<(String, usize, Duration)> {
    let mut connection = Connection::open(process.api).await?;
    connection.call(&caller.request("GenerateDeviceNameListURL", "JSON", &[]), "\"Success\":true").await?;
    let ticket = connection.body()?;
    let text = |name: &str| ticket["Data"][name].as_str().context("the ticket is incomplete");
    let mut form = String::new();
    for (field, of) in
        [("key", "Key"), ("policy", "Policy"), ("AccessKeyId", "AccessKeyId"), ("signature", "Signature")]
    {
        let value = text(of)?;
        write!(form, "--edge\r\nContent-Disposition: form-data; name=\"{field}\"\r\n\r\n{value}\r\n")?;
    }
    form += "--edge\r\nContent-Disposition: form-data; name=\"success_action_status\"\r\n\r\n200\r\n";
    form += "--edge\r\nContent-Disposition: form-data; name=\"file\"; filename=\"list.csv\"\r\n\r\n";
    let before = form.len();
    // Not in the order of the index: a list that is exported by another system is in any order.
    for number in 0..devices {
        writeln!(form, "crowd-{:06}", number * 7_919 % devices)?;
    }
    let bytes = form.len() - before;
    form += "\r\n--edge--\r\n";
    let head = format!(
        "POST / HTTP/1.1\r\nHost: {}\r\nContent-Type: multipart/form-data; boundary=edge\r\nContent-Length: {}\r\n\r\n",
        process.api,
        form.len()
    );
    let start = Instant::now();
    connection.call((head + &form).as_bytes(), "200").await?;
    Ok((text("FileUrl")?.to_owned(), bytes, start.elapsed()))
}

fn rows(report: &mut Report, what: &str, tasks: usize, took: &Took, calm: &[Duration]) {
    let per_million = took.done.as_secs_f64() * MILLION / tasks as f64;
    report.row(&format!("{what}: until the call is answered"), &millis(took.accepted), "");
    report.row(
        &format!("{what}: until all {} tasks are there", number(tasks as f64)),
        &millis(took.done),
        &format!("{}/s; {per_million:.1} s for a million", number(tasks as f64 / took.done.as_secs_f64())),
    );
    report.row(
        &format!("{what}: ListOTAJobByFirmware meanwhile, p99"),
        &millis(p99(&took.calls)),
        &format!("{} calls; p99 {} of {} without", took.calls.len(), millis(p99(calm)), calm.len()),
    );
}

fn p99(calls: &[Duration]) -> Duration {
    let mut sorted = calls.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() * 99 / 100).copied().unwrap_or_default()
}

/// Makes a batch and waits until all its tasks are there.
async fn batch(
    process: &Process,
    seeded: &Seeded,
    caller: &Arc<Caller>,
    package: usize,
    target: &[(&str, &str)],
    tasks: usize,
) -> anyhow::Result<Took> {
    let crowd = &seeded.crowd;
    let package = crowd.firmware_ids.get(package).context("no such package")?;
    let mut request = vec![("FirmwareId", package.as_str()), ("ProductKey", crowd.product_key.as_str())];
    request.extend_from_slice(target);
    let request = caller.request("CreateOTAStaticUpgradeJob", "JSON", &request);
    let work = async {
        let mut connection = Connection::open(process.api).await?;
        let start = Instant::now();
        connection.call(&request, "\"Success\":true").await?;
        let accepted = start.elapsed();
        let body = connection.body()?;
        let job_id = body["Data"]["JobId"].as_str().context("no JobId")?.to_owned();
        wait_for_total(process, caller, &[("JobId", &job_id), ("PageSize", "1")], tasks).await?;
        anyhow::Ok((accepted, start.elapsed(), job_id))
    };
    let (work, calls) = listed(process, seeded, caller, work).await?;
    let (accepted, done, job_id) = work?;
    Ok(Took { accepted, done, calls, job_id })
}

/// Waits until ListOTATaskByJob says that there are so many.
async fn wait_for_total(
    process: &Process,
    caller: &Caller,
    list: &[(&str, &str)],
    total: usize,
) -> anyhow::Result<()> {
    let mut connection = Connection::open(process.api).await?;
    loop {
        connection.call(&caller.request("ListOTATaskByJob", "JSON", list), "\"Success\":true").await?;
        let found = connection.body()?["Total"].as_u64().context("no Total")?;
        if found == total as u64 {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Lists batches over several connections while `work` goes on; answers how long each call took.
async fn listed<T>(
    process: &Process,
    seeded: &Seeded,
    caller: &Arc<Caller>,
    work: impl Future<Output = T>,
) -> anyhow::Result<(T, Vec<Duration>)> {
    let stop = Arc::new(AtomicBool::new(false));
    let mut listers = JoinSet::new();
    let firmware_id = seeded.firmware_id.clone();
    for _ in 0..LISTERS {
        let (stop, caller, addr) = (Arc::clone(&stop), Arc::clone(caller), process.api);
        let firmware_id = firmware_id.clone();
        listers.spawn(async move {
            let mut connection = Connection::open(addr).await?;
            let mut took = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let list = [("FirmwareId", firmware_id.as_str()), ("CurrentPage", "1"), ("PageSize", "10")];
                let request = caller.request("ListOTAJobByFirmware", "JSON", &list);
                let sent = Instant::now();
                connection.call(&request, "\"Success\":true").await?;
                took.push(sent.elapsed());
                tokio::time::sleep(PAUSE).await;
            }
            std::io::Result::Ok(took)
        });
    }
    let done = work.await;
    stop.store(true, Ordering::Relaxed);
    let mut calls = Vec::new();
    while let Some(lister) = listers.join_next().await {
        calls.extend(lister??);
    }
    Ok((done, calls))
}

/// Bytes of the database's pages that hold something.
fn bytes_used(database: &Path) -> anyhow::Result<u64> {
    let conn = rusqlite::Connection::open(database)?;
    conn.busy_timeout(Duration::from_secs(5))?;
    let pragma = |name: &str| conn.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let pages = pragma("page_count")? - pragma("freelist_count")?;
    Ok((pages * pragma("page_size")?).unsigned_abs())
}
