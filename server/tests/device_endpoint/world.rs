//! An engine made of memory.

pub use super::bytes::*;
use parking_lot::Mutex;
use rustls::ServerConfig;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
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
        let handler = move |stream, peer, pass| Arc::clone(&served).handle(stream, peer, pass);
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
