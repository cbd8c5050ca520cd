//! A minimal MQTT client, 3.1.1 and 5: one connection, no buffers of its own while it is idle.

use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rmqtt_codec::types::{Publish, QoS};
use rmqtt_codec::{v3, v5};
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, timeout};
use tokio_util::codec::{Decoder, Encoder};
use updraft_fleet::{ConnectInfo, Qos};

use super::target::{Stream, Target};

/// The largest packet that is accepted; pushes with many files are a few KiB.
const PACKET_MAX: u32 = 512 * 1024;
const READ_CHUNK: usize = 4 * 1024;

/// A version of MQTT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mqtt {
    /// 3.1.1
    #[default]
    V3,
    /// 5
    V5,
}

/// How a session is opened.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct How {
    /// The node, counted in a circle.
    pub(super) node: usize,
    /// The address of this side.
    pub(super) source: Option<IpAddr>,
    /// The protocol.
    pub(super) mqtt: Mqtt,
}

/// What a server sends that a device looks at.
#[derive(Debug)]
pub(super) enum Incoming {
    /// A message.
    Publish { topic: String, payload: Bytes, packet_id: Option<NonZeroU16> },
    /// A publication of QoS 1 was taken.
    PubAck(NonZeroU16),
    /// A publication of QoS 1 was refused.
    Refused(NonZeroU16),
    /// The answer to the login: why it is refused, if it is.
    Login(Option<&'static str>),
    /// The server ends the session.
    Goodbye,
    /// A sign of life, and what else needs no answer.
    Other,
}

#[derive(Debug)]
enum Codec {
    V3(v3::Codec),
    V5(v5::Codec),
}

/// An open session.
#[derive(Debug)]
pub(super) struct Wire {
    stream: Stream,
    codec: Codec,
    inbox: BytesMut,
    last_sent: Instant,
    last_packet_id: NonZeroU16,
    io_timeout: Duration,
}

/// Any codec error, as an I/O error: for a client both mean that the connection is of no more use.
fn broken(error: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}

impl Wire {
    /// Connects and logs in.
    pub(super) async fn open(
        target: &Target,
        how: How,
        info: ConnectInfo,
        io_timeout: Duration,
    ) -> io::Result<Self> {
        timeout(io_timeout, Self::open_unhurried(target, how, info, io_timeout)).await?
    }

    async fn open_unhurried(
        target: &Target,
        how: How,
        info: ConnectInfo,
        io_timeout: Duration,
    ) -> io::Result<Self> {
        let mut wire = Self {
            stream: target.open(how.node, how.source).await?,
            codec: match how.mqtt {
                Mqtt::V3 => Codec::V3(v3::Codec::new(PACKET_MAX)),
                Mqtt::V5 => Codec::V5(v5::Codec::new(PACKET_MAX, 0)),
            },
            inbox: BytesMut::new(),
            last_sent: Instant::now(),
            last_packet_id: NonZeroU16::MAX,
            io_timeout,
        };
        wire.log_in(info).await?;
        match wire.recv().await? {
            Incoming::Login(None) => Ok(wire),
            Incoming::Login(Some(reason)) => Err(io::Error::new(io::ErrorKind::PermissionDenied, reason)),
            _ => Err(broken("the first packet is no CONNACK")),
        }
    }

    async fn log_in(&mut self, info: ConnectInfo) -> io::Result<()> {
        let v3 = || v3::Connect {
            clean_session: info.clean_session,
            keep_alive: info.keepalive_s,
            client_id: info.client_id.clone().into(),
            username: Some(info.username.clone().into()),
            password: Some(info.password.clone().into()),
            ..v3::Connect::default()
        };
        let v5 = || v5::Connect {
            clean_start: info.clean_session,
            keep_alive: info.keepalive_s,
            // What a session that is no clean one means in MQTT 5: it is kept for as long as the server likes.
            session_expiry_interval_secs: if info.clean_session { 0 } else { u32::MAX },
            client_id: info.client_id.clone().into(),
            username: Some(info.username.clone().into()),
            password: Some(info.password.clone().into()),
            ..v5::Connect::default()
        };
        self.send(|| v3().into(), || v5().into()).await
    }

    /// When something was last sent.
    pub(super) fn last_sent(&self) -> Instant {
        self.last_sent
    }

    /// Sends the packet of the session's version.
    async fn send(
        &mut self,
        v3: impl FnOnce() -> v3::Packet,
        v5: impl FnOnce() -> v5::Packet,
    ) -> io::Result<()> {
        let mut bytes = BytesMut::new();
        match &mut self.codec {
            Codec::V3(codec) => codec.encode(v3(), &mut bytes).map_err(broken)?,
            Codec::V5(codec) => codec.encode(v5(), &mut bytes).map_err(broken)?,
        }
        self.last_sent = Instant::now();
        let stream = &mut self.stream;
        timeout(self.io_timeout, async {
            stream.write_all(&bytes).await?;
            stream.flush().await
        })
        .await?
    }

    /// Says goodbye.
    pub(super) async fn disconnect(&mut self) -> io::Result<()> {
        self.send(|| v3::Packet::Disconnect, || v5::Packet::Disconnect(v5::Disconnect::default())).await
    }

