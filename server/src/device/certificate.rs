//! Logins with a client certificate. Pure: no I/O, no clock.
//!
//! The handshake has proved which certificate a device has; here is what its CONNECT says beside that. The first
//! login has no names (`""` or `&` as user name): the device is told them on [`IDENTITY_TOPIC`], and may give them
//! next time. The password is not looked at: it is empty, or the HMAC of an empty secret.

use super::login::{Refusal, params_of, split};
use super::topic::Owner;
use serde_json::json;
use updraft_core::limits::{CLIENT_ID_CHARS_MAX, KEEPALIVE_SECONDS};

/// Where a device that gave no names is told them, without a subscription.
pub const IDENTITY_TOPIC: &str = "/ext/auth/identity/response";

/// What a CONNECT says beside the certificate.
#[derive(Debug, PartialEq, Eq)]
pub struct Shown<'a> {
    /// The names that it gives, if it does.
    pub names: Option<Owner<'a>>,
    /// `_ss=1`: deliver the platform's own topics without SUBSCRIBE.
    pub auto_subscribe: bool,
}

impl<'a> Shown<'a> {
    /// Takes a CONNECT's fields apart.
    pub fn parse(client_id: &'a str, user_name: &'a str, keepalive: u16) -> Result<Self, Refusal> {
        let (cid, params) = split(client_id);
        if cid.chars().count() > CLIENT_ID_CHARS_MAX {
            return Err(Refusal::ClientId);
        }
        let param = |key| params_of(params).find_map(|(k, value)| (k == key).then_some(value));
        if param("authType").is_some_and(|how| how != "x509") {
            return Err(Refusal::AuthType);
        }
        if param("securemode").is_some_and(|mode| !matches!(mode, "2" | "3")) {
            return Err(Refusal::SecureMode);
        }
        if !KEEPALIVE_SECONDS.contains(&keepalive) {
            return Err(Refusal::Keepalive);
        }
        let names = match user_name {
            "" | "&" => None,
            named => {
                let (device_name, product_key) = named.rsplit_once('&').ok_or(Refusal::UserName)?;
                Some(Owner { product_key, device_name })
            }
        };
        Ok(Self { names, auto_subscribe: param("_ss") == Some("1") })
    }
}

/// The message that tells a device its names.
pub fn identity(owner: Owner<'_>) -> Vec<u8> {
    let (product_key, device_name) = (json!(owner.product_key), json!(owner.device_name));
    format!(r#"{{"productKey":{product_key},"deviceName":{device_name}}}"#).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: Owner<'_> = Owner { product_key: "a1TestPk001", device_name: "dev01" };

    #[test]
    fn what_the_sdks_send_is_understood() {
        for (client_id, user_name, names, auto_subscribe) in [
            // The platform's sample for Java, and SDKs for C with empty names.
            (".|securemode=2|", "", None, false),
            (
                ".|timestamp=2524608000000,_v=sdk-c-3.2.0,securemode=2,signmethod=hmacsha256,lan=C|",
                "&",
                None,
                false,
            ),
            (
                ".|timestamp=2524608000000,_ss=1,_v=sdk-c-4.2.0,securemode=2,signmethod=hmacsha256,ext=3|",
                "&",
                None,
                true,
            ),
            // Once it knows its names, as the page says.
            (
                "00:11:22|securemode=2,signmethod=hmacsha1,timestamp=132323232|",
                "dev01&a1TestPk001",
                Some(OWNER),
                false,
            ),
            ("x|authType=x509,securemode=2|", "dev01&a1TestPk001", Some(OWNER), false),
        ] {
            assert_eq!(
                Shown::parse(client_id, user_name, 300),
                Ok(Shown { names, auto_subscribe }),
                "{client_id}"
            );
        }
    }

    #[test]
    fn others_are_refused() {
        let long = "x".repeat(65);
        for (client_id, user_name, keepalive, refusal) in [
            (long.as_str(), "", 60, Refusal::ClientId),
            ("x|authType=register,securemode=2|", "", 60, Refusal::AuthType),
            ("x|securemode=8|", "", 60, Refusal::SecureMode),
            ("x|securemode=2|", "", 29, Refusal::Keepalive),
            ("x|securemode=2|", "dev01", 60, Refusal::UserName),
        ] {
            assert_eq!(Shown::parse(client_id, user_name, keepalive), Err(refusal), "{client_id}");
        }
    }

    #[test]
    fn the_message_has_two_names() {
        assert_eq!(identity(OWNER), br#"{"productKey":"a1TestPk001","deviceName":"dev01"}"#);
    }
}
