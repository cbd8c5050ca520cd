//! An engine made of memory, and devices made of bytes.

use parking_lot::Mutex;
use rustls::ServerConfig;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{RwLock, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use updraft_core::firmware::SignMethod;
use updraft_core::id::{DeviceNo, JobNo, TaskNo};
use updraft_core::registration::{Way, signed_content};
use updraft_core::topo::{Refusal, Refused};
use updraft_server::device::connection::{Endpoint, Limits};
use updraft_server::device::gateway::{Answer, Name, Request, Secret};
use updraft_server::device::link::{
    Backend, Block, CertifiedDevice, DeviceEvent, Downlink, Happened, KnownDevice, Named, NoBlock, Package,
    PackageFile, Unavailable, Wanted,
};
use updraft_server::device::register::{Asked, Given, Refusal as NotRegistered, token_hash};
use updraft_server::device::session::{BaseUrl, Sessions};
use updraft_server::gate::Gate;
use updraft_server::net;
use updraft_store::DeviceToken;

/// No step of a test takes longer, unless it is broken.
pub const PATIENCE: Duration = Duration::from_secs(20);
pub const DEV01: DeviceNo = DeviceNo(1);
pub const GW01: DeviceNo = DeviceNo(11);
pub const GW02: DeviceNo = DeviceNo(12);
pub const UPGRADE: &str = "/ota/device/upgrade/a1TestPk001/dev01";
pub const INFORM: &str = "/ota/device/inform/a1TestPk001/dev01";
pub const PROGRESS: &str = "/ota/device/progress/a1TestPk001/dev01";
pub const GET: &str = "/sys/a1TestPk001/dev01/thing/ota/firmware/get";
pub const GET_REPLY: &str = "/sys/a1TestPk001/dev01/thing/ota/firmware/get_reply";
pub const REQUEST: &str = "/ota/device/request/a1TestPk001/dev01";
pub const DOWNLOAD: &str = "/sys/a1TestPk001/dev01/thing/file/download";
/// The size of the file behind stream 7.
pub const FILE_BYTES: i64 = 1_000_000;

/// The number of a device that may be behind a gateway: `sub001` and so on.
pub fn sub_no(name: &str) -> Option<DeviceNo> {
    name.strip_prefix("sub").and_then(|n| n.parse().ok()).map(|n: i64| DeviceNo(1_000 + n))
}

fn secret(name: Name) -> Secret {
    Secret { iot_id: "iot".to_owned(), secret: "subsecret".to_owned(), name }
}

#[derive(Default)]
pub struct Memory {
    pub events: Mutex<Vec<Happened>>,
    pub news: watch::Sender<usize>,
    pub broken: AtomicBool,
    pub panics: AtomicBool,
    /// The devices are disabled.
    pub disabled: AtomicBool,
    /// The devices were deleted.
    pub deleted: AtomicBool,
    /// Here a device is sent away as soon as it says that it is online.
    pub bars_logins: Mutex<Option<Arc<Sessions>>>,
    /// How often a device was looked up.
    pub looked_up: AtomicUsize,
    /// Blocks asked for.
    pub blocks: Mutex<Vec<Wanted>>,
    /// What gateways asked.
    pub asked: Mutex<Vec<(DeviceNo, Request)>>,
    /// What a gateway is told of its topology.
    pub behind: Mutex<Vec<Name>>,
    /// Held by who wants the reading of blocks to hang.
    pub stuck: RwLock<()>,
}

impl Backend for Memory {
    async fn login(&self, product_key: &str, device_name: &str) -> Result<Named, Unavailable> {
        self.looked_up.fetch_add(1, Ordering::SeqCst);
        if self.broken.load(Ordering::SeqCst) {
            return Err(Unavailable);
        }
        if self.deleted.load(Ordering::SeqCst) {
            return Ok(Named::Deleted);
        }
        let disabled = self.disabled.load(Ordering::SeqCst);
        let (no, secret, is_gateway) = match (product_key, device_name) {
            ("a1TestPk001", "dev01") => (DEV01, "0123456789abcdef0123456789abcdef", false),
            ("pk", "device") => (DeviceNo(2), "secret", false),
            ("a1GatewayP1", "gw01") => (GW01, "gwsecret", true),
            ("a1GatewayP1", "gw02") => (GW02, "gwsecret", true),
            ("a1SubPk0001", name) if sub_no(name).is_some() => (sub_no(name).unwrap(), "subsecret", false),
            _ => return Ok(Named::Unknown),
        };
        let token = DeviceToken { client_id: "client".to_owned(), hash: token_hash(b"token") };
        Ok(Named::Known(KnownDevice {
            no,
            secret: secret.to_owned(),
            token: Some(token),
            disabled,
            is_gateway,
            certified: false,
        }))
    }

    /// Knows the secret of the product of the captures; a device is active already where devices are disabled.
    async fn register(&self, asked: Asked) -> Result<Given, NotRegistered> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(NotRegistered::Unavailable);
        }
        let content = signed_content(&asked.product_key, &asked.device_name, &asked.random);
        if !asked.method.verify("productsecret000", &content, &asked.sign) {
            return Err(NotRegistered::Signature);
        }
        match asked.way {
            Way::Unlisted if self.disabled.load(Ordering::SeqCst) => {
                Err(NotRegistered::Rule(updraft_core::registration::Refused::Active))
            }
            Way::Unlisted => Ok(Given::Token { client_id: "client".to_owned(), token: "token".to_owned() }),
            _ => Ok(Given::Secret("0123456789abcdef0123456789abcdef".to_owned())),
        }
    }

    /// Every `subNNN` is behind every gateway, and whoever names it knows its secret.
    async fn gateway(
        &self,
        gateway: DeviceNo,
        request: Request,
    ) -> Result<Result<Answer, Refused>, Unavailable> {
        self.asked.lock().push((gateway, request.clone()));
        if self.broken.load(Ordering::SeqCst) {
            return Err(Unavailable);
        }
        Ok(match request {
            Request::Add(claims) => Ok(Answer::Done(claims.into_iter().map(|claim| claim.name).collect())),
            Request::Remove(names) | Request::Unregister(names) => Ok(Answer::Done(names)),
            Request::List => Ok(Answer::Done(self.behind.lock().clone())),
            Request::Register(names) => Ok(Answer::Secrets(names.into_iter().map(secret).collect())),
            Request::ProductRegister(claims) => {
                Ok(Answer::Secrets(claims.into_iter().map(|claim| secret(claim.name)).collect()))
            }
            Request::Find(claims) => {
                let found: Vec<Option<DeviceNo>> =
                    claims.iter().map(|claim| sub_no(&claim.name.device_name)).collect();
                let missing = |(place, no): (usize, &Option<DeviceNo>)| no.is_none().then_some(place);
                let at: Vec<usize> = found.iter().enumerate().filter_map(missing).collect();
                if at.is_empty() {
                    Ok(Answer::Found(found.into_iter().flatten().collect()))
                } else {
                    Err(Refused { why: Refusal::UnknownDevice, at })
                }
            }
        })
    }

    async fn certified(&self, _: &str) -> Result<Option<CertifiedDevice>, Unavailable> {
        Ok(None)
    }

    async fn happened(&self, events: Vec<Happened>) -> Result<(), Unavailable> {
        let report = events.iter().any(|e| matches!(e.event, DeviceEvent::Report { .. }));
        assert!(!(report && self.panics.load(Ordering::SeqCst)), "told to panic");
        if let Some(sessions) = self.bars_logins.lock().as_ref() {
            for event in &events {
                sessions.kick(event.device);
            }
        }
        self.events.lock().extend(events);
        self.news.send_modify(|n| *n += 1);
        if self.broken.load(Ordering::SeqCst) { Err(Unavailable) } else { Ok(()) }
    }

    /// A file of zeros.
    async fn block(&self, device: DeviceNo, wanted: Wanted) -> Result<Block, NoBlock> {
        self.blocks.lock().push(wanted);
        self.news.send_modify(|n| *n += 1);
        drop(self.stuck.read().await);
        match wanted {
            Wanted { stream: 7, file: 1, .. } if device != DEV01 => Err(NoBlock::NotYours),
            Wanted { stream: 7, file: 1, offset, size } if offset < FILE_BYTES => {
                let bytes = vec![0; size.min(FILE_BYTES - offset) as usize];
                Ok(Block { crc: 0, bytes, file_bytes: FILE_BYTES })
            }
            Wanted { stream: 7, file: 1, .. } => Err(NoBlock::OutOfRange),
            _ => Err(NoBlock::NotYours),
        }
    }
}

