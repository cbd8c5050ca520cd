//! What can be told of a database from outside, without changing it: for `updraft doctor`.

use crate::database::{Database, Kind};
use crate::engine::{postgres::PgConn, sqlite};
use crate::error::StoreError;
use crate::{Claim, Location, migrate, sound, transfer};
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

/// Small tables that every start needs: of a file too large to be looked at as a whole, these are.
const VITAL_TABLES: [&str; 6] = ["migration", "installation", "node", "account", "access_key", "instance"];

/// What a look at a database found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// The engine and its version.
    pub engine: String,
    /// The major version of a PostgreSQL server.
    pub postgres_major: Option<i64>,
    /// The number of its schema; 0: no server has used it yet.
    pub schema: i64,
    /// The number of the schema that this binary knows.
    pub known: i64,
    /// The oldest schema that a program must know to work on it, if it is newer than what this binary knows.
    pub oldest_able: i64,
    /// The name of the installation, sealed with its master key.
    pub installation: Option<Vec<u8>>,
    /// The newest moment that its batches know, in milliseconds since 1970; [`examine_for_start`] does not ask.
    pub newest_ms: Option<i64>,
    /// Whether `updraft migrate` has begun to fill it and has not ended.
    pub unfinished: bool,
    /// Whether the file is sound.
    pub integrity: Integrity,
}

impl Health {
    /// Whether a newer release made a schema of it on which this binary cannot work.
    pub fn is_too_new(&self) -> bool {
        self.oldest_able > self.known
    }
}

/// Whether a database file is sound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Integrity {
    /// All of it was looked at.
    Sound,
    /// There was no time to look at all of it; nothing was found until then.
    Unfinished,
    /// What is wrong.
    Damaged(String),
    /// The database's own server takes care of that.
    NotOurs,
}

/// Looks at a database for at most about `patience`; `None`: there is none yet. Blocks, and must not run
/// inside async code.
///
/// # Errors
/// When it is out of reach or cannot be read.
pub fn examine(location: &Location, patience: Duration) -> Result<Option<Health>, StoreError> {
    examine_as(location, patience, Depth::Rows)
}

/// Like [`examine`], before each start and each command: beside the look at the file, which `patience` ends, it reads
/// no more of a large database than of a small one.
///
/// # Errors
/// When it is out of reach or cannot be read.
pub fn examine_for_start(location: &Location, patience: Duration) -> Result<Option<Health>, StoreError> {
    examine_as(location, patience, Depth::Facts)
}

/// How much of the tables is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Depth {
    /// What is a row or two.
    Facts,
    /// Also each batch: there is no index of when they changed, as only a doctor asks.
    Rows,
}

fn examine_as(location: &Location, patience: Duration, depth: Depth) -> Result<Option<Health>, StoreError> {
    match location {
        Location::Inline => Ok(None),
        Location::Sqlite(path) => {
            // Beside a server, which changes the file and its log, only SQLite can read them.
            if !Claim::is_taken(path)
                && let Some(words) = unreadable(path, sound::damage(path))?
            {
                return Ok(Some(damaged(words)));
            }
            if std::fs::metadata(path).map_or(0, |meta| meta.len()) == 0 {
                return Ok(None);
            }
            examine_file(path, patience, depth).map(Some)
        }
        Location::Postgres(url) => {
            // A server that accepts and then says nothing, or a lock, must not hold the look up for ever: its
            // thread is left behind.
            let (found, answer) = mpsc::channel();
            let url = url.clone();
            std::thread::spawn(move || drop(found.send(look_at_postgres(&url, depth))));
            answer.recv_timeout(patience).unwrap_or_else(|_| {
                Err(StoreError::Unavailable(format!("it does not answer within {} s", patience.as_secs())))
            })
        }
    }
}

fn examine_file(path: &Path, patience: Duration, depth: Depth) -> Result<Health, StoreError> {
    let conn = match open(path) {
        Err(StoreError::Damaged(words)) => return Ok(damaged(words)),
        opened => opened?,
    };
    match quick_check(&conn, patience)? {
        Integrity::Damaged(words) => Ok(damaged(words)),
        integrity => {
            let engine = format!("SQLite {}", rusqlite::version());
            match look(&mut Database::Sqlite(conn), engine, None, integrity, depth) {
                Err(StoreError::Damaged(words)) => Ok(damaged(words)),
                health => health,
            }
        }
    }
}

