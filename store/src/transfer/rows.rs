//! Rows of either engine as the same values, and as the same bytes.

use super::TransferError;
use super::schema::Table;
use crate::engine::{postgres_error, sqlite};
use crate::tx::Column;
use crate::value::Value;
use rusqlite::types::ValueRef;
use std::cmp::Ordering;

/// A value to keep.
#[derive(Debug, Clone)]
pub(super) enum Owned {
    Null,
    Int(i64),
    Text(String),
    Blob(Vec<u8>),
}

impl Owned {
    pub fn borrow(&self) -> Value<'_> {
        match self {
            Self::Null => Value::Null,
            Self::Int(value) => Value::Int(*value),
            Self::Text(value) => Value::Text(value),
            Self::Blob(value) => Value::Blob(value),
        }
    }

    pub fn of(value: Value<'_>) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Int(value) => Self::Int(value),
            Value::Text(value) => Self::Text(value.to_owned()),
            Value::Blob(value) => Self::Blob(value.to_vec()),
        }
    }
}

/// A row of the source, if PostgreSQL can hold it.
pub(super) fn values<'r>(table: &Table, row: &'r rusqlite::Row<'_>) -> Result<Vec<Value<'r>>, TransferError> {
    let mut values = Vec::with_capacity(table.columns.len());
    for (place, (name, kind)) in table.columns.iter().enumerate() {
        let found = row.get_ref(place).map_err(sqlite::error)?;
        values.push(value(found, *kind).map_err(|why| TransferError::Row {
            table: table.name.clone(),
            key: key_of_raw(table, row),
            why: format!("`{name}` {why}"),
        })?);
    }
    Ok(values)
}

fn value(found: ValueRef<'_>, kind: Column) -> Result<Value<'_>, &'static str> {
    match (found, kind) {
        (ValueRef::Null, _) => Ok(Value::Null),
        (ValueRef::Integer(value), Column::Int) => Ok(Value::Int(value)),
        (ValueRef::Blob(value), Column::Blob) => Ok(Value::Blob(value)),
        (ValueRef::Text(value), Column::Text) => match std::str::from_utf8(value) {
            Err(_) => Err("is a text that is not UTF-8"),
            Ok(text) if text.contains('\0') => Err("is a text with U+0000, which PostgreSQL cannot hold"),
            Ok(text) => Ok(Value::Text(text)),
        },
        _ => Err("holds a value of another type than its column"),
    }
}

/// The key of a row that may hold anything.
fn key_of_raw(table: &Table, row: &rusqlite::Row<'_>) -> String {
    let shown = table.key.iter().map(|place| match row.get_ref(*place) {
        Ok(ValueRef::Integer(value)) => value.to_string(),
        Ok(ValueRef::Text(value)) => format!("{:?}", String::from_utf8_lossy(value)),
        _ => "?".to_owned(),
    });
    named(table, shown)
}

/// A key in words: `(job 6, ordinal 1)`.
pub(super) fn key_of(table: &Table, row: &[Owned]) -> String {
    let shown = table.key.iter().map(|place| match row.get(*place) {
        Some(Owned::Int(value)) => value.to_string(),
        Some(Owned::Text(value)) => format!("{value:?}"),
        _ => "?".to_owned(),
    });
    named(table, shown)
}

fn named(table: &Table, shown: impl Iterator<Item = String>) -> String {
    let parts: Vec<String> =
        table.key_names().zip(shown).map(|(name, value)| format!("{name} {value}")).collect();
    format!("({})", parts.join(", "))
}

/// Columns of a row of the target.
pub(super) fn values_of_postgres(
    columns: impl Iterator<Item = Column>,
    row: &tokio_postgres::Row,
) -> Result<Vec<Value<'_>>, TransferError> {
    let value = |(place, kind)| {
        Ok(match kind {
            Column::Int => row.try_get::<_, Option<i64>>(place)?.into(),
            Column::Text => row.try_get::<_, Option<&str>>(place)?.into(),
            Column::Blob => row.try_get::<_, Option<&[u8]>>(place)?.into(),
        })
    };
    let values: Result<_, tokio_postgres::Error> = columns.enumerate().map(value).collect();
    Ok(values.map_err(postgres_error::failed)?)
}

/// A row as bytes that no other row has: of each value its type, its length and itself.
pub(super) fn canonical(row: &[Value<'_>], out: &mut Vec<u8>) {
    out.clear();
    for value in row {
        let (kind, bytes): (u8, &[u8]) = match value {
            Value::Null => (0, &[]),
            Value::Int(value) => {
                out.push(1);
                out.extend_from_slice(&value.to_be_bytes());
                continue;
            }
            Value::Text(value) => (2, value.as_bytes()),
            Value::Blob(value) => (3, value),
        };
        out.push(kind);
        out.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
        out.extend_from_slice(bytes);
    }
}

/// The order of keys, which both engines have: numbers by size, texts by their bytes.
pub(super) fn key_order(table: &Table, left: &[Owned], right: &[Owned]) -> Ordering {
    let compared = table.key.iter().map(|place| match (left.get(*place), right.get(*place)) {
        (Some(Owned::Int(left)), Some(Owned::Int(right))) => left.cmp(right),
        (Some(Owned::Text(left)), Some(Owned::Text(right))) => left.cmp(right),
        (Some(Owned::Blob(left)), Some(Owned::Blob(right))) => left.cmp(right),
        _ => Ordering::Equal,
    });
    compared.fold(Ordering::Equal, Ordering::then)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_rows_have_different_bytes() {
        let rows: [&[Value<'_>]; 9] = [
            &[Value::Null, Value::Text("")],
            &[Value::Text(""), Value::Null],
            &[Value::Text("a"), Value::Text("b")],
            &[Value::Text("ab"), Value::Text("")],
            &[Value::Text(""), Value::Text("ab")],
            &[Value::Blob(b"a"), Value::Text("b")],
            &[Value::Int(1), Value::Int(2)],
            &[Value::Int(2), Value::Int(1)],
            &[Value::Blob(&[0, 0, 0, 0, 0, 0, 0, 1]), Value::Int(2)],
        ];
        let bytes: std::collections::BTreeSet<Vec<u8>> = rows
            .iter()
            .map(|row| {
                let mut out = vec![9];
                canonical(row, &mut out);
                out
            })
            .collect();
        assert_eq!(bytes.len(), rows.len());
    }

    #[test]
    fn what_postgres_cannot_hold_is_refused() {
        assert!(value(ValueRef::Text(b"a\0b"), Column::Text).is_err());
        assert!(value(ValueRef::Text(&[0xff]), Column::Text).is_err());
        assert!(value(ValueRef::Real(f64::NAN), Column::Int).is_err());
        assert!(value(ValueRef::Text(b"7"), Column::Int).is_err());
        assert!(matches!(value(ValueRef::Text("ä".as_bytes()), Column::Text), Ok(Value::Text("ä"))));
        assert!(matches!(value(ValueRef::Blob(&[0]), Column::Blob), Ok(Value::Blob([0]))));
    }
}
