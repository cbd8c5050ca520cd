//! Statements on a session of PostgreSQL whose texts are made at run time, and rows by the million: for a transfer.

use crate::value::Value;
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use std::pin::Pin;
use tokio::runtime::Runtime;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, CopyInSink, Error, Row, RowStream};

/// A session; what it is asked is waited for, however long that takes.
#[derive(Clone, Copy)]
pub(crate) struct Plain<'a> {
    pub(super) runtime: &'a Runtime,
    pub(super) client: &'a Client,
}

impl<'a> Plain<'a> {
    pub(crate) fn query(self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Error> {
        self.runtime.block_on(self.client.query(sql, params))
    }

    pub(crate) fn query_one(self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Row, Error> {
        self.runtime.block_on(self.client.query_one(sql, params))
    }

    pub(crate) fn query_opt(self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Option<Row>, Error> {
        self.runtime.block_on(self.client.query_opt(sql, params))
    }

    pub(crate) fn execute(self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<u64, Error> {
        self.runtime.block_on(self.client.execute(sql, params))
    }

    /// The rows of a query, as they come.
    pub(crate) fn rows(self, sql: &str) -> Result<Rows<'a>, Error> {
        let nothing = std::iter::empty::<&(dyn ToSql + Sync)>();
        let stream = self.runtime.block_on(self.client.query_raw(sql, nothing))?;
        Ok(Rows { runtime: self.runtime, stream: Box::pin(stream) })
    }

    /// Begins a binary COPY of rows with columns of these types.
    pub(crate) fn copy_in(self, sql: &str, types: &[Type]) -> Result<CopyIn<'a>, Error> {
        let sink: CopyInSink<Bytes> = self.runtime.block_on(self.client.copy_in(sql))?;
        Ok(CopyIn { runtime: self.runtime, writer: Box::pin(BinaryCopyInWriter::new(sink, types)) })
    }
}

/// Rows on their way here.
pub(crate) struct Rows<'a> {
    runtime: &'a Runtime,
    stream: Pin<Box<RowStream>>,
}

impl Rows<'_> {
    pub(crate) fn next(&mut self) -> Result<Option<Row>, Error> {
        self.runtime.block_on(self.stream.try_next())
    }
}

/// Rows on their way there.
pub(crate) struct CopyIn<'a> {
    runtime: &'a Runtime,
    writer: Pin<Box<BinaryCopyInWriter>>,
}

impl CopyIn<'_> {
    pub(crate) fn add(&mut self, row: &[Value<'_>]) -> Result<(), Error> {
        self.runtime.block_on(self.writer.as_mut().write_raw(row.iter().copied()))
    }

    /// Ends it; the rows are there when this returns.
    pub(crate) fn finish(mut self) -> Result<u64, Error> {
        self.runtime.block_on(self.writer.as_mut().finish())
    }
}