impl Memory {
    /// Waits until what `device` did looks as expected.
    pub async fn wait(
        &self,
        device: DeviceNo,
        expected: impl Fn(&[DeviceEvent]) -> bool,
    ) -> Vec<DeviceEvent> {
        let mut news = self.news.subscribe();
        let mut seen = Vec::new();
        let found = timeout(PATIENCE, async {
            loop {
                news.mark_unchanged();
                seen = self.of(device);
                if expected(&seen) {
                    return;
                }
                news.changed().await.unwrap();
            }
        });
        let in_time = found.await.is_ok();
        assert!(in_time, "{seen:?}");
        seen
    }

    /// Waits until so many blocks were asked for.
    pub async fn wait_for_blocks(&self, count: usize) {
        let mut news = self.news.subscribe();
        let asked = async {
            while self.blocks.lock().len() < count {
                news.changed().await.unwrap();
            }
        };
        timeout(PATIENCE, asked).await.unwrap();
    }

    pub fn of(&self, device: DeviceNo) -> Vec<DeviceEvent> {
        self.events.lock().iter().filter(|e| e.device == device).map(|e| e.event.clone()).collect()
    }
}

pub struct World {
    pub memory: Arc<Memory>,
    pub sessions: Arc<Sessions>,
    pub endpoint: Arc<Endpoint<Memory>>,
    pub address: SocketAddr,
    pub stop: watch::Sender<bool>,
    pub server: JoinHandle<usize>,
}

