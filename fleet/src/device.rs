//! One virtual device: its connection, its reports, and the door through which everything reaches it.

use updraft_core::firmware::SignMethod;
use updraft_core::task::FailedStep;
use updraft_core::time::Timestamp;

use crate::behaviour::Behaviour;
use crate::chance::{draw_below, draw_span};
use crate::config::{Delivery, DeviceConfig, Qos};
use crate::login::{ConnectInfo, Login};
use crate::message::{self, Topic};
use crate::pushed::{Pushed, Pushes};
use crate::update::{Job, Stage};

/// Something that happened to a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input<'a> {
    /// Time has passed. The first input of every device; afterwards the answer to `WakeAt`, which it
    /// uses up. One too many does no harm.
    Tick,
    /// The connection that it asked for is accepted.
    Connected,
    /// The connection that it had or asked for is gone.
    Disconnected,
    /// The connection that it had was cut, and the device comes back at once: one of a fleet whose lines all failed.
    Cut,
    /// A message arrived.
    Message {
        /// Its topic.
        topic: &'a str,
        /// Its payload.
        payload: &'a [u8],
    },
    /// A publication of QoS 1 was acknowledged.
    PubAck,
    /// The running download has come this far.
    DownloadProgress {
        /// Bytes of the file, counted from its beginning.
        bytes: u64,
    },
    /// The running download has all bytes.
    Downloaded {
        /// Digest of the whole file in hexadecimal, of the kind that was asked for.
        digest: &'a str,
        /// Bytes of the file.
        size: u64,
    },
    /// The running download broke off.
    DownloadFailed,
}

/// Something that a device wants done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Connect; answered by `Connected` or `Disconnected`.
    Connect(ConnectInfo),
    /// Subscribe to these topics.
    Subscribe(Vec<String>),
    /// Publish.
    Publish {
        /// Topic.
        topic: String,
        /// Payload.
        payload: Vec<u8>,
        /// Quality of service.
        qos: Qos,
    },
    /// Download a file.
    Download(Fetch),
    /// Stop the running download, but keep what has arrived.
    CancelDownload,
    /// Close the connection or give up connecting; not answered.
    Disconnect,
    /// Send a `Tick` then. Replaces an earlier one.
    WakeAt(Timestamp),
}

/// A file to download.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetch {
    /// Where it is.
    pub url: String,
    /// Where to go on; what was fetched before counts into the digest.
    pub from_byte: u64,
    /// Its length, 0 if unknown.
    pub size: u64,
    /// The digest wanted in the end.
    pub digest: SignMethod,
    /// How fast to read, in bytes per second of the device's time.
    pub bytes_per_second: Option<u64>,
    /// Whether only its headers are wanted. Answered by `Downloaded` with an empty digest.
    pub head: bool,
}

/// What a device is doing, for displays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Not connected, and not trying at the moment.
    Waiting,
    /// Connecting.
    Connecting,
    /// Connected, with nothing to do.
    Online,
    /// Downloading, or between two attempts at it.
    Downloading,
    /// Writing the new image.
    Installing,
    /// Rebooting.
    Rebooting,
}

impl Phase {
    /// Every phase.
    pub const ALL: [Self; 6] =
        [Self::Waiting, Self::Connecting, Self::Online, Self::Downloading, Self::Installing, Self::Rebooting];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Connecting => "connecting",
            Self::Online => "online",
            Self::Downloading => "downloading",
            Self::Installing => "installing",
            Self::Rebooting => "rebooting",
        }
    }
}

/// What a device has been through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Connections that were accepted.
    pub connections: u64,
    /// Offers that it took up.
    pub started: u64,
    /// Reboots into the version that it had been offered.
    pub upgraded: u64,
    /// Updates that it gave up, and reboots into a third version.
    pub failed: u64,
    /// Pushes that arrived.
    pub pushes: u64,
    /// Files that it got whole and found to be what was promised.
    pub downloads: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Link {
    /// Not switched on yet.
    Off,
    Down,
    Connecting,
    Up,
}

