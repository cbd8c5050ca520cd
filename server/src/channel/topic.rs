//! What devices say by HTTP: `POST /topic/{topic}` with the token of [`super::auth`]. Topics and payloads are those of
//! MQTT; a question is answered in the response.

use super::token::{BadToken, Claim};
use super::{Told, failure, known, success, unheard};
use crate::app::App;
use crate::device::link::{DeviceEvent, Happened};
use crate::device::topic::{Owner, Uplink};
use crate::device::{firmware_get, inform, progress, push};
use crate::engine::ingest::{self, Spoken};
use crate::http::{Caller, Reply, read_body};
use bytes::Bytes;
use http::Request;
use http_body::Body;
use percent_encoding::percent_decode_str;
use std::sync::Arc;
use updraft_core::id::DeviceNo;
use updraft_core::limits::{HTTP_PAYLOAD_BYTES_MAX, MQTT_TOPIC_BYTES_MAX};
use updraft_core::text::clip;
use updraft_store::TokenHolder;

/// What stands before the topic, which begins with the last slash.
pub const TOPIC_PREFIX: &str = "/topic/";
/// The header that carries the token.
const TOKEN_HEADER: &str = "password";

/// Who speaks.
struct Speaker {
    device: DeviceNo,
    product_key: String,
    name: String,
}

/// Answers a message; `base` is what stands before the paths of downloads.
pub async fn answer<B>(app: &Arc<App>, caller: Caller, base: &str, request: Request<B>) -> Reply
where
    B: Body<Data = Bytes> + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    if let Some(refused) = unheard(app, caller, &request) {
        return refused;
    }
    let token = request.headers().get(TOKEN_HEADER).map(http::HeaderValue::as_bytes).unwrap_or_default();
    if token.is_empty() {
        return failure(Told::NoToken, "the header `password` must hold the token of /auth");
    }
    // Before a byte of the body is read.
    let speaker = match speaker(app, token).await {
        Ok(speaker) => speaker,
        Err((told, why)) => {
            if told == Told::Token {
                // Whoever makes tokens up.
                app.gate.failed(caller.remote.ip());
            }
            return failure(told, why);
        }
    };
    if !app.paces.allows(speaker.device, app.config.mqtt_uplink_per_second, app.now()) {
        return failure(Told::TooMany, "too many messages in this second");
    }
    let path = request.uri().path().strip_prefix("/topic").unwrap_or_default();
    // Some put a slash before the topic's own.
    let path = if path.starts_with("//") { &path[1..] } else { path };
    let topic = percent_decode_str(path).decode_utf8_lossy().into_owned();
    let Some(body) = read_body(app, request.into_body(), HTTP_PAYLOAD_BYTES_MAX).await else {
        return failure(Told::Param, "the body does not come whole, or is larger than 128 KB");
    };
    let owner = Owner { product_key: &speaker.product_key, device_name: &speaker.name };
    let event = match decode(owner, &topic, &body) {
        Ok(event) => event,
        Err((told, why)) => {
            let (pk, dn, topic) = (owner.product_key, owner.device_name, clip(&topic, MQTT_TOPIC_BYTES_MAX));
            tracing::debug!(pk, dn, ?topic, why, "a message by HTTP was refused");
            return failure(told, &why);
        }
    };
    let spoken = match event {
        None => Ok(Spoken::Taken),
        Some(event) => ingest::speak(app, Happened { device: speaker.device, event }).await,
    };
    match spoken {
        Ok(Spoken::Taken) => known(said(app, None)),
        Ok(Spoken::Answered(package)) => known(said(app, Some(&push::object(package.as_deref(), base)))),
        // It was disabled or deleted a moment ago.
        Ok(Spoken::Barred) => failure(Told::Token, "the device may not speak any more"),
        Err(error) => {
            tracing::error!(%error, "the database did not take what a device sent");
            failure(Told::Common, "the server cannot take this now")
        }
    }
}

/// The success of a message; its `data` only if it was a question.
fn said(app: &App, data: Option<&str>) -> Reply {
    let id = app.now().0;
    match data {
        None => success(&format!(r#"{{"messageId":{id}}}"#)),
        Some(data) => success(&format!(r#"{{"messageId":{id},"data":{data}}}"#)),
    }
}

/// The device that a token is about, unless it is good no more.
async fn speaker(app: &App, token: &[u8]) -> Result<Speaker, (Told, &'static str)> {
    let not_ours = (Told::Token, "the token is none of this server: ask /auth for one");
    let ended = (Told::Ended, "the token is good no more: ask /auth for a new one");
    let token = std::str::from_utf8(token).map_err(|_| not_ours)?;
    let Claim { device, credentials } = app.tokens.read(token, app.now()).map_err(|bad| match bad {
        BadToken::NotOurs => not_ours,
        BadToken::Expired => (Told::Expired, "the token is expired: ask /auth for a new one"),
    })?;
    let found = app.store.read(move |tx| tx.token_holder(device)).await.map_err(|error| {
        tracing::error!(%error, "a token cannot be looked up");
        (Told::Common, "the server cannot tell now")
    })?;
    match found {
        Some(TokenHolder { product_key, name, disabled: false, credentials: now }) if now == credentials => {
            Ok(Speaker { device, product_key, name })
        }
        _ => Err(ended),
    }
}

/// What a message says; `None`: a topic of the device of which the server knows nothing, accepted and ignored as by
/// MQTT.
fn decode(owner: Owner<'_>, topic: &str, body: &[u8]) -> Result<Option<DeviceEvent>, (Told, String)> {
    let decoded = match owner.uplink(topic) {
        Some(Uplink::Inform) => inform::decode(body),
        Some(Uplink::Progress) => progress::decode(body),
        Some(Uplink::FirmwareGet) => firmware_get::decode(body),
        Some(Uplink::Request) => firmware_get::decode_request(body),
        Some(Uplink::FileDownload) => {
            return Err((Told::Publish, "blocks of files are given by MQTT only".to_owned()));
        }
        Some(Uplink::Unknown) => return Ok(None),
        None => return Err((Told::Publish, "the topic is not the device's own".to_owned())),
    };
    decoded.map(Some).map_err(|ignored| (Told::Param, ignored.to_string()))
}
