//! A transaction: one text of SQL, run on whichever engine is open.

use crate::engine::postgres::PgConn;
use crate::error::StoreError;
use crate::value::{Row, Value};
use tokio_postgres::types::Type;

/// From so many rows on, COPY is worth its round trip.
const COPIED_FROM: usize = 100;

/// A transaction that a closure given to [`crate::Store::write`] or [`crate::Store::read`] works in.
///
/// The methods that name rows (`job_insert`, `tasks_load`, …) live in the files of their tables.
pub struct Tx<'a> {
    pub(crate) conn: Conn<'a>,
    /// What a statement met that the world is to blame for, whatever the closure made of it.
    pub(crate) hurt: Option<StoreError>,
    /// How many more statements it may have.
    pub(crate) statements_left: usize,
}

pub(crate) enum Conn<'a> {
    Sqlite(&'a rusqlite::Connection),
    Postgres(&'a mut PgConn),
}

/// A statement of which the two engines want different texts.
#[derive(Clone, Copy)]
pub(crate) struct Sql {
    pub sqlite: &'static str,
    pub postgres: &'static str,
}

/// A statement that is run for a set of rows: the two engines want two texts.
///
/// SQLite executes `row` (placeholders `?1`…) once per row, prepared; PostgreSQL executes `set` once, with
/// one array per column (placeholders `$1`…): a statement per row costs it a round trip each.
pub(crate) struct Hot {
    pub row: &'static str,
    pub set: &'static str,
    pub columns: &'static [Column],
}

/// The type of a [`Hot`] statement's column.
#[derive(Clone, Copy)]
pub(crate) enum Column {
    Int,
    Text,
    Blob,
}

impl Column {
    /// Its type on PostgreSQL.
    pub(crate) fn on_postgres(self) -> Type {
        match self {
            Self::Int => Type::INT8,
            Self::Text => Type::TEXT,
            Self::Blob => Type::BYTEA,
        }
    }
}

impl<'a> Tx<'a> {
    pub(crate) fn new(conn: Conn<'a>) -> Self {
        Self { conn, hurt: None, statements_left: usize::MAX }
    }
}

impl Tx<'_> {
    /// Counts statements: SQLite's, which has one for each of a set.
    fn count(&mut self, statements: usize) -> Result<(), StoreError> {
        self.statements_left = self.statements_left.checked_sub(statements).ok_or_else(|| {
            StoreError::Internal("a look that promised a single statement has more".to_owned())
        })?;
        Ok(())
    }

    /// The text that this engine wants.
    pub(crate) fn text_of(&self, sql: Sql) -> &'static str {
        match self.conn {
            Conn::Sqlite(_) => sql.sqlite,
            Conn::Postgres(_) => sql.postgres,
        }
    }

    /// Hands an outcome on, and keeps an error that the world is to blame for.
    fn noted<T>(&mut self, outcome: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(error) = &outcome
            && error.is_the_worlds()
        {
            self.hurt = Some(error.clone());
        }
        outcome
    }

    /// Runs one statement; answers how many rows it changed.
    pub(crate) fn exec(&mut self, sql: &'static str, params: &[Value<'_>]) -> Result<usize, StoreError> {
        self.count(1)?;
        let outcome = match &mut self.conn {
            Conn::Sqlite(conn) => crate::engine::sqlite::exec(conn, sql, params),
            Conn::Postgres(conn) => conn.exec(sql, params),
        };
        self.noted(outcome)
    }

    /// Runs one query; maps each row.
    pub(crate) fn query<T>(
        &mut self,
        sql: &'static str,
        params: &[Value<'_>],
        mut map: impl FnMut(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        self.count(1)?;
        let mut out = Vec::new();
        let mut push = |row: &Row<'_>| {
            out.push(map(row)?);
            Ok(())
        };
        let outcome = match &mut self.conn {
            Conn::Sqlite(conn) => crate::engine::sqlite::query(conn, sql, params, &mut push),
            Conn::Postgres(conn) => conn.query(sql, params, &mut push),
        };
        self.noted(outcome)?;
        Ok(out)
    }

    /// Runs one query that answers at most one row.
    pub(crate) fn query_one<T>(
        &mut self,
        sql: &'static str,
        params: &[Value<'_>],
        map: impl FnMut(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        Ok(self.query(sql, params, map)?.pop())
    }

    /// Runs a statement for each of `rows`; answers how many rows it changed in all.
    pub(crate) fn exec_set(&mut self, hot: &Hot, rows: &[Vec<Value<'_>>]) -> Result<usize, StoreError> {
        self.count(rows.len())?;
        if rows.is_empty() {
            return Ok(0);
        }
        let outcome = match &mut self.conn {
            Conn::Sqlite(conn) => rows
                .iter()
                .try_fold(0, |changed, row| Ok(changed + crate::engine::sqlite::exec(conn, hot.row, row)?)),
            Conn::Postgres(conn) => conn.exec_set(hot, rows),
        };
        self.noted(outcome)
    }

    /// Inserts these rows as `hot` does. Many of them go to PostgreSQL by COPY, which takes a quarter less of the time
    /// and one round trip more; `copy` begins it, and names the columns in the order of `hot`.
    pub(crate) fn insert_set(
        &mut self,
        hot: &Hot,
        copy: &'static str,
        rows: &[Vec<Value<'_>>],
    ) -> Result<(), StoreError> {
        match &mut self.conn {
            Conn::Postgres(conn) if rows.len() >= COPIED_FROM => {
                let outcome = conn.copy(copy, hot.columns, rows);
                self.noted(outcome)
            }
            _ => self.exec_set(hot, rows).map(drop),
        }
    }

    /// Runs a query for each of `keys`; maps all rows found.
    pub(crate) fn query_set<T>(
        &mut self,
        hot: &Hot,
        keys: &[Vec<Value<'_>>],
        mut map: impl FnMut(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        self.count(keys.len())?;
        let mut out = Vec::new();
        if keys.is_empty() {
            return Ok(out);
        }
        let mut push = |row: &Row<'_>| {
            out.push(map(row)?);
            Ok(())
        };
        let outcome = match &mut self.conn {
            Conn::Sqlite(conn) => {
                keys.iter().try_for_each(|key| crate::engine::sqlite::query(conn, hot.row, key, &mut push))
            }
            Conn::Postgres(conn) => conn.query_set(hot, keys, &mut push),
        };
        self.noted(outcome)?;
        Ok(out)
    }
}
