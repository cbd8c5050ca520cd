//! Who signed a call: both signature schemes, from what a request says of its signature to the holder of the key.

use crate::api::access::Signer;
use crate::api::error::{ApiError, Code, Kind};
use crate::api::nonce::{self, Refusal};
use crate::api::params::Params;
use crate::api::sign::{self, V1Hash};
use crate::api::sts;
use crate::app::App;
use crate::http::Caller;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method};
use sha2::{Digest as _, Sha256};
use std::borrow::Cow;
use std::sync::Arc;
use updraft_core::time::{MINUTE_MS, SECOND_MS, Timestamp};

/// Headers that an ACS3 signature must cover: without them a call could be changed on its way.
const ACS3_COVERED: [&str; 6] =
    ["host", "x-acs-action", "x-acs-version", "x-acs-date", "x-acs-content-sha256", "x-acs-signature-nonce"];

/// The ACS3 header of a temporary key's token.
const TOKEN_HEADER: &str = "x-acs-security-token";
/// The ACS3 header in which SDKs repeat the id of a temporary key.
const KEY_ID_HEADER: &str = "x-acs-accesskey-id";

/// Codes of calls that somebody makes who guesses keys: they count against his address.
const GUESSES: [Code; 3] =
    [Code::AccessKeyNotFound, Code::SignatureDoesNotMatch, Code::SecurityTokenMismatch];

/// What a caller's signature says, whichever the scheme.
struct Claim<'a> {
    scheme: Scheme,
    key_id: Cow<'a, str>,
    timestamp: &'a str,
    nonce: &'a str,
    signature: Cow<'a, str>,
    string_to_sign: String,
    /// The token of a temporary key; the signature covers it.
    token: Option<&'a str>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scheme {
    V1(V1Hash),
    Acs3,
}

/// Who signed the call. Strange keys of an address from which too many calls were not signed well are refused
/// unheard.
pub async fn signer(
    app: &App,
    parts: &Parts,
    body: &Bytes,
    params: &Params,
    acs3: bool,
) -> Result<Arc<Signer>, ApiError> {
    let address = parts.extensions.get::<Caller>().map(|caller| caller.remote.ip());
    let claim = if acs3 { acs3_claim(parts, body)? } else { v1_claim(&parts.method, params)? };
    // Keys that were looked up before cost no look-up; whoever holds one does not pay for its neighbours.
    if !app.access_keys.knows(&claim.key_id)
        && let Some(wait_ms) = address.and_then(|address| app.gate.refuses(address))
    {
        let refused = ApiError::new(Code::Throttling).because("too many failures of this address");
        return Err(ApiError { retry_after_ms: Some(wait_ms as i64), ..refused });
    }
    let signer = verify(app, &claim).await;
    if let (Some(address), Err(error)) = (address, &signer)
        && GUESSES.iter().any(|code| code.wire() == error.code)
    {
        app.gate.failed(address);
    }
    signer
}

/// A header's value, if it is text.
pub fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn v1_claim<'a>(method: &Method, params: &'a Params) -> Result<Claim<'a>, ApiError> {
    let key_id = params.need("AccessKeyId")?;
    let signature = params.need("Signature")?;
    let hash = match params.need("SignatureMethod")? {
        "HMAC-SHA1" => V1Hash::Sha1,
        "HMAC-SHA256" => V1Hash::Sha256,
        _ => return Err(Code::InvalidSignatureMethod.into()),
    };
    if params.need("SignatureVersion")? != "1.0" {
        return Err(Code::InvalidSignatureVersion.into());
    }
    Ok(Claim {
        scheme: Scheme::V1(hash),
        key_id: Cow::Borrowed(key_id),
        timestamp: params.need("Timestamp")?,
        nonce: params.need("SignatureNonce")?,
        signature: Cow::Borrowed(signature),
        string_to_sign: sign::v1_string_to_sign(method.as_str(), params),
        token: params.text("SecurityToken"),
    })
}

fn acs3_claim<'a>(parts: &'a Parts, body: &Bytes) -> Result<Claim<'a>, ApiError> {
    let headers = &parts.headers;
    // Missing headers are named like the parameters that they stand for.
    let need = |name: &str, called: &str| header(headers, name).ok_or_else(|| ApiError::missing(called));
    let authorization = sign::acs3_authorization(need("authorization", "Authorization")?)
        .ok_or_else(|| ApiError::new(Code::IncompleteSignature))?;
    let timestamp = need("x-acs-date", "Timestamp")?;
    let nonce = need("x-acs-signature-nonce", "SignatureNonce")?;
    let claimed_hash = need("x-acs-content-sha256", "ContentSha256")?;
    if let Some(bare) = not_covered(headers, body, &authorization.signed_headers) {
        return Err(ApiError::with(
            Code::IncompleteSignature,
            format!("{} The header {bare} must be signed.", Code::IncompleteSignature.text()),
        ));
    }
    // SDKs name a temporary key twice.
    if header(headers, KEY_ID_HEADER).is_some_and(|id| id != authorization.credential) {
        return Err(ApiError::with(
            Code::IncompleteSignature,
            format!("{} {KEY_ID_HEADER} names another key.", Code::IncompleteSignature.text()),
        ));
    }
    let hash = hex::encode(Sha256::digest(body));
    if claimed_hash != hash {
        return Err(ApiError::with(
            Code::SignatureDoesNotMatch,
            format!("{}x-acs-content-sha256 is not the hash of the body", Code::SignatureDoesNotMatch.text()),
        ));
    }
    let query = Params::read(parts.uri.query().unwrap_or_default(), b"")?;
    let string_to_sign = sign::acs3_string_to_sign(
        parts.method.as_str(),
        &query,
        &authorization.signed_headers,
        |name| joined(headers, name),
        &hash,
    );
    Ok(Claim {
        scheme: Scheme::Acs3,
        key_id: Cow::Owned(authorization.credential),
        timestamp,
        nonce,
        signature: Cow::Owned(authorization.signature),
        string_to_sign,
        token: header(headers, TOKEN_HEADER).filter(|token| !token.is_empty()),
    })
}

