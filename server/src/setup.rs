//! The data folder: what is made on first start, and how commands open it.

use crate::api::access::SEAL_PURPOSE;
use crate::config::Config;
use crate::random::Random;
use crate::seal::{MasterKey, write_private};
use anyhow::{Context as _, bail};
use serde_json::json;
use std::fs::File;
use std::path::{Path, PathBuf};
use updraft_core::id::{self, AccountNo};
use updraft_core::time::Timestamp;
use updraft_store::{AccessKey, Lane, Store, StoreError};

/// The name of the account that exists from the first start on.
pub const ROOT_ACCOUNT: &str = "root";

/// An access key as it is shown to its holder.
pub struct NewKey {
    /// AccessKeyId.
    pub id: String,
    /// AccessKeySecret.
    pub secret: String,
}

impl NewKey {
    /// The JSON that admin commands print and the key file holds.
    pub fn json(&self) -> String {
        json!({ "AccessKeyId": self.id, "AccessKeySecret": self.secret }).to_string()
    }
}

/// Takes the data folder for one server: a second one is refused by name. The lock ends with the process.
pub fn lock(data_dir: &Path) -> anyhow::Result<File> {
    let path = data_dir.join("lock");
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => bail!(
            "another updraft serves the data folder {}; stop it, or give this one another --data-dir",
            data_dir.display()
        ),
        Err(std::fs::TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

/// Makes the data folder if it is absent.
pub fn data_dir(config: &Config) -> anyhow::Result<PathBuf> {
    std::fs::create_dir_all(&config.data_dir)
        .with_context(|| format!("cannot make the data folder {}", config.data_dir.display()))?;
    config
        .data_dir
        .canonicalize()
        .with_context(|| format!("cannot find the data folder {}", config.data_dir.display()))
}

/// Opens the master key; makes the one in the data folder if there is none.
pub fn master_key(config: &Config, random: &Random) -> anyhow::Result<MasterKey> {
    let fresh = random.bytes::<32>("master_key");
    match &config.master_key_file {
        Some(path) => MasterKey::load(path, false, &fresh),
        None => MasterKey::load(&config.data_dir.join("master.key"), true, &fresh),
    }
}

/// Makes the root account and its key if they are absent; answers where the key was written.
pub async fn root_account(
    config: &Config,
    store: &Store,
    master: &MasterKey,
    random: &Random,
    now: Timestamp,
) -> anyhow::Result<Option<PathBuf>> {
    if let (Some(id), Some(secret)) = (&config.root_access_key_id, &config.root_access_key_secret) {
        let key = NewKey { id: id.clone(), secret: secret.clone() };
        put_key(store, master, &key, None, now).await?;
        return Ok(None);
    }
    let exists = store
        .write(Lane::Interactive, move |tx| {
            let account = tx.account_ensure(ROOT_ACCOUNT, now)?;
            tx.access_key_root_exists(account)
        })
        .await?;
    let path = config.data_dir.join("root-access-key.json");
    if exists {
        return Ok(path.exists().then_some(path));
    }
    let key = fresh_key(random);
    // The file first: a key in the database that nobody knows would lock the owner out.
    write_private(&path, key.json().as_bytes())
        .with_context(|| format!("cannot write the root access key to {}", path.display()))?;
    put_key(store, master, &key, None, now).await?;
    Ok(Some(path))
}

/// Makes a key of a RAM user of the root account.
pub async fn create_ram_key(
    store: &Store,
    master: &MasterKey,
    random: &Random,
    user: &str,
    now: Timestamp,
) -> anyhow::Result<NewKey> {
    let key = fresh_key(random);
    put_key(store, master, &key, Some(user.to_owned()), now).await?;
    Ok(key)
}

fn fresh_key(random: &Random) -> NewKey {
    NewKey {
        id: format!("UPDR{}", id::alphanumeric(&random.bytes::<20>("access_key_id"))),
        secret: id::alphanumeric(&random.bytes::<30>("access_key_secret")),
    }
}

async fn put_key(
    store: &Store,
    master: &MasterKey,
    key: &NewKey,
    ram_user: Option<String>,
    now: Timestamp,
) -> anyhow::Result<AccountNo> {
    let row = AccessKey {
        id: key.id.clone(),
        account: AccountNo(0),
        ram_user,
        secret_sealed: master.seal(SEAL_PURPOSE, &key.secret)?,
        enabled: true,
    };
    let account = store
        .write(Lane::Interactive, move |tx| {
            let account = tx.account_ensure(ROOT_ACCOUNT, now)?;
            tx.access_key_put(&AccessKey { account, ..row.clone() }, now)?;
            Ok::<_, StoreError>(account)
        })
        .await?;
    Ok(account)
}
