//! The database that rows are brought to: its mark, its indexes, its numbers.

use super::rows::{Owned, values_of_postgres};
use super::schema::{self, MIGRATIONS, Table, quoted};
use super::{Source, TransferError, TransferProgress, refused};
use crate::engine::postgres::PgConn;
use crate::engine::postgres_error::failed;
use crate::engine::postgres_plain::{CopyIn, Plain, Rows};
use crate::error::StoreError;
use crate::migrate;
use crate::tx::{Conn, Tx};
use crate::value::Value;
use tokio_postgres::types::{ToSql, Type};

/// Present until a transfer was found to be whole: one row that says which it is. No migration makes this table.
pub(super) const MARK: &str = "transfer";

/// `transfer_index` holds what makes the indexes that are built when the rows are there: a tree that grows by a
/// million rows in the order of another key costs more than one that is made of them.
const PREPARE: &str = "
    CREATE TABLE transfer (
      installation BYTEA NOT NULL,
      schema BIGINT NOT NULL,
      stamp TEXT NOT NULL,
      state BIGINT NOT NULL
    );
    CREATE TABLE transfer_index (name TEXT NOT NULL PRIMARY KEY, definition TEXT NOT NULL);
    INSERT INTO transfer_index (name, definition)
      SELECT i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid)
      FROM pg_index i JOIN pg_class t ON t.oid = i.indrelid JOIN pg_namespace n ON n.oid = t.relnamespace
      WHERE n.nspname = current_schema() AND t.relname <> 'transfer_index' AND NOT i.indisprimary
        AND NOT EXISTS (SELECT 1 FROM pg_constraint c WHERE c.conindid = i.indexrelid);
";

/// How far a transfer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Rows are being brought.
    Copying,
    /// All rows and indexes are there.
    Copied,
    /// A difference was found.
    Differs,
}

impl State {
    fn code(self) -> i64 {
        match self {
            Self::Copying => 0,
            Self::Copied => 1,
            Self::Differs => 2,
        }
    }
}

/// What the mark says.
pub(super) struct Mark {
    installation: Vec<u8>,
    schema: i64,
    pub stamp: String,
    pub state: State,
}

impl Mark {
    /// Refuses a target that another source or release has begun to fill.
    pub fn require_same(&self, source: &Source<'_>) -> Result<(), TransferError> {
        if self.installation != source.installation {
            return Err(refused(
                "the target database holds an unfinished migration of another installation: give an empty database",
            ));
        }
        if self.schema != migrate::known() {
            return Err(refused(
                "the target database holds a migration that another release has begun: give an empty database",
            ));
        }
        Ok(())
    }
}

/// Whether a database waits for the end of a transfer.
pub(crate) fn is_unfinished(tx: &mut Tx<'_>) -> Result<bool, StoreError> {
    if matches!(tx.conn, Conn::Sqlite(_)) {
        return Ok(false);
    }
    let sql = "SELECT CAST(COUNT(*) AS BIGINT) FROM pg_class WHERE oid = to_regclass('transfer')";
    Ok(tx.query_one(sql, &[], |row| row.flag(0))?.unwrap_or_default())
}

/// A connection to the target.
pub(super) struct Target {
    conn: PgConn,
}

impl Target {
    pub fn connect(url: &str) -> Result<Self, TransferError> {
        let mut conn = PgConn::connect_for_long(url)?;
        // A commit that a crash of PostgreSQL takes back takes all later ones back too, and the next run goes on from
        // there; the last one is made durable. Copies and indexes take as long as they take.
        conn.batch(
            "SET synchronous_commit = off; SET statement_timeout = 0; SET lock_timeout = 0;
             SET idle_in_transaction_session_timeout = 0; SET maintenance_work_mem = '256MB'",
        )?;
        // What a killed run was doing goes on in the server for a moment, and may still be committed: wait for its end.
        conn.batch("SELECT pg_advisory_lock(hashtext('updraft.transfer'))")?;
        let mut target = Self { conn };
        let encoding: String =
            target.one("SELECT current_setting('server_encoding')", &[]).map_err(failed)?;
        if encoding != "UTF8" {
            return Err(refused(format!(
                "the target database has the encoding {encoding}: make it with UTF8"
            )));
        }
        Ok(target)
    }

