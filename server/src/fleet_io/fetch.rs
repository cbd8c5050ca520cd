//! Downloads: streamed, hashed, thrown away; they can be stopped and gone on with.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_LENGTH, CONTENT_RANGE, HOST, RANGE};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use md5::Digest;
use rustls::pki_types::ServerName;
use tokio::net::lookup_host;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use updraft_core::firmware::SignMethod;
use updraft_fleet::Fetch;

use super::Shared;
use super::meters::Meter;
use super::target::Stream;

/// Progress is told this many times in a download.
const REPORTS: u64 = 20;
/// The same for a file of unknown length: whenever this many bytes have come.
const REPORT_BYTES: u64 = 256 * 1024;
/// hyper would let its buffer grow to hundreds of KiB; thousands of devices cannot have that.
const READ_BUFFER: usize = 16 * 1024;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What a running download tells.
#[derive(Debug)]
pub(super) enum FetchEvent {
    /// So many bytes of the file are here.
    Progress(u64),
    /// The file is complete.
    Done { digest: String, size: u64 },
    /// The download broke off.
    Failed,
}

/// A digest in the making.
#[derive(Debug, Clone)]
enum Hasher {
    Md5(md5::Md5),
    Sha256(sha2::Sha256),
}

/// What has arrived of a file.
#[derive(Debug)]
pub(super) struct Partial {
    position: u64,
    hasher: Hasher,
}

impl Partial {
    fn new(method: SignMethod) -> Self {
        let hasher = match method {
            SignMethod::Md5 => Hasher::Md5(md5::Md5::new()),
            SignMethod::Sha256 => Hasher::Sha256(sha2::Sha256::new()),
        };
        Self { position: 0, hasher }
    }

    fn take(&mut self, bytes: &[u8]) {
        self.position += bytes.len() as u64;
        match &mut self.hasher {
            Hasher::Md5(hasher) => hasher.update(bytes),
            Hasher::Sha256(hasher) => hasher.update(bytes),
        }
    }

    fn digest(&self) -> String {
        match self.hasher.clone() {
            Hasher::Md5(hasher) => hex::encode(hasher.finalize()),
            Hasher::Sha256(hasher) => hex::encode(hasher.finalize()),
        }
    }

    fn is_of(&self, method: SignMethod) -> bool {
        matches!(
            (&self.hasher, method),
            (Hasher::Md5(_), SignMethod::Md5) | (Hasher::Sha256(_), SignMethod::Sha256)
        )
    }
}

/// A device's download, running or stopped.
#[derive(Debug)]
pub(super) struct Download {
    /// Closed when the download is to stop; the task then hands back what it has.
    events: Option<mpsc::Receiver<FetchEvent>>,
    task: JoinHandle<Partial>,
}

impl Download {
    /// Starts, or goes on where `earlier` stopped.
    pub(super) async fn start(
        fetch: Fetch,
        earlier: Option<Self>,
        shared: Arc<Shared>,
        source: Option<IpAddr>,
    ) -> Self {
        let mut partial = None;
        if let Some(mut earlier) = earlier {
            earlier.stop();
            // A panic in the earlier task costs what it had fetched, and nothing else.
            partial = earlier.task.await.ok();
        }
        let partial = partial
            .filter(|partial| fetch.from_byte > 0 && partial.is_of(fetch.digest))
            .unwrap_or_else(|| Partial::new(fetch.digest));
        let (sender, events) = mpsc::channel(4);
        let task = tokio::spawn(download(fetch, partial, sender, shared, source));
        Self { events: Some(events), task }
    }

    /// Stops, and keeps what has arrived.
    pub(super) fn stop(&mut self) {
        self.events = None;
    }

    /// What happens next; never, if nothing runs.
    pub(super) async fn next(&mut self) -> FetchEvent {
        match &mut self.events {
            Some(events) => events.recv().await.unwrap_or(FetchEvent::Failed),
            None => std::future::pending().await,
        }
    }
}

