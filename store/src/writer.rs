//! The writer: one thread, natural group commit.
//!
//! It drains what is queued, runs each closure in a savepoint, commits once, then answers all: nobody is
//! answered before the commit. Interactive work goes first; bulk work (expansion and the like) fills in, at
//! most one chunk a commit.
//!
//! A full disk makes SQLite roll back the *whole* transaction, neighbours included, in the middle of a
//! group. So after each closure the writer looks whether the transaction is still open; if not, every
//! member failed and each is run again alone: the innocent succeed, the one that does not fit is refused.

use crate::engine::{postgres::PgConn, sqlite};
use crate::error::StoreError;
use crate::tx::{Conn, Tx};
use parking_lot::{Condvar, Mutex};
use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use tokio::sync::oneshot;

/// Which queue a write waits in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Somebody waits for the answer.
    Interactive,
    /// A bounded chunk of long work; yields to interactive writes.
    Bulk,
}

/// Members of one group at most: bounds the time to the commit.
const GROUP_MAX: usize = 256;

/// A write waiting for its turn, its types erased.
pub(crate) trait Job: Send {
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

    /// Waits for the next group; `None` once closed and empty.
    fn next_group(&self, max: usize) -> Option<Vec<Box<dyn Job>>> {
        let mut queues = self.queues.lock();
        loop {
            let take = queues.interactive.len().min(max);
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

/// A connection that can hold a transaction open.
pub(crate) enum Database {
    Sqlite(rusqlite::Connection),
    Postgres(Box<PgConn>),
}

impl Database {
    pub(crate) fn batch(&mut self, sql: &'static str) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(conn) => sqlite::batch(conn, sql),
            Self::Postgres(conn) => conn.batch(sql),
        }
    }

    /// Whether the transaction that was begun is still open.
    fn in_transaction(&self) -> bool {
        match self {
            Self::Sqlite(conn) => !conn.is_autocommit(),
            Self::Postgres(conn) => !conn.is_closed(),
        }
    }

    pub(crate) fn begin_write(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "BEGIN IMMEDIATE",
            Self::Postgres(_) => "BEGIN ISOLATION LEVEL READ COMMITTED",
        }
    }

    pub(crate) fn begin_read(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "BEGIN DEFERRED",
            Self::Postgres(_) => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        }
    }

    pub(crate) fn tx(&mut self) -> Tx<'_> {
        Tx {
            conn: match self {
                Self::Sqlite(conn) => Conn::Sqlite(conn),
                Self::Postgres(conn) => Conn::Postgres(conn),
            },
        }
    }
}

/// How a worker gets its connection (again).
pub(crate) type Connect = Arc<dyn Fn() -> Result<Database, StoreError> + Send + Sync>;

/// Runs a queue's jobs until it is closed: the body of a writer or reader thread.
pub(crate) fn work(queue: &Queue, connect: &Connect, begin: fn(&Database) -> &'static str, group_max: usize) {
    let mut database: Option<Database> = None;
    while let Some(mut group) = queue.next_group(group_max.min(GROUP_MAX)) {
        // A lost PostgreSQL connection is replaced at the next job.
        if let Some(Database::Postgres(conn)) = &database
            && conn.is_closed()
        {
            database = None;
        }
        match &mut database {
            Some(open) => run_group(open, begin, &mut group),
            none => match connect() {
                Ok(open) => run_group(none.insert(open), begin, &mut group),
                Err(error) => group.iter_mut().for_each(|job| job.fail(error.clone())),
            },
        }
        for job in group {
            job.answer();
        }
    }
}

/// Runs a group in one transaction; if the world takes it back, each member alone.
pub(crate) fn run_group(
    database: &mut Database,
    begin: fn(&Database) -> &'static str,
    group: &mut [Box<dyn Job>],
) {
    if let [only] = group {
        run_alone(database, begin, only.as_mut());
        return;
    }
    if let Err(error) = try_group(database, begin, group) {
        tracing::warn!(%error, members = group.len(), "a group of writes was taken back; each runs alone");
        // It may be open, gone, or unusable; whichever, nothing of it stays.
        let _ = database.batch("ROLLBACK");
        for job in group {
            run_alone(database, begin, job.as_mut());
        }
    }
}

fn try_group(
    database: &mut Database,
    begin: fn(&Database) -> &'static str,
    group: &mut [Box<dyn Job>],
) -> Result<(), StoreError> {
    database.batch(begin(database))?;
    for job in group {
        database.batch("SAVEPOINT member")?;
        let outcome = job.run(&mut database.tx());
        if !database.in_transaction() {
            return Err(StoreError::Full("the transaction was rolled back as a whole".to_owned()));
        }
        if outcome.is_err() {
            database.batch("ROLLBACK TO SAVEPOINT member")?;
        }
        database.batch("RELEASE SAVEPOINT member")?;
    }
    database.batch("COMMIT")
}

fn run_alone(database: &mut Database, begin: fn(&Database) -> &'static str, job: &mut dyn Job) {
    if let Err(error) = database.batch(begin(database)) {
        job.fail(error);
        return;
    }
    if job.run(&mut database.tx()).is_err() {
        let _ = database.batch("ROLLBACK");
    } else if let Err(error) = database.batch("COMMIT") {
        let _ = database.batch("ROLLBACK");
        job.fail(error);
    }
}
