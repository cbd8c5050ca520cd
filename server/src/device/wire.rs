//! One connection's bytes: MQTT packets in and out, without a buffer while idle.
//!
//! Bytes are read into one buffer per thread; a connection keeps only what is not a whole packet yet. The
//! codec reserves the length that a packet announces, so packets are cut out here, against a limit, and the
//! codec sees whole ones only.

use super::aliases::Aliases;
use super::packet::{self, Inbound, Outbound, Reason, Terms, Version};
use crate::net::Stream;
use bytes::{Buf, BytesMut};
use rmqtt_codec::error::{DecodeError, EncodeError};
use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::timeout;

/// Bytes taken from a socket at once; also bounds how many messages become durable together.
const READ_BYTES: usize = 64 * 1024;
/// How long a last answer may take to get out.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

thread_local! {
    static READ_BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// Bytes that are no MQTT, or not what may come now.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// A packet is longer than allowed.
    #[error("a packet of {0} bytes is too long")]
    TooLong(usize),
    /// The length of a packet has more than four bytes.
    #[error("a packet's length is malformed")]
    Length,
    /// The codec refuses the packet.
    #[error("{0}")]
    Packet(DecodeError),
    /// A CONNECT of a version that is not served.
    #[error("an unknown version of MQTT")]
    Version,
    /// An alias above those that we take.
    #[error("a topic alias that was not agreed on")]
    Alias,
    /// Neither a topic nor an alias that stands for one.
    #[error("a message without topic")]
    NoTopic,
    /// An alias for a topic that is longer than any of a device.
    #[error("a topic alias for too long a topic")]
    Topic,
}

impl From<DecodeError> for Malformed {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::UnsupportedProtocolLevel => Self::Version,
            error => Self::Packet(error),
        }
    }
}

impl Malformed {
    /// What MQTT 5 calls it.
    pub fn reason(&self) -> Reason {
        match self {
            Self::TooLong(_) => Reason::PacketTooLarge,
            Self::Length | Self::Packet(_) => Reason::Malformed,
            Self::Version | Self::NoTopic => Reason::ProtocolError,
            Self::Alias => Reason::TopicAliasInvalid,
            Self::Topic => Reason::TopicNameInvalid,
        }
    }
}

/// Why a packet is not sent.
#[derive(Debug, thiserror::Error)]
pub enum Unsent {
    /// The device takes no packet of so many bytes.
    #[error("the device takes no packet of {0} bytes")]
    TooLarge(usize),
    /// The codec refuses it.
    #[error("{0}")]
    Codec(#[from] EncodeError),
}

/// What only a connection with MQTT 5 needs.
struct Agreed {
    packet_max: u32,
    explain: bool,
    aliases: Aliases,
}

/// A connection with its incomplete input and unwritten output.
pub struct Wire {
    stream: Stream,
    /// Longest packet, without the fixed header.
    limit: usize,
    inbox: Vec<u8>,
    /// Bytes of `inbox` that are consumed.
    taken: usize,
    outbox: BytesMut,
    /// Whether everything that was written has left the TLS layer too.
    flushed: bool,
    /// Told by the first packet.
    version: Option<Version>,
    agreed: Option<Box<Agreed>>,
}

impl Wire {
    /// Wraps a connection; packets longer than `limit` are malformed.
    pub fn new(stream: Stream, limit: usize) -> Self {
        Self {
            stream,
            limit,
            inbox: Vec::new(),
            taken: 0,
            outbox: BytesMut::new(),
            flushed: true,
            version: None,
            agreed: None,
        }
    }

    /// The version that the device speaks, or 3.x as long as it has not said.
    pub fn version(&self) -> Version {
        self.version.unwrap_or(Version::V3)
    }

    /// From now on packets are as the device wants them.
    pub fn agree(&mut self, terms: Terms) {
        if self.version() == Version::V5 {
            let aliases = Aliases::new(terms.aliases);
            self.agreed =
                Some(Box::new(Agreed { packet_max: terms.packet_max, explain: terms.explain, aliases }));
        }
    }

    /// Allows longer packets.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// The first byte of the next packet.
    pub fn first_byte(&self) -> Option<u8> {
        self.inbox.get(self.taken).copied()
    }

    /// The next packet, if all of it has come.
    pub fn next_packet(&mut self) -> Result<Option<Inbound>, Malformed> {
        let rest = &self.inbox[self.taken..];
        let Some(length) = packet_length(rest, self.limit)?.filter(|length| *length <= rest.len()) else {
            self.compact();
            return Ok(None);
        };
        // A copy of its own size: the codec hands out slices, which would pin a larger buffer.
        let mut frame = BytesMut::from(&rest[..length]);
        self.taken += length;
        let version = *self.version.get_or_insert_with(|| version_of(&frame));
        let mut packet = packet::decode(version, &mut frame)?;
        if let (Some(Inbound::Publish(publish)), Some(agreed)) = (&mut packet, &mut self.agreed) {
            agreed.aliases.resolve(publish)?;
        }
        Ok(packet)
    }

    /// Keeps only what is not consumed, and no memory if that is nothing.
    fn compact(&mut self) {
        if self.taken == self.inbox.len() {
            self.inbox = Vec::new();
        } else {
            self.inbox.drain(..self.taken);
        }
        self.taken = 0;
    }

    /// The serial number of the certificate that the other side has proved to have.
    pub fn certificate(&self) -> Option<String> {
        self.stream.client_certificate().and_then(crate::authority::serial_of)
    }

