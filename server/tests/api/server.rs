//! A server without sockets: real store, moved clock, repeatable randomness, devices that never listen.

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt as _, Full};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use updraft_core::id::{AccountNo, DeviceNo, TaskNo};
use updraft_core::time::Timestamp;
use updraft_server::api::access::SEAL_PURPOSE;
use updraft_server::api::answer::utc;
use updraft_server::api::params::Params;
use updraft_server::api::sign::{V1Hash, v1_signature, v1_string_to_sign};
use updraft_server::app::App;
use updraft_server::clock::ManualClock;
use updraft_server::config::Config;
use updraft_server::device::link::{DeviceEvent, DeviceLink, Downlink, Happened};
use updraft_server::engine::{self, ingest};
use updraft_server::files::{Blobs, Measure};
use updraft_server::http::{Caller, Http};
use updraft_server::random::Random;
use updraft_server::seal::MasterKey;
use updraft_server::setup::ROOT_ACCOUNT;
use updraft_store::{AccessKey, Lane, Location, Store, StoreError};

/// When every test begins: 2024-05-20T12:00:00Z.
pub const START: Timestamp = Timestamp(1_716_206_400_000);
pub const HOST: &str = "ota.example.com:8080";

/// An access key.
#[derive(Clone, Copy)]
pub struct Key {
    pub id: &'static str,
    pub secret: &'static str,
}

pub const ROOT: Key = Key { id: "root-key", secret: "root-secret" };
pub const RAM_USER: Key = Key { id: "ram-key", secret: "ram-secret" };
pub const DISABLED: Key = Key { id: "disabled-key", secret: "disabled-secret" };
pub const OTHER_ACCOUNT: Key = Key { id: "other-key", secret: "other-secret" };

/// Longer parameters do not fit an address.
const URI_BYTES_MAX: usize = 60_000;

/// Nobody listens, unless a test says so; who is sent away is noted, what is sent, and what is taken back.
#[derive(Default)]
struct NoDevices {
    listening: Arc<AtomicBool>,
    connected: Arc<Mutex<BTreeSet<DeviceNo>>>,
    ended: Arc<Mutex<Vec<(DeviceNo, i64)>>>,
    sent: Arc<Mutex<Vec<(DeviceNo, Downlink)>>>,
    kicked: Arc<Mutex<Vec<DeviceNo>>>,
    withdrawn: Arc<Mutex<Vec<(TaskNo, i64)>>>,
}

impl DeviceLink for NoDevices {
    fn listening(&self, device: DeviceNo) -> bool {
        self.listening.load(Ordering::Relaxed) || self.connected.lock().unwrap().contains(&device)
    }
    fn end(&self, device: DeviceNo, session: i64) {
        self.ended.lock().unwrap().push((device, session));
    }
    fn send(&self, device: DeviceNo, downlink: Downlink) {
        self.sent.lock().unwrap().push((device, downlink));
    }
    fn withdraw(&self, _: DeviceNo, task: TaskNo, revision: i64) {
        self.withdrawn.lock().unwrap().push((task, revision));
    }
    fn kick(&self, device: DeviceNo) {
        self.kicked.lock().unwrap().push(device);
    }
}

pub struct TestServer {
    pub app: Arc<App>,
    pub clock: Arc<ManualClock>,
    pub dir: TempDir,
    /// Whether all devices listen.
    pub listening: Arc<AtomicBool>,
    /// These do in any case.
    pub connected: Arc<Mutex<BTreeSet<DeviceNo>>>,
    /// Logins that were ended because their devices logged in at another node.
    pub ended: Arc<Mutex<Vec<(DeviceNo, i64)>>>,
    /// What was sent to devices.
    pub sent: Arc<Mutex<Vec<(DeviceNo, Downlink)>>>,
    /// Devices whose connections were ended.
    pub kicked: Arc<Mutex<Vec<DeviceNo>>>,
    /// What was decided for these tasks before these revisions, and is not written yet, was taken back.
    pub withdrawn: Arc<Mutex<Vec<(TaskNo, i64)>>>,
    /// Who calls in [`TestServer::call`] and [`TestServer::ok`], and in which instance (empty: the public one).
    caller: Mutex<(Key, String)>,
    http: Http,
    nonces: Arc<AtomicU64>,
}

/// An answer as it came.
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.body))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// `Code`, in whichever format.
    pub fn code(&self) -> String {
        let text = self.body.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
        match text {
            Some((code, _)) => code.to_owned(),
            None => self.json()["Code"].as_str().unwrap_or_default().to_owned(),
        }
    }

    /// The text of a failure, whether it came from the gateway or from an operation.
    pub fn message(&self) -> String {
        let json = self.json();
        json["Message"].as_str().or(json["ErrorMessage"].as_str()).unwrap_or_default().to_owned()
    }
}