/// A virtual device.
#[derive(Debug)]
pub struct Device {
    pub(crate) config: DeviceConfig,
    pub(crate) versions: Vec<(String, String)>,
    pub(crate) link: Link,
    /// When to connect, while the link is down.
    pub(crate) link_due: Option<Timestamp>,
    pub(crate) job: Option<Box<Job>>,
    /// When the job goes on by itself.
    pub(crate) job_due: Option<Timestamp>,
    /// When to ask for a package, while the link is up.
    poll_due: Option<Timestamp>,
    /// When to reconnect for no reason, while the link is up.
    churn_due: Option<Timestamp>,
    pushed: Pushes,
    /// The `WakeAt` that is out.
    announced: Option<Timestamp>,
    backoff_ms: i64,
    next_id: u64,
    draws: u64,
    unacknowledged: u32,
    /// A failure that could not be reported yet: module, step, words.
    pub(crate) owed: Option<(String, FailedStep, String)>,
    /// Updates that still have to fail.
    pub(crate) failures_left: u32,
    pub(crate) reverted: bool,
    /// When to boot an old image again: the module, and what it ran.
    pub(crate) undo: Option<(Timestamp, String, String)>,
    /// It has told no version since it is connected.
    untold: bool,
    pub(crate) stats: Stats,
}

impl Device {
    /// A device that is switched off until its first `Tick`.
    pub fn new(config: DeviceConfig) -> Self {
        let failures_left = match config.behaviour {
            Behaviour::Fails { times, .. } => times,
            _ => 0,
        };
        Self {
            versions: config.versions.clone(),
            link: Link::Off,
            link_due: None,
            job: None,
            job_due: None,
            poll_due: None,
            churn_due: None,
            pushed: Pushes::default(),
            announced: None,
            backoff_ms: config.timing.backoff_first_ms,
            next_id: 1,
            draws: 0,
            unacknowledged: 0,
            owed: None,
            failures_left,
            reverted: false,
            undo: None,
            untold: false,
            stats: Stats::default(),
            config,
        }
    }

    /// What it is.
    pub fn config(&self) -> &DeviceConfig {
        &self.config
    }

    /// What it has been through.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// What it was pushed, by version.
    pub fn pushed(&self) -> &[Pushed] {
        self.pushed.all()
    }

    /// The version that a module runs.
    pub fn version(&self, module: &str) -> Option<&str> {
        self.versions.iter().find(|(name, _)| name == module).map(|(_, version)| version.as_str())
    }

    /// Whether it is connected.
    pub fn is_connected(&self) -> bool {
        self.link == Link::Up
    }

    /// Whether it is connected, has told its versions, has no update at hand, and everything that it said was
    /// acknowledged.
    pub fn is_settled(&self) -> bool {
        self.is_connected() && self.job.is_none() && self.unacknowledged == 0 && !self.untold
    }

    /// What it is doing.
    pub fn phase(&self) -> Phase {
        match (self.job.as_ref().map(|job| job.stage), self.link) {
            (Some(Stage::Thinking | Stage::Fetching | Stage::Pretending | Stage::Stalled), _) => {
                Phase::Downloading
            }
            (Some(Stage::Installing), _) => Phase::Installing,
            (Some(Stage::Rebooting), _) => Phase::Rebooting,
            (None, Link::Off | Link::Down) => Phase::Waiting,
            (None, Link::Connecting) => Phase::Connecting,
            (None, Link::Up) => Phase::Online,
        }
    }

