//! The bandwidth of downloads, applied: `download_bytes_per_second` for all together, and
//! `download_device_bytes_per_second` for each. The rule is in `core/src/share.rs`; this adds a clock and timers.
//!
//! Without caps nothing here is made, and a download costs what it cost before.

use crate::config::Config;
use parking_lot::Mutex;
use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::time::Sleep;
use updraft_core::share::Share;

/// A timer's longest time: caps so small that a piece takes longer are no caps to live with.
const WAIT_MAX: Duration = Duration::from_hours(1);

/// What all downloads share.
pub struct Bandwidth {
    began: Instant,
    all: Option<Arc<Mutex<Share>>>,
    each_per_second: Option<i64>,
    running: Arc<AtomicU32>,
    running_max: u32,
}

/// The right of a download to run; it ends when this is dropped.
pub struct Running(Arc<AtomicU32>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Bandwidth {
    /// The caps of a configuration.
    pub fn new(config: &Config) -> Self {
        let capped = |per_second: i64| (per_second > 0).then_some(per_second);
        Self {
            began: Instant::now(),
            all: capped(config.download_bytes_per_second)
                .map(|per_second| Arc::new(Mutex::new(Share::new(per_second)))),
            each_per_second: capped(config.download_device_bytes_per_second),
            running: Arc::default(),
            running_max: config.download_connections_max,
        }
    }

    /// Lets a download begin, unless too many run.
    pub fn begin(&self) -> Option<Running> {
        let before = self.running.fetch_add(1, Ordering::Relaxed);
        let running = Running(Arc::clone(&self.running));
        (self.running_max == 0 || before < self.running_max).then_some(running)
    }

    /// The pace of a download that begins; `None`: nothing holds it back.
    pub fn pace(&self) -> Option<Pace> {
        let own = self.each_per_second.map(Share::new);
        (self.all.is_some() || own.is_some()).then(|| Pace {
            began: self.began,
            all: self.all.clone(),
            own,
            step: Step::Ask,
            due_us: 0,
            timer: None,
            granted: 0,
        })
    }
}

/// What a download waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Nothing yet.
    Ask,
    /// Its own cap, with a piece of so many bytes.
    Own(u64),
    /// Its turn among all; it is in their line.
    All(u64),
}

/// One download's pace: piece by piece, first its own cap, then its turn among all.
pub struct Pace {
    began: Instant,
    all: Option<Arc<Mutex<Share>>>,
    own: Option<Share>,
    step: Step,
    /// When the step is over, in microseconds since `began`.
    due_us: i64,
    /// Set for `due_us`, as far as somebody waits for it.
    timer: Option<Pin<Box<Sleep>>>,
    granted: u64,
}

impl Drop for Pace {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Pace {
    /// Waits until something may be sent; answers how many bytes, `wanted` at most and one at least.
    pub fn poll_granted(&mut self, cx: &mut Context<'_>, wanted: u64) -> Poll<u64> {
        loop {
            let before = self.due_us;
            let Some(wait) = self.advance(wanted) else { return Poll::Ready(self.granted.min(wanted)) };
            let timer = match &mut self.timer {
                Some(timer) => {
                    if self.due_us != before {
                        timer.as_mut().reset(tokio::time::Instant::now() + wait);
                    }
                    timer
                }
                none => none.insert(Box::pin(tokio::time::sleep(wait))),
            };
            ready!(timer.as_mut().poll(cx));
            // A timer may be a moment early.
            self.due_us = self.due_us.min(self.now_us());
        }
    }

    /// How long to wait until the next bytes of `left` may be sent; when it is zero, so many were let through.
    pub fn pass(&mut self, left: u64) -> Result<u64, Duration> {
        if let Some(wait) = self.advance(left) {
            return Err(wait);
        }
        let bytes = self.granted.min(left);
        self.sent(bytes);
        Ok(bytes)
    }

    /// Notes that so many of the granted bytes are on their way.
    pub fn sent(&mut self, bytes: u64) {
        self.granted = self.granted.saturating_sub(bytes);
    }

    /// Goes on as far as it can; answers how long it must wait then, `None` once something is granted.
    fn advance(&mut self, wanted: u64) -> Option<Duration> {
        while self.granted == 0 {
            let now = self.now_us();
            match self.step {
                Step::Ask => {
                    let piece = self.piece().min(wanted).max(1);
                    self.due_us = self.own.as_mut().map_or(now, |own| {
                        let at = own.join(piece as i64, now);
                        // It is alone in its own line.
                        own.leave();
                        at
                    });
                    self.step = Step::Own(piece);
                }
                Step::Own(_) | Step::All(_) if self.due_us > now => {
                    let wait_us = self.due_us.saturating_sub(now).unsigned_abs();
                    return Some(Duration::from_micros(wait_us).min(WAIT_MAX));
                }
                Step::Own(piece) => {
                    let at = self.all.as_ref().map_or(now, |all| all.lock().join(piece as i64, now));
                    // Who need not wait is not counted as waiting.
                    if at > now {
                        self.due_us = at;
                        self.step = Step::All(piece);
                    } else {
                        self.granted = piece;
                        self.step = Step::Ask;
                    }
                }
                Step::All(piece) => {
                    self.leave();
                    self.granted = piece;
                }
            }
        }
        None
    }

