//! Where devices connect to: one or several nodes, from one or several addresses of this machine, plain or by TLS.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use nix::sys::socket::{setsockopt, sockopt};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// One node of a server.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its address.
    pub addr: SocketAddr,
    /// The name that its certificate must be good for, if TLS is spoken.
    pub name: ServerName<'static>,
    /// What requests by HTTP name as its `Host`.
    pub host: String,
}

/// Where a device connects to, and how.
#[derive(Debug, Clone)]
pub struct Target {
    /// The nodes, at least one.
    nodes: Arc<[Node]>,
    /// The addresses that connections come from; none: the system chooses.
    sources: Arc<[IpAddr]>,
    tls: Option<Arc<ClientConfig>>,
    /// For downloads.
    pub(super) web: Option<Arc<ClientConfig>>,
}

impl Target {
    /// These nodes, of which there must be one; by TLS if there is a configuration for it.
    pub fn of(nodes: Vec<Node>, sources: Vec<IpAddr>, tls: Option<Arc<ClientConfig>>) -> io::Result<Self> {
        if nodes.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "there is no node to connect to"));
        }
        Ok(Self { nodes: nodes.into(), sources: sources.into(), tls, web: None })
    }

    /// Also downloads from https addresses, with this configuration, whatever the connections are.
    #[must_use]
    pub fn trusting(mut self, config: Arc<ClientConfig>) -> Self {
        self.web = Some(config);
        self
    }

    /// By TLS; the server's certificate must be good for `localhost`.
    pub fn tls(addr: SocketAddr, config: Arc<ClientConfig>) -> Self {
        Self { tls: Some(config), ..addr.into() }
    }

    /// Where connections of device number `device` come from.
    pub(super) fn source(&self, device: u64) -> Option<IpAddr> {
        let count = self.sources.len() as u64;
        device.checked_rem(count).and_then(|index| self.sources.get(index as usize)).copied()
    }

    fn node(&self, number: usize) -> Option<&Node> {
        number.checked_rem(self.nodes.len()).and_then(|at| self.nodes.get(at))
    }

    /// What requests by HTTP to node number `node` name as its `Host`.
    pub(super) fn host(&self, node: usize) -> &str {
        self.node(node).map_or("", |node| &node.host)
    }

    /// Connects to node number `node`, counted in a circle.
    pub(super) async fn open(&self, node: usize, source: Option<IpAddr>) -> io::Result<Stream> {
        let nowhere = || io::Error::from(io::ErrorKind::AddrNotAvailable);
        let node = self.node(node).ok_or_else(nowhere)?;
        let tls = self.tls.as_ref().map(|config| (Arc::clone(config), node.name.clone()));
        Stream::open(node.addr, source, tls).await
    }
}

impl From<SocketAddr> for Target {
    /// Plain.
    fn from(addr: SocketAddr) -> Self {
        let name = ServerName::try_from("localhost").unwrap_or_else(|_| ServerName::from(addr.ip()));
        Self {
            nodes: [Node { addr, name, host: addr.to_string() }].into(),
            sources: [].into(),
            tls: None,
            web: None,
        }
    }
}

/// A connection.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    pub(super) async fn open(
        addr: SocketAddr,
        source: Option<IpAddr>,
        tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    ) -> io::Result<Self> {
        let stream = match source {
            Some(source) if source.is_ipv4() == addr.is_ipv4() => from(source)?.connect(addr).await?,
            _ => TcpStream::connect(addr).await?,
        };
        stream.set_nodelay(true)?;
        let Some((config, name)) = tls else { return Ok(Self::Plain(stream)) };
        Ok(Self::Tls(Box::new(TlsConnector::from(config).connect(name, stream).await?)))
    }
}

/// A socket of this address. Its port is chosen when it connects: one chosen now would be this socket's alone, also
/// for a minute after its end, and after a storm the system would look for a free one longer than all else takes.
fn from(source: IpAddr) -> io::Result<TcpSocket> {
    let socket = if source.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
    socket.bind(SocketAddr::new(source, 0))?;
    Ok(socket)
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
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, bytes),
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_source_address_takes_no_port_before_it_connects() {
        for address in ["127.0.0.9", "::1"] {
            let socket = from(address.parse().unwrap()).unwrap();
            assert_eq!(socket.local_addr().unwrap(), SocketAddr::new(address.parse().unwrap(), 0));
        }
    }
}