/// A header that the signature must cover and does not.
fn not_covered(headers: &HeaderMap, body: &Bytes, signed: &[String]) -> Option<&'static str> {
    // Whether the body holds parameters depends on its type.
    let typed = if body.is_empty() { None } else { Some("content-type") };
    let if_there = [typed, Some(TOKEN_HEADER), Some(KEY_ID_HEADER)];
    let if_there = if_there.into_iter().flatten().filter(|name| headers.contains_key(*name));
    ACS3_COVERED.into_iter().chain(if_there).find(|name| !signed.iter().any(|signed| signed == name))
}

fn joined(headers: &HeaderMap, name: &str) -> Option<String> {
    let mut values: Vec<&str> =
        headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).map(str::trim).collect();
    values.sort_unstable();
    (!values.is_empty()).then(|| values.join(","))
}

async fn verify(app: &App, claim: &Claim<'_>) -> Result<Arc<Signer>, ApiError> {
    let now = app.now();
    let signer = app
        .access_keys
        .find(&app.store, &app.master, &claim.key_id, now)
        .await
        .map_err(before_the_operation)?
        .ok_or_else(|| ApiError::new(Code::AccessKeyNotFound).because("unknown access key"))?;
    if !signer.enabled {
        let why = format!("the access key {} is disabled", signer.key_id);
        return Err(ApiError::new(Code::AccessKeyInactive).because(why));
    }
    sts::check(signer.session.as_ref(), claim.token, now)?;
    let at = timestamp(claim.timestamp).ok_or(Code::TimestampFormat)?;
    let skew_ms = app.config.timestamp_skew_seconds * SECOND_MS;
    if now.since_ms(at).abs() > skew_ms {
        return Err(ApiError::with(
            Code::TimestampExpired,
            format!(
                "{} The server's time is {}, yours is {} seconds off.",
                Code::TimestampExpired.text(),
                crate::api::answer::utc(now),
                now.since_ms(at) / SECOND_MS,
            ),
        ));
    }
    let expected = match claim.scheme {
        Scheme::V1(hash) => sign::v1_signature(hash, &signer.secret, &claim.string_to_sign),
        Scheme::Acs3 => sign::acs3_signature(&signer.secret, &claim.string_to_sign),
    };
    if !sign::same(&claim.signature, &expected) {
        // Official SDKs compare the echoed string with their own to tell a wrong secret from a wrong string.
        return Err(ApiError::with(
            Code::SignatureDoesNotMatch,
            format!("{}{}", Code::SignatureDoesNotMatch.text(), claim.string_to_sign),
        )
        .because("the access key is known, so the secret or the signed string is wrong"));
    }
    let expires = at.plus_ms(skew_ms);
    let taken = if app.nodes.is_shared() {
        let taken = nonce::take_together(&app.store, &claim.key_id, claim.nonce, expires).await;
        taken.map_err(|error| before_the_operation(error.into()))?
    } else {
        app.nonces.take(&claim.key_id, claim.nonce, expires, now)
    };
    match taken {
        Ok(()) => Ok(signer),
        Err(Refusal::Used) => Err(Code::NonceUsed.into()),
        Err(Refusal::Full) => {
            let full = ApiError::new(Code::Throttling).because("the memory for nonces is full (nonce_max)");
            Err(ApiError { retry_after_ms: Some(MINUTE_MS), ..full })
        }
    }
}

/// A fault of ours before the operation began travels as a gateway error.
fn before_the_operation(error: ApiError) -> ApiError {
    match error.kind {
        Kind::Gateway(_) => error,
        Kind::Business => ApiError { internal: error.internal, ..ApiError::new(Code::InternalError) },
    }
}

fn timestamp(text: &str) -> Option<Timestamp> {
    let at = jiff::civil::DateTime::strptime("%Y-%m-%dT%H:%M:%SZ", text).ok()?;
    let at = jiff::tz::TimeZone::UTC.to_timestamp(at).ok()?;
    Some(Timestamp(at.as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_whole_utc_seconds() {
        assert_eq!(timestamp("1970-01-01T00:00:01Z"), Some(Timestamp(1_000)));
        for bad in
            ["2024-05-20", "2024-05-20T12:00:00", "2024-13-20T12:00:00Z", "now", "2024-05-20T12:00:00Zx"]
        {
            assert_eq!(timestamp(bad), None, "{bad}");
        }
    }
}