    fn piece(&self) -> u64 {
        let all = self.all.as_ref().map(|all| all.lock().piece());
        let own = self.own.as_ref().map(Share::piece);
        [all, own].into_iter().flatten().min().map_or(u64::MAX, i64::unsigned_abs)
    }

    fn leave(&mut self) {
        if let (Step::All(_), Some(all)) = (self.step, &self.all) {
            all.lock().leave();
        }
        self.step = Step::Ask;
    }

    fn now_us(&self) -> i64 {
        i64::try_from(self.began.elapsed().as_micros()).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::super::FileBody;
    use super::*;
    use http_body_util::BodyExt as _;
    use std::io::Write as _;

    fn bandwidth(all: i64, each: i64, connections: u32) -> Bandwidth {
        Bandwidth::new(&Config {
            download_bytes_per_second: all,
            download_device_bytes_per_second: each,
            download_connections_max: connections,
            ..Config::default()
        })
    }

    fn body(bandwidth: &Bandwidth, bytes: usize) -> FileBody {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![7; bytes]).unwrap();
        FileBody::new(file, 0, bytes as u64).within(bandwidth.begin().unwrap(), bandwidth.pace())
    }

    #[test]
    fn without_caps_nothing_is_made() {
        assert!(bandwidth(0, 0, 0).pace().is_none());
        assert!(bandwidth(1, 0, 0).pace().is_some() && bandwidth(0, 1, 0).pace().is_some());
    }

    #[test]
    fn only_so_many_run_at_a_time() {
        let bandwidth = bandwidth(0, 0, 2);
        let (first, second) = (bandwidth.begin(), bandwidth.begin());
        assert!(first.is_some() && second.is_some() && bandwidth.begin().is_none());
        drop(first);
        assert!(bandwidth.begin().is_some(), "and who was refused does not count");
    }

    /// Real clients of a body on the real clock: three that take what comes, and one that stalls.
    #[tokio::test]
    async fn quick_ones_share_what_a_stalled_one_leaves() {
        const BYTES: usize = 1_000_000;
        let bandwidth = bandwidth(4_000_000, 0, 0);
        let mut stalled = body(&bandwidth, BYTES);
        assert!(stalled.frame().await.is_some(), "it begins");
        let began = Instant::now();
        let quick: Vec<_> = (0..3)
            .map(|_| {
                let body = body(&bandwidth, BYTES);
                tokio::spawn(async move {
                    let got = body.collect().await.unwrap().to_bytes().len();
                    (got, began.elapsed())
                })
            })
            .collect();
        let mut took = Vec::new();
        for client in quick {
            let (got, elapsed) = client.await.unwrap();
            assert_eq!(got, BYTES);
            took.push(elapsed.as_secs_f64());
        }
        let (first, last) =
            (took.iter().copied().fold(f64::MAX, f64::min), took.iter().copied().fold(0.0, f64::max));
        assert!((0.6..3.0).contains(&last), "three megabytes at four a second: {took:?}");
        assert!(first > last * 0.8, "they end together: {took:?}");
        assert!(stalled.frame().await.is_some(), "and it can go on");
    }

    #[tokio::test]
    async fn each_has_its_own_cap() {
        let bandwidth = bandwidth(0, 1_000_000, 0);
        let began = Instant::now();
        let bodies =
            [body(&bandwidth, 400_000), body(&bandwidth, 400_000)].map(|body| tokio::spawn(body.collect()));
        for body in bodies {
            assert_eq!(body.await.unwrap().unwrap().to_bytes().len(), 400_000);
        }
        let took = began.elapsed().as_secs_f64();
        assert!((0.3..2.0).contains(&took), "side by side, each at its own pace: {took}");
    }

    #[test]
    fn a_block_passes_piece_by_piece() {
        let bandwidth = bandwidth(1_000_000, 0, 0);
        let mut pace = bandwidth.pace().unwrap();
        let (mut left, mut waited) = (131_072, Duration::ZERO);
        while left > 0 {
            match pace.pass(left) {
                Ok(bytes) => left -= bytes,
                Err(wait) => {
                    waited += wait;
                    // As if the time had passed.
                    pace.due_us = i64::MIN;
                }
            }
        }
        assert!(waited > Duration::from_millis(20) && waited < Duration::from_millis(200), "{waited:?}");
    }
}
