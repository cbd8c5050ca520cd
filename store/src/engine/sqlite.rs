//! SQLite: opening, pragmas, statements, errors.

use crate::error::StoreError;
use crate::value::{Row, Value};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::path::Path;

// The file is never mapped into memory: a disk that fails to read a mapped page, or a file that somebody cut off, is
// no error then but a signal (SIGBUS), which ends the process without a word.

/// Opens the one connection that writes.
pub(crate) fn open_writer(path: &Path) -> Result<Connection, StoreError> {
    let conn = Connection::open(path).map_err(error)?;
    // SQLite falls back to reading, and would stay there when the disk takes writes again.
    if conn.is_readonly("main").map_err(error)? {
        return Err(StoreError::Unavailable(format!("{} cannot be written to", path.display())));
    }
    // WAL lets readers go on during a write; FULL makes every commit durable before it is answered.
    conn.execute_batch(
        "PRAGMA journal_mode = WAL;
         PRAGMA synchronous = FULL;
         PRAGMA wal_autocheckpoint = 4000;
         PRAGMA cache_size = -65536;
         PRAGMA busy_timeout = 5000;",
    )
    .map_err(error)?;
    tune(&conn)?;
    Ok(conn)
}

/// Opens one connection that only reads.
pub(crate) fn open_reader(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags).map_err(error)?;
    conn.execute_batch(
        "PRAGMA query_only = ON;
         PRAGMA cache_size = -16384;
         PRAGMA busy_timeout = 5000;",
    )
    .map_err(error)?;
    tune(&conn)?;
    Ok(conn)
}

/// Makes one database the copy of another.
pub(crate) fn copy(from: &Connection, to: &mut Connection) -> Result<(), StoreError> {
    let copy = rusqlite::backup::Backup::new(from, to).map_err(error)?;
    copy.run_to_completion(i32::MAX, std::time::Duration::ZERO, None).map_err(error)
}

/// Opens a database that lives in memory, for the simulation and for tests.
pub(crate) fn open_memory() -> Result<Connection, StoreError> {
    let conn = Connection::open_in_memory().map_err(error)?;
    tune(&conn)?;
    Ok(conn)
}

fn tune(conn: &Connection) -> Result<(), StoreError> {
    conn.set_prepared_statement_cache_capacity(256);
    // Else another value for a parameter may have a kept statement prepared anew, which costs more than to run
    // it: the planner tries whether the value lets it use a partial index.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map_err(error)?;
    Ok(())
}

/// A full disk ends the transaction in the middle of a closure. If that swallows the error and goes on, its
/// next statement would be committed by itself, whatever becomes of the rest.
fn check_open(conn: &Connection) -> Result<(), StoreError> {
    if conn.is_autocommit() {
        return Err(StoreError::Full("the transaction was rolled back as a whole".to_owned()));
    }
    Ok(())
}

pub(crate) fn exec(conn: &Connection, sql: &str, params: &[Value<'_>]) -> Result<usize, StoreError> {
    check_open(conn)?;
    let mut statement = conn.prepare_cached(sql).map_err(error)?;
    // `execute` refuses statements that return rows; none of ours that are run here do.
    statement.execute(rusqlite::params_from_iter(params)).map_err(error)
}

pub(crate) fn query(
    conn: &Connection,
    sql: &str,
    params: &[Value<'_>],
    each: &mut dyn FnMut(&Row<'_>) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    check_open(conn)?;
    let mut statement = conn.prepare_cached(sql).map_err(error)?;
    let mut rows = statement.query(rusqlite::params_from_iter(params)).map_err(error)?;
    while let Some(row) = rows.next().map_err(error)? {
        each(&Row::Sqlite(row))?;
    }
    Ok(())
}

/// Runs a statement that begins, ends or divides a transaction; kept prepared, since every call needs two.
pub(crate) fn control(conn: &Connection, sql: &str) -> Result<(), StoreError> {
    let mut statement = conn.prepare_cached(sql).map_err(error)?;
    statement.execute([]).map(drop).map_err(error)
}

/// Runs a script.
pub(crate) fn batch(conn: &Connection, sql: &str) -> Result<(), StoreError> {
    conn.execute_batch(sql).map_err(error)
}

#[expect(clippy::needless_pass_by_value, reason = "used as the function of map_err")]
pub(crate) fn error(error: rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreError::Full(error.to_string()),
        Some(
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::CannotOpen
            | ErrorCode::SystemIoFailure
            | ErrorCode::ReadOnly
            | ErrorCode::PermissionDenied
            | ErrorCode::FileLockingProtocolFailed
            | ErrorCode::OutOfMemory
            | ErrorCode::OperationInterrupted,
        ) => StoreError::Unavailable(error.to_string()),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreError::Damaged(error.to_string()),
        Some(ErrorCode::ConstraintViolation) if is_refused_commit(&error) => {
            StoreError::Unavailable(error.to_string())
        }
        _ => StoreError::Internal(error.to_string()),
    }
}

fn is_refused_commit(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|of| of.extended_code == rusqlite::ffi::SQLITE_CONSTRAINT_COMMITHOOK)
}
