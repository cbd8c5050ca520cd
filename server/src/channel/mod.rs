//! What devices ask by HTTP instead of MQTT: the registration of those that know their product's secret.
//!
//! These doors are unsigned calls of strangers: bodies are small, and failures count against the address as they do on
//! the API. Answers are compact JSON, and short: Link SDKs for C keep 256 bytes for one.

pub mod register;

use crate::http::{Known, Reply, whole};
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;

/// A JSON answer.
fn json(status: StatusCode, answer: &impl Serialize) -> Reply {
    // Texts and numbers of our own always have a JSON form.
    let mut reply = Response::new(Bytes::from(serde_json::to_vec(answer).unwrap_or_default()));
    *reply.status_mut() = status;
    let kind = HeaderValue::from_static("application/json;charset=utf-8");
    reply.headers_mut().insert(header::CONTENT_TYPE, kind);
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
