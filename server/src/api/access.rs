//! Access keys and what their holders may do, looked up on every call: a cache that is never older than half a
//! second, so that a key or a policy changed by a command acts within a second on a running server. And the
//! instances that calls name, which never change.

use crate::api::error::{ApiError, Code};
use crate::api::policy;
use crate::api::sts::{self, Session};
use crate::seal::MasterKey;
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;
use updraft_core::id::{AccountNo, InstanceNo};
use updraft_core::policy::Policy;
use updraft_core::time::Timestamp;
use updraft_store::{AccessKey, KeyHolder, Store, StoreError, StsHolder};

/// What the purpose of sealed access keys is called.
pub const SEAL_PURPOSE: &str = "access-key";
/// How long a looked-up key is trusted, in milliseconds.
const FRESH_MS: i64 = 500;
/// Most keys remembered, and most instances.
const CACHED_MAX: usize = 10_000;

/// Who signs a call.
pub struct Signer {
    /// AccessKeyId.
    pub key_id: String,
    /// The account that the key acts for.
    pub account: AccountNo,
    /// The account's name.
    pub account_name: String,
    /// The RAM user that holds the key; `None`: the account itself.
    pub ram_user: Option<String>,
    /// What it may do; `None`: everything.
    pub policy: Option<Policy>,
    /// The account's public instance.
    pub public: InstanceNo,
    /// The secret, in the clear.
    pub secret: String,
    /// Whether the key may sign.
    pub enabled: bool,
    /// What a temporary key has besides; `None`: a lasting one.
    pub session: Option<Session>,
}

/// The keys looked up lately.
#[derive(Default)]
pub struct AccessKeys {
    cached: RwLock<HashMap<String, (Timestamp, Arc<Signer>)>>,
}

impl AccessKeys {
    /// Whether this key was looked up before and found.
    pub fn knows(&self, id: &str) -> bool {
        self.cached.read().contains_key(id)
    }

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
        let Some((KeyHolder { key, account_name, public, policy }, session)) = look_up(store, id).await?
        else {
            self.cached.write().remove(id);
            return Ok(None);
        };
        let signer = Arc::new(Signer {
            key_id: key.id,
            account: key.account,
            account_name,
            ram_user: key.ram_user,
            policy: policy.as_deref().map(read).transpose()?,
            public,
            secret: master.open(SEAL_PURPOSE, &key.secret_sealed)?,
            enabled: key.enabled,
            session,
        });
        let mut cached = self.cached.write();
        if cached.len() >= CACHED_MAX {
            cached.clear();
        }
        cached.insert(id.to_owned(), (now, Arc::clone(&signer)));
        Ok(Some(signer))
    }
}

/// A document that this release cannot read allows nothing, and says so.
fn read(document: &str) -> Result<Policy, ApiError> {
    policy::read(document)
        .map_err(|why| ApiError::new(Code::InternalError).because(format!("a stored policy: {why}")))
}

/// A key in the database, lasting or temporary.
async fn look_up(store: &Store, id: &str) -> Result<Option<(KeyHolder, Option<Session>)>, ApiError> {
    let wanted = id.to_owned();
    if !sts::is_temporary(id) {
        let found = store.read(move |tx| tx.access_key_holder(&wanted)).await.map_err(ApiError::from)?;
        return Ok(found.map(|holder| (holder, None)));
    }
    let found = store.read(move |tx| tx.sts_key_holder(&wanted)).await.map_err(ApiError::from)?;
    let Some(StsHolder { key, account_name, public, user_policy }) = found else { return Ok(None) };
    let session = Session {
        token_hash: key.token_hash,
        expires_at: key.expires_at,
        policy: key.policy.as_deref().map(read).transpose()?,
    };
    let key = AccessKey {
        id: key.id,
        account: key.account,
        ram_user: key.ram_user,
        secret_sealed: key.secret_sealed,
        enabled: true,
    };
    Ok(Some((KeyHolder { key, account_name, public, policy: user_policy }, Some(session))))
}

/// The instances that calls have named. An instance is neither changed nor deleted, so what was found once is
/// true for good; what was not found is looked for again.
#[derive(Default)]
pub struct Instances {
    found: RwLock<HashMap<AccountNo, HashMap<String, InstanceNo>>>,
}

impl Instances {
    /// The account's instance with this IotInstanceId.
    pub async fn find(
        &self,
        store: &Store,
        account: AccountNo,
        id: &str,
    ) -> Result<Option<InstanceNo>, StoreError> {
        if let Some(no) = self.found.read().get(&account).and_then(|of| of.get(id)) {
            return Ok(Some(*no));
        }
        let wanted = id.to_owned();
        let found = store.read(move |tx| tx.instance_find(account, &wanted)).await?;
        if let Some(no) = found {
            let mut all = self.found.write();
            if all.values().map(HashMap::len).sum::<usize>() >= CACHED_MAX {
                all.clear();
            }
            all.entry(account).or_default().insert(id.to_owned(), no);
        }
        Ok(found)
    }
}