async fn download(
    fetch: Fetch,
    mut partial: Partial,
    events: mpsc::Sender<FetchEvent>,
    shared: Arc<Shared>,
    source: Option<IpAddr>,
) -> Partial {
    let outcome = tokio::select! {
        outcome = receive(&fetch, &mut partial, &events, &shared, source) => outcome,
        () = events.closed() => return partial,
    };
    let last = match outcome {
        Ok(()) if fetch.head => FetchEvent::Done { digest: String::new(), size: partial.position },
        Ok(()) => FetchEvent::Done { digest: partial.digest(), size: partial.position },
        // It was stopped just now.
        Err(_) if events.is_closed() => return partial,
        Err(error) => {
            shared.meters.failed("download", &in_words(&error));
            tracing::debug!(url = %fetch.url, at = partial.position, %error, "download broke off");
            FetchEvent::Failed
        }
    };
    // Fails only if nobody wants the file any more.
    let _ = events.send(last).await;
    partial
}

async fn receive(
    fetch: &Fetch,
    partial: &mut Partial,
    events: &mpsc::Sender<FetchEvent>,
    shared: &Shared,
    source: Option<IpAddr>,
) -> Result<(), Failure> {
    if fetch.size > 0 && partial.position >= fetch.size {
        // It was stopped at its last byte: there is nothing to ask for.
        return Ok(());
    }
    let _permit = shared.downloads.acquire().await?;
    let patience = shared.options.io_timeout;
    let begun = (partial.position == 0).then(Instant::now);
    let mut web = timeout(patience, Web::open(&fetch.url, shared, source)).await??;
    if fetch.head {
        let response = timeout(patience, web.ask(Method::HEAD, None)).await??;
        if response.status() != StatusCode::OK {
            return Err(refused(&response));
        }
        let length =
            response.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        partial.position = length.ok_or("the answer has no length")?;
    } else {
        let mut progress = Progress::of(fetch, partial.position, shared.clock.speed);
        // In pieces only if it is known where the last one ends.
        let range = shared.options.range_bytes.filter(|range| *range > 0 && fetch.size > 0);
        loop {
            let last = range.map(|range| (partial.position + range).min(fetch.size) - 1);
            let wanted = (partial.position > 0 || last.is_some()).then_some((partial.position, last));
            let response = timeout(patience, web.ask(Method::GET, wanted)).await??;
            let whole = match response.status() {
                StatusCode::PARTIAL_CONTENT if starts_at(&response, partial.position) => last.is_none(),
                // The server does not do ranges: from the beginning, then.
                StatusCode::OK => {
                    *partial = Partial::new(fetch.digest);
                    true
                }
                _ => return Err(refused(&response)),
            };
            let before = partial.position;
            take(response.into_body(), partial, events, shared, &mut progress).await?;
            if whole || partial.position >= fetch.size {
                break;
            }
            if partial.position == before {
                return Err("a range was answered with nothing".into());
            }
        }
    }
    if let Some(begun) = begun {
        shared.meters.took(Meter::Download, begun.elapsed());
    }
    Ok(())
}

/// Why an answer cannot be used, in words that many devices share.
fn refused<B>(response: &Response<B>) -> Failure {
    format!("HTTP {}", response.status().as_u16()).into()
}

/// An error without the addresses and numbers in it, so that many devices share the words.
fn in_words(error: &Failure) -> String {
    match error.downcast_ref::<std::io::Error>() {
        Some(error) => error.kind().to_string(),
        None => error.to_string(),
    }
}

/// What is told of a download, and when.
struct Progress {
    pace: Pace,
    every: u64,
    told: u64,
}

impl Progress {
    fn of(fetch: &Fetch, position: u64, speed: f64) -> Self {
        Self {
            pace: Pace::new(fetch.bytes_per_second, speed),
            every: if fetch.size > 0 { (fetch.size / REPORTS).max(1) } else { REPORT_BYTES },
            told: position,
        }
    }
}

