//! Backups: a folder with a copy of the database, the blobs that it names, and what opens its secrets.
//!
//! Blobs that are elsewhere (`blobs_url`) are not copied: they are looked for, and listed with size and digest.
//!
//! A backup is taken beside a running server. The copy of the database is one moment; blobs never change, so they
//! are copied afterwards, and one that was purged meanwhile has the copy made again. The manifest is written last:
//! a folder without one is no backup.

use crate::clock::{Clock as _, SystemClock};
use crate::config::Config;
use crate::files::blobs::{BlobPlace, Bucket, Folder, place};
use crate::seal::write_private;
use crate::{api::answer::utc, setup};
use anyhow::{Context as _, bail, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;
use tokio::runtime::Runtime;
use updraft_store::{Integrity, Location, NamedBlob, examine, snapshot};

/// What says that a folder is a backup, and what is in it.
pub const MANIFEST: &str = "backup.json";
/// The copy of the database.
const DATABASE: &str = "updraft.db";
/// What else of a data folder cannot be made again: which installation it is, the key of its secrets, the root
/// account's key and the certificate that devices trust.
const KEPT: [&str; 7] = [
    setup::INSTALLATION_FILE,
    "master.key",
    "root-access-key.json",
    "tls/ca.pem",
    "tls/ca-key.pem",
    "tls/server.pem",
    "tls/server-key.pem",
];
/// The shape of backups that this release writes and reads.
const FORMAT: u32 = 1;
/// How often the database is copied anew because a blob was purged meanwhile.
const ATTEMPTS: usize = 3;
/// Longest check of a copied database.
const CHECK: Duration = Duration::from_hours(1);
const CHUNK_BYTES: usize = 256 * 1024;
/// Objects that are looked for at a time.
const LOOKS: usize = 32;

/// Hears what is being done, how much of it is done, and of how much: pages or bytes.
pub type Progress<'a> = &'a mut dyn FnMut(&'static str, u64, u64);

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The shape of the backup.
    pub format: u32,
    /// The release that made it.
    pub release: String,
    /// The moment after which nothing is in it, at the latest.
    pub taken_at: String,
    /// Its files by their path.
    pub files: BTreeMap<String, Kept>,
    /// Blobs that the database names and that were absent or damaged already when it was taken.
    pub damaged: Vec<String>,
    /// Where the blobs are that were not copied; empty if all were.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub elsewhere: String,
    /// Those by their path there. They were there when the backup was taken, but were not read.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub not_copied: BTreeMap<String, Kept>,
}

/// A file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256, lower-case hex.
    pub sha256: String,
}

impl Manifest {
    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.values().map(|file| file.bytes).sum()
    }

    /// Reads the manifest of a backup.
    pub fn read(from: &Path) -> anyhow::Result<Self> {
        let path = from.join(MANIFEST);
        let text = fs::read(&path).with_context(|| {
            format!("{} is no backup, or one that was not finished: it has no {MANIFEST}", from.display())
        })?;
        let manifest: Self =
            serde_json::from_slice(&text).with_context(|| format!("{} is damaged", path.display()))?;
        ensure!(
            manifest.format == FORMAT,
            "{} was made by release {} in a shape that this release ({}) does not know",
            from.display(),
            manifest.release,
            env!("CARGO_PKG_VERSION")
        );
        for name in manifest.files.keys() {
            let inside = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
            ensure!(
                inside && !name.is_empty(),
                "{} names a file outside of the backup: {name}",
                path.display()
            );
        }
        Ok(manifest)
    }
}

