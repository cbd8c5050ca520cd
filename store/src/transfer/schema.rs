//! Which tables and columns there are, read from the databases themselves.

use super::{TransferError, refused};
use crate::engine::postgres_plain::Plain;
use crate::engine::sqlite;
use crate::error::StoreError;
use crate::tx::Column;
use rusqlite::Connection;
use std::fmt::Write as _;

/// The one table that is not moved: each engine has texts of its own for its schema.
pub(super) const MIGRATIONS: &str = "migration";

/// A table that is moved.
#[derive(Clone)]
pub(super) struct Table {
    pub name: String,
    pub columns: Vec<(String, Column)>,
    /// The columns of the primary key, as places in `columns`.
    pub key: Vec<usize>,
}

impl Table {
    /// All rows in the order of the key; `behind`: only those behind the key that is given as `?1`, `?2`, ….
    pub fn select(&self, behind: bool) -> String {
        let mut sql = format!("SELECT {} FROM {}", self.column_list(), quoted(&self.name));
        if behind {
            let places: Vec<String> = (1..=self.key.len()).map(|place| format!("?{place}")).collect();
            let _ = write!(sql, " WHERE ({}) > ({})", self.key_list(""), places.join(", "));
        }
        let _ = write!(sql, " ORDER BY {}", self.key_list(""));
        sql
    }

    /// The key of the last row.
    pub fn select_last_key(&self) -> String {
        let (keys, name) = (self.key_list(""), quoted(&self.name));
        format!("SELECT {keys} FROM {name} ORDER BY {} LIMIT 1", self.key_list(" DESC"))
    }

    pub fn count(&self) -> String {
        format!("SELECT COUNT(*) FROM {}", quoted(&self.name))
    }

    pub fn copy_in(&self) -> String {
        format!("COPY {} ({}) FROM STDIN (FORMAT binary)", quoted(&self.name), self.column_list())
    }

    fn column_list(&self) -> String {
        let names: Vec<String> = self.columns.iter().map(|(name, _)| quoted(name)).collect();
        names.join(", ")
    }

    fn key_list(&self, order: &str) -> String {
        let names: Vec<String> = self.key_names().map(|name| format!("{}{order}", quoted(name))).collect();
        names.join(", ")
    }

    pub fn key_names(&self) -> impl Iterator<Item = &str> {
        self.key.iter().filter_map(|place| self.columns.get(*place)).map(|(name, _)| name.as_str())
    }
}

/// A name as SQL takes it.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The tables of the source, by name.
pub(super) fn of_sqlite(conn: &Connection) -> Result<Vec<Table>, TransferError> {
    let sql = "SELECT t.name, c.name, c.type, c.pk FROM sqlite_schema t JOIN pragma_table_info(t.name) c
               WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND t.name <> ?1
               ORDER BY t.name, c.cid";
    let mut statement = conn.prepare(sql).map_err(sqlite::error)?;
    let mut rows = statement.query([MIGRATIONS]).map_err(sqlite::error)?;
    let mut tables: Vec<(Table, Vec<i64>)> = Vec::new();
    while let Some(row) = rows.next().map_err(sqlite::error)? {
        let read = || Ok::<_, rusqlite::Error>((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?));
        let (name, column, kind, key): (String, String, String, i64) = read().map_err(sqlite::error)?;
        if tables.last().is_none_or(|(table, _)| table.name != name) {
            let table = Table { name: name.clone(), columns: Vec::new(), key: Vec::new() };
            tables.push((table, Vec::new()));
        }
        let Some((table, keys)) = tables.last_mut() else { continue };
        table.columns.push((column.clone(), kind_of(&name, &column, &kind)?));
        keys.push(key);
    }
    tables.into_iter().map(|(table, keys)| with_key(table, &keys)).collect()
}

fn kind_of(table: &str, column: &str, kind: &str) -> Result<Column, TransferError> {
    match kind {
        "INTEGER" | "bigint" => Ok(Column::Int),
        "TEXT" | "text" => Ok(Column::Text),
        "BLOB" | "bytea" => Ok(Column::Blob),
        other => {
            Err(refused(format!("`{table}.{column}` is of the type {other}, which no schema of ours has")))
        }
    }
}

/// `keys` says of each column which place it has in the key, from 1; 0: none.
fn with_key(mut table: Table, keys: &[i64]) -> Result<Table, TransferError> {
    let mut key: Vec<(i64, usize)> =
        keys.iter().enumerate().filter(|(_, place)| **place > 0).map(|(at, place)| (*place, at)).collect();
    key.sort_unstable();
    table.key = key.into_iter().map(|(_, at)| at).collect();
    if table.key.is_empty() {
        return Err(refused(format!("`{}` has no primary key, so its rows have no order", table.name)));
    }
    Ok(table)
}

/// The tables of the target, by name; those that this module made apart.
pub(super) fn names_of_postgres(client: Plain<'_>) -> Result<Vec<String>, StoreError> {
    let sql = "SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
               WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p') AND c.relname NOT IN ('transfer', 'transfer_index')
               ORDER BY 1";
    let rows = client.query(sql, &[]).map_err(crate::engine::postgres_error::failed)?;
    rows.iter().map(|row| row.try_get(0).map_err(crate::engine::postgres_error::failed)).collect()
}

/// Refuses a target whose tables and columns are others than the source's.
pub(super) fn require_same(tables: &[Table], client: Plain<'_>) -> Result<(), TransferError> {
    let sql = "SELECT table_name::text, column_name::text, data_type::text FROM information_schema.columns
               WHERE table_schema = current_schema() AND table_name NOT IN ('transfer', 'transfer_index') AND table_name <> $1";
    let rows = client.query(sql, &[&MIGRATIONS]).map_err(crate::engine::postgres_error::failed)?;
    let mut there: Vec<(String, String, &'static str)> = Vec::with_capacity(rows.len());
    for row in &rows {
        let read = || Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?));
        let (table, column, kind): (String, String, String) =
            read().map_err(crate::engine::postgres_error::failed)?;
        let kind = word(kind_of(&table, &column, &kind)?);
        there.push((table, column, kind));
    }
    let mut here: Vec<(String, String, &'static str)> = tables
        .iter()
        .flat_map(|table| {
            table.columns.iter().map(|(name, kind)| (table.name.clone(), name.clone(), word(*kind)))
        })
        .collect();
    there.sort_unstable();
    here.sort_unstable();
    let differs =
        here.iter().find(|one| !there.contains(one)).or_else(|| there.iter().find(|one| !here.contains(one)));
    match differs {
        None => Ok(()),
        Some((table, column, kind)) => {
            Err(refused(format!("only one of the databases has `{table}.{column}` with the type {kind}")))
        }
    }
}

fn word(kind: Column) -> &'static str {
    match kind {
        Column::Int => "integer",
        Column::Text => "text",
        Column::Blob => "bytes",
    }
}
