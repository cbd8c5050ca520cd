//! Uploads to a bucket, in parts: one is being filled while the one before is on its way, so each upload takes the memory
//! of two parts whatever its size. The object appears when all parts are there.

use super::bucket::Bucket;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStoreExt as _, PutPayloadMut};
use std::io;
use tokio_util::task::AbortOnDropHandle;

/// Stores take no smaller parts, but for the last.
const PART_BYTES_MIN: u64 = 5 * 1024 * 1024;
/// Stores take 10,000.
const PARTS_MAX: u64 = 9_000;
/// Bytes of a part's pieces in memory.
const BLOCK_BYTES: usize = 128 * 1024;

/// An object that is being written; removed again unless it is kept.
#[derive(Debug)]
pub struct IncomingObject {
    bucket: Bucket,
    name: String,
    path: Path,
    part_bytes: u64,
    part: PutPayloadMut,
    /// Bytes written in all.
    written: u64,
    /// Once there is more than a part.
    multipart: Option<Box<dyn MultipartUpload>>,
    on_its_way: Option<AbortOnDropHandle<object_store::Result<()>>>,
    /// Whether the store was asked to let the object appear.
    completing: bool,
    kept: bool,
}

fn empty() -> PutPayloadMut {
    PutPayloadMut::new().with_block_size(BLOCK_BYTES)
}

impl IncomingObject {
    pub(super) fn new(bucket: Bucket, name: String, bytes_max: i64) -> Self {
        Self {
            path: bucket.path(&name),
            bucket,
            name,
            part_bytes: bytes_max.unsigned_abs().div_ceil(PARTS_MAX).max(PART_BYTES_MIN),
            part: empty(),
            written: 0,
            multipart: None,
            on_its_way: None,
            completing: false,
            kept: false,
        }
    }

    /// Appends bytes.
    pub async fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            // All parts but the last are of one size: some stores insist.
            let room = self.part_bytes.saturating_sub(self.part.content_length() as u64);
            let (now, later) = bytes.split_at(bytes.len().min(room as usize));
            self.part.extend_from_slice(now);
            self.written += now.len() as u64;
            bytes = later;
            if !bytes.is_empty() {
                self.send_part().await?;
            }
        }
        Ok(())
    }

    /// Sends the part that is full, when the one before has arrived.
    async fn send_part(&mut self) -> io::Result<()> {
        self.arrived().await?;
        let upload = match &mut self.multipart {
            Some(upload) => upload,
            none => {
                let begun = self.bucket.store().put_multipart(&self.path).await;
                none.insert(begun.map_err(|error| self.bucket.trouble().of(&error))?)
            }
        };
        let part = std::mem::replace(&mut self.part, empty()).freeze();
        self.on_its_way = Some(AbortOnDropHandle::new(tokio::spawn(upload.put_part(part))));
        Ok(())
    }

    async fn arrived(&mut self) -> io::Result<()> {
        let Some(part) = self.on_its_way.take() else { return Ok(()) };
        part.await.map_err(io::Error::other)?.map_err(|error| self.bucket.trouble().of(&error))
    }

    /// Completes the object and makes sure that the store has all its bytes. Answers its name.
    pub async fn keep(mut self) -> io::Result<String> {
        if self.multipart.is_some() {
            self.send_part().await?;
            self.arrived().await?;
        }
        let (store, trouble) = (self.bucket.store(), self.bucket.trouble());
        self.completing = true;
        let complete = match &mut self.multipart {
            Some(upload) => upload.complete().await,
            None => store.put(&self.path, std::mem::replace(&mut self.part, empty()).freeze()).await,
        };
        complete.map_err(|error| trouble.of(&error))?;
        let found = store.head(&self.path).await.map_err(|error| trouble.of(&error))?;
        trouble.over();
        if found.size != self.written {
            let words = format!("the object store has {} of its {} bytes", found.size, self.written);
            return Err(io::Error::other(words));
        }
        self.kept = true;
        Ok(std::mem::take(&mut self.name))
    }
}

impl Drop for IncomingObject {
    fn drop(&mut self) {
        if self.kept || (self.multipart.is_none() && !self.completing) {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (upload, part) = (self.multipart.take(), self.on_its_way.take());
        let (bucket, path, completing) = (self.bucket.clone(), self.path.clone(), self.completing);
        runtime.spawn(async move {
            // A part that arrives behind the end would be kept, and paid for.
            if let Some(part) = part {
                part.abort();
                let _ = part.await;
            }
            if let Some(mut upload) = upload
                && let Err(error) = upload.abort().await
            {
                tracing::debug!(%error, "an unfinished upload could not be ended in the object store");
            }
            // Completed perhaps, though nobody said so. What is left all the same is swept after a day.
            if completing && let Err(error) = bucket.store().delete(&path).await {
                tracing::debug!(%error, "an unfinished upload could not be removed from the object store");
            }
        });
    }
}
