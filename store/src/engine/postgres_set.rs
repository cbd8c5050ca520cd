//! How many rows go to PostgreSQL in one statement: as arrays, or by COPY.

use crate::tx::Column;
use crate::value::Value;
use bytes::Bytes;
use std::pin::pin;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, CopyInSink, Error, Statement};

/// One column of a set, as the array that `unnest` takes.
pub(super) enum Array<'a> {
    Int(Vec<Option<i64>>),
    Text(Vec<Option<&'a str>>),
    Blob(Vec<Option<&'a [u8]>>),
}

impl Array<'_> {
    pub(super) fn as_sql(&self) -> &(dyn ToSql + Sync) {
        match self {
            Self::Int(values) => values,
            Self::Text(values) => values,
            Self::Blob(values) => values,
        }
    }
}

/// The columns of these rows.
pub(super) fn arrays<'a>(columns: &[Column], rows: &[Vec<Value<'a>>]) -> Vec<Array<'a>> {
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

/// Sends these rows by the binary COPY that `statement` begins; answers how many were added.
pub(super) async fn copy(
    client: &Client,
    statement: &Statement,
    columns: &[Column],
    rows: &[Vec<Value<'_>>],
) -> Result<u64, Error> {
    let types: Vec<Type> = columns.iter().map(|column| column.on_postgres()).collect();
    let sink: CopyInSink<Bytes> = client.copy_in(statement).await?;
    let mut writer = pin!(BinaryCopyInWriter::new(sink, &types));
    for row in rows {
        writer.as_mut().write_raw(row.iter().copied()).await?;
    }
    writer.finish().await
}
