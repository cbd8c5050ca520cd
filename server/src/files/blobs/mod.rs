//! Where uploaded bytes are: a folder (`folder.rs`) or a bucket of an object store (`bucket.rs`). A blob has a name of
//! its own, appears when it is complete, and never changes.

mod body;
mod bucket;
mod chunks;
mod config;
mod folder;
mod parts;
mod trouble;

pub use body::ObjectBody;
pub use bucket::{Bucket, OldBlobs};
pub use chunks::Object;
pub use config::BlobPlace;
pub use folder::{Folder, IncomingFile, Measure, free_bytes};
pub use parts::IncomingObject;
pub use trouble::is_away;

use crate::config::Config;
use anyhow::Context as _;
use std::fs::File;
use std::io;
use std::path::Path;

/// Where blobs are.
#[derive(Debug, Clone)]
pub enum Blobs {
    /// In a folder.
    Folder(Folder),
    /// In a bucket.
    Bucket(Bucket),
}

/// A blob that is being written; removed again unless it is kept.
#[derive(Debug)]
pub enum Incoming {
    /// In a folder.
    File(IncomingFile),
    /// In a bucket.
    Object(IncomingObject),
}

/// A blob that is there with all its bytes.
pub enum Opened {
    /// A file.
    File(File),
    /// An object.
    Object(Object),
}

/// What of a blob is read first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum First {
    /// The bytes from this one on.
    At(u64),
    /// None: it is only asked whether the blob is there.
    Nothing,
}

impl Blobs {
    /// What the configuration names. Nothing is asked of a bucket yet.
    ///
    /// # Errors
    /// A folder cannot be made or read; the settings of a bucket make no sense.
    pub fn configured(config: &Config) -> anyhow::Result<Self> {
        let folder = |folder: io::Result<Folder>, path: &Path| {
            folder.with_context(|| format!("cannot open the folder of blobs {}", path.display()))
        };
        Ok(match config.blobs()? {
            BlobPlace::Own(path) => Self::Folder(folder(Folder::own(&path), &path)?),
            BlobPlace::Shared(path) => Self::Folder(folder(Folder::shared(&path), &path)?),
            BlobPlace::Bucket { bucket, prefix } => {
                Self::Bucket(Bucket::configured(config, &bucket, &prefix)?)
            }
        })
    }

    /// Opens a server's own folder, making it if absent, and removes what unfinished uploads left behind.
    pub fn open(root: &Path) -> io::Result<Self> {
        Folder::own(root).map(Self::Folder)
    }

    /// The same on a disk that is measured otherwise: for tests of folders.
    #[must_use]
    pub fn measured_by(self, measure: Measure) -> Self {
        match self {
            Self::Folder(folder) => Self::Folder(folder.measured_by(measure)),
            Self::Bucket(_) => self,
        }
    }

    /// How many bytes uploads can still write to the disk; `None`: they go to no disk of ours.
    pub fn free_bytes(&self) -> io::Result<Option<u64>> {
        match self {
            Self::Folder(folder) => folder.free_bytes().map(Some),
            Self::Bucket(_) => Ok(None),
        }
    }

    /// Starts a new blob of at most `bytes_max` bytes.
    pub async fn create(&self, name: String, bytes_max: i64) -> io::Result<Incoming> {
        match self {
            Self::Folder(folder) => folder.create(name).await.map(Incoming::File),
            Self::Bucket(bucket) => Ok(Incoming::Object(bucket.create(name, bytes_max))),
        }
    }

    /// Opens a blob of `size` bytes for reading. One of another size is damaged, and nobody is served a part of it.
    ///
    /// # Errors
    /// [`is_away`] tells a store that does not answer from a blob that is missing or damaged.
    pub async fn read(&self, name: &str, size: i64, first: First) -> io::Result<Opened> {
        match self {
            Self::Folder(folder) => folder.read(name, size).map(Opened::File),
            Self::Bucket(bucket) => {
                let object = bucket.object(name, size);
                object.ready(first).await?;
                Ok(Opened::Object(object))
            }
        }
    }

    /// Removes a blob.
    pub async fn remove(&self, name: &str) -> io::Result<()> {
        match self {
            Self::Folder(folder) => folder.remove(name),
            Self::Bucket(bucket) => bucket.remove(name).await,
        }
    }

    /// An address of the object store under which anybody can fetch a blob for so many seconds, seven days at most.
    /// `None` for a folder; and while the credentials of the machine are being renewed, when none can be signed.
    pub fn direct_url(&self, name: &str, seconds: i64) -> Option<String> {
        match self {
            Self::Folder(_) => None,
            Self::Bucket(bucket) => bucket.direct_url(name, seconds),
        }
    }
}

impl Incoming {
    /// Appends bytes.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::File(file) => file.write(bytes).await,
            Self::Object(object) => object.write(bytes).await,
        }
    }

    /// Makes what was written a blob; durable when this returns. Answers its name.
    pub async fn keep(self) -> io::Result<String> {
        match self {
            Self::File(file) => file.keep().await,
            Self::Object(object) => object.keep().await,
        }
    }
}

/// Where a blob is, below the folder of blobs or the prefix of the bucket.
pub fn place(name: &str) -> String {
    // Two characters spread a million files over 256 and more folders.
    format!("{}/{name}", name.get(..2).unwrap_or("xx"))
}
