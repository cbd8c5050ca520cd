//! Blobs in a folder. One appears under its name only when it is complete and on the disk.
//!
//! The server's own folder is put in order at its start. One that several nodes mount is not: what looks left behind
//! may be another node's upload, until it is a day old (`files/sweep.rs`).

use std::fs::{DirEntry, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use tokio::io::AsyncWriteExt as _;

/// Where blobs are written.
const INCOMING: &str = "incoming";
/// Where blobs go that no row names.
const LOST: &str = "lost";

/// The folder of blobs.
#[derive(Debug, Clone)]
pub struct Folder {
    root: PathBuf,
    measure: Measure,
}

/// Answers how many bytes an unprivileged process can still write to the disk of a folder.
pub type Measure = fn(&Path) -> io::Result<u64>;

/// A blob that is being written; removed again unless it is kept.
#[derive(Debug)]
pub struct IncomingFile {
    folder: Folder,
    name: String,
    path: PathBuf,
    file: Option<tokio::fs::File>,
    kept: bool,
}

impl Folder {
    /// Opens the server's own folder, making it if absent, and removes what unfinished uploads left behind.
    pub fn own(root: &Path) -> io::Result<Self> {
        let folder = Self::shared(root)?;
        for entry in std::fs::read_dir(folder.incoming_dir())? {
            std::fs::remove_file(entry?.path())?;
        }
        Ok(folder)
    }

    /// Opens a folder that other nodes may be using, making it if absent.
    pub fn shared(root: &Path) -> io::Result<Self> {
        let folder = Self { root: root.to_owned(), measure: free_bytes };
        std::fs::create_dir_all(folder.incoming_dir())?;
        Ok(folder)
    }

    /// The same folder on a disk that is measured otherwise: for tests.
    #[must_use]
    pub fn measured_by(self, measure: Measure) -> Self {
        Self { measure, ..self }
    }

    /// Removes unfinished uploads that were last written to before `before`.
    pub fn remove_unfinished(&self, before: SystemTime) -> io::Result<()> {
        for entry in std::fs::read_dir(self.incoming_dir())? {
            let entry = entry?;
            if is_older(&entry, before)? {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// How many bytes can still be written to the disk.
    pub fn free_bytes(&self) -> io::Result<u64> {
        (self.measure)(&self.root)
    }

    /// Starts a new blob.
    pub async fn create(&self, name: String) -> io::Result<IncomingFile> {
        let path = self.incoming_dir().join(&name);
        let file = tokio::fs::OpenOptions::new().write(true).create_new(true).open(&path).await?;
        Ok(IncomingFile { folder: self.clone(), name, path, file: Some(file), kept: false })
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
        self.names_if(|_| Ok(true))
    }

    /// The names of the complete blobs that were written before `before`.
    pub fn names_older(&self, before: SystemTime) -> io::Result<Vec<String>> {
        self.names_if(|entry| is_older(entry, before))
    }

    fn names_if(&self, wanted: impl Fn(&DirEntry) -> io::Result<bool>) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for shard in std::fs::read_dir(&self.root)? {
            let shard = shard?;
            if shard.file_type()?.is_dir() && shard.file_name() != INCOMING && shard.file_name() != LOST {
                for entry in std::fs::read_dir(shard.path())? {
                    let entry = entry?;
                    if wanted(&entry)? {
                        names.extend(entry.file_name().into_string());
                    }
                }
            }
        }
        Ok(names)
    }

    fn incoming_dir(&self) -> PathBuf {
        self.root.join(INCOMING)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(super::place(name))
    }
}

/// Bytes that an unprivileged process can still write to the disk of a folder.
pub fn free_bytes(folder: &Path) -> io::Result<u64> {
    let found = rustix::fs::statvfs(folder)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Whether a file was last written to before a moment. One that is gone meanwhile is of no age.
fn is_older(entry: &DirEntry, before: SystemTime) -> io::Result<bool> {
    match entry.metadata() {
        Ok(meta) => Ok(meta.is_file() && meta.modified()? < before),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

impl IncomingFile {
    /// Appends bytes.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.file {
            Some(file) => file.write_all(bytes).await,
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Makes the complete file a blob; durable when this returns. Answers its name.
    pub async fn keep(mut self) -> io::Result<String> {
        if let Some(mut file) = self.file.take() {
            file.flush().await?;
            file.sync_all().await?;
        }
        tokio::task::spawn_blocking(move || self.publish()).await.map_err(io::Error::other)?
    }

    fn publish(mut self) -> io::Result<String> {
        let target = self.folder.path(&self.name);
        let folder = target.parent().unwrap_or(&self.folder.root);
        std::fs::create_dir_all(folder)?;
        std::fs::rename(&self.path, &target)?;
        self.kept = true;
        File::open(folder)?.sync_all()?;
        File::open(&self.folder.root)?.sync_all()?;
        Ok(std::mem::take(&mut self.name))
    }
}

impl Drop for IncomingFile {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!(%error, path = %self.path.display(), "an unfinished upload could not be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const LATE: Duration = Duration::from_secs(2_000_000_000);

    fn age(path: &Path, written: Duration) {
        let file = File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + written).unwrap();
    }

    #[tokio::test]
    async fn in_a_shared_folder_only_what_is_old_counts_as_left_behind() {
        let dir = tempfile::tempdir().unwrap();
        let node = Folder::shared(dir.path()).unwrap();
        let other = Folder::shared(dir.path()).unwrap();
        for (name, written) in [("oldblob", LATE / 2), ("newblob", LATE)] {
            let mut incoming = other.create(name.to_owned()).await.unwrap();
            incoming.write(b"content").await.unwrap();
            assert_eq!(incoming.keep().await.unwrap(), name);
            age(&other.path(name), written);
        }
        let before = SystemTime::UNIX_EPOCH + LATE - Duration::from_secs(1);
        assert_eq!(node.names_older(before).unwrap(), ["oldblob"]);
        let _unfinished = other.create("unfinished".to_owned()).await.unwrap();
        let left = node.incoming_dir().join("left");
        std::fs::write(&left, b"half").unwrap();
        age(&left, LATE / 2);
        age(&node.incoming_dir().join("unfinished"), LATE);
        node.remove_unfinished(before).unwrap();
        let files = std::fs::read_dir(node.incoming_dir()).unwrap();
        let files: Vec<_> = files.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(files, ["unfinished"], "another node writes to it");
    }
}