impl World {
    pub async fn new() -> Self {
        Self::with(Limits::default(), None).await
    }

    pub async fn with(limits: Limits, tls: Option<Arc<ServerConfig>>) -> Self {
        Self::behind(Gate::open(), limits, tls).await
    }

    pub async fn behind(gate: Arc<Gate>, limits: Limits, tls: Option<Arc<ServerConfig>>) -> Self {
        Self::at(net::Port { tls, ..net::Port::plain(net::Speaks::Mqtt, gate) }, limits).await
    }

    pub async fn at(port: net::Port, limits: Limits) -> Self {
        let memory = Arc::new(Memory::default());
        let sessions = Arc::new(Sessions::new(1, BaseUrl::Connection { port: 8080 }));
        let endpoint = Arc::new(Endpoint::new(
            Arc::clone(&memory),
            Arc::clone(&sessions),
            limits,
            Arc::clone(&port.gate),
        ));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let served = Arc::clone(&endpoint);
        let handler = move |stream, peer, pass| {
            let endpoint = Arc::clone(&served);
            async move { endpoint.handle(stream, peer, pass).await }
        };
        let server = tokio::spawn(net::serve(listener, port, stopped, handler));
        Self { memory, sessions, endpoint, address, stop, server }
    }

    pub async fn dial(&self) -> Client<TcpStream> {
        Client(TcpStream::connect(self.address).await.unwrap())
    }

    /// A device that is let in.
    pub async fn login(&self, connect: &Connect) -> Client<TcpStream> {
        let mut client = self.dial().await;
        client.send(&connect.bytes()).await;
        assert_eq!(client.receive().await, (0x20, vec![0, 0]));
        client
    }

    /// The answer to a CONNECT that is refused, or nothing.
    pub async fn refusal(&self, connect: &[u8]) -> Vec<u8> {
        let mut client = self.dial().await;
        client.send(connect).await;
        client.rest().await
    }
}

#[derive(Clone)]
pub struct Connect {
    pub protocol: &'static str,
    pub level: u8,
    pub flags: u8,
    pub keepalive: u16,
    pub client_id: String,
    pub user: &'static str,
    pub password: &'static str,
    /// Of MQTT 5.
    pub properties: Vec<u8>,
}

