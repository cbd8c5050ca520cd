//! What a device remembers of pushes, so that somebody can ask afterwards whether each came once.

use updraft_core::time::Timestamp;

/// A device remembers the pushes of so many versions.
const VERSIONS_MAX: usize = 16;

/// What a device was pushed of one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// The version.
    pub version: String,
    /// When the first push came.
    pub first: Timestamp,
    /// Pushes, the first one included.
    pub count: u32,
    /// Those of them that came again on the same connection.
    pub again: u32,
    /// Whether one has come on this connection.
    in_connection: bool,
}

/// What it was pushed of all versions.
#[derive(Debug, Default)]
pub(crate) struct Pushes(Vec<Pushed>);

impl Pushes {
    pub(crate) fn all(&self) -> &[Pushed] {
        &self.0
    }

    /// A push came.
    pub(crate) fn note(&mut self, version: &str, now: Timestamp) {
        if let Some(pushed) = self.0.iter_mut().find(|pushed| pushed.version == version) {
            pushed.count += 1;
            pushed.again += u32::from(std::mem::replace(&mut pushed.in_connection, true));
        } else if self.0.len() < VERSIONS_MAX {
            let version = version.to_owned();
            self.0.push(Pushed { version, first: now, count: 1, again: 0, in_connection: true });
        }
    }

    /// Another connection begins.
    pub(crate) fn reconnected(&mut self) {
        for pushed in &mut self.0 {
            pushed.in_connection = false;
        }
    }
}
