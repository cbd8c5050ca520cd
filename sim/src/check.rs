//! What must hold after every step, whatever goes wrong.
//!
//! The checker remembers every task and batch as it last saw them, so it knows not only states but moves.

mod batches;
mod moves;

use self::batches::firmware_fits;
use crate::invariant::Invariant;
use crate::shot::{Camera, JobShot, Shelf, Shot};
use crate::stats::Stats;
use crate::takeover;
use crate::turns::Turns;
use crate::{Violation, ensure};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use updraft_core::id::{DeviceNo, FirmwareNo, JobNo, TaskNo};
use updraft_core::task::{Task, TaskStatus};
use updraft_core::time::{MINUTE_MS, SECOND_MS, Timestamp};
use updraft_server::device::link::{DeviceEvent, Downlink, Happened};
use updraft_store::{Firmware, Job};

/// Tasks of ended batches are looked at again each so many rounds only: it is they that must not change.
const THOROUGH_EVERY: u64 = 16;

#[cfg(test)]
thread_local! {
    /// Whether no task may ever fail: a wrong check, to try what is done about a broken world.
    pub(crate) static PLANTED: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// The memory of the checks.
#[derive(Default)]
pub(crate) struct Checker {
    tasks: BTreeMap<TaskNo, Task>,
    jobs: BTreeMap<JobNo, Job>,
    /// First pushes of the last minute, by batch.
    pushes: BTreeMap<JobNo, VecDeque<Timestamp>>,
    /// Where the tasks that the last step changed stood before it, and how often they had been repeated.
    before: BTreeMap<TaskNo, (TaskStatus, i64)>,
    /// Packages that may be rolled out.
    ready: BTreeSet<FirmwareNo>,
    /// Packages that are deleted.
    gone: BTreeSet<FirmwareNo>,
    /// The module of each package, and whether it is a difference.
    kinds: BTreeMap<FirmwareNo, (String, bool)>,
    /// Tasks that the operator asks for in this step: to be confirmed, or put back in line.
    asked: BTreeSet<TaskNo>,
    /// Which of a device's modules it was told of when.
    turns: Turns,
    /// Packages at the last look.
    shelf: Shelf,
    rounds: u64,
    /// The latest time that the server's clock has shown.
    latest: Timestamp,
    /// Rows that had been written at the last look.
    written: Option<u64>,
}

impl Checker {
    /// The batches.
    pub(crate) fn jobs(&self) -> impl Iterator<Item = &Job> {
        self.jobs.values()
    }

    /// A batch.
    pub(crate) fn job(&self, no: JobNo) -> Option<&Job> {
        self.jobs.get(&no)
    }

    /// A batch's package.
    pub(crate) fn firmware(&self, job: JobNo) -> Option<&Firmware> {
        let job = self.jobs.get(&job)?;
        self.shelf.firmwares.iter().find(|firmware| firmware.no == job.firmware)
    }

    /// The tasks that the last step brought into another state.
    pub(crate) fn changed(&self) -> impl Iterator<Item = &Task> {
        let before = |task: &&Task| self.before.get(&task.no).is_some_and(|(was, _)| *was != task.status);
        self.before.keys().filter_map(|no| self.tasks.get(no)).filter(before)
    }

    /// The batch with this id on the wire.
    pub(crate) fn job_named(&self, id: &str) -> Result<JobNo, Violation> {
        let found = self.jobs.values().find(|job| job.job_id == id);
        found.map(|job| job.no).ok_or_else(|| Violation(format!("batch {id} was made but is not there")))
    }

    /// The module that a task's package is for.
    pub(crate) fn module(&self, task: TaskNo) -> &str {
        self.kind(task).map_or("", |(module, _)| module)
    }

    /// Whether a package may be rolled out.
    pub(crate) fn is_ready(&self, firmware: FirmwareNo) -> bool {
        self.ready.contains(&firmware)
    }

    /// Whether a package is deleted.
    pub(crate) fn is_gone(&self, firmware: FirmwareNo) -> bool {
        self.gone.contains(&firmware)
    }

    /// The operator asks for these tasks in the next step.
    pub(crate) fn expect(&mut self, tasks: impl IntoIterator<Item = TaskNo>) {
        self.asked.extend(tasks);
    }

    /// The tasks.
    pub(crate) fn tasks(&self) -> impl Iterator<Item = &Task> {
        self.tasks.values()
    }

    /// Whether this round looks at everything.
    pub(crate) fn is_thorough(&self) -> bool {
        self.rounds.is_multiple_of(THOROUGH_EVERY)
    }

    /// The server's clock was set ahead: minutes by its measure are over that were none.
    pub(crate) fn clock_set_ahead(&mut self) {
        self.pushes.clear();
    }

    /// Lets the next round look at everything.
    pub(crate) fn be_thorough(&mut self) {
        self.rounds = self.rounds.next_multiple_of(THOROUGH_EVERY).wrapping_sub(1);
    }

    /// Begins a round of checks after a step that decided to send this; answers whether there is anything to look at,
    /// if so many rows were written so far.
    pub(crate) fn begin(&mut self, decided: &[(DeviceNo, Downlink)], written: Option<u64>) -> bool {
        self.rounds = self.rounds.wrapping_add(1);
        self.before.clear();
        let same = written.is_some() && self.written == written;
        self.written = written;
        let looks = !same || !decided.is_empty() || self.is_thorough();
        if !looks {
            self.asked.clear();
        }
        looks
    }

    /// What the next [`Checker::check`] wants to see, after a step that decided to send this.
    pub(crate) fn shot(&self, decided: &[(DeviceNo, Downlink)]) -> Camera {
        let asked = |job: &Job| self.asked.iter().any(|task| task.job == job.no);
        let ended = |job: &&Job| job.is_over() && !self.is_thorough() && !asked(job);
        let settled = self.jobs.values().filter(ended).map(|job| job.no).collect();
        let told = decided.iter().filter_map(|(device, downlink)| match downlink {
            Downlink::Push { task, .. } | Downlink::PullReply { package: Some((task, ..)), .. } => {
                Some((*device, *task))
            }
            Downlink::PullReply { package: None, .. } | Downlink::Message { .. } => None,
        });
        let shelf = if self.is_thorough() { None } else { Some(self.shelf.clone()) };
        Camera { settled, told: told.collect(), shelf }
    }

    /// The tasks whose rows are to be read: those that changed, or all.
    pub(crate) fn wanted(&self, shot: &Shot) -> Vec<TaskNo> {
        let mut wanted = Vec::new();
        for JobShot { job, rows, .. } in &shot.jobs {
            for mark in rows.iter().flatten() {
                let no = TaskNo { job: job.no, ordinal: mark.ordinal };
                let known = self.tasks.get(&no).map(|task| (task.status, task.revision));
                if self.is_thorough() || known != Some((mark.status, mark.revision)) {
                    wanted.push(no);
                }
            }
        }
        wanted
    }

    /// Checks the database after a step that decided to send this at `now` by the server's clock, which is `truly` by
    /// the world's; answers what changed, in words.
    pub(crate) fn check(
        &mut self,
        shot: Shot,
        decided: &[(DeviceNo, Downlink)],
        now: Timestamp,
        truly: Timestamp,
        stats: &mut Stats,
    ) -> Result<Vec<String>, Violation> {
        let mut lines = Vec::new();
        self.latest = self.latest.max(now);
        let seen: BTreeMap<TaskNo, &Task> = shot.tasks.iter().map(|task| (task.no, task)).collect();
        let mut looked = |invariant, times| stats.looked(invariant, times);
        looked(Invariant::Allowed, decided.len());
        let sent = self.sent_is_open(decided, &seen, &shot, now)?;
        looked(Invariant::Counts, shot.jobs.iter().filter(|of| of.rows.is_some()).count());
        looked(Invariant::BatchEnds, shot.jobs.len());
        looked(Invariant::Forward, seen.len());
        looked(Invariant::Timeouts, seen.len());
        for of in &shot.jobs {
            let gone = shot.firmware(of.job.no).is_some_and(|firmware| firmware.deleted_at.is_some());
            self.job_fits(of, gone, &seen)?;
        }
        for task in &shot.tasks {
            let of = shot.jobs.iter().find(|of| of.job.no == task.no.job);
            let of = of.ok_or_else(|| Violation(format!("task {} has no batch", task.no)))?;
            lines.extend(self.task_moves_forward(task, &of.job, sent.contains_key(&task.no), now)?);
        }
        looked(Invariant::Pace, sent.len());
        self.pace_is_kept(&sent, &shot, truly)?;
        looked(Invariant::Turns, sent.len());
        self.turns.check(decided, &self.tasks, &seen, now)?;
        let step = takeover::Step {
            before: &self.tasks,
            after: &seen,
            jobs: shot.jobs.iter().map(|of| (of.job.no, &of.job)).collect(),
            modules: shot.shelf.firmwares.iter().map(|of| (of.no, of.module.as_str())).collect(),
        };
        looked(Invariant::Takeover, seen.len());
        step.check()?;
        looked(Invariant::Verified, shot.shelf.firmwares.len());
        for firmware in shot.shelf.firmwares.iter() {
            firmware_fits(firmware, &shot.jobs)?;
        }
        let (gone, there): (Vec<_>, Vec<_>) =
            shot.shelf.firmwares.iter().partition(|firmware| firmware.deleted_at.is_some());
        self.gone = gone.into_iter().map(|firmware| firmware.no).collect();
        let ready = there.into_iter().filter(|firmware| firmware.status.may_upgrade());
        self.ready = ready.map(|firmware| firmware.no).collect();
        let kind = |of: &Firmware| (of.no, (of.module.clone(), of.differs_from().is_some()));
        self.kinds = shot.shelf.firmwares.iter().map(kind).collect();
        self.shelf = shot.shelf;
        for JobShot { job, .. } in shot.jobs {
            let before = self.jobs.get(&job.no).map(|job| job.status);
            if before != Some(job.status) {
                lines.push(format!("batch {} is {:?} with {} tasks", job.no, job.status, job.task_count));
            }
            self.jobs.insert(job.no, job);
        }
        if !shot.tasks.is_empty() {
            self.tasks.extend(shot.tasks.into_iter().map(|task| (task.no, task)));
            looked(Invariant::OneOpenTask, self.tasks.len());
            self.open_tasks_get_along()?;
        }
        self.asked.clear();
        #[cfg(test)]
        {
            let failed = self.tasks.values().find(|task| task.status == TaskStatus::Failed);
            ensure(!PLANTED.get() || failed.is_none(), || {
                format!("task {:?} failed", failed.map(|task| task.no))
            })?;
        }
        Ok(lines)
    }

    /// A push or answer is for a task that was open before the step, and allowed; answers which tasks were
    /// sent, and whether it was a push.
    fn sent_is_open(
        &self,
        decided: &[(DeviceNo, Downlink)],
        seen: &BTreeMap<TaskNo, &Task>,
        shot: &Shot,
        now: Timestamp,
    ) -> Result<BTreeMap<TaskNo, bool>, Violation> {
        let mut sent = BTreeMap::new();
        for (device, downlink) in decided {
            let (no, revision, package, push) = match downlink {
                Downlink::Push { task, revision, package, .. } => (*task, *revision, package, true),
                Downlink::PullReply { package: Some((task, revision, package)), .. } => {
                    (*task, *revision, package, false)
                }
                Downlink::PullReply { package: None, .. } | Downlink::Message { .. } => continue,
            };
            let what = if push { "pushed" } else { "answered" };
            let wrong = |why: &str| Violation(format!("task {no} was {what} {why}"));
            let before = self.tasks.get(&no).map_or(TaskStatus::Queued, |task| task.status);
            let asked = self.asked.contains(&no);
            ensure(before.is_open() && before != TaskStatus::Confirm || asked, || {
                format!("task {no} was {what} as {before:?}")
            })?;
            let waits = self.tasks.get(&no).and_then(|task| task.retry_at).is_some_and(|at| at > now);
            ensure(!waits, || wrong("before its next attempt").0)?;
            let after = seen.get(&no).copied().or_else(|| self.tasks.get(&no));
            let after = after.ok_or_else(|| wrong("but does not exist"))?;
            ensure(after.device == *device, || wrong("to another device").0)?;
            // A round that chooses the devices of a share serves others meanwhile, and may replace what it just pushed;
            // `may_be_written` looks whether that is taken back.
            let replaced = after.status == TaskStatus::Canceled && after.revision > revision;
            let fits =
                after.status >= TaskStatus::Notified && after.status != TaskStatus::Canceled || replaced;
            ensure(fits, || format!("task {no} was {what} and is {:?}", after.status))?;
            let of =
                shot.jobs.iter().find(|of| of.job.no == no.job).ok_or_else(|| wrong("without a batch"))?;
            let firmware = shot.firmware(no.job).ok_or_else(|| wrong("without a package"))?;
            ensure(firmware.dest_version == package.version, || wrong("with another version").0)?;
            ensure(firmware.deleted_at.is_none(), || wrong("although its package is deleted").0)?;
            // What was decided for a task that the same step ended is not written; see `may_be_written`.
            let runs = shot.versions.get(&no).and_then(Option::as_deref);
            let fits = firmware.differs_from().is_none_or(|source| runs == Some(source));
            ensure(fits || !after.status.is_open(), || wrong(&format!("as a difference from {runs:?}")).0)?;
            let schedule = of.job.schedule;
            // A batch that has started goes on when the clock is set back.
            let started = schedule.start.is_none_or(|start| start <= self.latest);
            ensure(started, || wrong("before its batch's time").0)?;
            // The decision is a moment older than the look at it.
            let over = schedule.is_finished(now.plus_ms(-SECOND_MS));
            let begun = matches!(before, TaskStatus::Notified | TaskStatus::InProgress);
            ensure(begun || !over, || wrong("after its batch's time").0)?;
            if push {
                ensure(of.job.need_push, || wrong("although the device is to ask").0)?;
                let canceling = self.jobs.get(&no.job).is_some_and(|job| job.cancel.reaches(before));
                ensure(!canceling, || wrong("although its cancellation is stored").0)?;
            }
            *sent.entry(no).or_insert(push) |= push;
        }
        Ok(sent)
    }

    /// In no minute more first pushes than the batch allows.
    fn pace_is_kept(
        &mut self,
        sent: &BTreeMap<TaskNo, bool>,
        shot: &Shot,
        now: Timestamp,
    ) -> Result<(), Violation> {
        for (no, push) in sent {
            let told = |task: &Task| matches!(task.status, TaskStatus::Notified | TaskStatus::InProgress);
            let first = !self.tasks.get(no).is_some_and(told);
            if *push && first {
                self.pushes.entry(no.job).or_default().push_back(now);
            }
        }
        for (job, pushes) in &mut self.pushes {
            let rate = |job: Option<&Job>| job.and_then(|job| job.per_minute);
            let limit = rate(shot.jobs.iter().find(|of| of.job.no == *job).map(|of| &of.job));
            // Another rate holds from its change on.
            if rate(self.jobs.get(job)) != limit {
                pushes.clear();
            }
            while pushes.front().is_some_and(|at| now.since_ms(*at) >= MINUTE_MS) {
                pushes.pop_front();
            }
            ensure(limit.is_none_or(|limit| pushes.len() as i64 <= limit), || {
                format!("batch {job}: {} first pushes within a minute, {limit:?} allowed", pushes.len())
            })?;
        }
        Ok(())
    }

    /// A device has one open task at most, but batches with MultiModuleMode may have one more for each module.
    fn open_tasks_get_along(&self) -> Result<(), Violation> {
        let mut of_module: BTreeMap<(DeviceNo, &str), TaskNo> = BTreeMap::new();
        let mut alone: BTreeMap<DeviceNo, TaskNo> = BTreeMap::new();
        for task in self.tasks.values().filter(|task| task.status.is_open()) {
            let Some(job) = self.jobs.get(&task.no.job) else { continue };
            let module = self.module(task.no);
            let two = |other: TaskNo| {
                Violation(format!("device {} has two open tasks: {} and {other}", task.device, task.no))
            };
            if let Some(other) = of_module.insert((task.device, module), task.no) {
                return Err(two(other));
            }
            let other = if job.conduct.multi_module { None } else { alone.insert(task.device, task.no) };
            if let Some(other) = other {
                return Err(two(other));
            }
        }
        Ok(())
    }

    /// The only message of a device in a group, about a task that it was told of, must show in that task.
    pub(crate) fn progress_is_stored(&self, events: &[Happened]) -> Result<(), Violation> {
        for Happened { device, event } in events {
            if events.iter().filter(|other| other.device == *device).count() > 1 {
                continue;
            }
            let before =
                |task: &Task| self.before.get(&task.no).copied().unwrap_or((task.status, task.retries));
            let (DeviceEvent::Progress { module, .. } | DeviceEvent::Failure { module, .. }) = event else {
                continue;
            };
            let told = |task: &&Task| {
                let (before, _) = before(task);
                task.device == *device
                    && matches!(before, TaskStatus::Notified | TaskStatus::InProgress)
                    && self.module(task.no) == module
            };
            let Some(task) = self.tasks.values().find(told) else { continue };
            let stored = match event {
                DeviceEvent::Progress { percent, .. } => {
                    task.status == TaskStatus::InProgress && task.progress == *percent
                }
                DeviceEvent::Failure { .. } => {
                    // It failed, is to be repeated now, or was to be repeated before.
                    let waits = task.retry_at.is_some();
                    task.status == TaskStatus::Failed || waits || task.retries > before(task).1
                }
                _ => true,
            };
            ensure(stored, || format!("{event:?} is acknowledged, but the task is {task:?}"))?;
        }
        Ok(())
    }

    /// The module of a task's package, and whether that is a difference.
    fn kind(&self, task: TaskNo) -> Option<(&str, bool)> {
        let (module, difference) = self.kinds.get(&self.jobs.get(&task.job)?.firmware)?;
        Some((module, *difference))
    }

    /// What goes to the network now is for no cancelled task, and a difference for none that failed.
    pub(crate) fn may_be_written(&self, downlink: &Downlink) -> Result<(), Violation> {
        let (no, revision) = match downlink {
            Downlink::Push { task, revision, .. }
            | Downlink::PullReply { package: Some((task, revision, _)), .. } => (*task, *revision),
            Downlink::PullReply { package: None, .. } | Downlink::Message { .. } => return Ok(()),
        };
        let task = self.tasks.get(&no).ok_or_else(|| Violation(format!("task {no} is sent but unknown")))?;
        ensure(task.status != TaskStatus::Canceled, || {
            format!("task {no} is sent with revision {revision}, but was cancelled with {}", task.revision)
        })?;
        let difference = self.kind(no).is_some_and(|(_, difference)| difference);
        ensure(!difference || task.status != TaskStatus::Failed, || {
            format!(
                "task {no} is sent a difference with revision {revision}, but failed with {}",
                task.revision
            )
        })
    }
}
