//! What still waits says since when and for what; and what an explanation foretells comes true.

use crate::invariant::Invariant;
use crate::world::World;
use crate::{Violation, ensure};
use std::collections::BTreeMap;
use std::sync::Arc;
use updraft_core::explain::{Foreseen, Wait};
use updraft_core::id::{DeviceNo, JobNo};
use updraft_core::time::Timestamp;
use updraft_server::device::link::DeviceLink as _;
use updraft_server::engine::explain::{Asked, OfBatch, OfDevice, View, explain};
use updraft_store::StoreError;

/// How late the server may be with what it foretold: its rounds are seconds apart.
const LATE_MS: i64 = 2_000;

/// What was said to happen at once, by device and batch: in which state of the task.
#[derive(Default)]
pub(crate) struct Foretold(BTreeMap<(DeviceNo, JobNo), Option<i64>>);

impl World {
    /// Asks why for each device and each batch, once nothing goes wrong any more and a while after the last time.
    pub(crate) fn explanations_hold(&mut self, before: &mut Foretold) -> Result<(), Violation> {
        let now = self.server.clock.peek();
        let mut soon = Foretold::default();
        let all = self.explanations()?;
        self.stats.looked(Invariant::Explained, all.iter().map(|told| told.batches.len()).sum());
        for told in all {
            let device = told.asked.device.no;
            for of in &told.batches {
                let name = || format!("device {device} and batch {}: {:?}", of.job.no, of.explanation);
                let key = (device, of.job.no);
                let revision = of.task.as_ref().map(|task| task.revision);
                speaks(of, now, self.set_back_ms)
                    .map_err(|Violation(why)| Violation(format!("{why}: {}", name())))?;
                if is_soon(of, self.set_back_ms) {
                    ensure(before.0.get(&key) != Some(&revision), || {
                        format!("what should happen at once does not: {}", name())
                    })?;
                    soon.0.insert(key, revision);
                }
            }
        }
        *before = soon;
        Ok(())
    }

    fn explanations(&self) -> Result<Vec<OfDevice>, Violation> {
        let Some(running) = &self.server.running else { return Ok(Vec::new()) };
        let (app, link) = (Arc::clone(&running.app), Arc::clone(&running.link));
        let there = self.nodes.iter().map(|node| node.no).filter(|no| !self.deleted.contains(no));
        let devices: Vec<(DeviceNo, bool)> = there.map(|no| (no, link.listening(no))).collect();
        let now = self.server.clock.peek();
        self.server.read(move |tx| {
            let mut all = Vec::new();
            for (no, listening) in &devices {
                let Some((device, deleted_at)) = tx.device_load(*no)? else { continue };
                let Some(product) = tx.product_load(device.product)? else { continue };
                let view = View { config: &app.config, now, listening: Some(*listening) };
                all.push(explain(tx, view, Asked { product, device, deleted_at }, None)?);
            }
            Ok::<_, StoreError>(all)
        })
    }
}

/// An open task says since when it waits and for what, and nothing that was to happen is overdue.
fn speaks(of: &OfBatch, now: Timestamp, set_back_ms: i64) -> Result<(), Violation> {
    let (waiting, next) = (of.explanation.waiting, of.explanation.next);
    let is_open = of.task.as_ref().is_some_and(|task| task.status.is_open());
    ensure(!is_open || waiting.is_some(), || "it does not say what it waits for".to_owned())?;
    // What was noted before a clock was set back is ahead of it.
    let noted = waiting.is_none_or(|waiting| waiting.since.since_ms(now) <= set_back_ms);
    ensure(noted, || "it waits since the future".to_owned())?;
    ensure(next.at.is_none_or(|at| now.since_ms(at) <= LATE_MS), || "what was foretold is overdue".to_owned())
}

/// Whether the server itself is to do something at once.
fn is_soon(of: &OfBatch, set_back_ms: i64) -> bool {
    let (waiting, next) = (of.explanation.waiting, of.explanation.next);
    if waiting.is_some_and(|waiting| waiting.wait == Wait::Round) {
        // By a clock that was set back, an old report may be younger than the batch, and nobody noted the device.
        return set_back_ms == 0;
    }
    next.what != Foreseen::Nothing && next.at.is_none()
}
