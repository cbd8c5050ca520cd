//! Who is connected, what reaches them, and what waits to be written to them.
//!
//! One entry per device: a new login replaces the old one. An idle session owns no buffer, channel or
//! timer; its connection's task waits on one [`Notify`].

mod behind;
mod link;

use self::behind::Behind;
use super::flights::{Flights, Sending};
pub use super::kept::Keeping;
use super::kept::KeptSessions;
use super::link::Downlink;
use super::mailbox::Mailbox;
pub use super::mailbox::{Sent, Subscribed};
use super::topic::{DownTopic, Owner};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};
use updraft_core::id::{DeviceNo, TaskNo};

/// Enough that two cores rarely meet in one.
const SHARDS: usize = 64;
/// A device that has no connection of its own may be silent.
const FOR_EVER: u32 = u32::MAX;
/// Messages are put by for a device that is away until they have so many bytes together.
const KEPT_BYTES_MAX: usize = 64 * 1024;

/// What stands before a download path in the messages to devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BaseUrl {
    /// A configured one, without the last `/`.
    Public(String),
    /// Plain HTTP on the address that the device itself connected to.
    Connection {
        /// The port of the downloads.
        port: u16,
    },
}

/// Why a connection is ended from our side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The device logged in again.
    TakenOver,
    /// It said nothing for one and a half times its keepalive.
    Silent,
    /// It may not be connected any more.
    Kicked,
    /// The server stops.
    Shutdown,
    /// The server cannot serve it now, and another node could.
    CutOff,
    /// The device went; its session waits for it.
    Gone,
}

/// One login's place in the registry.
pub struct Session {
    /// The device.
    pub device: DeviceNo,
    /// The login's number.
    pub number: i64,
    product_key: Box<str>,
    device_name: Box<str>,
    local: IpAddr,
    /// Longest silence, in milliseconds; [`FOR_EVER`]: any.
    silence_ms: u32,
    /// Milliseconds since the registry's origin.
    last_seen: AtomicU64,
    state: Mutex<State>,
    wake: Notify,
    /// Whether its product is one of gateways.
    pub is_gateway: bool,
    /// The connection that it is reached through, if it has none of its own.
    behind: Option<Behind>,
}

struct State {
    ending: Option<Ending>,
    /// How long the device wants its session to be kept without a connection, in seconds.
    keep_seconds: u32,
    mailbox: Mailbox,
    flights: Flights,
}

/// A login, for [`Sessions::insert`].
#[derive(Debug, Clone, Copy)]
pub struct NewSession<'a> {
    /// The device.
    pub device: DeviceNo,
    /// Its name in topics.
    pub owner: Owner<'a>,
    /// The address that it connected to.
    pub local: SocketAddr,
    /// Its keepalive, in seconds.
    pub keepalive: u16,
    /// Whether it asked for automatic delivery.
    pub auto_subscribe: bool,
    /// Messages at QoS 1 that it takes at a time.
    pub window: u16,
    /// Whether what it left behind is to be forgotten.
    pub clean_start: bool,
    /// How long it wants its session to be kept without a connection, in seconds; [`u32::MAX`]: for ever.
    pub keep_seconds: u32,
    /// Whether it counts as having asked for automatic delivery if it left nothing behind.
    pub remembers: bool,
    /// Whether its product is one of gateways.
    pub is_gateway: bool,
}