fn unreadable<T>(path: &Path, outcome: std::io::Result<T>) -> Result<T, StoreError> {
    outcome.map_err(|error| StoreError::Unavailable(format!("cannot read {}: {error}", path.display())))
}

/// Nothing else can be told of a damaged file.
fn damaged(words: String) -> Health {
    Health {
        engine: format!("SQLite {}", rusqlite::version()),
        postgres_major: None,
        schema: 0,
        known: migrate::known(),
        oldest_able: 0,
        installation: None,
        newest_ms: None,
        unfinished: false,
        integrity: Integrity::Damaged(words),
    }
}

fn look_at_postgres(url: &str, depth: Depth) -> Result<Option<Health>, StoreError> {
    let mut conn = PgConn::connect(url)?;
    let mut version = 0;
    let sql = "SELECT CAST(current_setting('server_version_num') AS BIGINT)";
    conn.query(sql, &[], &mut |row| {
        version = row.int(0)?;
        Ok(())
    })?;
    let major = version / 10_000;
    let mut database = Database::Postgres(Box::new(conn));
    look(&mut database, format!("PostgreSQL {major}"), Some(major), Integrity::NotOurs, depth).map(Some)
}

/// Opens a file without making others beside it. Without a write-ahead log the file is all there is and nobody
/// uses it; SQLite would make a new log just to read.
pub(crate) fn open(path: &Path) -> Result<Connection, StoreError> {
    if sound::log_of(path).exists() {
        return sqlite::open_reader(path);
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    let mut uri = "file:".to_owned();
    for byte in path.as_os_str().as_encoded_bytes() {
        if byte.is_ascii_alphanumeric() || b"/._-".contains(byte) {
            uri.push(char::from(*byte));
        } else {
            let _ = write!(uri, "%{byte:02X}");
        }
    }
    uri.push_str("?immutable=1");
    Connection::open_with_flags(uri, flags).map_err(sqlite::error)
}

/// Looks at the tables without which nothing works, then at all of the file, for at most about `patience`.
fn quick_check(conn: &Connection, patience: Duration) -> Result<Integrity, StoreError> {
    let interrupt = conn.get_interrupt_handle();
    let (done, over) = mpsc::channel::<()>();
    let outcome = std::thread::scope(|scope| {
        scope.spawn(move || {
            if over.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
                interrupt.interrupt();
            }
        });
        let outcome = check_all(conn);
        drop(done);
        outcome
    });
    match outcome {
        Ok(None) => Ok(Integrity::Sound),
        Ok(Some(words)) => Ok(Integrity::Damaged(words)),
        Err(error) => match (error.sqlite_error_code(), sqlite::error(error)) {
            (Some(ErrorCode::OperationInterrupted), _) => Ok(Integrity::Unfinished),
            (_, StoreError::Damaged(words)) => Ok(Integrity::Damaged(words)),
            (_, error) => Err(error),
        },
    }
}

/// What is wrong, if anything is.
fn check_all(conn: &Connection) -> rusqlite::Result<Option<String>> {
    let mut there = conn.prepare("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1")?;
    for table in VITAL_TABLES {
        if there.exists([table])? {
            let words: String =
                conn.query_row(&format!("PRAGMA quick_check('{table}')"), [], |row| row.get(0))?;
            if words != "ok" {
                return Ok(Some(one_line(&words)));
            }
        }
    }
    let words: String = conn.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    Ok((words != "ok").then(|| one_line(&words)))
}

/// SQLite's report as one line, without its headline.
fn one_line(words: &str) -> String {
    words.lines().filter(|line| !line.starts_with("***")).collect::<Vec<_>>().join("; ")
}

