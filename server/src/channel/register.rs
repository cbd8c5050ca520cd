//! Dynamic registration by HTTPS: `POST /auth/register/device`, a form signed with the product's secret.

use super::{RETRY_MS, json, known, retry_after};
use crate::api::params::Params;
use crate::app::App;
use crate::device::login::Method;
use crate::device::register::{self, Asked, Given, Refusal};
use crate::http::{Caller, Reply, read_body};
use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use http_body::Body;
use serde::Serialize;
use std::sync::Arc;
use updraft_core::registration::{Refused, Way};
use updraft_core::text::clip;

/// The path.
pub const REGISTER_PATH: &str = "/auth/register/device";

/// Largest form, in bytes.
const FORM_BYTES_MAX: usize = 4 * 1024;
/// Longest `random`, in bytes.
const RANDOM_BYTES_MAX: usize = 256;

/// The answer of a device that may log in now: its keys in the order of the platform's page.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Registered<'a> {
    product_key: &'a str,
    device_name: &'a str,
    device_secret: &'a str,
}

#[derive(Serialize)]
struct Success<'a> {
    code: u16,
    data: Registered<'a>,
    message: &'a str,
}

#[derive(Serialize)]
struct Failure<'a> {
    code: u16,
    message: &'a str,
}

/// What a refused device is told: the platform's code and our words.
#[derive(Clone, Copy)]
struct Told(u16, &'static str);

const METHOD_NOT_ALLOWED: Told = Told(460, "request parameter error: POST a form");
const NO_TLS: Told = Told(460, "request parameter error: HTTPS only (register_by_tls_only)");
const TOO_LARGE: Told =
    Told(460, "request parameter error: the form does not come whole, or is larger than 4096 bytes");
const NO_FORM: Told = Told(460, "request parameter error: the body is no form");
const LACKS: Told =
    Told(460, "request parameter error: productKey, deviceName, random and sign are mandatory");
const LONG_RANDOM: Told = Told(460, "request parameter error: random is longer than 256 bytes");
const SIGN_METHOD: Told = Told(6292, "signMethod is none of hmacmd5, hmacsha1, hmacsha256");
const TOO_MANY: Told = Told(429, "too many requests: too many failures of this address");

/// Answers a registration.
pub async fn answer<B>(app: &Arc<App>, caller: Caller, request: Request<B>) -> Reply
where
    B: Body<Data = Bytes> + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    if request.method() != http::Method::POST {
        let mut reply = failure(StatusCode::METHOD_NOT_ALLOWED, METHOD_NOT_ALLOWED);
        reply.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
        return reply;
    }
    if app.config.register_by_tls_only && !caller.tls {
        return failure(StatusCode::OK, NO_TLS);
    }
    let address = caller.remote.ip();
    if let Some(wait_ms) = app.gate.refuses(address) {
        return retry_after(failure(StatusCode::TOO_MANY_REQUESTS, TOO_MANY), wait_ms);
    }
    let Some(body) = read_body(app, request.into_body(), FORM_BYTES_MAX).await else {
        return failure(StatusCode::OK, TOO_LARGE);
    };
    let asked = match read(&body) {
        Ok(asked) => asked,
        Err(told) => return failure(StatusCode::OK, told),
    };
    let (pk, dn) = (asked.product_key.clone(), asked.device_name.clone());
    match register::register(app, asked).await {
        Ok(Given::Secret(secret)) => {
            let data = Registered { product_key: &pk, device_name: &dn, device_secret: &secret };
            known(json(StatusCode::OK, &Success { code: 200, data, message: "success" }))
        }
        Ok(Given::Token { .. }) => failure(StatusCode::INTERNAL_SERVER_ERROR, told(Refusal::Unavailable)),
        Err(reason) => {
            if matches!(reason, Refusal::UnknownProduct | Refusal::Signature) {
                app.gate.failed(address);
            }
            let (remote, pk, dn) = (caller.remote, clip(&pk, 64), clip(&dn, 64));
            tracing::warn!(%remote, ?pk, ?dn, %reason, "a registration was refused");
            match reason {
                Refusal::Unavailable => {
                    retry_after(failure(StatusCode::SERVICE_UNAVAILABLE, told(reason)), RETRY_MS)
                }
                _ => failure(StatusCode::OK, told(reason)),
            }
        }
    }
}

fn failure(status: StatusCode, Told(code, message): Told) -> Reply {
    json(status, &Failure { code, message })
}

