//! Mutation fuzzing of a whole server on stable Rust: real sockets, a real database, one process.
//!
//! Reading order: [`run`] is the loop; a [`target`] says what an input is, does it to the server and judges
//! the outcome; [`world`] is the server; [`mutate`] and [`shrink`] know only bytes. Inputs that reach an
//! outcome never seen before become seeds themselves.

pub mod answer;
pub mod check;
pub mod corpus;
pub mod dice;
pub mod guard;
pub mod http;
pub mod mqtt;
pub mod mutate;
mod proof;
pub mod run;
pub mod shrink;
pub mod target;
pub mod world;

/// What was broken, in words. The part before the first colon is the kind: shrinking keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken(pub String);

impl Broken {
    /// Says what was broken.
    pub fn new(kind: &str, details: impl std::fmt::Display) -> Self {
        Self(format!("{kind}: {details}"))
    }

    /// What two failures have in common if they are the same.
    pub fn kind(&self) -> &str {
        self.0.split(':').next().unwrap_or_default()
    }
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<std::io::Error> for Broken {
    fn from(error: std::io::Error) -> Self {
        Self::new("i/o", error)
    }
}

/// Bytes for people: text as it is, the rest escaped, at most 300.
pub fn shown(bytes: &[u8]) -> String {
    let end = bytes.len().min(300);
    format!("{}{}", bytes[..end].escape_ascii(), if end < bytes.len() { "…" } else { "" })
}