impl Session {
    /// The device's name in topics.
    pub fn owner(&self) -> Owner<'_> {
        Owner { product_key: &self.product_key, device_name: &self.device_name }
    }

    /// Why the connection has to end, if it has to.
    pub fn ending(&self) -> Option<Ending> {
        self.state.lock().ending
    }

    /// The next message to write, unless the connection has to end.
    pub fn next(&self) -> Option<Sending> {
        let mut state = self.state.lock();
        let State { ending, mailbox, flights, .. } = &mut *state;
        if ending.is_some() {
            return None;
        }
        let again = flights.depart_again();
        again.or_else(|| mailbox.next(flights.is_open()).map(|message| flights.depart(message)))
    }

    /// The device has a message, or can never have it.
    pub fn arrived(&self, id: NonZeroU16) {
        self.state.lock().flights.arrived(id);
    }

    /// Changes how long the device wants its session to be kept, in seconds. False: none can begin to be kept.
    pub fn keep_for(&self, seconds: u32) -> bool {
        let mut state = self.state.lock();
        let allowed = seconds == 0 || state.keep_seconds > 0;
        if allowed {
            state.keep_seconds = seconds;
        }
        allowed
    }

    /// Takes a subscription of the device.
    pub fn subscribe(&self, filter: &str) -> Subscribed {
        self.state.lock().mailbox.subscribe(self.owner(), filter)
    }

    /// Takes a subscription back; whether there may have been one.
    pub fn unsubscribe(&self, filter: &str) -> bool {
        self.state.lock().mailbox.unsubscribe(self.owner(), filter)
    }

    /// Whether answers on this topic reach the device.
    pub fn answers(&self, topic: DownTopic) -> bool {
        self.state.lock().mailbox.answers(self.owner(), topic)
    }

    /// Whether pushes reach the device.
    pub fn listening(&self) -> bool {
        let state = self.state.lock();
        state.ending.is_none() && state.mailbox.delivers(self.owner(), DownTopic::Upgrade)
    }

    /// Queues a message.
    pub fn send(self: &Arc<Self>, message: Downlink) -> Sent {
        let mut state = self.state.lock();
        if state.ending.is_some() {
            return self.keep(&mut state, message);
        }
        let sent = state.mailbox.post(self.owner(), message);
        drop(state);
        if sent == Sent::Queued {
            self.call();
        }
        sent
    }

    /// Puts a message by for the device's return.
    fn keep(&self, state: &mut State, message: Downlink) -> Sent {
        let lost = state.keep_seconds == 0 || state.ending == Some(Ending::Kicked);
        if lost || !matches!(message, Downlink::Message { kept: true, .. }) {
            return Sent::Offline;
        }
        if state.mailbox.bytes() >= KEPT_BYTES_MAX {
            return Sent::Full;
        }
        match state.mailbox.post(self.owner(), message) {
            Sent::Queued => Sent::Kept,
            sent => sent,
        }
    }

    /// Ends the session for the device's next one, and hands over what it has to know: what the device hears, and
    /// what it has not got. `None` if the device did not want that.
    fn hand_over(self: &Arc<Self>, window: u16) -> Option<(Mailbox, Flights)> {
        let mut state = self.state.lock();
        let before = state.ending;
        state.ending.get_or_insert(Ending::TakenOver);
        let mut flights = std::mem::replace(&mut state.flights, Flights::new(window));
        let mut mailbox = std::mem::take(&mut state.mailbox);
        let lost = state.keep_seconds == 0 || before == Some(Ending::Kicked);
        drop(state);
        self.call();
        if before != Some(Ending::Gone) {
            mailbox.strand();
            flights.strand();
        }
        flights.resize(window);
        (!lost).then_some((mailbox, flights))
    }
}

/// A part of the registry.
type Shard = Mutex<HashMap<DeviceNo, Arc<Session>>>;

/// All sessions of this server.
pub struct Sessions {
    shards: Box<[Shard]>,
    next_number: AtomicI64,
    base: BaseUrl,
    origin: Instant,
    keep_seconds: u32,
    /// Locked while a shard is, never the other way round.
    kept: Mutex<KeptSessions>,
    closed: AtomicBool,
    closing: Notify,
}

