//! One device's connection, from its login to its end.
//!
//! What a device missed is pushed again after its next login. Whatever a device sends becomes durable before it is acknowledged.

use super::admission::{Admitted, LOGIN_PACKET_BYTES_MAX, Refused, refuse};
use super::flights::Sending;
use super::gateway;
use super::gateway::subs::{NextFetch, Subs};
use super::link::{Backend, DeviceEvent, Downlink, Happened, NoBlock, Question, Unavailable};
use super::login::Refusal;
use super::packet::{Message, Outbound, Reason, Version};
use super::session::{Ending, Session, Sessions};
use super::talk::Talk;
use super::topic::{DownTopic, Owner};
use super::wire::{Malformed, Wire};
use super::{certificate, file_download, push};
use crate::gate::{Gate, Pass};
use crate::net::{Peer, Stream};
use bytes::Bytes;
use futures_util::FutureExt;
use std::future::{Future, poll_fn};
use std::io;
use std::num::NonZeroU16;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use updraft_core::limits::{MQTT_BLOCK_BYTES_MAX, MQTT_PAYLOAD_BYTES_MAX, MQTT_TOPIC_BYTES_MAX};

/// What a packet may have beside its payload: the topic, and the fields around both.
const AROUND_BYTES_MAX: usize = MQTT_TOPIC_BYTES_MAX + 4;
/// Longest properties of MQTT 5 beside the longest payload.
const PROPERTIES_BYTES_MAX: usize = 1024;
/// Longest fixed header.
const HEADER_BYTES_MAX: usize = 5;
/// A block that waits is looked at again after this time.
const FETCH_WAIT_MAX: Duration = Duration::from_secs(5);
/// No more messages are rendered while this many bytes wait to be written.
pub(super) const BACKLOG_BYTES_MAX: usize = 64 * 1024;

/// The limits of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Longest time from the connection to its CONNECT.
    pub connect_within: Duration,
    /// How long a device that has registered itself may take to go.
    pub registered_within: Duration,
    /// Whether devices may register themselves by TLS only.
    pub register_by_tls_only: bool,
    /// Messages per second that a device may send; further ones are acknowledged and dropped. 0: no limit.
    pub uplinks_per_second: u32,
    /// Longest payload of a message of a device; a longer one ends its connection.
    pub payload_bytes: usize,
    /// Blocks per second that a device may download; further ones wait. 0: no limit.
    pub blocks_per_second: u32,
    /// Bytes of blocks that all devices together have not taken yet; further ones wait. One block at least.
    pub block_bytes: usize,
    /// How long a block may wait for that; then it is refused.
    pub room_within: Duration,
    /// Of each gateway.
    pub gateway: gateway::subs::Limits,
}

impl Limits {
    /// Longest packet of a device, without its fixed header.
    fn packet_bytes(&self, version: Version) -> usize {
        let properties = if version == Version::V5 { PROPERTIES_BYTES_MAX } else { 0 };
        self.payload_bytes + AROUND_BYTES_MAX + properties
    }

    /// What a device with MQTT 5 is told of that.
    pub(super) fn packet_bytes_told(&self) -> u32 {
        u32::try_from(HEADER_BYTES_MAX + self.packet_bytes(Version::V5)).unwrap_or(u32::MAX)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect_within: Duration::from_secs(10),
            registered_within: Duration::from_secs(15),
            register_by_tls_only: false,
            uplinks_per_second: 30,
            payload_bytes: MQTT_PAYLOAD_BYTES_MAX,
            blocks_per_second: 100,
            block_bytes: 256 << 20,
            room_within: Duration::from_secs(5),
            gateway: gateway::subs::Limits::default(),
        }
    }
}

