//! One device's task: waits for whatever comes next, and carries out what the device wants.

use std::collections::VecDeque;
use std::io;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use updraft_fleet::message::Topic;
use updraft_fleet::{ConnectInfo, Device, Input, Output, Qos};

use super::counters::State;
use super::fetch::{Download, FetchEvent};
use super::meters::Meter;
use super::wire::{How, Incoming, Wire};
use super::{Member, Shared, Storm, Talk, http};

/// A device with its sockets.
pub(super) struct Runner {
    device: Device,
    shared: Arc<Shared>,
    link: Link,
    talk: Talk,
    /// The node that it tries next, counted in a circle.
    node: usize,
    /// Its place in the fleet.
    number: u64,
    /// Whether it has tried to connect before.
    seasoned: bool,
    /// Whether it lost its connection against its will and has no other yet.
    missing: bool,
    /// Whether a PINGREQ is out and nothing has come since.
    pinged: bool,
    /// Publications without a PUBACK yet.
    unanswered: Vec<(NonZeroU16, Instant)>,
    /// Boxed, since most devices have none most of the time.
    download: Option<Box<Download>>,
    wake: Option<Instant>,
    state: State,
    storms: watch::Receiver<Storm>,
}

/// What a device has of a connection.
enum Link {
    None,
    Mqtt(Wire),
    /// The token of the HTTP channel.
    Http(String),
}

/// What a device's task waits for.
enum Event {
    Wake,
    Packet(io::Result<Incoming>),
    Fetch(FetchEvent),
    Storm(Storm),
}

impl Runner {
    pub(super) fn new(
        number: u64,
        member: Member,
        shared: Arc<Shared>,
        storms: watch::Receiver<Storm>,
    ) -> Self {
        let device = Device::new(member.config);
        let state = state_of(&device);
        Self {
            device,
            shared,
            link: Link::None,
            talk: member.talk,
            node: member.node,
            number,
            seasoned: false,
            missing: false,
            pinged: false,
            unanswered: Vec::new(),
            download: None,
            wake: None,
            state,
            storms,
        }
    }

    /// Runs for ever.
    pub(super) async fn run(&mut self) {
        self.feed(Input::Tick).await;
        loop {
            match self.next_event().await {
                Event::Wake => self.woken().await,
                Event::Packet(Ok(incoming)) => self.received(incoming).await,
                Event::Packet(Err(error)) => self.lost(&error).await,
                Event::Fetch(event) => self.fetched(event).await,
                Event::Storm(storm) => self.stormed(storm).await,
            }
        }
    }

    /// Says goodbye; the device as it is then.
    pub(super) async fn switch_off(mut self) -> Device {
        if let Link::Mqtt(mut wire) = std::mem::replace(&mut self.link, Link::None) {
            // The server may be gone; that is all the same now.
            let _ = wire.disconnect().await;
        }
        self.download = None;
        self.set_missing(false);
        let off = State { connected: false, ..self.state };
        self.shared.counters.moved(&self.state, &off);
        self.device
    }

