//! Signed calls over kept connections.

use crate::Scale;
use crate::postgres::Bare;
use crate::process::Process;
use crate::report::{Reach, Report, millis, number};
use crate::seed::{KEY_ID, SECRET, Seeded};
use anyhow::Context as _;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use updraft_server::api::answer::utc;
use updraft_server::api::params::Params;
use updraft_server::api::sign::{V1Hash, v1_signature, v1_string_to_sign};
use updraft_server::clock::{Clock as _, SystemClock};
use updraft_server::random::Random;

/// Connections that call at once.
const CONNECTIONS: usize = 64;
/// Rows of a page.
const PAGE_SIZE: usize = 10;

/// Makes signed requests, each with a nonce of its own.
pub struct Caller {
    random: Random,
    host: String,
}

impl Caller {
    pub fn new(host: String) -> anyhow::Result<Self> {
        Ok(Self { random: Random::from_system()?, host })
    }

    /// The query of a signed call.
    pub fn query(&self, action: &str, format: &str, more: &[(&str, &str)]) -> String {
        let now = utc(SystemClock.now());
        let timestamp = format!("{}Z", now.get(..19).unwrap_or_default());
        let nonce = self.random.request_id();
        let common = [
            ("Action", action),
            ("Version", "2018-01-20"),
            ("Format", format),
            ("AccessKeyId", KEY_ID),
            ("SignatureMethod", "HMAC-SHA1"),
            ("SignatureVersion", "1.0"),
            ("SignatureNonce", &nonce),
            ("Timestamp", &timestamp),
        ];
        let params = Params::from_pairs(common.into_iter().chain(more.iter().copied()));
        let signature = v1_signature(V1Hash::Sha1, SECRET, &v1_string_to_sign("GET", &params));
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(params.iter()).append_pair("Signature", &signature);
        query.finish()
    }

    /// A signed call of any operation.
    pub fn request(&self, action: &str, format: &str, more: &[(&str, &str)]) -> Vec<u8> {
        get(&format!("/?{}", self.query(action, format, more)), &self.host)
    }

    /// A request for one page of the seeded list.
    pub fn page(&self, seeded: &Seeded, format: &str, page: usize) -> Vec<u8> {
        let (page, size) = (page.to_string(), PAGE_SIZE.to_string());
        let list = [("FirmwareId", seeded.firmware_id.as_str()), ("CurrentPage", &page), ("PageSize", &size)];
        self.request("ListOTAJobByFirmware", format, &list)
    }

    /// A request that wakes the server's engine: a batch for one device, which is busy and so fails at once.
    pub fn wake(&self, seeded: &Seeded) -> anyhow::Result<Vec<u8>> {
        let busy = &seeded.reporting.first().context("no busy device")?.identity;
        let batch = [
            ("FirmwareId", seeded.firmware_id.as_str()),
            ("ProductKey", busy.product_key.as_str()),
            ("TargetSelection", "SPECIFIC"),
            ("TargetDeviceName.1", busy.device_name.as_str()),
        ];
        Ok(self.request("CreateOTAStaticUpgradeJob", "JSON", &batch))
    }
}

fn get(target: &str, host: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes()
}

/// A kept connection: one request at a time.
pub struct Connection {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Connection {
    pub async fn open(addr: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, answer: Vec::with_capacity(16_384) })
    }

    /// Sends a request and reads the answer to its end; an error unless it is 200 and holds `proof`.
    pub async fn call(&mut self, request: &[u8], proof: &str) -> io::Result<()> {
        self.stream.write_all(request).await?;
        self.answer.clear();
        let mut end = None;
        while end.is_none_or(|end| self.answer.len() < end) {
            if self.stream.read_buf(&mut self.answer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if end.is_none() {
                end = answer_end(&self.answer);
            }
        }
        let good = self.answer.starts_with(b"HTTP/1.1 200")
            && self.answer.windows(proof.len()).any(|window| window == proof.as_bytes());
        if good { Ok(()) } else { Err(io::Error::other(String::from_utf8_lossy(&self.answer).into_owned())) }
    }
}

impl Connection {
    /// The last answer's body.
    pub fn body(&self) -> anyhow::Result<serde_json::Value> {
        let head = self.answer.windows(4).position(|window| window == b"\r\n\r\n").context("no answer")?;
        Ok(serde_json::from_slice(&self.answer[head + 4..])?)
    }
}

/// Where an answer ends, once its head is complete.
fn answer_end(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let text = std::str::from_utf8(bytes.get(..head)?).ok()?;
    let length = text.lines().find_map(|line| line.strip_prefix("Content-Length: "))?;
    Some(head + 4 + length.parse::<usize>().ok()?)
}

/// What a load did.
pub struct Load {
    pub per_second: f64,
    pub p50: Duration,
    pub p99: Duration,
    /// Processor time of the server, and of the database's own processes, for one call.
    pub cpu: Duration,
}

/// Sends each connection's requests one after another; all connections at once, in a thread of its own.
pub fn load(
    process: &Process,
    seeded: &Seeded,
    requests: Vec<Vec<Vec<u8>>>,
    proof: &'static str,
) -> anyhow::Result<Load> {
    std::thread::scope(|scope| {
        let loading = scope.spawn(|| loaded(process, seeded, requests, proof));
        loading.join().map_err(|_| anyhow::anyhow!("the load panicked"))?
    })
}

