//! Access keys, looked up on every call: a cache that is never older than half a second, so that a key
//! disabled by an administration command dies within a second on a running server.

use crate::api::error::ApiError;
use crate::seal::MasterKey;
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;
use updraft_core::id::{AccountNo, InstanceNo};
use updraft_core::time::Timestamp;
use updraft_store::{Store, StoreError};

/// What the purpose of sealed access keys is called.
pub const SEAL_PURPOSE: &str = "access-key";
/// How long a looked-up key is trusted, in milliseconds.
const FRESH_MS: i64 = 500;
/// Most keys remembered.
const CACHED_MAX: usize = 10_000;

/// Who signs a call.
pub struct Signer {
    /// The account that the key acts for.
    pub account: AccountNo,
    /// The account's public instance.
    pub public: InstanceNo,
    /// The secret, in the clear.
    pub secret: String,
    /// Whether the key may sign.
    pub enabled: bool,
}

/// The keys looked up lately.
#[derive(Default)]
pub struct AccessKeys {
    cached: RwLock<HashMap<String, (Timestamp, Arc<Signer>)>>,
}

impl AccessKeys {
    /// The holder of a key; `None` if there is no such key.
    pub async fn find(
        &self,
        store: &Store,
        master: &MasterKey,
        id: &str,
        now: Timestamp,
    ) -> Result<Option<Arc<Signer>>, ApiError> {
        if let Some((at, signer)) = self.cached.read().get(id)
            && (0..FRESH_MS).contains(&now.since_ms(*at))
        {
            return Ok(Some(Arc::clone(signer)));
        }
        let wanted = id.to_owned();
        let found = store
            .read(move |tx| {
                let Some(key) = tx.access_key_find(&wanted)? else { return Ok(None) };
                let public = tx.instance_public(key.account)?;
                Ok::<_, StoreError>(Some((key, public)))
            })
            .await?;
        let Some((key, public)) = found else {
            self.cached.write().remove(id);
            return Ok(None);
        };
        let signer = Arc::new(Signer {
            account: key.account,
            public,
            secret: master.open(SEAL_PURPOSE, &key.secret_sealed)?,
            enabled: key.enabled,
        });
        let mut cached = self.cached.write();
        if cached.len() >= CACHED_MAX {
            cached.clear();
        }
        cached.insert(id.to_owned(), (now, Arc::clone(&signer)));
        Ok(Some(signer))
    }
}
