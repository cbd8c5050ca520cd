//! How a device proves who it is: the three texts of its CONNECT.

use std::fmt::{self, Write as _};

use hmac::{Hmac, KeyInit, Mac};

/// The time that the C SDKs write into every client id: no server may check its age.
pub const FIXED_TIMESTAMP: &str = "2524608000000";

/// Which HMAC makes the password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HmacKind {
    /// `hmacmd5`
    Md5,
    /// `hmacsha1`
    Sha1,
    /// `hmacsha256`
    #[default]
    Sha256,
}

impl HmacKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Md5, Self::Sha1, Self::Sha256];

    /// The value of `signmethod`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Md5 => "hmacmd5",
            Self::Sha1 => "hmacsha1",
            Self::Sha256 => "hmacsha256",
        }
    }

    /// The lower-case hexadecimal HMAC of `content`.
    pub fn sign(self, secret: &str, content: &str) -> String {
        match self {
            Self::Md5 => hmac_hex::<Hmac<md5::Md5>>(secret, content),
            Self::Sha1 => hmac_hex::<Hmac<sha1::Sha1>>(secret, content),
            Self::Sha256 => hmac_hex::<Hmac<sha2::Sha256>>(secret, content),
        }
    }
}

fn hmac_hex<M: Mac + KeyInit>(secret: &str, content: &str) -> String {
    // HMAC takes keys of any length, so the empty password below is never sent.
    M::new_from_slice(secret.as_bytes()).map_or_else(
        |_| String::new(),
        |mut mac| {
            mac.update(content.as_bytes());
            hex::encode(mac.finalize().into_bytes())
        },
    )
}

/// A device's three-part identity.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// The product's key.
    pub product_key: String,
    /// The device's name within the product.
    pub device_name: String,
    /// The device's secret.
    pub device_secret: String,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the secret: identities end up in logs.
        write!(f, "{}/{}", self.product_key, self.device_name)
    }
}

impl Identity {
    /// The identity made of these three.
    pub fn new(
        product_key: impl Into<String>,
        device_name: impl Into<String>,
        device_secret: impl Into<String>,
    ) -> Self {
        Self {
            product_key: product_key.into(),
            device_name: device_name.into(),
            device_secret: device_secret.into(),
        }
    }

    /// The text that the password signs.
    pub fn content(&self, cid: &str, timestamp: Option<&str>) -> String {
        let mut content =
            format!("clientId{cid}deviceName{}productKey{}", self.device_name, self.product_key);
        if let Some(timestamp) = timestamp {
            content.push_str("timestamp");
            content.push_str(timestamp);
        }
        content
    }

    /// The CONNECT of this device.
    pub fn connect_info(&self, login: &Login) -> ConnectInfo {
        let cid = format!("{}.{}", self.product_key, self.device_name);
        let timestamp = login.timestamp.then_some(FIXED_TIMESTAMP);
        let mut client_id = format!("{cid}|securemode=3,signmethod={}", login.hmac.name());
        if let Some(timestamp) = timestamp {
            // Writing to a String cannot fail.
            let _ = write!(client_id, ",timestamp={timestamp}");
        }
        if login.auto_subscribe {
            client_id.push_str(",_ss=1");
        }
        client_id.push_str(",_v=updraft-fleet|");
        ConnectInfo {
            client_id,
            username: format!("{}&{}", self.device_name, self.product_key),
            password: login.hmac.sign(&self.device_secret, &self.content(&cid, timestamp)),
            keepalive_s: login.keepalive_s,
            clean_session: login.clean_session,
        }
    }
}

/// How a device logs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Login {
    /// Which HMAC.
    pub hmac: HmacKind,
    /// Whether the client id asks for the server-made subscriptions (`_ss=1`).
    pub auto_subscribe: bool,
    /// Whether the client id has a timestamp.
    pub timestamp: bool,
    /// Seconds between signs of life, 30–1200.
    pub keepalive_s: u16,
    /// Whether the session is new each time.
    pub clean_session: bool,
}

impl Default for Login {
    fn default() -> Self {
        Self {
            hmac: HmacKind::default(),
            auto_subscribe: true,
            timestamp: true,
            keepalive_s: 300,
            clean_session: true,
        }
    }
}

/// What a CONNECT says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectInfo {
    /// Client id with its parameters.
    pub client_id: String,
    /// `{deviceName}&{productKey}`
    pub username: String,
    /// The signature, in hexadecimal.
    pub password: String,
    /// Keepalive in seconds.
    pub keepalive_s: u16,
    /// The clean session flag.
    pub clean_session: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_match_the_known_vectors() {
        let identity = Identity::new("pk", "device", "secret");
        let with = identity.content("12345", Some("789"));
        let without = identity.content("12345", None);
        assert_eq!(with, "clientId12345deviceNamedeviceproductKeypktimestamp789");
        let vectors = [
            (HmacKind::Md5, &with, "14b198324fe55e1d3c88f2e705e201ee"),
            (HmacKind::Md5, &without, "2ce7304ec0ddd548eb1492d65ac0b334"),
            (HmacKind::Sha1, &with, "fafd82a3d602b37fb0fa8b7892f24a477f851a14"),
            (HmacKind::Sha1, &without, "3504e4df7ce4766d30f796ee973c9ce7fc5425cb"),
            (HmacKind::Sha256, &with, "6074a46a91b1ebb2cc4ea42790ad0e80202c9843859fc292e57c4eb19fad9e57"),
            (HmacKind::Sha256, &without, "c8cb3dcb7159682438e5fd9a9c34f398e41bb8edb6f222795e307bafee151090"),
        ];
        for (kind, content, expected) in vectors {
            assert_eq!(kind.sign("secret", content), expected, "{}", kind.name());
        }
    }

    #[test]
    fn a_login_equals_what_a_c_sdk_sent() {
        let identity = Identity::new("a1TestPk001", "dev01", "0123456789abcdef0123456789abcdef");
        let info = identity.connect_info(&Login::default());
        // Recorded from C Link SDK 4.2.0 with the same client id and timestamp.
        assert_eq!(info.password, "c3f73921b6a23d3900e420b2f501bcafc4cea25e34cae6c313cc45b9254c2a73");
        assert_eq!(info.username, "dev01&a1TestPk001");
        assert_eq!(
            info.client_id,
            "a1TestPk001.dev01|securemode=3,signmethod=hmacsha256,timestamp=2524608000000,_ss=1,_v=updraft-fleet|"
        );
    }

    #[test]
    fn secrets_stay_out_of_debug_output() {
        let identity = Identity::new("pk", "dn", "hush");
        assert_eq!(format!("{identity:?}"), "pk/dn");
    }
}
