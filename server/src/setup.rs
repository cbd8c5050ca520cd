//! The data folder: what is made on first start, and how commands open it.

use crate::api::access::SEAL_PURPOSE;
use crate::config::Config;
use crate::random::Random;
use crate::seal::{MasterKey, write_private};
use anyhow::{Context as _, bail};
use serde_json::json;
use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;
use updraft_core::id::{self, AccountNo};
use updraft_core::time::Timestamp;
use updraft_store::{AccessKey, Health, Integrity, Lane, Location, Store, examine_for_start};

/// The name of the account that exists from the first start on.
pub const ROOT_ACCOUNT: &str = "root";

/// A start writes more than this, and a disk without so much serves nobody.
const PROBE_BYTES: usize = 256 * 1024;

/// How long a command looks at a database before it opens it.
pub const LOOK_BESIDE: Duration = Duration::from_millis(100);

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

/// Whether a server serves the data folder. The lock is tried for an instant and let go again.
pub fn is_locked(data_dir: &Path) -> bool {
    File::open(data_dir.join("lock"))
        .is_ok_and(|file| matches!(file.try_lock_shared(), Err(std::fs::TryLockError::WouldBlock)))
}

/// Refuses disks of data folder and database that take no writes: before anything is opened, and in words that name
/// them.
pub fn writable(config: &Config) -> anyhow::Result<()> {
    try_writing(&config.data_dir)?;
    match config.database()? {
        Location::Sqlite(path) => match path.parent() {
            Some(folder) if folder != config.data_dir && folder.is_dir() => try_writing(folder),
            _ => Ok(()),
        },
        Location::Postgres(_) | Location::Inline => Ok(()),
    }
}

fn try_writing(folder: &Path) -> anyhow::Result<()> {
    // The file never has a name, so nothing is left behind.
    let tried = tempfile::tempfile_in(folder).and_then(|mut file| {
        file.write_all(&vec![0; PROBE_BYTES])?;
        file.sync_all()
    });
    let Err(error) = tried else { return Ok(()) };
    let advice = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "the disk is full: make room on it, then start again"
        }
        ErrorKind::ReadOnlyFilesystem => {
            "the disk is mounted read-only, as Linux does with one that failed: look into the system's log, then \
             mount it for writing"
        }
        ErrorKind::PermissionDenied => "give the folder to the user that runs this",
        _ => "look whether the disk is sound",
    };
    Err(error).with_context(|| format!("nothing can be written to {}: {advice}", folder.display()))
}

/// Looks at the database before it is opened for writing, for at most about `patience`: one that is damaged, missing
/// though the data folder has been used, or another one than its folder's and key's is refused as it is, with nothing
/// of its log applied. Blocks; must not run inside async code.
pub fn look_first(config: &Config, patience: Duration) -> anyhow::Result<Option<Health>> {
    let location = config.database()?;
    // A database server looks after its files itself.
    let Location::Sqlite(path) = &location else { return Ok(None) };
    let health = examine_for_start(&location, patience)
        .with_context(|| format!("cannot look at the database {}", path.display()))?;
    let Some(health) = health else {
        if folder_name(config)?.is_some() {
            bail!(
                "the database {} is missing or empty, and the data folder {} has been used with one; put it back, \
                 give the right --database-url, or restore a backup into a new folder (`updraft restore FOLDER \
                 --data-dir NEW`)",
                path.display(),
                config.data_dir.display()
            );
        }
        return Ok(None);
    };
    if let Integrity::Damaged(words) = &health.integrity {
        bail!(
            "the database is damaged: {words}. Nothing was changed. Keep a copy of it and of the files beside it, \
             and restore the last backup into a new folder (`updraft restore FOLDER --data-dir NEW`)"
        );
    }
    // A log of another database would make another one of it. Many commands need no key, which may be elsewhere.
    if let Some(sealed) = &health.installation
        && key_path(config).exists()
    {
        belongs(config, sealed)?;
    }
    Ok(Some(health))
}

/// What a start looks at before it opens the database; the key of one that has secrets must be there.
pub fn look_before_start(config: &Config, patience: Duration) -> anyhow::Result<()> {
    let health = look_first(config, patience)?;
    health.and_then(|health| health.installation).map_or(Ok(()), |sealed| belongs(config, &sealed))
}

/// Refuses a database that is not that of this key and folder.
fn belongs(config: &Config, sealed: &[u8]) -> anyhow::Result<()> {
    let (_, name) = open_name(config, sealed)?;
    folder_name(config)?.map_or(Ok(()), |folder| same_folder(config, &folder, &name))
}

/// Makes the data folder if it is absent, for its owner only.
pub fn data_dir(config: &Config) -> anyhow::Result<PathBuf> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&config.data_dir)
        .with_context(|| format!("cannot make the data folder {}", config.data_dir.display()))?;
    config
        .data_dir
        .canonicalize()
        .with_context(|| format!("cannot find the data folder {}", config.data_dir.display()))
}

/// The file of a data folder that names its installation.
pub const INSTALLATION_FILE: &str = "installation";
/// What the purpose of the sealed installation name is called.
pub const INSTALLATION_PURPOSE: &str = "installation";

