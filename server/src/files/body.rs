//! A response body that reads a part of a file by position.
//!
//! With a pace (`pace.rs`) it hands out no more than that allows.
//!
//! What the system has in its cache is read at once, into buffers that are used again; only what must come
//! from the disk costs a hop to the blocking pool, two chunks ahead. A popular package is always in the cache.

use super::pace::{Pace, Running};
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
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// Small: thousands of slow devices download at a time, and each holds what was read for it.
const CHUNK_BYTES: u64 = 64 * 1024;
/// For readers that took the last chunk within [`FAST`]: a quarter less work for the same bytes.
const LARGE_CHUNK_BYTES: u64 = 256 * 1024;
/// A small chunk in this time is 4 MiB a second.
const FAST: Duration = Duration::from_millis(16);
const CHUNKS_AHEAD: usize = 2;
/// Bytes of buffers of one size that are kept for later.
const SPARE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Buffers that nobody uses at the moment: small ones, large ones.
static SPARE: [Mutex<Vec<Box<[u8]>>>; 2] = [Mutex::new(Vec::new()), Mutex::new(Vec::new())];

/// Where buffers of this many bytes are kept.
fn spare(bytes: u64) -> &'static Mutex<Vec<Box<[u8]>>> {
    let [small, large] = &SPARE;
    if bytes <= CHUNK_BYTES { small } else { large }
}

/// A buffer and how much of it is filled; goes back to the others when it is dropped.
struct Chunk {
    buffer: Box<[u8]>,
    filled: usize,
}

impl Chunk {
    /// An empty one of this size, [`CHUNK_BYTES`] or [`LARGE_CHUNK_BYTES`].
    fn take(bytes: u64) -> Self {
        let buffer = spare(bytes).lock().pop();
        Self { buffer: buffer.unwrap_or_else(|| vec![0; bytes as usize].into()), filled: 0 }
    }
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        self.buffer.get(..self.filled).unwrap_or_default()
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        let bytes = self.buffer.len() as u64;
        let mut spare = spare(bytes).lock();
        if (spare.len() as u64 + 1) * bytes <= SPARE_BYTES_MAX {
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
    /// When the last chunk was handed out; the next is asked for when that is on its way.
    handed_out: Option<Instant>,
    pending: VecDeque<JoinHandle<io::Result<Bytes>>>,
    /// What holds it back, if something does.
    pace: Option<Box<Pace>>,
    /// How many bytes it may read now.
    granted: u64,
    /// Its place among those that may run at a time.
    _running: Option<Running>,
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
            handed_out: None,
            pending: VecDeque::new(),
            pace: None,
            granted: u64::MAX,
            _running: None,
        }
    }

    /// The same as one of those that may run at a time, at a pace.
    #[must_use]
    pub fn within(self, running: Running, pace: Option<Pace>) -> Self {
        Self { pace: pace.map(Box::new), _running: Some(running), ..self }
    }

    /// How much is read from the cache at a time.
    fn chunk_bytes(&self) -> u64 {
        let fast = self.handed_out.is_some_and(|at| at.elapsed() < FAST);
        if fast && self.end - self.read_at > CHUNK_BYTES { LARGE_CHUNK_BYTES } else { CHUNK_BYTES }
    }

    /// The next bytes, if the system has them at hand.
    fn read_cached(&mut self) -> Option<Bytes> {
        let bytes = self.chunk_bytes();
        let mut chunk = Chunk::take(bytes);
        let wanted = bytes.min(self.end - self.read_at).min(self.granted);
        let wanted = chunk.buffer.get_mut(..wanted as usize)?;
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
        self.handed_out = Some(Instant::now());
        self.spend(read as u64);
        // Thousands may wait for small pieces, and a chunk for each would be held for nothing.
        if self.pace.is_some() && read as u64 <= CHUNK_BYTES / 4 {
            return Some(Bytes::copy_from_slice(chunk.as_ref()));
        }
        Some(Bytes::from_owner(chunk))
    }

    /// Notes that so much of what was granted is read.
    fn spend(&mut self, bytes: u64) {
        if let Some(pace) = &mut self.pace {
            pace.sent(bytes);
        }
    }

    fn read_ahead(&mut self) {
        // At a pace, what is granted is read, and nothing ahead.
        let ahead = if self.pace.is_some() { 1 } else { CHUNKS_AHEAD };
        while self.pending.len() < ahead && self.read_at < self.end {
            let (at, length) = (self.read_at, CHUNK_BYTES.min(self.end - self.read_at).min(self.granted));
            let file = Arc::clone(&self.file);
            self.pending.push_back(tokio::task::spawn_blocking(move || {
                let mut chunk = Chunk::take(CHUNK_BYTES);
                let wanted = chunk.buffer.get_mut(..length as usize).unwrap_or_default();
                file.read_exact_at(wanted, at)?;
                chunk.filled = length as usize;
                Ok(Bytes::from_owner(chunk))
            }));
            self.read_at += length;
            self.spend(length);
        }
    }

    /// Waits until the next bytes may be read.
    fn poll_granted(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let left = self.end - self.read_at;
        if let Some(pace) = &mut self.pace
            && self.pending.is_empty()
            && left > 0
        {
            self.granted = std::task::ready!(pace.poll_granted(cx, left));
        }
        Poll::Ready(())
    }
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        std::task::ready!(self.poll_granted(cx));
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
        (0..2 * LARGE_CHUNK_BYTES as usize + 77).map(|n| (n * 31 % 251) as u8).collect()
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
    fn who_reads_slowly_is_given_small_chunks() {
        let mut body = FileBody::new(file(), 0, content().len() as u64);
        assert_eq!(body.read_cached().map(|chunk| chunk.len() as u64), Some(CHUNK_BYTES));
        body.handed_out = Instant::now().checked_sub(FAST);
        assert_eq!(body.chunk_bytes(), CHUNK_BYTES);
        body.handed_out = Some(Instant::now() + FAST);
        assert_eq!(body.chunk_bytes(), LARGE_CHUNK_BYTES);
        body.read_at = body.end - 1;
        assert_eq!(body.chunk_bytes(), CHUNK_BYTES, "the rest fits");
    }

    #[test]
    fn a_buffer_that_is_used_again_shows_nothing_of_before() {
        for bytes in [CHUNK_BYTES, LARGE_CHUNK_BYTES] {
            let mut chunk = Chunk::take(bytes);
            chunk.buffer.fill(7);
            drop(chunk);
            let again = Chunk::take(bytes);
            assert_eq!((again.as_ref(), again.buffer.len() as u64), (&b""[..], bytes));
        }
    }
}
