//! One device's connection, from its first byte to its end.
//!
//! No session outlives its connection, so SessionPresent is always 0; what a device missed is pushed again
//! after its next login. Whatever a device sends becomes durable before it is acknowledged.

use super::fetches::Fetches;
use super::link::{Backend, DeviceEvent, Downlink, Happened, Named, NoBlock, Question, Unavailable};
use super::login::{Login, Refusal};
use super::session::{Ending, NewSession, Session, Sessions};
use super::talk::Talk;
use super::topic::{DownTopic, Owner};
use super::wire::{Malformed, Wire};
use super::{file_download, push};
use crate::gate::{Gate, Pass};
use crate::net::{Peer, Stream};
use bytes::Bytes;
use futures_util::FutureExt;
use rmqtt_codec::error::DecodeError;
use rmqtt_codec::types::{Publish, QoS};
use rmqtt_codec::v3::{Connect, ConnectAck, ConnectAckReason, Packet};
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
use updraft_core::text::clip;

/// The first byte of a CONNECT.
const CONNECT: u8 = 0x10;
/// Longest packet of a stranger.
const LOGIN_PACKET_BYTES_MAX: usize = 2 * 1024;
/// Longest packet of a device: topic, payload, and the fields around them.
const PACKET_BYTES_MAX: usize = MQTT_PAYLOAD_BYTES_MAX + MQTT_TOPIC_BYTES_MAX + 4;
/// No more messages are rendered while this many bytes wait to be written.
const BACKLOG_BYTES_MAX: usize = 64 * 1024;

/// The limits of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Longest time from the connection to its CONNECT.
    pub connect_within: Duration,
    /// Messages per second that a device may send; further ones are acknowledged and dropped. 0: no limit.
    pub uplinks_per_second: u32,
    /// Blocks per second that a device may download; further ones wait. 0: no limit.
    pub blocks_per_second: u32,
    /// Bytes of blocks that all devices together have not taken yet; further ones wait. One block at least.
    pub block_bytes: usize,
    /// How long a block may wait for that; then it is refused.
    pub room_within: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect_within: Duration::from_secs(10),
            uplinks_per_second: 30,
            blocks_per_second: 100,
            block_bytes: 256 << 20,
            room_within: Duration::from_secs(5),
        }
    }
}

