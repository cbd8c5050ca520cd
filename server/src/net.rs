//! The accept loop of both ports: plain or TLS by the first byte, one task per connection.

use crate::gate::{Gate, Pass};
use rustls::ServerConfig;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// The first byte of every TLS connection: a handshake record. No HTTP method and no MQTT packet starts so.
const TLS_HANDSHAKE: u8 = 0x16;
/// How long to wait when the process has no descriptor left.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

/// A connection, encrypted or not.
#[derive(Debug)]
pub enum Stream {
    /// As it comes.
    Plain(TcpStream),
    /// Behind TLS; boxed, since most connections of a fleet are plain and should stay small.
    Tls(Box<TlsStream<TcpStream>>),
}

/// Who talks to whom. IPv4 addresses that a dual-stack socket shows as IPv6 are IPv4 here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// The other side.
    pub remote: SocketAddr,
    /// Our side, as the other side addressed it.
    pub local: SocketAddr,
    /// Whether the connection is encrypted.
    pub tls: bool,
}

/// The limits of a port.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Longest time from accepting a connection to its first byte, and then to the end of the TLS handshake.
    pub handshake: Duration,
    /// Longest time that open connections get to end after the shutdown signal.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { handshake: Duration::from_secs(10), drain: Duration::from_secs(10) }
    }
}

/// Accepts connections and gives each to `handler` in a task of its own, until `shutdown` turns true or its
/// sender is gone; then waits until all handlers have returned, or the time for that is over. Returns how
/// many connections were still open.
///
/// An address that the gate does not let in is cut off at once. A handler holds the pass of its connection for
/// as long as that shall count.
///
/// Handlers learn of a shutdown by their own means. A handler that panics ends its own connection only.
pub async fn serve<H, F>(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    limits: Limits,
    gate: Arc<Gate>,
    mut shutdown: watch::Receiver<bool>,
    handler: H,
) -> usize
where
    H: Fn(Stream, Peer, Pass) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    // Each task holds a sender and drops it at its end, whatever the end is.
    let (open, mut ended) = mpsc::channel::<()>(1);
    let mut starved = false;
    loop {
        let accepted = tokio::select! {
            biased;
            _ = shutdown.wait_for(|stop| *stop) => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, remote)) => {
                starved = false;
                let Some(pass) = gate.enter(remote.ip()) else { continue };
                let (tls, handler, open) = (tls.clone(), handler.clone(), open.clone());
                let mut stopping = shutdown.clone();
                tokio::spawn(async move {
                    let stopped = async move { stopping.wait_for(|stop| *stop).await.map(|_| ()) };
                    // A connection that has not said a word yet does not hold up the stop.
                    let ready = tokio::select! {
                        ready = Box::pin(prepare(stream, remote, tls, limits.handshake)) => ready,
                        _ = Box::pin(stopped) => None,
                    };
                    if let Some((stream, peer)) = ready {
                        handler(stream, peer, pass).await;
                    }
                    drop(open);
                });
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                // Said once per shortage, not once per attempt.
                if !starved {
                    tracing::error!(%error, "cannot accept connections; trying again");
                }
                starved = true;
                sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
    drop(listener);
    let left = |open: &mpsc::Sender<()>| open.strong_count() - 1;
    tracing::debug!(connections = left(&open), "waiting for connections to end");
    let weak = open.downgrade();
    drop(open);
    // Nothing is ever sent: `recv` returns when the last sender is gone.
    let _ = timeout(limits.drain, ended.recv()).await;
    weak.strong_count()
}

/// Whether an error of `accept` concerns a single connection that is gone already.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

/// Looks at the first byte and does the TLS handshake if it asks for one.
async fn prepare(
    stream: TcpStream,
    remote: SocketAddr,
    tls: Option<Arc<ServerConfig>>,
    limit: Duration,
) -> Option<(Stream, Peer)> {
    let remote = canonical(remote);
    let local = canonical(stream.local_addr().ok()?);
    // Answers are small and waited for.
    let _ = stream.set_nodelay(true);
    let mut first = [0];
    match timeout(limit, stream.peek(&mut first)).await {
        Ok(Ok(1)) => {}
        // Closed again (health checks of load balancers do that), broken, or silent.
        _ => return None,
    }
    if first != [TLS_HANDSHAKE] {
        return Some((Stream::Plain(stream), Peer { remote, local, tls: false }));
    }
    let Some(config) = tls else {
        tracing::debug!(%remote, "refused: TLS is off on this port");
        return None;
    };
    match timeout(limit, TlsAcceptor::from(config).accept(stream)).await {
        Ok(Ok(stream)) => Some((Stream::Tls(Box::new(stream)), Peer { remote, local, tls: true })),
        Ok(Err(error)) => {
            tracing::debug!(%remote, %error, "TLS handshake failed");
            None
        }
        Err(_) => {
            tracing::debug!(%remote, "TLS handshake took too long");
            None
        }
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn a_panic_ends_one_connection_and_shutdown_waits_for_the_rest() {
        let listener = TcpListener::bind("[::]:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (stop, stopped) = watch::channel(false);
        let gate = Gate::open();
        let server = tokio::spawn(serve(
            listener,
            None,
            Limits::default(),
            gate,
            stopped,
            |stream, peer, _| async move {
                let mut stream = stream;
                let byte = stream.read_u8().await.unwrap();
                assert_ne!(byte, b'!', "told to panic");
                if byte == b'w' {
                    stream.write_all(b".").await.unwrap();
                    stream.read_u8().await.unwrap();
                }
                let line = format!("{} {}", peer.local.ip(), peer.tls);
                stream.write_all(line.as_bytes()).await.unwrap();
            },
        ));
        let connect = || TcpStream::connect(("127.0.0.1", port));
        let mut text = String::new();
        let mut bad = connect().await.unwrap();
        bad.write_all(b"!").await.unwrap();
        // Ended without an answer.
        let _ = bad.read_to_string(&mut text).await;
        assert_eq!(text, "");
        // TLS is off here.
        let mut tls = connect().await.unwrap();
        tls.write_all(&[TLS_HANDSHAKE]).await.unwrap();
        let _ = tls.read_to_string(&mut text).await;
        assert_eq!(text, "");
        let mut silent = connect().await.unwrap();
        let mut late = connect().await.unwrap();
        late.write_all(b"w").await.unwrap();
        assert_eq!(late.read_u8().await.unwrap(), b'.', "it is being served");
        let mut good = connect().await.unwrap();
        good.write_all(b"x").await.unwrap();
        good.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "127.0.0.1 false");
        stop.send(true).unwrap();
        text.clear();
        // Who has not said a word is not waited for.
        let _ = silent.read_to_string(&mut text).await;
        assert_eq!(text, "");
        late.write_all(b"x").await.unwrap();
        late.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "127.0.0.1 false");
        assert_eq!(server.await.unwrap(), 0);
        assert!(connect().await.is_err());
    }

    #[tokio::test]
    async fn a_silent_connection_is_closed_in_time() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let limits = Limits { handshake: Duration::from_millis(20), drain: Duration::from_secs(5) };
        let server = tokio::spawn(serve(listener, None, limits, Gate::open(), stopped, |_, _, _| async {}));
        let mut silent = TcpStream::connect(address).await.unwrap();
        assert_eq!(silent.read(&mut [0]).await.unwrap(), 0);
        drop(stop);
        assert_eq!(server.await.unwrap(), 0);
    }
}
