//! Trouble on purpose, for the simulation: the database in memory fails when it is told to.
//!
//! It is SQLite itself that fails, by its own means: it is interrupted in the middle of a statement, refuses a
//! commit, or finds no room. So what it takes back then is what it takes back of a broken disk: an interrupted
//! write ends the whole transaction. A store that is not told so has none of this, and pays nothing for it.

use crate::Store;
use crate::database::Database;
use crate::engine::sqlite;
use crate::error::StoreError;
use crate::{Mode, closed};
use parking_lot::Mutex;
use std::sync::Arc;

/// How the database fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Work is cut off after so many of the engine's loops and jumps, reading or writing; once, or each time from
    /// then on.
    Interrupt {
        /// How many go well.
        after: u64,
        /// Whether everything fails from then on.
        stays: bool,
    },
    /// A commit that changes something fails, after so many that go well.
    Commit {
        /// How many go well.
        after: u64,
    },
    /// A commit stands, but its answer is lost, as when a connection breaks: who waits for it is told that it failed.
    /// After so many writes that are answered.
    Unanswered {
        /// How many.
        after: u64,
    },
    /// The database may grow by so many pages only.
    Full {
        /// How many.
        pages: i64,
    },
}

/// What the engine asks while it is in trouble.
#[derive(Default)]
pub(crate) struct Fuse {
    left: u64,
    struck: bool,
    /// The transaction's commit has begun: it stands, so nobody may be told otherwise.
    committing: bool,
    /// It is the answer to a write that fails.
    unanswered: bool,
}

impl Fuse {
    /// A transaction begins.
    pub(crate) fn begin(&mut self) {
        self.committing = false;
    }

    /// Whether the answer to the write that has just ended is lost.
    pub(crate) fn loses_answer(&mut self) -> bool {
        self.unanswered && self.burn(false)
    }

    /// Burns on; answers whether the engine fails now.
    fn burn(&mut self, stays: bool) -> bool {
        let strikes = !self.committing && self.left == 0 && (stays || !self.struck);
        self.struck |= strikes;
        self.left = self.left.saturating_sub(1);
        strikes
    }
}

impl Store {
    /// Lets the database in memory fail while `run` runs; answers also whether it did. No other store can be told.
    pub fn in_trouble<T>(&self, trouble: Trouble, run: impl FnOnce() -> T) -> Result<(T, bool), StoreError> {
        let Mode::Inline { database, fuse } = &self.mode else { return Err(closed()) };
        begin(&mut database.lock(), trouble, fuse)?;
        let outcome = run();
        end(&mut database.lock(), fuse)?;
        let struck = fuse.lock().struck;
        Ok((outcome, struck))
    }
}

fn begin(database: &mut Database, trouble: Trouble, fuse: &Arc<Mutex<Fuse>>) -> Result<(), StoreError> {
    let Database::Sqlite(conn) = database else { return Err(closed()) };
    let (asked, begun) = (Arc::clone(fuse), Arc::clone(fuse));
    *fuse.lock() = Fuse::default();
    match trouble {
        Trouble::Interrupt { after, stays } => {
            fuse.lock().left = after;
            conn.progress_handler(1, Some(move || asked.lock().burn(stays))).map_err(sqlite::error)?;
            let notes = move || {
                begun.lock().committing = true;
                false
            };
            conn.commit_hook(Some(notes)).map_err(sqlite::error)
        }
        Trouble::Commit { after } => {
            fuse.lock().left = after;
            conn.commit_hook(Some(move || asked.lock().burn(false))).map_err(sqlite::error)
        }
        Trouble::Unanswered { after } => {
            *fuse.lock() = Fuse { left: after, unanswered: true, ..Fuse::default() };
            Ok(())
        }
        Trouble::Full { pages } => {
            let now: i64 =
                conn.query_row("PRAGMA page_count", [], |row| row.get(0)).map_err(sqlite::error)?;
            conn.pragma_update(None, "max_page_count", now + pages).map_err(sqlite::error)
        }
    }
}

fn end(database: &mut Database, fuse: &Mutex<Fuse>) -> Result<(), StoreError> {
    fuse.lock().unanswered = false;
    let Database::Sqlite(conn) = database else { return Err(closed()) };
    conn.progress_handler(0, None::<fn() -> bool>).map_err(sqlite::error)?;
    conn.commit_hook(None::<fn() -> bool>).map_err(sqlite::error)?;
    conn.pragma_update(None, "max_page_count", i64::from(u32::MAX)).map_err(sqlite::error)
}
