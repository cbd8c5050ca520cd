//! Addresses that carry their own permission: upload tickets and download paths. Pure but for the keys.

use crate::api::answer::utc;
use crate::api::sign::{hmac_sha1, hmac_sha256, same};
use crate::config::Config;
use crate::seal::MasterKey;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use updraft_core::time::{SECOND_MS, Timestamp};

/// Signs and checks addresses.
pub struct Addresses {
    upload_key: [u8; 32],
    download_key: [u8; 32],
    device_key: [u8; 32],
    ticket_ms: i64,
    download_ms: i64,
}

/// What GenerateOTAUploadURL hands out, besides the key: an OSS form policy.
pub struct UploadTicket {
    /// Base64 of the policy's JSON.
    pub policy: String,
    /// The name of the key that signed it.
    pub access_key_id: String,
    /// Base64 of HMAC-SHA1 over `policy`.
    pub signature: String,
}

/// Why an upload is refused before it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TicketRefusal {
    /// The signature, key name or policy is not ours.
    NotOurs,
    /// It came too late.
    Expired,
    /// The policy is for another key.
    OtherKey,
}

/// What stands before the token in a device's path.
pub const DEVICE_PATH: &str = "/d/";
/// Where the keys of packages' files are.
const FILE_FOLDER: &str = "ota/";
/// Bytes of the random part of a key.
const ID_BYTES: usize = 16;
/// 128 bits are plenty, and devices have short buffers.
const SIGNATURE_BYTES: usize = 16;
const TOKEN_BYTES: usize = ID_BYTES + 4 + SIGNATURE_BYTES;

/// The name under which form uploads are signed; there is one such key per server.
const UPLOAD_KEY_ID: &str = "updraft-upload";

impl Addresses {
    /// Addresses signed with keys derived from the master key.
    pub fn new(master: &MasterKey, config: &Config) -> Self {
        Self {
            upload_key: master.derive("upload"),
            download_key: master.derive("download"),
            device_key: master.derive("device download"),
            ticket_ms: config.upload_ticket_seconds * SECOND_MS,
            download_ms: config.download_url_seconds * SECOND_MS,
        }
    }

    /// A ticket to upload one file of at most `bytes_max` bytes under `object_key`.
    pub fn upload_ticket(&self, object_key: &str, bytes_max: i64, now: Timestamp) -> UploadTicket {
        let policy = json!({
            "expiration": utc(now.plus_ms(self.ticket_ms)),
            "conditions": [["eq", "$key", object_key], ["content-length-range", 0, bytes_max]],
        });
        let policy = STANDARD.encode(policy.to_string());
        let signature = STANDARD.encode(hmac_sha1(&self.upload_key, policy.as_bytes()));
        UploadTicket { policy, access_key_id: UPLOAD_KEY_ID.to_owned(), signature }
    }

    /// Checks a form's ticket for `object_key`; answers the most bytes that the file may have.
    pub fn check_ticket(
        &self,
        object_key: &str,
        access_key_id: &str,
        policy: &str,
        signature: &str,
        now: Timestamp,
    ) -> Result<i64, TicketRefusal> {
        let expected = STANDARD.encode(hmac_sha1(&self.upload_key, policy.as_bytes()));
        if access_key_id != UPLOAD_KEY_ID || !same(signature, &expected) {
            return Err(TicketRefusal::NotOurs);
        }
        // What we signed we can read.
        let policy: Value = STANDARD
            .decode(policy)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .ok_or(TicketRefusal::NotOurs)?;
        let expires: jiff::Timestamp =
            policy["expiration"].as_str().and_then(|text| text.parse().ok()).ok_or(TicketRefusal::NotOurs)?;
        if expires.as_millisecond() < now.0 {
            return Err(TicketRefusal::Expired);
        }
        if policy["conditions"][0][2].as_str() != Some(object_key) {
            return Err(TicketRefusal::OtherKey);
        }
        policy["conditions"][1][2].as_i64().ok_or(TicketRefusal::NotOurs)
    }

    /// The path and query under which a file can be fetched for a while.
    pub fn download_path(&self, object_key: &str, now: Timestamp) -> String {
        let expires = now.plus_ms(self.download_ms).0 / SECOND_MS;
        format!("/{object_key}?Expires={expires}&Signature={}", self.download_signature(object_key, expires))
    }

