//! A thread that hears when another node has something for this one (PostgreSQL's LISTEN).
//!
//! What it hears carries nothing and may be lost: whoever is woken looks at the rows, and looks now and then anyway.

use crate::engine::postgres::PgConn;
use crate::error::StoreError;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long it waits at a time: after that it looks whether it is to end, and whether the connection lives.
const WAIT: Duration = Duration::from_millis(500);

/// Listens until it is dropped.
pub struct Listener {
    closed: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    pub(crate) fn start(url: String, woken: impl Fn() + Send + 'static) -> Result<Self, StoreError> {
        let closed = Arc::new(AtomicBool::new(false));
        let ending = Arc::clone(&closed);
        let thread = std::thread::Builder::new()
            .name("store-listener".to_owned())
            .spawn(move || {
                while !ending.load(Ordering::Relaxed) {
                    if let Err(error) = listen(&url, &ending, &woken) {
                        tracing::debug!(%error, "the connection that listens for other nodes ended");
                        std::thread::park_timeout(WAIT);
                    }
                    // It may have missed something.
                    woken();
                }
            })
            .map_err(|error| StoreError::Unavailable(format!("cannot start a thread: {error}")))?;
        Ok(Self { closed, thread: Some(thread) })
    }
}

fn listen(url: &str, ending: &AtomicBool, woken: &impl Fn()) -> Result<(), StoreError> {
    let mut conn = PgConn::connect(url)?;
    conn.batch("LISTEN updraft")?;
    woken();
    while !ending.load(Ordering::Relaxed) {
        if conn.notified(WAIT)? {
            woken();
        }
    }
    Ok(())
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}
