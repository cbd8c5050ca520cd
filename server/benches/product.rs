//! The benchmark of the whole product: the real server process under load from this machine.
//!
//! Run it with `cargo bench -p updraft-server --bench product`; add `-- --quick` for a short run and
//! `-- --only api` (or `memory`, `devices`, `downloads`, `batch`, `list`, `inside`) for a part. Every figure stands beside a baseline that is
//! measured in the same run. `docs/performance.md` explains the figures and keeps the last full run.

#[path = "product/api.rs"]
mod api;
#[path = "product/batch.rs"]
mod batch;
#[path = "product/devices.rs"]
mod devices;
#[path = "product/downloads.rs"]
mod downloads;
#[path = "product/inside.rs"]
mod inside;
#[path = "product/mosquitto.rs"]
mod mosquitto;
#[path = "product/nginx.rs"]
mod nginx;
#[path = "product/process.rs"]
mod process;
#[path = "product/report.rs"]
mod report;
#[path = "product/seed.rs"]
mod seed;

use process::Process;
use report::Report;
use seed::Seeded;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    /// Signed calls of each kind.
    pub calls: usize,
    /// Batches of the package that is listed.
    pub batches: usize,
    /// Sessions that do nothing.
    pub idle: usize,
    /// Devices that report progress.
    pub reporting: usize,
    /// Seconds of progress reports.
    pub report_seconds: u64,
    /// Devices that are pushed.
    pub pushed: usize,
    /// Devices of the product that gets batches as a whole.
    pub crowd: usize,
    /// The same, for a batch by list file; 7,919 must not divide it.
    pub listed: usize,
    /// The file that is downloaded, in bytes.
    pub image_bytes: usize,
    /// Seconds of each kind of download.
    pub download_seconds: u64,
}

/// The server's allocator: the load generator should not cost more than it must, and `inside` measures its code.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const FULL: Scale = Scale {
    calls: 200_000,
    batches: 100_000,
    idle: 10_000,
    reporting: 1_000,
    report_seconds: 10,
    pushed: 2_000,
    crowd: 100_000,
    listed: 1_000_000,
    image_bytes: 64 << 20,
    download_seconds: 5,
};
const QUICK: Scale = Scale {
    calls: 20_000,
    batches: 10_000,
    idle: 1_000,
    reporting: 200,
    report_seconds: 2,
    pushed: 500,
    crowd: 10_000,
    listed: 50_000,
    image_bytes: 16 << 20,
    download_seconds: 1,
};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --benches` builds this too, and runs it without `--bench`.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let scale = if arguments.iter().any(|argument| argument == "--quick") { QUICK } else { FULL };
    let only = arguments.iter().position(|argument| argument == "--only");
    let only = only.and_then(|at| arguments.get(at + 1)).cloned();
    let chosen = |part: &str| only.as_deref().is_none_or(|only| only == part);

    // For the clients, and for mosquitto, which inherits it.
    rlimit::increase_nofile_limit(u64::MAX)?;
    let mut report = Report::begin(&arguments);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if chosen("list") {
        // A folder of its own: its size should not weigh on the other figures.
        let alone =
            Scale { batches: 10_000, idle: 1, reporting: 1, crowd: scale.listed, image_bytes: 1, ..scale };
        let seeded = runtime.block_on(Seeded::make(alone))?;
        let process = Process::start(&seeded)?;
        runtime.block_on(batch::measure_list(&process, &seeded, &mut report))?;
    }
    if only.as_deref() == Some("list") {
        report.end();
        return Ok(());
    }
    let seeded = runtime.block_on(Seeded::make(scale))?;
    report.note(&format!(
        "seeded {} batches of one package and {} devices",
        scale.batches,
        seeded.idle.len() + seeded.reporting.len() + seeded.crowd.devices
    ));
    if chosen("memory") {
        runtime.block_on(devices::memory(&seeded, &mut report))?;
    }
    if chosen("api") || chosen("devices") {
        let process = Process::start(&seeded)?;
        if chosen("api") {
            api::measure(&process, &seeded, scale, &mut report)?;
        }
        if chosen("devices") {
            runtime.block_on(devices::measure(&process, &seeded, scale, &mut report))?;
        }
    }
    if chosen("downloads") {
        downloads::measure(&seeded, scale, &mut report)?;
    }
    if chosen("batch") {
        let process = Process::start(&seeded)?;
        runtime.block_on(batch::measure(&process, &seeded, &mut report))?;
    }
    if chosen("inside") {
        runtime.block_on(inside::measure(&seeded, scale, &mut report))?;
    }
    report.end();
    Ok(())
}