/// The device endpoint.
pub struct Endpoint<B> {
    backend: Arc<B>,
    sessions: Arc<Sessions>,
    limits: Limits,
    gate: Arc<Gate>,
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
    #[error("protocol error: {0}")]
    Protocol(&'static str),
    /// The registry wants it.
    #[error("ended from our side: {0:?}")]
    Ours(Ending),
    /// What it did cannot be made durable.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl<B: Backend> Endpoint<B> {
    /// An endpoint for the devices that `backend` knows.
    pub fn new(backend: Arc<B>, sessions: Arc<Sessions>, limits: Limits, gate: Arc<Gate>) -> Self {
        let room = limits.block_bytes.clamp(MQTT_BLOCK_BYTES_MAX as usize, Semaphore::MAX_PERMITS);
        Self { backend, sessions, limits, gate, room: Arc::new(Semaphore::new(room)) }
    }

    /// Serves one connection until it ends. Once it has logged in, it needs its pass no more.
    pub async fn handle(&self, stream: Stream, peer: Peer, pass: Pass) {
        let mut wire = Wire::new(stream, LOGIN_PACKET_BYTES_MAX);
        // Boxed, so that the many waiting connections do not carry the space that a login needs.
        let session = match Box::pin(self.admit(&mut wire, &peer)).await {
            Ok(Some(session)) => session,
            Ok(None) => return,
            Err(refusal) => {
                // The codec cannot fail on four constant bytes.
                let _ = wire.put(connack(refusal.code()));
                return wire.close().await;
            }
        };
        drop(pass);
        // A panic must not leave a ghost in the registry.
        let end = AssertUnwindSafe(self.stay(&mut wire, &session, &peer)).catch_unwind().await;
        let owner = session.owner();
        let (pk, dn) = (owner.product_key, owner.device_name);
        if let Ok(end) = end {
            tracing::debug!(pk, dn, %end, "device left");
        } else {
            tracing::error!(pk, dn, "a connection panicked");
        }
        Box::pin(self.leave(wire, &session)).await;
    }

    /// Waits for the CONNECT and checks it; `Ok(None)`: not worth an answer.
    async fn admit(&self, wire: &mut Wire, peer: &Peer) -> Result<Option<Arc<Session>>, Refusal> {
        let first = tokio::select! {
            first = timeout(self.limits.connect_within, first_packet(wire)) => first,
            () = self.sessions.closing() => return Ok(None),
        };
        let remote = peer.remote;
        let connect = match first {
            Ok(Ok(Packet::Connect(connect))) => connect,
            Ok(Err(End::Malformed(Malformed::Packet(DecodeError::UnsupportedProtocolLevel)))) => {
                tracing::warn!(%remote, reason = %Refusal::Protocol, "login refused");
                return Err(Refusal::Protocol);
            }
            // Cannot be, by its first byte.
            Ok(Ok(_)) => return Ok(None),
            Ok(Err(end)) => {
                tracing::debug!(%remote, %end, "no CONNECT");
                return Ok(None);
            }
            Err(_) => {
                tracing::debug!(%remote, "no CONNECT in time");
                return Ok(None);
            }
        };
        let user_name = connect.username.as_deref().unwrap_or_default();
        match self.identify(&connect, user_name, peer).await {
            Ok(session) => Ok(Some(session)),
            // Said by the gate, once a minute.
            Err(Refusal::TooManyFailures) => Err(Refusal::TooManyFailures),
            Err(reason) => {
                if matches!(reason, Refusal::UnknownDevice | Refusal::Deleted | Refusal::Password) {
                    self.gate.failed(remote.ip());
                }
                let (dn, pk) = user_name.rsplit_once('&').unwrap_or((user_name, ""));
                tracing::warn!(%remote, pk = ?clip(pk, 64), dn = ?clip(dn, 64), %reason, "login refused");
                Err(reason)
            }
        }
    }

    async fn identify(
        &self,
        connect: &Connect,
        user_name: &str,
        peer: &Peer,
    ) -> Result<Arc<Session>, Refusal> {
        // Before the database is asked.
        if self.gate.refuses(peer.remote.ip()).is_some() {
            return Err(Refusal::TooManyFailures);
        }
        let login = Login::parse(&connect.client_id, user_name, connect.keep_alive)?;
        let named = self.backend.login(login.product_key, login.device_name).await;
        let known = match named.map_err(|Unavailable| Refusal::Unavailable)? {
            Named::Unknown => return Err(Refusal::UnknownDevice),
            Named::Deleted => return Err(Refusal::Deleted),
            Named::Known(known) => known,
        };
        if !login.verify(&known.secret, connect.password.as_deref().unwrap_or_default()) {
            return Err(Refusal::Password);
        }
        // Only who knows the secret is told.
        if known.disabled {
            return Err(Refusal::Disabled);
        }
        let new = NewSession {
            device: known.no,
            owner: Owner { product_key: login.product_key, device_name: login.device_name },
            local: peer.local,
            keepalive: connect.keep_alive,
            // A device that keeps its session does not subscribe again after a reconnect: the SDK for
            // JavaScript relies on the server's memory. We have none across connections, so it is taken to
            // be subscribed; a push too many is harmless, one too few leaves a task open for ever.
            auto_subscribe: login.auto_subscribe || !connect.clean_session,
        };
        self.sessions.insert(new, Instant::now()).ok_or(Refusal::Unavailable)
    }

    /// Welcomes the device and talks to it until something ends that.
    async fn stay(&self, wire: &mut Wire, session: &Session, peer: &Peer) -> End {
        let device = session.device;
        let ip = peer.remote.ip().to_string();
        let online = DeviceEvent::Online { session: session.number, ip };
        let mut events = vec![Happened { device, event: online }];
        if session.listening() {
            events.push(Happened { device, event: DeviceEvent::Listening });
        }
        let refusal = match Box::pin(self.backend.happened(events)).await {
            Err(Unavailable) => Some((Refusal::Unavailable, End::Unavailable(Unavailable))),
            // It was disabled or deleted while it logged in.
            Ok(()) if session.ending() == Some(Ending::Kicked) => {
                Some((Refusal::Disabled, End::Ours(Ending::Kicked)))
            }
            Ok(()) => None,
        };
        let code = refusal.as_ref().map_or(0, |(refusal, _)| refusal.code());
        let put = wire.put(connack(code));
        if let Some((_, end)) = refusal {
            return end;
        }
        if put.is_err() {
            return End::Unavailable(Unavailable);
        }
        wire.set_limit(PACKET_BYTES_MAX);
        match self.talk(wire, session).await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    async fn talk(&self, wire: &mut Wire, session: &Session) -> Result<std::convert::Infallible, End> {
        let mut talk = Talk::new(session, self.limits.uplinks_per_second, self.limits.blocks_per_second);
        loop {
            if let Some(ending) = session.ending() {
                return Err(End::Ours(ending));
            }
            let heard = talk.listen(wire);
            if !heard.events.is_empty() {
                Box::pin(self.backend.happened(heard.events)).await?;
            }
            wire.put_bytes(heard.answers);
            if let Some(end) = heard.end {
                return Err(end);
            }
            // After the answers, so that a SUBACK comes before what it lets through, and after the reading,
            // so that a PUBACK makes room at once.
            self.write_downlinks(wire, session, &mut talk);
            // One block at a time, and the next when the last is out: a device that does not read, or asks for more
            // than it takes, costs one block of memory. Meanwhile nothing is read from it.
            if wire.is_drained()
                && let Some(fetches) = &mut talk.fetches
            {
                fetches.room = None;
                if !fetches.is_empty() {
                    Box::pin(self.serve_fetch(wire, session, fetches)).await;
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
    async fn serve_fetch(&self, wire: &mut Wire, session: &Session, fetches: &mut Fetches) {
        let wait = fetches.wait(Instant::now());
        if !wait.is_zero() {
            let _ = timeout(wait, session.woken()).await;
            return;
        }
        if fetches.room.is_none() {
            let room = Arc::clone(&self.room).acquire_many_owned(fetches.next_bytes());
            tokio::select! {
                // The semaphore is never closed.
                room = timeout(self.limits.room_within, room) => fetches.room = room.ok().and_then(Result::ok),
                () = session.woken() => return,
            }
        }
        let Some(request) = fetches.next(Instant::now()) else { return };
        if !session.answers(DownTopic::FileReply) {
            return;
        }
        let answer = match &fetches.room {
            Some(_) => self.backend.block(session.device, request.wanted).await,
            None => Err(NoBlock::Unavailable),
        };
        // At QoS 0: who misses a block asks again.
        put(wire, session, DownTopic::FileReply, None, file_download::reply(&request, &answer));
    }

    fn write_downlinks(&self, wire: &mut Wire, session: &Session, talk: &mut Talk<'_>) {
        while wire.backlog() < BACKLOG_BYTES_MAX
            && let Some(message) = session.next(talk.window.is_open())
        {
            let base = self.sessions.base_url(session);
            let (topic, packet_id, payload) = match message {
                Downlink::Push { package, id, .. } => {
                    (DownTopic::Upgrade, talk.window.take(), push::push(&package, &base, id))
                }
                // At QoS 0: who misses an answer asks again.
                Downlink::PullReply { asked, package } => {
                    let package = package.as_ref().map(|(_, _, package)| package.as_ref());
                    match (asked.by, package) {
                        (Question::Get, package) => {
                            (DownTopic::GetReply, None, push::reply(&asked.id, package, &base))
                        }
                        (Question::Request, Some(package)) => {
                            (DownTopic::RequestReply, None, push::request_reply(&asked.id, package, &base))
                        }
                        (Question::Request, None) => continue,
                    }
                }
            };
            put(wire, session, topic, packet_id, payload);
        }
    }

    /// Ends the connection, and the session if it is still the device's.
    async fn leave(&self, wire: Wire, session: &Arc<Session>) {
        wire.close().await;
        if self.sessions.remove(session) {
            let event = DeviceEvent::Offline { session: session.number };
            if self.backend.happened(vec![Happened { device: session.device, event }]).await.is_err() {
                tracing::debug!(device = %session.device, "nobody took note of a device's end");
            }
        }
    }
}

/// Appends a message to the output; with a packet id, at QoS 1.
fn put(
    wire: &mut Wire,
    session: &Session,
    topic: DownTopic,
    packet_id: Option<NonZeroU16>,
    payload: Vec<u8>,
) {
    let publish = Publish {
        dup: false,
        retain: false,
        qos: if packet_id.is_some() { QoS::AtLeastOnce } else { QoS::AtMostOnce },
        topic: session.owner().downlink(topic).into(),
        packet_id,
        payload: Bytes::from(payload),
        properties: None,
    };
    if let Err(error) = wire.put(Packet::Publish(Box::new(publish))) {
        tracing::error!(?error, "a message cannot be encoded");
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

async fn first_packet(wire: &mut Wire) -> Result<Packet, End> {
    loop {
        if wire.fill().await? == 0 {
            return Err(End::Closed);
        }
        // Told by the first byte already: a lost browser need not wait for the time-out.
        if wire.first_byte() != Some(CONNECT) {
            return Err(End::Protocol("the first packet is no CONNECT"));
        }
        if let Some(packet) = wire.next_packet()? {
            return Ok(packet);
        }
    }
}

fn connack(code: u8) -> Packet {
    let return_code = ConnectAckReason::try_from(code).unwrap_or(ConnectAckReason::ServiceUnavailable);
    Packet::ConnectAck(ConnectAck { return_code, session_present: false })
}
