//! A response body that reads a part of an object, chunk by chunk.
//!
//! With a pace (`files/pace.rs`) it hands out no more than that allows. A reader that takes what it is given at once has
//! the next chunk fetched meanwhile; the others hold one chunk.

use super::chunks::{CHUNK_BYTES, Object};
use crate::files::pace::{Pace, Running};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio_util::task::AbortOnDropHandle;

/// Bytes that are handed out at a time.
const PIECE_BYTES: usize = 64 * 1024;
/// Who comes back for the next piece within this time gets chunks fetched ahead.
const FAST: Duration = Duration::from_millis(16);

type Fetch = AbortOnDropHandle<io::Result<Bytes>>;

/// The bytes of an object from one position to another.
pub struct ObjectBody {
    object: Object,
    /// The next byte to be handed out.
    at: u64,
    /// Behind the last one.
    end: u64,
    /// What is at hand of the chunk at `at`.
    chunk: Bytes,
    /// The next chunk, which is being fetched.
    fetch: Option<Fetch>,
    handed_out: Option<Instant>,
    pace: Option<Box<Pace>>,
    _running: Running,
}

impl ObjectBody {
    /// `length` bytes from `start`, as one of the downloads that may run at a time, at a pace.
    pub fn new(object: Object, start: u64, length: u64, running: Running, pace: Option<Pace>) -> Self {
        Self {
            object,
            at: start,
            end: start + length,
            chunk: Bytes::new(),
            fetch: None,
            handed_out: None,
            pace: pace.map(Box::new),
            _running: running,
        }
    }

    /// Waits for the chunk at `at`.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.chunk = match (&mut self.fetch, self.object.kept_at(self.at)) {
            (None, Some(chunk)) => chunk,
            (fetch, _) => {
                let fetch = fetch.get_or_insert_with(|| begin(&self.object, self.at));
                let fetched = ready!(Pin::new(fetch).poll(cx));
                self.fetch = None;
                fetched.map_err(io::Error::other)??
            }
        };
        let next = (self.at / CHUNK_BYTES + 1) * CHUNK_BYTES;
        let fast = self.handed_out.is_none_or(|at| at.elapsed() < FAST);
        if fast && self.pace.is_none() && next < self.end && self.object.kept_at(next).is_none() {
            self.fetch = Some(begin(&self.object, next));
        }
        Poll::Ready(Ok(()))
    }
}

/// Begins to fetch a chunk.
fn begin(object: &Object, at: u64) -> Fetch {
    let object = object.clone();
    AbortOnDropHandle::new(tokio::spawn(async move { object.chunk_at(at).await }))
}

impl Body for ObjectBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let left = self.end - self.at;
        if left == 0 {
            return Poll::Ready(None);
        }
        let granted = match &mut self.pace {
            Some(pace) => ready!(pace.poll_granted(cx, left)),
            None => left,
        };
        if self.chunk.is_empty()
            && let Err(error) = ready!(self.poll_chunk(cx))
        {
            return Poll::Ready(Some(Err(error)));
        }
        let length = granted.min(left).min(PIECE_BYTES as u64) as usize;
        let length = length.min(self.chunk.len());
        let piece = self.chunk.split_to(length);
        self.at += length as u64;
        if let Some(pace) = &mut self.pace {
            pace.sent(length as u64);
        }
        self.handed_out = Some(Instant::now());
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.at == self.end
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.end - self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::files::blobs::Bucket;
    use crate::files::pace::Bandwidth;
    use http_body_util::BodyExt as _;
    use object_store::memory::InMemory;
    use std::sync::Arc;

    async fn object(content: &[u8]) -> Object {
        let bucket = Bucket::new(Arc::new(InMemory::new()), "p");
        let mut incoming = bucket.create("abcd".to_owned(), 1 << 30);
        incoming.write(content).await.unwrap();
        incoming.keep().await.unwrap();
        bucket.object("abcd", content.len() as i64)
    }

    #[tokio::test]
    async fn any_part_is_read_with_and_without_a_pace() {
        let content: Vec<u8> = (0..3 * CHUNK_BYTES + 77).map(|n| (n * 31 % 251) as u8).collect();
        let object = object(&content).await;
        let total = content.len() as u64;
        let capped = Config { download_bytes_per_second: 1 << 40, ..Config::default() };
        for config in [Config::default(), capped] {
            let bandwidth = Bandwidth::new(&config);
            for (start, length) in [(0, total), (1, total - 1), (5, 0), (CHUNK_BYTES - 1, 2), (total - 1, 1)]
            {
                let running = bandwidth.begin().unwrap();
                let body = ObjectBody::new(object.clone(), start, length, running, bandwidth.pace());
                assert_eq!(body.size_hint().exact(), Some(length));
                let read = body.collect().await.unwrap().to_bytes();
                assert!(read == content[start as usize..(start + length) as usize], "{start} {length}");
            }
        }
    }
}
