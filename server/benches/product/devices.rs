//! Devices: memory of idle sessions, logins, progress reports, pushes.

use crate::Scale;
use crate::api::{Caller, Connection};
use crate::mosquitto::{By, Mosquitto};
use crate::postgres::Bare;
use crate::process::Process;
use crate::report::{Reach, Report, millis, number};
use crate::seed::{Seed, Seeded};
use anyhow::{Context as _, ensure};
use std::io::Write as _;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use updraft_fleet::Identity;
use updraft_fleet::message::{Topic, progress};
use updraft_server::fleet_io::{Target, load};

/// Logins at once.
const LOGINS: usize = 64;
/// As long as a push with one file.
const PUSH_BYTES: usize = 400;
const NOT_INSTALLED: &str = "not installed (Debian: apt-get install mosquitto)";

/// Who these devices are.
pub fn identities(devices: &[Seed]) -> Vec<Identity> {
    devices.iter().map(|device| device.identity.clone()).collect()
}

/// Measures what a session that does nothing costs, in a fresh server and in a fresh mosquitto.
///
/// The first sessions fill caches that do not grow with the others, so each further session is told apart.
pub async fn memory(seeded: &Seeded, report: &mut Report) -> anyhow::Result<()> {
    report.part("Memory: a fresh server for each row");
    for by in [By::Plain, By::Tls] {
        let process = Process::start(seeded)?;
        let target = by.target(process.mqtt, seeded)?;
        let ours = Sessions::measure(&target, seeded, || process.anonymous_bytes()).await?;
        drop(process);
        let theirs = match Mosquitto::start(seeded)? {
            Some(mosquitto) => {
                let target = mosquitto.target(by, seeded)?;
                let found = Sessions::measure(&target, seeded, || mosquitto.anonymous_bytes()).await?;
                format!("{:.2} KiB", found.each())
            }
            None => NOT_INSTALLED.to_owned(),
        };
        let each = ours.each();
        report.reach(
            &format!("each idle MQTT session beyond the first {}, {}", number(ours.first as f64), by.name()),
            &format!("{each:.2} KiB"),
            &Reach::at_most(each, if by == By::Plain { 2.5 } else { 13.0 }, " KiB"),
            &format!("mosquitto: {theirs}"),
        );
        report.row(
            &format!("the same over all {}, {}, with database caches", number(ours.all as f64), by.name()),
            &format!("{:.2} KiB", kib(ours.before, ours.after, ours.all)),
            &format!("RssAnon: {} idle, {} with all", mib(ours.before), mib(ours.after)),
        );
    }
    Ok(())
}

/// Memory of a process before sessions, with the first and with all, in bytes.
struct Sessions {
    first: usize,
    all: usize,
    before: u64,
    between: u64,
    after: u64,
}

impl Sessions {
    async fn measure(
        target: &Target,
        seeded: &Seeded,
        memory: impl Fn() -> anyhow::Result<u64>,
    ) -> anyhow::Result<Self> {
        let devices = identities(&seeded.idle);
        let (first, others) = devices.split_at(devices.len() / 10);
        let before = memory()?;
        let _first = load::idle_sessions(target, first).await?;
        let between = memory()?;
        let _others = load::idle_sessions(target, others).await?;
        Ok(Self { first: first.len(), all: devices.len(), before, between, after: memory()? })
    }

    /// KiB of each session beyond the first.
    fn each(&self) -> f64 {
        kib(self.between, self.after, self.all - self.first)
    }
}

fn kib(from: u64, to: u64, sessions: usize) -> f64 {
    to.saturating_sub(from) as f64 / sessions as f64 / 1_024.0
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / 1_048_576.0)
}

/// Measures logins, progress reports and pushes.
pub async fn measure(
    process: &Process,
    seeded: &Seeded,
    bare: Option<&Bare>,
    scale: Scale,
    report: &mut Report,
) -> anyhow::Result<()> {
    report
        .part("Devices: every commit synchronous (FULL); mosquitto keeps nothing and asks nobody who he is");
    let mosquitto = Mosquitto::start(seeded)?;
    for by in [By::Plain, By::Tls] {
        logins(process, mosquitto.as_ref(), by, seeded, report).await?;
    }
    let (theirs, lasting) = (mosquitto.as_ref(), Duration::from_secs(scale.report_seconds));
    reports(process, theirs, seeded, bare, lasting, report).await?;
    pushes(process, mosquitto.as_ref(), seeded, scale, report).await
}

