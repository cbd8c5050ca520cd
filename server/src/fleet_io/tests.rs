//! The driver against a tiny broker and a tiny web server.

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::BytesMut;
use md5::Digest;
use rmqtt_codec::types::Publish;
use rmqtt_codec::v3::{Codec, ConnectAck, ConnectAckReason, Packet, QoS};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::codec::{Decoder, Encoder};
use updraft_fleet::message::Topic;
use updraft_fleet::{Behaviour, DeviceConfig, Identity, Phase};

use super::load::{idle_sessions, listeners, login_load, publish_load};
use super::{Fleet, FleetOptions};

const FILE_LEN: usize = 300_000;

fn file(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * i / 7) as u8).collect()
}

/// A server that pushes version 2.0 to whoever reports 1.0, and writes down what it sees.
struct World {
    log: watch::Sender<Vec<String>>,
    kick: watch::Sender<()>,
    push: bool,
    /// Logins and downloads that go wrong before all goes well.
    refusals: AtomicU64,
    breaks: AtomicU64,
    file: Vec<u8>,
    url: String,
}

/// Takes one off `counter`, if there is one.
fn take(counter: &AtomicU64) -> bool {
    counter.fetch_update(Relaxed, Relaxed, |n| n.checked_sub(1)).is_ok()
}

impl World {
    async fn start(refusals: u64, breaks: u64, push: bool) -> (Arc<Self>, SocketAddr) {
        Self::with_file(FILE_LEN, refusals, breaks, push).await
    }

    async fn with_file(len: usize, refusals: u64, breaks: u64, push: bool) -> (Arc<Self>, SocketAddr) {
        let mqtt = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let http = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = mqtt.local_addr().unwrap();
        let world = Arc::new(Self {
            log: watch::Sender::default(),
            kick: watch::Sender::default(),
            push,
            refusals: refusals.into(),
            breaks: breaks.into(),
            file: file(len),
            url: format!("http://{}/f?x=1", http.local_addr().unwrap()),
        });
        let (w, x) = (Arc::clone(&world), Arc::clone(&world));
        tokio::spawn(async move {
            while let Ok((stream, _)) = mqtt.accept().await {
                tokio::spawn(Arc::clone(&w).broker(stream));
            }
        });
        tokio::spawn(async move {
            while let Ok((stream, _)) = http.accept().await {
                tokio::spawn(Arc::clone(&x).web(stream));
            }
        });
        (world, addr)
    }

    fn note(&self, what: impl Into<String>) {
        self.log.send_modify(|log| log.push(what.into()));
    }

    fn count(&self, what: &str) -> usize {
        self.log.borrow().iter().filter(|line| *line == what).count()
    }

    async fn wait_for(&self, what: &str, times: usize) {
        let seen = |log: &Vec<String>| log.iter().filter(|line| *line == what).count() >= times;
        self.log.subscribe().wait_for(seen).await.unwrap();
    }

    async fn broker(self: Arc<Self>, mut stream: TcpStream) {
        let mut codec = Codec::default();
        let mut inbox = BytesMut::new();
        let mut kicked = self.kick.subscribe();
        loop {
            while let Some((packet, _)) = codec.decode(&mut inbox).unwrap() {
                let mut outbox = BytesMut::new();
                for answer in self.answers(packet) {
                    codec.encode(answer, &mut outbox).unwrap();
                }
                let _ = stream.write_all(&outbox).await;
            }
            let read = tokio::select! {
                read = stream.read_buf(&mut inbox) => read.unwrap_or(0),
                _ = kicked.changed() => 0,
            };
            if read == 0 {
                return;
            }
        }
    }

    fn answers(&self, packet: Packet) -> Vec<Packet> {
        match packet {
            Packet::Connect(_) => {
                let return_code = if take(&self.refusals) {
                    ConnectAckReason::BadUserNameOrPassword
                } else {
                    ConnectAckReason::ConnectionAccepted
                };
                vec![Packet::ConnectAck(ConnectAck { return_code, session_present: false })]
            }
            Packet::Publish(publish) => {
                let mut answers = vec![Packet::PublishAck { packet_id: publish.packet_id.unwrap() }];
                let said: Value = serde_json::from_slice(&publish.payload).unwrap();
                let said = &said["params"];
                if let Some(version) = said["version"].as_str() {
                    self.note(format!("inform {version}"));
                    if self.push && version == "1.0" {
                        answers.push(self.upgrade(&publish.topic.replace("inform", "upgrade")));
                    }
                } else if let Some(step) = said["step"].as_str() {
                    self.note(format!("progress {step}"));
                }
                answers
            }
            Packet::PublishAck { .. } => {
                self.note("push acknowledged");
                vec![]
            }
            Packet::PingRequest => {
                self.note("ping");
                vec![Packet::PingResponse]
            }
            Packet::Disconnect => {
                self.note("goodbye");
                vec![]
            }
            _ => vec![],
        }
    }

