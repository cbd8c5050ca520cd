//! Who is connected, what reaches them, and what waits to be written to them.
//!
//! One entry per device: a new login replaces the old one. An idle session owns no buffer, channel or
//! timer; its connection's task waits on one [`Notify`].

use super::flights::{Flights, Sending};
use super::link::{DeviceLink, Downlink};
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
    /// Longest silence, in milliseconds.
    silence_ms: u64,
    /// Milliseconds since the registry's origin.
    last_seen: AtomicU64,
    state: Mutex<State>,
    wake: Notify,
}

struct State {
    ending: Option<Ending>,
    mailbox: Mailbox,
    flights: Flights,
}

impl DeviceLink for Sessions {
    fn listening(&self, device: DeviceNo) -> bool {
        Self::listening(self, device)
    }

    fn send(&self, device: DeviceNo, downlink: Downlink) {
        // Whatever was not queued is offered again when the device next listens.
        let sent = Self::send(self, device, downlink);
        tracing::trace!(device = device.0, ?sent, "downlink");
    }

    fn withdraw(&self, device: DeviceNo, task: TaskNo, revision: i64) {
        Self::withdraw(self, device, task, revision);
    }

    fn kick(&self, device: DeviceNo) {
        Self::kick(self, device);
    }
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

    /// Waits for a message or the end.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }

    /// The next message to write, unless the connection has to end.
    pub fn next(&self) -> Option<Sending> {
        let mut state = self.state.lock();
        let State { ending, mailbox, flights } = &mut *state;
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

    fn send(&self, message: Downlink) -> Sent {
        let mut state = self.state.lock();
        if state.ending.is_some() {
            return Sent::Offline;
        }
        let sent = state.mailbox.post(self.owner(), message);
        drop(state);
        if sent == Sent::Queued {
            self.wake.notify_one();
        }
        sent
    }

    fn end(&self, ending: Ending) {
        self.state.lock().ending.get_or_insert(ending);
        self.wake.notify_one();
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
            closed: AtomicBool::new(false),
            closing: Notify::new(),
        }
    }

    fn shard(&self, device: DeviceNo) -> &Shard {
        &self.shards[device.0.unsigned_abs() as usize % SHARDS]
    }

    fn get(&self, device: DeviceNo) -> Option<Arc<Session>> {
        self.shard(device).lock().get(&device).cloned()
    }

    /// What stands before a download path for this session.
    pub fn base_url(&self, session: &Session) -> String {
        match &self.base {
            BaseUrl::Public(url) => url.clone(),
            BaseUrl::Connection { port } => format!("http://{}", SocketAddr::new(session.local, *port)),
        }
    }

    /// Registers a login and ends the device's earlier connection; `None` when the server stops.
    pub fn insert(&self, new: NewSession<'_>, now: Instant) -> Option<Arc<Session>> {
        let mut shard = self.shard(new.device).lock();
        // Inside the lock, so that `drain` either sees the entry or is seen here.
        if self.closed.load(Ordering::SeqCst) {
            return None;
        }
        let session = Arc::new(Session {
            device: new.device,
            // Inside the lock, so that a later login has a greater number.
            number: self.next_number.fetch_add(1, Ordering::Relaxed),
            product_key: new.owner.product_key.into(),
            device_name: new.owner.device_name.into(),
            local: new.local.ip(),
            silence_ms: u64::from(new.keepalive) * 1_500,
            last_seen: AtomicU64::new(self.elapsed_ms(now)),
            state: Mutex::new(State {
                ending: None,
                mailbox: Mailbox::new(new.auto_subscribe),
                flights: Flights::new(new.window),
            }),
            wake: Notify::new(),
        });
        let old = shard.insert(new.device, Arc::clone(&session));
        drop(shard);
        if let Some(old) = old {
            old.end(Ending::TakenOver);
        }
        Some(session)
    }

    /// Takes a session out, unless a newer one of the device has its place. Whether it was there.
    pub fn remove(&self, session: &Arc<Session>) -> bool {
        match self.shard(session.device).lock().entry(session.device) {
            Entry::Occupied(entry) if Arc::ptr_eq(entry.get(), session) => {
                entry.remove();
                true
            }
            _ => false,
        }
    }

    /// Whether pushes reach a device here.
    pub fn listening(&self, device: DeviceNo) -> bool {
        self.get(device).is_some_and(|session| session.listening())
    }

