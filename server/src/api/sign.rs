//! Signatures: what a caller has to have signed, and whether it did. Pure functions.
//!
//! Two schemes: v1.0 signs the sorted parameters (HMAC-SHA1, also HMAC-SHA256); ACS3-HMAC-SHA256, the
//! default of current Tea SDKs, signs method, query, chosen headers and the body's hash.

use crate::api::params::Params;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// Everything but `A-Za-z0-9-_.~` is escaped.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

fn escape(text: &str) -> percent_encoding::PercentEncode<'_> {
    utf8_percent_encode(text, ESCAPED)
}

/// Parameters as a query string that is escaped as signatures want it, without the one named `leave_out`.
pub fn canonical_query(params: &Params, leave_out: &str) -> String {
    let mut out = String::new();
    for (name, value) in params.iter().filter(|(name, _)| *name != leave_out) {
        if !out.is_empty() {
            out.push('&');
        }
        out.extend(escape(name));
        out.push('=');
        out.extend(escape(value));
    }
    out
}

/// The hash of a v1.0 signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum V1Hash {
    /// `SignatureMethod=HMAC-SHA1`
    Sha1,
    /// `SignatureMethod=HMAC-SHA256`
    Sha256,
}

/// The string to sign of the v1.0 scheme.
pub fn v1_string_to_sign(method: &str, params: &Params) -> String {
    let query = canonical_query(params, "Signature");
    let mut out = String::with_capacity(method.len() + 5 + query.len() * 2);
    out.push_str(method);
    out.push_str("&%2F&");
    out.extend(escape(&query));
    out
}

/// The v1.0 signature of a string to sign, base64.
pub fn v1_signature(hash: V1Hash, secret: &str, string_to_sign: &str) -> String {
    let key = format!("{secret}&");
    match hash {
        V1Hash::Sha1 => STANDARD.encode(hmac_sha1(key.as_bytes(), string_to_sign.as_bytes())),
        V1Hash::Sha256 => STANDARD.encode(hmac_sha256(key.as_bytes(), string_to_sign.as_bytes())),
    }
}

/// HMAC-SHA1.
pub fn hmac_sha1(key: &[u8], data: &[u8]) -> [u8; 20] {
    // HMAC takes keys of any length, so this cannot fail.
    let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(key) else { return [0; 20] };
    mac.update(data);
    mac.finalize().into_bytes().into()
}

/// HMAC-SHA256.
pub fn hmac_sha256(key: &[u8], data: &[u8]) -> [u8; 32] {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return [0; 32] };
    mac.update(data);
    mac.finalize().into_bytes().into()
}

/// Whether two signatures are the same text, in constant time.
pub fn same(given: &str, expected: &str) -> bool {
    given.as_bytes().ct_eq(expected.as_bytes()).into()
}

/// The parts of an ACS3 `Authorization` header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorization {
    /// AccessKeyId.
    pub credential: String,
    /// Names of the signed headers, as given: lower case, sorted by the client.
    pub signed_headers: Vec<String>,
    /// Lower-case hex.
    pub signature: String,
}

/// Reads `ACS3-HMAC-SHA256 Credential=…,SignedHeaders=…,Signature=…`.
pub fn acs3_authorization(header: &str) -> Option<Authorization> {
    let rest = header.strip_prefix("ACS3-HMAC-SHA256")?.trim();
    let (mut credential, mut signed_headers, mut signature) = (None, None, None);
    for part in rest.split(',') {
        let (name, value) = part.trim().split_once('=')?;
        match name {
            "Credential" => credential = Some(value.to_owned()),
            "SignedHeaders" => signed_headers = Some(value.split(';').map(str::to_owned).collect()),
            "Signature" => signature = Some(value.to_owned()),
            _ => {}
        }
    }
    Some(Authorization { credential: credential?, signed_headers: signed_headers?, signature: signature? })
}

/// The string to sign of the ACS3 scheme; `header` gives a header's value (several joined by `,`).
pub fn acs3_string_to_sign(
    method: &str,
    query: &Params,
    signed_headers: &[String],
    header: impl Fn(&str) -> Option<String>,
    body_sha256_hex: &str,
) -> String {
    let mut canonical = format!("{method}\n/\n{}\n", canonical_query(query, ""));
    for name in signed_headers {
        let value = header(name).unwrap_or_default();
        canonical.push_str(&name.to_ascii_lowercase());
        canonical.push(':');
        canonical.push_str(value.trim());
        canonical.push('\n');
    }
    canonical.push('\n');
    canonical.push_str(&signed_headers.join(";"));
    canonical.push('\n');
    canonical.push_str(body_sha256_hex);
    format!("ACS3-HMAC-SHA256\n{}", hex::encode(Sha256::digest(canonical.as_bytes())))
}

