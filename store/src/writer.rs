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
use crate::vital::Vital;
use parking_lot::{Condvar, Mutex};
use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Which queue a write waits in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Somebody waits for the answer.
    Interactive,
    /// A bounded chunk of long work; yields to interactive writes.
    Bulk,
}

/// Begins a transaction that only reads.
const POSTGRES_READ: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
/// Members of one group at most: bounds the time to the commit.
const GROUP_MAX: usize = 256;

/// After a failed attempt to connect, what comes within this time is refused without another: a database that is away
/// or has too many clients is not helped by a crowd at its door.
const RECONNECT_PAUSE: Duration = Duration::from_millis(250);

/// A group that takes longer is cut: other nodes wait for their turn, and one on a slow line has many round trips.
const GROUP_WITHIN: Duration = Duration::from_millis(250);

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

    /// Whether [`Queue::close`] was called.
    pub(crate) fn is_closed(&self) -> bool {
        self.queues.lock().closed
    }

    /// Waits for the next group; `None` once closed and empty.
    fn next_group(&self, max: usize) -> Option<Vec<Box<dyn Job>>> {
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

/// A connection that can hold a transaction open.
pub(crate) enum Database {
    Sqlite(rusqlite::Connection),
    Postgres(Box<PgConn>),
}

impl Database {
    pub(crate) fn batch(&mut self, sql: &'static str) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(conn) => sqlite::control(conn, sql),
            Self::Postgres(conn) => conn.batch(sql),
        }
    }

    /// Runs what [`Database::begin_write`] or [`Database::begin_read`] say.
    pub(crate) fn begin(&mut self, sql: &'static str) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(conn) => sqlite::control(conn, sql),
            Self::Postgres(conn) if sql == POSTGRES_READ => {
                conn.begin_later(sql);
                Ok(())
            }
            Self::Postgres(conn) => conn.begin(sql),
        }
    }

    /// Whether the transaction that was begun is still open.
    pub(crate) fn in_transaction(&self) -> bool {
        match self {
            Self::Sqlite(conn) => !conn.is_autocommit(),
            Self::Postgres(conn) => !conn.is_closed(),
        }
    }

    /// Ends a transaction whose members all claim to have succeeded.
    ///
    /// PostgreSQL answers a COMMIT of a transaction in which a statement failed with ROLLBACK, not with an
    /// error: a closure that swallowed one would be told that its changes stand. SAVEPOINT does fail then.
    fn commit(&mut self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(conn) => sqlite::control(conn, "COMMIT"),
            Self::Postgres(conn) => conn.commit("SAVEPOINT sound; COMMIT"),
        }
    }

    pub(crate) fn begin_write(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "BEGIN IMMEDIATE",
            // One node writes at a time: what a closure has read is still so when it writes, as on SQLite. The lock goes
            // with the transaction, whichever way that ends; who waits is served in order of coming. Its number tells what
            // became of it if the answer to its COMMIT is lost.
            Self::Postgres(_) => {
                "BEGIN ISOLATION LEVEL READ COMMITTED; SELECT pg_advisory_xact_lock(hashtext('updraft.write')); \
                 SELECT pg_current_xact_id() AS xid"
            }
        }
    }

    /// Begins a write of the ledger: beside the others, and without a wait for the disk.
    pub(crate) fn begin_ledger(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => self.begin_write(),
            Self::Postgres(_) => "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL synchronous_commit = off",
        }
    }

    pub(crate) fn begin_read(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "BEGIN DEFERRED",
            Self::Postgres(_) => POSTGRES_READ,
        }
    }

    pub(crate) fn tx(&mut self) -> Tx<'_> {
        Tx {
            conn: match self {
                Self::Sqlite(conn) => Conn::Sqlite(conn),
                Self::Postgres(conn) => Conn::Postgres(conn),
            },
            hurt: None,
        }
    }
}

/// How a worker gets its connection (again).
pub(crate) type Connect = Arc<dyn Fn() -> Result<Database, StoreError> + Send + Sync>;

/// How a kind of transaction is run.
#[derive(Clone, Copy)]
pub(crate) struct Work {
    /// What begins it.
    pub begin: fn(&Database) -> &'static str,
    /// Members of a group at most.
    pub group_max: usize,
    /// Whether it goes on when damage was found.
    pub despite_damage: bool,
    /// What is done with what the world did to it.
    pub note: fn(&Vital, &StoreError),
}

