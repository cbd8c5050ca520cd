//! What goes wrong, and how often.

use crate::Violation;
use crate::chance::Chance;
use crate::net::{ConnNo, Up};
use crate::server::Death;
use crate::stats::Of;
use crate::world::{Event, World};
use updraft_core::time::{HOUR_MS, MINUTE_MS, SECOND_MS};
use updraft_fleet::message::{self, Topic};

/// How often things go wrong, in percent of the occasions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rates {
    /// Nothing varies: every message takes the same time.
    pub(crate) calm: bool,
    /// Messages and engine rounds that are late.
    pub(crate) late: usize,
    /// Messages of QoS 1 that are said twice.
    pub(crate) doubled: usize,
    /// Wake-ups of the engine that are lost.
    pub(crate) lost_wakes: usize,
    /// Pieces of downloads that do not come.
    pub(crate) broken_downloads: usize,
}

impl Rates {
    /// Nothing goes wrong.
    pub(crate) fn calm() -> Self {
        Self { calm: true, late: 0, doubled: 0, lost_wakes: 0, broken_downloads: 0 }
    }

    /// Each kind of trouble is off in a third of all worlds, so that others can go far.
    pub(crate) fn drawn(chance: &mut Chance) -> Self {
        let mut rate = |max| if chance.percent(67) { chance.range(1, max) as usize } else { 0 };
        Self {
            calm: false,
            late: rate(10),
            doubled: rate(15),
            lost_wakes: rate(50),
            broken_downloads: rate(10),
        }
    }

    /// One of the four, by number.
    pub(crate) fn rate(&mut self, number: u32) -> Option<&mut usize> {
        match number {
            1 => Some(&mut self.late),
            2 => Some(&mut self.doubled),
            3 => Some(&mut self.lost_wakes),
            4 => Some(&mut self.broken_downloads),
            _ => None,
        }
    }
}

/// Something that breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A connection.
    Cut,
    /// A device's power.
    Power,
    /// A device's way to the server, for a long time.
    Away,
    /// A device's honesty.
    Lie,
    /// The server.
    Crash,
    /// The server's clock.
    Jump,
    /// The same, backwards.
    SetBack,
    /// The server's storage.
    Storage,
}

impl Fault {
    /// Every kind.
    pub(crate) const ALL: [Self; 8] = [
        Self::Cut,
        Self::Power,
        Self::Away,
        Self::Lie,
        Self::Crash,
        Self::Jump,
        Self::SetBack,
        Self::Storage,
    ];

    /// What breaks, in words.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cut => "a connection that breaks",
            Self::Power => "a device that loses its power",
            Self::Away => "a device that is out of reach",
            Self::Lie => "a device that lies",
            Self::Crash => "a server that is to die",
            Self::Jump => "a clock that is set ahead",
            Self::SetBack => "a clock that is set back",
            Self::Storage => "storage that fails",
        }
    }
}

/// Which faults a world has, and how far apart they are.
#[derive(Debug, Clone)]
pub(crate) struct FaultPlan {
    kinds: Vec<Fault>,
    apart_ms: i64,
}

impl FaultPlan {
    pub(crate) fn drawn(chance: &mut Chance) -> Self {
        let mut kinds: Vec<Fault> = Fault::ALL.into_iter().filter(|_| chance.percent(70)).collect();
        // Broken connections are the daily bread.
        kinds.extend(std::iter::repeat_n(Fault::Cut, 3 * usize::from(chance.percent(85))));
        Self { kinds, apart_ms: chance.pick(&[8, 20, 45, 120]) * SECOND_MS }
    }

    /// The next fault and when it comes, if there are any.
    pub(crate) fn next(&self, chance: &mut Chance) -> Option<(i64, Fault)> {
        (!self.kinds.is_empty()).then(|| (chance.range(0, 2 * self.apart_ms), chance.pick(&self.kinds)))
    }
}

impl World {
    /// Plans the next fault.
    pub(crate) fn break_next(&mut self) {
        if let Some((wait_ms, fault)) = self.plan.as_ref().and_then(|plan| plan.next(&mut self.faults)) {
            self.at(wait_ms * self.nature.slowness, Event::Break(fault));
        }
    }

    pub(crate) fn break_something(&mut self, fault: Fault) {
        if self.plan.is_none() || self.nodes.is_empty() {
            return;
        }
        self.break_next();
        if self.is_left_out() {
            return;
        }
        let node = self.faults.below(self.nodes.len());
        match fault {
            Fault::Cut => self.cut_somewhere(),
            Fault::Power => {
                let off_ms = self.faults.range(2 * SECOND_MS, MINUTE_MS);
                self.power_cycle(node, off_ms);
            }
            Fault::Away => {
                let away_ms = self.faults.range(MINUTE_MS, 30 * MINUTE_MS) * self.nature.slowness;
                self.send_away(node, away_ms);
            }
            Fault::Lie => self.lie(node),
            Fault::Crash => {
                match self.faults.below(6) {
                    0 => self.crash("out of the blue"),
                    // The rest strikes within the server's next piece of work.
                    1 => self.death = Some(Death::AtClock(1 + self.faults.below(5) as u32)),
                    2 => self.death = Some(Death::AfterCommit),
                    _ => self.death = Some(Death::BeforeEffects),
                }
            }
            Fault::Storage => self.break_storage(),
            Fault::Jump => {
                let jump_ms = self.faults.pick(&[2 * SECOND_MS, 20 * SECOND_MS, 5 * MINUTE_MS, 3 * HOUR_MS]);
                self.set_clock(jump_ms);
            }
            Fault::SetBack => {
                let back_ms =
                    self.hands.pick(&[500, 2 * SECOND_MS, 20 * SECOND_MS, 5 * MINUTE_MS, 2 * HOUR_MS]);
                self.set_clock(-back_ms);
            }
        }
    }

