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
    /// A newer release has changed the schema, and this one cannot work on it.
    #[error(
        "the database has schema {found}, on which a program works that knows schema {oldest_able} or a later one, and \
         this one knows {known}: start the newer release, or restore a backup made before the upgrade"
    )]
    NewerSchema {
        /// The schema found.
        found: i64,
        /// The newest one that this binary knows.
        known: i64,
        /// The oldest one that a program must know.
        oldest_able: i64,
    },
    /// A newer release has changed the schema. This one may serve it, but does not know all that is there.
    #[error(
        "the database has schema {found}, and this program knows {known}: it may serve the database, but does not know \
         all that would have to be moved; use the newest release that has served it"
    )]
    UnknownTables {
        /// The schema found.
        found: i64,
        /// The newest one that this binary knows.
        known: i64,
    },
    /// Nodes that serve the database now could not work on the schema that this binary would bring.
    #[error(
        "{nodes} of the nodes that serve the database would fail: they know schema {knows}, and on schema {schema} a \
         program works that knows {oldest_able} or a later one. Nothing was changed: upgrade them to a release in \
         between first, or stop them all, then start this one"
    )]
    OlderNodes {
        /// How many.
        nodes: usize,
        /// The schema that the oldest of them knows.
        knows: i64,
        /// The schema that this binary would bring.
        schema: i64,
        /// The oldest one that a program must know then.
        oldest_able: i64,
    },
    /// Somebody else uses a table that is to be changed.
    #[error(
        "the schema cannot be changed while somebody uses a table ({0}). Nothing was changed: end that session, such as \
         a dump or a query by hand (pg_stat_activity shows it), then start again"
    )]
    Held(String),
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
            Self::Unavailable(_) | Self::Full(_) | Self::Damaged(_) | Self::Conflict(_) | Self::Held(_) => {
                true
            }
            Self::Corrupt { .. }
            | Self::NewerSchema { .. }
            | Self::UnknownTables { .. }
            | Self::OlderNodes { .. }
            | Self::OlderSchema { .. }
            | Self::Unfinished
            | Self::Panicked(_)
            | Self::Internal(_) => false,
        }
    }
}