    /// Tells the device what happened; what it wants done is appended to `out`.
    pub fn handle(&mut self, now: Timestamp, input: Input<'_>, out: &mut Vec<Output>) {
        match input {
            Input::Tick => self.tick(now, out),
            Input::Connected => self.connected(now, out),
            Input::Disconnected => self.disconnected(now),
            Input::Cut => self.cut(now),
            Input::Message { topic, payload } => self.message(topic, payload, now, out),
            Input::PubAck => self.unacknowledged = self.unacknowledged.saturating_sub(1),
            Input::DownloadProgress { bytes } => self.download_progress(bytes, now, out),
            Input::Downloaded { digest, size } => self.downloaded(digest, size, now, out),
            Input::DownloadFailed => self.download_failed(now, out),
        }
        let wake = self.next_due();
        if wake != self.announced {
            self.announced = wake;
            out.extend(wake.map(Output::WakeAt));
        }
    }

    fn next_due(&self) -> Option<Timestamp> {
        let link = self.link_due.filter(|_| self.link == Link::Down);
        let poll = self.poll_due.filter(|_| self.link == Link::Up);
        let churn = self.churn_due.filter(|_| self.link == Link::Up);
        let undo = self.undo.as_ref().map(|(at, ..)| *at);
        [link, self.job_due, poll, churn, undo].into_iter().flatten().min()
    }

    fn tick(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        self.announced = None;
        let is_due = |due: Option<Timestamp>| due.is_some_and(|due| due <= now);
        if self.link == Link::Off {
            self.link = Link::Down;
            let delay_ms = match self.config.behaviour {
                Behaviour::Late { delay_ms } => delay_ms,
                _ => 0,
            };
            self.link_due = Some(now.plus_ms(delay_ms));
        }
        if self.link == Link::Down && is_due(self.link_due) {
            self.link_due = None;
            self.boot(now);
            self.link = Link::Connecting;
            out.push(Output::Connect(self.connect_info()));
        }
        if is_due(self.job_due) {
            self.job_due = None;
            self.job_tick(now, out);
        }
        if is_due(self.undo.as_ref().map(|(at, ..)| *at)) {
            self.boot_old(now, out);
        }
        if self.link == Link::Up && is_due(self.poll_due) {
            self.poll(now, out);
        }
        if self.link == Link::Up && is_due(self.churn_due) {
            self.leave(now, 0, out);
        }
    }

    fn connect_info(&self) -> ConnectInfo {
        self.config.identity.connect_info(&Login {
            hmac: self.config.hmac,
            auto_subscribe: self.config.delivery != Delivery::Subscribe,
            timestamp: true,
            keepalive_s: self.config.keepalive_s,
            clean_session: self.config.clean_session,
        })
    }

    fn connected(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        if self.link != Link::Connecting {
            return;
        }
        self.link = Link::Up;
        self.stats.connections += 1;
        self.pushed.reconnected();
        if self.config.timing.churn_ms > 0 {
            self.draws += 1;
            let span_ms = draw_span(self.config.seed, self.draws, self.config.timing.churn_ms);
            self.churn_due = Some(now.plus_ms(span_ms));
        }
        self.backoff_ms = self.config.timing.backoff_first_ms;
        if self.config.delivery == Delivery::Subscribe {
            let topics = [Topic::Upgrade, Topic::GetReply].map(|topic| topic.of(&self.config.identity));
            out.push(Output::Subscribe(topics.to_vec()));
        }
        self.untold = self.config.behaviour == Behaviour::Forgetful && self.draw_below(2) == 0;
        let told = if self.untold { 0 } else { self.versions.len() };
        for index in 0..told {
            let (module, version) = &self.versions[index];
            let payload = message::inform(self.next_id, module, version);
            self.publish(Topic::Inform, payload, out);
        }
        self.report_again(out);
        if self.untold {
            self.forget(out);
        }
        if self.polls_every().is_some() {
            self.poll(now, out);
        } else if self.config.delivery == Delivery::Ask || self.config.behaviour == Behaviour::Forgetful {
            self.ask(out);
        }
    }