    /// Reads what is there; 0 at the end of the stream.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        READ_BUFFER.with_borrow_mut(|buffer| {
            let mut buffer = ReadBuf::new(buffer);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
            self.inbox.extend_from_slice(buffer.filled());
            Poll::Ready(Ok(buffer.filled().len()))
        })
    }

    /// [`Wire::poll_fill`], awaited.
    pub async fn fill(&mut self) -> io::Result<usize> {
        poll_fn(|cx| self.poll_fill(cx)).await
    }

    /// Appends a packet to the output.
    pub fn put(&mut self, packet: Outbound) -> Result<(), Unsent> {
        let mut outbox = std::mem::take(&mut self.outbox);
        let put = self.encode(packet, &mut outbox);
        self.outbox = outbox;
        put
    }

    /// Appends a packet to bytes that will be put next.
    pub fn encode(&mut self, mut packet: Outbound, out: &mut BytesMut) -> Result<(), Unsent> {
        let (version, before) = (self.version(), out.len());
        let mut new_alias = None;
        if let (Outbound::Message(message), Some(agreed)) = (&mut packet, &self.agreed)
            && let Some((alias, known)) = agreed.aliases.of(&message.topic)
        {
            message.alias = Some(alias);
            if known {
                message.topic = String::new();
            } else {
                new_alias = Some(message.topic.clone());
            }
        }
        let encoded = packet::encode(version, packet, out);
        let length = out.len() - before;
        let unsent = match (encoded, &mut self.agreed) {
            (Err(error), _) => Err(error.into()),
            (Ok(()), Some(agreed)) if length > agreed.packet_max as usize => Err(Unsent::TooLarge(length)),
            (Ok(()), Some(agreed)) => {
                if let Some(topic) = &new_alias {
                    agreed.aliases.told(topic);
                }
                Ok(())
            }
            (Ok(()), None) => Ok(()),
        };
        if unsent.is_err() {
            out.truncate(before);
        }
        unsent
    }

    /// Appends encoded packets to the output.
    pub fn put_bytes(&mut self, bytes: BytesMut) {
        self.outbox.unsplit(bytes);
    }

    /// Whether the device wants explanations.
    pub fn explains(&self) -> bool {
        self.agreed.as_ref().is_some_and(|agreed| agreed.explain)
    }

    /// Bytes that wait to be written.
    pub fn backlog(&self) -> usize {
        self.outbox.len()
    }

    /// Whether nothing waits to be written.
    pub fn is_drained(&self) -> bool {
        self.outbox.is_empty() && self.flushed
    }

    /// Writes what waits.
    pub fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outbox.is_empty() {
            self.flushed = false;
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.outbox))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.outbox.advance(written);
        }
        if !self.flushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.flushed = true;
            self.outbox = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }

    /// Writes what waits and says goodbye, if the other side takes it soon.
    pub async fn close(mut self) {
        let goodbye = async {
            poll_fn(|cx| self.poll_drain(cx)).await?;
            self.stream.shutdown().await
        };
        // The connection is over either way.
        let _ = timeout(CLOSE_WITHIN, goodbye).await;
    }
}

/// The version that a CONNECT is written in; what is none of them the codec refuses.
fn version_of(frame: &[u8]) -> Version {
    // The fixed header ends with the first byte of the length that has no successor.
    let header = 2 + frame.iter().skip(1).take_while(|byte| **byte & 0x80 != 0).count();
    let level =
        frame.get(header..).and_then(|body| body.strip_prefix(b"\x00\x04MQTT")).and_then(<[u8]>::first);
    match level {
        // Later versions hear what 5 would say. A bridge sets the highest bit, and hopes for an answer of MQTT 3.
        Some(5..=0x7f) => Version::V5,
        _ => Version::V3,
    }
}

/// The length of the first packet with its fixed header; `None` if too little has come to tell.
fn packet_length(bytes: &[u8], limit: usize) -> Result<Option<usize>, Malformed> {
    let mut length = 0;
    for (place, byte) in bytes.iter().skip(1).take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * place);
        if length > limit {
            return Err(Malformed::TooLong(length));
        }
        if byte & 0x80 == 0 {
            return Ok(Some(2 + place + length));
        }
    }
    if bytes.len() > 4 { Err(Malformed::Length) } else { Ok(None) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths() {
        for (bytes, expected) in [
            (&[][..], None),
            (&[0x30], None),
            (&[0x30, 0x80], None),
            (&[0x30, 0x80, 0x80, 0x80], None),
            (&[0x30, 0], Some(2)),
            (&[0x30, 0x7f], Some(129)),
            (&[0x30, 0x80, 0x01], Some(131)),
            (&[0x30, 0x80, 0x80, 0x00], Some(4)),
            (&[0x30, 0xe8, 0x07, 9, 9], Some(1_003)),
        ] {
            assert_eq!(packet_length(bytes, 1_000).unwrap(), expected, "{bytes:?}");
        }
        for bytes in [&[0x30, 0xe9, 0x07][..], &[0x30, 0xff, 0x7f], &[0x10, 0xff, 0xff, 0xff, 0x7f]] {
            assert!(matches!(packet_length(bytes, 1_000), Err(Malformed::TooLong(_))), "{bytes:?}");
        }
        assert!(matches!(packet_length(&[0x30, 0x80, 0x80, 0x80, 0x80], 1_000), Err(Malformed::Length)));
    }
}
