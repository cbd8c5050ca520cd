//! The HTTP channel of a device: a login for a token, then messages; each request on a connection of its own, as
//! devices that cannot keep one do.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::time::timeout;
use updraft_fleet::{HmacKind, Identity};

use super::target::Target;

/// Longest answer that is read.
const ANSWER_MAX: usize = 256 * 1024;
/// hyper would keep more for each connection.
const BUFFER: usize = 16 * 1024;

/// Why a request did not succeed, in a few words without names and numbers of its own.
pub(super) type Failure = String;

/// Logs in; the token.
pub(super) async fn log_in(
    target: &Target,
    node: usize,
    source: Option<IpAddr>,
    identity: &Identity,
    hmac: HmacKind,
    patience: Duration,
) -> Result<String, Failure> {
    let client_id = format!("{}.{}", identity.product_key, identity.device_name);
    let said = json!({
        "productKey": identity.product_key,
        "deviceName": identity.device_name,
        "clientId": client_id,
        "signmethod": hmac.name(),
        "sign": hmac.sign(&identity.device_secret, &identity.content(&client_id, None)),
    });
    let request = Request::post("/auth").header(CONTENT_TYPE, "application/json");
    let info = ask(target, node, source, request, said.to_string().into(), patience).await?;
    info["token"].as_str().map(str::to_owned).ok_or_else(|| "the answer has no token".to_owned())
}

/// Sends a message; what its answer holds, if it answers a question.
pub(super) async fn say(
    target: &Target,
    node: usize,
    source: Option<IpAddr>,
    token: &str,
    topic: &str,
    payload: Vec<u8>,
    patience: Duration,
) -> Result<Option<Value>, Failure> {
    let request = Request::post(format!("/topic{topic}"))
        .header(CONTENT_TYPE, "application/octet-stream")
        .header("password", token);
    let mut info = ask(target, node, source, request, payload.into(), patience).await?;
    Ok(info.get_mut("data").map(Value::take))
}

async fn ask(
    target: &Target,
    node: usize,
    source: Option<IpAddr>,
    request: http::request::Builder,
    body: Bytes,
    patience: Duration,
) -> Result<Value, Failure> {
    let work = async {
        let io = |error: std::io::Error| error.kind().to_string();
        let stream = target.open(node, source).await.map_err(io)?;
        let lost = |_| "the connection ended without an answer".to_owned();
        let (mut sender, connection) =
            http1::Builder::new().max_buf_size(BUFFER).handshake(TokioIo::new(stream)).await.map_err(lost)?;
        let request =
            request.header(HOST, target.host(node)).header("connection", "close").body(Full::new(body));
        let request = request.map_err(|error| error.to_string())?;
        let answer = async {
            let answer = sender.send_request(request).await.map_err(lost)?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), ANSWER_MAX).collect().await;
            let body = body.map_err(|_| "the answer broke off".to_owned())?.to_bytes();
            Ok::<_, Failure>((status, body))
        };
        let (mut answer, mut connection) = (std::pin::pin!(answer), std::pin::pin!(connection));
        let mut open = true;
        loop {
            tokio::select! {
                biased;
                done = &mut answer => return done,
                // Its answer may be complete all the same.
                _ = &mut connection, if open => open = false,
            }
        }
    };
    let (status, body) = timeout(patience, work).await.map_err(|_| "timed out".to_owned())??;
    if status != StatusCode::OK {
        return Err(format!("HTTP {}", status.as_u16()));
    }
    let mut answer: Value = serde_json::from_slice(&body).map_err(|_| "the answer is no JSON".to_owned())?;
    match answer["code"].as_u64() {
        Some(0) => Ok(answer["info"].take()),
        _ => Err(format!("code {}", answer["code"])),
    }
}
