//! What carries a device's connection: TLS, WebSocket, a load balancer.

use super::world::*;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ProtocolVersion, RootCertStore, SupportedProtocolVersion};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use updraft_server::device::connection::Limits;
use updraft_server::device::link::DeviceEvent;
use updraft_server::gate::{self, Gate};
use updraft_server::net::{Port, Speaks};
use updraft_server::networks::Networks;
use updraft_server::tls::Identity;

const BOTH: &[&SupportedProtocolVersion] = &[&TLS12, &TLS13];

fn tls_client(dir: &Path, versions: &[&'static SupportedProtocolVersion]) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(dir.join("ca.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

async fn secure(dir: &TempDir, stream: TcpStream, name: &'static str) -> TlsStream<TcpStream> {
    tls_client(dir.path(), BOTH).connect(ServerName::try_from(name).unwrap(), stream).await.unwrap()
}

/// A world whose port has TLS, and the folder of its authority.
async fn world(speaks: Speaks) -> (World, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    #[expect(clippy::disallowed_methods, reason = "the client checks certificates by the machine's clock")]
    let now = SystemTime::now();
    let tls = Some(Identity::local(dir.path(), &[], now).unwrap().server_config(&[]).unwrap());
    let port = Port { tls, ..Port::plain(speaks, Gate::open()) };
    (World::at(port, Limits::default()).await, dir)
}

// ---------------------------------------------------------------------------------------- TLS

#[tokio::test]
async fn one_port_speaks_plain_and_tls_of_both_versions() {
    let (world, dir) = world(Speaks::Mqtt).await;
    let mut plain = world.login(&Connect::by_hand()).await;
    let versions = [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)];
    for (name, (version, spoken)) in ["localhost", "127.0.0.1"].into_iter().zip(versions) {
        let stream = TcpStream::connect(world.address).await.unwrap();
        let stream =
            tls_client(dir.path(), &[version]).connect(ServerName::try_from(name).unwrap(), stream).await;
        let mut client = Client(stream.unwrap());
        assert_eq!(client.0.get_ref().1.protocol_version(), Some(spoken));
        client.send(&Connect::c().bytes()).await;
        assert_eq!(client.receive().await, (0x20, vec![0, 0]));
        world.sessions.send(DEV01, push(1));
        // The address is the connection's, the scheme is not: devices know only their makers' authorities.
        assert_eq!(client.message().await.2, pushed(1));
        client.send(&publish(INFORM, Some(1), r#"{"params":{"version":"1"}}"#)).await;
        assert_eq!(client.receive().await, (0x40, vec![0, 1]));
    }
    plain.nothing_else().await;
}

#[tokio::test]
async fn the_port_of_tls_speaks_nothing_else() {
    let (world, dir) = world(Speaks::MqttByTls).await;
    assert_eq!(world.refusal(&Connect::python().bytes()).await, [0; 0]);
    assert_eq!(world.refusal(opening("mqtt").as_bytes()).await, [0; 0]);
    // Byte by byte, so that what is read ahead is not what a packet ends with.
    let mut client = Client(secure(&dir, world.dial().await.0, "localhost").await);
    for byte in Connect::python().bytes() {
        client.send(&[byte]).await;
        client.0.flush().await.unwrap();
    }
    assert_eq!(client.receive().await, (0x20, vec![0, 0]));
    let mut nonsense = secure(&dir, world.dial().await.0, "localhost").await;
    nonsense.write_all(&PINGREQ).await.unwrap();
    assert_eq!(nonsense.read(&mut [0]).await.unwrap_or(0), 0);
}

// ---------------------------------------------------------------------------------------- WebSocket

fn opening(protocol: &str) -> String {
    let protocol =
        if protocol.is_empty() { String::new() } else { format!("Sec-WebSocket-Protocol: {protocol}\r\n") };
    format!(
        "GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{protocol}\r\n"
    )
}

/// A frame as clients send it.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    if payload.len() < 126 {
        out.push(0x80 | payload.len() as u8);
    } else {
        out.push(0xfe);
        out.extend((payload.len() as u16).to_be_bytes());
    }
    let mask = [1, 2, 3, 4];
    out.extend(mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    out
}

/// The next frame: its first byte and its payload.
async fn next<S: AsyncRead + Unpin>(stream: &mut S) -> (u8, Vec<u8>) {
    let first = stream.read_u8().await.unwrap();
    let length = match stream.read_u8().await.unwrap() {
        126 => usize::from(stream.read_u16().await.unwrap()),
        short @ 0..126 => usize::from(short),
        other => panic!("a length of {other}"),
    };
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).await.unwrap();
    (first, payload)
}

/// The answer to a request up to its empty line.
async fn head<S: AsyncRead + Unpin>(stream: &mut S) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

async fn open<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, protocol: &str) -> String {
    stream.write_all(opening(protocol).as_bytes()).await.unwrap();
    let head = head(stream).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    // The example of RFC 6455.
    assert!(head.to_lowercase().contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"), "{head}");
    head.to_lowercase()
}

async fn a_life_over_websocket<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, world: &World) {
    assert!(open(&mut stream, "mqtt").await.contains("sec-websocket-protocol: mqtt\r\n"));
    // One packet in three frames, with a ping between, and the next packet in the same frame as its end.
    let connect = Connect::c().bytes();
    stream.write_all(&frame(0x02, &connect[..1])).await.unwrap();
    stream.write_all(&frame(0x00, &connect[1..20])).await.unwrap();
    stream.write_all(&frame(0x89, b"hi")).await.unwrap();
    let report = publish(INFORM, Some(1), r#"{"params":{"version":"1"}}"#);
    stream.write_all(&frame(0x80, &[&connect[20..], &PINGREQ[..], &report].concat())).await.unwrap();
    stream.flush().await.unwrap();
    assert_eq!(next(&mut stream).await, (0x8a, b"hi".to_vec()));
    let mut answers = Vec::new();
    while answers.len() < 10 {
        let (first, payload) = next(&mut stream).await;
        assert_eq!(first, 0x82);
        answers.extend(payload);
    }
    assert_eq!(answers, [0x20, 2, 0, 0, 0xd0, 0, 0x40, 2, 0, 1]);
    world.sessions.send(DEV01, push(1));
    let (first, pushed) = next(&mut stream).await;
    assert_eq!((first, pushed[0] & 0xf0), (0x82, 0x30));
    stream.write_all(&frame(0x88, &[0x03, 0xe8])).await.unwrap();
    assert_eq!(next(&mut stream).await, (0x88, vec![0x03, 0xe8]));
    assert_eq!(stream.read(&mut [0]).await.unwrap_or(0), 0);
    let offline = |events: &[DeviceEvent]| matches!(events.last(), Some(DeviceEvent::Offline { .. }));
    world.memory.wait(DEV01, offline).await;
}

#[tokio::test]
async fn devices_speak_over_websocket_plain_and_by_tls() {
    for speaks in [Speaks::Mqtt, Speaks::MqttOverWebSocket] {
        let (world, dir) = world(speaks).await;
        a_life_over_websocket(world.dial().await.0, &world).await;
        a_life_over_websocket(secure(&dir, world.dial().await.0, "localhost").await, &world).await;
        if speaks == Speaks::MqttOverWebSocket {
            assert_eq!(world.refusal(&Connect::by_hand().bytes()).await, [0; 0]);
        }
    }
    let (world, dir) = world(Speaks::MqttByTls).await;
    a_life_over_websocket(secure(&dir, world.dial().await.0, "localhost").await, &world).await;
}

#[tokio::test]
async fn a_client_may_offer_protocols_or_none() {
    let (world, _dir) = world(Speaks::Mqtt).await;
    for (offered, agreed) in [("mqttv3.1", "mqttv3.1"), ("chat, mqttv3.1, mqtt", "mqtt"), ("", "")] {
        let head = open(&mut world.dial().await.0, offered).await;
        let line = head.lines().find_map(|line| line.strip_prefix("sec-websocket-protocol: "));
        assert_eq!(line.unwrap_or_default(), agreed);
    }
}

#[tokio::test]
async fn other_requests_are_told_what_the_port_is_for() {
    let (world, _dir) = world(Speaks::Mqtt).await;
    let long = opening("mqtt").replace("Host:", &format!("Cookie: {}\r\nHost:", "x".repeat(9_000)));
    for request in [
        "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
        opening("chat"),
        opening("mqtt").replace("13", "8"),
        opening("mqtt").replace("dGhlIHNhbXBsZSBub25jZQ==", "short"),
        opening("mqtt").replace("HTTP/1.1", "HTTP/1.0"),
        opening("mqtt").replace("GET ", "GETTER "),
        "G\0\r\n\r\n".to_owned(),
        // The rest of the request is still in our buffers when it is closed, so its answer may be lost.
        long,
    ] {
        let mut client = world.dial().await;
        client.send(request.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = timeout(Duration::from_secs(10), client.0.read_to_end(&mut answer)).await.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        let told = answer.starts_with("HTTP/1.1 400 ") && answer.contains("MQTT");
        assert!(told || request.len() > 9_000 && answer.is_empty(), "{request}: {answer}");
    }
    assert!(world.sessions.is_empty());
}

#[tokio::test]
async fn frames_that_may_not_come_end_the_connection_with_a_code() {
    let (world, _dir) = world(Speaks::Mqtt).await;
    for (bad, code) in
        [(frame(0x81, b"text"), 1_003_u16), (vec![0x82, 1, 7], 1_002), (frame(0xc2, b"x"), 1_002)]
    {
        let mut client = world.dial().await;
        open(&mut client.0, "mqtt").await;
        client.send(&frame(0x82, &Connect::by_hand().bytes())).await;
        assert_eq!(next(&mut client.0).await.1, [0x20, 2, 0, 0]);
        client.send(&bad).await;
        assert_eq!(next(&mut client.0).await, (0x88, code.to_be_bytes().to_vec()));
        assert_eq!(client.0.read(&mut [0]).await.unwrap_or(0), 0);
    }
    // A packet of a stranger is bounded in frames, too.
    let mut flood = world.dial().await;
    open(&mut flood.0, "mqtt").await;
    flood.send(&frame(0x82, &packet(0x10, &vec![0; 3_000]))).await;
    while let Ok(1..) = flood.0.read(&mut [0; 64]).await {}
    assert!(world.memory.of(DEV01).is_empty());
}

// ---------------------------------------------------------------------------------------- load balancers

/// A world behind balancers at these addresses, where one address may have one stranger.
async fn behind(balancers: &str) -> World {
    let limits = gate::Limits { connections: 1, ..gate::Limits::default() };
    let proxies = Arc::new(Networks::parse(balancers).unwrap());
    let port = Port { proxies, ..Port::plain(Speaks::Mqtt, Gate::new("mqtt", limits)) };
    World::at(port, Limits::default()).await
}

fn header(address: &str) -> Vec<u8> {
    format!("PROXY TCP4 {address} 198.51.100.1 40000 1883\r\n").into_bytes()
}

#[tokio::test]
async fn a_balancers_client_is_who_counts() {
    let world = behind("127.0.0.0/8").await;
    let mut first = world.dial().await;
    first.send(&header("203.0.113.7")).await;
    // The second one of the same address waits at the gate, one of another address does not.
    first.send(&Connect::python().bytes()[..9]).await;
    let mut other = world.dial().await;
    other.send(&[header("203.0.113.8"), Connect::by_hand().bytes()].concat()).await;
    assert_eq!(other.receive().await, (0x20, vec![0, 0]));
    let mut second = world.dial().await;
    second.send(&[header("203.0.113.7"), Connect::python().bytes()].concat()).await;
    assert_eq!(second.rest().await, [0; 0]);
    first.send(&Connect::python().bytes()[9..]).await;
    assert_eq!(first.receive().await, (0x20, vec![0, 0]));
    let events = world.memory.wait(DEV01, |events| !events.is_empty()).await;
    assert_eq!(events[0], DeviceEvent::Online { session: 2, ip: "203.0.113.7".to_owned() });
}

#[tokio::test]
async fn a_balancer_must_say_whose_connection_it_is() {
    let world = behind("127.0.0.0/8").await;
    assert_eq!(world.refusal(&Connect::python().bytes()).await, [0; 0]);
    assert!(world.memory.of(DEV01).is_empty());
    // A check of the balancer itself is a connection of its own address.
    let mut local = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00".to_vec();
    local.extend(Connect::python().bytes());
    let mut client = world.dial().await;
    client.send(&local).await;
    assert_eq!(client.receive().await, (0x20, vec![0, 0]));
}

#[tokio::test]
async fn nobody_else_may_say_so() {
    let world = behind("10.0.0.0/8").await;
    assert_eq!(world.refusal(&[header("203.0.113.7"), Connect::python().bytes()].concat()).await, [0; 0]);
    assert!(world.memory.of(DEV01).is_empty());
    world.login(&Connect::python()).await;
    let events = world.memory.wait(DEV01, |events| !events.is_empty()).await;
    assert_eq!(events[0], DeviceEvent::Online { session: 1, ip: "127.0.0.1".to_owned() });
}

#[tokio::test]
async fn the_header_comes_before_tls() {
    let (inner, dir) = world(Speaks::Mqtt).await;
    drop(inner);
    let identity =
        Identity::load(&dir.path().join("server.pem"), &dir.path().join("server-key.pem")).unwrap();
    let port = Port {
        tls: Some(identity.server_config(&[]).unwrap()),
        proxies: Arc::new(Networks::parse("127.0.0.1").unwrap()),
        ..Port::plain(Speaks::MqttByTls, Gate::open())
    };
    let world = World::at(port, Limits::default()).await;
    let mut stream = world.dial().await.0;
    stream.write_all(&header("203.0.113.7")).await.unwrap();
    let mut client = Client(secure(&dir, stream, "localhost").await);
    client.send(&Connect::python().bytes()).await;
    assert_eq!(client.receive().await, (0x20, vec![0, 0]));
    let events = world.memory.wait(DEV01, |events| !events.is_empty()).await;
    assert_eq!(events[0], DeviceEvent::Online { session: 1, ip: "203.0.113.7".to_owned() });
}