impl Connect {
    pub fn new(client_id: &str, user: &'static str, password: &'static str) -> Self {
        let client_id = client_id.to_owned();
        let properties = Vec::new();
        Self { protocol: "MQTT", level: 4, flags: 0xc2, keepalive: 60, client_id, user, password, properties }
    }

    /// The same with MQTT 5.
    pub fn five(self, properties: &[u8]) -> Self {
        Self { level: 5, properties: properties.to_vec(), ..self }
    }

    /// Link SDK for Python: HMAC-SHA1, automatic delivery.
    pub fn python() -> Self {
        Self::new(
            "a1TestPk001&dev01|securemode=3,signmethod=hmacsha1,ext=1,_ss=1,lan=Python,_v=1.2.13,timestamp=1795521172|",
            "dev01&a1TestPk001",
            "74e8a4dde7aa5838777acb76190804041702a4f8",
        )
    }

    /// Link SDK for JavaScript: HMAC-SHA1, subscribes, wants a persistent session.
    pub fn javascript() -> Self {
        let connect = Self::new(
            "a1TestPk001&dev01|securemode=3,signmethod=hmacsha1,timestamp=1795521924932,lan=NodeJS,_v=1.2.8|",
            "dev01&a1TestPk001",
            "ae778e953966f6c20435d6ebf76f487d76155a85",
        );
        Self { flags: 0xc0, ..connect }
    }

    /// The same without a persistent session.
    pub fn clean(self) -> Self {
        Self { flags: self.flags | 0b10, ..self }
    }

    /// Link SDK for C: HMAC-SHA256 in upper case, automatic delivery.
    pub fn c() -> Self {
        let connect = Self::new(
            "a1TestPk001.dev01|timestamp=2524608000000,_ss=1,_v=sdk-c-4.2.0,securemode=3,signmethod=hmacsha256,ext=3,_conn=tcp_0|",
            "dev01&a1TestPk001",
            "C3F73921B6A23D3900E420B2F501BCAFC4CEA25E34CAE6C313CC45B9254C2A73",
        );
        Self { keepalive: 1_200, ..connect }
    }

    /// By hand: HMAC-MD5, another device.
    pub fn by_hand() -> Self {
        Self::new(
            "12345|securemode=3,signmethod=hmacmd5,timestamp=789|",
            "device&pk",
            "14b198324fe55e1d3c88f2e705e201ee",
        )
    }

    /// A gateway: HMAC-MD5, no automatic delivery.
    pub fn gateway() -> Self {
        Self::new("gw01|securemode=3|", "gw01&a1GatewayP1", "5a8c5eaf10df5313e63ce7333b1e524c")
    }

    /// Another gateway.
    pub fn other_gateway() -> Self {
        Self::new("gw02|securemode=3|", "gw02&a1GatewayP1", "6d658ce37dd0b058bbcf0d8baf27b89e")
    }

    /// A device that is often behind a gateway, on its own.
    pub fn sub() -> Self {
        Self::new("sub01|securemode=3,_ss=1|", "sub01&a1SubPk0001", "bcd1f7947281034f142f5baf4d6cc936")
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut body = text(self.protocol);
        body.extend([self.level, self.flags]);
        body.extend(self.keepalive.to_be_bytes());
        if self.level == 5 {
            body.push(self.properties.len() as u8);
            body.extend(&self.properties);
        }
        for field in [&self.client_id, self.user, self.password] {
            body.extend(text(field));
        }
        packet(0x10, &body)
    }
}

pub fn text(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u16).to_be_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

pub fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut length = body.len();
    loop {
        let more = if length > 127 { 0x80 } else { 0 };
        bytes.push((length % 128) as u8 | more);
        length /= 128;
        if more == 0 {
            break;
        }
    }
    bytes.extend(body);
    bytes
}

/// A PUBLISH, at QoS 1 if it has an id.
pub fn publish(topic: &str, id: Option<u16>, payload: &str) -> Vec<u8> {
    let mut body = text(topic);
    body.extend(id.iter().flat_map(|id| id.to_be_bytes()));
    body.extend(payload.as_bytes());
    packet(if id.is_some() { 0x32 } else { 0x30 }, &body)
}

pub fn subscribe(id: u16, filters: &[(&str, u8)]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    for (filter, qos) in filters {
        body.extend(text(filter));
        body.push(*qos);
    }
    packet(0x82, &body)
}

