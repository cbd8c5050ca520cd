//! The ports that a server listens on: which there are, and what each speaks.

use crate::config::Config;
use crate::gate::{self, Gate};
use crate::net::{Limits, Port, Speaks};
use crate::turnstile::Turnstile;
use anyhow::Context as _;
use rustls::ServerConfig;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

/// Connections that wait to be accepted: a fleet comes back all at once after a restart.
const BACKLOG: i32 = 4_096;

/// The open ports.
pub struct Listeners {
    /// That of the API.
    pub api: TcpListener,
    /// That of devices, if they connect to this node.
    pub mqtt: Option<TcpListener>,
    /// That of devices by TLS only.
    pub mqtt_tls: Option<TcpListener>,
    /// That of devices over WebSocket only.
    pub mqtt_ws: Option<TcpListener>,
    /// That of metrics, if it is one of its own.
    pub metrics: Option<TcpListener>,
}

/// Where they are.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// The API.
    pub api: SocketAddr,
    /// Devices.
    pub mqtt: Option<SocketAddr>,
    /// Devices by TLS only.
    pub mqtt_tls: Option<SocketAddr>,
    /// Devices over WebSocket only.
    pub mqtt_ws: Option<SocketAddr>,
}

impl Listeners {
    /// Opens all ports of the configuration.
    pub fn open(config: &Config) -> anyhow::Result<Self> {
        let maybe = |key: &str, addr: Option<SocketAddr>| {
            let opened = addr.map(listen).transpose();
            opened
                .with_context(|| format!("cannot open `{key}`; another address, or an empty one, avoids it"))
        };
        let of_devices = |addr: Option<SocketAddr>| addr.filter(|_| config.role.is_gateway());
        let mqtt = of_devices(Some(config.mqtt_addr)).map(listen).transpose();
        Ok(Self {
            api: listen(config.api_addr).context("cannot open the API's port")?,
            mqtt: mqtt.context("cannot open the devices' port")?,
            mqtt_tls: maybe("mqtt_tls_addr", of_devices(config.mqtt_tls_addr))?,
            mqtt_ws: maybe("mqtt_ws_addr", of_devices(config.mqtt_ws_addr))?,
            metrics: maybe("metrics_addr", config.metrics_addr)?,
        })
    }

    /// Where they are: with the ports that the system chose.
    pub fn addresses(&self) -> std::io::Result<Addresses> {
        let maybe = |port: &Option<TcpListener>| port.as_ref().map(TcpListener::local_addr).transpose();
        Ok(Addresses {
            api: self.api.local_addr()?,
            mqtt: maybe(&self.mqtt)?,
            mqtt_tls: maybe(&self.mqtt_tls)?,
            mqtt_ws: maybe(&self.mqtt_ws)?,
        })
    }
}

fn listen(addr: SocketAddr) -> anyhow::Result<TcpListener> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into()).with_context(|| format!("cannot listen on {addr}"))?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into())?)
}

fn limits(config: &Config) -> Limits {
    let seconds = |value: u32| Duration::from_secs(value.into());
    Limits { handshake: seconds(config.handshake_seconds), drain: seconds(config.drain_seconds) }
}

/// The API's port.
pub fn api(config: &Config, tls: Arc<ServerConfig>, gate: Arc<Gate>) -> Port {
    let proxies = Arc::new(config.proxy_protocol_from.clone());
    Port { speaks: Speaks::Anything, tls: Some(tls), limits: limits(config), gate, proxies, turnstile: None }
}

/// The devices' ports, which have one gate and one turnstile.
pub fn devices(config: &Config, listeners: DeviceListeners, tls: Arc<ServerConfig>) -> DevicePorts {
    let gate = Gate::new(
        "mqtt",
        gate::Limits {
            connections: config.mqtt_strangers_per_address,
            failures: config.mqtt_failures_per_minute,
            exempt: config.limit_exempt.clone(),
        },
    );
    let proxies = Arc::new(config.proxy_protocol_from.clone());
    let wait = Duration::from_secs(config.mqtt_admission_wait_seconds.into());
    let port = Port {
        speaks: Speaks::Mqtt,
        tls: Some(tls),
        limits: limits(config),
        gate: Arc::clone(&gate),
        proxies,
        turnstile: Turnstile::new(config.mqtt_logins_per_second, wait),
    };
    let (mqtt, mqtt_tls, mqtt_ws) = listeners;
    let ports = [(mqtt, Speaks::Mqtt), (mqtt_tls, Speaks::MqttByTls), (mqtt_ws, Speaks::MqttOverWebSocket)];
    let ports = ports.into_iter().filter_map(|(listener, speaks)| {
        listener.map(|listener| (listener, Port { speaks, ..port.clone() }))
    });
    DevicePorts { gate, ports: ports.collect() }
}

/// The listeners of devices: for everything, for TLS only, for WebSocket only.
pub type DeviceListeners = (Option<TcpListener>, Option<TcpListener>, Option<TcpListener>);

/// The devices' ports.
pub struct DevicePorts {
    /// Their limits per address.
    pub gate: Arc<Gate>,
    /// Each with its listener.
    pub ports: Vec<(TcpListener, Port)>,
}
