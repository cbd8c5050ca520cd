//! Who a device says it is, and whether it knows the secret. Pure: no I/O, no clock.
//!
//! A CONNECT carries `cid|key=value,…|` as client id, `{device name}&{product key}` as user name and
//! the hexadecimal HMAC of its own parameters as password. How old `timestamp` is does not matter: Link SDKs
//! for C send a constant, the JavaScript ones repeat theirs at every reconnect.

use super::link::KnownDevice;
use super::register;
use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;
use sha1::Sha1;
use sha2::Sha256;
use subtle::ConstantTimeEq;
use updraft_core::limits::{CLIENT_ID_CHARS_MAX, KEEPALIVE_SECONDS};

/// What a CONNECT says.
#[derive(Debug, PartialEq, Eq)]
pub struct Login<'a> {
    /// The client id before its first `|`: free text that is part of the signed content.
    pub cid: &'a str,
    /// The product that the device says it belongs to.
    pub product_key: &'a str,
    /// The device's name.
    pub device_name: &'a str,
    /// How the password was made.
    pub method: Method,
    /// The password is a token of the device instead (`authType=connwl`), and the client id that of the token.
    pub by_token: bool,
    /// The time stamp as sent; part of the signed content if present.
    pub timestamp: Option<&'a str>,
    /// `_ss=1`: deliver the platform's own topics without SUBSCRIBE.
    pub auto_subscribe: bool,
}

/// How a password is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// `hmacmd5`, also when none is named.
    HmacMd5,
    /// `hmacsha1`.
    HmacSha1,
    /// `hmacsha256`.
    HmacSha256,
}

impl Method {
    /// The method of this name, in any capitalisation.
    pub fn from_name(name: &str) -> Option<Self> {
        [("hmacmd5", Self::HmacMd5), ("hmacsha1", Self::HmacSha1), ("hmacsha256", Self::HmacSha256)]
            .into_iter()
            .find_map(|(known, method)| name.eq_ignore_ascii_case(known).then_some(method))
    }

    /// Whether `sign`, in hexadecimal digits of any capitalisation, was made of `content` with this secret; takes as
    /// long for a wrong one.
    pub fn verify(self, secret: &str, content: &str, sign: &[u8]) -> bool {
        // Link SDKs for C send upper-case digits.
        let Ok(given) = hex::decode(sign) else { return false };
        let expected = match self {
            Self::HmacMd5 => digest::<Hmac<Md5>>(secret, content),
            Self::HmacSha1 => digest::<Hmac<Sha1>>(secret, content),
            Self::HmacSha256 => digest::<Hmac<Sha256>>(secret, content),
        };
        expected.is_some_and(|expected| bool::from(expected.ct_eq(&given)))
    }
}

/// Why a device is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Neither MQTT 3.1, 3.1.1 nor 5.
    #[error("the MQTT version is none of 3.1, 3.1.1 and 5")]
    Protocol,
    /// An exchange of AUTH packets is asked for.
    #[error("enhanced authentication is not supported")]
    Enhanced,
    /// The keepalive is out of range.
    #[error("the keepalive is not within 30 to 1200 seconds")]
    Keepalive,
    /// The free part of the client id is too long; or, with MQTT 5, there is no client id.
    #[error("the client id is empty or longer than 64 characters")]
    ClientId,
    /// An unknown `signmethod`.
    #[error("signmethod is none of hmacmd5, hmacsha1, hmacsha256")]
    SignMethod,
    /// A `securemode` that this server does not speak.
    #[error("securemode is neither 2 nor 3, or -2 without a registration or a token")]
    SecureMode,
    /// A way of logging in that this server does not have.
    #[error("authType is none of register, regnwl, connwl")]
    AuthType,
    /// A registration without TLS, where TLS is demanded.
    #[error("registration is by TLS only (register_by_tls_only)")]
    NoTls,
    /// A device registers itself, and may not.
    #[error("{0}")]
    Registration(register::Refusal),
    /// The user name is no `{device name}&{product key}`.
    #[error("the user name is not DeviceName&ProductKey")]
    UserName,
    /// No such device.
    #[error("there is no such device")]
    UnknownDevice,
    /// The password does not fit the secret.
    #[error("the password does not fit the device secret")]
    Password,
    /// Its product's devices prove who they are with a certificate.
    #[error("devices of its product log in with their certificate")]
    NeedsCertificate,
    /// It gives other names than its certificate.
    #[error("the certificate is not that of the named device")]
    Certificate,
    /// The device may not connect.
    #[error("the device is disabled")]
    Disabled,
    /// The device is no more.
    #[error("the device was deleted")]
    Deleted,
    /// Too many failed logins from this address.
    #[error("too many failed logins from this address")]
    TooManyFailures,
    /// The server cannot tell now.
    #[error("the server cannot take logins now")]
    Unavailable,
}

