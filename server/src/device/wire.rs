//! One connection's bytes: MQTT packets in and out, without a buffer while idle.
//!
//! Bytes are read into one buffer per thread; a connection keeps only what is not a whole packet yet. The
//! codec reserves the length that a packet announces, so packets are cut out here, against a limit, and the
//! codec sees whole ones only.

use crate::net::Stream;
use bytes::{Buf, BytesMut};
use rmqtt_codec::error::{DecodeError, EncodeError};
use rmqtt_codec::v3::{Codec, Packet};
use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::timeout;
use tokio_util::codec::{Decoder, Encoder};

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
    Packet(#[from] DecodeError),
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
}

impl Wire {
    /// Wraps a connection; packets longer than `limit` are malformed.
    pub fn new(stream: Stream, limit: usize) -> Self {
        Self { stream, limit, inbox: Vec::new(), taken: 0, outbox: BytesMut::new(), flushed: true }
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
    pub fn next_packet(&mut self) -> Result<Option<Packet>, Malformed> {
        let rest = &self.inbox[self.taken..];
        let Some(length) = packet_length(rest, self.limit)?.filter(|length| *length <= rest.len()) else {
            self.compact();
            return Ok(None);
        };
        // A copy of its own size: the codec hands out slices, which would pin a larger buffer.
        let mut frame = BytesMut::from(&rest[..length]);
        self.taken += length;
        Ok(Codec::new(0).decode(&mut frame)?.map(|(packet, _)| packet))
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
    pub fn put(&mut self, packet: Packet) -> Result<(), EncodeError> {
        encode(packet, &mut self.outbox)
    }

    /// Appends encoded packets to the output.
    pub fn put_bytes(&mut self, bytes: BytesMut) {
        self.outbox.unsplit(bytes);
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

/// Appends a packet to bytes.
pub fn encode(packet: Packet, out: &mut BytesMut) -> Result<(), EncodeError> {
    Codec::new(0).encode(packet, out)
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