/// Takes a backup of a server, running or not, into a new or empty folder.
///
/// # Errors
/// When something cannot be read or written; the folder then has no manifest.
pub fn take(config: &Config, to: &Path, progress: Progress<'_>) -> anyhow::Result<Manifest> {
    let Location::Sqlite(database) = config.database()? else {
        bail!(
            "the database is PostgreSQL, which has tools of its own: take it with pg_dump, and copy the data folder \
             {} beside it",
            config.data_dir.display()
        );
    };
    ensure!(database.exists(), "there is no database at {}", database.display());
    // SQLite would mend what it cannot know to be damage: delete the log beside an empty file.
    setup::look_first(config, setup::LOOK_BESIDE)?;
    make_empty(to)?;
    let taken_at = utc(SystemClock.now());
    let source = Source::of(config)?;
    let mut backup =
        Backup { to, files: BTreeMap::new(), damaged: BTreeSet::new(), not_copied: BTreeMap::new() };
    backup.database_and_blobs(&database, &source, progress)?;
    for name in KEPT {
        let from = config.data_dir.join(name);
        if from.exists() {
            backup.copy(name, &from, &mut |_| {})?;
        }
    }
    let manifest = Manifest {
        format: FORMAT,
        release: env!("CARGO_PKG_VERSION").to_owned(),
        taken_at,
        files: backup.files,
        damaged: backup.damaged.into_iter().collect(),
        elsewhere: config.blobs_url.clone().unwrap_or_default(),
        not_copied: backup.not_copied,
    };
    sync_folders(to)?;
    write_private(&to.join(MANIFEST), &serde_json::to_vec_pretty(&manifest)?)
        .with_context(|| format!("cannot write {}", to.join(MANIFEST).display()))?;
    File::open(to)?.sync_all()?;
    Ok(manifest)
}

/// Where blobs are, as far as a backup cares.
enum Source {
    /// In the data folder: they are copied.
    Own(PathBuf),
    /// In a folder that nodes share: they are listed.
    Shared(Folder),
    /// In a bucket: they are listed.
    Bucket(Bucket, Runtime),
}

impl Source {
    fn of(config: &Config) -> anyhow::Result<Self> {
        Ok(match config.blobs()? {
            BlobPlace::Own(path) => Self::Own(path),
            BlobPlace::Shared(path) => {
                ensure!(path.is_dir(), "the folder of `blobs_url` is not there: {}", path.display());
                Self::Shared(Folder::shared(&path)?)
            }
            BlobPlace::Bucket { bucket, prefix } => {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                Self::Bucket(Bucket::configured(config, &bucket, &prefix)?, runtime)
            }
        })
    }

    /// Those of these blobs that are missing or of another length.
    fn missing<'n>(
        &self,
        named: &'n [NamedBlob],
        progress: Progress<'_>,
    ) -> anyhow::Result<Vec<&'n NamedBlob>> {
        let mut missing = Vec::new();
        for (done, some) in named.chunks(LOOKS).enumerate() {
            match self {
                Self::Own(_) => {}
                Self::Shared(folder) => {
                    missing.extend(some.iter().filter(|blob| folder.read(&blob.name, blob.size).is_err()));
                }
                Self::Bucket(bucket, runtime) => {
                    let looks = some.iter().map(|blob| bucket.has(&blob.name, blob.size));
                    let found = runtime.block_on(futures_util::future::try_join_all(looks));
                    let found = found.context("the object store cannot be used")?;
                    missing.extend(some.iter().zip(found).filter(|(_, there)| !there).map(|(blob, _)| blob));
                }
            }
            progress("files", (done * LOOKS + some.len()) as u64, named.len() as u64);
        }
        Ok(missing)
    }
}

/// A backup that is being taken.
struct Backup<'a> {
    to: &'a Path,
    files: BTreeMap<String, Kept>,
    damaged: BTreeSet<String>,
    not_copied: BTreeMap<String, Kept>,
}