fn loaded(
    process: &Process,
    seeded: &Seeded,
    requests: Vec<Vec<Vec<u8>>>,
    proof: &'static str,
) -> anyhow::Result<Load> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let addr = process.api;
    let used = || anyhow::Ok(process.cpu_seconds()? + seeded.database.cpu_seconds()?);
    runtime.block_on(async move {
        let begin = Arc::new(Barrier::new(requests.len() + 1));
        let mut clients = JoinSet::new();
        for requests in requests {
            let begin = Arc::clone(&begin);
            clients.spawn(async move {
                let mut connection = Connection::open(addr).await?;
                begin.wait().await;
                let mut took = Vec::with_capacity(requests.len());
                for request in &requests {
                    let sent = Instant::now();
                    connection.call(request, proof).await?;
                    took.push(sent.elapsed());
                }
                io::Result::Ok(took)
            });
        }
        begin.wait().await;
        let (start, cpu) = (Instant::now(), used()?);
        let mut took = Vec::new();
        while let Some(client) = clients.join_next().await {
            took.extend(client??);
        }
        let (elapsed, cpu) = (start.elapsed(), used()? - cpu);
        took.sort_unstable();
        let quantile = |percent: usize| took.get(took.len() * percent / 100).copied().unwrap_or_default();
        Ok(Load {
            per_second: took.len() as f64 / elapsed.as_secs_f64(),
            p50: quantile(50),
            p99: quantile(99),
            cpu: Duration::from_secs_f64((cpu / took.len().max(1) as f64).max(0.0)),
        })
    })
}

/// The requests of each connection, so many in all; each is made of its number.
pub fn each(calls: usize, request: impl Fn(usize) -> Vec<u8>) -> Vec<Vec<Vec<u8>>> {
    let of_one = calls.div_ceil(CONNECTIONS);
    (0..CONNECTIONS)
        .map(|connection| (0..of_one).map(|number| request(connection * of_one + number)).collect())
        .collect()
}

/// Measures calls of ListOTAJobByFirmware.
pub fn measure(
    process: &Process,
    seeded: &Seeded,
    bare: Option<&Bare>,
    scale: Scale,
    report: &mut Report,
) -> anyhow::Result<()> {
    let caller = Caller::new(process.api.to_string())?;
    let list = |format: &str, page: usize, calls: usize| {
        let proof = if format == "JSON" { "\"Success\":true" } else { "<Success>true</Success>" };
        load(process, seeded, each(calls, |_| caller.page(seeded, format, page)), proof)
    };
    // Opens the readers, fills the caches.
    list("JSON", 1, scale.calls / 20)?;
    let health = get("/healthz", &caller.host);
    let nothing = load(process, seeded, each(scale.calls, |_| health.clone()), "alive")?;
    report.part(&format!("API: {CONNECTIONS} kept connections, pages of {PAGE_SIZE} rows"));
    let baseline = format!(
        "GET /healthz: {}/s, p50 {}, p99 {}, {:.1} µs",
        number(nothing.per_second),
        millis(nothing.p50),
        millis(nothing.p99),
        nothing.cpu.as_secs_f64() * 1e6,
    );
    let rows = bare.map(|bare| format!("pgbench, one row by its key, 4 clients: {}/s", number(bare.reads)));
    for format in ["JSON", "XML"] {
        let found = list(format, 1, scale.calls)?;
        let what = format!("signed ListOTAJobByFirmware, {format}");
        let reach = Reach::at_least(found.per_second, 30_000.0, "");
        report.reach(&format!("{what}, calls per second"), &number(found.per_second), &reach, &baseline);
        let p99 = found.p99.as_secs_f64() * 1e3;
        let p50 = format!("p50 {}", millis(found.p50));
        report.reach(&format!("{what}: p99"), &millis(found.p99), &Reach::at_most(p99, 10.0, " ms"), &p50);
        let cpu = format!("{:.1} µs", found.cpu.as_secs_f64() * 1e6);
        let rows = rows.as_deref().unwrap_or_default();
        report.row(&format!("{what}: processor time per call"), &cpu, rows);
    }
    pages(&list, scale, report)
}

/// Compares page 1 with the last one; in turns, so that the machine's moods reach both.
fn pages(
    list: &dyn Fn(&str, usize, usize) -> anyhow::Result<Load>,
    scale: Scale,
    report: &mut Report,
) -> anyhow::Result<()> {
    let last = scale.batches / PAGE_SIZE;
    let (mut first_page, mut last_page) = (0.0, 0.0);
    for _ in 0..4 {
        first_page += list("JSON", 1, scale.calls / 8)?.cpu.as_secs_f64() * 250_000.0;
        last_page += list("JSON", last, scale.calls / 8)?.cpu.as_secs_f64() * 250_000.0;
    }
    report.reach(
        &format!("the last page of {} batches against page 1", number(scale.batches as f64)),
        &format!("{:.2}x", last_page / first_page),
        &Reach::at_most(last_page / first_page, 1.5, "x"),
        &format!("processor time per call: {last_page:.1} µs against {first_page:.1} µs, in turns"),
    );
    Ok(())
}
