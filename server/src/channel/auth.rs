//! The HTTP channel's login: `POST /auth`, signed with the device's secret, for a token.

use super::token::Claim;
use super::{Told, failure, known, success, unheard};
use crate::api::device::register_device::SEAL_PURPOSE;
use crate::app::App;
use crate::device::login::Method;
use crate::engine::ingest;
use crate::http::{Caller, Reply, read_body};
use bytes::Bytes;
use http::Request;
use http_body::Body;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::sync::Arc;
use updraft_core::limits::CLIENT_ID_CHARS_MAX;
use updraft_core::text::clip;
use updraft_core::time::{MINUTE_MS, Timestamp};
use updraft_store::DeviceLogin;

/// The path.
pub const AUTH_PATH: &str = "/auth";

/// Largest body, in bytes.
const BODY_BYTES_MAX: usize = 4 * 1024;
/// How far a timestamp may be off, if there is one.
const SKEW_MS: i64 = 15 * MINUTE_MS;
/// Numbers below it are seconds.
const MILLISECONDS_FROM: i64 = 100_000_000_000;

/// What a device says. Its `version` means nothing.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Said<'a> {
    #[serde(borrow)]
    product_key: Cow<'a, str>,
    #[serde(borrow)]
    device_name: Cow<'a, str>,
    #[serde(borrow)]
    client_id: Cow<'a, str>,
    #[serde(borrow)]
    sign: Cow<'a, str>,
    #[serde(borrow, default, alias = "signmethod")]
    sign_method: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    timestamp: Option<&'a RawValue>,
}

/// What is checked.
struct Login {
    product_key: String,
    device_name: String,
    method: Method,
    content: String,
    sign: String,
    timestamp: Option<String>,
}

/// Why a device gets no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Refusal {
    #[error("there is no such device, or the signature does not fit its secret")]
    NotProved,
    #[error("the device is disabled")]
    Disabled,
    #[error("the timestamp is more than 15 minutes off")]
    Timestamp,
    #[error("too many messages in this second")]
    TooMany,
    #[error("the server cannot tell now")]
    Unavailable,
}

