//! Whether both sides hold the same rows: read once on each side, in the order of the key, side by side.

use super::rows::{Owned, canonical, key_of, key_order, values, values_of_postgres};
use super::schema::Table;
use super::target::Target;
use super::{SameTable, Source, TransferError, TransferProgress};
use crate::engine::{postgres_error, sqlite};
use crate::value::Value;
use sha2::{Digest as _, Sha256};
use std::cmp::Ordering;

/// Rows between two words about the progress.
const TOLD_ROWS: u64 = 5_000;

/// Compares all tables; the first difference is an error.
pub(super) fn all(
    source: &Source<'_>,
    target: &mut Target,
    tables: &[Table],
    progress: TransferProgress<'_>,
) -> Result<Vec<SameTable>, TransferError> {
    let rows = source.rows()?;
    let mut done = 0;
    let mut same = Vec::with_capacity(tables.len());
    for table in tables {
        let before = done;
        let mut tell = |in_table: u64| {
            done = before + in_table;
            progress("verify", done.min(rows), rows);
        };
        match one(source, target, table, &mut tell)? {
            Outcome::Same(table) => same.push(table),
            Outcome::Different { key, what } => {
                return Err(TransferError::Different {
                    key,
                    what,
                    source_rows: source.count(table)?,
                    target_rows: target.count(table)?,
                    table: table.name.clone(),
                });
            }
        }
    }
    Ok(same)
}

enum Outcome {
    Same(SameTable),
    Different { key: String, what: String },
}

/// One side of a table while it is read.
#[derive(Default)]
struct Side {
    digest: Sha256,
    bytes: Vec<u8>,
    row: Vec<Owned>,
}

impl Side {
    fn take(&mut self, row: &[Value<'_>]) {
        canonical(row, &mut self.bytes);
        self.digest.update(&self.bytes);
    }

    fn keep(&mut self, row: &[Value<'_>]) {
        self.row = row.iter().copied().map(Owned::of).collect();
    }
}

fn one(
    source: &Source<'_>,
    target: &mut Target,
    table: &Table,
    tell: &mut dyn FnMut(u64),
) -> Result<Outcome, TransferError> {
    let mut statement = source.conn.prepare(&table.select(false)).map_err(sqlite::error)?;
    let mut lefts = statement.query([]).map_err(sqlite::error)?;
    let mut rights = target.rows(table)?;
    let (mut left, mut right) = (Side::default(), Side::default());
    let mut rows = 0;
    loop {
        let here = lefts.next().map_err(sqlite::error)?.map(|row| values(table, row)).transpose()?;
        let row = rights.next().map_err(postgres_error::failed)?;
        let kinds = || table.columns.iter().map(|(_, kind)| *kind);
        let there = row.as_ref().map(|row| values_of_postgres(kinds(), row)).transpose()?;
        match (&here, &there) {
            (None, None) => break,
            (Some(here), Some(there)) => {
                left.take(here);
                right.take(there);
                if left.bytes == right.bytes {
                    rows += 1;
                    if rows % TOLD_ROWS == 0 {
                        tell(rows);
                    }
                    continue;
                }
            }
            _ => {}
        }
        left.keep(&here.unwrap_or_default());
        right.keep(&there.unwrap_or_default());
        return Ok(difference(table, &left.row, &right.row));
    }
    tell(rows);
    let (left, right) = (hex::encode(left.digest.finalize()), hex::encode(right.digest.finalize()));
    if left == right {
        return Ok(Outcome::Same(SameTable { name: table.name.clone(), rows, sha256: left }));
    }
    // Of equal rows that cannot be; it is said rather than believed.
    Ok(Outcome::Different { key: "(no single row)".to_owned(), what: "the digests differ".to_owned() })
}

/// Says how two rows differ, of which one may be absent (without values).
fn difference(table: &Table, left: &[Owned], right: &[Owned]) -> Outcome {
    let order = match (left.is_empty(), right.is_empty()) {
        (false, true) => Ordering::Less,
        (true, _) => Ordering::Greater,
        (false, false) => key_order(table, left, right),
    };
    let (row, what) = match order {
        Ordering::Less => (left, "the row is missing in the target".to_owned()),
        Ordering::Greater => (right, "the source has no such row".to_owned()),
        Ordering::Equal => {
            let same = |at: usize| {
                let (mut here, mut there) = (Vec::new(), Vec::new());
                canonical(&[left.get(at).map_or(Value::Null, Owned::borrow)], &mut here);
                canonical(&[right.get(at).map_or(Value::Null, Owned::borrow)], &mut there);
                here == there
            };
            let columns = table.columns.iter().enumerate().filter(|(at, _)| !same(*at));
            let names: Vec<&str> = columns.map(|(_, (name, _))| name.as_str()).collect();
            (left, format!("another value of {}", names.join(", ")))
        }
    };
    Outcome::Different { key: key_of(table, row), what }
}
