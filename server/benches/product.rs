//! The benchmark of the whole product: the real server process under load from this machine.
//!
//! `cargo bench -p updraft-server --bench product -- --engine both --growth --write-docs` measures everything and writes
//! the figures into `docs/performance.md`; `-- --help` has the rest. Every figure stands beside a baseline that is
//! measured in the same run.

#[path = "product/api.rs"]
mod api;
#[path = "product/arguments.rs"]
mod arguments;
#[path = "product/batch.rs"]
mod batch;
#[path = "product/database.rs"]
mod database;
#[path = "product/devices.rs"]
mod devices;
#[path = "product/downloads.rs"]
mod downloads;
#[path = "product/figures.rs"]
mod figures;
#[path = "product/growth.rs"]
mod growth;
#[path = "product/inside.rs"]
mod inside;
#[path = "product/million.rs"]
mod million;
#[path = "product/mosquitto.rs"]
mod mosquitto;
#[path = "product/nginx.rs"]
mod nginx;
#[path = "product/plot.rs"]
mod plot;
#[path = "product/postgres.rs"]
mod postgres;
#[path = "product/process.rs"]
mod process;
#[path = "product/report.rs"]
mod report;
#[path = "product/seed.rs"]
mod seed;

use arguments::{Arguments, Part};
use database::Engine;
use postgres::{Bare, Postgres};
use process::Process;
use report::Report;
use seed::Seeded;
use std::sync::Arc;
use tokio::runtime::Runtime;

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
    /// Devices of the product that gets batches as a whole; 7,919 must not divide it.
    pub crowd: usize,
    /// Devices that are registered in bulk.
    pub registered: usize,
    /// The file that is downloaded, in bytes.
    pub image_bytes: usize,
    /// Seconds of each kind of download.
    pub download_seconds: u64,
    /// Sizes at which growth is measured, in devices and batches.
    pub sizes: &'static [usize],
    /// Signed calls of each kind at each of these sizes.
    pub grown: usize,
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
    crowd: 1_000_000,
    registered: 50_000,
    image_bytes: 64 << 20,
    download_seconds: 5,
    sizes: &[1_000, 10_000, 100_000, 1_000_000],
    grown: 10_000,
};
const QUICK: Scale = Scale {
    calls: 20_000,
    batches: 10_000,
    idle: 1_000,
    reporting: 200,
    report_seconds: 2,
    pushed: 500,
    crowd: 20_000,
    registered: 10_000,
    image_bytes: 16 << 20,
    download_seconds: 1,
    sizes: &[1_000, 10_000],
    grown: 1_000,
};

fn main() -> anyhow::Result<()> {
    // `cargo test --benches` builds this too, and runs it without `--bench`.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let arguments = Arguments::read()?;
    let scale = if arguments.quick { QUICK } else { FULL };
    // For the clients, and for mosquitto, which inherits it.
    rlimit::increase_nofile_limit(u64::MAX)?;
    let mut report = Report::begin(&std::env::args().skip(1).collect::<Vec<_>>());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if arguments.sqlite {
        engine(&Engine::Sqlite, None, &arguments, scale, &runtime, &mut report)?;
    }
    if arguments.postgres {
        match Postgres::start()? {
            Some(server) => {
                let bare = server.bare()?;
                let on = Engine::Postgres(Arc::new(server));
                engine(&on, Some(&bare), &arguments, scale, &runtime, &mut report)?;
            }
            None => {
                report.note("!!! SKIPPED: PostgreSQL is not installed. Debian: apt-get install postgresql");
            }
        }
    }
    let figures = report.end();
    if arguments.write_docs { figures.write() } else { Ok(()) }
}

/// Measures what was asked for on one engine. What no database has a part in is measured on SQLite only.
fn engine(
    engine: &Engine,
    bare: Option<&Bare>,
    arguments: &Arguments,
    scale: Scale,
    runtime: &Runtime,
    report: &mut Report,
) -> anyhow::Result<()> {
    let embedded = matches!(engine, Engine::Sqlite);
    let chosen = |part: Part| arguments.has(part) && (embedded || part.is_of_database());
    if [Part::Api, Part::Devices, Part::Memory, Part::Downloads, Part::Inside].into_iter().any(chosen) {
        // The crowd has a database of its own.
        let seeded = runtime.block_on(Seeded::make(engine, Scale { crowd: 1, ..scale }))?;
        small(engine, &seeded, bare, &chosen, scale, runtime, report)?;
    }
    if chosen(Part::Million) {
        runtime.block_on(million::measure(engine, scale, report))?;
    }
    if arguments.growth {
        runtime.block_on(growth::measure(engine, scale, report))?;
    }
    Ok(())
}

/// Measures what wants no crowd.
fn small(
    engine: &Engine,
    seeded: &Seeded,
    bare: Option<&Bare>,
    chosen: &dyn Fn(Part) -> bool,
    scale: Scale,
    runtime: &Runtime,
    report: &mut Report,
) -> anyhow::Result<()> {
    if chosen(Part::Memory) {
        report.place(engine.name(), "memory");
        runtime.block_on(devices::memory(seeded, report))?;
    }
    if chosen(Part::Api) || chosen(Part::Devices) {
        let process = Process::start(seeded)?;
        if chosen(Part::Api) {
            report.place(engine.name(), "api");
            api::measure(&process, seeded, bare, scale, report)?;
        }
        if chosen(Part::Devices) {
            report.place(engine.name(), "devices");
            runtime.block_on(devices::measure(&process, seeded, bare, scale, report))?;
        }
    }
    if chosen(Part::Downloads) {
        report.place(engine.name(), "downloads");
        downloads::measure(seeded, scale, report)?;
    }
    if chosen(Part::Inside) {
        report.place(engine.name(), "inside");
        runtime.block_on(inside::measure(seeded, scale, report))?;
    }
    Ok(())
}