    fn upgrade(&self, topic: &str) -> Packet {
        let (sign, len) = (hex::encode(md5::Md5::digest(&self.file)), self.file.len());
        let payload = format!(
            r#"{{"code":"1000","data":{{"size":{len},"sign":"{sign}","version":"2.0","url":"{}","signMethod":"Md5"}},"id":1,"message":"success"}}"#,
            self.url
        );
        Packet::Publish(Box::new(Publish {
            dup: false,
            retain: false,
            qos: QoS::AtLeastOnce,
            topic: topic.to_owned().into(),
            packet_id: NonZeroU16::new(7),
            payload: payload.into(),
            properties: None,
        }))
    }

    async fn web(self: Arc<Self>, mut stream: TcpStream) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        assert!(head.starts_with("get /f?x=1 http/1.1\r\n"), "{head}");
        let range = head.split_once("range: bytes=").map(|(_, rest)| rest.split('-').next().unwrap());
        let start: usize = range.map_or(0, |start| start.parse().unwrap());
        let len = self.file.len();
        let status = match range {
            Some(_) => {
                format!("206 Partial Content\r\nContent-Range: bytes {start}-{}/{len}", len - 1)
            }
            None => "200 OK".to_owned(),
        };
        self.note(if range.is_some() { "get rest" } else { "get all" });
        let body = &self.file[start..];
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len());
        let sent = if take(&self.breaks) { &body[..body.len() / 2] } else { body };
        let _ = stream.write_all(answer.as_bytes()).await;
        let _ = stream.write_all(sent).await;
    }
}

fn identities(n: usize) -> Vec<Identity> {
    (0..n).map(|i| Identity::new("pk", format!("dn{i}"), "secret")).collect()
}

fn devices(n: usize, behaviour: &Behaviour) -> Vec<DeviceConfig> {
    let config = |(seed, identity)| {
        let mut config = DeviceConfig::new(identity, "1.0");
        config.behaviour = behaviour.clone();
        config.seed = seed;
        config
    };
    (0..).zip(identities(n)).map(config).collect()
}

/// Seconds become milliseconds, minutes become a few hundredths of a second.
fn fast() -> FleetOptions {
    FleetOptions { speed: 1_000.0, ..FleetOptions::default() }
}

#[tokio::test]
async fn a_fleet_updates_and_says_goodbye() {
    let (world, addr) = World::start(0, 0, true).await;
    let fleet = Fleet::start(devices(20, &Behaviour::Good), addr, fast());
    let seen = fleet.wait_until(|s| s.upgraded == 20 && s.of(Phase::Online) == 20).await;
    assert_eq!((seen.devices, seen.connected, seen.failed, seen.started), (20, 20, 0, 20));
    assert_eq!(seen.bytes_downloaded, 20 * FILE_LEN as u64);
    assert_eq!(seen.connections, 40);
    world.wait_for("inform 2.0", 20).await;
    for (line, times) in [("inform 1.0", 20), ("progress 0", 20), ("progress 100", 20), ("goodbye", 20)] {
        assert_eq!(world.count(line), times, "{line}");
    }
    assert_eq!(world.count("push acknowledged"), 20);
    assert_eq!(fleet.stop().await.connected, 0);
    world.wait_for("goodbye", 40).await;
}

#[tokio::test]
async fn a_broken_download_goes_on_where_it_stopped() {
    let (world, addr) = World::start(0, 1, true).await;
    let fleet = Fleet::start(devices(1, &Behaviour::Good), addr, fast());
    let seen = fleet.wait_until(|s| s.upgraded + s.failed == 1).await;
    assert_eq!((seen.upgraded, seen.bytes_downloaded), (1, FILE_LEN as u64));
    assert_eq!((world.count("get all"), world.count("get rest")), (1, 1));
}

#[tokio::test]
async fn hopeless_downloads_are_reported() {
    let (world, addr) = World::start(0, u64::MAX, true).await;
    let fleet = Fleet::start(devices(1, &Behaviour::Good), addr, fast());
    // Each attempt gets half of the rest, until the rest is too small to count as getting on.
    let seen = fleet.wait_until(|s| s.upgraded + s.failed == 1).await;
    assert_eq!(seen.failed, 1);
    world.wait_for("progress -2", 1).await;
}

