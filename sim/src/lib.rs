//! The test world around the server: faulty network, moving clock, crashes. One seed replays everything.
//!
//! The real server runs in here (HTTP door, engine, ingest, message codecs, mailboxes, SQLite in memory)
//! without sockets, threads of its own, or a real clock; around it are `fleet`'s virtual devices. One queue
//! of events in virtual time, one step at a time, and after every piece of the server's work `check`
//! looks whether everything still holds.
//!
//! Reading order: `world` (the queue), `server` (the process that may die), `net`, `devices` and
//! `endpoint` (both ends of a connection), `gateways` (connections that carry others), `operator`, `rules`, `packages`,
//! `groups`, `lives` and `ends` (API calls), `nature` (what kind of world it is), `faults` and `storage`, `check`, `shot`,
//! `takeover`, `turns`, `owns` and `history` (after every step), `quiet` and `explained` (at the end); `story` for written scenarios.
//!
//! What must hold has a name in `invariant`; `stats` counts the looks at it, and all that happened; `machine` knows
//! which cells of core's table were reached. `mask` numbers what happens, so that it can be left out, and `shrink`
//! leaves out all that a broken world does not need. `campaign` lives many worlds.
//!
//! Replay a failure: `cargo xtask sim <seed>`, which makes it small, too.

mod api;
mod asks;
mod campaign;
mod chance;
mod check;
mod clock;
mod devices;
mod endpoint;
mod ends;
mod explained;
mod faults;
mod gateways;
mod groups;
mod history;
mod invariant;
mod link;
mod lives;
mod machine;
mod mask;
mod nature;
mod net;
mod operator;
mod owns;
mod packages;
mod quiet;
mod rules;
mod server;
mod shot;
mod shrink;
mod stats;
mod storage;
pub mod story;
mod takeover;
mod transcript;
mod turns;
mod world;

pub use crate::campaign::Campaign;
pub use crate::mask::{Mask, NoMask};
pub use crate::shrink::{Effort, Shrunk, shrink};
pub use crate::stats::{Of, Stats};

use crate::chance::Chance;
use crate::faults::{FaultPlan, Rates};
use crate::mask::Happening;
use crate::nature::Nature;
use crate::world::{Event, START, World};
use std::fmt;
use std::panic::AssertUnwindSafe;
use updraft_core::task::TaskStatus;
use updraft_core::time::{MINUTE_MS, SECOND_MS};

/// Steps of trouble, unless the caller says otherwise.
pub const STEPS_DEFAULT: u64 = 5_000;

/// Something that must never be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation(pub String);

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Violation {}

impl From<updraft_store::StoreError> for Violation {
    fn from(error: updraft_store::StoreError) -> Self {
        Self(format!("the database: {error}"))
    }
}

/// `Ok` if it holds.
fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation(otherwise())) }
}

/// What a world was that held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// Events, with the quiet end.
    pub steps: u64,
    /// Minutes of its time.
    pub minutes: i64,
    /// Devices.
    pub devices: usize,
    /// Batches.
    pub batches: usize,
    /// Tasks that ended well, failed, were cancelled.
    pub ended: [usize; 3],
    /// Lines of its transcript, and their hash.
    pub lines: u64,
    /// SHA-256 of the transcript.
    pub hash: String,
    /// What happened in it, counted.
    pub stats: Stats,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [succeeded, failed, canceled] = self.ended;
        write!(
            f,
            "seed {}: {} steps, {} min, {} devices, {} batches, tasks {succeeded} ok {failed} failed {canceled} \
             canceled, {} lines, {}",
            self.seed,
            self.steps,
            self.minutes,
            self.devices,
            self.batches,
            self.lines,
            &self.hash[..12]
        )
    }
}

