//! What a transaction of the door leaves to be done after its commit.

use crate::app::App;
use crate::device::link::{DeviceLink, Downlink};
use std::collections::BTreeMap;
use updraft_core::id::{DeviceNo, TaskNo};
use updraft_core::task::Refused;
use updraft_core::time::Timestamp;
use updraft_store::{DeviceRefusals, Refusals};

/// Refusals that are remembered as told.
const REFUSALS_REMEMBERED: usize = 10_000;

/// Something that a device said and that belongs to no task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unmatched {
    /// Who said it.
    pub device: DeviceNo,
    /// What it said, as events are called.
    pub event: &'static str,
    /// Why nothing came of it.
    pub why: &'static str,
    /// The module that it was about.
    pub module: String,
    /// Whether that is remembered of the device: not if it is how things are for most devices at most times.
    pub remember: bool,
}

/// What is to be done after the commit.
#[derive(Debug, Default)]
pub struct Effects {
    /// To be sent, in order.
    pub downlinks: Vec<(DeviceNo, Downlink)>,
    /// What was decided for these tasks before these revisions, and not written yet, is void.
    pub withdrawn: Vec<(DeviceNo, TaskNo, i64)>,
    /// They may not be connected: what the transaction changed says so, or what it found.
    pub kicked: Vec<DeviceNo>,
    /// They may not be logged in through the gateway that they were behind.
    pub logged_out: Vec<DeviceNo>,
    /// Events that a task's state forbade.
    pub refused: Vec<(TaskNo, Refused)>,
    /// What devices said that belongs to no task.
    pub unmatched: Vec<Unmatched>,
    /// Whether the engine has something new to look at.
    pub wake: bool,
    /// Whether something was left for another node.
    pub mailed: bool,
}

impl Effects {
    /// Adds what another part of the same transaction decided.
    pub fn add(&mut self, other: Self) {
        self.downlinks.extend(other.downlinks);
        self.withdrawn.extend(other.withdrawn);
        self.kicked.extend(other.kicked);
        self.logged_out.extend(other.logged_out);
        self.refused.extend(other.refused);
        self.unmatched.extend(other.unmatched);
        self.wake |= other.wake;
        self.mailed |= other.mailed;
    }

    /// The devices that are told of a package.
    pub fn told(&self) -> impl Iterator<Item = DeviceNo> {
        let push = |(device, downlink): &(DeviceNo, Downlink)| {
            matches!(downlink, Downlink::Push { .. }).then_some(*device)
        };
        self.downlinks.iter().filter_map(push)
    }

    /// Sends and withdraws. Called right after the commit, in commit order; must not block.
    pub fn perform(&self, link: &dyn DeviceLink) {
        for device in &self.kicked {
            link.kick(*device);
        }
        for device in &self.logged_out {
            link.log_out(*device);
        }
        for (device, task, revision) in &self.withdrawn {
            link.withdraw(*device, *task, *revision);
        }
        for (device, downlink) in &self.downlinks {
            link.send(*device, downlink.clone());
        }
    }

    /// The refusals to remember, each kind of a task once.
    pub fn refusals(&self, now: Timestamp) -> Vec<Refusals> {
        let mut counts: BTreeMap<(TaskNo, &str, &str), i64> = BTreeMap::new();
        for (task, refused) in &self.refused {
            *counts.entry((*task, refused.event, refused.why)).or_default() += 1;
        }
        let row = |((task, event, why), count): ((TaskNo, &str, &str), i64)| {
            let (event, why) = (event.to_owned(), why.to_owned());
            Refusals { task, event, why, count, first_at: now, last_at: now }
        };
        counts.into_iter().map(row).collect()
    }

    /// What devices said in vain, each kind of a device once.
    pub fn device_refusals(&self, now: Timestamp) -> Vec<DeviceRefusals> {
        let mut kinds: BTreeMap<(DeviceNo, &str, &str), DeviceRefusals> = BTreeMap::new();
        for said in self.unmatched.iter().filter(|said| said.remember) {
            let Unmatched { device, event, why, .. } = *said;
            let row = kinds.entry((device, event, why)).or_insert_with(|| DeviceRefusals {
                device,
                event: event.to_owned(),
                why: why.to_owned(),
                module: String::new(),
                count: 0,
                first_at: now,
                last_at: now,
            });
            row.count += 1;
            row.module.clone_from(&said.module);
        }
        kinds.into_values().collect()
    }

    /// Counts refusals, and logs each kind once per task: a fleet that repeats itself must not fill the log.
    pub fn report(&self, app: &App) {
        for said in &self.unmatched {
            metrics::counter!("updraft_task_events_refused_total", "event" => said.event, "why" => said.why)
                .increment(1);
        }
        for (task, refused) in &self.refused {
            metrics::counter!("updraft_task_events_refused_total", "event" => refused.event, "why" => refused.why)
                .increment(1);
            let mut told = app.refusals_told.lock();
            if told.len() >= REFUSALS_REMEMBERED {
                told.clear();
            }
            if told.insert((*task, refused.event)) {
                drop(told);
                tracing::info!(
                    task = %task,
                    status = refused.status.name(),
                    event = refused.event,
                    why = refused.why,
                    "an event was refused; more of its kind for this task are not told"
                );
            }
        }
    }
}