impl Backup<'_> {
    fn database_and_blobs(
        &mut self,
        database: &Path,
        source: &Source,
        progress: Progress<'_>,
    ) -> anyhow::Result<()> {
        let copy = self.to.join(DATABASE);
        for attempt in 1..=ATTEMPTS {
            remove(&copy)?;
            let named = snapshot(database, &copy, &mut |done, all| progress("database", done, all))
                .with_context(|| format!("cannot copy {} to {}", database.display(), copy.display()))?;
            let purged = match source {
                Source::Own(blobs) => self.blobs(&named, blobs, progress)?,
                elsewhere => self.listed(&named, elsewhere, progress)?,
            };
            if purged.is_empty() {
                break;
            }
            // The copy that names them is older than their end, unless they were lost before.
            if attempt == ATTEMPTS {
                self.damaged.extend(purged);
            }
        }
        fs::set_permissions(&copy, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        File::open(&copy)?.sync_all()?;
        sound(&copy)?;
        self.files.insert(DATABASE.to_owned(), digest(&copy, &mut |_| {})?);
        Ok(())
    }

    /// Copies the blobs that a copy of the database names and that are not here yet; answers those that are gone.
    fn blobs(
        &mut self,
        named: &[NamedBlob],
        blobs: &Path,
        progress: Progress<'_>,
    ) -> anyhow::Result<Vec<String>> {
        let total = named.iter().map(|blob| blob.size.unsigned_abs()).sum();
        let wanted: BTreeMap<String, &NamedBlob> =
            named.iter().map(|blob| (format!("blobs/{}", place(&blob.name)), blob)).collect();
        for name in self.files.keys().filter(|name| !wanted.contains_key(*name)) {
            remove(&self.to.join(name))?;
        }
        self.files.retain(|name, _| wanted.contains_key(name));
        let (mut done, mut purged) = (0, Vec::new());
        for (name, blob) in wanted {
            if !self.files.contains_key(&name) {
                let from = blobs.join(place(&blob.name));
                match self.copy(&name, &from, &mut |bytes| progress("files", done + bytes, total)) {
                    Ok(kept) if kept.sha256 != blob.sha256 => {
                        self.damaged.insert(name);
                    }
                    Ok(_) => {}
                    Err(error) if is_absent(&error) => purged.push(name),
                    Err(error) => return Err(error),
                }
            }
            done += blob.size.unsigned_abs();
            progress("files", done, total);
        }
        Ok(purged)
    }

    /// Lists the blobs that a copy of the database names; answers those that are gone.
    fn listed(
        &mut self,
        named: &[NamedBlob],
        source: &Source,
        progress: Progress<'_>,
    ) -> anyhow::Result<Vec<String>> {
        let missing = source.missing(named, progress)?;
        let missing: Vec<String> = missing.into_iter().map(|blob| place(&blob.name)).collect();
        let kept = |blob: &NamedBlob| Kept { bytes: blob.size.unsigned_abs(), sha256: blob.sha256.clone() };
        self.not_copied = named.iter().map(|blob| (place(&blob.name), kept(blob))).collect();
        self.not_copied.retain(|name, _| !missing.contains(name));
        Ok(missing)
    }

    fn copy(&mut self, name: &str, from: &Path, bytes: &mut dyn FnMut(u64)) -> anyhow::Result<Kept> {
        let kept = copy(from, &self.to.join(name), bytes)?;
        self.files.insert(name.to_owned(), kept.clone());
        Ok(kept)
    }
}

/// Compares all files of a backup with its manifest, and looks whether its database is sound.
///
/// # Errors
/// Names the first file that is not what it was.
pub fn check(from: &Path, progress: Progress<'_>) -> anyhow::Result<Manifest> {
    let manifest = Manifest::read(from)?;
    let (total, mut done) = (manifest.bytes(), 0);
    for (name, kept) in &manifest.files {
        let path = from.join(name);
        let found = digest(&path, &mut |bytes| progress("check", done + bytes, total))?;
        same(&path, kept, &found)?;
        done += kept.bytes;
    }
    sound(&from.join(DATABASE))?;
    Ok(manifest)
}

/// Makes a data folder of a backup. The folder must be absent or empty, and appears only when all of it is there.
///
/// # Errors
/// When the backup is damaged or made by a newer release, or something cannot be written; then nothing is left
/// behind.
pub fn restore(from: &Path, config: &Config, progress: Progress<'_>) -> anyhow::Result<Manifest> {
    let data_dir = &config.data_dir;
    let manifest = Manifest::read(from)?;
    make_empty(data_dir)?;
    let draft = data_dir.join(".restoring");
    fs::DirBuilder::new().mode(0o700).create(&draft)?;
    let filled = fill(from, &draft, &manifest, progress).and_then(|()| publish(&draft, data_dir));
    if filled.is_err() {
        // What is left can do no harm, but would be in the way of the next attempt.
        let _ = fs::remove_dir_all(&draft);
    }
    filled?;
    Ok(manifest)
}

