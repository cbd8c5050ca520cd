//! A whole server in this process, and what a back end needs to use it: signed calls, uploads, things.

use crate::answer::{Said, judge};
use crate::http::{Answer, Client};
use crate::mqtt::{self, Device};
use crate::{Broken, answer, check, shown};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::net::SocketAddr;
use std::path::PathBuf;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use updraft_server::api::answer::utc;
use updraft_server::api::error::Code;
use updraft_server::api::params::Params;
use updraft_server::api::sign::{
    V1Hash, acs3_signature, acs3_string_to_sign, v1_signature, v1_string_to_sign,
};
use updraft_server::clock::{Clock as _, SystemClock};
use updraft_server::config::Config;
use updraft_server::serve::Server;

const KEY_ID: &str = "UPDRFUZZ";
const KEY_SECRET: &str = "a-secret-of-the-fuzzed-world";
/// What is uploaded.
const IMAGE: &[u8] = b"firmware image";

/// Parameters of a call.
pub type Pairs = Vec<(String, String)>;

/// How a call is signed and sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Manner {
    /// With the parameters in a form body, or else in the query.
    pub post: bool,
    /// By ACS3, or else by v1.0.
    pub acs3: bool,
    /// The answer in XML, or else in JSON.
    pub xml: bool,
}

/// Signed by v1.0 in the query, answered in JSON.
pub const PLAIN: Manner = Manner { post: false, acs3: false, xml: false };

/// Names of things that exist, for placeholders.
#[derive(Debug, Clone, Default)]
pub struct Things {
    /// A product, whose devices may register themselves.
    pub product: String,
    /// Its secret.
    pub product_secret: String,
    /// A device of the product.
    pub device: String,
    /// Its secret.
    pub secret: String,
    /// Its IotId.
    pub iot_id: String,
    /// A package that may be rolled out.
    pub firmware: String,
    /// The version that the package leads to.
    pub version: String,
    /// A batch of the package for the device.
    pub job: String,
    /// The batch's task.
    pub task: String,
    /// A FirmwareUrl that may be used.
    pub file: String,
    /// An upload's ticket.
    pub ticket: Value,
}

/// The server and its back end.
pub struct World {
    runtime: Runtime,
    server: Option<Server>,
    _dir: TempDir,
    /// Where uploads are kept.
    pub blobs: PathBuf,
    /// Where the API is.
    pub api: SocketAddr,
    /// Where devices connect.
    pub mqtt: SocketAddr,
    /// Looks at the database, beside the server.
    pub eye: rusqlite::Connection,
    /// What placeholders stand for.
    pub things: Things,
    pub(crate) client: Client,
    made: u64,
}

fn cannot(error: impl std::fmt::Display) -> Broken {
    Broken::new("the world cannot be made", error)
}