impl Sessions {
    /// An empty registry. Logins are numbered from `first_number` on, which must lie above every number of
    /// earlier runs.
    pub fn new(first_number: i64, base: BaseUrl) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            next_number: AtomicI64::new(first_number),
            base,
            origin: Instant::now(),
            keep_seconds: Keeping::default().seconds,
            kept: Mutex::new(KeptSessions::new(Keeping::default().sessions)),
            closed: AtomicBool::new(false),
            closing: Notify::new(),
        }
    }

    /// The same, which keeps sessions so.
    #[must_use]
    pub fn keeping(mut self, keeping: Keeping) -> Self {
        self.keep_seconds = keeping.seconds;
        self.kept = Mutex::new(KeptSessions::new(keeping.sessions));
        self
    }

    /// How long a session will be kept without its connection, if the device wishes so long, in seconds.
    pub fn kept_for(&self, wished: u32) -> u32 {
        wished.min(self.keep_seconds)
    }

    fn shard(&self, device: DeviceNo) -> &Shard {
        &self.shards[device.0.unsigned_abs() as usize % SHARDS]
    }

    /// What a device's session says. Meanwhile no other can take its place, so that nothing is lost in between.
    fn with<T>(&self, device: DeviceNo, ask: impl FnOnce(&Arc<Session>) -> T) -> Option<T> {
        self.shard(device).lock().get(&device).map(ask)
    }

    /// The same of a session that is kept, if there is no other.
    fn with_any<T>(&self, device: DeviceNo, ask: impl FnOnce(&Arc<Session>) -> T) -> Option<T> {
        let shard = self.shard(device).lock();
        match shard.get(&device) {
            Some(session) => Some(ask(session)),
            None => self.kept.lock().get(device, self.elapsed_ms(Instant::now())).map(ask),
        }
    }

    /// What stands before a download path for this session.
    pub fn base_url(&self, session: &Session) -> String {
        match &self.base {
            BaseUrl::Public(url) => url.clone(),
            BaseUrl::Connection { port } => format!("http://{}", SocketAddr::new(session.local, *port)),
        }
    }

    /// Registers a login and ends the device's earlier connection; `None` when the server stops. Also says whether the
    /// device has its earlier session again.
    pub fn insert(&self, new: NewSession<'_>, now: Instant) -> Option<(Arc<Session>, bool)> {
        self.put(&new, u32::from(new.keepalive) * 1_500, None, now)
    }

    fn put(
        &self,
        new: &NewSession<'_>,
        silence_ms: u32,
        behind: Option<Behind>,
        now: Instant,
    ) -> Option<(Arc<Session>, bool)> {
        let mut shard = self.shard(new.device).lock();
        // Inside the lock, so that `drain` either sees the entry or is seen here.
        if self.closed.load(Ordering::SeqCst) {
            return None;
        }
        let now = self.elapsed_ms(now);
        let kept = self.kept.lock().take(new.device, now);
        let before = shard.get(&new.device).or(kept.as_ref()).and_then(|old| old.hand_over(new.window));
        let before = before.filter(|_| !new.clean_start);
        let present = before.is_some();
        let (mut mailbox, flights) =
            before.unwrap_or_else(|| (Mailbox::new(new.remembers), Flights::new(new.window)));
        if new.auto_subscribe {
            mailbox.deliver_all();
        }
        let keep_seconds = self.kept_for(new.keep_seconds);
        let session = Arc::new(Session {
            device: new.device,
            // Inside the lock, so that a later login has a greater number.
            number: self.next_number.fetch_add(1, Ordering::Relaxed),
            product_key: new.owner.product_key.into(),
            device_name: new.owner.device_name.into(),
            local: new.local.ip(),
            silence_ms,
            last_seen: AtomicU64::new(now),
            state: Mutex::new(State { ending: None, keep_seconds, mailbox, flights }),
            wake: Notify::new(),
            is_gateway: new.is_gateway,
            behind,
        });
        shard.insert(new.device, Arc::clone(&session));
        Some((session, present))
    }

    /// Takes a session out, unless a newer one of the device has its place, and keeps it as the device wished. Whether
    /// it was there.
    pub fn remove(&self, session: &Arc<Session>, now: Instant) -> bool {
        let mut shard = self.shard(session.device).lock();
        let Entry::Occupied(entry) = shard.entry(session.device) else { return false };
        if !Arc::ptr_eq(entry.get(), session) {
            return false;
        }
        entry.remove();
        let mut state = session.state.lock();
        let seconds = self.kept_for(state.keep_seconds);
        if seconds > 0 && state.ending != Some(Ending::Kicked) {
            // From now on it only takes what may wait.
            state.ending = Some(Ending::Gone);
            state.mailbox.strand();
            state.flights.strand();
            drop(state);
            let end = self.elapsed_ms(now) + u64::from(seconds) * 1_000;
            self.kept.lock().keep(Arc::clone(session), end);
        }
        true
    }

    /// Whether pushes reach a device here.
    pub fn listening(&self, device: DeviceNo) -> bool {
        self.with(device, |session| session.listening()).unwrap_or(false)
    }

    /// Queues a message for a device.
    pub fn send(&self, device: DeviceNo, message: Downlink) -> Sent {
        self.with_any(device, |session| session.send(message)).unwrap_or(Sent::Offline)
    }

    /// Takes a task back: whatever was decided for it before `revision` and is not written yet is not
    /// written; an answer becomes "nothing to do". This holds too if the message is sent after this call.
    pub fn withdraw(&self, device: DeviceNo, task: TaskNo, revision: i64) {
        self.with_any(device, |session| {
            let mut state = session.state.lock();
            state.flights.withdraw(task);
            state.mailbox.withdraw(task, revision);
        });
    }

    /// Ends a device's connection, and forgets what it left behind. Whether it had a connection.
    pub fn kick(&self, device: DeviceNo) -> bool {
        let shard = self.shard(device).lock();
        self.kept.lock().take(device, 0);
        shard.get(&device).inspect(|session| session.end(Ending::Kicked)).is_some()
    }

    /// Ends one login of a device, and forgets what it left behind, if it has no later one here.
    pub fn end(&self, device: DeviceNo, number: i64) {
        let shard = self.shard(device).lock();
        let mut kept = self.kept.lock();
        if kept.get(device, 0).is_some_and(|session| session.number <= number) {
            kept.take(device, 0);
        }
        drop(kept);
        shard
            .get(&device)
            .filter(|session| session.number <= number)
            .inspect(|session| session.end(Ending::TakenOver));
    }

    /// How many sessions are kept without a connection.
    pub fn kept(&self) -> usize {
        self.kept.lock().len()
    }

    /// How many devices are connected.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    /// Whether no device is connected.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ends all connections and lets no new ones in.
    pub fn drain(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.closing.notify_waiters();
        self.each(|session| session.end(Ending::Shutdown));
    }

    /// Returns once [`Sessions::drain`] was called.
    pub async fn closing(&self) {
        let closing = self.closing.notified();
        if !self.closed.load(Ordering::SeqCst) {
            closing.await;
        }
    }

    /// Ends the connections that have been silent for too long at `now`.
    pub fn sweep(&self, now: Instant) {
        let now = self.elapsed_ms(now);
        self.kept.lock().expire(now);
        self.each(|session| {
            let silent = now.saturating_sub(session.last_seen.load(Ordering::Relaxed));
            if silent > session.silence_ms.into() && session.silence_ms != FOR_EVER {
                session.end(Ending::Silent);
            }
        });
    }

    /// Sweeps at this interval until `shutdown` turns true or its sender is gone.
    pub async fn watch_keepalive(&self, every: Duration, mut shutdown: watch::Receiver<bool>) {
        let mut ticks = tokio::time::interval(every);
        loop {
            tokio::select! {
                _ = shutdown.wait_for(|stop| *stop) => return,
                _ = ticks.tick() => {
                    self.sweep(Instant::now());
                    metrics::gauge!("updraft_device_sessions").set(self.len() as f64);
                    metrics::gauge!("updraft_device_sessions_kept").set(self.kept() as f64);
                }
            }
        }
    }

    /// Notes that a device was heard.
    pub fn heard(&self, session: &Session, now: Instant) {
        session.last_seen.store(self.elapsed_ms(now), Ordering::Relaxed);
    }

    fn elapsed_ms(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.origin).as_millis() as u64
    }

    fn each(&self, act: impl Fn(&Arc<Session>)) {
        for shard in &self.shards {
            shard.lock().values().for_each(&act);
        }
    }
}

#[cfg(test)]
mod tests;
