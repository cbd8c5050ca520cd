//! The server's clock: moved by the world, and a place where the server may die.

use parking_lot::Mutex;
use updraft_core::time::Timestamp;
use updraft_server::clock::{Clock, ManualClock};

/// What a dying server unwinds with; no other panic carries it.
pub(crate) struct Died;

/// A clock that its owner moves. With a lit fuse the server dies when it asks for the time: the engine and
/// the operations do so before each of their transactions, so this is a death between two commits.
pub(crate) struct SimClock {
    hand: ManualClock,
    fuse: Mutex<Option<u32>>,
}

impl SimClock {
    pub(crate) fn new(start: Timestamp) -> Self {
        Self { hand: ManualClock::new(start), fuse: Mutex::new(None) }
    }

    /// Moves the clock.
    pub(crate) fn set(&self, now: Timestamp) {
        self.hand.set(now);
    }

    /// What the clock shows; burns no fuse.
    pub(crate) fn peek(&self) -> Timestamp {
        self.hand.now()
    }

    /// Lets the server die the `after`-th time that it looks at the clock; `None`: never.
    pub(crate) fn light(&self, after: Option<u32>) {
        *self.fuse.lock() = after;
    }

    /// Whether the server died of looking at the clock: inside of a transaction or of an operation, the server
    /// takes that for a panic of its own and goes on with an error that nobody lives to see.
    pub(crate) fn has_killed(&self) -> bool {
        *self.fuse.lock() == Some(0)
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        let dies = match self.fuse.lock().as_mut() {
            None => false,
            Some(left) => {
                *left = left.saturating_sub(1);
                *left == 0
            }
        };
        if dies {
            // Without the panic hook: this is no mistake that anybody should read about.
            std::panic::resume_unwind(Box::new(Died));
        }
        self.hand.now()
    }
}
