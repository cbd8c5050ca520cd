//! The accept loop of all ports: who is let in, and what carries the connection, one task per connection.
//!
//! The order of things: a load balancer's header, the first byte, TLS, the first byte within, WebSocket.

mod stream;

pub use stream::{Secure, Stream};

use crate::gate::{Gate, Pass};
use crate::networks::Networks;
use crate::turnstile::Turnstile;
use crate::{proxy, websocket};
use futures_util::FutureExt as _;
use rustls::ServerConfig;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, Interest};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

/// The first byte of every TLS connection: a handshake record. No HTTP method and no MQTT packet starts so.
const TLS_HANDSHAKE: u8 = 0x16;
/// The first byte of every connection of MQTT: a CONNECT.
const MQTT_CONNECT: u8 = 0x10;
/// The first byte of a request that opens a WebSocket: that of `GET`.
const HTTP_GET: u8 = b'G';
/// How long to wait when the process has no descriptor left.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

/// What is spoken on a port, by TLS or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    /// Something of which the first byte tells nothing.
    Anything,
    /// MQTT, as it is or over WebSocket.
    Mqtt,
    /// The same, by TLS only.
    MqttByTls,
    /// MQTT over WebSocket only.
    MqttOverWebSocket,
}

impl Speaks {
    /// Whether a connection may begin so.
    fn begins(self, first: u8) -> bool {
        first == TLS_HANDSHAKE || self != Self::MqttByTls && self.says(first)
    }

    /// Whether what is said may begin so, within TLS or without.
    fn says(self, first: u8) -> bool {
        match self {
            Self::Anything => true,
            Self::Mqtt | Self::MqttByTls => matches!(first, MQTT_CONNECT | HTTP_GET),
            Self::MqttOverWebSocket => first == HTTP_GET,
        }
    }
}

/// A port.
#[derive(Debug, Clone)]
pub struct Port {
    /// What is spoken there.
    pub speaks: Speaks,
    /// How TLS is spoken; `None`: not at all.
    pub tls: Option<Arc<ServerConfig>>,
    /// Its limits.
    pub limits: Limits,
    /// Its limits per address.
    pub gate: Arc<Gate>,
    /// The load balancers, which begin with a header of the PROXY protocol.
    pub proxies: Arc<Networks>,
    /// What holds back a storm of connections; `None`: nothing.
    pub turnstile: Option<Arc<Turnstile>>,
}

impl Port {
    /// A port without TLS and load balancers.
    pub fn plain(speaks: Speaks, gate: Arc<Gate>) -> Self {
        Self { speaks, tls: None, limits: Limits::default(), gate, proxies: Arc::default(), turnstile: None }
    }

    fn is_websocket(&self, first: u8) -> bool {
        self.speaks != Speaks::Anything && first == HTTP_GET
    }
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
    port: Port,
    mut shutdown: watch::Receiver<bool>,
    handler: H,
) -> usize
where
    H: Fn(Stream, Peer, Pass) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let drain = port.limits.drain;
    let port = Arc::new(port);
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
                // A balancer's own address says nothing: whom its connection is of, its header tells.
                let pass = if port.proxies.covers(remote.ip()) {
                    None
                } else {
                    let Some(pass) = port.gate.enter(remote.ip()) else { continue };
                    Some(pass)
                };
                let (port, stopping) = (Arc::clone(&port), shutdown.clone());
                let ready = ready(stream, remote, port, pass, stopping);
                tokio::spawn(attend(ready, handler.clone(), open.clone()));
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
    let _ = timeout(drain, ended.recv()).await;
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

