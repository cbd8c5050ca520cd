//! Storage that fails: SQLite itself, in the middle of a statement, at a commit, or for want of room.
//!
//! Who asked is told so and nothing else changes: `check` looks after each failure as after any other step.

use crate::world::{Event, World};
use updraft_core::time::{MINUTE_MS, SECOND_MS};
use updraft_store::Trouble;

/// The storage's health.
#[derive(Debug, Default)]
pub(crate) struct Storage {
    /// What is wrong with it.
    pub(crate) trouble: Option<Trouble>,
    /// Whether that lasts until it is mended; otherwise it is over once it has struck.
    pub(crate) lasting: bool,
}

impl World {
    /// Something becomes wrong with the storage.
    pub(crate) fn break_storage(&mut self) {
        if self.server.storage.trouble.is_some() {
            return;
        }
        // Early ones are the most likely, since most work is short.
        let after = self.disk.next() % (1 << self.disk.range(2, 13));
        let (trouble, lasts_ms) = match self.disk.below(10) {
            0..5 => (Trouble::Interrupt { after, stays: false }, None),
            5..7 => (Trouble::Commit { after: self.disk.next() % 4 }, None),
            7 => {
                let lasts_ms = self.disk.range(SECOND_MS, 30 * SECOND_MS);
                (Trouble::Interrupt { after: 0, stays: true }, Some(lasts_ms))
            }
            _ => {
                let pages = self.disk.range(0, 3);
                (Trouble::Full { pages }, Some(self.disk.range(5 * SECOND_MS, 3 * MINUTE_MS)))
            }
        };
        self.wreck_storage(trouble, lasts_ms);
    }

    /// Lets the storage fail so in the work to come: once, or for so long.
    pub(crate) fn wreck_storage(&mut self, trouble: Trouble, lasts_ms: Option<i64>) {
        self.server.storage = Storage { trouble: Some(trouble), lasting: lasts_ms.is_some() };
        if let Some(lasts_ms) = lasts_ms {
            let what = match trouble {
                Trouble::Full { .. } => "is full",
                Trouble::Interrupt { .. } | Trouble::Commit { .. } | Trouble::Unanswered { .. } => {
                    "is broken"
                }
            };
            self.note(format!("the server's disk {what} for {} s", lasts_ms / SECOND_MS));
            self.at(lasts_ms, Event::Mend);
        }
    }

    /// The storage is whole again.
    pub(crate) fn mend_storage(&mut self) {
        if self.server.storage.lasting {
            self.note("the server's disk is whole again".to_owned());
            self.server.storage = Storage::default();
        }
    }
}
