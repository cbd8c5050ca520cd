//! A response body that reads a part of a file by position.
//!
//! What the system has in its cache is read at once, into buffers that are used again; only what must come
//! from the disk costs a hop to the blocking pool, two chunks ahead. A popular package is always in the cache.

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use rustix::io::{Errno, ReadWriteFlags};
use std::collections::VecDeque;
use std::fs::File;
use std::future::Future as _;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::task::JoinHandle;

/// Small: thousands of slow devices download at a time, and each holds what was read for it.
const CHUNK_BYTES: u64 = 64 * 1024;
const CHUNKS_AHEAD: usize = 2;
/// Buffers that are kept for later.
const SPARE_MAX: usize = 64;

/// Buffers that nobody uses at the moment.
static SPARE: Mutex<Vec<Box<[u8]>>> = Mutex::new(Vec::new());

/// A buffer and how much of it is filled; goes back to the others when it is dropped.
struct Chunk {
    buffer: Box<[u8]>,
    filled: usize,
}

impl Chunk {
    fn take() -> Self {
        let spare = SPARE.lock().pop();
        Self { buffer: spare.unwrap_or_else(|| vec![0; CHUNK_BYTES as usize].into()), filled: 0 }
    }
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        self.buffer.get(..self.filled).unwrap_or_default()
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        let mut spare = SPARE.lock();
        if spare.len() < SPARE_MAX {
            spare.push(std::mem::take(&mut self.buffer));
        }
    }
}

/// The bytes of a file from one position to another.
pub struct FileBody {
    file: Arc<File>,
    /// The next byte to be read.
    read_at: u64,
    /// Behind the last byte to be read.
    end: u64,
    /// Bytes not handed out yet.
    left: u64,
    /// Whether the cache is asked first.
    ask_cache: bool,
    pending: VecDeque<JoinHandle<io::Result<Bytes>>>,
}

impl FileBody {
    /// `length` bytes of `file` from `start`.
    pub fn new(file: File, start: u64, length: u64) -> Self {
        Self {
            file: Arc::new(file),
            read_at: start,
            end: start + length,
            left: length,
            ask_cache: true,
            pending: VecDeque::new(),
        }
    }

    fn next_length(&self) -> u64 {
        CHUNK_BYTES.min(self.end - self.read_at)
    }

    /// The next bytes, if the system has them at hand.
    fn read_cached(&mut self) -> Option<Bytes> {
        let mut chunk = Chunk::take();
        let wanted = chunk.buffer.get_mut(..self.next_length() as usize)?;
        let read = loop {
            let slices = &mut [IoSliceMut::new(wanted)];
            match rustix::io::preadv2(&self.file, slices, self.read_at, ReadWriteFlags::NOWAIT) {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return None,
                // A file system that cannot say.
                Err(_) => {
                    self.ask_cache = false;
                    return None;
                }
                Ok(read) => break read,
            }
        };
        // The end of the file before its time is an error, which the disk's reading reports.
        if read == 0 {
            return None;
        }
        chunk.filled = read;
        self.read_at += read as u64;
        Some(Bytes::from_owner(chunk))
    }

    fn read_ahead(&mut self) {
        while self.pending.len() < CHUNKS_AHEAD && self.read_at < self.end {
            let (at, length) = (self.read_at, self.next_length());
            let file = Arc::clone(&self.file);
            self.pending.push_back(tokio::task::spawn_blocking(move || {
                let mut chunk = Chunk::take();
                let wanted = chunk.buffer.get_mut(..length as usize).unwrap_or_default();
                file.read_exact_at(wanted, at)?;
                chunk.filled = length as usize;
                Ok(Bytes::from_owner(chunk))
            }));
            self.read_at += length;
        }
    }
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.ask_cache
            && self.pending.is_empty()
            && self.read_at < self.end
            && let Some(chunk) = self.read_cached()
        {
            self.left -= chunk.len() as u64;
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        self.read_ahead();
        let Some(next) = self.pending.front_mut() else { return Poll::Ready(None) };
        let outcome = std::task::ready!(Pin::new(next).poll(cx));
        self.pending.pop_front();
        Poll::Ready(Some(match outcome {
            Ok(Ok(chunk)) => {
                self.left -= chunk.len() as u64;
                Ok(Frame::data(chunk))
            }
            Ok(Err(error)) => Err(error),
            Err(error) => Err(io::Error::other(error)),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;
    use std::io::Write as _;

    fn content() -> Vec<u8> {
        (0..3 * CHUNK_BYTES as usize + 77).map(|n| (n * 31 % 251) as u8).collect()
    }

    fn file() -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&content()).unwrap();
        file
    }

    #[tokio::test]
    async fn any_part_is_read_the_same_way_from_the_cache_and_from_the_disk() {
        let content = content();
        let total = content.len() as u64;
        for (start, length) in [(0, total), (1, total - 1), (5, 0), (CHUNK_BYTES - 1, 2), (total - 1, 1)] {
            for ask_cache in [true, false] {
                let body = FileBody { ask_cache, ..FileBody::new(file(), start, length) };
                assert_eq!(body.size_hint().exact(), Some(length));
                let read = body.collect().await.unwrap().to_bytes();
                assert!(read == content[start as usize..(start + length) as usize], "{start} {length}");
            }
        }
    }

    #[tokio::test]
    async fn a_file_that_is_too_short_is_an_error_and_no_short_answer() {
        for ask_cache in [true, false] {
            let longer = content().len() as u64 + 1;
            let body = FileBody { ask_cache, ..FileBody::new(file(), 0, longer) };
            let error = body.collect().await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
    }

    #[test]
    fn a_buffer_that_is_used_again_shows_nothing_of_before() {
        let mut chunk = Chunk::take();
        chunk.buffer.fill(7);
        drop(chunk);
        assert_eq!(Chunk::take().as_ref(), b"");
    }
}