/// Answers a login.
pub async fn answer<B>(app: &Arc<App>, caller: Caller, request: Request<B>) -> Reply
where
    B: Body<Data = Bytes> + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    if let Some(refused) = unheard(app, caller, &request) {
        return refused;
    }
    let Some(body) = read_body(app, request.into_body(), BODY_BYTES_MAX).await else {
        return failure(Told::Param, "the body does not come whole, or is larger than 4096 bytes");
    };
    let login = match read(&body) {
        Ok(login) => login,
        Err(why) => return failure(Told::Param, why),
    };
    match token(app, caller, &login).await {
        Ok(token) => known(success(&format!(r#"{{"token":"{token}"}}"#))),
        Err(reason) => {
            if reason == Refusal::NotProved {
                app.gate.failed(caller.remote.ip());
            }
            let (pk, dn) = (clip(&login.product_key, 64), clip(&login.device_name, 64));
            tracing::warn!(remote = %caller.remote, ?pk, ?dn, %reason, "a login by HTTP was refused");
            let told = match reason {
                Refusal::NotProved | Refusal::Disabled | Refusal::Timestamp => Told::Auth,
                Refusal::TooMany => Told::TooMany,
                Refusal::Unavailable => Told::Common,
            };
            failure(told, &reason.to_string())
        }
    }
}

fn read(body: &[u8]) -> Result<Login, &'static str> {
    let said: Said<'_> = serde_json::from_slice(body)
        .map_err(|_| "the body must be JSON with productKey, deviceName, clientId and sign")?;
    if said.client_id.chars().count() > CLIENT_ID_CHARS_MAX {
        return Err("clientId is longer than 64 characters");
    }
    let method = match said.sign_method.as_deref().filter(|name| !name.is_empty()) {
        Some(name) => Method::from_name(name).ok_or("signmethod is none of hmacmd5, hmacsha1, hmacsha256")?,
        None => Method::HmacMd5,
    };
    let timestamp = said.timestamp.filter(|raw| raw.get() != "null").map(|raw| {
        // A text as it is meant, a number as it is written: that is what was signed.
        serde_json::from_str::<String>(raw.get()).unwrap_or_else(|_| raw.get().to_owned())
    });
    let mut content =
        format!("clientId{}deviceName{}productKey{}", said.client_id, said.device_name, said.product_key);
    if let Some(timestamp) = &timestamp {
        content.push_str("timestamp");
        content.push_str(timestamp);
    }
    Ok(Login {
        product_key: said.product_key.into_owned(),
        device_name: said.device_name.into_owned(),
        method,
        content,
        sign: said.sign.into_owned(),
        timestamp,
    })
}

async fn token(app: &Arc<App>, caller: Caller, login: &Login) -> Result<String, Refusal> {
    // No name holds it, and no database text may.
    if login.product_key.contains('\0') || login.device_name.contains('\0') {
        return Err(Refusal::NotProved);
    }
    let unavailable = |error: &dyn std::fmt::Display| {
        tracing::error!(%error, "a login by HTTP cannot be served");
        Refusal::Unavailable
    };
    let names = (login.product_key.clone(), login.device_name.clone());
    let found = app.store.glance(move |tx| tx.device_login(&names.0, &names.1)).await;
    // The secret of a device that has a certificate is for gateways only.
    let Some(DeviceLogin::Known { device, secret_sealed, disabled, credentials, certified: false, .. }) =
        found.map_err(|error| unavailable(&error))?
    else {
        return Err(Refusal::NotProved);
    };
    let secret = app.master.open(SEAL_PURPOSE, &secret_sealed).map_err(|error| unavailable(&error))?;
    if !login.method.verify(&secret, &login.content, login.sign.as_bytes()) {
        return Err(Refusal::NotProved);
    }
    // Only who knows the secret is told.
    if disabled {
        return Err(Refusal::Disabled);
    }
    let now = app.now();
    if login.timestamp.as_deref().is_some_and(|said| !is_fresh(said, now)) {
        return Err(Refusal::Timestamp);
    }
    if !app.paces.allows(device, app.config.mqtt_uplink_per_second, now) {
        return Err(Refusal::TooMany);
    }
    ingest::visit(app, device, caller.remote.ip().to_string()).await.map_err(|error| unavailable(&error))?;
    Ok(app.tokens.issue(Claim { device, credentials }, now))
}

/// Whether a timestamp, in milliseconds or seconds, is near the present.
fn is_fresh(said: &str, now: Timestamp) -> bool {
    let Ok(number) = said.parse::<i64>() else { return false };
    let ms = if number.saturating_abs() < MILLISECONDS_FROM { number.saturating_mul(1_000) } else { number };
    now.0.saturating_sub(ms).saturating_abs() <= SKEW_MS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_page_and_sdks_are_read() {
        // The page's own sample, and the sample of its signature.
        let page = br#"{"version":"default","clientId":"12345","signmethod":"hmacsha1","sign":"FAFD82A3D602B37FB0FA8B7892F24A477F851A14","productKey":"pk","deviceName":"device","timestamp":"789"}"#;
        let login = read(page).unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(login.content, "clientId12345deviceNamedeviceproductKeypktimestamp789");
        assert!(login.method.verify("secret", &login.content, login.sign.as_bytes()));
        // Link SDK for C 4.x: neither version nor timestamp.
        let c = br#"{"productKey":"pk","deviceName":"device","clientId":"12345","signmethod":"hmacsha256","sign":"c8cb3dcb7159682438e5fd9a9c34f398e41bb8edb6f222795e307bafee151090"}"#;
        let login = read(c).unwrap_or_else(|why| panic!("{why}"));
        assert!(
            login.method.verify("secret", &login.content, login.sign.as_bytes()) && login.timestamp.is_none()
        );
        // A number, and the default method.
        let number = br#"{"productKey":"pk","deviceName":"device","clientId":"12345","timestamp":789,"sign":"14b198324fe55e1d3c88f2e705e201ee"}"#;
        let login = read(number).unwrap_or_else(|why| panic!("{why}"));
        assert!(login.method.verify("secret", &login.content, login.sign.as_bytes()));
    }

    #[test]
    fn nonsense_is_named() {
        let long =
            format!(r#"{{"productKey":"p","deviceName":"d","sign":"","clientId":"{}"}}"#, "x".repeat(65));
        for body in [
            "",
            "null",
            "[]",
            r#"{"productKey":"p","deviceName":"d","clientId":"c"}"#,
            r#"{"productKey":1,"deviceName":"d","clientId":"c","sign":""}"#,
            r#"{"productKey":"p","deviceName":"d","clientId":"c","sign":"","signmethod":"md5"}"#,
            &long,
        ] {
            assert!(read(body.as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn timestamps_are_near_or_not() {
        let now = Timestamp(1_716_206_400_000);
        for (said, fresh) in [
            ("1716206400000", true),
            ("1716206400", true),
            ("1716207300000", true),
            ("1716207300001", false),
            ("1716205499999", false),
            ("2524608000000", false),
            ("789", false),
            ("now", false),
            ("99999999999999999999", false),
            ("-9223372036854775808", false),
        ] {
            assert_eq!(is_fresh(said, now), fresh, "{said}");
        }
    }
}