/// A world in which something was that must never be.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Its seed.
    pub seed: u64,
    /// Steps of trouble that it was to have.
    pub steps: u64,
    /// The step that broke it.
    pub at_step: u64,
    /// What was wrong.
    pub violation: Violation,
    /// What was left out of it.
    pub without: Mask,
    /// What could be left out, too.
    pub(crate) had: Vec<Happening>,
    /// Lines of its transcript.
    pub lines: u64,
    /// The last of them, or all.
    pub tail: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps =
            if self.steps == STEPS_DEFAULT { String::new() } else { format!(" --steps {}", self.steps) };
        let without =
            if self.without.is_empty() { String::new() } else { format!(" --without {}", self.without) };
        write!(
            f,
            "{}\nseed {}, step {}: {}\nreplay: cargo xtask sim {}{steps}{without}",
            self.tail, self.seed, self.at_step, self.violation, self.seed
        )
    }
}

/// Lives one world through `steps` events of trouble and a quiet end.
pub fn run(seed: u64, steps: u64) -> Result<Report, Box<Failure>> {
    run_kept(seed, steps, false).map(|(report, _)| report)
}

/// Like [`run`]; with `keep_all` the transcript, also a failure's, is whole instead of its last lines.
pub fn run_kept(seed: u64, steps: u64, keep_all: bool) -> Result<(Report, String), Box<Failure>> {
    run_without(seed, steps, &Mask::default(), keep_all)
}

/// Like [`run_kept`], without some of what would happen.
pub fn run_without(
    seed: u64,
    steps: u64,
    without: &Mask,
    keep_all: bool,
) -> Result<(Report, String), Box<Failure>> {
    // Small chunks, so that the server also dies in the middle of making or cancelling a batch's tasks.
    let chunk_rows = Chance::new(seed, "chunk").pick(&[1, 2, 3, 7, 2_000]);
    let made = World::new(seed, chunk_rows, without.clone(), keep_all);
    let without = without.clone();
    let failed = |world: Option<&World>, violation| {
        Box::new(Failure {
            seed,
            steps,
            at_step: world.map_or(0, |world| world.steps),
            violation,
            without: without.clone(),
            had: world.map(|world| world.happenings.had()).unwrap_or_default(),
            lines: world.map_or(0, |world| world.transcript.lines()),
            tail: world.map(|world| world.transcript.text()).unwrap_or_default(),
        })
    };
    let mut world = made.map_err(|violation| failed(None, violation))?;
    let machine = world.machine.clone();
    let lived = tracing::dispatcher::with_default(&machine.dispatch(), || {
        std::panic::catch_unwind(AssertUnwindSafe(|| live(&mut world, seed, steps)))
            .unwrap_or_else(|_| Err(Violation("a panic, see above".to_owned())))
    });
    lived.map_err(|violation| failed(Some(&world), violation))?;
    let ended = [TaskStatus::Succeeded, TaskStatus::Failed, TaskStatus::Canceled]
        .map(|status| world.checker.tasks().filter(|task| task.status == status).count());
    let mut stats = std::mem::take(&mut world.stats);
    (stats.worlds, stats.steps) = (1, world.steps);
    stats.ms = world.now.since_ms(START).unsigned_abs();
    for task in world.checker.tasks() {
        stats.count(Of::Task, task.status.name());
    }
    machine.tell(&mut stats);
    let report = Report {
        seed,
        steps: world.steps,
        minutes: world.now.since_ms(START) / MINUTE_MS,
        devices: world.nodes.len(),
        batches: world.checker.jobs().count(),
        ended,
        lines: world.transcript.lines(),
        hash: world.transcript.hash(),
        stats,
    };
    Ok((report, world.transcript.text()))
}

fn live(world: &mut World, seed: u64, steps: u64) -> Result<(), Violation> {
    world.nature = Nature::drawn(&mut Chance::new(seed, "nature"));
    world.draw_ends();
    world.populate()?;
    let mut chance = Chance::new(seed, "plan");
    world.rates = Rates::drawn(&mut chance);
    world.spare_rates();
    world.plan = Some(FaultPlan::drawn(&mut chance));
    world.at(20 * SECOND_MS, Event::Act);
    world.begin_lives();
    world.break_next();
    while world.steps < steps && world.now.since_ms(START) < world.nature.trouble_ms() {
        world.step()?;
    }
    world.settle()
}
