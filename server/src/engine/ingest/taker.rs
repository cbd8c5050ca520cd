//! Groups of what devices did, while the database takes them and while it does not.

use super::take;
use crate::app::App;
use crate::device::link::{DeviceEvent, Happened};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::time::timeout;
use updraft_core::id::DeviceNo;
use updraft_store::StoreError;

/// How long a group is tried again while the database is away. A device repeats a message only on a new connection, and
/// a whole fleet that comes back is worse than a restart of the database, which takes less.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two attempts.
const RETRY: Duration = Duration::from_millis(300);

/// Takes what devices did, and does not forget who left while the database took nothing: their connections are gone,
/// so nobody tells it again, and they would seem to be connected until they log in the next time.
pub struct Taker {
    app: Arc<App>,
    /// The ended logins that are not written yet, of each device the last.
    left: BTreeMap<DeviceNo, i64>,
}

impl Taker {
    /// One that owes nothing.
    pub fn new(app: Arc<App>) -> Self {
        Self { app, left: BTreeMap::new() }
    }

    /// Whether somebody's end is still to be written, with the next group or, if none comes, after
    /// [`crate::engine::FAILED_MS`].
    pub fn owes(&self) -> bool {
        !self.left.is_empty()
    }

    /// Takes a group, as [`take`] does, after what is owed. An empty one only pays that.
    pub async fn take(&mut self, events: Vec<Happened>) -> Result<(), StoreError> {
        self.pay().await;
        if events.is_empty() {
            return Ok(());
        }
        let ends = events.iter().filter_map(|happened| match happened.event {
            DeviceEvent::Offline { session } => Some((happened.device, session)),
            _ => None,
        });
        let ends: Vec<(DeviceNo, i64)> = ends.collect();
        let outcome = take(&self.app, events).await;
        if outcome.is_err() {
            self.left.extend(ends);
        }
        outcome
    }

    async fn pay(&mut self) {
        if self.left.is_empty() {
            return;
        }
        let owed = self.left.iter().map(|(device, session)| Happened {
            device: *device,
            event: DeviceEvent::Offline { session: *session },
        });
        match take(&self.app, owed.collect()).await {
            // It will be so the next time: who comes after must not suffer from it.
            Err(error) if !error.is_retryable() => {
                tracing::error!(%error, devices = self.left.len(), "the end of devices' logins cannot be written");
                self.left.clear();
            }
            Err(_) => {}
            Ok(()) => self.left.clear(),
        }
    }

    /// Like [`Taker::take`], and waits a little for a database that is away, unless `stopped`. If a try had an effect
    /// that is not known, the next one finds the same messages repeated, which changes nothing more.
    pub(super) async fn take_patiently(
        &mut self,
        events: Vec<Happened>,
        stopped: &mut watch::Receiver<bool>,
    ) -> Result<(), StoreError> {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.take(events.clone()).await {
                // Never given up in the middle: what is owed to whom would be forgotten.
                Err(StoreError::Unavailable(why)) if Instant::now() < until && !*stopped.borrow() => {
                    tracing::debug!(why, messages = events.len(), "the database is away; they wait");
                    let _ = timeout(RETRY, stopped.wait_for(|stop| *stop)).await;
                }
                outcome => return outcome,
            }
        }
    }
}