#[tokio::test]
async fn a_flaky_device_comes_back_and_resumes() {
    let (world, addr) = World::start(0, 0, true).await;
    let fleet = Fleet::start(devices(1, &Behaviour::Flaky), addr, fast());
    let seen = fleet.wait_until(|s| s.upgraded + s.failed == 1).await;
    assert_eq!((seen.upgraded, seen.failed), (1, 0));
    assert_eq!((world.count("get all"), world.count("get rest")), (1, 1));
    assert!(seen.connections >= 2);
}

#[tokio::test]
async fn a_device_that_lost_its_line_with_the_last_byte_asks_for_no_more() {
    let (world, addr) = World::with_file(100, 0, 0, true).await;
    let fleet = Fleet::start(devices(1, &Behaviour::Flaky), addr, fast());
    let seen = fleet.wait_until(|s| s.upgraded + s.failed == 1).await;
    assert_eq!((seen.upgraded, seen.failed, seen.refused), (1, 0, 0));
    assert_eq!((world.count("get all"), world.count("get rest")), (1, 0));
    assert!(seen.connections >= 2);
}

#[tokio::test]
async fn a_slow_device_takes_its_time() {
    let (_world, addr) = World::start(0, 0, true).await;
    let start = std::time::Instant::now();
    let fleet = Fleet::start(devices(1, &Behaviour::Slow { download_ms: 300_000 }), addr, fast());
    fleet.wait_until(|s| s.upgraded == 1).await;
    assert!(start.elapsed() >= Duration::from_millis(290));
}

#[tokio::test]
async fn refused_and_lost_connections_are_made_again() {
    let (world, addr) = World::start(3, 0, false).await;
    let fleet = Fleet::start(devices(2, &Behaviour::Good), addr, fast());
    let seen = fleet.wait_until(|s| s.connected == 2).await;
    assert_eq!((seen.refused, seen.connections), (3, 2));
    world.wait_for("inform 1.0", 2).await;
    world.kick.send(()).unwrap();
    fleet.wait_until(|s| s.connected == 2 && s.connections == 4).await;
    world.wait_for("inform 1.0", 4).await;
}

#[tokio::test]
async fn an_idle_device_pings() {
    let (world, addr) = World::start(0, 0, false).await;
    let mut devices = devices(1, &Behaviour::Good);
    devices[0].keepalive_s = 1;
    let fleet = Fleet::start(devices, addr, fast());
    world.wait_for("ping", 1).await;
    assert_eq!(fleet.stop().await.connections, 1);
}

#[tokio::test]
async fn connections_keep_to_their_rate() {
    let (_world, addr) = World::start(0, 0, false).await;
    let start = std::time::Instant::now();
    let options = FleetOptions { connects_per_second: 50, ..fast() };
    let fleet = Fleet::start(devices(11, &Behaviour::Good), addr, options);
    fleet.wait_until(|s| s.connected == 11).await;
    assert!(start.elapsed() >= Duration::from_millis(199));
}

#[tokio::test]
async fn loads_count_what_they_do() {
    let (world, addr) = World::start(0, 0, false).await;
    let devices = identities(5);
    let report = publish_load(&addr.into(), &devices, Duration::from_millis(100), |device, sequence| {
        let step = (sequence % 100) as i64;
        (Topic::Progress.of(device), updraft_fleet::message::progress(sequence, "default", step, ""))
    })
    .await
    .unwrap();
    assert!(report.count >= 5 && report.errors == 0, "{report:?}");
    assert!(report.p50 <= report.p99 && report.p99 <= report.max);
    assert!(report.elapsed >= Duration::from_millis(100) && report.per_second() > 0.0);
    assert_eq!(world.log.borrow().len() as u64, report.count);

    let report = login_load(&addr.into(), &devices, "1.0", 3).await;
    assert_eq!((report.count, report.errors), (5, 0));
    world.wait_for("goodbye", 5).await;
    assert_eq!(idle_sessions(&addr.into(), &devices).await.unwrap().len(), 5);
}

#[tokio::test]
async fn listeners_count_pushes() {
    let (_world, addr) = World::start(0, 0, true).await;
    let listeners = listeners(&addr.into(), &identities(5), "1.0", false).await.unwrap();
    listeners.wait_for(5).await;
    assert_eq!(listeners.received(), 5);
}

#[tokio::test]
async fn a_refused_session_fails_the_benchmark() {
    let (_world, addr) = World::start(1, 0, false).await;
    let error = idle_sessions(&addr.into(), &identities(3)).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
}