    /// Whether a download's query is ours, for this key, and still good.
    pub fn check_download(&self, object_key: &str, query: &str, now: Timestamp) -> bool {
        let mut expires = None;
        let mut signature = "";
        for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            match name {
                "Expires" => expires = value.parse::<i64>().ok(),
                "Signature" => signature = value,
                _ => {}
            }
        }
        let Some(expires) = expires else { return false };
        same(signature, &self.download_signature(object_key, expires))
            && expires.saturating_mul(SECOND_MS) >= now.0
    }

    /// The path under which devices fetch a file for a while: short, since many have buffers of 128 bytes for an
    /// address. It holds the random part of the file's key, when it ends, and 128 bits of a signature of both.
    pub fn device_path(&self, object_key: &str, now: Timestamp) -> String {
        let Some(id) = file_id(object_key) else { return self.download_path(object_key, now) };
        let expires = u32::try_from(now.plus_ms(self.download_ms).0 / SECOND_MS).unwrap_or(u32::MAX);
        format!("{DEVICE_PATH}{}", self.device_token(&id, expires))
    }

    /// What the key of the file begins with that a device's path leads to, if the path is ours and still good; `token`
    /// is what stands behind [`DEVICE_PATH`].
    pub fn check_device_path(&self, token: &str, now: Timestamp) -> Option<String> {
        let bytes: [u8; TOKEN_BYTES] = URL_SAFE_NO_PAD.decode(token).ok()?.try_into().ok()?;
        let (id, rest) = bytes.split_first_chunk::<ID_BYTES>()?;
        let (expires, _) = rest.split_first_chunk::<4>()?;
        let expires = u32::from_be_bytes(*expires);
        let ours = same(token, &self.device_token(id, expires));
        (ours && i64::from(expires) * SECOND_MS >= now.0).then(|| head_of(id))
    }

    fn device_token(&self, id: &[u8; ID_BYTES], expires: u32) -> String {
        let said = [&id[..], &expires.to_be_bytes()].concat();
        let mac = hmac_sha256(&self.device_key, &said);
        URL_SAFE_NO_PAD.encode([&said[..], &mac[..SIGNATURE_BYTES]].concat())
    }

    fn download_signature(&self, object_key: &str, expires: i64) -> String {
        let mac = hmac_sha256(&self.download_key, format!("GET\n{object_key}\n{expires}").as_bytes());
        hex::encode(&mac[..SIGNATURE_BYTES])
    }
}

/// The random part of the key of a package's file.
fn file_id(object_key: &str) -> Option<[u8; ID_BYTES]> {
    let (id, _) = object_key.strip_prefix(FILE_FOLDER)?.split_once('/')?;
    hex::decode(id).ok()?.try_into().ok().filter(|id| object_key.starts_with(&head_of(id)))
}

/// What all keys with this random part begin with; it is one file's.
fn head_of(id: &[u8; ID_BYTES]) -> String {
    format!("{FILE_FOLDER}{}/", hex::encode(id))
}

/// The key in an address that GenerateOTAUploadURL gave; whatever host the caller saw in front of it.
pub fn object_key_of(url: &str) -> Option<&str> {
    key_of(url).filter(|key| is_object_key(key))
}

/// The key in an address that GenerateDeviceNameListURL gave.
pub fn list_key_of(url: &str) -> Option<&str> {
    key_of(url).filter(|key| is_key_below(key, "list/"))
}

fn key_of(url: &str) -> Option<&str> {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"))?;
    let key = rest.split_once('/')?.1;
    key.split(['?', '#']).next()
}

/// Whether a text has the form of the keys of packages' files.
pub fn is_object_key(key: &str) -> bool {
    is_key_below(key, FILE_FOLDER)
}