impl Refusal {
    /// The return code of the CONNACK.
    pub fn code(self) -> u8 {
        match self {
            Self::Protocol => 1,
            Self::Keepalive
            | Self::ClientId
            | Self::SignMethod
            | Self::SecureMode
            | Self::AuthType
            | Self::NoTls => 2,
            Self::Registration(refusal) => refusal.code(),
            // So that SDKs wait and try again: the device itself may be fine.
            Self::Unavailable | Self::TooManyFailures => 3,
            Self::UserName | Self::UnknownDevice | Self::Password | Self::Certificate => 4,
            // Only MQTT 5 can ask for it.
            Self::Disabled | Self::Deleted | Self::NeedsCertificate | Self::Enhanced => 5,
        }
    }

    /// The reason code of the CONNACK by MQTT 5.
    pub fn reason(self) -> u8 {
        match self {
            Self::Protocol => 0x84,
            Self::Keepalive | Self::ClientId | Self::SignMethod | Self::SecureMode | Self::AuthType => 0x85,
            Self::Registration(refusal) => refusal.reason(),
            Self::UserName | Self::UnknownDevice | Self::Password | Self::Certificate => 0x86,
            Self::Deleted | Self::NoTls | Self::NeedsCertificate => 0x87,
            Self::Unavailable => 0x88,
            Self::Disabled => 0x8a,
            Self::Enhanced => 0x8c,
            Self::TooManyFailures => 0x9f,
        }
    }

    /// Whether it is what somebody meets who guesses: it counts against his address.
    pub fn is_guess(self) -> bool {
        use register::Refusal::{Signature, UnknownProduct};
        matches!(
            self,
            Self::UnknownDevice
                | Self::Deleted
                | Self::Password
                | Self::Certificate
                | Self::Registration(UnknownProduct | Signature)
        )
    }

    /// What a device is told beside it: not which devices there are.
    pub fn told(self) -> String {
        match self {
            Self::UnknownDevice
            | Self::Password
            | Self::Registration(register::Refusal::UnknownProduct | register::Refusal::Signature) => {
                "the user name or the password is wrong".to_owned()
            }
            other => other.to_string(),
        }
    }
}

impl<'a> Login<'a> {
    /// Takes a CONNECT's fields apart.
    pub fn parse(client_id: &'a str, user_name: &'a str, keepalive: u16) -> Result<Self, Refusal> {
        let (cid, params) = split(client_id);
        if cid.chars().count() > CLIENT_ID_CHARS_MAX {
            return Err(Refusal::ClientId);
        }
        let param = |key| param(params, key);
        let by_token = match param("authType") {
            None => false,
            Some("connwl") => true,
            // `register` and `regnwl` are no logins: see `newcomer`.
            Some(_) => return Err(Refusal::AuthType),
        };
        if param("securemode").is_some_and(|mode| !is_secure_mode(mode, by_token)) {
            return Err(Refusal::SecureMode);
        }
        if !KEEPALIVE_SECONDS.contains(&keepalive) {
            return Err(Refusal::Keepalive);
        }
        let method = match param("signmethod") {
            Some(name) => Method::from_name(name).ok_or(Refusal::SignMethod)?,
            None => Method::HmacMd5,
        };
        let (device_name, product_key) = names(user_name)?;
        Ok(Self {
            cid,
            product_key,
            device_name,
            method,
            by_token,
            timestamp: param("timestamp"),
            auto_subscribe: param("_ss") == Some("1"),
        })
    }

