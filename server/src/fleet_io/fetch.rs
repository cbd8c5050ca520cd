//! Downloads: streamed, hashed, thrown away; they can be stopped and gone on with.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_RANGE, HOST, RANGE};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use md5::Digest;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use updraft_core::firmware::SignMethod;
use updraft_fleet::Fetch;

use super::Shared;

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
    pub(super) async fn start(fetch: Fetch, earlier: Option<Self>, shared: Arc<Shared>) -> Self {
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
        let task = tokio::spawn(download(fetch, partial, sender, shared));
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
) -> Partial {
    let outcome = tokio::select! {
        outcome = receive(&fetch, &mut partial, &events, &shared) => outcome,
        () = events.closed() => return partial,
    };
    let last = match outcome {
        Ok(()) => FetchEvent::Done { digest: partial.digest(), size: partial.position },
        Err(error) => {
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
) -> Result<(), Failure> {
    let _permit = shared.downloads.acquire().await?;
    let patience = shared.options.io_timeout;
    let response = timeout(patience, request(&fetch.url, partial.position)).await??;
    match response.status() {
        StatusCode::PARTIAL_CONTENT if starts_at(&response, partial.position) => {}
        // The server does not do ranges: from the beginning, then.
        StatusCode::OK => *partial = Partial::new(fetch.digest),
        status => return Err(format!("unusable answer {status}").into()),
    }
    let mut body = response.into_body();
    let mut pace = Pace::new(fetch.bytes_per_second, shared.clock.speed);
    let every = if fetch.size > 0 { (fetch.size / REPORTS).max(1) } else { REPORT_BYTES };
    let mut told = partial.position;
    while let Some(frame) = timeout(patience, body.frame()).await? {
        let Ok(data) = frame?.into_data() else { continue };
        for piece in data.chunks(pace.piece) {
            partial.take(piece);
            shared.counters.downloaded(piece.len() as u64);
            pace.wait(piece.len()).await;
            if partial.position - told >= every {
                told = partial.position;
                events.send(FetchEvent::Progress(told)).await?;
            }
        }
    }
    Ok(())
}

async fn request(url: &str, from_byte: u64) -> Result<Response<Incoming>, Failure> {
    let uri: Uri = url.parse()?;
    if uri.scheme_str() != Some("http") {
        return Err("only http addresses can be fetched".into());
    }
    let authority = uri.authority().ok_or("no host in the address")?;
    // Brackets belong to the written form of an IPv6 address only.
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((host, authority.port_u16().unwrap_or(80))).await?;
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(READ_BUFFER).handshake(TokioIo::new(stream)).await?;
    // Ends by itself as soon as the sender and the body are dropped.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "download connection ended");
        }
    });
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::get(path).header(HOST, authority.as_str());
    if from_byte > 0 {
        request = request.header(RANGE, format!("bytes={from_byte}-"));
    }
    Ok(sender.send_request(request.body(Empty::<Bytes>::new())?).await?)
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
