//! A minimal MQTT 3.1.1 client: one TCP connection, no buffers while it is idle.

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::time::Duration;

use bytes::BytesMut;
use rmqtt_codec::types::Publish;
use rmqtt_codec::v3::{Codec, Connect, ConnectAckReason, Packet, QoS};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_util::codec::{Decoder, Encoder};
use updraft_fleet::{ConnectInfo, Qos};

/// The largest packet that is accepted; pushes with many files are a few KiB.
const PACKET_MAX: u32 = 512 * 1024;
const READ_CHUNK: usize = 4 * 1024;

/// An open session.
#[derive(Debug)]
pub(super) struct Wire {
    stream: TcpStream,
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
    pub(super) async fn open(addr: SocketAddr, info: ConnectInfo, io_timeout: Duration) -> io::Result<Self> {
        timeout(io_timeout, Self::open_unhurried(addr, info, io_timeout)).await?
    }

    async fn open_unhurried(addr: SocketAddr, info: ConnectInfo, io_timeout: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        let mut wire = Self {
            stream,
            codec: Codec::new(PACKET_MAX),
            inbox: BytesMut::new(),
            last_sent: Instant::now(),
            last_packet_id: NonZeroU16::MAX,
            io_timeout,
        };
        let connect = Connect {
            clean_session: info.clean_session,
            keep_alive: info.keepalive_s,
            client_id: info.client_id.into(),
            username: Some(info.username.into()),
            password: Some(info.password.into()),
            ..Connect::default()
        };
        wire.send(connect.into()).await?;
        match wire.recv().await? {
            Packet::ConnectAck(ack) if ack.return_code == ConnectAckReason::ConnectionAccepted => Ok(wire),
            Packet::ConnectAck(ack) => {
                Err(io::Error::new(io::ErrorKind::PermissionDenied, ack.return_code.reason()))
            }
            _ => Err(broken("the first packet is no CONNACK")),
        }
    }

    /// When something was last sent.
    pub(super) fn last_sent(&self) -> Instant {
        self.last_sent
    }

    pub(super) async fn send(&mut self, packet: Packet) -> io::Result<()> {
        let mut bytes = BytesMut::new();
        self.codec.encode(packet, &mut bytes).map_err(broken)?;
        self.last_sent = Instant::now();
        timeout(self.io_timeout, self.stream.write_all(&bytes)).await?
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
        let publish = Publish {
            dup: false,
            retain: false,
            qos,
            topic: topic.into(),
            packet_id,
            payload: payload.into(),
            properties: None,
        };
        self.send(publish.into()).await?;
        Ok(packet_id)
    }

    pub(super) async fn subscribe(&mut self, topics: Vec<String>) -> io::Result<()> {
        let packet_id = self.next_packet_id();
        let topic_filters = topics.into_iter().map(|topic| (topic.into(), QoS::AtLeastOnce)).collect();
        self.send(Packet::Subscribe { packet_id, topic_filters }).await
    }

    /// Acknowledges a publication, if it wants that.
    pub(super) async fn acknowledge(&mut self, publish: &Publish) -> io::Result<()> {
        match publish.packet_id {
            Some(packet_id) => self.send(Packet::PublishAck { packet_id }).await,
            None => Ok(()),
        }
    }

    /// The next packet. May be dropped and called again without losing anything.
    pub(super) async fn recv(&mut self) -> io::Result<Packet> {
        loop {
            if let Some((packet, _)) = self.codec.decode(&mut self.inbox).map_err(broken)? {
                if self.inbox.is_empty() {
                    self.inbox = BytesMut::new();
                }
                return Ok(packet);
            }
            self.stream.readable().await?;
            self.read_some()?;
        }
    }

    /// Reads what is there. Not async, so that the buffer is on the stack and not in every task.
    fn read_some(&mut self) -> io::Result<()> {
        let mut chunk = [0; READ_CHUNK];
        match self.stream.try_read(&mut chunk) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(len) => {
                self.inbox.extend_from_slice(&chunk[..len]);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn next_packet_id(&mut self) -> NonZeroU16 {
        self.last_packet_id = self.last_packet_id.checked_add(1).unwrap_or(NonZeroU16::MIN);
        self.last_packet_id
    }
}
