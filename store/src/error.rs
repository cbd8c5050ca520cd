//! What can go wrong between the rules and the rows.

/// The world said no. "Not found" is never an error here: finders return `Option`.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be reached or is shutting down; the same call may work later.
    #[error("the database is not available: {0}")]
    Unavailable(String),
    /// The disk or the database's quota is full; nothing was changed.
    #[error("the disk is full: {0}")]
    Full(String),
    /// The database file, or its log, is not what was written to it. Nothing more is written there.
    #[error("the database is damaged: {0}")]
    Damaged(String),
    /// A row was changed by somebody else in between; decide again.
    #[error("a row changed in between: {0}")]
    Conflict(&'static str),
    /// A row holds what no code of ours writes.
    #[error("corrupt data in {place}: {detail}")]
    Corrupt {
        /// Table and column.
        place: &'static str,
        /// What was found.
        detail: String,
    },
    /// The data folder or database belongs to a newer release.
    #[error(
        "the database has schema {found}, this release knows up to {known}: start the newer release, \
         or restore a backup made before the upgrade"
    )]
    NewerSchema {
        /// The schema found.
        found: i64,
        /// The newest one that this binary knows.
        known: i64,
    },
    /// The database was made by an older release, and this command does not change schemas.
    #[error(
        "the database has schema {found}, this release needs {known}: start this release's server on it first"
    )]
    OlderSchema {
        /// The schema found; 0: none.
        found: i64,
        /// The one that this binary needs.
        known: i64,
    },
    /// Rows are still being brought to the database from SQLite, or were found to differ.
    #[error(
        "the database holds a migration that has not ended: run `updraft migrate` again, or serve the SQLite database \
         as before"
    )]
    Unfinished,
    /// A closure panicked; its changes were rolled back.
    #[error("the operation failed inside: {0}")]
    Panicked(String),
    /// Anything else that the engine reported.
    #[error("database error: {0}")]
    Internal(String),
}

impl StoreError {
    /// Whether it came from outside (disk, file, server) and not from what was asked: it is the same for everybody.
    pub(crate) fn is_the_worlds(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Full(_) | Self::Damaged(_))
    }

    /// Whether the same call may succeed later without anybody changing it.
    pub fn is_retryable(&self) -> bool {
        match self {
            // Once a backup is restored, the call may succeed.
            Self::Unavailable(_) | Self::Full(_) | Self::Damaged(_) | Self::Conflict(_) => true,
            Self::Corrupt { .. }
            | Self::NewerSchema { .. }
            | Self::OlderSchema { .. }
            | Self::Unfinished
            | Self::Panicked(_)
            | Self::Internal(_) => false,
        }
    }
}