/// The device endpoint.
pub struct Endpoint<B> {
    pub(super) backend: Arc<B>,
    pub(super) sessions: Arc<Sessions>,
    pub(super) limits: Limits,
    pub(super) gate: Arc<Gate>,
    /// The bytes that blocks may have in memory.
    room: Arc<Semaphore>,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum End {
    /// It said so.
    #[error("the device disconnected")]
    Disconnected,
    /// It is gone.
    #[error("the device closed the connection")]
    Closed,
    /// An I/O error.
    #[error("the connection broke: {0}")]
    Broken(#[from] io::Error),
    /// No MQTT.
    #[error("malformed bytes: {0}")]
    Malformed(#[from] Malformed),
    /// MQTT that may not come now.
    #[error("protocol error: {1}")]
    Protocol(Reason, &'static str),
    /// The registry wants it.
    #[error("ended from our side: {0:?}")]
    Ours(Ending),
    /// It was not let in after all.
    #[error("{0}")]
    Refused(Refusal),
    /// What it did cannot be made durable.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl End {
    /// What a device with MQTT 5 is told, if it is still there.
    fn reason(&self) -> Option<Reason> {
        Some(match self {
            Self::Disconnected | Self::Closed | Self::Broken(_) | Self::Refused(_) => return None,
            Self::Malformed(malformed) => malformed.reason(),
            Self::Protocol(reason, _) => *reason,
            Self::Ours(Ending::TakenOver) => Reason::SessionTakenOver,
            Self::Ours(Ending::Silent) => Reason::KeepAliveTimeout,
            Self::Ours(Ending::Kicked) => Reason::AdministrativeAction,
            Self::Ours(Ending::Shutdown | Ending::CutOff | Ending::Gone) => Reason::ShuttingDown,
            Self::Unavailable(_) => Reason::ServerBusy,
        })
    }
}

impl<B: Backend> Endpoint<B> {
    /// An endpoint for the devices that `backend` knows.
    pub fn new(backend: Arc<B>, sessions: Arc<Sessions>, limits: Limits, gate: Arc<Gate>) -> Self {
        let room = limits.block_bytes.clamp(MQTT_BLOCK_BYTES_MAX as usize, Semaphore::MAX_PERMITS);
        Self { backend, sessions, limits, gate, room: Arc::new(Semaphore::new(room)) }
    }

    /// Serves one connection until it ends. Once it has logged in, it needs its pass no more.
    ///
    /// An async function keeps room for its arguments to its end. So they go into the box of the login, of which nothing
    /// is left when the connection is idle.
    pub fn handle(
        self: Arc<Self>,
        stream: Stream,
        peer: Peer,
        pass: Pass,
    ) -> impl Future<Output = ()> + Send + use<B> {
        let entering = Box::pin(Arc::clone(&self).enter(stream, peer, pass));
        async move {
            let Some((mut wire, admitted)) = entering.await else { return };
            let session = Arc::clone(&admitted.session);
            let mut subs = session
                .is_gateway
                .then(|| Box::new(Subs::new(Arc::clone(&session), admitted.ip.to_string(), &self.limits)));
            // A panic must not leave a ghost in the registry.
            let stay = self.stay(&mut wire, admitted, subs.as_deref_mut());
            let end = AssertUnwindSafe(stay).catch_unwind().await;
            let owner = session.owner();
            let (pk, dn) = (owner.product_key, owner.device_name);
            if let Ok(end) = end {
                tracing::debug!(pk, dn, %end, "device left");
                if let Some(reason) = end.reason() {
                    part(&mut wire, reason, &end);
                }
            } else {
                tracing::error!(pk, dn, "a connection panicked");
            }
            Box::pin(self.leave(wire, &session, subs)).await;
        }
    }

    /// Lets a device in, if it may.
    async fn enter(
        self: Arc<Self>,
        stream: Stream,
        peer: Peer,
        _pass: Pass,
    ) -> Option<(Wire, Box<Admitted>)> {
        let mut wire = Wire::new(stream, LOGIN_PACKET_BYTES_MAX);
        match self.admit(&mut wire, &peer).await {
            Ok(admitted) => Some((wire, admitted?)),
            Err(refused) => {
                refuse(&mut wire, refused);
                wire.close().await;
                None
            }
        }
    }

    /// Welcomes the device and talks to it until something ends that.
    async fn stay(&self, wire: &mut Wire, admitted: Box<Admitted>, subs: Option<&mut Subs>) -> End {
        let session = Arc::clone(&admitted.session);
        if let Err(end) = Box::pin(self.greet(wire, admitted)).await {
            return end;
        }
        match self.talk(wire, &session, subs).await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    /// Notes that the device is here, and tells it so.
    async fn greet(&self, wire: &mut Wire, admitted: Box<Admitted>) -> Result<(), End> {
        let Admitted { session, ip, welcome, explain, nameless } = *admitted;
        let device = session.device;
        let online = DeviceEvent::Online { session: session.number, ip: ip.to_string() };
        let mut events = vec![Happened { device, event: online }];
        if session.listening() {
            events.push(Happened { device, event: DeviceEvent::Listening });
        }
        let refusal = match self.backend.happened(events).await {
            Err(Unavailable) => Refusal::Unavailable,
            // It was disabled or deleted while it logged in.
            Ok(()) if session.ending() == Some(Ending::Kicked) => Refusal::Disabled,
            Ok(()) => {
                wire.set_limit(self.limits.packet_bytes(wire.version()));
                wire.put(Outbound::Welcome(welcome))
                    .map_err(|unsent| End::Broken(io::Error::other(unsent)))?;
                if nameless {
                    let names = certificate::identity(session.owner());
                    let topic = certificate::IDENTITY_TOPIC.to_owned();
                    put(wire, &session, topic, None, false, names.into());
                }
                return Ok(());
            }
        };
        refuse(wire, Refused { refusal, explain });
        Err(End::Refused(refusal))
    }

    async fn talk(
        &self,
        wire: &mut Wire,
        session: &Arc<Session>,
        subs: Option<&mut Subs>,
    ) -> Result<std::convert::Infallible, End> {
        let mut talk =
            Talk::new(session, self.limits.uplinks_per_second, self.limits.blocks_per_second, subs);
        loop {
            if let Some(ending) = session.ending() {
                return Err(End::Ours(ending));
            }
            // Questions of gateways have long answers: the next is heard when the last is on its way.
            if talk.question.is_none() && wire.backlog() < BACKLOG_BYTES_MAX {
                let heard = talk.listen(wire);
                if !heard.events.is_empty() {
                    Box::pin(self.backend.happened(heard.events)).await?;
                }
                wire.put_bytes(heard.answers);
                if let Some(end) = heard.end {
                    return Err(end);
                }
                talk.question = heard.question;
            }
            // Blocks that were asked for before it come first: it may log out the device that they are for.
            if !talk.fetches_wait()
                && let Some(question) = talk.question.take()
                && let Some(subs) = talk.subs.as_deref_mut()
            {
                Box::pin(self.answer(wire, session, subs, *question)).await?;
                self.write_downlinks(wire, session);
                continue;
            }
            // After the answers, so that a SUBACK comes before what it lets through, and after the reading,
            // so that a PUBACK makes room at once.
            self.write_downlinks(wire, session);
            if let Some(subs) = talk.subs.as_deref_mut() {
                Box::pin(self.tend(wire, session, subs)).await?;
                self.write_downlinks(wire, session);
            }
            // One block at a time, and the next when the last is out: a device that does not read, or asks for more
            // than it takes, costs one block of memory. Meanwhile nothing is read from it.
            if wire.is_drained() {
                talk.room = None;
                if talk.fetches_wait() {
                    Box::pin(self.serve_fetch(wire, session, &mut talk)).await;
                    continue;
                }
            }
            if wait(wire, session).await? {
                self.sessions.heard(session, Instant::now());
            }
        }
    }

    /// Answers the next question for a block, or waits for its time or for room; a message for the device ends the
    /// wait.
    async fn serve_fetch(&self, wire: &mut Wire, session: &Session, talk: &mut Talk<'_>) {
        let now = Instant::now();
        let whose = match talk.next_fetch(now) {
            NextFetch::None => return,
            NextFetch::Wait(time) => {
                let _ = timeout(time, session.woken()).await;
                return;
            }
            NextFetch::Of(whose) => whose,
        };
        let held_back =
            talk.fetches_of(&whose).map(|fetches| fetches.held_back(|| self.backend.block_pace()));
        if let Some(wait) = held_back.filter(|wait| !wait.is_zero()) {
            // Nothing is read from the device meanwhile: its silence is ours.
            self.sessions.heard(session, now);
            let _ = timeout(wait.min(FETCH_WAIT_MAX), session.woken()).await;
            return;
        }
        self.serve_fetch_of(wire, session, &whose, talk).await;
        talk.fetched(whose);
    }

    async fn serve_fetch_of(
        &self,
        wire: &mut Wire,
        session: &Session,
        whose: &Arc<Session>,
        talk: &mut Talk<'_>,
    ) {
        let Some(bytes) = talk.fetches_of(whose).map(|fetches| fetches.next_bytes()) else { return };
        let room = Arc::clone(&self.room).acquire_many_owned(bytes);
        tokio::select! {
            // The semaphore is never closed.
            room = timeout(self.limits.room_within, room) => talk.room = room.ok().and_then(Result::ok),
            () = session.woken() => return,
        }
        let roomy = talk.room.is_some();
        // Without room all are refused at once: nothing is read from the device meanwhile, and waiting for each would
        // take longer than a keepalive. They are small, and few.
        while let Some(request) = talk.fetches_of(whose).and_then(|fetches| fetches.next(Instant::now())) {
            if whose.answers(DownTopic::FileReply) {
                let answer = if roomy {
                    self.backend.block(whose.device, request.wanted).await
                } else {
                    Err(NoBlock::Unavailable)
                };
                // At QoS 0: who misses a block asks again.
                let topic = whose.owner().downlink(DownTopic::FileReply);
                put(wire, session, topic, None, false, file_download::reply(&request, &answer).into());
            }
            if roomy {
                return;
            }
        }
    }

    fn write_downlinks(&self, wire: &mut Wire, session: &Session) {
        while wire.backlog() < BACKLOG_BYTES_MAX
            && let Some(Sending { message, id: packet_id, again }) = session.next()
        {
            match self.render(session, message) {
                Some((topic, payload)) => put(wire, session, topic, packet_id, again, payload),
                None => continue,
            }
        }
    }

    /// A message as the device is told it; `None`: not at all.
    pub(super) fn render(&self, session: &Session, message: Downlink) -> Option<(String, Bytes)> {
        let base = self.sessions.base_url(session);
        let (topic, payload) = match message {
            Downlink::Push { package, id, .. } => (DownTopic::Upgrade, push::push(&package, &base, id)),
            // At QoS 0: who misses an answer asks again.
            Downlink::PullReply { asked, package } => {
                let package = package.as_ref().map(|(_, _, package)| package.as_ref());
                match (asked.by, package) {
                    (Question::Get, package) => (DownTopic::GetReply, push::reply(&asked.id, package, &base)),
                    (Question::Request, Some(package)) => {
                        (DownTopic::RequestReply, push::request_reply(&asked.id, package, &base))
                    }
                    (Question::Request, None) => return None,
                }
            }
            Downlink::Message { topic, payload, .. } => return Some((topic, payload)),
        };
        Some((session.owner().downlink(topic), payload.into()))
    }

    /// Ends the connection, and the session if it is still the device's.
    async fn leave(&self, wire: Wire, session: &Arc<Session>, subs: Option<Box<Subs>>) {
        wire.close().await;
        if let Some(mut subs) = subs {
            self.leave_behind(&mut subs).await;
        }
        if self.sessions.remove(session, Instant::now()) {
            let event = DeviceEvent::Offline { session: session.number };
            if self.backend.happened(vec![Happened { device: session.device, event }]).await.is_err() {
                tracing::debug!(device = %session.device, "nobody took note of a device's end");
            }
        }
    }
}

/// Why we end a connection, for the device.
fn words(ending: Ending) -> &'static str {
    match ending {
        Ending::TakenOver => "the device logged in again",
        Ending::Silent => "nothing was heard for one and a half times the keepalive",
        Ending::Kicked => "the device was disabled or deleted",
        Ending::Shutdown => "the server stops",
        Ending::CutOff => "another node could serve it, and this one cannot",
        Ending::Gone => "the device went",
    }
}

/// Tells a device with MQTT 5 why it is sent away, as much as it takes. Some clients see no reason without words.
fn part(wire: &mut Wire, reason: Reason, end: &End) {
    let words = match end {
        End::Ours(ending) => words(*ending).to_owned(),
        end => end.to_string(),
    };
    let why = if wire.explains() { words } else { String::new() };
    if wire.put(Outbound::Disconnect { reason, why }).is_err() {
        let _ = wire.put(Outbound::Disconnect { reason, why: String::new() });
    }
}

/// Appends a message to the output; with a packet id, at QoS 1.
pub(super) fn put(
    wire: &mut Wire,
    session: &Session,
    topic: String,
    packet_id: Option<NonZeroU16>,
    again: bool,
    payload: Bytes,
) {
    let message = Message { topic, alias: None, packet_id, again, payload };
    if let Err(unsent) = wire.put(Outbound::Message(message)) {
        let Owner { product_key: pk, device_name: dn } = session.owner();
        tracing::warn!(pk, dn, %unsent, "a message is not sent");
        // It will never be acknowledged.
        if let Some(id) = packet_id {
            session.arrived(id);
        }
    }
}

/// Waits until something can be done: bytes have come (`true`), the output is out, or the registry called.
/// While output waits nothing is read, so that a device that does not read cannot make us work.
async fn wait(wire: &mut Wire, session: &Session) -> Result<bool, End> {
    let mut woken = pin!(session.woken());
    // Once the system takes no more, it takes something again only when the device has: a sign of life, of a device
    // that is not read from meanwhile.
    let mut full_at = None;
    poll_fn(|cx| {
        if woken.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(false));
        }
        if !wire.is_drained() {
            let drained = wire.poll_drain(cx)?.is_ready();
            if full_at.is_some_and(|backlog| wire.backlog() < backlog) {
                return Poll::Ready(Ok(true));
            }
            full_at = Some(wire.backlog());
            return if drained { Poll::Ready(Ok(false)) } else { Poll::Pending };
        }
        match ready!(wire.poll_fill(cx))? {
            0 => Poll::Ready(Err(End::Closed)),
            _ => Poll::Ready(Ok(true)),
        }
    })
    .await
}
