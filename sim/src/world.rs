//! The world: one queue of events in virtual time, one step at a time.

use crate::chance::Chance;
use crate::check::Checker;
use crate::devices::{Image, Node};
use crate::endpoint::Delivery;
use crate::faults::{Fault, FaultPlan, Rates};
use crate::invariant::Invariant;
use crate::machine::Machine;
use crate::mask::{Happenings, Mask};
use crate::nature::Nature;
use crate::net::{Conn, ConnNo, Down, Up};
use crate::operator::Product;
use crate::packages::Package;
use crate::server::{Death, Running, Server, Worked};
use crate::stats::{Of, Stats};
use crate::transcript::Transcript;
use crate::{Violation, ensure};
use futures_util::FutureExt as _;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use updraft_core::id::{DeviceNo, JobNo};
use updraft_core::time::Timestamp;
use updraft_server::device::link::Downlink;
use updraft_server::engine::{self, Turn};
use updraft_store::Trouble;

/// When every world begins: 2026-01-01 00:00 UTC.
pub(crate) const START: Timestamp = Timestamp(1_767_225_600_000);
/// The engine looks at the rows at least this often, as `engine::run` does.
const LOOK_MS: i64 = 30_000;
/// More rounds of the engine than this within one second are a livelock.
const ROUNDS_PER_SECOND_MAX: u32 = 1_000;

/// Something that is due.
#[derive(Debug)]
pub(crate) enum Event {
    /// A device's `WakeAt`, by number.
    Tick(usize, u64),
    /// A piece of a device's download, by number.
    Piece(usize, u64, u64),
    /// A message arrives at the server.
    Up(ConnNo, Up),
    /// A message arrives at a device.
    Down(ConnNo, Down),
    /// A device notices that its connection is gone.
    ClientGone(ConnNo),
    /// The server notices that a connection is gone.
    ServerGone(ConnNo),
    /// The engine takes what devices did.
    Ingest,
    /// Connections write what waits for them.
    Write,
    /// The engine's next round, by number.
    Round(u64),
    /// The operator does something.
    Act,
    /// A device is disabled, enabled or deleted.
    Life,
    /// The keeper of packages does something.
    Keep,
    /// The operator changes its mind about a batch.
    Regret(JobNo),
    /// Something breaks.
    Break(Fault),
    /// The storage is whole again.
    Mend,
    /// The server is started again.
    ServerUp,
}

/// Everything.
pub(crate) struct World {
    pub(crate) now: Timestamp,
    queue: BTreeMap<(Timestamp, u64), Event>,
    queued: u64,
    pub(crate) steps: u64,
    pub(crate) server: Server,
    /// How far the server's clock is ahead, and how far it was set back in all.
    pub(crate) clock_ahead_ms: i64,
    pub(crate) set_back_ms: i64,
    pub(crate) death: Option<Death>,
    pub(crate) inbox: VecDeque<Delivery>,
    pub(crate) ingest_queued: bool,
    pub(crate) write_queued: bool,
    round: u64,
    rounds_in_second: (Timestamp, u32),
    pub(crate) conns: BTreeMap<ConnNo, Conn>,
    pub(crate) conn_last: ConnNo,
    pub(crate) nodes: Vec<Node>,
    pub(crate) products: Vec<Product>,
    pub(crate) packages: Vec<Package>,
    /// GroupIds.
    pub(crate) groups: Vec<String>,
    pub(crate) images: BTreeMap<String, Image>,
    /// What devices ask for in the group of messages that was taken last.
    pub(crate) asking: BTreeSet<(DeviceNo, String)>,
    /// Devices that log in in the group of messages that is being taken.
    pub(crate) coming: BTreeSet<DeviceNo>,
    /// Versions that devices were told are stored.
    pub(crate) reported: BTreeMap<(DeviceNo, String), String>,
    pub(crate) checker: Checker,
    /// Devices that were online once.
    pub(crate) seen: BTreeSet<DeviceNo>,
    /// Devices that are disabled or deleted, and those that are deleted: what the database last said.
    pub(crate) barred: BTreeSet<DeviceNo>,
    pub(crate) deleted: BTreeSet<DeviceNo>,
    /// Names of deleted devices that may have been registered anew: the answer was lost.
    pub(crate) unsure: BTreeSet<String>,
    pub(crate) nature: Nature,
    pub(crate) rates: Rates,
    /// What breaks; `None`: nothing any more.
    pub(crate) plan: Option<FaultPlan>,
    pub(crate) net: Chance,
    pub(crate) downloads: Chance,
    pub(crate) operator: Chance,
    pub(crate) keeper: Chance,
    pub(crate) faults: Chance,
    pub(crate) lives: Chance,
    pub(crate) grouper: Chance,
    pub(crate) disk: Chance,
    pub(crate) hands: Chance,
    pub(crate) oddities: Chance,
    pub(crate) gating: Chance,
    pub(crate) happenings: Happenings,
    /// Whether products and modules are deleted, and how often an answer of the API is lost, in percent.
    pub(crate) ends: bool,
    pub(crate) lost_answers: usize,
    pub(crate) ending: Chance,
    pub(crate) machine: Machine,
    pub(crate) transcript: Transcript,
    pub(crate) stats: Stats,
    /// A violation found where none can be returned.
    pub(crate) broken: Option<Violation>,
}

