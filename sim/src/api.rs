//! An operator's client: signed calls and form uploads, as requests for the server's own HTTP door.

use crate::chance::Chance;
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use updraft_core::time::Timestamp;
use updraft_server::api::answer::utc;
use updraft_server::api::params::Params;
use updraft_server::api::sign::{V1Hash, v1_signature, v1_string_to_sign};

/// AccessKeyId of the root account.
pub(crate) const KEY_ID: &str = "UPDRSIMULATION";
/// AccessKeySecret of the root account.
pub(crate) const KEY_SECRET: &str = "a-secret-of-the-simulated-world";
/// Where clients reach the server.
pub(crate) const HOST: &str = "127.0.0.1:8080";

/// What became of a call.
#[derive(Debug)]
pub(crate) enum Answer {
    /// It succeeded.
    Done(Value),
    /// It was refused with this code.
    Refused(String),
    /// The server died or was down, or its storage failed: nobody knows whether it took effect.
    Lost,
}

/// A call's parameters.
pub(crate) type Pairs = Vec<(String, String)>;

/// Parameters from texts.
pub(crate) fn pairs(of: &[(&str, &str)]) -> Pairs {
    of.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// A signed call (v1.0, GET).
pub(crate) fn call(
    action: &str,
    params: &Pairs,
    nonces: &mut Chance,
    now: Timestamp,
) -> Request<Full<Bytes>> {
    let at = utc(now);
    let at = format!("{}Z", at.get(..19).unwrap_or_default());
    let nonce = hex::encode(&nonces.bytes()[..16]);
    let common = [
        ("Action", action),
        ("Version", "2018-01-20"),
        ("Format", "JSON"),
        ("AccessKeyId", KEY_ID),
        ("SignatureMethod", "HMAC-SHA1"),
        ("SignatureVersion", "1.0"),
        ("SignatureNonce", &nonce),
        ("Timestamp", &at),
    ];
    let given = params.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let signed = Params::from_pairs(common.into_iter().chain(given));
    let signature = v1_signature(V1Hash::Sha1, KEY_SECRET, &v1_string_to_sign("GET", &signed));
    let all = Params::from_pairs(signed.iter().chain([("Signature", signature.as_str())]));
    let escape = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
    let query: Vec<String> =
        all.iter().map(|(name, value)| format!("{}={}", escape(name), escape(value))).collect();
    request(Method::GET, &format!("/?{}", query.join("&")), None, Bytes::new())
}

/// A form upload with a ticket of GenerateOTAUploadURL.
pub(crate) fn upload(ticket: &Value, file: &[u8]) -> Request<Full<Bytes>> {
    const BOUNDARY: &str = "updraft-sim-boundary";
    let fields = [
        ("key", "Key"),
        ("policy", "Policy"),
        ("OSSAccessKeyId", "OSSAccessKeyId"),
        ("signature", "Signature"),
    ];
    let mut form = Vec::new();
    for (name, field) in fields {
        let value = ticket["Data"][field].as_str().unwrap_or_default();
        form.extend_from_slice(
            format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
                .as_bytes(),
        );
    }
    let head = "Content-Disposition: form-data; name=\"file\"; filename=\"f.bin\"";
    form.extend_from_slice(format!("--{BOUNDARY}\r\n{head}\r\n\r\n").as_bytes());
    form.extend_from_slice(file);
    form.extend_from_slice(format!("\r\n--{BOUNDARY}--\r\n").as_bytes());
    let kind = format!("multipart/form-data; boundary={BOUNDARY}");
    request(Method::POST, "/", Some(&kind), Bytes::from(form))
}

fn request(method: Method, uri: &str, content_type: Option<&str>, body: Bytes) -> Request<Full<Bytes>> {
    let mut builder = Request::builder().method(method).uri(uri).header("host", HOST);
    if let Some(kind) = content_type {
        builder = builder.header("content-type", kind);
    }
    builder.body(Full::new(body)).expect("escaped texts make a valid request")
}