fn read(body: &[u8]) -> Result<Asked, Told> {
    let params = Params::read("", body).map_err(|_| NO_FORM)?;
    let need = |name: &str| params.text(name).map(str::to_owned).ok_or(LACKS);
    let asked = Asked {
        product_key: need("productKey")?,
        device_name: need("deviceName")?,
        way: Way::Preregistered,
        instance_id: None,
        method: match params.text("signMethod") {
            Some(name) => Method::from_name(name).ok_or(SIGN_METHOD)?,
            None => Method::HmacMd5,
        },
        random: need("random")?,
        sign: need("sign")?.into_bytes(),
    };
    if asked.random.len() > RANDOM_BYTES_MAX { Err(LONG_RANDOM) } else { Ok(asked) }
}

/// The platform's code for a refusal. It has none for two of them here, so these are the ones that gateways get.
fn told(refusal: Refusal) -> Told {
    match refusal {
        Refusal::UnknownProduct => Told(6250, "product not found"),
        Refusal::Signature => Told(6600, "sign error: it does not fit the product secret"),
        Refusal::Name => Told(460, "request parameter error: no name for a device"),
        Refusal::Instance => Told(460, "request parameter error: another instance"),
        Refusal::Rule(Refused::Off | Refused::UnlistedOff) => {
            Told(6288, "dynamic registration of the product is off")
        }
        Refusal::Rule(Refused::Active) => {
            Told(6289, "device already active: it must be reset first (ResetThing)")
        }
        Refusal::Rule(Refused::Unknown) => Told(6100, "device not found"),
        Refusal::Rule(Refused::Disabled) => Told(6204, "device disabled"),
        Refusal::Full | Refusal::Unavailable => Told(500, "the server cannot take this now: try again later"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_sdks_are_read() {
        // Python linkkit, Link SDK for C 3.x (constant random, capitals), JavaScript.
        for (body, method) in [
            (
                "productKey=a1TestPk001&deviceName=dev01&random=R&sign=00&signMethod=hmacsha256",
                Method::HmacSha256,
            ),
            ("sign=00&signMethod=HmacMD5&random=R&deviceName=dev01&productKey=a1TestPk001", Method::HmacMd5),
            ("productKey=a1TestPk001&deviceName=dev01&random=R&sign=00", Method::HmacMd5),
            (
                "productKey=a1TestPk001&deviceName=dev%30%31&random=R&sign=00&signMethod=hmacsha1",
                Method::HmacSha1,
            ),
        ] {
            let Ok(asked) = read(body.as_bytes()) else { panic!("{body}") };
            assert_eq!((&*asked.product_key, &*asked.device_name), ("a1TestPk001", "dev01"), "{body}");
            assert_eq!(
                (asked.method, &*asked.random, &*asked.sign),
                (method, "R", b"00".as_slice()),
                "{body}"
            );
        }
    }

    #[test]
    fn what_is_no_form_is_named() {
        let long = format!("productKey=a&deviceName=b&sign=00&random={}", "x".repeat(257));
        for (body, code) in [
            ("", 460),
            ("productKey=a&deviceName=b&random=c", 460),
            ("productKey=&deviceName=b&random=c&sign=00", 460),
            ("productKey=a&productKey=b&deviceName=b&random=c&sign=00", 460),
            ("productKey=a%00&deviceName=b&random=c&sign=00", 460),
            (&long, 460),
            ("productKey=a&deviceName=b&random=c&sign=00&signMethod=md5", 6292),
        ] {
            let Err(Told(found, _)) = read(body.as_bytes()) else { panic!("{body}") };
            assert_eq!(found, code, "{body}");
        }
    }

    #[test]
    fn answers_fit_into_256_bytes() {
        let longest = Registered {
            product_key: &"k".repeat(64),
            device_name: &"d".repeat(32),
            device_secret: &"0".repeat(32),
        };
        let text = serde_json::to_string(&Success { code: 200, data: longest, message: "success" }).unwrap();
        assert!(text.len() <= 256, "{}", text.len());
        let page = Registered { product_key: "pk", device_name: "dn", device_secret: "s" };
        assert_eq!(
            serde_json::to_string(&Success { code: 200, data: page, message: "success" }).unwrap(),
            r#"{"code":200,"data":{"productKey":"pk","deviceName":"dn","deviceSecret":"s"},"message":"success"}"#
        );
        for told in
            [METHOD_NOT_ALLOWED, NO_TLS, TOO_LARGE, NO_FORM, LACKS, LONG_RANDOM, SIGN_METHOD, TOO_MANY]
        {
            let text = serde_json::to_string(&Failure { code: told.0, message: told.1 }).unwrap();
            assert!(text.len() <= 256, "{text}");
        }
    }
}