impl World {
    /// A calm world with a running server, and nothing else in it.
    pub(crate) fn new(seed: u64, chunk_rows: u32, without: Mask, keep_all: bool) -> Result<Self, Violation> {
        let mut world = Self {
            now: START,
            queue: BTreeMap::new(),
            queued: 0,
            steps: 0,
            server: Server::new(seed, START, chunk_rows)?,
            clock_ahead_ms: 0,
            set_back_ms: 0,
            death: None,
            inbox: VecDeque::new(),
            ingest_queued: false,
            write_queued: false,
            round: 0,
            rounds_in_second: (START, 0),
            conns: BTreeMap::new(),
            conn_last: 0,
            nodes: Vec::new(),
            products: Vec::new(),
            packages: Vec::new(),
            groups: Vec::new(),
            images: BTreeMap::new(),
            asking: BTreeSet::new(),
            coming: BTreeSet::new(),
            reported: BTreeMap::new(),
            checker: Checker::default(),
            seen: BTreeSet::new(),
            barred: BTreeSet::new(),
            deleted: BTreeSet::new(),
            unsure: BTreeSet::new(),
            nature: Nature::plain(),
            rates: Rates::calm(),
            plan: None,
            net: Chance::new(seed, "net"),
            downloads: Chance::new(seed, "downloads"),
            operator: Chance::new(seed, "operator"),
            keeper: Chance::new(seed, "keeper"),
            faults: Chance::new(seed, "faults"),
            lives: Chance::new(seed, "lives"),
            grouper: Chance::new(seed, "groups"),
            disk: Chance::new(seed, "disk"),
            hands: Chance::new(seed, "hands"),
            oddities: Chance::new(seed, "oddities"),
            gating: Chance::new(seed, "gateways"),
            happenings: Happenings::new(seed, without),
            ends: false,
            lost_answers: 0,
            ending: Chance::new(seed, "ends"),
            machine: Machine::default(),
            transcript: Transcript::new(START, keep_all),
            stats: Stats::default(),
            broken: None,
        };
        world.round_in(0);
        Ok(world)
    }

    /// Queues an event.
    pub(crate) fn queue_at(&mut self, at: Timestamp, event: Event) {
        self.queued += 1;
        self.queue.insert((at.max(self.now), self.queued), event);
    }

    /// Queues an event for a while from now.
    pub(crate) fn at(&mut self, wait_ms: i64, event: Event) {
        self.queue_at(self.now.plus_ms(wait_ms), event);
    }

    /// Notes a line of the transcript.
    pub(crate) fn note(&mut self, line: String) {
        self.transcript.note(self.now, line);
    }