    /// Asks for a sign of life.
    pub(super) async fn ping(&mut self) -> io::Result<()> {
        self.send(|| v3::Packet::PingRequest, || v5::Packet::PingRequest).await
    }

    /// Publishes; tells the packet id that the PUBACK will have, if there will be one.
    pub(super) async fn publish(
        &mut self,
        topic: String,
        payload: Vec<u8>,
        qos: Qos,
    ) -> io::Result<Option<NonZeroU16>> {
        let (qos, packet_id) = match qos {
            Qos::AtMostOnce => (QoS::AtMostOnce, None),
            Qos::AtLeastOnce => (QoS::AtLeastOnce, Some(self.next_packet_id())),
        };
        let publish = |properties| Publish {
            dup: false,
            retain: false,
            qos,
            topic: topic.into(),
            packet_id,
            payload: payload.into(),
            properties,
        };
        match self.codec {
            Codec::V3(_) => {
                let packet = publish(None);
                self.send(|| packet.into(), || v5::Packet::PingRequest).await?;
            }
            Codec::V5(_) => {
                let packet = publish(Some(v5::PublishProperties::default()));
                self.send(|| v3::Packet::PingRequest, || packet.into()).await?;
            }
        }
        Ok(packet_id)
    }

    pub(super) async fn subscribe(&mut self, topics: Vec<String>) -> io::Result<()> {
        let packet_id = self.next_packet_id();
        let v3 = || v3::Packet::Subscribe {
            packet_id,
            topic_filters: topics.iter().map(|topic| (topic.as_str().into(), QoS::AtLeastOnce)).collect(),
        };
        let v5 = || {
            let options =
                v5::SubscriptionOptions { qos: QoS::AtLeastOnce, ..v5::SubscriptionOptions::default() };
            v5::Packet::Subscribe(v5::Subscribe {
                packet_id,
                id: None,
                user_properties: Vec::new(),
                topic_filters: topics.iter().map(|topic| (topic.as_str().into(), options)).collect(),
            })
        };
        self.send(v3, v5).await
    }

    /// Acknowledges a publication, if it wants that.
    pub(super) async fn acknowledge(&mut self, packet_id: Option<NonZeroU16>) -> io::Result<()> {
        let Some(packet_id) = packet_id else { return Ok(()) };
        let v5 = || v5::Packet::PublishAck(v5::PublishAck { packet_id, ..v5::PublishAck::default() });
        self.send(|| v3::Packet::PublishAck { packet_id }, v5).await
    }

    /// The next packet. May be dropped and called again without losing anything.
    pub(super) async fn recv(&mut self) -> io::Result<Incoming> {
        loop {
            if let Some(incoming) = self.decode()? {
                if self.inbox.is_empty() {
                    self.inbox = BytesMut::new();
                }
                return Ok(incoming);
            }
            poll_fn(|cx| self.poll_fill(cx)).await?;
        }
    }

    fn decode(&mut self) -> io::Result<Option<Incoming>> {
        Ok(match &mut self.codec {
            Codec::V3(codec) => {
                codec.decode(&mut self.inbox).map_err(broken)?.map(|(packet, _)| of_v3(packet))
            }
            Codec::V5(codec) => {
                codec.decode(&mut self.inbox).map_err(broken)?.map(|(packet, _)| of_v5(packet))
            }
        })
    }

    /// Reads what is there. Not async, so that the buffer is on the stack and not in every task.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut chunk = [0; READ_CHUNK];
        let mut chunk = ReadBuf::new(&mut chunk);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut chunk))?;
        if chunk.filled().is_empty() {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        self.inbox.extend_from_slice(chunk.filled());
        Poll::Ready(Ok(()))
    }

    fn next_packet_id(&mut self) -> NonZeroU16 {
        self.last_packet_id = self.last_packet_id.checked_add(1).unwrap_or(NonZeroU16::MIN);
        self.last_packet_id
    }
}

fn of_publish(publish: Publish) -> Incoming {
    Incoming::Publish {
        topic: publish.topic.to_string(),
        payload: publish.payload,
        packet_id: publish.packet_id,
    }
}

fn of_v3(packet: v3::Packet) -> Incoming {
    match packet {
        v3::Packet::Publish(publish) => of_publish(*publish),
        v3::Packet::PublishAck { packet_id } => Incoming::PubAck(packet_id),
        v3::Packet::ConnectAck(ack) => {
            let accepted = ack.return_code == v3::ConnectAckReason::ConnectionAccepted;
            Incoming::Login((!accepted).then(|| ack.return_code.reason()))
        }
        _ => Incoming::Other,
    }
}

fn of_v5(packet: v5::Packet) -> Incoming {
    match packet {
        v5::Packet::Publish(publish) => of_publish(*publish),
        // Whatever is below 128 is a success.
        v5::Packet::PublishAck(ack) if (ack.reason_code as u8) < 128 => Incoming::PubAck(ack.packet_id),
        v5::Packet::PublishAck(ack) => Incoming::Refused(ack.packet_id),
        v5::Packet::ConnectAck(ack) => {
            let accepted = ack.reason_code == v5::ConnectAckReason::Success;
            Incoming::Login((!accepted).then(|| ack.reason_code.reason()))
        }
        v5::Packet::Disconnect(_) => Incoming::Goodbye,
        _ => Incoming::Other,
    }
}
