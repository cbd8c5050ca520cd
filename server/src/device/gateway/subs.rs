//! The devices that are logged in through one gateway's connection.
//!
//! Each has a session in the registry like any other device, so the rest of the server sees no difference; what is for
//! it wakes the gateway's connection, which then writes one message of each device in turn.

use super::{Batches, Name};
use crate::device::connection;
use crate::device::fetches::Fetches;
use crate::device::file_download;
use crate::device::session::Session;
use crate::device::talk::Budget;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The limits of a gateway.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most devices that are logged in through it.
    pub subs: usize,
    /// How many one question may name.
    pub batches: Batches,
    /// Logins of devices per second; further ones are refused. 0: no limit.
    pub logins_per_second: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { subs: 2_000, batches: Batches::default(), logins_per_second: 200 }
    }
}

/// What the sessions behind a gateway share with its connection: who of them has something for it.
pub struct Hub {
    gateway: Arc<Session>,
    ready: Mutex<VecDeque<Arc<Session>>>,
}

impl Hub {
    /// One for the devices behind a gateway.
    pub fn new(gateway: Arc<Session>) -> Arc<Self> {
        Arc::new(Self { gateway, ready: Mutex::default() })
    }

    /// The gateway's session.
    pub fn gateway(&self) -> &Session {
        &self.gateway
    }

    /// A session has something for the connection, and is not in line yet.
    pub fn queue(&self, session: Arc<Session>) {
        self.ready.lock().push_back(session);
        self.gateway.wake();
    }

    fn next(&self) -> Option<Arc<Session>> {
        let mut ready = self.ready.lock();
        let next = ready.pop_front();
        if ready.is_empty() {
            // Give the memory back.
            *ready = VecDeque::new();
        }
        next
    }
}

/// A device behind the gateway.
struct Sub {
    session: Arc<Session>,
    budget: Budget,
    fetches: Option<Box<Fetches>>,
}

/// The devices that are logged in through a connection.
pub struct Subs {
    hub: Arc<Hub>,
    /// The address that the gateway came from.
    ip: String,
    limits: Limits,
    uplinks_per_second: u32,
    blocks_per_second: u32,
    /// By `{product key}/{device name}`, as both stand in topics.
    by_name: HashMap<Box<str>, Sub>,
    /// Those whose questions for blocks wait, in turn.
    fetching: VecDeque<Arc<Session>>,
    logins: Budget,
    /// How many troubles the gateway was told of.
    troubles: u64,
}

/// Whose question for a block is next.
pub enum NextFetch {
    /// Nobody's.
    None,
    /// Somebody's, after this time.
    Wait(Duration),
    /// This device's.
    Of(Arc<Session>),
}

impl Subs {
    /// None yet.
    pub fn new(gateway: Arc<Session>, ip: String, limits: &connection::Limits) -> Self {
        Self {
            hub: Hub::new(gateway),
            ip,
            limits: limits.gateway,
            uplinks_per_second: limits.uplinks_per_second,
            blocks_per_second: limits.blocks_per_second,
            by_name: HashMap::new(),
            fetching: VecDeque::new(),
            logins: Budget::new(limits.gateway.logins_per_second, Instant::now()),
            troubles: 0,
        }
    }

    /// What sessions of devices behind the gateway need.
    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// The address that the gateway came from, which counts as that of the devices behind it.
    pub fn ip(&self) -> &str {
        &self.ip
    }

    /// How many devices one question may name.
    pub fn batches(&self) -> Batches {
        self.limits.batches
    }

    /// Whether so many devices may log in now, which counts then: all of them or none.
    pub fn may_log_in(&mut self, count: usize, now: Instant) -> bool {
        self.logins.allows_all(count, now)
    }

    /// Whether there is room for these devices, those that are here already not counted.
    pub fn have_room_for(&self, names: &[Name]) -> bool {
        let new = names.iter().filter(|name| !self.by_name.contains_key(key(name).as_str())).count();
        self.by_name.len() + new <= self.limits.subs
    }

    /// Takes a new session in. One that the device had here before is over.
    pub fn insert(&mut self, session: Arc<Session>) {
        let owner = session.owner();
        let key = [owner.product_key, "/", owner.device_name].concat();
        let budget = Budget::new(self.uplinks_per_second, Instant::now());
        self.by_name.insert(key.into(), Sub { session, budget, fetches: None });
    }

    /// Takes a device's session out.
    pub fn take(&mut self, name: &Name) -> Option<Arc<Session>> {
        self.by_name.remove(key(name).as_str()).map(|sub| sub.session)
    }

