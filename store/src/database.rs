//! A connection that can hold a transaction open, whichever engine it is of; how each kind of transaction begins and ends.

use crate::engine::{postgres::PgConn, sqlite};
use crate::error::StoreError;
use crate::tx::{Conn, Tx};

/// One node writes at a time: what a closure has read is still so when it writes, as on SQLite. The lock goes with the
/// transaction, whichever way that ends; who waits is served in order of coming. The number tells what became of the
/// transaction if the answer to its COMMIT is lost.
const POSTGRES_WRITE: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; \
                              SELECT pg_advisory_xact_lock(hashtext('updraft.write')); \
                              SELECT pg_current_xact_id() AS xid";
const POSTGRES_LEDGER: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL synchronous_commit = off";
const POSTGRES_READ: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// What a transaction is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It writes.
    Write,
    /// It writes the ledger (`ledger.rs`): beside the others, and without a wait for the disk.
    Ledger,
    /// It only reads.
    Read,
    /// It reads with a single statement, which PostgreSQL needs no transaction around for.
    Glance,
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

    pub(crate) fn begin(&mut self, kind: Kind) -> Result<(), StoreError> {
        match (self, kind) {
            (Self::Sqlite(conn), Kind::Write | Kind::Ledger) => sqlite::control(conn, "BEGIN IMMEDIATE"),
            (Self::Sqlite(conn), Kind::Read | Kind::Glance) => sqlite::control(conn, "BEGIN DEFERRED"),
            (Self::Postgres(conn), Kind::Write) => conn.begin(POSTGRES_WRITE),
            (Self::Postgres(conn), Kind::Ledger) => conn.begin(POSTGRES_LEDGER),
            (Self::Postgres(conn), Kind::Read) => {
                conn.forget();
                conn.later(POSTGRES_READ);
                Ok(())
            }
            (Self::Postgres(conn), Kind::Glance) => {
                conn.forget();
                Ok(())
            }
        }
    }

    /// Sends `sql` no later than with the next statement; whether it failed, [`Database::in_transaction`] tells after that.
    pub(crate) fn later(&mut self, sql: &'static str) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(conn) => sqlite::control(conn, sql),
            Self::Postgres(conn) => {
                conn.later(sql);
                Ok(())
            }
        }
    }

    /// Whether the transaction that was begun is still open, and what was put off was done.
    pub(crate) fn in_transaction(&self) -> bool {
        match self {
            Self::Sqlite(conn) => !conn.is_autocommit(),
            Self::Postgres(conn) => !conn.is_closed() && conn.is_sound(),
        }
    }

    /// Takes a transaction back, which may be open, gone or of no use any more; whichever, nothing of it stays.
    pub(crate) fn roll_back(&mut self) {
        // What is put off would stand before it, and may fail.
        if let Self::Postgres(conn) = self {
            conn.forget();
        }
        let _ = self.batch("ROLLBACK");
    }

    /// Ends a transaction that only read, however it went.
    pub(crate) fn leave(&mut self, kind: Kind) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(conn) => sqlite::control(conn, "COMMIT"),
            Self::Postgres(conn) => {
                if kind != Kind::Glance {
                    conn.leave();
                }
                Ok(())
            }
        }
    }

    /// Ends a transaction whose members all claim to have succeeded.
    ///
    /// PostgreSQL answers a COMMIT of a transaction in which a statement failed with ROLLBACK, not with an
    /// error: a closure that swallowed one would be told that its changes stand. SAVEPOINT does fail then.
    pub(crate) fn commit(&mut self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(conn) => sqlite::control(conn, "COMMIT"),
            Self::Postgres(conn) => conn.commit("SAVEPOINT sound; COMMIT"),
        }
    }

    pub(crate) fn tx(&mut self) -> Tx<'_> {
        Tx::new(match self {
            Self::Sqlite(conn) => Conn::Sqlite(conn),
            Self::Postgres(conn) => Conn::Postgres(conn),
        })
    }

    /// For [`Kind::Glance`]: a second statement is refused.
    pub(crate) fn glance(&mut self) -> Tx<'_> {
        Tx { statements_left: 1, ..self.tx() }
    }
}