    /// Whether the password was made with this device's secret, or is its token; takes as long for a wrong one.
    pub fn verify(&self, known: &KnownDevice, password: &[u8]) -> bool {
        if !self.by_token {
            return self.method.verify(&known.secret, &self.content(), password);
        }
        known.token.as_ref().is_some_and(|token| {
            let same = register::token_hash(password).ct_eq(&token.hash);
            token.client_id == self.cid && bool::from(same)
        })
    }

    /// The signed text: names and values in the order of the names, without separators.
    fn content(&self) -> String {
        let Self { cid, device_name, product_key, .. } = self;
        let mut content = format!("clientId{cid}deviceName{device_name}productKey{product_key}");
        if let Some(timestamp) = self.timestamp {
            content.push_str("timestamp");
            content.push_str(timestamp);
        }
        content
    }
}

/// Takes `{device name}&{product key}` apart.
pub(super) fn names(user_name: &str) -> Result<(&str, &str), Refusal> {
    let (device_name, product_key) = user_name.rsplit_once('&').ok_or(Refusal::UserName)?;
    if device_name.is_empty() || product_key.is_empty() {
        return Err(Refusal::UserName);
    }
    Ok((device_name, product_key))
}

/// Whether a `securemode` is served: -2 is for devices with the secret of a product, or a token.
pub(super) fn is_secure_mode(mode: &str, of_registration: bool) -> bool {
    matches!(mode, "2" | "3") || of_registration && mode == "-2"
}

/// Whether a client id asks for delivery of the platform's own topics without SUBSCRIBE (`_ss=1`).
pub fn asks_for_delivery(client_id: &str) -> bool {
    params_of(split(client_id).1).any(|(key, value)| key == "_ss" && value == "1")
}

/// The part before the first `|`, and what is between it and the last one. A value may hold a `|` itself
/// (`sii=Eth|…`).
pub(super) fn split(client_id: &str) -> (&str, &str) {
    let Some((cid, rest)) = client_id.split_once('|') else { return (client_id, "") };
    (cid, rest.rsplit_once('|').map_or(rest, |(params, _)| params))
}

/// The value of a key.
pub(super) fn param<'a>(params: &'a str, key: &str) -> Option<&'a str> {
    params_of(params).find_map(|(k, value)| (k == key).then_some(value))
}

/// Keys and values; old JavaScript SDKs put line feeds and blanks between them.
pub(super) fn params_of(params: &str) -> impl Iterator<Item = (&str, &str)> {
    params.split(',').filter_map(|param| param.split_once('=')).map(|(key, value)| (key.trim(), value.trim()))
}