fn is_key_below(key: &str, folder: &str) -> bool {
    key.starts_with(folder)
        && key.len() <= 128
        && key.chars().all(|c| c.is_ascii_alphanumeric() || "/.".contains(c))
        && !key.contains("..")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses() -> Addresses {
        Addresses::new(&MasterKey::new(&[1; 32]).unwrap(), &Config::default())
    }

    const KEY: &str = "ota/00/abc.bin";
    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    #[test]
    fn a_ticket_is_good_for_its_key_and_time() {
        let a = addresses();
        let t = a.upload_ticket(KEY, 7_000, NOW);
        let check = |key: &str, id: &str, policy: &str, signature: &str, at: Timestamp| {
            a.check_ticket(key, id, policy, signature, at)
        };
        assert_eq!(check(KEY, &t.access_key_id, &t.policy, &t.signature, NOW), Ok(7_000));
        let late = NOW.plus_ms(61_000);
        assert_eq!(check(KEY, &t.access_key_id, &t.policy, &t.signature, late), Err(TicketRefusal::Expired));
        assert_eq!(
            check("ota/00/other.bin", &t.access_key_id, &t.policy, &t.signature, NOW),
            Err(TicketRefusal::OtherKey)
        );
        assert_eq!(check(KEY, "someone", &t.policy, &t.signature, NOW), Err(TicketRefusal::NotOurs));
        let forged = STANDARD.encode(r#"{"expiration":"2100-01-01T00:00:00.000Z","conditions":[]}"#);
        assert_eq!(check(KEY, &t.access_key_id, &forged, &t.signature, NOW), Err(TicketRefusal::NotOurs));
    }

    #[test]
    fn a_download_path_is_good_for_its_key_and_time() {
        let a = addresses();
        let path = a.download_path(KEY, NOW);
        let (key, query) = path[1..].split_once('?').unwrap();
        assert_eq!(key, KEY);
        assert!(a.check_download(KEY, query, NOW));
        assert!(!a.check_download("ota/00/other.bin", query, NOW));
        assert!(!a.check_download(KEY, query, NOW.plus_ms(86_401_000)));
        assert!(!a.check_download(KEY, &query.replace("Expires=1", "Expires=2"), NOW));
        assert!(!a.check_download(KEY, "", NOW));
        assert!(path.len() < 200, "devices have short buffers");
    }

    #[test]
    fn a_devices_path_is_short_and_good_for_its_key_and_time() {
        let a = addresses();
        let key = "ota/000102030405060708090a0b0c0d0e0f/Abc123.tar.gz";
        let path = a.device_path(key, NOW);
        let token = path.strip_prefix(DEVICE_PATH).unwrap();
        assert_eq!(token.len(), 48);
        assert!(token.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c)), "no `:`, no quote");
        let address = format!("https://{}:65535{path}", "h".repeat(40));
        assert!(address.len() < 128, "with the longest usual host: {}", address.len());
        let found = a.check_device_path(token, NOW);
        assert_eq!(found.as_deref(), Some("ota/000102030405060708090a0b0c0d0e0f/"));
        assert!(a.check_device_path(token, NOW.plus_ms(86_400_000)).is_some());
        assert!(a.check_device_path(token, NOW.plus_ms(86_401_000)).is_none(), "its time is over");
        for at in 0..token.len() {
            for other in ["A", "b"].into_iter().filter(|other| token[at..=at] != **other) {
                let changed = format!("{}{other}{}", &token[..at], &token[at + 1..]);
                assert_eq!(a.check_device_path(&changed, NOW), None, "{changed}");
            }
        }
        for bad in ["", "A", &token[..47], &format!("{token}A"), &format!("{token}="), "é"] {
            assert_eq!(a.check_device_path(bad, NOW), None, "{bad}");
        }
        let other = Addresses::new(&MasterKey::new(&[2; 32]).unwrap(), &Config::default());
        assert_eq!(other.check_device_path(token, NOW), None, "another server's");
        assert_ne!(a.device_path(key, NOW.plus_ms(1_000)), path, "asked for later, it is good for longer");
        for odd in [KEY, "ota/000102030405060708090A0B0C0D0E0F/x", "ota/000102030405060708090a0b0c0d0e0f"] {
            assert_eq!(a.device_path(odd, NOW), a.download_path(odd, NOW), "{odd}");
        }
    }

    #[test]
    fn keys_are_found_behind_any_host() {
        assert_eq!(object_key_of("http://10.0.0.1:8080/ota/a/b.bin"), Some("ota/a/b.bin"));
        assert_eq!(object_key_of("https://h/ota/a/b.bin?x=1"), Some("ota/a/b.bin"));
        for bad in ["ota/a/b.bin", "http://h/other/b.bin", "http://h/ota/../x", "http://h", "ftp://h/ota/a"] {
            assert_eq!(object_key_of(bad), None, "{bad}");
            assert_eq!(list_key_of(bad), None, "{bad}");
        }
        assert_eq!(list_key_of("http://h:1/list/a/b.csv"), Some("list/a/b.csv"));
        assert_eq!(list_key_of("http://h/ota/a/b.bin"), None, "no package's file is a list");
        assert_eq!(object_key_of("http://h/list/a/b.csv"), None, "and no list a package's file");
    }
}