    async fn next_event(&mut self) -> Event {
        let due = [self.wake, self.ping_due()].into_iter().flatten().min();
        let link = &mut self.link;
        let download = &mut self.download;
        let storms = &mut self.storms;
        tokio::select! {
            packet = async {
                match link {
                    Link::Mqtt(wire) => wire.recv().await,
                    _ => std::future::pending().await,
                }
            } => Event::Packet(packet),
            event = async {
                match download {
                    Some(download) => download.next().await,
                    None => std::future::pending().await,
                }
            } => Event::Fetch(event),
            storm = async {
                match storms.changed().await {
                    Ok(()) => *storms.borrow_and_update(),
                    // The fleet is being dropped.
                    Err(_) => std::future::pending().await,
                }
            } => Event::Storm(storm),
            () = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            } => Event::Wake,
        }
    }

    /// Half a keepalive after the last packet: late enough to be rare, early enough to be safe.
    fn ping_due(&self) -> Option<Instant> {
        let half = Duration::from_secs(u64::from(self.device.config().keepalive_s.max(2))) / 2;
        match &self.link {
            Link::Mqtt(wire) => Some(wire.last_sent() + half),
            _ => None,
        }
    }

    async fn woken(&mut self) {
        let now = Instant::now();
        if self.ping_due().is_some_and(|due| due <= now) {
            self.ping().await;
        }
        if self.wake.is_some_and(|wake| wake <= now) {
            self.wake = None;
            self.feed(Input::Tick).await;
        }
    }

    async fn ping(&mut self) {
        if self.pinged {
            self.lost(&io::ErrorKind::TimedOut.into()).await;
        } else if let Link::Mqtt(wire) = &mut self.link {
            self.pinged = true;
            if let Err(error) = wire.ping().await {
                self.lost(&error).await;
            }
        }
    }

    async fn received(&mut self, incoming: Incoming) {
        self.pinged = false;
        match incoming {
            Incoming::Publish { topic, payload, packet_id } => {
                if let Link::Mqtt(wire) = &mut self.link
                    && let Err(error) = wire.acknowledge(packet_id).await
                {
                    self.lost(&error).await;
                    return;
                }
                self.feed(Input::Message { topic: &topic, payload: &payload }).await;
            }
            Incoming::PubAck(packet_id) => {
                if let Some(at) = self.unanswered.iter().position(|(id, _)| *id == packet_id) {
                    let (_, sent) = self.unanswered.swap_remove(at);
                    self.shared.meters.took(Meter::PubAck, sent.elapsed());
                    self.shared.counters.acknowledged();
                }
                self.feed(Input::PubAck).await;
            }
            Incoming::Refused(packet_id) => {
                self.unanswered.retain(|(id, _)| *id != packet_id);
                self.shared.meters.failed("publish", "the server refused it");
                self.feed(Input::PubAck).await;
            }
            Incoming::Goodbye => self.lost(&io::ErrorKind::ConnectionAborted.into()).await,
            Incoming::Login(_) | Incoming::Other => {}
        }
    }

    async fn lost(&mut self, error: &io::Error) {
        self.drop_link(error);
        self.feed(Input::Disconnected).await;
    }

    /// The connection that there was is of no more use.
    fn drop_link(&mut self, error: &io::Error) {
        tracing::debug!(device = ?self.device.config().identity, %error, "connection lost");
        if !matches!(self.link, Link::None) {
            self.shared.meters.failed_io("connection lost", error);
            self.set_missing(true);
            self.node = self.node.wrapping_add(1);
        }
        self.forget_link();
    }

    fn forget_link(&mut self) {
        self.link = Link::None;
        self.pinged = false;
        self.unanswered = Vec::new();
    }

    fn set_missing(&mut self, missing: bool) {
        if self.missing != missing {
            self.missing = missing;
            self.shared.counters.missing(missing);
        }
    }

    async fn stormed(&mut self, storm: Storm) {
        // Another device seed for each storm: not always the same devices.
        let seed = self.device.config().seed;
        let hit = updraft_fleet::draw_percent(seed, storm.number) < storm.percent;
        if hit && matches!(self.link, Link::Mqtt(_)) {
            self.forget_link();
            self.set_missing(true);
            self.feed(Input::Cut).await;
        }
    }

    async fn fetched(&mut self, event: FetchEvent) {
        match event {
            FetchEvent::Progress(bytes) => self.feed(Input::DownloadProgress { bytes }).await,
            FetchEvent::Done { digest, size } => {
                self.download = None;
                self.feed(Input::Downloaded { digest: &digest, size }).await;
            }
            FetchEvent::Failed => {
                if let Some(download) = &mut self.download {
                    download.stop();
                }
                self.feed(Input::DownloadFailed).await;
            }
        }
    }

    /// Tells the device, and carries out what it wants until it wants no more.
    async fn feed(&mut self, input: Input<'_>) {
        let mut todo = VecDeque::new();
        self.tell(input, &mut todo);
        while let Some(output) = todo.pop_front() {
            match self.carry_out(output).await {
                Some(Told::Connected) => self.tell(Input::Connected, &mut todo),
                Some(Told::Disconnected) => self.tell(Input::Disconnected, &mut todo),
                Some(Told::Answered(data)) => {
                    if let Some(data) = data {
                        let payload = json!({ "code": 200, "data": data }).to_string();
                        let topic = Topic::GetReply.of(&self.device.config().identity);
                        let payload = payload.as_bytes();
                        self.tell(Input::Message { topic: &topic, payload }, &mut todo);
                    }
                    self.tell(Input::PubAck, &mut todo);
                }
                None => {}
            }
        }
    }

    fn tell(&mut self, input: Input<'_>, todo: &mut VecDeque<Output>) {
        let mut wanted = Vec::new();
        self.device.handle(self.shared.clock.now(), input, &mut wanted);
        todo.extend(wanted);
        let state = state_of(&self.device);
        self.shared.counters.moved(&self.state, &state);
        self.state = state;
    }

    /// Does one thing; tells what came of it, if the device must know.
    async fn carry_out(&mut self, output: Output) -> Option<Told> {
        let sent = match output {
            Output::Connect(info) => return Some(self.connect(info).await),
            Output::Subscribe(topics) => match &mut self.link {
                Link::Mqtt(wire) => wire.subscribe(topics).await,
                _ => Ok(()),
            },
            Output::Publish { topic, payload, qos } => return self.publish(topic, payload, qos).await,
            Output::Disconnect => {
                if let Link::Mqtt(wire) = &mut self.link {
                    // Gone is gone: the device does not wait for an answer.
                    let _ = wire.disconnect().await;
                }
                self.forget_link();
                Ok(())
            }
            Output::Download(fetch) => {
                let earlier = self.download.take().map(|download| *download);
                let shared = Arc::clone(&self.shared);
                let source = self.shared.target.source(self.number);
                self.download = Some(Box::new(Download::start(fetch, earlier, shared, source).await));
                Ok(())
            }
            Output::CancelDownload => {
                self.download.as_mut()?.stop();
                Ok(())
            }
            Output::WakeAt(at) => {
                self.wake = Some(self.shared.clock.instant(at));
                Ok(())
            }
        };
        sent.err().map(|error| {
            self.drop_link(&error);
            Told::Disconnected
        })
    }

    async fn connect(&mut self, info: ConnectInfo) -> Told {
        let first = !std::mem::replace(&mut self.seasoned, true);
        if first || !self.shared.options.ramp_only {
            self.shared.gate.pass().await;
        }
        let begun = Instant::now();
        let source = self.shared.target.source(self.number);
        let patience = self.shared.options.io_timeout;
        let opened = match (self.talk, &self.shared.http) {
            (Talk::Mqtt(mqtt), _) => {
                let how = How { node: self.node, source, mqtt };
                let opened = Wire::open(&self.shared.target, how, info, patience).await;
                opened.map(Link::Mqtt).inspect_err(|error| self.shared.meters.failed_io("connect", error))
            }
            (Talk::Http, Some(target)) => {
                let config = self.device.config();
                let token =
                    http::log_in(target, self.node, source, &config.identity, config.hmac, patience).await;
                token.map(Link::Http).map_err(|error| {
                    self.shared.meters.failed("http login", &error);
                    io::Error::other(error)
                })
            }
            (Talk::Http, None) => Err(io::ErrorKind::Unsupported.into()),
        };
        match opened {
            Ok(link) => {
                let meter = if matches!(link, Link::Http(_)) { Meter::HttpAuth } else { Meter::Connect };
                self.shared.meters.took(meter, begun.elapsed());
                self.link = link;
                self.set_missing(false);
                Told::Connected
            }
            Err(error) => {
                self.shared.counters.refused();
                // As behind a load balancer: the next attempt meets another node.
                self.node = self.node.wrapping_add(1);
                self.drop_link(&error);
                Told::Disconnected
            }
        }
    }

    async fn publish(&mut self, topic: String, payload: Vec<u8>, qos: Qos) -> Option<Told> {
        let wait = self.time_on_line(payload.len());
        // Less than a timer can tell apart is nothing.
        if wait >= Duration::from_millis(1) {
            sleep(wait).await;
        }
        let failed = match &mut self.link {
            Link::None => return None,
            Link::Mqtt(wire) => {
                let sent = Instant::now();
                match wire.publish(topic, payload, qos).await {
                    Ok(packet_id) => {
                        self.unanswered.extend(packet_id.map(|packet_id| (packet_id, sent)));
                        return None;
                    }
                    Err(error) => error,
                }
            }
            Link::Http(token) => {
                let target = self.shared.http.as_ref()?;
                let begun = Instant::now();
                let source = self.shared.target.source(self.number);
                let patience = self.shared.options.io_timeout;
                match http::say(target, self.node, source, token, &topic, payload, patience).await {
                    Ok(data) => {
                        self.shared.meters.took(Meter::HttpReport, begun.elapsed());
                        self.shared.counters.acknowledged();
                        return Some(Told::Answered(data));
                    }
                    Err(error) => {
                        self.shared.meters.failed("http message", &error);
                        io::Error::other(error)
                    }
                }
            }
        };
        self.drop_link(&failed);
        Some(Told::Disconnected)
    }

    /// How long a message is under way on a slow line.
    fn time_on_line(&self, bytes: usize) -> Duration {
        let line = self.device.config().line;
        let per_second = line.bytes_per_second.map_or(f64::INFINITY, |rate| rate.max(1) as f64);
        let ms = line.delay_ms.max(0) as f64 + bytes as f64 * 1_000.0 / per_second;
        // An hour is more than any line takes, and a number that a duration can hold.
        Duration::from_secs_f64((ms / 1_000.0 / self.shared.clock.speed).min(3_600.0))
    }
}

/// What came of an output.
enum Told {
    Connected,
    Disconnected,
    /// A message by HTTP was taken, and perhaps answered.
    Answered(Option<Value>),
}

fn state_of(device: &Device) -> State {
    State { phase: device.phase(), connected: device.is_connected(), stats: device.stats() }
}
