//! What waits for a thread of the store: closures with their types erased, in two lanes.

use crate::error::StoreError;
use crate::tx::Tx;
use parking_lot::{Condvar, Mutex};
use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use tokio::sync::oneshot;

/// Which queue a write waits in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Somebody waits for the answer.
    Interactive,
    /// A bounded chunk of long work; yields to interactive writes.
    Bulk,
}

/// A write waiting for its turn, its types erased.
pub(crate) trait Job: Send {
    /// Whether it is a single statement that reads (`Kind::Glance`).
    fn is_glance(&self) -> bool;
    /// Runs the closure; `Err` if it failed or refused and its changes must be rolled back.
    fn run(&mut self, tx: &mut Tx<'_>) -> Result<(), ()>;
    /// Forgets the outcome of the last run, because the world took it back.
    fn fail(&mut self, error: StoreError);
    /// Tells the caller; the outcome is durable.
    fn answer(self: Box<Self>);
}

/// A write with its types.
pub(crate) struct Typed<T, E, F, A> {
    pub run: F,
    pub glance: bool,
    pub after: Option<A>,
    pub outcome: Option<Result<T, E>>,
    pub reply: oneshot::Sender<Result<T, E>>,
}

impl<T, E, F, A> Job for Typed<T, E, F, A>
where
    T: Send,
    E: From<StoreError> + Send,
    F: Fn(&mut Tx<'_>) -> Result<T, E> + Send,
    A: FnOnce(&T) + Send,
{
    fn is_glance(&self) -> bool {
        self.glance
    }

    fn run(&mut self, tx: &mut Tx<'_>) -> Result<(), ()> {
        let outcome = catch_unwind(AssertUnwindSafe(|| (self.run)(tx)))
            .unwrap_or_else(|panic| Err(E::from(StoreError::Panicked(panic_text(panic.as_ref())))));
        let ok = outcome.is_ok();
        self.outcome = Some(outcome);
        if ok { Ok(()) } else { Err(()) }
    }

    fn fail(&mut self, error: StoreError) {
        self.outcome = Some(Err(E::from(error)));
    }

    fn answer(mut self: Box<Self>) {
        let Some(outcome) = self.outcome.take() else { return };
        if let (Ok(value), Some(after)) = (&outcome, self.after.take()) {
            // A panic in here must not take the writer down; the change itself is durable.
            if catch_unwind(AssertUnwindSafe(|| after(value))).is_err() {
                tracing::error!("an effect panicked after its commit");
            }
        }
        // The caller may have gone away; the change stands.
        let _ = self.reply.send(outcome);
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "panic".to_owned())
}

#[derive(Default)]
struct Queues {
    interactive: VecDeque<Box<dyn Job>>,
    bulk: VecDeque<Box<dyn Job>>,
    closed: bool,
}

/// The queue in front of a writer thread.
#[derive(Default)]
pub(crate) struct Queue {
    queues: Mutex<Queues>,
    wake: Condvar,
}

impl Queue {
    /// Queues a write; gives it back if the store is closed.
    pub(crate) fn push(&self, lane: Lane, job: Box<dyn Job>) -> Result<(), Box<dyn Job>> {
        let mut queues = self.queues.lock();
        if queues.closed {
            return Err(job);
        }
        match lane {
            Lane::Interactive => queues.interactive.push_back(job),
            Lane::Bulk => queues.bulk.push_back(job),
        }
        drop(queues);
        self.wake.notify_one();
        Ok(())
    }

    /// Lets the threads end once the queue is empty.
    pub(crate) fn close(&self) {
        self.queues.lock().closed = true;
        self.wake.notify_all();
    }

    /// Whether [`Queue::close`] was called.
    pub(crate) fn is_closed(&self) -> bool {
        self.queues.lock().closed
    }

    /// Waits for the next group; `None` once closed and empty.
    pub(crate) fn next_group(&self, max: usize) -> Option<Vec<Box<dyn Job>>> {
        let mut queues = self.queues.lock();
        loop {
            // One place is kept for bulk work: it yields, but it must not starve.
            let places = if queues.bulk.is_empty() { max } else { max.saturating_sub(1).max(1) };
            let take = queues.interactive.len().min(places);
            let mut group: Vec<Box<dyn Job>> = queues.interactive.drain(..take).collect();
            if group.len() < max
                && let Some(chunk) = queues.bulk.pop_front()
            {
                group.push(chunk);
            }
            if !group.is_empty() {
                return Some(group);
            }
            if queues.closed {
                return None;
            }
            self.wake.wait(&mut queues);
        }
    }
}
