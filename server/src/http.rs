//! The HTTP port: which path leads where. Knows no operation and no file.

use crate::api::answer::{Format, Object};
use crate::api::error::{ApiError, Code};
use crate::api::{openapi, rpc};
use crate::app::App;
use crate::channel;
use crate::channel::auth::AUTH_PATH;
use crate::channel::register::REGISTER_PATH;
use crate::channel::topic::TOPIC_PREFIX;
use crate::files::{download, upload};
use crate::vigil;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, BodyStream, Full, Limited};
use metrics_exporter_prometheus::PrometheusHandle;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tracing::Instrument as _;

/// An answer on its way out.
pub type Reply = Response<BoxBody<Bytes, std::io::Error>>;

/// What `/errors` shows: the page that `Recommend` points to.
const ERRORS_PAGE: &str = include_str!("../../docs/errors.md");

/// Marks the answer to a request that was signed well: its connection is no stranger's any more.
#[derive(Debug, Clone, Copy)]
pub struct Known;

/// Where a request came in.
#[derive(Debug, Clone, Copy)]
pub struct Caller {
    /// Our end of the connection.
    pub local: SocketAddr,
    /// The caller's end.
    pub remote: SocketAddr,
    /// Whether it is encrypted.
    pub tls: bool,
}

/// The HTTP port.
pub struct Http {
    /// The application.
    pub app: Arc<App>,
    /// Renders `/metrics`.
    pub metrics: Option<PrometheusHandle>,
    /// Whether `/readyz` says so: not before the start is complete, not while draining.
    pub ready: AtomicBool,
}

impl Http {
    /// Answers one request.
    pub async fn answer<B>(&self, caller: Caller, request: Request<B>) -> Reply
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
    {
        let path = request.uri().path();
        let query = request.uri().query().unwrap_or_default();
        if let Some(address) = download::Address::of(path, query) {
            return download::answer(&self.app, request.method(), address, request.headers()).await;
        }
        if path.starts_with(TOPIC_PREFIX) {
            let base = self.base(caller, &request_host(&request, caller));
            return channel::topic::answer(&self.app, caller, &base, request).await;
        }
        match path {
            "/" if self.app.nodes.role().is_api() => self.root(caller, request).await,
            "/healthz" => plain_reply(StatusCode::OK, "alive\n"),
            "/readyz" => self.readiness(),
            "/metrics" if self.app.config.metrics_addr.is_none() => self.metrics(),
            "/openapi.json" => json_reply(openapi::text()),
            AUTH_PATH => channel::auth::answer(&self.app, caller, request).await,
            REGISTER_PATH => channel::register::answer(&self.app, caller, request).await,
            "/errors" => {
                plain_reply(StatusCode::OK, error_section(request.uri().query().unwrap_or_default()))
            }
            _ => {
                let host = request_host(&request, caller);
                let base = self.base(caller, &host);
                whole(rpc::refuse(&self.app, &host, &base, &ApiError::new(Code::PathNotFound)))
            }
        }
    }

    fn readiness(&self) -> Reply {
        if self.app.nodes.is_cut_off() {
            let words = "not ready: the database cannot be reached, and devices are sent to other nodes\n";
            return plain_reply(StatusCode::SERVICE_UNAVAILABLE, words);
        }
        if self.app.nodes.is_out_of_touch() {
            let words = "not ready: the database does not answer; it goes on by itself when that ends\n";
            return plain_reply(StatusCode::SERVICE_UNAVAILABLE, words);
        }
        if !self.ready.load(Ordering::Relaxed) {
            return plain_reply(StatusCode::SERVICE_UNAVAILABLE, "not ready\n");
        }
        match vigil::why_not_ready(&self.app) {
            Some(why) => plain_reply(StatusCode::SERVICE_UNAVAILABLE, &why),
            None => plain_reply(StatusCode::OK, "ready\n"),
        }
    }

    /// Answers `/metrics`, on whichever port it is.
    pub fn metrics(&self) -> Reply {
        match &self.metrics {
            Some(metrics) => plain_reply(StatusCode::OK, &metrics.render()),
            None => plain_reply(StatusCode::NOT_FOUND, ""),
        }
    }

