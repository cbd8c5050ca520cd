//! A minimal MQTT 3.1.1 client: one connection, plain or TLS, no buffers of its own while it is idle.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use rmqtt_codec::types::Publish;
use rmqtt_codec::v3::{Codec, Connect, ConnectAckReason, Packet, QoS};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::codec::{Decoder, Encoder};
use updraft_fleet::{ConnectInfo, Qos};

/// The largest packet that is accepted; pushes with many files are a few KiB.
const PACKET_MAX: u32 = 512 * 1024;
const READ_CHUNK: usize = 4 * 1024;

/// Where a device connects to, and how.
#[derive(Debug, Clone)]
pub struct Target {
    addr: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
}

impl Target {
    /// By TLS; the server's certificate must be good for `localhost`.
    pub fn tls(addr: SocketAddr, config: Arc<ClientConfig>) -> Self {
        Self { addr, tls: Some(config) }
    }
}

impl From<SocketAddr> for Target {
    /// Plain.
    fn from(addr: SocketAddr) -> Self {
        Self { addr, tls: None }
    }
}

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    async fn open(target: &Target) -> io::Result<Self> {
        let stream = TcpStream::connect(target.addr).await?;
        stream.set_nodelay(true)?;
        let Some(config) = &target.tls else { return Ok(Self::Plain(stream)) };
        let name = ServerName::try_from("localhost").map_err(broken)?;
        let stream = TlsConnector::from(Arc::clone(config)).connect(name, stream).await?;
        Ok(Self::Tls(Box::new(stream)))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buf),
        }
    }

    async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.write_all(bytes).await,
            Self::Tls(stream) => {
                stream.write_all(bytes).await?;
                stream.flush().await
            }
        }
    }
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
    pub(super) async fn open(target: &Target, info: ConnectInfo, io_timeout: Duration) -> io::Result<Self> {
        timeout(io_timeout, Self::open_unhurried(target, info, io_timeout)).await?
    }

    async fn open_unhurried(target: &Target, info: ConnectInfo, io_timeout: Duration) -> io::Result<Self> {
        let mut wire = Self {
            stream: Stream::open(target).await?,
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
            poll_fn(|cx| self.poll_fill(cx)).await?;
        }
    }

    /// Reads what is there. Not async, so that the buffer is on the stack and not in every task.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut chunk = [0; READ_CHUNK];
        let mut chunk = ReadBuf::new(&mut chunk);
        ready!(self.stream.poll_read(cx, &mut chunk))?;
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