/// Transactions that write.
pub(crate) const WRITES: Work =
    Work { begin: Database::begin_write, group_max: GROUP_MAX, despite_damage: false, note: Vital::hurt };
/// Transactions of the ledger (`ledger.rs`), each by itself.
pub(crate) const LEDGER: Work =
    Work { begin: Database::begin_ledger, group_max: 1, despite_damage: false, note: Vital::misread };
/// Transactions that only read, each by itself.
pub(crate) const READS: Work =
    Work { begin: Database::begin_read, group_max: 1, despite_damage: true, note: Vital::misread };

impl Work {
    /// Runs a queue's jobs until it is closed: the body of a writer or reader thread.
    pub(crate) fn run(self, queue: &Queue, connect: &Connect, vital: &Vital) {
        let mut database: Option<Database> = None;
        let mut failed = None;
        while let Some(mut group) = queue.next_group(self.group_max) {
            // A lost PostgreSQL connection is replaced at the next job.
            if let Some(Database::Postgres(conn)) = &database
                && conn.has_ended()
            {
                database = None;
            }
            let hurt = match (vital.damage(), &mut database) {
                // Found while these waited.
                (Some(damage), _) if !self.despite_damage => Some(fail_all(&mut group, damage)),
                (_, Some(open)) => run_group(open, self.begin, &mut group),
                (_, none) => match reconnect(connect, &mut failed) {
                    Ok(open) => run_group(none.insert(open), self.begin, &mut group),
                    Err(error) => {
                        // Also if it is only a reader that is not let in: calls need both.
                        vital.hurt(&error);
                        Some(fail_all(&mut group, error))
                    }
                },
            };
            // Before anybody is answered: who was refused may look why.
            if let Some(error) = &hurt {
                (self.note)(vital, error);
            }
            for job in group {
                job.answer();
            }
        }
    }
}

/// Connects, unless that failed just now.
fn reconnect(connect: &Connect, failed: &mut Option<(Instant, StoreError)>) -> Result<Database, StoreError> {
    if let Some((at, error)) = failed
        && at.elapsed() < RECONNECT_PAUSE
    {
        return Err(error.clone());
    }
    let outcome = connect();
    *failed = outcome.as_ref().err().map(|error| (Instant::now(), error.clone()));
    outcome
}

fn fail_all(group: &mut [Box<dyn Job>], error: StoreError) -> StoreError {
    for job in group {
        job.fail(error.clone());
    }
    error
}

/// Runs a group in one transaction; if the world takes it back, each member alone. Answers what the world
/// did to the last transaction, or the damage that any of them met.
pub(crate) fn run_group(
    database: &mut Database,
    begin: fn(&Database) -> &'static str,
    group: &mut [Box<dyn Job>],
) -> Option<StoreError> {
    let mut rest = group;
    let mut worst = None;
    while !rest.is_empty() {
        if let [only] = rest {
            return worse(worst, run_alone(database, begin, only.as_mut()));
        }
        let error = match try_group(database, begin, rest, GROUP_WITHIN) {
            Ok(done) => {
                rest = rest.get_mut(done..).unwrap_or_default();
                continue;
            }
            Err(error) => error,
        };
        // It may be open, gone, or unusable; whichever, nothing of it stays.
        let _ = database.batch("ROLLBACK");
        if let StoreError::Damaged(_) = error {
            return Some(fail_all(rest, error));
        }
        tracing::debug!(%error, members = rest.len(), "a group of writes was taken back; each runs alone");
        for job in rest {
            worst = worse(worst, run_alone(database, begin, job.as_mut()));
        }
        return worst;
    }
    worst
}

/// What is told of two transactions: damage, or what became of the last.
fn worse(before: Option<StoreError>, hurt: Option<StoreError>) -> Option<StoreError> {
    if matches!(before, Some(StoreError::Damaged(_))) { before } else { hurt }
}

