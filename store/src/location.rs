//! Where a database is.

use std::path::PathBuf;

/// Where the database is.
#[derive(Clone, PartialEq, Eq)]
pub enum Location {
    /// A SQLite file; made if absent.
    Sqlite(PathBuf),
    /// A PostgreSQL connection string.
    Postgres(String),
    /// Memory, in the caller's thread.
    Inline,
}

/// Without what a connection string holds: a password may be there.
impl std::fmt::Debug for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sqlite(path) => f.debug_tuple("Sqlite").field(path).finish(),
            Self::Postgres(_) => f.write_str("Postgres(…)"),
            Self::Inline => f.write_str("Inline"),
        }
    }
}

impl Location {
    /// Reads `sqlite:PATH` or `postgres://…`.
    pub fn parse(url: &str) -> Option<Self> {
        if let Some(path) = url.strip_prefix("sqlite:") {
            return (!path.is_empty()).then(|| Self::Sqlite(PathBuf::from(path)));
        }
        (url.starts_with("postgres://") || url.starts_with("postgresql://"))
            .then(|| Self::Postgres(url.to_owned()))
    }
}