/// `None` never happens: HMAC takes keys of any length.
fn digest<M: Mac + KeyInit>(secret: &str, content: &str) -> Option<Vec<u8>> {
    let mut mac = <M as KeyInit>::new_from_slice(secret.as_bytes()).ok()?;
    mac.update(content.as_bytes());
    Some(mac.finalize().into_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use updraft_core::id::DeviceNo;
    use updraft_store::DeviceToken;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn with_secret(secret: &str) -> KnownDevice {
        KnownDevice {
            no: DeviceNo(1),
            secret: secret.to_owned(),
            token: None,
            disabled: false,
            is_gateway: false,
            certified: false,
        }
    }

    fn check(client_id: &str, user_name: &str, secret: &str, password: &str) {
        let login = Login::parse(client_id, user_name, 60).unwrap();
        let (other, secret) = (&with_secret("other"), &with_secret(secret));
        assert!(login.verify(secret, password.as_bytes()), "{client_id}");
        assert!(login.verify(secret, password.to_ascii_uppercase().as_bytes()), "{client_id}");
        assert!(!login.verify(other, password.as_bytes()), "{client_id}");
        let mut wrong = password.to_owned();
        wrong.replace_range(0..1, if wrong.starts_with('0') { "1" } else { "0" });
        assert!(!login.verify(secret, wrong.as_bytes()), "{client_id}");
        assert!(!login.verify(secret, &password.as_bytes()[2..]), "{client_id}");
        assert!(!login.verify(secret, b""), "{client_id}");
        assert!(!login.verify(secret, b"not hexadecimal \xff"), "{client_id}");
    }

    #[test]
    fn the_published_vectors_hold() {
        for (method, with, without) in [
            ("hmacmd5", "14b198324fe55e1d3c88f2e705e201ee", "2ce7304ec0ddd548eb1492d65ac0b334"),
            (
                "hmacsha1",
                "fafd82a3d602b37fb0fa8b7892f24a477f851a14",
                "3504e4df7ce4766d30f796ee973c9ce7fc5425cb",
            ),
            (
                "hmacsha256",
                "6074a46a91b1ebb2cc4ea42790ad0e80202c9843859fc292e57c4eb19fad9e57",
                "c8cb3dcb7159682438e5fd9a9c34f398e41bb8edb6f222795e307bafee151090",
            ),
        ] {
            let user = "device&pk";
            check(&format!("12345|securemode=3,signmethod={method},timestamp=789|"), user, "secret", with);
            check(&format!("12345|timestamp=789,signmethod={method},securemode=2|"), user, "secret", with);
            check(
                &format!("12345|signmethod={},securemode=3|", method.to_uppercase()),
                user,
                "secret",
                without,
            );
        }
        let user = "device&pk";
        check("12345|securemode=3|", user, "secret", "2ce7304ec0ddd548eb1492d65ac0b334");
        check("12345", user, "secret", "2ce7304ec0ddd548eb1492d65ac0b334");
    }

    #[test]
    fn the_connects_of_real_sdks_are_let_in() {
        let user = "dev01&a1TestPk001";
        for (client_id, password, auto_subscribe) in [
            // Link SDK for Python 1.2.13.
            (
                "a1TestPk001&dev01|securemode=3,signmethod=hmacsha1,ext=1,_ss=1,lan=Python,_v=1.2.13,timestamp=1795521172|",
                "74e8a4dde7aa5838777acb76190804041702a4f8",
                true,
            ),
            // alibabacloud-iot-device-sdk 1.2.8 for JavaScript.
            (
                "a1TestPk001&dev01|securemode=3,signmethod=hmacsha1,timestamp=1795521924932,lan=NodeJS,_v=1.2.8|",
                "ae778e953966f6c20435d6ebf76f487d76155a85",
                false,
            ),
            // aliyun-iot-device-sdk 1.0.1 for JavaScript.
            (
                "a1TestPk001&dev01_aliyun-iot-device-sdk-js|securemode=3,\n        signmethod=hmacsha1,\n        timestamp=1795521448010|",
                "75ae3737ce48722c9f08168b64632db4b66d80e0",
                false,
            ),
            // Link SDK for C 4.2.0.
            (
                "a1TestPk001.dev01|timestamp=2524608000000,_ss=1,_v=sdk-c-4.2.0,securemode=3,signmethod=hmacsha256,ext=3,_conn=tcp_0|",
                "C3F73921B6A23D3900E420B2F501BCAFC4CEA25E34CAE6C313CC45B9254C2A73",
                true,
            ),
        ] {
            check(client_id, user, SECRET, password);
            assert_eq!(Login::parse(client_id, user, 1_200).unwrap().auto_subscribe, auto_subscribe);
        }
    }

    #[test]
    fn a_value_may_hold_a_bar() {
        let client_id = "c|securemode=3,signmethod=hmacsha1,_ss=1,sii=Eth|03ACDEFF0032,timestamp=1795521324|";
        let login = Login::parse(client_id, "d&p", 60).unwrap();
        assert_eq!((login.cid, login.timestamp), ("c", Some("1795521324")));
        assert!(login.auto_subscribe);
        let c3 = "p.d|timestamp=2524608000000,_v=sdk-c-3.2.0,securemode=3,signmethod=hmacsha256,lan=C,_ss=1,gw=0,ext=0|";
        let login = Login::parse(c3, "a&b&p", 60).unwrap();
        assert_eq!((login.device_name, login.product_key, login.method), ("a&b", "p", Method::HmacSha256));
    }

    #[test]
    fn a_token_opens_with_its_client_id_only() {
        let client_id = "abc|authType=connwl,securemode=-2,_ss=1,ext=3,lan=Python,_v=1.2.13|";
        let login = Login::parse(client_id, "dev01&a1TestPk001", 60).unwrap();
        assert!(login.by_token && login.auto_subscribe);
        let token = |client_id: &str| {
            let token = DeviceToken { client_id: client_id.to_owned(), hash: register::token_hash(b"token") };
            KnownDevice { token: Some(token), ..with_secret(SECRET) }
        };
        assert!(login.verify(&token("abc"), b"token"));
        assert!(!login.verify(&token("abd"), b"token") && !login.verify(&token("abc"), b"Token"));
        assert!(!login.verify(&token("abc"), b"") && !login.verify(&with_secret(SECRET), b"token"));
        // A signature of the secret is no token, and a token no signature.
        let by_secret = Login::parse("abc|securemode=3|", "dev01&a1TestPk001", 60).unwrap();
        assert!(!by_secret.verify(&token("abc"), b"token"));
        for (mode, served) in [("-2", true), ("2", true), ("3", true), ("-1", false)] {
            let client_id = format!("abc|authType=connwl,securemode={mode}|");
            assert_eq!(Login::parse(&client_id, "d&p", 60).is_ok(), served, "{mode}");
        }
    }

    #[test]
    fn refusals_have_names_and_codes() {
        let long = "x".repeat(65) + "|securemode=3|";
        let fits = "路".repeat(64) + "|securemode=3|";
        let register = "d.p|random=o,authType=register,securemode=2,signmethod=hmacsha256|";
        for (client_id, user, keepalive, expected, code) in [
            ("c|securemode=3|", "d&p", 29, Refusal::Keepalive, 2),
            ("c|securemode=3|", "d&p", 0, Refusal::Keepalive, 2),
            ("c|securemode=3|", "d&p", 1_201, Refusal::Keepalive, 2),
            (long.as_str(), "d&p", 60, Refusal::ClientId, 2),
            ("c|securemode=3,signmethod=md5|", "d&p", 60, Refusal::SignMethod, 2),
            ("c|securemode=-2|", "d&p", 60, Refusal::SecureMode, 2),
            ("c|securemode=|", "d&p", 60, Refusal::SecureMode, 2),
            (register, "d&p", 0, Refusal::AuthType, 2),
            ("c|authType=id2,securemode=8|", "d&p", 60, Refusal::AuthType, 2),
            ("c|securemode=3|", "dp", 60, Refusal::UserName, 4),
            ("c|securemode=3|", "", 60, Refusal::UserName, 4),
            ("c|securemode=3|", "&p", 60, Refusal::UserName, 4),
            ("c|securemode=3|", "d&", 60, Refusal::UserName, 4),
        ] {
            let refused = Login::parse(client_id, user, keepalive).unwrap_err();
            assert_eq!((refused, refused.code()), (expected, code), "{client_id} {user} {keepalive}");
        }
        for keepalive in [30, 1_200] {
            Login::parse(&fits, "d&p", keepalive).unwrap();
        }
        for odd in ["", "|", "||", "|||", ",|,|,", "=|=,=|", "c|==|", "c|\n|"] {
            Login::parse(odd, "d&p", 60).unwrap();
        }
    }
}