/// Runs a group in one transaction, or as much of it as begins `within` a time; answers how many.
fn try_group(
    database: &mut Database,
    begin: fn(&Database) -> &'static str,
    group: &mut [Box<dyn Job>],
    within: Duration,
) -> Result<usize, StoreError> {
    database.begin(begin(database))?;
    let begun = Instant::now();
    let mut done = 0;
    for job in group {
        if done > 0 && begun.elapsed() >= within {
            break;
        }
        done += 1;
        database.batch("SAVEPOINT member")?;
        let mut tx = database.tx();
        let outcome = job.run(&mut tx);
        // Nothing that stands beside damage is acknowledged, whatever the closure made of it.
        if let Some(damage @ StoreError::Damaged(_)) = tx.hurt {
            return Err(damage);
        }
        if !database.in_transaction() {
            return Err(StoreError::Full("the transaction was rolled back as a whole".to_owned()));
        }
        if outcome.is_err() {
            database.batch("ROLLBACK TO SAVEPOINT member")?;
        }
        database.batch("RELEASE SAVEPOINT member")?;
    }
    database.commit()?;
    Ok(done)
}

fn run_alone(
    database: &mut Database,
    begin: fn(&Database) -> &'static str,
    job: &mut dyn Job,
) -> Option<StoreError> {
    if let Err(error) = database.begin(begin(database)) {
        // It may have begun all the same; then nothing else could begin any more.
        let _ = database.batch("ROLLBACK");
        job.fail(error.clone());
        return Some(error);
    }
    let mut tx = database.tx();
    let outcome = job.run(&mut tx);
    let hurt = tx.hurt;
    if let Some(damage @ StoreError::Damaged(_)) = hurt {
        let _ = database.batch("ROLLBACK");
        job.fail(damage.clone());
        return Some(damage);
    }
    if outcome.is_err() {
        let _ = database.batch("ROLLBACK");
        return hurt;
    }
    let error = database.commit().err()?;
    let _ = database.batch("ROLLBACK");
    job.fail(error.clone());
    Some(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access_key::AccessKey;
    use updraft_core::id::AccountNo;
    use updraft_core::time::Timestamp;

    const NOW: Timestamp = Timestamp(1);
    /// Larger than what [`nearly_full`] leaves free.
    const TOO_BIG: usize = 1024 * 1024;

    type Answer = oneshot::Receiver<Result<(), StoreError>>;

    /// A migrated database whose file may grow by a few pages only, as on a disk that is nearly full.
    fn nearly_full(folder: &tempfile::TempDir) -> Database {
        let conn = sqlite::open_writer(&folder.path().join("updraft.db")).unwrap();
        let mut database = Database::Sqlite(conn);
        crate::prepare(&mut database).unwrap();
        let Database::Sqlite(conn) = &database else { unreachable!("made above") };
        let pages: i64 = conn.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
        conn.pragma_update(None, "max_page_count", pages + 20).unwrap();
        database
    }

    fn member(
        run: impl Fn(&mut Tx<'_>) -> Result<(), StoreError> + Send + 'static,
    ) -> (Box<dyn Job>, Answer) {
        let (reply, answer) = oneshot::channel();
        (Box::new(Typed { run, after: None::<fn(&())>, outcome: None, reply }), answer)
    }

    fn small(name: &'static str) -> (Box<dyn Job>, Answer) {
        member(move |tx| tx.account_ensure(name, NOW).map(drop))
    }

    fn put_big(tx: &mut Tx<'_>) -> Result<(), StoreError> {
        let key = AccessKey {
            id: "big".to_owned(),
            account: AccountNo(1),
            ram_user: None,
            secret_sealed: vec![7; TOO_BIG],
            enabled: true,
        };
        tx.access_key_put(&key, NOW)
    }

    /// Writes something small, then what does not fit.
    fn big() -> (Box<dyn Job>, Answer) {
        member(|tx| {
            tx.account_ensure("of the big one", NOW)?;
            put_big(tx)
        })
    }

    /// Runs the members as one group and answers what each was told.
    fn run(database: &mut Database, members: Vec<(Box<dyn Job>, Answer)>) -> Vec<Result<(), StoreError>> {
        let (mut group, answers): (Vec<_>, Vec<_>) = members.into_iter().unzip();
        let _ = run_group(database, Database::begin_write, &mut group);
        group.into_iter().for_each(Job::answer);
        answers.into_iter().map(|mut answer| answer.try_recv().expect("everybody is answered")).collect()
    }

    fn accounts(database: &Database) -> Vec<String> {
        let Database::Sqlite(conn) = database else { unreachable!("the tests are SQLite's") };
        let mut statement = conn.prepare("SELECT name FROM account ORDER BY name").unwrap();
        let names = statement.query_map([], |row| row.get(0)).unwrap();
        names.collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn a_full_disk_refuses_the_big_member_and_spares_its_neighbours() {
        let folder = tempfile::tempdir().unwrap();
        let mut database = nearly_full(&folder);
        let answers = run(&mut database, vec![small("before"), big(), small("after")]);
        assert!(matches!(answers[..], [Ok(()), Err(StoreError::Full(_)), Ok(())]), "{answers:?}");
        assert_eq!(accounts(&database), ["after", "before"]);
        // And the writer goes on.
        let answers = run(&mut database, vec![small("next"), small("last")]);
        assert!(matches!(answers[..], [Ok(()), Ok(())]), "{answers:?}");
    }

    #[test]
    fn a_group_that_takes_long_is_cut_and_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let mut database = nearly_full(&folder);
        let (mut group, answers): (Vec<_>, Vec<_>) =
            [small("one"), small("two"), small("three")].into_iter().unzip();
        let begin: fn(&Database) -> &'static str = Database::begin_write;
        assert_eq!(try_group(&mut database, begin, &mut group, Duration::ZERO).unwrap(), 1);
        assert_eq!(accounts(&database), ["one"]);
        assert_eq!(try_group(&mut database, begin, &mut group[1..], Duration::from_hours(1)).unwrap(), 2);
        group.into_iter().for_each(Job::answer);
        assert!(answers.into_iter().all(|mut answer| matches!(answer.try_recv(), Ok(Ok(())))));
        assert_eq!(accounts(&database), ["one", "three", "two"]);
    }

    #[test]
    fn a_full_disk_refuses_a_lone_write_whole() {
        let folder = tempfile::tempdir().unwrap();
        let mut database = nearly_full(&folder);
        let answers = run(&mut database, vec![big()]);
        assert!(matches!(answers[..], [Err(StoreError::Full(_))]), "{answers:?}");
        assert_eq!(accounts(&database), [""; 0]);
    }

    #[test]
    fn nothing_stays_of_a_member_that_goes_on_after_a_full_disk() {
        let folder = tempfile::tempdir().unwrap();
        let mut database = nearly_full(&folder);
        let stubborn = member(|tx| {
            let _ = put_big(tx);
            let _ = tx.account_ensure("of the stubborn one", NOW);
            Ok(())
        });
        let answers = run(&mut database, vec![small("before"), stubborn, small("after")]);
        assert!(matches!(answers[..], [Ok(()), Err(_), Ok(())]), "{answers:?}");
        assert_eq!(accounts(&database), ["after", "before"]);
    }

    #[test]
    fn of_a_group_that_met_damage_nobody_is_told_of_a_success() {
        let folder = tempfile::tempdir().unwrap();
        let mut database = nearly_full(&folder);
        // Its closure swallows what it met.
        let careless = || {
            member(|tx| {
                tx.hurt = Some(StoreError::Damaged("page 7".to_owned()));
                Ok(())
            })
        };
        let answers = run(&mut database, vec![small("before"), careless(), small("after")]);
        assert!(answers.iter().all(|answer| matches!(answer, Err(StoreError::Damaged(_)))), "{answers:?}");
        let answers = run(&mut database, vec![careless()]);
        assert!(matches!(answers[..], [Err(StoreError::Damaged(_))]), "{answers:?}");
        assert_eq!(accounts(&database), [""; 0]);
    }

    #[test]
    fn a_transaction_that_grows_too_big_as_a_whole_is_split() {
        let folder = tempfile::tempdir().unwrap();
        let mut database = nearly_full(&folder);
        // Each fits, all together do not.
        let members: Vec<_> = (0..40_u8)
            .map(|n| {
                member(move |tx| {
                    let key = AccessKey {
                        id: n.to_string(),
                        account: AccountNo(1),
                        ram_user: None,
                        secret_sealed: vec![n; 3_000],
                        enabled: true,
                    };
                    tx.access_key_put(&key, NOW)
                })
            })
            .collect();
        let answers = run(&mut database, members);
        let Database::Sqlite(conn) = &database else { unreachable!("the tests are SQLite's") };
        let stored: i64 = conn.query_row("SELECT COUNT(*) FROM access_key", [], |row| row.get(0)).unwrap();
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count() as i64, stored);
        assert!((1..40).contains(&stored), "{stored}");
        assert!(
            answers.iter().all(|answer| matches!(answer, Ok(()) | Err(StoreError::Full(_)))),
            "{answers:?}"
        );
    }
}
