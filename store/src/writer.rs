//! The writer: one thread, natural group commit.
//!
//! It drains what is queued, runs each closure in a savepoint, commits once, then answers all: nobody is
//! answered before the commit. Interactive work goes first; bulk work (expansion and the like) fills in, at
//! most one chunk a commit.
//!
//! A full disk makes SQLite roll back the *whole* transaction, neighbours included, in the middle of a
//! group. So after each closure the writer looks whether the transaction is still open; if not, every
//! member failed and each is run again alone: the innocent succeed, the one that does not fit is refused.

use crate::database::{Database, Kind};
use crate::error::StoreError;
use crate::queue::{Job, Queue};
use crate::vital::Vital;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Members of one group at most: bounds the time to the commit.
const GROUP_MAX: usize = 256;

/// After a failed attempt to connect, what comes within this time is refused without another: a database that is away
/// or has too many clients is not helped by a crowd at its door.
const RECONNECT_PAUSE: Duration = Duration::from_millis(250);

/// A group that takes longer is cut: other nodes wait for their turn, and one on a slow line has many round trips.
const GROUP_WITHIN: Duration = Duration::from_millis(250);

/// How a worker gets its connection (again).
pub(crate) type Connect = Arc<dyn Fn() -> Result<Database, StoreError> + Send + Sync>;

/// How a kind of transaction is run.
#[derive(Clone, Copy)]
pub(crate) struct Work {
    /// What kind it is.
    pub kind: Kind,
    /// Members of a group at most.
    pub group_max: usize,
    /// Whether it goes on when damage was found.
    pub despite_damage: bool,
    /// What is done with what the world did to it.
    pub note: fn(&Vital, &StoreError),
}

/// Transactions that write.
pub(crate) const WRITES: Work =
    Work { kind: Kind::Write, group_max: GROUP_MAX, despite_damage: false, note: Vital::hurt };
/// Transactions of the ledger (`ledger.rs`), each by itself.
pub(crate) const LEDGER: Work =
    Work { kind: Kind::Ledger, group_max: 1, despite_damage: false, note: Vital::misread };
/// Transactions that only read, each by itself.
pub(crate) const READS: Work =
    Work { kind: Kind::Read, group_max: 1, despite_damage: true, note: Vital::misread };

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
                (_, Some(open)) => run_group(open, self.kind, &mut group),
                (_, none) => match reconnect(connect, &mut failed) {
                    Ok(open) => run_group(none.insert(open), self.kind, &mut group),
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
    kind: Kind,
    group: &mut [Box<dyn Job>],
) -> Option<StoreError> {
    let mut rest = group;
    let mut worst = None;
    while !rest.is_empty() {
        if let [only] = rest {
            return worse(worst, run_alone(database, kind, only.as_mut()));
        }
        let error = match try_group(database, kind, rest, GROUP_WITHIN) {
            Ok(done) => {
                rest = rest.get_mut(done..).unwrap_or_default();
                continue;
            }
            Err(error) => error,
        };
        database.roll_back();
        if let StoreError::Damaged(_) = error {
            return Some(fail_all(rest, error));
        }
        tracing::debug!(%error, members = rest.len(), "a group of writes was taken back; each runs alone");
        for job in rest {
            worst = worse(worst, run_alone(database, kind, job.as_mut()));
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
    kind: Kind,
    group: &mut [Box<dyn Job>],
    within: Duration,
) -> Result<usize, StoreError> {
    database.begin(kind)?;
    let begun = Instant::now();
    let mut done = 0;
    for job in group {
        if done > 0 && begun.elapsed() >= within {
            break;
        }
        done += 1;
        database.later("SAVEPOINT member")?;
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
            database.later("ROLLBACK TO SAVEPOINT member")?;
        }
        database.later("RELEASE SAVEPOINT member")?;
    }
    database.commit()?;
    Ok(done)
}

fn run_alone(database: &mut Database, kind: Kind, job: &mut dyn Job) -> Option<StoreError> {
    let kind = if job.is_glance() { Kind::Glance } else { kind };
    if let Err(error) = database.begin(kind) {
        // It may have begun all the same; then nothing else could begin any more.
        database.roll_back();
        job.fail(error.clone());
        return Some(error);
    }
    let mut tx = if kind == Kind::Glance { database.glance() } else { database.tx() };
    let outcome = job.run(&mut tx);
    let hurt = tx.hurt;
    let damaged = match &hurt {
        Some(damage @ StoreError::Damaged(_)) => Some(damage.clone()),
        _ => None,
    };
    let ended = match kind {
        Kind::Read | Kind::Glance => database.leave(kind),
        Kind::Write | Kind::Ledger if damaged.is_some() || outcome.is_err() => {
            database.roll_back();
            Ok(())
        }
        Kind::Write | Kind::Ledger => database.commit(),
    };
    match (damaged, ended) {
        (Some(damage), _) => {
            job.fail(damage.clone());
            Some(damage)
        }
        (None, Ok(())) => hurt.filter(|_| outcome.is_err()),
        (None, Err(error)) => {
            database.roll_back();
            job.fail(error.clone());
            Some(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access_key::AccessKey;
    use crate::engine::sqlite;
    use crate::queue::Typed;
    use crate::tx::Tx;
    use tokio::sync::oneshot;
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
        crate::migrate::prepare(&mut database).unwrap();
        let Database::Sqlite(conn) = &database else { unreachable!("made above") };
        let pages: i64 = conn.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
        conn.pragma_update(None, "max_page_count", pages + 20).unwrap();
        database
    }

    fn member(
        run: impl Fn(&mut Tx<'_>) -> Result<(), StoreError> + Send + 'static,
    ) -> (Box<dyn Job>, Answer) {
        let (reply, answer) = oneshot::channel();
        (Box::new(Typed { run, glance: false, after: None::<fn(&())>, outcome: None, reply }), answer)
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
        let _ = run_group(database, Kind::Write, &mut group);
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
        assert_eq!(try_group(&mut database, Kind::Write, &mut group, Duration::ZERO).unwrap(), 1);
        assert_eq!(accounts(&database), ["one"]);
        assert_eq!(
            try_group(&mut database, Kind::Write, &mut group[1..], Duration::from_hours(1)).unwrap(),
            2
        );
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