    fn disconnected(&mut self, now: Timestamp) {
        if !matches!(self.link, Link::Connecting | Link::Up) {
            return;
        }
        let backoff_ms = self.backoff_ms;
        self.backoff_ms = (backoff_ms * 2).min(self.config.timing.backoff_max_ms);
        let wait_ms = self.vary(backoff_ms);
        self.link_down(now, wait_ms);
    }

    fn cut(&mut self, now: Timestamp) {
        if matches!(self.link, Link::Connecting | Link::Up) {
            self.link_down(now, 0);
        }
    }

    /// Takes the link down until `wait_ms` have passed.
    pub(crate) fn link_down(&mut self, now: Timestamp, wait_ms: i64) {
        self.link = Link::Down;
        self.unacknowledged = 0;
        self.poll_due = None;
        self.churn_due = None;
        self.link_due = Some(now.plus_ms(wait_ms));
    }

    /// Closes the connection on purpose and stays away for about `away_ms`.
    pub(crate) fn leave(&mut self, now: Timestamp, away_ms: i64, out: &mut Vec<Output>) {
        if matches!(self.link, Link::Connecting | Link::Up) {
            out.push(Output::Disconnect);
        }
        let away_ms = self.vary(away_ms);
        self.link_down(now, away_ms);
    }

    fn message(&mut self, topic: &str, payload: &[u8], now: Timestamp, out: &mut Vec<Output>) {
        let identity = &self.config.identity;
        let pushed = topic == Topic::Upgrade.of(identity);
        if !pushed && topic != Topic::GetReply.of(identity) {
            return;
        }
        let deaf = match self.config.behaviour {
            Behaviour::Silent => true,
            Behaviour::Puller { .. } => pushed,
            _ => false,
        };
        let Some(offer) = message::parse_offer(payload) else { return };
        if pushed {
            self.stats.pushes += 1;
            self.pushed.note(&offer.version, now);
        }
        if !deaf {
            self.consider(offer, now, out);
        }
    }

    /// Time between its questions, if it asks again and again.
    fn polls_every(&self) -> Option<i64> {
        match (&self.config.behaviour, self.config.delivery) {
            (Behaviour::Puller { every_ms }, _) => Some((*every_ms).max(1)),
            (_, Delivery::Poll { every_ms }) => Some(every_ms.max(1)),
            _ => None,
        }
    }

    fn poll(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        let Some(every_ms) = self.polls_every() else { return };
        self.poll_due = Some(now.plus_ms(every_ms));
        if self.job.is_none() {
            self.ask(out);
        }
    }

    /// Asks for a package for each module.
    fn ask(&mut self, out: &mut Vec<Output>) {
        for index in 0..self.versions.len() {
            let payload = message::get(self.next_id, &self.versions[index].0);
            self.publish(Topic::Get, payload, out);
        }
    }

    /// Publishes, if there is a connection; a report that is lost is made again after the next one.
    fn publish(&mut self, topic: Topic, payload: Vec<u8>, out: &mut Vec<Output>) {
        if self.link != Link::Up {
            return;
        }
        self.next_id += 1;
        let qos = self.config.qos;
        if qos == Qos::AtLeastOnce {
            self.unacknowledged += 1;
        }
        out.push(Output::Publish { topic: topic.of(&self.config.identity), payload, qos });
    }

    pub(crate) fn publish_progress(&mut self, module: &str, step: i64, desc: &str, out: &mut Vec<Output>) {
        let payload = message::progress(self.next_id, module, step, desc);
        self.publish(Topic::Progress, payload, out);
    }

    /// `ms` and up to a quarter more, so that a fleet does not move in step.
    fn vary(&mut self, ms: i64) -> i64 {
        ms.saturating_add(self.draw_below(ms.unsigned_abs() / 4 + 1) as i64)
    }

    fn draw_below(&mut self, below: u64) -> u64 {
        self.draws += 1;
        draw_below(self.config.seed, self.draws, below)
    }
}
