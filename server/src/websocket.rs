//! MQTT over WebSocket: the opening handshake, and a stream of the bytes that are in the frames.
//!
//! Any path and any origin will do: who may come in is for MQTT to decide. The subprotocol is `mqtt` or
//! `mqttv3.1`; a client that names none is let in, too. An idle connection has no buffer.

mod frames;

use crate::net::Stream;
use frames::{Ended, Frames};
use http::{HeaderValue, StatusCode, Version};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tungstenite::handshake::machine::TryParse as _;
use tungstenite::handshake::server::{Request, create_response, write_response};
use tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tungstenite::protocol::frame::{CloseFrame, Frame, FrameHeader};

/// The longest head of a request that opens a connection.
pub const HEAD_BYTES_MAX: usize = 8 * 1024;
/// What is read of a head at once.
const HEAD_STEP_BYTES: usize = 1_024;
/// The longest payload of a frame that we send; longer messages take several messages of WebSocket.
const FRAME_BYTES_MAX: usize = 16 * 1024;
/// The subprotocols that mean MQTT, the better ones first.
const SUBPROTOCOLS: [&str; 2] = ["mqtt", "mqttv3.1"];

/// Why a connection does not become a WebSocket.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It broke.
    #[error("the connection broke within the handshake: {0}")]
    Broken(#[from] io::Error),
    /// The head is longer than [`HEAD_BYTES_MAX`].
    #[error("the head of the request is longer than {HEAD_BYTES_MAX} bytes")]
    TooLong,
    /// It is no request that opens a WebSocket.
    #[error("no request for a WebSocket: {0}")]
    Request(#[from] tungstenite::Error),
    /// It asks for other protocols.
    #[error("none of the offered subprotocols is `mqtt` or `mqttv3.1`")]
    Subprotocol,
    /// Bytes followed the request before it was answered.
    #[error("the client did not wait for the answer")]
    Early,
}

/// The bytes in the frames of a WebSocket.
#[derive(Debug)]
pub struct WebSocket {
    stream: Stream,
    frames: Frames,
    /// Frames to be written, and how many bytes of them are.
    out: Vec<u8>,
    written: usize,
    goodbye: Goodbye,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goodbye {
    NotYet,
    Due(CloseCode),
    Said,
}

/// Answers the request that a connection begins with. Takes as long as the client lets it: the caller has the time
/// limit. A request that is refused is told so.
pub async fn accept(mut stream: Stream) -> Result<WebSocket, Refused> {
    let answer = match open(&mut stream).await {
        Ok(answer) => answer,
        Err(Refused::Broken(error)) => return Err(error.into()),
        Err(refused) => {
            let text = format!("This is a port for devices that speak MQTT; {refused}.\n");
            let answer = format!(
                "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{text}",
                text.len()
            );
            stream.write_all(answer.as_bytes()).await?;
            let _ = stream.shutdown().await;
            return Err(refused);
        }
    };
    stream.write_all(&answer).await?;
    stream.flush().await?;
    let goodbye = Goodbye::NotYet;
    Ok(WebSocket { stream, frames: Frames::default(), out: Vec::new(), written: 0, goodbye })
}

/// Reads the request; the answer that opens the connection.
async fn open(stream: &mut Stream) -> Result<Vec<u8>, Refused> {
    let mut head = Vec::new();
    let request = loop {
        if head.len() >= HEAD_BYTES_MAX {
            return Err(Refused::TooLong);
        }
        if stream.take(HEAD_STEP_BYTES as u64).read_buf(&mut head).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        match Request::try_parse(&head)? {
            Some((length, request)) if length == head.len() => break request,
            Some(_) => return Err(Refused::Early),
            None => {}
        }
    };
    let mut response = create_response(&request)?;
    *response.version_mut() = Version::HTTP_11;
    debug_assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    if let Some(protocol) = subprotocol(&request)? {
        response.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static(protocol));
    }
    let mut answer = Vec::new();
    write_response(&mut answer, &response)?;
    Ok(answer)
}

/// The subprotocol to agree on, if the client wants to.
fn subprotocol(request: &Request) -> Result<Option<&'static str>, Refused> {
    let offered = request.headers().get_all("Sec-WebSocket-Protocol");
    let names: Vec<&str> =
        offered.iter().filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(',')).collect();
    if names.is_empty() {
        return Ok(None);
    }
    let agreed = SUBPROTOCOLS.into_iter().find(|ours| names.iter().any(|name| name.trim() == *ours));
    agreed.map(Some).ok_or(Refused::Subprotocol)
}

impl WebSocket {
    /// The connection beneath.
    pub fn carrier(&self) -> &Stream {
        &self.stream
    }

    fn append(&mut self, frame: Frame) {
        // Writing to a vector does not fail.
        let _ = frame.format(&mut self.out);
    }

    /// Writes the frames that wait, then an answer to a ping, then the goodbye.
    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            while self.written < self.out.len() {
                let count = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.out[self.written..]))?;
                if count == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.written += count;
            }
            (self.out, self.written) = (Vec::new(), 0);
            match (self.frames.ping.take(), self.goodbye) {
                (_, Goodbye::Said) | (None, Goodbye::NotYet) => return Poll::Ready(Ok(())),
                (Some(ping), _) => self.append(Frame::pong(ping)),
                (None, Goodbye::Due(code)) => {
                    self.goodbye = Goodbye::Said;
                    self.append(Frame::close(Some(CloseFrame { code, reason: "".into() })));
                }
            }
        }
    }

    /// [`WebSocket::poll_out`] beside the reading, which goes on whether the other side takes something or not.
    fn push_out(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.out.is_empty() && self.frames.ping.is_none() && !matches!(self.goodbye, Goodbye::Due(_)) {
            return Ok(());
        }
        match self.poll_out(cx)? {
            Poll::Pending => Ok(()),
            Poll::Ready(()) => match Pin::new(&mut self.stream).poll_flush(cx) {
                Poll::Ready(Err(error)) => Err(error),
                _ => Ok(()),
            },
        }
    }

    fn say_goodbye(&mut self, code: CloseCode) {
        if self.goodbye == Goodbye::NotYet {
            self.goodbye = Goodbye::Due(code);
        }
    }
}

impl AsyncRead for WebSocket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            this.push_out(cx)?;
            match this.frames.ended {
                None => {}
                Some(Ended::Closed) => return Poll::Ready(Ok(())),
                Some(Ended::Violated(_, what)) => {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, what)));
                }
            }
            let room = buf.initialize_unfilled();
            let mut raw = ReadBuf::new(room);
            ready!(Pin::new(&mut this.stream).poll_read(cx, &mut raw))?;
            let count = raw.filled().len();
            if count == 0 {
                return Poll::Ready(Ok(()));
            }
            let made = this.frames.take(&mut room[..count]);
            if let Some(ended) = this.frames.ended {
                this.say_goodbye(ended.code());
            }
            if made > 0 {
                buf.advance(made);
                this.push_out(cx)?;
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncWrite for WebSocket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_out(cx))?;
        if this.goodbye != Goodbye::NotYet {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let chunk = &buf[..buf.len().min(FRAME_BYTES_MAX)];
        let opcode = OpCode::Data(Data::Binary);
        let header = FrameHeader { opcode, ..FrameHeader::default() };
        let _ = header.format(chunk.len() as u64, &mut this.out);
        this.out.extend_from_slice(chunk);
        // What the system does not take now waits for the next call.
        if let Poll::Ready(Err(error)) = this.poll_out(cx) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(chunk.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_out(cx))?;
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.say_goodbye(CloseCode::Normal);
        ready!(this.poll_out(cx))?;
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}
