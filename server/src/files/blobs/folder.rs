//! Where uploaded bytes are: a local folder. A blob appears under its name only when it is complete and on
//! the disk.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// Where blobs are written.
const INCOMING: &str = "incoming";
/// Where blobs go that no row names.
const LOST: &str = "lost";

/// The folder of blobs.
#[derive(Debug, Clone)]
pub struct Blobs {
    root: PathBuf,
    measure: Measure,
}

/// Answers how many bytes an unprivileged process can still write to the disk of a folder.
pub type Measure = fn(&Path) -> io::Result<u64>;

/// A blob that is being written; removed again unless it is kept.
#[derive(Debug)]
pub struct Incoming {
    blobs: Blobs,
    name: String,
    path: PathBuf,
    kept: bool,
}

impl Blobs {
    /// Opens the folder, making it if absent, and removes what unfinished uploads left behind.
    pub fn open(root: &Path) -> io::Result<Self> {
        let blobs = Self { root: root.to_owned(), measure: free_bytes };
        std::fs::create_dir_all(blobs.incoming_dir())?;
        for entry in std::fs::read_dir(blobs.incoming_dir())? {
            std::fs::remove_file(entry?.path())?;
        }
        Ok(blobs)
    }

    /// The same folder on a disk that is measured otherwise: for tests.
    #[must_use]
    pub fn measured_by(self, measure: Measure) -> Self {
        Self { measure, ..self }
    }

    /// How many bytes can still be written to the disk.
    pub fn free_bytes(&self) -> io::Result<u64> {
        (self.measure)(&self.root)
    }

    /// Starts a new blob.
    pub async fn create(&self, name: String) -> io::Result<(Incoming, tokio::fs::File)> {
        let path = self.incoming_dir().join(&name);
        let file = tokio::fs::OpenOptions::new().write(true).create_new(true).open(&path).await?;
        Ok((Incoming { blobs: self.clone(), name, path, kept: false }, file))
    }

    /// Opens a blob of `size` bytes for reading. One of another size is damaged, and nobody is served a part of it.
    pub fn read(&self, name: &str, size: i64) -> io::Result<File> {
        let file = File::open(self.path(name))?;
        let found = file.metadata()?.len();
        if found != size.unsigned_abs() {
            let words = format!("it is damaged: it has {found} bytes and had {size}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, words));
        }
        Ok(file)
    }

    /// Removes a blob.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path(name))
    }

    /// Takes a blob that nobody names out of the way, for a person to look at.
    pub fn put_aside(&self, name: &str) -> io::Result<()> {
        let lost = self.root.join(LOST);
        std::fs::create_dir_all(&lost)?;
        std::fs::rename(self.path(name), lost.join(name))
    }

    /// The names of all complete blobs.
    pub fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for shard in std::fs::read_dir(&self.root)? {
            let shard = shard?;
            if shard.file_type()?.is_dir() && shard.file_name() != INCOMING && shard.file_name() != LOST {
                for entry in std::fs::read_dir(shard.path())? {
                    names.extend(entry?.file_name().into_string());
                }
            }
        }
        Ok(names)
    }

    fn incoming_dir(&self) -> PathBuf {
        self.root.join(INCOMING)
    }

    fn path(&self, name: &str) -> PathBuf {
        // Two characters spread a million files over 256 and more folders.
        self.root.join(name.get(..2).unwrap_or("xx")).join(name)
    }
}

fn free_bytes(folder: &Path) -> io::Result<u64> {
    let found = rustix::fs::statvfs(folder)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

impl Incoming {
    /// Makes a complete, synced file a blob; durable when this returns. Answers its name.
    pub fn keep(mut self) -> io::Result<String> {
        let target = self.blobs.path(&self.name);
        let folder = target.parent().unwrap_or(&self.blobs.root);
        std::fs::create_dir_all(folder)?;
        std::fs::rename(&self.path, &target)?;
        self.kept = true;
        File::open(folder)?.sync_all()?;
        File::open(&self.blobs.root)?.sync_all()?;
        Ok(std::mem::take(&mut self.name))
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!(%error, path = %self.path.display(), "an unfinished upload could not be removed");
        }
    }
}
