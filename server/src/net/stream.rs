//! A connection, whatever carries it.

use crate::websocket::WebSocket;
use rustls::pki_types::CertificateDer;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// A connection, encrypted or not, with or without WebSocket.
#[derive(Debug)]
pub enum Stream {
    /// As it comes.
    Plain(TcpStream),
    /// Behind TLS; boxed, since most connections of a fleet are plain and should stay small.
    Tls(Box<Secure>),
    /// In the frames of a WebSocket over one of the others.
    WebSocket(Box<WebSocket>),
}

impl Stream {
    /// The certificate that the client showed and the handshake verified.
    pub fn client_certificate(&self) -> Option<&CertificateDer<'static>> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(secure) => secure.stream.get_ref().1.peer_certificates()?.first(),
            Self::WebSocket(socket) => socket.carrier().client_certificate(),
        }
    }
}

/// A TLS connection of which one byte was read ahead.
#[derive(Debug)]
pub struct Secure {
    stream: TlsStream<TcpStream>,
    first: Option<u8>,
}

impl Secure {
    /// A connection whose next byte is `first`, if that was read.
    pub fn new(stream: TlsStream<TcpStream>, first: Option<u8>) -> Self {
        Self { stream, first }
    }
}

impl AsyncRead for Secure {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if buf.remaining() > 0
            && let Some(first) = this.first.take()
        {
            buf.put_slice(&[first]);
            // The rest has mostly come with it; if not, its time comes with the next reading.
            return match Pin::new(&mut this.stream).poll_read(cx, buf) {
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                _ => Poll::Ready(Ok(())),
            };
        }
        Pin::new(&mut this.stream).poll_read(cx, buf)
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(secure) => Pin::new(secure.as_mut()).poll_read(cx, buf),
            Self::WebSocket(socket) => Pin::new(socket.as_mut()).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(secure) => Pin::new(&mut secure.stream).poll_write(cx, buf),
            Self::WebSocket(socket) => Pin::new(socket.as_mut()).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(secure) => Pin::new(&mut secure.stream).poll_flush(cx),
            Self::WebSocket(socket) => Pin::new(socket.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(secure) => Pin::new(&mut secure.stream).poll_shutdown(cx),
            Self::WebSocket(socket) => Pin::new(socket.as_mut()).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(secure) => Pin::new(&mut secure.stream).poll_write_vectored(cx, bufs),
            Self::WebSocket(socket) => Pin::new(socket.as_mut()).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(secure) => secure.stream.is_write_vectored(),
            Self::WebSocket(_) => false,
        }
    }
}