fn fill(from: &Path, draft: &Path, manifest: &Manifest, progress: Progress<'_>) -> anyhow::Result<()> {
    let (total, mut done) = (manifest.bytes(), 0);
    for (name, kept) in &manifest.files {
        let path = from.join(name);
        let found = copy(&path, &draft.join(name), &mut |bytes| progress("restore", done + bytes, total))?;
        same(&path, kept, &found)?;
        done += kept.bytes;
    }
    sync_folders(draft)?;
    sound(&draft.join(DATABASE))
}

/// Moves what is complete to its place; the installation's name, by which a data folder is known, goes last.
fn publish(draft: &Path, data_dir: &Path) -> anyhow::Result<()> {
    let mut names: Vec<_> =
        fs::read_dir(draft)?.map(|entry| Ok(entry?.file_name())).collect::<std::io::Result<_>>()?;
    names.sort_by_key(|name| name == setup::INSTALLATION_FILE);
    for name in names {
        fs::rename(draft.join(&name), data_dir.join(&name))?;
    }
    fs::remove_dir(draft)?;
    File::open(data_dir)?.sync_all()?;
    Ok(())
}

/// Refuses a database that is damaged, or of a schema on which this release cannot work.
fn sound(path: &Path) -> anyhow::Result<()> {
    let health = examine(&Location::Sqlite(path.to_owned()), CHECK)
        .with_context(|| format!("cannot read {}", path.display()))?
        .with_context(|| format!("{} is missing", path.display()))?;
    match health.integrity {
        Integrity::Damaged(what) => bail!("the database {} is damaged: {what}", path.display()),
        Integrity::Sound | Integrity::Unfinished | Integrity::NotOurs => {}
    }
    ensure!(
        !health.is_too_new(),
        "the database {} was made by a newer release of updraft (schema {}, this one knows {}); use that one",
        path.display(),
        health.schema,
        health.known
    );
    Ok(())
}

fn same(path: &Path, wanted: &Kept, found: &Kept) -> anyhow::Result<()> {
    ensure!(wanted == found, "{} is damaged: it is not what was backed up", path.display());
    Ok(())
}

/// Makes a folder for its owner only, unless an empty one is there.
fn make_empty(folder: &Path) -> anyhow::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let occupied = fs::read_dir(folder)?.next().is_some();
    ensure!(!occupied, "the folder {} is not empty: name a new one", folder.display());
    Ok(())
}

fn remove(path: &Path) -> anyhow::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn is_absent(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == ErrorKind::NotFound)
}

/// Copies a file, for its owner only and durably, and takes its digest on the way.
fn copy(from: &Path, to: &Path, bytes: &mut dyn FnMut(u64)) -> anyhow::Result<Kept> {
    let source = File::open(from).with_context(|| format!("cannot read {}", from.display()))?;
    let target = || -> std::io::Result<File> {
        if let Some(folder) = to.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)
    };
    let mut target = target().with_context(|| format!("cannot write {}", to.display()))?;
    let kept = read(source, from, &mut |chunk, done| {
        target.write_all(chunk).with_context(|| format!("cannot write {}", to.display()))?;
        bytes(done);
        Ok(())
    })?;
    target.sync_all().with_context(|| format!("cannot write {}", to.display()))?;
    Ok(kept)
}

fn digest(path: &Path, bytes: &mut dyn FnMut(u64)) -> anyhow::Result<Kept> {
    let source = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    read(source, path, &mut |_, done| {
        bytes(done);
        Ok(())
    })
}

/// Hands a file on in chunks, each with the bytes so far.
fn read(
    mut source: File,
    path: &Path,
    each: &mut dyn FnMut(&[u8], u64) -> anyhow::Result<()>,
) -> anyhow::Result<Kept> {
    let (mut hash, mut bytes, mut chunk) = (Sha256::new(), 0, vec![0; CHUNK_BYTES]);
    loop {
        let count = source.read(&mut chunk).with_context(|| format!("cannot read {}", path.display()))?;
        if count == 0 {
            return Ok(Kept { bytes, sha256: hex::encode(hash.finalize()) });
        }
        hash.update(&chunk[..count]);
        bytes += count as u64;
        each(&chunk[..count], bytes)?;
    }
}

/// Makes the names of all files durable, not only their contents.
fn sync_folders(root: &Path) -> anyhow::Result<()> {
    let mut folders: Vec<PathBuf> = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        File::open(&folder)?.sync_all()?;
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    Ok(())
}
