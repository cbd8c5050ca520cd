//! Whether a device is told of one module at a time: what core decides, told again here from what was sent.

use crate::{Violation, ensure};
use std::collections::{BTreeMap, BTreeSet};
use updraft_core::id::{DeviceNo, TaskNo};
use updraft_core::task::{Task, TaskStatus};
use updraft_core::time::{MINUTE_MS, SECOND_MS, Timestamp};
use updraft_server::device::link::Downlink;

/// `module_turn_minutes` of the simulated server.
pub(crate) const TURN_MINUTES: i64 = 10;
const TURN_MS: i64 = TURN_MINUTES * MINUTE_MS;
/// How far the moment of the decision may be from that of the look at it.
const LATE_MS: i64 = 2 * SECOND_MS;

/// When devices were told of what.
#[derive(Default)]
pub(crate) struct Turns {
    began: BTreeMap<TaskNo, Timestamp>,
    /// Those that were sent again so close to the end of their turn that another one may have begun or not.
    unsure: BTreeSet<TaskNo>,
}

impl Turns {
    /// Checks what a step decided to send. The tasks are those before it and those that it may have changed.
    pub(crate) fn check(
        &mut self,
        decided: &[(DeviceNo, Downlink)],
        before: &BTreeMap<TaskNo, Task>,
        after: &BTreeMap<TaskNo, &Task>,
        now: Timestamp,
    ) -> Result<(), Violation> {
        let mut pushed: Vec<(DeviceNo, TaskNo)> = Vec::new();
        let mut answered = BTreeSet::new();
        for (device, downlink) in decided {
            match downlink {
                Downlink::Push { task, .. } => pushed.push((*device, *task)),
                Downlink::PullReply { package: Some((task, ..)), .. } => {
                    answered.insert(*task);
                }
                Downlink::PullReply { package: None, .. } | Downlink::Message { .. } => {}
            }
        }
        let open = |of: DeviceNo| {
            let now = before.values().map(|was| after.get(&was.no).copied().unwrap_or(was));
            let new = after.values().copied().filter(|task| !before.contains_key(&task.no));
            now.chain(new).filter(move |task| task.device == of && task.status.is_open())
        };
        for (device, no) in &pushed {
            for other in open(*device).filter(|other| other.no != *no && !answered.contains(&other.no)) {
                // What the same step made of it came after the push, for all that is known here.
                let Some(was) = before.get(&other.no) else { continue };
                let both = pushed.contains(&(*device, other.no)) && other.retry_at.is_none();
                ensure(!both, || format!("device {device} was pushed {no} and {} at once", other.no))?;
                let own = before.get(no);
                let works = |task: &Task| {
                    task.status == TaskStatus::InProgress && task.working && task.retry_at.is_none()
                };
                let behind = !own.is_some_and(works) || *no > other.no;
                ensure(!(works(was) && works(other) && behind), || {
                    format!("device {device} was pushed {no} while it works on {}", other.no)
                })?;
                let told = |task: &Task| {
                    matches!(task.status, TaskStatus::Notified | TaskStatus::InProgress)
                        && task.retry_at.is_none()
                };
                let ahead = self.has_turn(other.no, now)
                    && self.began.get(&other.no) > self.began.get(no)
                    && [no, &other.no].iter().all(|of| !self.unsure.contains(of));
                ensure(!(told(was) && told(other) && ahead && !own.is_some_and(works)), || {
                    format!("device {device} was pushed {no} while it is the turn of {}", other.no)
                })?;
            }
        }
        for no in pushed.iter().map(|(_, no)| *no).chain(answered) {
            let Some(task) = after.get(&no).copied().or_else(|| before.get(&no)) else { continue };
            let first = before.get(&no).is_none_or(|was| was.status < TaskStatus::Notified);
            let alone = open(task.device).count() < 2;
            let waited = before.get(&no).is_some_and(|was| was.hold_until.is_some());
            if first || !alone && (waited || !self.has_turn(no, now)) {
                let ended = self.began.insert(no, now).is_none_or(|at| now.since_ms(at) >= TURN_MS + LATE_MS);
                if first || waited || ended {
                    self.unsure.remove(&no)
                } else {
                    self.unsure.insert(no)
                };
            }
        }
        Ok(())
    }

    fn has_turn(&self, no: TaskNo, now: Timestamp) -> bool {
        self.began.get(&no).is_some_and(|at| now.since_ms(*at) < TURN_MS - LATE_MS)
    }
}
