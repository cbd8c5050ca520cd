//! From SQLite to PostgreSQL: every row of every table, compared afterwards. For `updraft migrate`.
//!
//! The tables and columns come from the schema, so a new one cannot be forgotten. Rows go over in the order of their
//! keys, in chunks that are one transaction each. So the last row that is there says how far it got, and a run that
//! was killed goes on behind it. Until both sides were found equal, a table in the target ([`target::MARK`]) says
//! that it is not whole, and no server opens it.

mod compare;
mod rows;
mod schema;
mod target;

pub(crate) use target::is_unfinished;

use crate::engine::sqlite;
use crate::error::StoreError;
use crate::tx::{Conn, Tx};
use crate::{health, migrate, sound};
use rows::values;
use rusqlite::Connection;
use schema::Table;
use std::path::Path;
use target::{State, Target};

/// Rows of a transaction.
pub const TRANSFER_CHUNK_ROWS: usize = 5_000;

/// Hears what is being done, and how many rows (or indexes) of how many are done.
pub type TransferProgress<'a> = &'a mut dyn FnMut(&'static str, u64, u64);

/// Why rows did not go over.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TransferError {
    /// One of the databases failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// One of the databases cannot be a side of this.
    #[error("{0}")]
    Refused(String),
    /// A row holds what PostgreSQL cannot.
    #[error("the row {key} of `{table}` cannot be moved: {why}; nothing was left out silently")]
    Row {
        /// Its table.
        table: String,
        /// Its key.
        key: String,
        /// What is wrong with it.
        why: String,
    },
    /// The two sides are not the same.
    #[error(
        "the databases differ: `{table}` at {key}: {what} ({source_rows} rows in the source, {target_rows} in the target)"
    )]
    Different {
        /// The first table that differs.
        table: String,
        /// The first key of it that differs.
        key: String,
        /// How.
        what: String,
        /// Rows of the table in SQLite.
        source_rows: u64,
        /// Rows of the table in PostgreSQL.
        target_rows: u64,
    },
}

fn refused(words: impl Into<String>) -> TransferError {
    TransferError::Refused(words.into())
}

/// How a transfer began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// In an empty database.
    Fresh,
    /// Behind the rows that an earlier run had brought.
    Resumed,
    /// All over: the source has changed since an earlier run, or that one found a difference.
    Again,
}

/// A table of which both sides are the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SameTable {
    /// Its name.
    pub name: String,
    /// Rows of each side.
    pub rows: u64,
    /// SHA-256 over the rows of each side in the order of the key, lower-case hex.
    pub sha256: String,
}

/// What a transfer did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transferred {
    /// How it began.
    pub begun: Begun,
    /// Rows that this run brought.
    pub copied: u64,
    /// What was compared.
    pub tables: Vec<SameTable>,
}

/// Brings what is in the SQLite file `from` to the PostgreSQL database `to`, which must be empty or have what an
/// unfinished run brought, and compares all of it. The source is only read. Nobody may write to either of them
/// meanwhile: the caller holds both claims. Blocks; must not run inside async code.
///
/// # Errors
/// When one of them fails or is not fit, a row cannot be moved, or the sides differ. The target then stays marked as
/// unfinished; another call goes on, or begins anew after a difference.
pub fn transfer(
    from: &Path,
    to: &str,
    chunk_rows: usize,
    progress: TransferProgress<'_>,
) -> Result<Transferred, TransferError> {
    let source = Source::open(from)?;
    let mut target = Target::connect(to)?;
    let begun = begin(&source, &mut target)?;
    let tables = target.tables_like(&source.tables)?;
    let all = source.rows()?;
    let (mut done, mut copied) = (0, 0);
    for table in &tables {
        done += target.count(table)?;
        progress("copy", done.min(all), all);
        copied += copy(&source, &mut target, table, chunk_rows.max(1), &mut |rows| {
            done += rows;
            progress("copy", done.min(all), all);
        })?;
    }
    target.finish_copy(progress)?;
    let tables = verify_marked(&source, &mut target, &tables, progress)?;
    Ok(Transferred { begun, copied, tables })
}

/// Compares the two sides of a transfer, row by row. If the target waits for that only, it is whole afterwards.
/// Blocks; must not run inside async code.
///
/// # Errors
/// As [`transfer`]; the first difference.
pub fn transfer_verify(
    from: &Path,
    to: &str,
    progress: TransferProgress<'_>,
) -> Result<Vec<SameTable>, TransferError> {
    let source = Source::open(from)?;
    let mut target = Target::connect(to)?;
    let mark = target.mark()?;
    match &mark {
        None if target.tables()?.is_empty() => return Err(refused("the target database is empty")),
        None => target.require_installation(&source.installation)?,
        Some(mark) => {
            mark.require_same(&source)?;
            if mark.state == State::Copying {
                return Err(refused(
                    "not every row has been brought to the target yet: run `updraft migrate` without --verify-only",
                ));
            }
        }
    }
    let tables = target.tables_like(&source.tables)?;
    match mark {
        Some(_) => verify_marked(&source, &mut target, &tables, progress),
        None => compare::all(&source, &mut target, &tables, progress),
    }
}