/// Opens the master key and makes sure that database, data folder and key belong together; the first start
/// ties them. A lost key, a mistyped database or folder is refused here, before anything is changed.
pub async fn master_key(config: &Config, store: &Store, random: &Random) -> anyhow::Result<MasterKey> {
    let sealed = store.read(|tx| tx.installation_find()).await?;
    let folder = folder_name(config)?;
    let Some(sealed) = sealed else {
        if folder.is_some() {
            bail!(
                "the data folder {} belongs to another database than this empty one; give the right \
                 --database-url, or another --data-dir for a new installation",
                config.data_dir.display()
            );
        }
        let fresh = random.bytes::<32>("master_key");
        let master = MasterKey::load(&key_path(config), config.master_key_file.is_none(), &fresh)?;
        let name = hex::encode(random.bytes::<16>("installation"));
        let sealed = master.seal(INSTALLATION_PURPOSE, &name)?;
        store.write(Lane::Interactive, move |tx| tx.installation_insert(&sealed)).await?;
        write_name(config, &name)?;
        return Ok(master);
    };
    let (master, name) = open_name(config, &sealed)?;
    match folder {
        Some(folder) => same_folder(config, &folder, &name)?,
        // A folder that was never used with any database, or a crash at the first start.
        None => write_name(config, &name)?,
    }
    Ok(master)
}

/// Opens the master key for a command beside a server: makes no key and ties nothing. The data folder need not
/// be there; if it has been used, it must be with this database.
pub async fn master_key_beside(config: &Config, store: &Store) -> anyhow::Result<MasterKey> {
    let sealed = store.read(|tx| tx.installation_find()).await?;
    let sealed = sealed.context("no server has been started on this database yet; start one first")?;
    let (master, name) = open_name(config, &sealed)?;
    if let Some(folder) = folder_name(config)? {
        same_folder(config, &folder, &name)?;
    }
    Ok(master)
}

fn key_path(config: &Config) -> PathBuf {
    config.master_key_file.clone().unwrap_or_else(|| config.data_dir.join("master.key"))
}

/// The installation that the data folder belongs to, if it has been used.
pub fn folder_name(config: &Config) -> anyhow::Result<Option<String>> {
    let path = config.data_dir.join(INSTALLATION_FILE);
    match std::fs::read_to_string(&path) {
        Ok(name) => Ok(Some(name)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

fn write_name(config: &Config, name: &str) -> anyhow::Result<()> {
    let path = config.data_dir.join(INSTALLATION_FILE);
    write_private(&path, name.as_bytes()).with_context(|| format!("cannot write {}", path.display()))
}

fn same_folder(config: &Config, folder: &str, name: &str) -> anyhow::Result<()> {
    if folder.len() != name.len() || !folder.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        bail!(
            "{} is damaged: it names no installation; restore it from a backup, or remove it if you are sure that the \
             folder and the database belong together",
            config.data_dir.join(INSTALLATION_FILE).display()
        );
    }
    if folder != name {
        bail!(
            "the data folder {} belongs to another database; give the right --data-dir or --database-url",
            config.data_dir.display()
        );
    }
    Ok(())
}

/// The master key of an installation, and the name that it seals.
fn open_name(config: &Config, sealed: &[u8]) -> anyhow::Result<(MasterKey, String)> {
    let path = key_path(config);
    let master = MasterKey::load(&path, false, &[0; 32])
        .context("the database has secrets sealed with a master key: restore its file")?;
    let name = master.open(INSTALLATION_PURPOSE, sealed).with_context(|| {
        format!("{} is not the master key of this database: restore the right one", path.display())
    })?;
    Ok((master, name))
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
        put_key(store, master, &key, now).await?;
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
    put_key(store, master, &key, now).await?;
    Ok(Some(path))
}

/// A new access key.
pub fn fresh_key(random: &Random) -> NewKey {
    NewKey {
        id: format!("UPDR{}", id::alphanumeric(&random.bytes::<20>("access_key_id"))),
        secret: id::alphanumeric(&random.bytes::<30>("access_key_secret")),
    }
}

/// A key whose secret is sealed, and which nobody holds yet.
#[derive(Debug, Clone)]
pub struct SealedKey {
    id: String,
    secret_sealed: Vec<u8>,
}

impl SealedKey {
    /// The row of this key, switched on, for a RAM user or (`None`) the account itself.
    pub fn of(&self, account: AccountNo, ram_user: Option<String>) -> AccessKey {
        let Self { id, secret_sealed } = self.clone();
        AccessKey { id, account, ram_user, secret_sealed, enabled: true }
    }
}

/// Seals a key's secret.
pub fn seal_key(master: &MasterKey, key: &NewKey) -> anyhow::Result<SealedKey> {
    Ok(SealedKey { id: key.id.clone(), secret_sealed: master.seal(SEAL_PURPOSE, &key.secret)? })
}

async fn put_key(store: &Store, master: &MasterKey, key: &NewKey, now: Timestamp) -> anyhow::Result<()> {
    let sealed = seal_key(master, key)?;
    store
        .write(Lane::Interactive, move |tx| {
            let account = tx.account_ensure(ROOT_ACCOUNT, now)?;
            tx.access_key_put(&sealed.of(account, None), now)
        })
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use updraft_store::Location;

    #[tokio::test]
    async fn a_command_makes_no_key_and_ties_no_folder() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { data_dir: dir.path().join("server"), ..Config::default() };
        let store = Store::open(&Location::Inline).unwrap();
        assert!(master_key_beside(&config, &store).await.is_err(), "no server has run");
        assert!(!config.data_dir.exists());

        std::fs::create_dir(&config.data_dir).unwrap();
        master_key(&config, &store, &Random::from_seed([1; 32])).await.unwrap();
        master_key_beside(&config, &store).await.unwrap();
        let key_file = Some(config.data_dir.join("master.key"));
        let beside =
            Config { data_dir: dir.path().join("none"), master_key_file: key_file, ..config.clone() };
        master_key_beside(&beside, &store).await.unwrap();
        assert!(!beside.data_dir.exists());

        std::fs::create_dir(&beside.data_dir).unwrap();
        std::fs::write(beside.data_dir.join("installation"), "another").unwrap();
        assert!(master_key_beside(&beside, &store).await.is_err(), "the folder is another database's");
    }
}