    /// Whether a device is logged in here.
    pub fn contains(&self, name: &Name) -> bool {
        self.by_name.get(key(name).as_str()).is_some_and(|sub| sub.session.ending().is_none())
    }

    /// Takes a session out, if it is the one that its device has here.
    pub fn forget(&mut self, session: &Arc<Session>) -> bool {
        let owner = session.owner();
        let key = [owner.product_key, "/", owner.device_name].concat();
        let is_here = self.by_name.get(key.as_str()).is_some_and(|sub| Arc::ptr_eq(&sub.session, session));
        is_here && self.by_name.remove(key.as_str()).is_some()
    }

    /// Takes all sessions out.
    pub fn take_all(&mut self) -> Vec<Arc<Session>> {
        std::mem::take(&mut self.by_name).into_values().map(|sub| sub.session).collect()
    }

    /// The device that a topic or filter is about, if it is logged in here.
    pub fn find(&self, topic: &str) -> Option<Arc<Session>> {
        self.lookup(topic).map(|(_, sub)| Arc::clone(&sub.session))
    }

    /// Whether the device that a topic is about may send a message, which counts then.
    pub fn allows(&mut self, session: &Session, now: Instant) -> bool {
        self.get_mut(session).is_none_or(|sub| sub.budget.allows(now))
    }

    fn lookup(&self, topic: &str) -> Option<(&str, &Sub)> {
        let (mut first, mut second) = (0, topic.find('/')? + 1);
        loop {
            let end = topic[second..].find('/').map(|at| second + at);
            let found = self.by_name.get_key_value(&topic[first..end.unwrap_or(topic.len())]);
            if let Some((name, sub)) = found
                && sub.session.ending().is_none()
            {
                return Some((name, sub));
            }
            (first, second) = (second, end? + 1);
        }
    }

    fn get_mut(&mut self, session: &Session) -> Option<&mut Sub> {
        let owner = session.owner();
        let key = [owner.product_key, "/", owner.device_name].concat();
        self.by_name.get_mut(key.as_str())
    }

    /// The next session that has something for the connection.
    pub fn next_ready(&self) -> Option<Arc<Session>> {
        let session = self.hub.next()?;
        session.leave_line();
        Some(session)
    }

    /// Takes a device's question for a block; `false`: it has asked for too many.
    pub fn ask(&mut self, session: &Arc<Session>, request: file_download::Request, now: Instant) -> bool {
        let blocks_per_second = self.blocks_per_second;
        let Some(sub) = self.get_mut(session) else { return false };
        let fetches = sub.fetches.get_or_insert_with(|| Box::new(Fetches::new(blocks_per_second, now)));
        if fetches.is_full() {
            return false;
        }
        let first = fetches.is_empty();
        fetches.ask(request);
        if first {
            self.fetching.push_back(Arc::clone(session));
        }
        true
    }

    /// Whether questions for blocks wait.
    pub fn is_fetching(&self) -> bool {
        !self.fetching.is_empty()
    }

    /// Whose question for a block is next: the devices take turns, and who must wait lets the others pass. Who is
    /// named is out of line until [`Subs::fetched`].
    pub fn next_fetch(&mut self, now: Instant) -> NextFetch {
        let mut least = None;
        for _ in 0..self.fetching.len() {
            let Some(session) = self.fetching.pop_front() else { break };
            if session.ending().is_some() {
                continue;
            }
            let Some(wait) = self.fetches_of(&session).map(|fetches| fetches.wait(now)) else { continue };
            if wait.is_zero() {
                return NextFetch::Of(session);
            }
            self.fetching.push_back(session);
            least = Some(least.map_or(wait, |least: Duration| least.min(wait)));
        }
        least.map_or(NextFetch::None, NextFetch::Wait)
    }

    /// A device had its turn.
    pub fn fetched(&mut self, session: Arc<Session>) {
        if self.fetches_of(&session).is_some() {
            self.fetching.push_back(session);
        }
    }

    /// A device's questions for blocks, if it has any.
    pub fn fetches_of(&mut self, session: &Session) -> Option<&mut Fetches> {
        let fetches = self.get_mut(session)?.fetches.as_deref_mut()?;
        (!fetches.is_empty()).then_some(fetches)
    }

    /// An id for the next trouble that the gateway is told of, as JSON text.
    pub fn trouble_id(&mut self) -> String {
        self.troubles += 1;
        format!("\"{}\"", self.troubles)
    }
}

fn key(name: &Name) -> String {
    [&name.product_key, "/", &name.device_name].concat()
}
