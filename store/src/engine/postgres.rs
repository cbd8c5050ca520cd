//! PostgreSQL: opening, statements, errors.
//!
//! Clients live and die on threads of their own: connecting or dropping one inside an async task panics.

use crate::error::StoreError;
use crate::tx::{Column, Hot};
use crate::value::{Row, Value};
use postgres::fallible_iterator::FallibleIterator as _;
use postgres::types::ToSql;
use postgres::{Client, NoTls, Statement};
use std::collections::HashMap;

/// A client with its prepared statements.
pub(crate) struct PgConn {
    client: Client,
    prepared: HashMap<&'static str, Statement>,
}

impl PgConn {
    pub(crate) fn connect(url: &str) -> Result<Self, StoreError> {
        let client =
            Client::connect(url, NoTls).map_err(|error| StoreError::Unavailable(describe(&error)))?;
        Ok(Self { client, prepared: HashMap::new() })
    }

    /// For statements that are no texts of ours: a transfer's.
    pub(crate) fn client(&mut self) -> &mut Client {
        &mut self.client
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Waits for a notification, at most so long; several are one. An error: the connection is gone.
    pub(crate) fn notified(&mut self, wait: std::time::Duration) -> Result<bool, StoreError> {
        // Asked first: a connection that is gone without a word is noticed here.
        self.batch("")?;
        let mut notifications = self.client.notifications();
        let heard = notifications.timeout_iter(wait).next().map_err(error)?.is_some();
        let mut rest = notifications.iter();
        while rest.next().map_err(error)?.is_some() {}
        Ok(heard)
    }

    pub(crate) fn batch(&mut self, sql: &str) -> Result<(), StoreError> {
        self.client.batch_execute(sql).map_err(error)
    }

    fn prepare(&mut self, sql: &'static str) -> Result<Statement, StoreError> {
        if let Some(statement) = self.prepared.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(&dollars(sql)).map_err(error)?;
        self.prepared.insert(sql, statement.clone());
        Ok(statement)
    }

    pub(crate) fn exec(&mut self, sql: &'static str, params: &[Value<'_>]) -> Result<usize, StoreError> {
        let statement = self.prepare(sql)?;
        let params: Vec<&(dyn ToSql + Sync)> = params.iter().map(|p| p as &(dyn ToSql + Sync)).collect();
        self.client.execute(&statement, &params).map(|n| n as usize).map_err(error)
    }

    pub(crate) fn query(
        &mut self,
        sql: &'static str,
        params: &[Value<'_>],
        each: &mut dyn FnMut(&Row<'_>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let statement = self.prepare(sql)?;
        let params: Vec<&(dyn ToSql + Sync)> = params.iter().map(|p| p as &(dyn ToSql + Sync)).collect();
        for row in self.client.query(&statement, &params).map_err(error)? {
            each(&Row::Postgres(&row))?;
        }
        Ok(())
    }

    pub(crate) fn exec_set(&mut self, hot: &Hot, rows: &[Vec<Value<'_>>]) -> Result<usize, StoreError> {
        let statement = self.prepare(hot.set)?;
        let arrays = arrays(hot.columns, rows);
        let params: Vec<&(dyn ToSql + Sync)> = arrays.iter().map(Array::as_sql).collect();
        self.client.execute(&statement, &params).map(|n| n as usize).map_err(error)
    }

    pub(crate) fn query_set(
        &mut self,
        hot: &Hot,
        keys: &[Vec<Value<'_>>],
        each: &mut dyn FnMut(&Row<'_>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let statement = self.prepare(hot.set)?;
        let arrays = arrays(hot.columns, keys);
        let params: Vec<&(dyn ToSql + Sync)> = arrays.iter().map(Array::as_sql).collect();
        for row in self.client.query(&statement, &params).map_err(error)? {
            each(&Row::Postgres(&row))?;
        }
        Ok(())
    }
}

/// One column of a set, as the array that `unnest` takes.
enum Array<'a> {
    Int(Vec<Option<i64>>),
    Text(Vec<Option<&'a str>>),
    Blob(Vec<Option<&'a [u8]>>),
}

impl Array<'_> {
    fn as_sql(&self) -> &(dyn ToSql + Sync) {
        match self {
            Self::Int(values) => values,
            Self::Text(values) => values,
            Self::Blob(values) => values,
        }
    }
}

fn arrays<'a>(columns: &[Column], rows: &[Vec<Value<'a>>]) -> Vec<Array<'a>> {
    columns
        .iter()
        .enumerate()
        .map(|(index, column)| match column {
            Column::Int => Array::Int(
                rows.iter()
                    .map(|row| match row[index] {
                        Value::Int(value) => Some(value),
                        Value::Null | Value::Text(_) | Value::Blob(_) => None,
                    })
                    .collect(),
            ),
            Column::Text => Array::Text(
                rows.iter()
                    .map(|row| match row[index] {
                        Value::Text(value) => Some(value),
                        Value::Null | Value::Int(_) | Value::Blob(_) => None,
                    })
                    .collect(),
            ),
            Column::Blob => Array::Blob(
                rows.iter()
                    .map(|row| match row[index] {
                        Value::Blob(value) => Some(value),
                        Value::Null | Value::Int(_) | Value::Text(_) => None,
                    })
                    .collect(),
            ),
        })
        .collect()
}

/// Rewrites `?1` to `$1`. Our texts hold no question mark elsewhere.
fn dollars(sql: &str) -> String {
    sql.replace('?', "$")
}

#[expect(clippy::needless_pass_by_value, reason = "used as the function of map_err")]
pub(crate) fn error(error: postgres::Error) -> StoreError {
    let text = describe(&error);
    match error.code().map(postgres::error::SqlState::code) {
        Some("53100") => StoreError::Full(text),
        Some("XX001" | "XX002") => StoreError::Damaged(text),
        // Connection lost, too many of them, operator shut the server down, its disk failed, serialization or
        // deadlock, or writes are switched off, as on a standby: try again.
        None | Some("25006") => StoreError::Unavailable(text),
        Some(code) if ["08", "40", "53", "57", "58"].iter().any(|class| code.starts_with(class)) => {
            StoreError::Unavailable(text)
        }
        Some(_) => StoreError::Internal(text),
    }
}

fn describe(error: &postgres::Error) -> String {
    error
        .as_db_error()
        .map_or_else(|| error.to_string(), |db| format!("{} ({})", db.message(), db.code().code()))
}