    fn client(&mut self) -> Plain<'_> {
        self.conn.client()
    }

    fn one<T: for<'r> tokio_postgres::types::FromSql<'r>>(
        &mut self,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<T, tokio_postgres::Error> {
        self.client().query_one(sql, params)?.try_get(0)
    }

    /// What says that it is not whole; `None`: nothing does.
    pub fn mark(&mut self) -> Result<Option<Mark>, TransferError> {
        let there: bool = self.one("SELECT to_regclass($1) IS NOT NULL", &[&MARK]).map_err(failed)?;
        if !there {
            return Ok(None);
        }
        let sql = "SELECT installation, schema, stamp, state FROM transfer";
        let row = self.client().query_opt(sql, &[]).map_err(failed)?;
        let row = row.ok_or_else(|| refused("the target database's table `transfer` is none of ours"))?;
        let read = || Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?));
        let (installation, schema, stamp, code): (_, _, _, i64) = read().map_err(failed)?;
        let state = [State::Copied, State::Differs].into_iter().find(|state| state.code() == code);
        Ok(Some(Mark { installation, schema, stamp, state: state.unwrap_or(State::Copying) }))
    }

    /// The names of its tables.
    pub fn tables(&mut self) -> Result<Vec<String>, StoreError> {
        schema::names_of_postgres(self.client())
    }

    /// Refuses a database that is not this installation's.
    pub fn require_installation(&mut self, installation: &[u8]) -> Result<(), TransferError> {
        let tables = self.tables()?;
        if !["installation", MIGRATIONS].iter().all(|name| tables.iter().any(|table| table == name)) {
            let first = tables.first().map_or("", String::as_str);
            return Err(refused(format!(
                "the target database is not empty (it has a table `{first}`): give an empty one"
            )));
        }
        let mut tx = Tx::new(Conn::Postgres(&mut self.conn));
        let found = tx.installation_find()?;
        if found.is_none_or(|found| found != installation) {
            return Err(refused("the target database belongs to another installation: give an empty one"));
        }
        Ok(migrate::require_newest(&mut tx)?)
    }

    /// Makes schema and mark.
    pub fn prepare(&mut self, source: &Source<'_>) -> Result<(), TransferError> {
        self.conn.batch("BEGIN")?;
        migrate::migrate(&mut Tx::new(Conn::Postgres(&mut self.conn)))?;
        self.conn.batch(PREPARE)?;
        for name in self.names("SELECT name FROM transfer_index ORDER BY name")? {
            // As regclass wrote it: quoted where that is needed.
            self.conn.batch(&format!("DROP INDEX {name}"))?;
        }
        self.truncate()?;
        let sql = "INSERT INTO transfer (installation, schema, stamp, state) VALUES ($1, $2, $3, $4)";
        let state = State::Copying.code();
        self.client()
            .execute(
                sql,
                &[&source.installation as _, &migrate::known() as _, &source.stamp as _, &state as _],
            )
            .map_err(failed)?;
        Ok(self.conn.batch("COMMIT")?)
    }

    /// Forgets all rows, for another beginning.
    pub fn empty(&mut self, stamp: &str) -> Result<(), TransferError> {
        self.conn.batch("BEGIN")?;
        self.truncate()?;
        let state = State::Copying.code();
        let sql = "UPDATE transfer SET stamp = $1, state = $2";
        self.client().execute(sql, &[&stamp as _, &state as _]).map_err(failed)?;
        Ok(self.conn.batch("COMMIT")?)
    }

    fn truncate(&mut self) -> Result<(), StoreError> {
        let tables: Vec<String> =
            self.tables()?.iter().filter(|name| *name != MIGRATIONS).map(|name| quoted(name)).collect();
        self.conn.batch(&format!("TRUNCATE {}", tables.join(", ")))
    }

    fn names(&mut self, sql: &str) -> Result<Vec<String>, StoreError> {
        let rows = self.client().query(sql, &[]).map_err(failed)?;
        rows.iter().map(|row| row.try_get(0).map_err(failed)).collect()
    }

    /// The source's tables, once it is sure that they are here too and no others.
    pub fn tables_like(&mut self, tables: &[Table]) -> Result<Vec<Table>, TransferError> {
        schema::require_same(tables, self.client())?;
        Ok(tables.to_vec())
    }

    pub fn count(&mut self, table: &Table) -> Result<u64, StoreError> {
        let count: i64 = self.one(&table.count(), &[]).map_err(failed)?;
        Ok(count.unsigned_abs())
    }

    /// The key of the last row.
    pub fn last_key(&mut self, table: &Table) -> Result<Option<Vec<Owned>>, TransferError> {
        let row = self.client().query_opt(&table.select_last_key(), &[]).map_err(failed)?;
        let Some(row) = row else { return Ok(None) };
        let kinds = table.key.iter().filter_map(|place| table.columns.get(*place)).map(|(_, kind)| *kind);
        Ok(Some(values_of_postgres(kinds, &row)?.into_iter().map(Owned::of).collect()))
    }

    /// All rows in the order of the key, as they come.
    pub fn rows(&mut self, table: &Table) -> Result<Rows<'_>, StoreError> {
        self.client().rows(&table.select(false)).map_err(failed)
    }

    /// Begins the transaction of a chunk.
    pub fn chunk(&mut self, table: &Table) -> Result<Chunk<'_>, StoreError> {
        let types: Vec<Type> = table.columns.iter().map(|(_, kind)| kind.on_postgres()).collect();
        // The copy is one statement, and so a transaction by itself.
        let writer = self.client().copy_in(&table.copy_in(), &types).map_err(failed)?;
        Ok(Chunk { writer })
    }

    /// Sets the numbers that are given next behind the largest ones, and builds the indexes.
    pub fn finish_copy(&mut self, progress: TransferProgress<'_>) -> Result<(), TransferError> {
        self.set_sequences()?;
        let all: i64 = self.one("SELECT COUNT(*) FROM transfer_index", &[]).map_err(failed)?;
        let names = self.names("SELECT name FROM transfer_index ORDER BY name")?;
        for (done, name) in names.iter().enumerate() {
            progress("indexes", done as u64, all.unsigned_abs());
            let sql = "SELECT definition FROM transfer_index WHERE name = $1";
            let definition: String = self.one(sql, &[name]).map_err(failed)?;
            self.conn.batch("BEGIN")?;
            self.conn.batch(&definition)?;
            let sql = "DELETE FROM transfer_index WHERE name = $1";
            self.client().execute(sql, &[name]).map_err(failed)?;
            self.conn.batch("COMMIT")?;
        }
        progress("indexes", all.unsigned_abs(), all.unsigned_abs());
        // Without its statistics a server would plan its first queries as if every table were small.
        self.conn.batch("ANALYZE")?;
        self.set_state(State::Copied)
    }

    fn set_sequences(&mut self) -> Result<(), TransferError> {
        let sql = "SELECT c.relname::text, a.attname::text,
                          pg_get_serial_sequence(quote_ident(c.relname), a.attname)
                   FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
                   JOIN pg_namespace n ON n.oid = c.relnamespace
                   WHERE n.nspname = current_schema() AND a.attidentity <> ''";
        for row in self.client().query(sql, &[]).map_err(failed)? {
            let read = || Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?));
            let (table, column, sequence): (String, String, String) = read().map_err(failed)?;
            let next = format!("SELECT COALESCE(MAX({}), 0) + 1 FROM {}", quoted(&column), quoted(&table));
            let next: i64 = self.one(&next, &[]).map_err(failed)?;
            let sql = "SELECT setval($1::text::regclass, $2, false)";
            self.one::<i64>(sql, &[&sequence, &next.max(1)]).map_err(failed)?;
        }
        Ok(())
    }

    pub fn set_state(&mut self, state: State) -> Result<(), TransferError> {
        self.client().execute("UPDATE transfer SET state = $1", &[&state.code()]).map_err(failed)?;
        Ok(())
    }

    /// Says that the database is whole: from now on a server opens it.
    pub fn remove_mark(&mut self) -> Result<(), TransferError> {
        Ok(self
            .conn
            .batch("SET synchronous_commit = on; BEGIN; DROP TABLE transfer_index, transfer; COMMIT")?)
    }
}

/// Rows on their way.
pub(super) struct Chunk<'a> {
    writer: CopyIn<'a>,
}

impl Chunk<'_> {
    pub fn add(&mut self, row: &[Value<'_>]) -> Result<(), StoreError> {
        self.writer.add(row).map_err(failed)
    }

    pub fn commit(self) -> Result<(), StoreError> {
        self.writer.finish().map(drop).map_err(failed)
    }
}
