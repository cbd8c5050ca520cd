//! Objects, read in chunks that all downloads share.
//!
//! A fleet that downloads the same package costs the store one request for each chunk, also with MQTT's blocks of a few
//! hundred bytes. Who asks for a chunk that is being fetched waits for it. A slow download holds one chunk at most, and
//! no connection to the store.

use super::First;
use super::trouble::Trouble;
use bytes::Bytes;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt as _};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use std::io;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Bytes of a chunk.
pub const CHUNK_BYTES: u64 = 256 * 1024;
/// Bytes of the chunks that are kept for others.
const KEPT_BYTES: u64 = 64 * 1024 * 1024;
/// Chunks that are fetched at a time; further ones wait.
const FETCHES: usize = 64;

/// An object's name, and the place of a chunk there, from 0. Names are never used again.
type Key = (Arc<str>, u64);

#[derive(Clone)]
struct ByLength;

impl Weighter<Key, Bytes> for ByLength {
    fn weight(&self, _: &Key, chunk: &Bytes) -> u64 {
        chunk.len() as u64
    }
}

/// The chunks of a bucket's objects.
pub struct Chunks {
    kept: Cache<Key, Bytes, ByLength>,
    fetches: Semaphore,
}

impl Default for Chunks {
    fn default() -> Self {
        let chunks = (KEPT_BYTES / CHUNK_BYTES) as usize;
        Self { kept: Cache::with_weighter(chunks, KEPT_BYTES, ByLength), fetches: Semaphore::new(FETCHES) }
    }
}

/// An object of a bucket, and how long it was when it was uploaded.
#[derive(Clone)]
pub struct Object {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) chunks: Arc<Chunks>,
    pub(super) trouble: Arc<Trouble>,
    pub(super) path: Path,
    pub(super) name: Arc<str>,
    pub(super) size: u64,
}

impl Object {
    /// Makes sure that the object is there with all its bytes, and that what is read first is at hand.
    pub async fn ready(&self, first: First) -> io::Result<()> {
        match first {
            First::At(at) if at < self.size => self.chunk_at(at).await.map(drop),
            // The store refuses to read nothing.
            First::At(_) | First::Nothing => {
                let found = self.store.head(&self.path).await.map_err(|error| self.trouble.of(&error))?;
                self.trouble.over();
                self.whole(found.size)
            }
        }
    }

    /// The bytes from `at`, which is within the object, to the end of their chunk.
    pub async fn chunk_at(&self, at: u64) -> io::Result<Bytes> {
        let key = (Arc::clone(&self.name), at / CHUNK_BYTES);
        let chunk = self.chunks.kept.get_or_insert_async(&key, self.fetch(key.1)).await?;
        behind(&chunk, at).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// The same, if the chunk is at hand.
    pub fn kept_at(&self, at: u64) -> Option<Bytes> {
        let chunk = self.chunks.kept.get(&(Arc::clone(&self.name), at / CHUNK_BYTES))?;
        behind(&chunk, at)
    }

    /// `length` bytes from `at`.
    pub async fn read(&self, at: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(length);
        while bytes.len() < length {
            let chunk = self.chunk_at(at + bytes.len() as u64).await?;
            let wanted = chunk.len().min(length - bytes.len());
            bytes.extend_from_slice(chunk.get(..wanted).unwrap_or_default());
        }
        Ok(bytes)
    }

    /// Its bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    async fn fetch(&self, index: u64) -> io::Result<Bytes> {
        let _one = self.chunks.fetches.acquire().await.map_err(io::Error::other)?;
        if let Some(error) = self.trouble.recent() {
            return Err(error);
        }
        let start = index * CHUNK_BYTES;
        let range = start..self.size.min(start + CHUNK_BYTES);
        let length = range.end - range.start;
        let options = GetOptions { range: Some(GetRange::Bounded(range)), ..GetOptions::default() };
        let fetched = async {
            let answer = self.store.get_opts(&self.path, options).await?;
            let size = answer.meta.size;
            Ok((size, answer.bytes().await?))
        };
        let (size, bytes) = fetched.await.map_err(|error| self.trouble.of(&error))?;
        self.trouble.over();
        self.whole(size)?;
        if bytes.len() as u64 == length { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    fn whole(&self, found: u64) -> io::Result<()> {
        if found == self.size {
            return Ok(());
        }
        let words = format!("it is damaged: it has {found} bytes and had {}", self.size);
        Err(io::Error::new(io::ErrorKind::InvalidData, words))
    }
}

/// The bytes of a chunk from `at` in its object on; `None`: there are none.
fn behind(chunk: &Bytes, at: u64) -> Option<Bytes> {
    let within = (at % CHUNK_BYTES) as usize;
    (within < chunk.len()).then(|| chunk.slice(within..))
}