    /// Sets the server's clock ahead, or back.
    pub(crate) fn set_clock(&mut self, by_ms: i64) {
        self.clock_ahead_ms += by_ms;
        self.server.clock.set(self.now.plus_ms(self.clock_ahead_ms));
        let seconds = by_ms.abs() as f64 / 1_000.0;
        if by_ms > 0 {
            self.checker.clock_set_ahead();
            self.note(format!("the server's clock jumps {seconds} s ahead"));
        } else {
            self.set_back_ms -= by_ms;
            self.note(format!("the server's clock is set back by {seconds} s"));
        }
    }

    fn cut_somewhere(&mut self) {
        let live: Vec<ConnNo> =
            self.conns.iter().filter(|(_, conn)| conn.client_up).map(|(no, _)| *no).collect();
        if live.is_empty() {
            return;
        }
        let no = self.faults.pick(&live);
        let lossy = self.faults.percent(60);
        let client_ms = self.faults.range(0, 2 * SECOND_MS);
        // Half-open connections: the device is back long before the server knows that it was gone.
        let server_ms = self.faults.pick(&[0, 50, 2 * SECOND_MS, 90 * SECOND_MS]);
        self.note(format!("the connection of {} breaks", self.nodes[self.conns[&no].node].label()));
        self.cut(no, lossy, client_ms, server_ms);
    }

    /// Takes a device out of everybody's reach.
    pub(crate) fn send_away(&mut self, node: usize, away_ms: i64) {
        self.note(format!("{} is out of reach for {} s", self.nodes[node].label(), away_ms / SECOND_MS));
        self.nodes[node].away_until = self.now.plus_ms(away_ms);
        let Some(no) = self.nodes[node].conn else { return };
        if self.wire(no) == no {
            self.cut(no, true, 500, 500);
        } else {
            // Its gateway misses it.
            self.send_up(no, Up::Bye);
            self.client_gone(no);
        }
    }

    /// A device says something that is not so.
    fn lie(&mut self, node: usize) {
        let Some(conn) = self.nodes[node].conn else { return };
        let identity = self.nodes[node].device.config().identity.clone();
        let stranger = self.faults.below(self.nodes.len());
        let foreign = self.nodes[stranger].device.config().identity.clone();
        let version = match self.faults.below(3) {
            0 => "6.6.6".to_owned(),
            1 => self.faults.pick(&self.packages).version,
            _ => self.truth(node).to_owned(),
        };
        let percent = self.faults.range(-5, 103);
        let (topic, payload) = match self.faults.below(8) {
            0 => (Topic::Inform.of(&identity), message::inform(1, "default", &version)),
            1 => (Topic::Inform.of(&identity), message::inform(1, "MCU", &version)),
            2 | 3 => (Topic::Progress.of(&identity), message::progress(1, "default", percent, "lie\u{0}")),
            4 => (Topic::Progress.of(&identity), message::progress(1, "MCU", percent, "")),
            5 => (Topic::Get.of(&identity), message::get(1, "default")),
            6 => (Topic::Inform.of(&foreign), message::inform(1, "default", &version)),
            _ => (Topic::Inform.of(&identity), b"{\"params\":{\"version\":".to_vec()),
        };
        self.note(format!("{} lies", self.nodes[node].label()));
        let qos1 = self.faults.percent(50);
        self.send_up(conn, Up::Publish(topic, payload, qos1));
    }

    /// The server's process dies: sessions, caches, and what was not committed.
    pub(crate) fn crash(&mut self, how: &str) {
        if self.server.running.take().is_none() {
            return;
        }
        self.note(format!("the server dies ({how})"));
        self.stats.count(Of::Crash, how.to_owned());
        self.death = None;
        self.inbox.clear();
        let down_ms = if self.rates.calm { 10 * SECOND_MS } else { self.faults.range(SECOND_MS, MINUTE_MS) };
        self.at(down_ms, Event::ServerUp);
        let open: Vec<ConnNo> = self.conns.keys().copied().collect();
        for no in open {
            let notices_ms = if self.rates.calm { 0 } else { self.net.range(0, 3 * SECOND_MS) };
            if let Some(conn) = self.conns.get_mut(&no) {
                conn.server_up = false;
            }
            self.at(notices_ms, Event::ClientGone(no));
        }
    }

    pub(crate) fn server_up(&mut self) -> Result<(), Violation> {
        if self.server.running.is_none() {
            self.server.start()?;
            self.ingest_queued = false;
            self.note("the server is back".to_owned());
            self.round_in(0);
        }
        Ok(())
    }
}