fn look(
    database: &mut Database,
    engine: String,
    postgres_major: Option<i64>,
    integrity: Integrity,
    depth: Depth,
) -> Result<Health, StoreError> {
    database.begin(Kind::Read)?;
    let mut tx = database.tx();
    let known = migrate::known();
    let unfinished = transfer::is_unfinished(&mut tx)?;
    let found = migrate::found(&mut tx)?;
    let migrate::Found { schema, oldest_able } = found;
    let (mut installation, mut newest_ms) = (None, None);
    // What an older schema has, or a newer one that is not for us, nobody here knows.
    if schema >= known && found.lets_us_work() {
        installation = tx.installation_find()?;
        if depth == Depth::Rows {
            newest_ms = tx
                .query_one("SELECT COALESCE(MAX(modified_at), 0) FROM job", &[], |row| row.int(0))?
                .filter(|newest| *newest > 0);
        }
    }
    // The transaction may have failed on a table that is not there; ending it is all the same.
    let _ = database.batch("ROLLBACK");
    Ok(Health {
        engine,
        postgres_major,
        schema,
        known,
        oldest_able,
        installation,
        newest_ms,
        unfinished,
        integrity,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use updraft_core::time::Timestamp;

    /// Rows as full of columns as they must be.
    const FILL: &str = "
        WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ?1)
        INSERT INTO job (instance, job_id, firmware, ordinal, product, job_type, status, target_selection, need_push,
                         tags, pace_next_us, expanded, expand_after, expand_upto, task_count, cancel_mask, created_at,
                         modified_at)
        SELECT 1, 'job-' || n, 1, n, 1, 2, 1, 1, 1, '[]', 0, 1, 0, 0, 1, 0, n, n FROM n";
    const FILL_DEVICES: &str = "
        WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ?1)
        INSERT INTO device (product, name, iot_id, secret_sealed, status, session, created_at)
        SELECT 1, 'device-' || n, 'iot-' || n, x'', 2, 0, n FROM n";
    const FILL_TASKS: &str = "
        INSERT INTO task (job, ordinal, device, status, progress, revision, created_at, modified_at)
        SELECT id, 1, id, 1, -1, 1, 1, 1 FROM job";

    /// A database with so many batches, devices and open tasks, and a counter of SQLite's steps.
    fn filled(rows: i64) -> (Database, Arc<AtomicU64>) {
        let mut conn = sqlite::open_memory().unwrap();
        crate::engine::sqlite::control(&conn, "BEGIN IMMEDIATE").unwrap();
        migrate::migrate(&mut crate::tx::Tx::new(crate::tx::Conn::Sqlite(&conn))).unwrap();
        conn.execute(FILL, [rows]).unwrap();
        conn.execute(FILL_DEVICES, [rows]).unwrap();
        conn.execute(FILL_TASKS, []).unwrap();
        conn.execute_batch("COMMIT").unwrap();
        let steps = Arc::<AtomicU64>::default();
        let counted = Arc::clone(&steps);
        let count = move || {
            counted.fetch_add(1, Ordering::Relaxed);
            false
        };
        conn.progress_handler(1, Some(count)).unwrap();
        (Database::Sqlite(conn), steps)
    }

    #[test]
    fn what_a_start_asks_costs_no_more_when_there_is_more() {
        let steps = [10, 5_000].map(|rows| {
            let (mut database, steps) = filled(rows);
            let found =
                look(&mut database, String::new(), None, Integrity::Unfinished, Depth::Facts).unwrap();
            assert_eq!((found.schema, found.newest_ms), (found.known, None));
            database.begin(Kind::Write).unwrap();
            let mut tx = database.tx();
            migrate::migrate(&mut tx).unwrap();
            tx.reviews_add_online_for_groups().unwrap();
            assert_eq!(tx.devices_all_offline(Timestamp(1)).unwrap(), 0);
            tx.nodes_clear().unwrap();
            tx.node_join("node", 1, "1", Timestamp(1)).unwrap();
            database.batch("COMMIT").unwrap();
            steps.load(Ordering::Relaxed)
        });
        assert_eq!(steps[0], steps[1]);
    }

    #[test]
    fn a_doctor_learns_when_a_batch_last_changed() {
        let (mut database, _) = filled(10);
        let found = look(&mut database, String::new(), None, Integrity::Sound, Depth::Rows).unwrap();
        assert_eq!(found.newest_ms, Some(10));
    }
}
