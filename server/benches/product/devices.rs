//! Devices: memory of idle sessions, logins, progress reports, pushes.

use crate::Scale;
use crate::api::{Caller, Connection};
use crate::process::Process;
use crate::report::{Report, millis, number};
use crate::seed::{Seed, Seeded};
use anyhow::ensure;
use std::io::Write as _;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use updraft_fleet::Identity;
use updraft_fleet::message::{Topic, progress};
use updraft_server::fleet_io::load;

/// Logins at once.
const LOGINS: usize = 64;

fn identities(devices: &[Seed]) -> Vec<Identity> {
    devices.iter().map(|device| device.identity.clone()).collect()
}

/// Measures what a session that does nothing costs.
///
/// The first sessions fill caches that do not grow with the others, so each further session is told apart.
pub async fn memory(process: &Process, seeded: &Seeded, report: &mut Report) -> anyhow::Result<()> {
    report.part("Memory: a fresh server");
    let devices = identities(&seeded.idle);
    let (first, others) = devices.split_at(devices.len() / 10);
    let before = process.anonymous_bytes()?;
    let first = load::idle_sessions(process.mqtt, first).await?;
    let between = process.anonymous_bytes()?;
    let others = load::idle_sessions(process.mqtt, others).await?;
    let after = process.anonymous_bytes()?;
    let kib = |from: u64, to: u64, sessions: usize| {
        format!("{:.2} KiB", to.saturating_sub(from) as f64 / sessions as f64 / 1_024.0)
    };
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / 1_048_576.0);
    report.row(
        &format!("each idle MQTT session beyond the first {}, plain", number(first.len() as f64)),
        &kib(between, after, others.len()),
        &format!("RssAnon: {} idle, {} with the first", mib(before), mib(between)),
    );
    let all = first.len() + others.len();
    report.row(
        &format!("the same over all {}, with what the database caches", number(all as f64)),
        &kib(before, after, all),
        &format!("RssAnon with all: {}", mib(after)),
    );
    Ok(())
}

/// Measures logins, progress reports and pushes.
pub async fn measure(
    process: &Process,
    seeded: &Seeded,
    scale: Scale,
    report: &mut Report,
) -> anyhow::Result<()> {
    report.part("Devices: plain MQTT, every commit synchronous (FULL)");
    logins(process, seeded, report).await?;
    reports(process, seeded, scale, report).await?;
    pushes(process, seeded, scale, report).await
}

async fn logins(process: &Process, seeded: &Seeded, report: &mut Report) -> anyhow::Result<()> {
    let devices = identities(&seeded.idle);
    let bare = bare_connects(process, devices.len()).await?;
    let found = load::login_load(process.mqtt, &devices, "1.0.0", LOGINS).await;
    ensure!(found.errors == 0, "{} logins failed", found.errors);
    report.row(
        &format!("connect + HMAC + version report, {LOGINS} at once, per second"),
        &number(found.per_second()),
        &format!("connect + GET /healthz, as many at once: {}/s", number(bare)),
    );
    report.row("  p99 from SYN to PUBACK", &millis(found.p99), &format!("p50 {}", millis(found.p50)));
    Ok(())
}

/// Fresh connections with one plain request each, per second.
async fn bare_connects(process: &Process, count: usize) -> anyhow::Result<f64> {
    let start = Instant::now();
    let mut clients = JoinSet::new();
    let addr = process.api;
    for _ in 0..LOGINS {
        clients.spawn(async move {
            for _ in 0..count / LOGINS {
                let mut connection = Connection::open(addr).await?;
                connection.call(b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n", "alive").await?;
            }
            std::io::Result::Ok(())
        });
    }
    while let Some(client) = clients.join_next().await {
        client??;
    }
    Ok(count as f64 / start.elapsed().as_secs_f64())
}

async fn reports(
    process: &Process,
    seeded: &Seeded,
    scale: Scale,
    report: &mut Report,
) -> anyhow::Result<()> {
    let (syncs, sync) = bare_syncs(seeded, Duration::from_secs(scale.report_seconds.min(3)))?;
    let devices = identities(&seeded.reporting);
    let cpu = process.cpu_seconds()?;
    let found = load::publish_load(
        process.mqtt,
        &devices,
        Duration::from_secs(scale.report_seconds),
        |device, sequence| {
            let step = i64::try_from(sequence % 101).unwrap_or_default();
            (Topic::Progress.of(device), progress(sequence, "default", step, ""))
        },
    )
    .await?;
    let cpu = (process.cpu_seconds()? - cpu) / found.count.max(1) as f64;
    ensure!(found.errors == 0, "{} devices failed", found.errors);
    report.row(
        &format!("durable progress reports, QoS 1, {} devices, per second", number(devices.len() as f64)),
        &number(found.per_second()),
        &format!("append 100 B + fdatasync, one after another: {}/s", number(syncs)),
    );
    report.row("  PUBACK p99", &millis(found.p99), &format!("one fdatasync: {}", millis(sync)));
    report.row("  PUBACK p50", &millis(found.p50), "each device waits for its PUBACK before its next report");
    report.row("  processor time of the server per report", &format!("{:.1} µs", cpu * 1e6), "");
    Ok(())
}

/// Appends to a file, each made durable before the next: per second, and the mean.
fn bare_syncs(seeded: &Seeded, lasting: Duration) -> anyhow::Result<(f64, Duration)> {
    let mut file = std::fs::File::create(seeded.dir.path().join("baseline"))?;
    let (start, mut count) = (Instant::now(), 0_u32);
    while start.elapsed() < lasting {
        file.write_all(&[7; 100])?;
        file.sync_data()?;
        count += 1;
    }
    let elapsed = start.elapsed();
    Ok((f64::from(count) / elapsed.as_secs_f64(), elapsed / count.max(1)))
}

async fn pushes(process: &Process, seeded: &Seeded, scale: Scale, report: &mut Report) -> anyhow::Result<()> {
    let devices = &seeded.idle[..scale.pushed.min(seeded.idle.len())];
    let listeners = load::listeners(process.mqtt, &identities(devices), "1.0.0").await?;
    let caller = Caller::new(process.api.to_string())?;
    let mut connection = Connection::open(process.api).await?;
    seeded.push_now(devices).await?;
    ensure!(listeners.received() == 0, "pushes came before they were wanted");
    let wake = caller.wake(seeded)?;
    let start = Instant::now();
    connection.call(&wake, "\"Success\":true").await?;
    listeners.wait_for(devices.len() as u64).await;
    let rate = devices.len() as f64 / start.elapsed().as_secs_f64();
    report.row(
        &format!("pushes to {} connected devices, per second", number(devices.len() as f64)),
        &number(rate),
        "from the engine's wake-up to the last device's receipt",
    );
    Ok(())
}
