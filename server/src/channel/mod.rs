//! What devices ask by HTTP instead of MQTT: the registration of those that know their product's secret, and the HTTP
//! channel for those that cannot keep a connection: a login for a token ([`auth`]), then messages ([`topic`]).
//!
//! These doors are unsigned calls of strangers: bodies are small, and failures count against the address as they do on
//! the API. Answers are compact JSON, and short: Link SDKs for C keep 256 bytes for one.

pub mod auth;
pub mod pace;
pub mod register;
pub mod token;
pub mod topic;

use crate::app::App;
use crate::http::{Caller, Known, Reply, whole};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use serde::Serialize;

const JSON: HeaderValue = HeaderValue::from_static("application/json;charset=utf-8");

/// A JSON answer.
fn json(status: StatusCode, answer: &impl Serialize) -> Reply {
    // Texts and numbers of our own always have a JSON form.
    let mut reply = Response::new(Bytes::from(serde_json::to_vec(answer).unwrap_or_default()));
    *reply.status_mut() = status;
    reply.headers_mut().insert(header::CONTENT_TYPE, JSON);
    whole(reply)
}

/// Marks the answer to somebody who has proved who he is: his connection is no stranger's any more.
fn known(mut reply: Reply) -> Reply {
    reply.extensions_mut().insert(Known);
    reply
}

/// Says when to come back, in whole seconds, one at least.
fn retry_after(mut reply: Reply, wait_ms: u64) -> Reply {
    reply.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait_ms.div_ceil(1_000).max(1)));
    reply
}

/// When to try again what the server cannot do now, in milliseconds.
const RETRY_MS: u64 = 5_000;

/// What a device of the HTTP channel is told, in the platform's numbers and words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// The server cannot tell now.
    Common,
    /// A parameter, or the payload, is wrong.
    Param,
    /// The device has not proved who it is, or may not log in.
    Auth,
    /// The token's time is over.
    Expired,
    /// There is no token.
    NoToken,
    /// The token is none.
    Token,
    /// The token is one, and good no more.
    Ended,
    /// The message is none that the device may send.
    Publish,
    /// Too many messages of the device, or failures of the address.
    TooMany,
}

impl Told {
    fn code(self) -> (u32, &'static str) {
        match self {
            Self::Common => (10_000, "common error"),
            Self::Param => (10_001, "param error"),
            Self::Auth => (20_000, "auth check error"),
            Self::Expired => (20_001, "token is expired"),
            Self::NoToken => (20_002, "token is null"),
            Self::Token | Self::Ended => (20_003, "check token error"),
            Self::Publish => (30_001, "publish message error"),
            Self::TooMany => (40_000, "request too many"),
        }
    }
}

/// Why a device is not served.
#[derive(Serialize)]
struct Failure {
    code: u32,
    message: String,
}

/// A refusal: the platform's words, then why. HTTP 200 as on the platform, but for what a device should wait for.
fn failure(told: Told, why: &str) -> Reply {
    let (code, words) = told.code();
    let refusal = Failure { code, message: format!("{words}: {why}") };
    match told {
        Told::Common => retry_after(json(StatusCode::SERVICE_UNAVAILABLE, &refusal), RETRY_MS),
        Told::TooMany => retry_after(json(StatusCode::TOO_MANY_REQUESTS, &refusal), 1_000),
        _ => json(StatusCode::OK, &refusal),
    }
}

/// A success; `info` is JSON.
fn success(info: &str) -> Reply {
    let body = format!(r#"{{"code":0,"message":"success","info":{info}}}"#);
    let mut reply = Response::new(Bytes::from(body));
    reply.headers_mut().insert(header::CONTENT_TYPE, JSON);
    whole(reply)
}

/// The refusal of a request that is not looked at: no POST, or of an address with too many failures.
fn unheard<B>(app: &App, caller: Caller, request: &Request<B>) -> Option<Reply> {
    if request.method() != Method::POST {
        let mut reply = failure(Told::Param, "the method must be POST");
        *reply.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        reply.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
        return Some(reply);
    }
    let wait_ms = app.gate.refuses(caller.remote.ip())?;
    Some(retry_after(failure(Told::TooMany, "too many failures of this address"), wait_ms))
}