    /// Queues a message for a device.
    pub fn send(&self, device: DeviceNo, message: Downlink) -> Sent {
        self.get(device).map_or(Sent::Offline, |session| session.send(message))
    }

    /// Takes a task back: whatever was decided for it before `revision` and is not written yet is not
    /// written; an answer becomes "nothing to do". This holds too if the message is sent after this call.
    pub fn withdraw(&self, device: DeviceNo, task: TaskNo, revision: i64) {
        if let Some(session) = self.get(device) {
            let mut state = session.state.lock();
            state.mailbox.withdraw(task, revision);
            state.flights.withdraw(task);
        }
    }

    /// Ends a device's connection. Whether it had one.
    pub fn kick(&self, device: DeviceNo) -> bool {
        self.get(device).inspect(|session| session.end(Ending::Kicked)).is_some()
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
        self.each(|session| {
            if now.saturating_sub(session.last_seen.load(Ordering::Relaxed)) > session.silence_ms {
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

    fn each(&self, act: impl Fn(&Session)) {
        for shard in &self.shards {
            shard.lock().values().for_each(|session| act(session));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::link::{Asked, Question};
    use super::*;

    const DEVICE: DeviceNo = DeviceNo(7);

    fn registry() -> Sessions {
        Sessions::new(100, BaseUrl::Connection { port: 8080 })
    }

    fn login(sessions: &Sessions, auto_subscribe: bool) -> Arc<Session> {
        let owner = Owner { product_key: "pk", device_name: "dev1" };
        let local = "[::1]:1883".parse().unwrap();
        let new = NewSession { device: DEVICE, owner, local, keepalive: 60, auto_subscribe, window: 8 };
        sessions.insert(new, Instant::now()).unwrap()
    }

    #[test]
    fn a_second_login_takes_over() {
        let sessions = registry();
        let first = login(&sessions, true);
        let second = login(&sessions, true);
        assert!(second.number > first.number);
        assert_eq!((first.ending(), second.ending()), (Some(Ending::TakenOver), None));
        assert!(!sessions.remove(&first), "its place is taken");
        assert_eq!(sessions.len(), 1);
        assert!(sessions.remove(&second));
        assert!(!sessions.remove(&second));
        assert!(sessions.is_empty());
    }

    #[test]
    fn silence_kicks_and_draining_end_sessions() {
        let sessions = registry();
        let start = Instant::now();
        let session = login(&sessions, true);
        sessions.sweep(start + Duration::from_secs(90));
        assert_eq!(session.ending(), None);
        sessions.heard(&session, start + Duration::from_mins(1));
        sessions.sweep(start + Duration::from_secs(149));
        assert_eq!(session.ending(), None);
        sessions.sweep(start + Duration::from_secs(152));
        assert_eq!(session.ending(), Some(Ending::Silent));
        assert!(!sessions.listening(DEVICE));
        let asked = Asked { by: Question::Get, id: String::new() };
        let nothing = Downlink::PullReply { asked, package: None };
        assert_eq!(sessions.send(DEVICE, nothing), Sent::Offline);

        let session = login(&sessions, true);
        assert!(sessions.kick(DEVICE));
        assert!(!sessions.kick(DeviceNo(8)));
        assert_eq!(session.ending(), Some(Ending::Kicked));
        let session = login(&sessions, true);
        sessions.drain();
        assert_eq!(session.ending(), Some(Ending::Shutdown));
        let owner = Owner { product_key: "pk", device_name: "dev1" };
        let local = "127.0.0.1:1".parse().unwrap();
        let new = NewSession { device: DEVICE, owner, local, keepalive: 60, auto_subscribe: true, window: 8 };
        assert!(sessions.insert(new, start).is_none());
    }

    #[test]
    fn addresses_of_downloads() {
        let sessions = registry();
        assert_eq!(sessions.base_url(&login(&sessions, true)), "http://[::1]:8080");
        let sessions = Sessions::new(0, BaseUrl::Public("https://ota.example.com".to_owned()));
        assert_eq!(sessions.base_url(&login(&sessions, true)), "https://ota.example.com");
    }

    #[test]
    fn an_idle_session_is_small() {
        assert!(size_of::<Session>() <= 320, "{}", size_of::<Session>());
    }
}
