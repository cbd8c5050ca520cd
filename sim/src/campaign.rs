//! Many worlds, some at a time: each is a thing of its own, so threads share nothing but the next seed.

use crate::stats::Stats;
use crate::{Failure, Report, run};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

/// Which worlds to live.
#[derive(Debug, Clone)]
pub struct Campaign {
    /// Their seeds.
    pub seeds: Range<u64>,
    /// Steps of trouble of each.
    pub steps: u64,
    /// How many at a time.
    pub jobs: usize,
}

impl Campaign {
    /// Lives them all, and counts what those that held saw; tells `each` of every one, as they end.
    pub fn live(&self, mut each: impl FnMut(Result<&Report, &Failure>)) -> (Stats, Vec<u64>) {
        let (mut stats, mut broken) = (Stats::default(), Vec::new());
        let next = AtomicU64::new(self.seeds.start);
        let (tell, told) = mpsc::channel();
        std::thread::scope(|scope| {
            for _ in 0..self.jobs.max(1) {
                let (tell, next) = (tell.clone(), &next);
                scope.spawn(move || {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if !self.seeds.contains(&seed) || tell.send(run(seed, self.steps)).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(tell);
            for lived in told {
                match lived {
                    Ok(report) => {
                        each(Ok(&report));
                        stats.merge(report.stats);
                    }
                    Err(failure) => {
                        each(Err(&failure));
                        broken.push(failure.seed);
                    }
                }
            }
        });
        broken.sort_unstable();
        (stats, broken)
    }
}
