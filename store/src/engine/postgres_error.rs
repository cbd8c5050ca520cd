//! What PostgreSQL's errors, and its silence, mean.

use crate::engine::postgres_tls::describe;
use crate::error::StoreError;
use std::time::Duration;
use tokio_postgres::error::SqlState;

/// Why there is no answer.
pub(super) enum Failure {
    Said(tokio_postgres::Error),
    Silence(Duration),
}

impl Failure {
    /// Whether it is open what became of a COMMIT: the connection was lost, or the server ended it.
    pub(super) fn leaves_open(&self) -> bool {
        match self {
            Self::Silence(_) => true,
            Self::Said(error) => error.code().is_none_or(|code| code.code().starts_with("57P")),
        }
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Said(said) => error(&said),
            Failure::Silence(within) => {
                Self::Unavailable(format!("it did not answer a statement within {within:?}"))
            }
        }
    }
}

/// What an error of PostgreSQL means, as the function of `map_err`.
#[expect(clippy::needless_pass_by_value, reason = "used as the function of map_err")]
pub(crate) fn failed(why: tokio_postgres::Error) -> StoreError {
    error(&why)
}

/// What an error of PostgreSQL means.
pub(crate) fn error(error: &tokio_postgres::Error) -> StoreError {
    let text = describe(error);
    match error.code().map(SqlState::code) {
        Some("53100") => StoreError::Full(text),
        // Only where a time limit was set for it.
        Some("55P03") => StoreError::Held(text),
        Some("XX001" | "XX002") => StoreError::Damaged(text),
        // Connection lost, too many of them, operator shut the server down, its disk failed, serialization or
        // deadlock, a transaction stood still, or writes are switched off, as on a standby: try again.
        None | Some("25006" | "25P03" | "25P04") => StoreError::Unavailable(text),
        Some(code) if ["08", "40", "53", "57", "58"].iter().any(|class| code.starts_with(class)) => {
            StoreError::Unavailable(text)
        }
        Some(_) => StoreError::Internal(text),
    }
}