/// The database that is left.
struct Source<'a> {
    path: &'a Path,
    conn: Connection,
    tables: Vec<Table>,
    /// The sealed name of the installation.
    installation: Vec<u8>,
    /// What its files looked like before they were read.
    stamp: String,
}

impl<'a> Source<'a> {
    /// Opens it for reading, at one moment.
    fn open(path: &'a Path) -> Result<Self, TransferError> {
        let stamp = sound::stamp(path);
        let conn = health::open(path)?;
        conn.execute_batch("BEGIN").map_err(sqlite::error)?;
        let mut tx = Tx::new(Conn::Sqlite(&conn));
        migrate::require_newest(&mut tx)?;
        let installation = tx.installation_find()?.ok_or_else(|| {
            refused("no server has been started on the source yet: there is nothing to move")
        })?;
        let tables = schema::of_sqlite(&conn)?;
        Ok(Self { path, conn, tables, installation, stamp })
    }

    /// Rows of all tables.
    fn rows(&self) -> Result<u64, StoreError> {
        self.tables.iter().map(|table| self.count(table)).sum()
    }

    fn count(&self, table: &Table) -> Result<u64, StoreError> {
        let count: i64 = self.conn.query_row(&table.count(), [], |row| row.get(0)).map_err(sqlite::error)?;
        Ok(count.unsigned_abs())
    }

    /// Refuses what was read while somebody wrote.
    fn require_unchanged(&self) -> Result<(), TransferError> {
        if sound::stamp(self.path) == self.stamp {
            return Ok(());
        }
        Err(refused(
            "somebody has written to the source meanwhile: run `updraft migrate` again, with nothing beside it",
        ))
    }
}

/// Prepares the target for rows, or for more rows.
fn begin(source: &Source<'_>, target: &mut Target) -> Result<Begun, TransferError> {
    let Some(mark) = target.mark()? else {
        if !target.tables()?.is_empty() {
            target.require_installation(&source.installation)?;
            return Err(refused(
                "the target database holds this installation already, and whole: serve it with --database-url, or \
                 compare it with --verify-only",
            ));
        }
        target.prepare(source)?;
        return Ok(Begun::Fresh);
    };
    mark.require_same(source)?;
    if mark.stamp == source.stamp && mark.state != State::Differs {
        return Ok(Begun::Resumed);
    }
    target.empty(&source.stamp)?;
    Ok(Begun::Again)
}

/// Brings the rows of a table behind the last that is there; `done` hears of each chunk.
fn copy(
    source: &Source<'_>,
    target: &mut Target,
    table: &Table,
    chunk_rows: usize,
    done: &mut dyn FnMut(u64),
) -> Result<u64, TransferError> {
    let last = target.last_key(table)?;
    let mut statement = source.conn.prepare(&table.select(last.is_some())).map_err(sqlite::error)?;
    let last = last.unwrap_or_default();
    let last = last.iter().map(rows::Owned::borrow);
    let mut rows = statement.query(rusqlite::params_from_iter(last)).map_err(sqlite::error)?;
    let mut row = rows.next().map_err(sqlite::error)?;
    let mut copied = 0;
    while row.is_some() {
        let mut chunk = target.chunk(table)?;
        let mut rows_in_chunk = 0;
        while let Some(read) = row {
            chunk.add(&values(table, read)?)?;
            rows_in_chunk += 1;
            row = rows.next().map_err(sqlite::error)?;
            if rows_in_chunk == chunk_rows {
                break;
            }
        }
        chunk.commit()?;
        copied += rows_in_chunk as u64;
        done(rows_in_chunk as u64);
    }
    Ok(copied)
}

/// Compares both sides, and removes the mark if they are the same.
fn verify_marked(
    source: &Source<'_>,
    target: &mut Target,
    tables: &[Table],
    progress: TransferProgress<'_>,
) -> Result<Vec<SameTable>, TransferError> {
    let same = compare::all(source, target, tables, progress);
    if matches!(same, Err(TransferError::Different { .. })) {
        target.set_state(State::Differs)?;
    }
    let same = same?;
    source.require_unchanged()?;
    target.remove_mark()?;
    Ok(same)
}