/// A connection's task, which holds `open` to its end.
///
/// What comes before the handler is in a box from the outset: an async block keeps room to its end for all that it is
/// made with, and a connection is idle for weeks.
fn attend<R, H, F>(
    ready: R,
    handler: H,
    open: mpsc::Sender<()>,
) -> impl Future<Output = ()> + Send + use<R, H, F>
where
    R: Future<Output = Option<(Stream, Peer, Pass)>> + Send,
    H: Fn(Stream, Peer, Pass) -> F + Send,
    F: Future<Output = ()> + Send,
{
    let ready = Box::pin(ready);
    async move {
        let _open = open;
        let Some((stream, peer, pass)) = ready.await else { return };
        handler(stream, peer, pass).await;
    }
}

/// What the handler is given, unless the connection has nothing to say before a stop.
async fn ready(
    stream: TcpStream,
    remote: SocketAddr,
    port: Arc<Port>,
    pass: Option<Pass>,
    mut stopping: watch::Receiver<bool>,
) -> Option<(Stream, Peer, Pass)> {
    tokio::select! {
        // Who has said a word is served, also if the stop comes at the same moment.
        biased;
        ready = prepare(stream, remote, &port, pass) => ready,
        // A connection that has not said a word yet does not hold up the stop.
        _ = stopping.wait_for(|stop| *stop) => None,
    }
}

/// Finds out whose connection it is and what carries it, up to where the port's protocol begins. `pass`: of who
/// is let in already; a load balancer's client is only after its header.
async fn prepare(
    mut stream: TcpStream,
    remote: SocketAddr,
    port: &Port,
    pass: Option<Pass>,
) -> Option<(Stream, Peer, Pass)> {
    let limit = port.limits.handshake;
    let mut peer =
        Peer { remote: canonical(remote), local: canonical(stream.local_addr().ok()?), tls: false };
    // Answers are small and waited for.
    let _ = stream.set_nodelay(true);
    let pass = if let Some(pass) = pass {
        pass
    } else {
        Box::pin(ends(&mut stream, &mut peer, port)).await?;
        port.gate.enter(peer.remote.ip())?
    };
    let mut first = [0];
    match timeout(limit, stream.peek(&mut first)).await {
        Ok(Ok(1)) => {}
        // Closed again (health checks of load balancers do that), broken, or silent.
        _ => return None,
    }
    let remote = peer.remote;
    if !port.speaks.begins(first[0]) {
        tracing::debug!(%remote, first = first[0], "refused: it begins with nothing that is spoken on this port");
        return None;
    }
    // Before the work begins, and after it is clear that there is some: silence and nonsense take nobody's turn.
    if let Some(turnstile) = &port.turnstile
        && !turnstile.admit(|| has_hung_up(&stream)).await
    {
        return None;
    }
    let stream = match first {
        [TLS_HANDSHAKE] => {
            peer.tls = true;
            // Boxed, so that those who wait do not carry the space that a handshake needs.
            Box::pin(tls(stream, &peer, port)).await?
        }
        [first] if port.is_websocket(first) => {
            Box::pin(websocket(Stream::Plain(stream), &peer, limit)).await?
        }
        _ => Stream::Plain(stream),
    };
    Some((stream, peer, pass))
}

/// Does the TLS handshake, and what comes within it.
async fn tls(stream: TcpStream, peer: &Peer, port: &Port) -> Option<Stream> {
    let (remote, limit) = (peer.remote, port.limits.handshake);
    let Some(config) = &port.tls else {
        tracing::debug!(%remote, "refused: TLS is off on this port");
        return None;
    };
    let mut stream = match timeout(limit, TlsAcceptor::from(Arc::clone(config)).accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%remote, %error, "TLS handshake failed");
            return None;
        }
        Err(_) => {
            tracing::debug!(%remote, "TLS handshake took too long");
            return None;
        }
    };
    if port.speaks == Speaks::Anything {
        return Some(Stream::Tls(Box::new(Secure::new(stream, None))));
    }
    let first = timeout(limit, stream.read_u8()).await.ok()?.ok()?;
    if !port.speaks.says(first) {
        tracing::debug!(%remote, first, "refused: within TLS it begins with nothing that is spoken on this port");
        return None;
    }
    let stream = Stream::Tls(Box::new(Secure::new(stream, Some(first))));
    if port.is_websocket(first) { websocket(stream, peer, limit).await } else { Some(stream) }
}