    /// The next event, and what follows from it.
    pub(crate) fn step(&mut self) -> Result<(), Violation> {
        let Some(((at, _), event)) = self.queue.pop_first() else {
            return Err(Violation("nothing is due any more: the engine sleeps for ever".to_owned()));
        };
        self.steps += 1;
        self.now = at;
        self.server.clock.set(at.plus_ms(self.clock_ahead_ms));
        self.begin_event(&event);
        match event {
            Event::Tick(node, tick) => self.tick(node, tick),
            Event::Piece(node, download, piece) => self.piece(node, download, piece),
            Event::Up(conn, message) => self.up(conn, message)?,
            Event::Down(conn, message) => self.down(conn, message),
            Event::ClientGone(conn) => self.client_gone(conn),
            Event::ServerGone(conn) => self.server_gone(conn),
            Event::Ingest => self.ingest()?,
            Event::Round(round) => self.engine_round(round)?,
            Event::Write => self.write_now(),
            Event::Act => self.act()?,
            Event::Life => self.change_a_life()?,
            Event::Keep => self.keep()?,
            Event::Regret(_) if self.is_left_out() => {}
            Event::Regret(job) => self.regret(job)?,
            Event::Break(fault) => {
                if !self.is_left_out() {
                    self.stats.count(Of::Fault, fault.name());
                }
                self.break_something(fault);
            }
            Event::Mend => self.mend_storage(),
            Event::ServerUp => self.server_up()?,
        }
        if self.steps.is_multiple_of(64) {
            self.sweep();
        }
        self.broken.take().map_or(Ok(()), Err)
    }

    /// Lets time pass.
    pub(crate) fn pass(&mut self, ms: i64) -> Result<(), Violation> {
        let until = self.now.plus_ms(ms);
        while self.queue.first_key_value().is_some_and(|((at, _), _)| *at <= until) {
            self.step()?;
        }
        self.now = until;
        self.server.clock.set(until.plus_ms(self.clock_ahead_ms));
        Ok(())
    }

    /// Runs a piece of the server's work, checks the world after it, and does what follows.
    pub(crate) fn operate<T, F: Future<Output = T>>(
        &mut self,
        work: impl FnOnce(&Running) -> F,
    ) -> Result<Worked<T>, Violation> {
        let death = self.death.take();
        let worked = self.work(death, work)?;
        self.check()?;
        if worked.died {
            self.crash(match death {
                Some(Death::AtClock(_)) => "between two commits",
                Some(Death::BeforeEffects) => "after a commit, before its effects",
                Some(Death::AfterCommit) | None => "after a commit",
            });
            return Ok(worked);
        }
        // Spared: nothing was to be sent. It waits on.
        self.death = death;
        self.end_kicked();
        // Whose login was refused just now is still to be sent away.
        if !worked.failed && self.inbox.is_empty() && self.checker.is_thorough() && self.has_taken_all() {
            self.presence_is_true()?;
        }
        let woken = self.server.running.as_ref().is_some_and(|running| {
            // The permit is used up, as by the waiting engine.
            running.app.wake.notified().now_or_never().is_some()
        });
        if woken {
            if self.net.percent(self.rates.lost_wakes) {
                self.stats.count(Of::Fault, "a wake-up of the engine that is lost");
            } else {
                self.round_in(1);
            }
        }
        self.pump();
        Ok(worked)
    }

    /// Runs a piece of the server's work, without a look at the world.
    pub(crate) fn work<T, F: Future<Output = T>>(
        &mut self,
        death: Option<Death>,
        work: impl FnOnce(&Running) -> F,
    ) -> Result<Worked<T>, Violation> {
        let trouble = self.server.storage.trouble;
        let worked = self.server.work(death, work)?;
        if worked.failed && !self.server.storage.lasting {
            self.note(format!(
                "the storage fails: {}",
                match trouble {
                    Some(Trouble::Commit { .. }) => "a commit is refused",
                    _ => "it is interrupted",
                }
            ));
        }
        Ok(worked)
    }