    async fn root<B>(&self, caller: Caller, request: Request<B>) -> Reply
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
    {
        let host = request_host(&request, caller);
        let content_type = request
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .to_owned();
        if request.method() == Method::POST && content_type.starts_with("multipart/form-data") {
            let request_id = self.app.random.request_id();
            let announced = request.body().size_hint().exact();
            let head = upload::Head { host: &host, content_type: &content_type, announced };
            let frames = BodyStream::new(request.into_body());
            let chunks = futures_util::StreamExt::filter_map(frames, |frame| async move {
                frame.map(|frame| frame.into_data().ok()).transpose()
            });
            let span = tracing::error_span!("upload", request.id = request_id);
            return upload::answer(&self.app, &request_id, &head, Box::pin(chunks)).instrument(span).await;
        }
        let base = self.base(caller, &host);
        let (mut parts, body) = request.into_parts();
        parts.extensions.insert(caller);
        let bytes_max = self.app.config.api_body_bytes_max as usize;
        let Some(body) = read_body(&self.app, body, bytes_max).await else {
            return whole(rpc::refuse(&self.app, &host, &base, &ApiError::new(Code::InvalidBody)));
        };
        whole(rpc::answer(Arc::clone(&self.app), base, parts, body).await)
    }

    /// The base of addresses that the caller can reach, without a final `/`.
    fn base(&self, caller: Caller, host: &str) -> String {
        self.app
            .config
            .public_base()
            .map_or_else(|| format!("{}://{host}", if caller.tls { "https" } else { "http" }), str::to_owned)
    }
}

/// A whole body, if it is not too large and comes in time. Not one byte of one is read that says it is too large.
pub async fn read_body<B>(app: &App, body: B, bytes_max: usize) -> Option<Bytes>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if body.size_hint().lower() > bytes_max as u64 {
        return None;
    }
    let patience = Duration::from_secs(app.config.http_seconds.into());
    let collected = tokio::time::timeout(patience, Limited::new(body, bytes_max).collect()).await;
    collected.ok()?.ok().map(http_body_util::Collected::to_bytes)
}

/// An answer whose body is complete.
pub fn whole(reply: Response<Bytes>) -> Reply {
    reply.map(|body| Full::new(body).map_err(|never| match never {}).boxed())
}

/// The host that the caller named, if it is a plausible one; else our end of the connection.
fn request_host<B>(request: &Request<B>, caller: Caller) -> String {
    request
        .headers()
        .get(header::HOST)
        .and_then(|value| value.to_str().ok())
        .filter(|host| {
            !host.is_empty()
                && host.len() <= 255
                && host.chars().all(|c| c.is_ascii_alphanumeric() || ".-:[]_".contains(c))
        })
        .map_or_else(|| caller.local.to_string(), str::to_owned)
}

/// The section of the errors page about the code in `q=`, or the whole page.
fn error_section(query: &str) -> &'static str {
    let Some(code) = query.strip_prefix("q=") else { return ERRORS_PAGE };
    let family = if code.starts_with("Missing") { "Missing{Parameter}" } else { "Invalid{Parameter}" };
    let start = [code, family].iter().find_map(|name| ERRORS_PAGE.find(&format!("### {name}\n")));
    let Some(start) = start else { return ERRORS_PAGE };
    let section = &ERRORS_PAGE[start..];
    let end = section[4..].find("\n#").map_or(section.len(), |at| at + 5);
    &section[..end]
}

/// A short plain-text answer.
pub fn plain_reply(status: StatusCode, text: &str) -> Reply {
    let body = Full::new(Bytes::copy_from_slice(text.as_bytes())).map_err(|never| match never {}).boxed();
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain;charset=utf-8"));
    reply
}

/// A JSON document of ours.
fn json_reply(text: &'static str) -> Reply {
    let mut reply = plain_reply(StatusCode::OK, text);
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}

/// An XML answer.
pub fn xml_reply(status: StatusCode, object: &Object, root: &str) -> Reply {
    let bytes = Bytes::from(object.render(Format::Xml, root));
    let mut reply = Response::new(Full::new(bytes).map_err(|never| match never {}).boxed());
    *reply.status_mut() = status;
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(Format::Xml.content_type()));
    reply
}