/// A new database of the PostgreSQL server that `UPDRAFT_TEST_POSTGRES` names, if it does, instead of memory.
fn elsewhere(location: Location) -> Location {
    static MADE: AtomicU64 = AtomicU64::new(0);
    let Ok(url) = std::env::var("UPDRAFT_TEST_POSTGRES") else { return location };
    if location != Location::Inline {
        return location;
    }
    let name = format!("api_{}_{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
    let (head, parameters) = url.split_once('?').unwrap_or((&url, ""));
    let (server, _) = head.rsplit_once('/').expect("it names a database: postgres://USER@HOST/NAME");
    let made = format!("{server}/{name}?{parameters}");
    // On a thread of its own: the client must not live inside async code.
    let create = move || {
        let mut client = postgres::Client::connect(&url, postgres::NoTls).expect("the server lets us in");
        client.batch_execute(&format!("CREATE DATABASE {name}")).expect("databases can be made there");
    };
    std::thread::spawn(create).join().unwrap();
    Location::Postgres(made)
}

impl TestServer {
    /// In memory, without quotas.
    pub async fn new() -> Self {
        Self::with(Location::Inline, |config| config.quota_scale = 0.0).await
    }

    /// In a file, so that [`TestServer::dump`] can look at it; without quotas.
    pub async fn on_disk() -> Self {
        Self::on_disk_with(|config| config.quota_scale = 0.0).await
    }

    /// In a file, with another configuration.
    pub async fn on_disk_with(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let location = Location::Sqlite(dir.path().join("updraft.db"));
        Self::start(dir, location, change).await
    }

    /// The number of the root account.
    pub async fn account(&self) -> AccountNo {
        let found = self.app.store.read(|tx| tx.account_find(ROOT_ACCOUNT)).await;
        found.unwrap().expect("every test has one")
    }

    pub async fn with(location: Location, change: impl FnOnce(&mut Config)) -> Self {
        Self::start(tempfile::tempdir().unwrap(), location, change).await
    }

    /// In memory, on a disk that is measured otherwise.
    pub async fn with_disk(measure: Measure, change: impl FnOnce(&mut Config)) -> Self {
        Self::start_on(tempfile::tempdir().unwrap(), Location::Inline, change, |blobs| {
            blobs.measured_by(measure)
        })
        .await
    }

    /// In memory, with its files elsewhere.
    pub async fn with_blobs(blobs: Blobs, change: impl FnOnce(&mut Config)) -> Self {
        Self::start_on(tempfile::tempdir().unwrap(), Location::Inline, change, |_| blobs).await
    }

    async fn start(dir: TempDir, location: Location, change: impl FnOnce(&mut Config)) -> Self {
        Self::start_on(dir, location, change, |blobs| blobs).await
    }

    async fn start_on(
        dir: TempDir,
        location: Location,
        change: impl FnOnce(&mut Config),
        disk: impl FnOnce(Blobs) -> Blobs,
    ) -> Self {
        let mut config = Config { data_dir: dir.path().to_owned(), ..Config::default() };
        change(&mut config);
        let store = Store::open(&elsewhere(location)).unwrap();
        let master = MasterKey::new(&[7; 32]).unwrap();
        for (account, key, ram_user, enabled) in [
            (ROOT_ACCOUNT, ROOT, None, true),
            (ROOT_ACCOUNT, RAM_USER, Some("operator"), true),
            (ROOT_ACCOUNT, DISABLED, None, false),
            ("other", OTHER_ACCOUNT, None, true),
        ] {
            let row = AccessKey {
                id: key.id.to_owned(),
                account: AccountNo(0),
                ram_user: ram_user.map(str::to_owned),
                secret_sealed: master.seal(SEAL_PURPOSE, key.secret).unwrap(),
                enabled,
            };
            let put = store.write(Lane::Interactive, move |tx| {
                let account = tx.account_ensure(account, START)?;
                if let Some(user) = &row.ram_user {
                    tx.ram_user_insert(account, user, START)?;
                }
                tx.access_key_put(&AccessKey { account, ..row.clone() }, START)
            });
            put.await.unwrap();
        }
        let blobs = disk(Blobs::open(&dir.path().join("blobs")).unwrap());
        let clock = Arc::new(ManualClock::new(START));
        Self::assemble(dir, config, Arc::new(store), clock, blobs)
    }

    /// Another server on the same database, with the same files and clock.
    pub fn beside_as(&self, change: impl FnOnce(&mut Config)) -> Self {
        let (mut config, store) = (self.app.config.clone(), Arc::clone(&self.app.store));
        change(&mut config);
        let blobs = self.app.blobs.clone();
        let other =
            Self::assemble(tempfile::tempdir().unwrap(), config, store, Arc::clone(&self.clock), blobs);
        Self { nonces: Arc::clone(&self.nonces), ..other }
    }

    fn assemble(
        dir: TempDir,
        config: Config,
        store: Arc<Store>,
        clock: Arc<ManualClock>,
        blobs: Blobs,
    ) -> Self {
        let master = MasterKey::new(&[7; 32]).unwrap();
        let random = Random::from_seed([1; 32]);
        let link = NoDevices::default();
        let (connected, ended) = (Arc::clone(&link.connected), Arc::clone(&link.ended));
        let (kicked, withdrawn) = (Arc::clone(&link.kicked), Arc::clone(&link.withdrawn));
        let (listening, sent) = (Arc::clone(&link.listening), Arc::clone(&link.sent));
        let app = App::new(config, store, clock.clone(), random, master, blobs, Arc::new(link));
        let http = Http { app: Arc::clone(&app), metrics: None, ready: AtomicBool::new(true) };
        let caller = Mutex::new((ROOT, String::new()));
        let nonces = Arc::default();
        Self { app, clock, dir, listening, connected, ended, sent, kicked, withdrawn, caller, http, nonces }
    }

    /// From now on [`TestServer::call`] and [`TestServer::ok`] are calls of this key in this instance.
    pub fn act_as(&self, key: Key, instance: &str) {
        *self.caller.lock().unwrap() = (key, instance.to_owned());
    }

    /// Moves the clock.
    pub fn later_ms(&self, ms: i64) {
        self.clock.set(self.app.now().plus_ms(ms));
    }

    pub fn nonce(&self) -> String {
        format!("nonce-{}", self.nonces.fetch_add(1, Ordering::Relaxed))
    }

    /// The present as a v1.0 `Timestamp`.
    pub fn timestamp(&self) -> String {
        utc(self.app.now())[..19].to_owned() + "Z"
    }

    /// Parameters that every v1.0 call has; tests change them before they sign.
    pub fn common(&self, key: Key, action: &str, format: &str) -> BTreeMap<String, String> {
        let common = [
            ("Action", action),
            ("Version", "2018-01-20"),
            ("Format", format),
            ("AccessKeyId", key.id),
            ("SignatureMethod", "HMAC-SHA1"),
            ("SignatureVersion", "1.0"),
            ("SignatureNonce", &self.nonce()),
            ("Timestamp", &self.timestamp()),
        ];
        common.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// Signs (v1.0) and sends, in the body what is too long for an address.
    pub async fn send_signed(
        &self,
        method: Method,
        key: Key,
        mut params: BTreeMap<String, String>,
    ) -> Answer {
        let to_sign = v1_string_to_sign(method.as_str(), &Params::from_pairs(params.clone()));
        let hash = match params.get("SignatureMethod").map(String::as_str) {
            Some("HMAC-SHA256") => V1Hash::Sha256,
            _ => V1Hash::Sha1,
        };
        params.insert("Signature".to_owned(), v1_signature(hash, key.secret, &to_sign));
        let (text, request) = (query(&params), Request::builder().method(method));
        if text.len() > URI_BYTES_MAX {
            let form = request.header("content-type", "application/x-www-form-urlencoded");
            return self.send_with(form.uri("/"), text).await;
        }
        self.send(request.uri(format!("/?{text}"))).await
    }

    /// Sends a request without a body.
    pub async fn send(&self, request: http::request::Builder) -> Answer {
        self.send_with(request, Bytes::new()).await
    }

    /// Sends a request.
    pub async fn send_with(&self, request: http::request::Builder, body: impl Into<Bytes>) -> Answer {
        let mut request = request.body(Full::new(body.into())).unwrap();
        request.headers_mut().entry("host").or_insert(HOST.parse().unwrap());
        let caller = Caller {
            local: ([127, 0, 0, 1], 8080).into(),
            remote: ([192, 0, 2, 1], 4_711).into(),
            tls: false,
        };
        let (parts, body) = self.http.answer(caller, request).await.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body = String::from_utf8(body.to_vec()).unwrap();
        Answer { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    /// Calls an operation with a key and a format.
    pub async fn call_as<K, V>(&self, key: Key, format: &str, action: &str, params: &[(K, V)]) -> Answer
    where
        K: AsRef<str>,
        V: AsRef<str>,
    {
        let mut all = self.common(key, action, format);
        for (name, value) in params {
            all.insert(name.as_ref().to_owned(), value.as_ref().to_owned());
        }
        self.send_signed(Method::POST, key, all).await
    }

    /// Calls an operation in JSON, as the root account unless [`TestServer::act_as`] said otherwise.
    pub async fn call<K, V>(&self, action: &str, params: &[(K, V)]) -> (u16, Value)
    where
        K: AsRef<str>,
        V: AsRef<str>,
    {
        let (key, instance) = self.caller.lock().unwrap().clone();
        let mut all: Vec<(&str, &str)> =
            params.iter().map(|(name, value)| (name.as_ref(), value.as_ref())).collect();
        if !instance.is_empty() {
            all.push(("IotInstanceId", &instance));
        }
        let answer = self.call_as(key, "JSON", action, &all).await;
        (answer.status, answer.json())
    }

    /// Calls an operation as the root account, in XML.
    pub async fn call_xml<K, V>(&self, action: &str, params: &[(K, V)]) -> (u16, String)
    where
        K: AsRef<str>,
        V: AsRef<str>,
    {
        let answer = self.call_as(ROOT, "XML", action, params).await;
        (answer.status, answer.body)
    }

    /// Calls an operation, which must succeed.
    pub async fn ok<K, V>(&self, action: &str, params: &[(K, V)]) -> Value
    where
        K: AsRef<str>,
        V: AsRef<str>,
    {
        let (status, answer) = self.call(action, params).await;
        assert_eq!((status, &answer["Success"]), (200, &Value::Bool(true)), "{action}: {answer}");
        answer
    }

    /// Sends a file with a ticket of GenerateOTAUploadURL.
    pub async fn upload(&self, field: impl Fn(&str) -> String, file: &[u8]) {
        let form = form(field, file);
        let request = Request::post("/").header("content-type", "multipart/form-data; boundary=edge");
        let answer = self.send_with(request, form).await;
        assert_eq!(answer.status, 204, "{}", answer.body);
    }

    /// A device of this IotId does something; the engine looks at it.
    pub async fn device(&self, iot_id: &str, event: DeviceEvent) {
        let device = self.device_no(iot_id).await;
        ingest::take(&self.app, vec![Happened { device, event }]).await.unwrap();
    }

    /// The number of the device with this IotId.
    pub async fn device_no(&self, iot_id: &str) -> DeviceNo {
        let wanted = iot_id.to_owned();
        let found = self.app.store.read(move |tx| {
            let account = tx.account_find(ROOT_ACCOUNT)?.unwrap_or_default();
            let instance = tx.instance_public(account)?;
            Ok::<_, StoreError>(tx.device_find_by_iot_id(instance, &wanted)?.map(|device| device.no))
        });
        found.await.unwrap().expect("the device exists")
    }

    /// Lets the engine work until there is nothing to do at once.
    pub async fn engine(&self) {
        while engine::turn(&self.app).await.unwrap().more {}
    }

    /// Everything in the database but the audit log, by table; only [`TestServer::on_disk`].
    pub fn dump(&self) -> BTreeMap<String, Vec<String>> {
        let path = self.dir.path().join("updraft.db");
        let conn = rusqlite::Connection::open(path).unwrap();
        let mut names =
            conn.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name <> 'audit'").unwrap();
        let names: Vec<String> = names.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        let rows = |table: &str| {
            let mut all = conn.prepare(&format!("SELECT * FROM {table}")).unwrap();
            let columns = all.column_count();
            let row = |row: &rusqlite::Row<'_>| {
                (0..columns).map(|at| row.get::<_, rusqlite::types::Value>(at)).collect::<Result<Vec<_>, _>>()
            };
            all.query_map([], row).unwrap().map(|row| format!("{:?}", row.unwrap())).collect()
        };
        names.into_iter().map(|table| (table.clone(), rows(&table))).collect()
    }
}

/// A form with a ticket's fields and a file; its boundary is `edge`.
pub fn form(field: impl Fn(&str) -> String, file: &[u8]) -> Vec<u8> {
    let mut form = Vec::new();
    for (name, of) in [
        ("key", "Key"),
        ("policy", "Policy"),
        ("OSSAccessKeyId", "OSSAccessKeyId"),
        ("signature", "Signature"),
    ] {
        let value = field(of);
        form.extend(
            format!("--edge\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n").bytes(),
        );
    }
    form.extend(b"--edge\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\n".iter());
    form.extend(file);
    form.extend(b"\r\n--edge--\r\n");
    form
}

/// Parameters as a query string.
pub fn query(params: &BTreeMap<String, String>) -> String {
    let mut out = form_urlencoded::Serializer::new(String::new());
    out.extend_pairs(params).finish()
}
