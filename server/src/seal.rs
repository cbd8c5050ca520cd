//! The master key: seals the secrets that must be recoverable, and derives keys for signed addresses.
//!
//! AES-256-GCM with a random nonce in front. What a text is for is bound to it, so that a sealed device
//! secret cannot be put where an access key belongs.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hmac;
use std::io::Write as _;
use std::path::Path;

/// Seals and opens secrets.
pub struct MasterKey {
    key: RandomizedNonceKey,
    derive: hmac::Key,
}

/// A sealed text that this master key did not make, or that was damaged.
#[derive(Debug, thiserror::Error)]
#[error("a sealed secret does not open: another master key made it, or it is damaged")]
pub struct Unsealable;

impl MasterKey {
    /// A master key of 32 bytes.
    pub fn new(bytes: &[u8; 32]) -> Result<Self, Unsealable> {
        Ok(Self {
            key: RandomizedNonceKey::new(&AES_256_GCM, bytes).map_err(|_| Unsealable)?,
            derive: hmac::Key::new(hmac::HMAC_SHA256, bytes),
        })
    }

    /// Reads the key file, or makes it (mode 0600) if `may_create`.
    pub fn load(path: &Path, may_create: bool, fresh: &[u8; 32]) -> anyhow::Result<Self> {
        use anyhow::Context as _;
        if may_create && !path.exists() {
            write_private(path, hex::encode(fresh).as_bytes())
                .with_context(|| format!("cannot write the master key to {}", path.display()))?;
        }
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the master key {}", path.display()))?;
        let bytes: [u8; 32] = hex::decode(text.trim())
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .with_context(|| format!("{} is not a master key: 64 hexadecimal digits", path.display()))?;
        Ok(Self::new(&bytes)?)
    }

    /// Seals a secret for a purpose.
    pub fn seal(&self, purpose: &str, secret: &str) -> Result<Vec<u8>, Unsealable> {
        let mut sealed = secret.as_bytes().to_vec();
        let nonce = self
            .key
            .seal_in_place_append_tag(Aad::from(purpose.as_bytes()), &mut sealed)
            .map_err(|_| Unsealable)?;
        let mut out = nonce.as_ref().to_vec();
        out.append(&mut sealed);
        Ok(out)
    }

    /// Opens a secret that was sealed for this purpose.
    pub fn open(&self, purpose: &str, sealed: &[u8]) -> Result<String, Unsealable> {
        let (nonce, rest) = sealed.split_at_checked(NONCE_LEN).ok_or(Unsealable)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| Unsealable)?;
        let mut plain = rest.to_vec();
        let plain = self
            .key
            .open_in_place(nonce, Aad::from(purpose.as_bytes()), &mut plain)
            .map_err(|_| Unsealable)?;
        String::from_utf8(plain.to_vec()).map_err(|_| Unsealable)
    }

    /// A key for a purpose, derived from the master key; the same on every start.
    pub fn derive(&self, purpose: &str) -> [u8; 32] {
        let mut out = [0; 32];
        out.copy_from_slice(hmac::sign(&self.derive, purpose.as_bytes()).as_ref());
        out
    }
}

/// Writes a new file that only its owner may read, durably.
pub fn write_private(path: &Path, content: &[u8]) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sealed_secrets_open_only_for_their_purpose_and_key() {
        let key = MasterKey::new(&[3; 32]).unwrap();
        let sealed = key.seal("device", "s3cret").unwrap();
        assert!(!sealed.windows(6).any(|window| window == b"s3cret"));
        assert_eq!(key.open("device", &sealed).unwrap(), "s3cret");
        assert!(key.open("access-key", &sealed).is_err());
        assert!(MasterKey::new(&[4; 32]).unwrap().open("device", &sealed).is_err());
        assert!(key.open("device", &sealed[..5]).is_err());
    }
}