/// The ACS3 signature of a string to sign, lower-case hex.
pub fn acs3_signature(secret: &str, string_to_sign: &str) -> String {
    hex::encode(hmac_sha256(secret.as_bytes(), string_to_sign.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v1_agrees_with_the_official_sdks() {
        let params = Params::from_pairs([
            ("Action", "ListOTAJobByFirmware"),
            ("Version", "2018-01-20"),
            ("Format", "JSON"),
            ("RegionId", "cn-shanghai"),
            ("SignatureMethod", "HMAC-SHA1"),
            ("SignatureType", ""),
            ("SignatureVersion", "1.0"),
            ("SignatureNonce", "15215528852396"),
            ("Timestamp", "2024-05-20T12:00:00Z"),
            ("FirmwareId", "a b*~/+é"),
            ("PageSize", "10"),
            ("CurrentPage", "1"),
            ("AccessKeyId", "testid"),
            ("Signature", "is left out"),
        ]);
        let get = v1_string_to_sign("GET", &params);
        assert_eq!(
            get,
            "GET&%2F&AccessKeyId%3Dtestid%26Action%3DListOTAJobByFirmware%26CurrentPage%3D1%26FirmwareId%3D\
             a%2520b%252A~%252F%252B%25C3%25A9%26Format%3DJSON%26PageSize%3D10%26RegionId%3Dcn-shanghai%26\
             SignatureMethod%3DHMAC-SHA1%26SignatureNonce%3D15215528852396%26SignatureType%3D%26\
             SignatureVersion%3D1.0%26Timestamp%3D2024-05-20T12%253A00%253A00Z%26Version%3D2018-01-20"
        );
        let sign = |method| v1_signature(V1Hash::Sha1, "testsecret", &v1_string_to_sign(method, &params));
        assert_eq!(sign("GET"), "HBVF7oAhXco1EghRD1x8ay+aIAM=");
        assert_eq!(sign("POST"), "GaeVMCQ/I7riu1yX3xy9Et/8Ddg=");
    }

    const BODY: &str = "DeviceName.1=d1&DeviceName.2=d+2";

    fn acs3(signed: &[&str], extra: &[(&str, &str)]) -> (String, String) {
        let query = Params::from_pairs([("ProductKey", "a b*~/+é"), ("IotInstanceId", "iot-1")]);
        let hash = hex::encode(Sha256::digest(BODY.as_bytes()));
        let header = |name: &str| {
            let known = [
                ("content-type", "application/x-www-form-urlencoded"),
                ("host", "127.0.0.1:8080"),
                ("x-acs-action", "BatchCheckDeviceNames"),
                ("x-acs-content-sha256", hash.as_str()),
                ("x-acs-date", "2024-05-20T12:00:00Z"),
                ("x-acs-signature-nonce", "1f3870be274f6c49b3e31a0c6728957f"),
                ("x-acs-version", "2018-01-20"),
            ];
            known.iter().chain(extra).find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        let signed: Vec<String> = signed.iter().map(|name| (*name).to_owned()).collect();
        let string = acs3_string_to_sign("POST", &query, &signed, header, &hash);
        let signature = acs3_signature("testsecret", &string);
        (string, signature)
    }

    #[test]
    fn acs3_agrees_with_the_official_sdks() {
        let narrow = [
            "content-type",
            "host",
            "x-acs-action",
            "x-acs-content-sha256",
            "x-acs-date",
            "x-acs-signature-nonce",
            "x-acs-version",
        ];
        let (string, signature) = acs3(&narrow, &[]);
        assert!(string.ends_with("07bb6c5b19bb8ca27cb99fdf5c620649099835e28700f5369e3758d6dd86bcfc"));
        assert_eq!(signature, "62333d10429c9a2483f76cbd4d28d1c7b5a6bb4e9e3b1d403e31a662b763da2f");

        // The Python SDK signs every header that it sets.
        let wide = [
            "accept",
            "content-type",
            "host",
            "user-agent",
            "x-acs-action",
            "x-acs-content-sha256",
            "x-acs-date",
            "x-acs-signature-nonce",
            "x-acs-version",
        ];
        let extra = [
            ("accept", "application/json"),
            ("user-agent", "AlibabaCloud (Linux; x86_64) Python/3.11.7 Core/0.4.3 TeaDSL/2"),
        ];
        let (string, signature) = acs3(&wide, &extra);
        assert!(string.ends_with("09f28a0563d523b4e36de562571e4ed965d39fa14b9f11910e2d45f544adc93b"));
        assert_eq!(signature, "2930bbdfc73e12ba1b6422c10a74e995f8df7a5d0d1571e63116f5ae3d50bc3e");
    }

    #[test]
    fn authorization_headers_are_read() {
        let read = acs3_authorization(
            "ACS3-HMAC-SHA256 Credential=testid,SignedHeaders=host;x-acs-date,Signature=00ff",
        )
        .unwrap();
        assert_eq!(read.credential, "testid");
        assert_eq!(read.signed_headers, ["host", "x-acs-date"]);
        assert_eq!(read.signature, "00ff");
        assert!(acs3_authorization("ACS3-HMAC-SHA256 Credential=x").is_none());
        assert!(acs3_authorization("Bearer x").is_none());
    }
}