/// Whether the other side has closed the connection, as far as the system has told.
fn has_hung_up(stream: &TcpStream) -> bool {
    let ready = stream.ready(Interest::READABLE).now_or_never();
    ready.is_some_and(|ready| ready.is_ok_and(|ready| ready.is_read_closed()))
}

/// Reads the header of a load balancer, and takes over what it says.
async fn ends(stream: &mut TcpStream, peer: &mut Peer, port: &Port) -> Option<()> {
    let balancer = peer.remote;
    match timeout(port.limits.handshake, proxy::read(stream)).await {
        Ok(Ok(Some(ends))) => {
            (peer.remote, peer.local) = (canonical(ends.remote), canonical(ends.local));
            Some(())
        }
        Ok(Ok(None)) => Some(()),
        // A balancer that looks whether the port is open.
        Ok(Err(proxy::Refused::Broken(_))) => None,
        Ok(Err(why)) => {
            metrics::counter!("updraft_proxy_headers_refused_total").increment(1);
            if port.gate.first_refusal(balancer.ip()) {
                tracing::warn!(%balancer, %why, "a connection from `proxy_protocol_from` is refused; said once a minute");
            }
            None
        }
        Err(_) => {
            tracing::debug!(%balancer, "no PROXY header in time");
            None
        }
    }
}

/// Does the handshake of a WebSocket.
async fn websocket(stream: Stream, peer: &Peer, limit: Duration) -> Option<Stream> {
    let remote = peer.remote;
    match timeout(limit, websocket::accept(stream)).await {
        Ok(Ok(socket)) => Some(Stream::WebSocket(Box::new(socket))),
        Ok(Err(why)) => {
            tracing::debug!(%remote, %why, "WebSocket handshake failed");
            None
        }
        Err(_) => {
            tracing::debug!(%remote, "WebSocket handshake took too long");
            None
        }
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt as _;

    #[tokio::test]
    async fn a_panic_ends_one_connection_and_shutdown_waits_for_the_rest() {
        let listener = TcpListener::bind("[::]:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (stop, stopped) = watch::channel(false);
        let server = tokio::spawn(serve(
            listener,
            Port::plain(Speaks::Anything, Gate::open()),
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
    async fn a_connection_that_waits_for_its_turn_is_small() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let port = Port::plain(Speaks::Mqtt, Gate::open());
        let remote = listener.local_addr().unwrap();
        let bytes = size_of_val(&prepare(stream, remote, &port, None));
        assert!(bytes <= 1_536, "{bytes}");
    }

    #[tokio::test]
    async fn the_beginning_of_a_connection_leaves_no_room_behind() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let remote = listener.local_addr().unwrap();
        let stream = TcpStream::connect(remote).await.unwrap();
        let port = Arc::new(Port::plain(Speaks::Mqtt, Gate::open()));
        let (open, (_stop, stopping)) = (mpsc::channel(1).0, watch::channel(false));
        let ready = ready(stream, remote, port, None, stopping);
        let bytes = size_of_val(&attend(ready, |_, _, _| std::future::ready(()), open));
        assert!(bytes <= 64, "{bytes} of an idle session's 2.5 KiB (docs/performance.md) are no handler's");
    }

    #[tokio::test]
    async fn a_silent_connection_is_closed_in_time() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let limits = Limits { handshake: Duration::from_millis(20), drain: Duration::from_secs(5) };
        let port = Port { limits, ..Port::plain(Speaks::Mqtt, Gate::open()) };
        let server = tokio::spawn(serve(listener, port, stopped, |_, _, _| async {}));
        let mut silent = TcpStream::connect(address).await.unwrap();
        assert_eq!(silent.read(&mut [0]).await.unwrap(), 0);
        drop(stop);
        assert_eq!(server.await.unwrap(), 0);
    }
}
