//! Calling the store from plain code, and holding its writer still.

use std::future::Future;
use std::pin::Pin;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;
use updraft_core::time::Timestamp;
use updraft_store::{Lane, Store, StoreError, Tx};

/// The time of everything that happens in a case, unless it matters.
pub const NOW: Timestamp = Timestamp(1_700_000_000_000);

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for a future; the store needs no runtime. Handlers need its futures to be [`Send`].
pub fn block_on<F: Future + Send>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// Writes, and answers what came of it.
pub fn try_write<T: Send + 'static>(
    store: &Store,
    run: impl Fn(&mut Tx<'_>) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    block_on(store.write(Lane::Interactive, run))
}

/// Writes; the case fails if that fails.
pub fn write<T: Send + 'static>(
    store: &Store,
    run: impl Fn(&mut Tx<'_>) -> Result<T, StoreError> + Send + 'static,
) -> T {
    try_write(store, run).expect("the write succeeds")
}

/// Reads, and answers what came of it.
pub fn try_read<T: Send + 'static>(
    store: &Store,
    run: impl Fn(&mut Tx<'_>) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    block_on(store.read(run))
}

/// Reads; the case fails if that fails.
pub fn read<T: Send + 'static>(
    store: &Store,
    run: impl Fn(&mut Tx<'_>) -> Result<T, StoreError> + Send + 'static,
) -> T {
    try_read(store, run).expect("the read succeeds")
}

/// Reads with a single statement.
pub fn try_glance<T: Send + 'static>(
    store: &Store,
    run: impl Fn(&mut Tx<'_>) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    block_on(store.glance(run))
}

/// A write that waits in the queue.
pub type Queued<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Queues a write without waiting for it; `Err` if it was answered at once.
pub fn queue<'a, T: Send + 'static>(
    write: impl Future<Output = Result<T, StoreError>> + Send + 'a,
) -> Result<Queued<'a, T>, Result<T, StoreError>> {
    let mut write: Queued<'a, T> = Box::pin(write);
    match write.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Pending => Ok(write),
        Poll::Ready(answer) => Err(answer),
    }
}

/// The writer, busy with a write until [`Held::release`]: what is queued meanwhile becomes one group.
pub struct Held<'a> {
    go: Sender<()>,
    write: Queued<'a, ()>,
}

/// Holds the writer in a write that runs `run` first.
pub fn hold_in(
    store: &Store,
    run: impl Fn(&mut Tx<'_>) -> Result<(), StoreError> + Send + 'static,
) -> Held<'_> {
    let (started, is_started) = channel();
    let (go, may_go) = channel();
    let may_go: Mutex<Receiver<()>> = Mutex::new(may_go);
    let write = queue(store.write(Lane::Interactive, move |tx| {
        run(tx)?;
        started.send(()).expect("the case waits");
        may_go.lock().expect("no panic while locked").recv().expect("the case lets go");
        Ok(())
    }));
    is_started.recv().expect("the write starts");
    Held { go, write: write.unwrap_or_else(|_| panic!("the write has not ended")) }
}

/// Holds the writer in a write that changes nothing.
pub fn hold(store: &Store) -> Held<'_> {
    hold_in(store, |_| Ok(()))
}

impl Held<'_> {
    /// Lets the writer go on.
    pub fn release(self) {
        self.go.send(()).expect("the write waits");
        block_on(self.write).expect("the held write succeeds");
    }

    /// Lets the writer go on, whose transaction is gone; why.
    pub fn fails(self) -> StoreError {
        self.go.send(()).expect("the write waits");
        block_on(self.write).expect_err("its transaction is gone")
    }
}

/// Waits for something that comes soon.
pub fn wait_until(mut reached: impl FnMut() -> bool) {
    let began = std::time::Instant::now();
    while !reached() {
        assert!(began.elapsed() < Duration::from_secs(30), "it takes too long");
        std::thread::yield_now();
    }
}
