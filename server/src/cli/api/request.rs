//! A signed request of either scheme, as the official SDKs make it. Pure: the time and the nonce are given.

use crate::cli::api::keys::Key;
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use sha2::{Digest as _, Sha256};
use updraft_server::api::params::Params;
use updraft_server::api::sign::{
    V1Hash, acs3_signature, acs3_string_to_sign, canonical_query, v1_signature, v1_string_to_sign,
};

const VERSION: &str = "2018-01-20";
const FORM: &str = "application/x-www-form-urlencoded";
/// Parameters that are longer than this go into the body: what is in the way may refuse long addresses.
const QUERY_CHARS_MAX: usize = 4_096;

/// How a call is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Version 1.0, in the parameters.
    V1,
    /// ACS3-HMAC-SHA256, in the headers.
    Acs3,
}

/// What is called.
pub struct Call<'a> {
    /// The operation.
    pub action: &'a str,
    /// Its parameters.
    pub params: &'a [(String, String)],
    /// `JSON` or `XML`.
    pub format: &'a str,
    /// The host, with a port if it is not the scheme's.
    pub host: &'a str,
    /// `YYYY-MM-DDThh:mm:ssZ`.
    pub timestamp: &'a str,
    /// Never used before.
    pub nonce: &'a str,
}

/// The request to send.
pub fn signed(call: &Call<'_>, key: &Key, scheme: Scheme) -> anyhow::Result<Request<Full<Bytes>>> {
    match scheme {
        Scheme::V1 => v1(call, key),
        Scheme::Acs3 => acs3(call, key),
    }
}

fn v1(call: &Call<'_>, key: &Key) -> anyhow::Result<Request<Full<Bytes>>> {
    let mut all = vec![
        ("Action", call.action),
        ("Version", VERSION),
        ("Format", call.format),
        ("AccessKeyId", &key.id),
        ("SignatureMethod", "HMAC-SHA1"),
        ("SignatureVersion", "1.0"),
        ("SignatureNonce", call.nonce),
        ("Timestamp", call.timestamp),
    ];
    all.extend(key.token.as_deref().map(|token| ("SecurityToken", token)));
    let own = call.params.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let params = Params::from_pairs(own.chain(all));
    let signature = v1_signature(V1Hash::Sha1, &key.secret, &v1_string_to_sign("POST", &params));
    let params = Params::from_pairs(params.iter().chain([("Signature", signature.as_str())]));
    // In the body, where no proxy's log shows them.
    let request = Request::post("/").header("host", call.host).header("content-type", FORM);
    Ok(request.body(Full::new(Bytes::from(canonical_query(&params, ""))))?)
}

fn acs3(call: &Call<'_>, key: &Key) -> anyhow::Result<Request<Full<Bytes>>> {
    let params = Params::from_pairs(call.params.iter().cloned());
    let text = canonical_query(&params, "");
    let in_body = text.len() > QUERY_CHARS_MAX;
    let (query, body) = if in_body { (String::new(), text) } else { (text, String::new()) };
    let hash = hex::encode(Sha256::digest(body.as_bytes()));
    let mut headers = vec![
        ("accept", if call.format == "XML" { "text/xml" } else { "application/json" }),
        ("host", call.host),
        ("x-acs-action", call.action),
        ("x-acs-content-sha256", &hash),
        ("x-acs-date", call.timestamp),
        ("x-acs-signature-nonce", call.nonce),
        ("x-acs-version", VERSION),
    ];
    if in_body {
        headers.push(("content-type", FORM));
    }
    if let Some(token) = &key.token {
        headers.extend([("x-acs-accesskey-id", key.id.as_str()), ("x-acs-security-token", token)]);
    }
    headers.sort_unstable();
    let signed: Vec<String> = headers.iter().map(|(name, _)| (*name).to_owned()).collect();
    let value = |name: &str| headers.iter().find(|(of, _)| *of == name).map(|(_, value)| (*value).to_owned());
    let of_query = if in_body { Params::default() } else { params };
    let to_sign = acs3_string_to_sign("POST", &of_query, &signed, value, &hash);
    let authorization = format!(
        "ACS3-HMAC-SHA256 Credential={},SignedHeaders={},Signature={}",
        key.id,
        signed.join(";"),
        acs3_signature(&key.secret, &to_sign)
    );
    let uri = if query.is_empty() { "/".to_owned() } else { format!("/?{query}") };
    let mut request = Request::post(uri).header("authorization", authorization);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    Ok(request.body(Full::new(Bytes::from(body)))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;

    async fn made(scheme: Scheme, value: &str) -> (http::request::Parts, String) {
        let params = [("ProductKey".to_owned(), value.to_owned())];
        let call = Call {
            action: "QueryProduct",
            params: &params,
            format: "XML",
            host: "ota.example.com",
            timestamp: "2026-01-02T03:04:05Z",
            nonce: "n",
        };
        let key = Key {
            id: "STS.me".to_owned(),
            secret: "5ecret".to_owned(),
            token: Some("t0ken".to_owned()),
            from: String::new(),
        };
        let (head, body) = signed(&call, &key, scheme).unwrap().into_parts();
        let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        (head, body)
    }

    #[tokio::test]
    async fn neither_secret_nor_token_is_in_the_address() {
        for scheme in [Scheme::V1, Scheme::Acs3] {
            let (head, body) = made(scheme, "a b/ü").await;
            assert!(!head.uri.to_string().contains("t0ken"));
            assert!(!format!("{head:?}{body}").contains("5ecret"), "{scheme:?}");
            assert!(format!("{}{body}", head.uri).contains("ProductKey=a%20b%2F%C3%BC"), "{scheme:?}");
        }
    }

    #[tokio::test]
    async fn acs3_signs_the_token_and_moves_long_parameters_into_the_body() {
        let (head, body) = made(Scheme::Acs3, "short").await;
        let signed = head.headers["authorization"].to_str().unwrap();
        assert!(
            signed.contains(";x-acs-security-token;") && signed.contains("Credential=STS.me,"),
            "{signed}"
        );
        assert!(body.is_empty());
        let (head, body) = made(Scheme::Acs3, &"long".repeat(QUERY_CHARS_MAX / 4)).await;
        assert_eq!(
            (head.uri.to_string().as_str(), head.headers["content-type"].to_str().unwrap()),
            ("/", FORM)
        );
        assert!(body.starts_with("ProductKey=longlong"));
    }
}
