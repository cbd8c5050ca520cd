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
    /// The name of the installation, sealed with its master key.
    pub installation: Option<Vec<u8>>,
    /// The newest moment that its batches know, in milliseconds since 1970.
    pub newest_ms: Option<i64>,
    /// Whether `updraft migrate` has begun to fill it and has not ended.
    pub unfinished: bool,
    /// Whether the file is sound.
    pub integrity: Integrity,
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
            examine_file(path, patience).map(Some)
        }
        Location::Postgres(url) => {
            // A server that accepts and then says nothing, or a lock, must not hold the look up for ever: its
            // thread is left behind.
            let (found, answer) = mpsc::channel();
            let url = url.clone();
            std::thread::spawn(move || drop(found.send(look_at_postgres(&url))));
            answer.recv_timeout(patience).unwrap_or_else(|_| {
                Err(StoreError::Unavailable(format!("it does not answer within {} s", patience.as_secs())))
            })
        }
    }
}

fn examine_file(path: &Path, patience: Duration) -> Result<Health, StoreError> {
    let conn = match open(path) {
        Err(StoreError::Damaged(words)) => return Ok(damaged(words)),
        opened => opened?,
    };
    match quick_check(&conn, patience)? {
        Integrity::Damaged(words) => Ok(damaged(words)),
        integrity => {
            let engine = format!("SQLite {}", rusqlite::version());
            match look(&mut Database::Sqlite(conn), engine, None, integrity) {
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
        installation: None,
        newest_ms: None,
        unfinished: false,
        integrity: Integrity::Damaged(words),
    }
}

fn look_at_postgres(url: &str) -> Result<Option<Health>, StoreError> {
    let mut conn = PgConn::connect(url)?;
    let mut version = 0;
    let sql = "SELECT CAST(current_setting('server_version_num') AS BIGINT)";
    conn.query(sql, &[], &mut |row| {
        version = row.int(0)?;
        Ok(())
    })?;
    let major = version / 10_000;
    let mut database = Database::Postgres(Box::new(conn));
    look(&mut database, format!("PostgreSQL {major}"), Some(major), Integrity::NotOurs).map(Some)
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
) -> Result<Health, StoreError> {
    database.begin(Kind::Read)?;
    let mut tx = database.tx();
    let known = migrate::known();
    let unfinished = transfer::is_unfinished(&mut tx)?;
    let schema = migrate::found(&mut tx);
    let (mut installation, mut newest_ms) = (None, None);
    // What an older or newer schema has, nobody here knows.
    if schema == known {
        installation = tx.installation_find()?;
        newest_ms = tx
            .query_one("SELECT COALESCE(MAX(modified_at), 0) FROM job", &[], |row| row.int(0))?
            .filter(|newest| *newest > 0);
    }
    // The transaction may have failed on a table that is not there; ending it is all the same.
    let _ = database.batch("ROLLBACK");
    Ok(Health { engine, postgres_major, schema, known, installation, newest_ms, unfinished, integrity })
}