pub fn unsubscribe(id: u16, filter: &str) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    body.extend(text(filter));
    packet(0xa2, &body)
}

pub fn puback(id: u16) -> Vec<u8> {
    packet(0x40, &id.to_be_bytes())
}

pub const PINGREQ: [u8; 2] = [0xc0, 0];
pub const PINGRESP: (u8, Vec<u8>) = (0xd0, Vec::new());

pub struct Client<S>(pub S);

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// The next packet: first byte and what follows the length.
    pub async fn receive(&mut self) -> (u8, Vec<u8>) {
        let read = async {
            let first = self.0.read_u8().await.unwrap();
            let (mut length, mut shift) = (0, 0);
            loop {
                let byte = self.0.read_u8().await.unwrap();
                length |= usize::from(byte & 0x7f) << shift;
                shift += 7;
                if byte & 0x80 == 0 {
                    break;
                }
            }
            let mut body = vec![0; length];
            self.0.read_exact(&mut body).await.unwrap();
            (first, body)
        };
        timeout(PATIENCE, read).await.expect("a packet")
    }

    /// A message of the server: topic, id, payload. An id means QoS 1.
    pub async fn message(&mut self) -> (String, Option<u16>, String) {
        let (topic, id, payload) = self.message_of_bytes().await;
        (topic, id, String::from_utf8(payload).unwrap())
    }

    /// The same, if the payload is no text.
    pub async fn message_of_bytes(&mut self) -> (String, Option<u16>, Vec<u8>) {
        let (first, body) = self.receive().await;
        assert!(matches!(first, 0x30 | 0x32), "{first:#x} {body:?}");
        let length = usize::from(u16::from_be_bytes([body[0], body[1]]));
        let topic = String::from_utf8(body[2..2 + length].to_vec()).unwrap();
        let mut rest = &body[2 + length..];
        let id = (first == 0x32).then(|| {
            let id = u16::from_be_bytes([rest[0], rest[1]]);
            rest = &rest[2..];
            id
        });
        (topic, id, rest.to_vec())
    }

    /// Proves that nothing else was on its way: the answer to a ping comes next.
    pub async fn nothing_else(&mut self) {
        self.send(&PINGREQ).await;
        assert_eq!(self.receive().await, PINGRESP);
    }

    /// All that comes until the connection ends.
    pub async fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // A reset is an end too.
        let _ = timeout(PATIENCE, self.0.read_to_end(&mut bytes)).await.expect("an end");
        bytes
    }
}

pub fn task(ordinal: i64) -> TaskNo {
    TaskNo { job: JobNo(1), ordinal }
}

pub fn package() -> Arc<Package> {
    Arc::new(Package {
        version: "2.0.0".to_owned(),
        module: "default".to_owned(),
        differential: false,
        sign_method: SignMethod::Md5,
        files: vec![PackageFile {
            name: String::new(),
            size: 84,
            path: "/d/x?s=1".to_owned(),
            sign: "93230c3bde425a9d7984a594ac55ea1e".to_owned(),
            md5: "93230c3bde425a9d7984a594ac55ea1e".to_owned(),
        }],
        stream: None,
        tags: Vec::new(),
        udi: None,
    })
}

pub fn push(ordinal: i64) -> Downlink {
    Downlink::Push { task: task(ordinal), revision: 1, package: package(), id: ordinal }
}

pub fn pushed(id: i64) -> String {
    format!(
        concat!(
            r#"{{"code":"1000","data":{{"size":84,"sign":"93230c3bde425a9d7984a594ac55ea1e","version":"2.0.0","#,
            r#""url":"http://127.0.0.1:8080/d/x?s=1","signMethod":"Md5","md5":"93230c3bde425a9d7984a594ac55ea1e"}},"#,
            r#""id":{},"message":"success"}}"#
        ),
        id
    )
}

pub fn online(session: i64) -> DeviceEvent {
    DeviceEvent::Online { session, ip: "127.0.0.1".to_owned() }
}

pub fn report(version: &str) -> DeviceEvent {
    DeviceEvent::Report { module: "default".to_owned(), version: version.to_owned() }
}