/// Parameters from texts.
pub fn pairs(of: &[(&str, &str)]) -> Pairs {
    of.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn escape(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

impl World {
    /// A new server with an empty database.
    pub fn start() -> Result<Self, Broken> {
        let dir = tempfile::tempdir()?;
        let data_dir = dir.path().join("data");
        let config = Config {
            data_dir: data_dir.clone(),
            api_addr: ([127, 0, 0, 1], 0).into(),
            mqtt_addr: ([127, 0, 0, 1], 0).into(),
            mqtt_tls_addr: None,
            root_access_key_id: Some(KEY_ID.to_owned()),
            root_access_key_secret: Some(KEY_SECRET.to_owned()),
            // The limits of rates and counts have tests of their own; here they would only hide the rest.
            quota_scale: 0.0,
            mqtt_uplink_per_second: 0,
            firmware_max: 1_000_000,
            upload_ticket_seconds: 3_600,
            file_bytes_max: 1_048_576,
            minute_ms: 200,
            drain_seconds: 1,
            ..Config::default()
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let server = runtime.block_on(Server::start(config, None)).map_err(cannot)?;
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        let eye =
            rusqlite::Connection::open_with_flags(data_dir.join("updraft.db"), flags).map_err(cannot)?;
        let mut world = Self {
            api: server.api_addr,
            mqtt: server.mqtt_addr.ok_or_else(|| cannot("no port for devices"))?,
            client: Client::new(server.api_addr),
            blobs: data_dir.join("blobs"),
            runtime,
            server: Some(server),
            _dir: dir,
            eye,
            things: Things::default(),
            made: 0,
        };
        world.refresh()?;
        Ok(world)
    }

    /// A number that was not used before.
    pub fn number(&mut self) -> u64 {
        self.made += 1;
        self.made
    }

    /// Signs and sends a call.
    pub fn send(&mut self, manner: Manner, action: &str, params: &Pairs) -> Result<Answer, Broken> {
        let at = utc(SystemClock.now());
        let at = format!("{}Z", at.get(..19).unwrap_or_default());
        let nonce = format!("n{}", self.number());
        let request = if manner.acs3 {
            acs3(self.api, manner, action, params, &at, &nonce)
        } else {
            v1(self.api, manner, action, params, &at, &nonce)
        };
        self.client.exchange(&request)
    }

    /// A signed query for raw requests: a valid list.
    pub fn signed_query(&mut self) -> String {
        let at = utc(SystemClock.now());
        let at = format!("{}Z", at.get(..19).unwrap_or_default());
        let nonce = format!("n{}", self.number());
        let params = pairs(&[("FirmwareId", &self.things.firmware)]);
        v1_query("GET", PLAIN, "QueryOTAFirmware", &params, &at, &nonce)
    }

    /// Calls an operation that must succeed.
    pub fn ok(&mut self, action: &str, params: &[(&str, &str)]) -> Result<Value, Broken> {
        let answer = self.send(PLAIN, action, &pairs(params))?;
        let Said { success, json, .. } = judge(&answer)?;
        if !success {
            return Err(Broken::new("a valid call is refused", format!("{action}: {}", shown(&answer.body))));
        }
        Ok(json)
    }

    /// Uploads bytes; answers the FirmwareUrl.
    pub fn upload(&mut self) -> Result<String, Broken> {
        let ticket = self.ok("GenerateOTAUploadURL", &[])?;
        let request = self.place(&upload_form(IMAGE), &ticket);
        let answer = self.client.exchange(&request)?;
        if answer.status != 204 {
            return Err(Broken::new("a valid upload is refused", shown(&answer.body)));
        }
        Ok(said(&ticket, "/Data/FirmwareUrl"))
    }

    /// A package of a new file that needs no verification.
    pub fn package(&mut self, version: &str) -> Result<String, Broken> {
        let file = self.upload()?;
        let (product, name) = (self.things.product.clone(), format!("fw{}", self.number()));
        let made = self.ok(
            "CreateOTAFirmware",
            &[
                ("ProductKey", &product),
                ("FirmwareName", &name),
                ("DestVersion", version),
                ("FirmwareUrl", &file),
                ("NeedToVerify", "false"),
            ],
        )?;
        Ok(said(&made, "/Data/FirmwareId"))
    }

    /// Makes new things for the placeholders: earlier ones may be used up, cancelled, deleted.
    pub fn refresh(&mut self) -> Result<(), Broken> {
        let name = format!("prod{}", self.number());
        let product = self.ok("CreateProduct", &[("ProductName", &name), ("NodeType", "0")])?;
        self.things.product = said(&product, "/ProductKey");
        self.things.product_secret = said(&product, "/Data/ProductSecret");
        let product = self.things.product.clone();
        self.ok("SetProductDynamicRegister", &[("ProductKey", &product), ("DynamicRegister", "ANY")])?;
        self.refresh_device()?;
        self.refresh_job()
    }

    fn refresh_device(&mut self) -> Result<(), Broken> {
        let (product, name) = (self.things.product.clone(), format!("device{}", self.number()));
        let device = self.ok("RegisterDevice", &[("ProductKey", &product), ("DeviceName", &name)])?;
        self.things.device = name;
        self.things.secret = said(&device, "/Data/DeviceSecret");
        self.things.iot_id = said(&device, "/Data/IotId");
        Ok(())
    }

    /// A new package and a batch of it for the device, a new file and a new ticket.
    pub fn refresh_job(&mut self) -> Result<(), Broken> {
        let version = format!("2.0.{}", self.number());
        self.things.firmware = self.package(&version)?;
        self.things.version = version;
        let Things { firmware, product, device, .. } = self.things.clone();
        let target = [
            ("FirmwareId", firmware.as_str()),
            ("ProductKey", &product),
            ("TargetSelection", "SPECIFIC"),
            ("TargetDeviceName.1", &device),
            ("TimeoutInMinutes", "60"),
        ];
        let job = self.ok("CreateOTAStaticUpgradeJob", &target)?;
        self.things.job = said(&job, "/Data/JobId");
        let tasks = self.ok("ListOTATaskByJob", &[("JobId", &said(&job, "/Data/JobId"))])?;
        self.things.task = said(&tasks, "/Data/SimpleOTATaskInfo/0/TaskId");
        self.things.file = self.upload()?;
        self.things.ticket = self.ok("GenerateOTAUploadURL", &[])?;
        Ok(())
    }

    /// Puts what exists in the place of `{product}` and so on; `{length}` is that of what follows the head.
    pub fn place(&mut self, bytes: &[u8], ticket: &Value) -> Vec<u8> {
        let mut out = bytes.to_vec();
        let Things { product, device, iot_id, firmware, version, job, task, file, .. } = self.things.clone();
        for (name, value) in [
            ("{product}", product),
            ("{device}", device),
            ("{iotid}", iot_id),
            ("{firmware}", firmware),
            ("{version}", version),
            ("{job}", job),
            ("{task}", task),
            ("{file}", file),
            ("{key}", said(ticket, "/Data/Key")),
            ("{policy}", said(ticket, "/Data/Policy")),
            ("{access}", said(ticket, "/Data/OSSAccessKeyId")),
            ("{signature}", said(ticket, "/Data/Signature")),
        ] {
            out = replaced(&out, name, &value);
        }
        for (name, value) in self.signs() {
            out = replaced(&out, name, &value);
        }
        if crate::http::find(&out, b"{token}").is_some() {
            out = replaced(&out, "{token}", &self.token());
        }
        if crate::http::find(&out, b"{query}").is_some() {
            out = replaced(&out, "{query}", &self.signed_query());
        }
        if crate::http::find(&out, b"{n}").is_some() {
            out = replaced(&out, "{n}", &self.number().to_string());
        }
        let body = crate::http::find(&out, b"\r\n\r\n").map_or(0, |end| out.len() - end - 4);
        replaced(&out, "{length}", &body.to_string())
    }

    /// The fields of a valid CONNECT of the device.
    pub fn login(&self) -> Vec<Vec<u8>> {
        let Things { product, device, .. } = &self.things;
        let [(_, sign), _] = self.signs();
        vec![
            b"fuzz|securemode=3,signmethod=hmacsha1,_ss=1|".to_vec(),
            format!("{device}&{product}").into_bytes(),
            sign.into_bytes(),
        ]
    }

    /// A valid back end and a valid device still get everything done, from a product to an ended batch.
    pub fn story(&mut self) -> Result<(), Broken> {
        self.refresh()?;
        let Things { product, device, job, .. } = self.things.clone();
        let mut line = Device::login(self.mqtt, &self.login())?;
        let upgrade = format!("/ota/device/upgrade/{product}/{device}");
        let push = loop {
            let packet = line.receive()?.ok_or_else(|| Broken::new("a valid device is cut off", &device))?;
            if let Some((topic, _, payload)) = mqtt::message(&packet)
                && topic == upgrade
            {
                break payload;
            }
        };
        let push: Value =
            serde_json::from_slice(&push).map_err(|error| Broken::new("a push is not JSON", error))?;
        let (inform, progress) = (
            format!("/ota/device/inform/{product}/{device}"),
            format!("/ota/device/progress/{product}/{device}"),
        );
        let version = said(&push, "/data/version");
        line.send(&mqtt::publish(&progress, Some(1), br#"{"id":1,"params":{"step":"50","desc":""}}"#));
        let report = format!(r#"{{"id":2,"params":{{"version":"{version}"}}}}"#);
        line.send(&mqtt::publish(&inform, Some(2), report.as_bytes()));
        let mut open = vec![1, 2];
        while !open.is_empty() {
            let packet = line.receive()?.ok_or_else(|| Broken::new("a valid device is cut off", &device))?;
            if packet.0 == 0x40 {
                open.retain(|id: &u16| id.to_be_bytes()[..] != packet.1[..]);
            }
        }
        let told = self.ok("QueryOTAJob", &[("JobId", &job)])?;
        let status = said(&told, "/Data/JobStatus");
        if status == "COMPLETED" {
            return Ok(());
        }
        Err(Broken::new("a valid batch does not end", format!("{job} is {status}")))
    }

    /// The valid story, and the database.
    pub fn check(&mut self) -> Result<(), Broken> {
        self.story()?;
        check::database(&self.eye)?;
        check::blobs(&self.eye, &self.blobs)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            self.runtime.block_on(server.stop());
        }
    }
}

/// An upload's form, with placeholders for the ticket, as a whole request.
pub fn upload_form(file: &[u8]) -> Vec<u8> {
    let mut out =
        b"POST / HTTP/1.1\r\nHost: ota.example.com\r\nContent-Type: multipart/form-data; boundary=edge\r\n\
        Content-Length: {length}\r\n\r\n"
            .to_vec();
    for (name, value) in [
        ("key", "{key}"),
        ("policy", "{policy}"),
        ("OSSAccessKeyId", "{access}"),
        ("signature", "{signature}"),
    ] {
        let part = format!("--edge\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
        out.extend(part.bytes());
    }
    out.extend(b"--edge\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f.bin\"\r\n\r\n");
    out.extend(file);
    out.extend(b"\r\n--edge--\r\n");
    out
}

/// The text at a JSON pointer, or nothing.
pub fn said(answer: &Value, pointer: &str) -> String {
    answer.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn replaced(bytes: &[u8], what: &str, with: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(at) = answer_find(rest, what) {
        out.extend(&rest[..at]);
        out.extend(with.bytes());
        rest = &rest[at + what.len()..];
    }
    out.extend(rest);
    out
}

fn answer_find(bytes: &[u8], what: &str) -> Option<usize> {
    // Most bytes begin no placeholder.
    let first = bytes.iter().position(|byte| *byte == b'{')?;
    crate::http::find(&bytes[first..], what.as_bytes()).map(|at| first + at)
}

fn query(params: &Params) -> String {
    let all: Vec<String> =
        params.iter().map(|(name, value)| format!("{}={}", escape(name), escape(value))).collect();
    all.join("&")
}

fn v1_query(method: &str, manner: Manner, action: &str, params: &Pairs, at: &str, nonce: &str) -> String {
    let common = [
        ("Action", action),
        ("Version", "2018-01-20"),
        ("Format", if manner.xml { "XML" } else { "JSON" }),
        ("AccessKeyId", KEY_ID),
        ("SignatureMethod", "HMAC-SHA1"),
        ("SignatureVersion", "1.0"),
        ("SignatureNonce", nonce),
        ("Timestamp", at),
    ];
    // Common ones come last, so that no mutated parameter replaces them.
    let given = params.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let signed = Params::from_pairs(given.filter(|(name, _)| *name != "Signature").chain(common));
    let signature = v1_signature(V1Hash::Sha1, KEY_SECRET, &v1_string_to_sign(method, &signed));
    query(&Params::from_pairs(signed.iter().chain([("Signature", signature.as_str())])))
}

fn v1(api: SocketAddr, manner: Manner, action: &str, params: &Pairs, at: &str, nonce: &str) -> Vec<u8> {
    if manner.post {
        let body = v1_query("POST", manner, action, params, at, nonce);
        let form = "Content-Type: application/x-www-form-urlencoded\r\n";
        return format!(
            "POST / HTTP/1.1\r\nHost: {api}\r\n{form}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes();
    }
    let query = v1_query("GET", manner, action, params, at, nonce);
    format!("GET /?{query} HTTP/1.1\r\nHost: {api}\r\n\r\n").into_bytes()
}

fn acs3(api: SocketAddr, manner: Manner, action: &str, params: &Pairs, at: &str, nonce: &str) -> Vec<u8> {
    let all = Params::from_pairs(params.clone());
    let text = query(&all);
    let (in_query, body) = if manner.post { (Params::default(), text.clone()) } else { (all, String::new()) };
    let hash = hex::encode(Sha256::digest(body.as_bytes()));
    let host = api.to_string();
    let headers = [
        ("accept", if manner.xml { "application/xml" } else { "application/json" }),
        ("host", host.as_str()),
        ("x-acs-action", action),
        ("x-acs-content-sha256", &hash),
        ("x-acs-date", at),
        ("x-acs-signature-nonce", nonce),
        ("x-acs-version", "2018-01-20"),
    ];
    let names: Vec<String> = headers.iter().map(|(name, _)| (*name).to_owned()).collect();
    let value =
        |name: &str| headers.iter().find(|(found, _)| *found == name).map(|(_, value)| (*value).to_owned());
    let to_sign = acs3_string_to_sign("POST", &in_query, &names, value, &hash);
    let signature = acs3_signature(KEY_SECRET, &to_sign);
    let target = if manner.post { "/".to_owned() } else { format!("/?{text}") };
    let lines: Vec<String> = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let form = if manner.post { "content-type: application/x-www-form-urlencoded\r\n" } else { "" };
    format!(
        "POST {target} HTTP/1.1\r\n{}{form}content-length: {}\r\nauthorization: ACS3-HMAC-SHA256 \
         Credential={KEY_ID},SignedHeaders={},Signature={signature}\r\n\r\n{body}",
        lines.concat(),
        body.len(),
        names.join(";"),
    )
    .into_bytes()
}

/// Judges an answer and says its class in words.
pub fn class(answer: &Answer) -> Result<String, Broken> {
    let said = answer::judge(answer)?;
    let xml = if said.json.is_null() { "xml" } else { "json" };
    // Codes that are made of a name which the caller chose are no outcomes of their own.
    let fixed = Code::ALL.iter().any(|code| code.wire() == said.code);
    let code = match said.code.as_str() {
        _ if said.success => "ok",
        code if fixed => code,
        code if code.starts_with("Missing") => "Missing…",
        _ => "Invalid…",
    };
    Ok(format!("{} {xml} {code}", answer.status))
}
