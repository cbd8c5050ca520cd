//! The two engines: how each opens, runs a statement and names its errors. No query of ours lives here.

pub(crate) mod postgres;
pub(crate) mod postgres_error;
pub(crate) mod postgres_plain;
mod postgres_set;
pub(crate) mod postgres_tls;
pub(crate) mod sqlite;