async fn take(
    mut body: Incoming,
    partial: &mut Partial,
    events: &mpsc::Sender<FetchEvent>,
    shared: &Shared,
    progress: &mut Progress,
) -> Result<(), Failure> {
    while let Some(frame) = timeout(shared.options.io_timeout, body.frame()).await? {
        let Ok(data) = frame?.into_data() else { continue };
        for piece in data.chunks(progress.pace.piece) {
            partial.take(piece);
            shared.counters.downloaded(piece.len() as u64);
            progress.pace.wait(piece.len()).await;
            if partial.position - progress.told >= progress.every {
                progress.told = partial.position;
                events.send(FetchEvent::Progress(progress.told)).await?;
            }
        }
    }
    Ok(())
}

/// A connection for downloads.
struct Web {
    sender: http1::SendRequest<Empty<Bytes>>,
    authority: String,
    path: String,
}

impl Web {
    async fn open(url: &str, shared: &Shared, source: Option<IpAddr>) -> Result<Self, Failure> {
        let uri: Uri = url.parse()?;
        let authority = uri.authority().ok_or("no host in the address")?;
        // Brackets belong to the written form of an IPv6 address only.
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let (tls, port) = match (uri.scheme_str(), &shared.target.web) {
            (Some("http"), _) => (None, 80),
            (Some("https"), Some(config)) => {
                (Some((Arc::clone(config), ServerName::try_from(host.to_owned())?)), 443)
            }
            (Some("https"), None) => return Err("an https address, and no TLS was configured".into()),
            _ => return Err("only http and https addresses can be fetched".into()),
        };
        let found = lookup_host((host, authority.port_u16().unwrap_or(port))).await?.next();
        let stream = Stream::open(found.ok_or("the host has no address")?, source, tls).await?;
        let (sender, connection) =
            http1::Builder::new().max_buf_size(READ_BUFFER).handshake(TokioIo::new(stream)).await?;
        // Ends by itself as soon as the sender and the body are dropped.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "download connection ended");
            }
        });
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Self { sender, authority: authority.to_string(), path })
    }

    /// Asks for the file, or from one byte of it on, perhaps to another, both included.
    async fn ask(
        &mut self,
        method: Method,
        range: Option<(u64, Option<u64>)>,
    ) -> Result<Response<Incoming>, Failure> {
        let mut request = Request::builder().method(method).uri(&self.path).header(HOST, &self.authority);
        if let Some((from, to)) = range {
            let to = to.map(|to| to.to_string()).unwrap_or_default();
            request = request.header(RANGE, format!("bytes={from}-{to}"));
        }
        self.sender.ready().await?;
        Ok(self.sender.send_request(request.body(Empty::<Bytes>::new())?).await?)
    }
}

/// Whether a partial answer goes on exactly at `position`.
fn starts_at<B>(response: &Response<B>, position: u64) -> bool {
    let range = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
    let start = range.and_then(|range| range.strip_prefix("bytes ")?.split('-').next());
    start.and_then(|start| start.parse().ok()) == Some(position)
}

/// Holds a slow device's reading back.
struct Pace {
    start: Instant,
    bytes: f64,
    per_second: Option<f64>,
    piece: usize,
}

impl Pace {
    fn new(bytes_per_second: Option<u64>, speed: f64) -> Self {
        let per_second = bytes_per_second.map(|rate| (rate as f64 * speed).max(1.0));
        // About twenty pieces a second, so that a slow download trickles instead of jumping.
        let piece = per_second.map_or(usize::MAX, |rate| (rate / 20.0) as usize).max(1);
        Self { start: Instant::now(), bytes: 0.0, per_second, piece }
    }

    async fn wait(&mut self, bytes: usize) {
        if let Some(per_second) = self.per_second {
            self.bytes += bytes as f64;
            sleep_until(self.start + Duration::from_secs_f64(self.bytes / per_second)).await;
        }
    }
}