    fn check(&mut self) -> Result<(), Violation> {
        let decided =
            self.server.running.as_ref().map(|running| running.link.take_decided()).unwrap_or_default();
        if !self.checker.begin(&decided, self.server.rows_written()) {
            return Ok(());
        }
        let camera = self.checker.shot(&decided);
        let mut shot = self.server.read(move |tx| camera.take(tx))?;
        let wanted = self.checker.wanted(&shot);
        if !wanted.is_empty() {
            shot.tasks = self.server.read(move |tx| tx.tasks_load(&wanted))?;
        }
        self.barred = shot.barred.iter().map(|(device, _)| *device).collect();
        self.deleted =
            shot.barred.iter().filter(|(_, deleted)| *deleted).map(|(device, _)| *device).collect();
        let lines =
            self.checker.check(shot, &decided, self.server.clock.peek(), self.now, &mut self.stats)?;
        for line in lines {
            self.note(line);
        }
        self.history_is_kept()?;
        self.stats.looked(Invariant::Own, decided.len());
        self.packages_are_their_own(&decided)?;
        self.stats.looked(Invariant::Gone, decided.len() + self.deleted.len());
        self.the_gone_are_left_alone(&decided)
    }

    /// Nothing was decided to be sent to a disabled or deleted device, and who is deleted has nothing to do.
    fn the_gone_are_left_alone(&self, decided: &[(DeviceNo, Downlink)]) -> Result<(), Violation> {
        // What became of those behind a disabled gateway waits in its session, if that is kept.
        let of_updates =
            |(_, downlink): &&(DeviceNo, Downlink)| !matches!(downlink, Downlink::Message { .. });
        for (device, downlink) in decided.iter().filter(of_updates) {
            let barred = self.barred.contains(device);
            ensure(!barred, || format!("device {device} may not connect and is sent {downlink:?}"))?;
        }
        for task in self.checker.tasks().filter(|task| task.status.is_open()) {
            let deleted = self.deleted.contains(&task.device);
            ensure(!deleted, || format!("task {} of a deleted device is {:?}", task.no, task.status))?;
        }
        Ok(())
    }

    /// Queues the engine's next round, in place of the one queued before.
    pub(crate) fn round_in(&mut self, wait_ms: i64) {
        self.round += 1;
        let round = self.round;
        self.at(wait_ms, Event::Round(round));
    }

    fn engine_round(&mut self, round: u64) -> Result<(), Violation> {
        if self.round != round || self.server.running.is_none() {
            return Ok(());
        }
        if self.now.since_ms(self.rounds_in_second.0) >= 1_000 {
            self.rounds_in_second = (self.now, 0);
        }
        self.rounds_in_second.1 += 1;
        ensure(self.rounds_in_second.1 < ROUNDS_PER_SECOND_MAX, || {
            "the engine goes round and round".to_owned()
        })?;
        let began = self.server.clock.peek();
        let worked = self.operate(|running| {
            let app = running.app.clone();
            async move { engine::turn(&app).await }
        })?;
        let Some(outcome) = worked.value else { return Ok(()) };
        if worked.failed && outcome.is_err() {
            if !worked.died {
                self.round_in(engine::FAILED_MS);
            }
            return Ok(());
        }
        let turn = outcome.map_err(|error| Violation(format!("the engine could not work: {error}")))?;
        if worked.died || self.round != round {
            return Ok(());
        }
        let wait_ms = match turn {
            Turn { more: true, .. } => 0,
            Turn { next_due, .. } => {
                self.checker.nothing_is_overdue(began)?;
                let now = self.server.clock.peek();
                let look_ms = self.nature.looks_ms(LOOK_MS);
                next_due.map_or(look_ms, |due| due.since_ms(now).clamp(0, look_ms))
            }
        };
        // A busy machine is late; a very busy one misses slots.
        let late_ms = if self.net.percent(self.rates.late) {
            self.stats.count(Of::Fault, "a round of the engine that is late");
            self.net.range(0, 3_000)
        } else {
            1
        };
        self.round_in(wait_ms + late_ms);
        Ok(())
    }
}