async fn logins(
    process: &Process,
    mosquitto: Option<&Mosquitto>,
    by: By,
    seeded: &Seeded,
    report: &mut Report,
) -> anyhow::Result<()> {
    let devices = identities(&seeded.idle);
    let bare = bare_connects(process, devices.len()).await?;
    let found = load::login_load(&by.target(process.mqtt, seeded)?, &devices, "1.0.0", LOGINS).await;
    ensure!(found.errors == 0, "{} logins failed", found.errors);
    let theirs = match mosquitto {
        Some(mosquitto) => {
            let found = load::login_load(&mosquitto.target(by, seeded)?, &devices, "1.0.0", LOGINS).await;
            ensure!(found.errors == 0, "{} logins to mosquitto failed", found.errors);
            format!("{}/s, p99 {}", number(found.per_second()), millis(found.p99))
        }
        None => NOT_INSTALLED.to_owned(),
    };
    let what = format!("connect, {}, + HMAC + version report, {LOGINS} at once", by.name());
    let (rate, bare) = (found.per_second(), format!("connect + GET /healthz, plain: {}/s", number(bare)));
    let named = format!("{what}, per second");
    if by == By::Plain {
        report.reach(&named, &number(rate), &Reach::at_least(rate, 8_000.0, ""), &bare);
    } else {
        report.row(&named, &number(rate), &bare);
    }
    report.row(
        &format!("{what}: p99 from SYN to PUBACK"),
        &millis(found.p99),
        &format!("p50 {}; mosquitto: {theirs}", millis(found.p50)),
    );
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
    mosquitto: Option<&Mosquitto>,
    seeded: &Seeded,
    bare: Option<&Bare>,
    lasting: Duration,
    report: &mut Report,
) -> anyhow::Result<()> {
    let (syncs, sync) = bare_syncs(seeded, lasting.min(Duration::from_secs(3)))?;
    let devices = identities(&seeded.reporting);
    let used = || anyhow::Ok(process.cpu_seconds()? + seeded.database.cpu_seconds()?);
    let cpu = used()?;
    let found = load::publish_load(&process.mqtt.into(), &devices, lasting, progress_of).await?;
    let cpu = (used()? - cpu) / found.count.max(1) as f64;
    ensure!(found.errors == 0, "{} devices failed", found.errors);
    let commits = match bare {
        Some(bare) => {
            format!("pgbench, 4 clients, a row of 100 B in each commit: {}/s", number(bare.commits))
        }
        None => format!("append 100 B + fdatasync, one after another: {}/s", number(syncs)),
    };
    let what = format!("durable progress reports, QoS 1, {} devices", number(devices.len() as f64));
    let rate = found.per_second();
    let reach = Reach::at_least(rate, 40_000.0, "");
    report.reach(&format!("{what}, per second"), &number(rate), &reach, &commits);
    let p99 = found.p99.as_secs_f64() * 1e3;
    let reach = Reach::at_most(p99, 50.0, " ms");
    let baseline = format!("p50 {}; one fdatasync: {}", millis(found.p50), millis(sync));
    report.reach("durable progress reports: PUBACK p99", &millis(found.p99), &reach, &baseline);
    let theirs = match mosquitto {
        Some(mosquitto) => {
            let target = mosquitto.target(By::Plain, seeded)?;
            let found = load::publish_load(&target, &devices, lasting, progress_of).await?;
            ensure!(found.errors == 0, "{} devices failed at mosquitto", found.errors);
            format!(
                "mosquitto, which keeps none: {}/s, p99 {}",
                number(found.per_second()),
                millis(found.p99)
            )
        }
        None => format!("mosquitto: {NOT_INSTALLED}"),
    };
    report.row("durable progress reports: processor time of each", &format!("{:.1} µs", cpu * 1e6), &theirs);
    Ok(())
}

/// The message of a device that is so far along.
pub fn progress_of(device: &Identity, sequence: u64) -> (String, Vec<u8>) {
    let step = i64::try_from(sequence % 101).unwrap_or_default();
    (Topic::Progress.of(device), progress(sequence, "default", step, ""))
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

async fn pushes(
    process: &Process,
    mosquitto: Option<&Mosquitto>,
    seeded: &Seeded,
    scale: Scale,
    report: &mut Report,
) -> anyhow::Result<()> {
    let devices = &seeded.idle[..scale.pushed.min(seeded.idle.len())];
    let names = identities(devices);
    let listeners = load::listeners(&process.mqtt.into(), &names, "1.0.0", false).await?;
    let caller = Caller::new(process.api.to_string())?;
    let mut connection = Connection::open(process.api).await?;
    seeded.push_now(devices).await?;
    ensure!(listeners.received() == 0, "pushes came before they were wanted");
    let wake = caller.wake(seeded)?;
    let start = Instant::now();
    connection.call(&wake, "\"Success\":true").await?;
    listeners.wait_for(devices.len() as u64).await;
    let rate = |start: Instant| devices.len() as f64 / start.elapsed().as_secs_f64();
    let ours = rate(start);
    let theirs = match mosquitto {
        Some(mosquitto) => {
            let target = mosquitto.target(By::Plain, seeded)?;
            let listeners = load::listeners(&target, &names, "1.0.0", true).await?;
            let publisher = &seeded.reporting.first().context("no publisher")?.identity;
            let start = Instant::now();
            load::push_by_broker(&target, publisher, &names, &[b'x'; PUSH_BYTES]).await?;
            listeners.wait_for(devices.len() as u64).await;
            format!("{}/s", number(rate(start)))
        }
        None => NOT_INSTALLED.to_owned(),
    };
    report.reach(
        &format!("pushes to {} connected devices, per second", number(devices.len() as f64)),
        &number(ours),
        &Reach::at_least(ours, 10_000.0, ""),
        &format!("wake-up to last receipt; mosquitto, {PUSH_BYTES} B each: {theirs}"),
    );
    Ok(())
}
