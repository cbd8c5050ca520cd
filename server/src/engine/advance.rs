//! The one door: the only caller of `core::task::step` and of `tasks_apply`.
//!
//! Operators, devices and timers all become events for tasks. A [`Door`] works on sets inside one
//! transaction: it loads the tasks, steps each as often as there are events, and writes the changed rows,
//! the counts and the ends of batches together. What must be sent afterwards comes out as [`Effects`].

mod effects;
mod reach;
mod turn;

pub use effects::{Effects, Unmatched};
pub use reach::Reach;

use crate::app::App;
use crate::device::link::{Asked, Downlink, Package};
use crate::engine::{package, terms};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use updraft_core::firmware::FirmwareStatus;
use updraft_core::history::{self, Line};
use updraft_core::id::{DeviceNo, FirmwareNo, JobNo, TaskNo};
use updraft_core::job::{self, Counts, JobType};
use updraft_core::pace;
use updraft_core::target::Standing;
use updraft_core::task::{Event, PushNeed, Refused, Step, Task, TaskStatus, push_need, step};
use updraft_core::time::Timestamp;
use updraft_store::{Firmware, Job, StoreError, Tx};

/// Why nothing comes of what a device says that has nothing to do.
const NO_TASK: &str = "the device has no task";
/// Why nothing comes of what a device says about another module.
const NO_TASK_OF_MODULE: &str = "the device has tasks, but none for this module";
/// How soon a task is looked at again that waits for the end of a cancellation.
const HOLD_MS: i64 = 1_000;

/// A task in the hands of the door.
struct Held {
    task: Task,
    status_before: TaskStatus,
    revision_before: i64,
}

/// A batch in the hands of the door.
struct Batch {
    job: Job,
    firmware: Firmware,
    package: Option<Arc<Package>>,
    pace_changed: bool,
    /// Whether it had ended and runs again.
    reopened: bool,
}

/// Loads, steps and applies tasks within one transaction.
pub struct Door<'a, 'tx> {
    tx: &'a mut Tx<'tx>,
    app: &'a App,
    now: Timestamp,
    tasks: BTreeMap<TaskNo, Held>,
    by_device: BTreeMap<DeviceNo, BTreeSet<TaskNo>>,
    /// Devices of which all unfinished tasks are in hand.
    whole: BTreeSet<DeviceNo>,
    batches: BTreeMap<JobNo, Batch>,
    /// Devices that were looked for at other nodes, and whether they are there.
    elsewhere: BTreeMap<DeviceNo, bool>,
    /// What is to be remembered of the tasks, in order.
    lines: Vec<Line>,
    effects: Effects,
}

impl<'a, 'tx> Door<'a, 'tx> {
    /// A door for one transaction at `now`.
    pub fn open(tx: &'a mut Tx<'tx>, app: &'a App, now: Timestamp) -> Self {
        Self {
            tx,
            app,
            now,
            tasks: BTreeMap::new(),
            by_device: BTreeMap::new(),
            whole: BTreeSet::new(),
            batches: BTreeMap::new(),
            elsewhere: BTreeMap::new(),
            lines: Vec::new(),
            effects: Effects::default(),
        }
    }

    /// Takes these tasks in hand.
    pub fn load_tasks(&mut self, tasks: &[TaskNo]) -> Result<(), StoreError> {
        let tasks = self.tx.tasks_load(tasks)?;
        self.hold(tasks)
    }

    /// Takes all unfinished tasks of these devices in hand.
    pub fn load_devices(&mut self, devices: &[DeviceNo]) -> Result<(), StoreError> {
        let tasks = self.tx.tasks_open(devices)?;
        self.whole.extend(devices);
        self.hold(tasks)
    }

    /// Takes these tasks in hand, and the unfinished ones of their devices beside them: for who may tell a device.
    pub fn load_tasks_and_beside(&mut self, tasks: &[TaskNo]) -> Result<(), StoreError> {
        self.load_tasks(tasks)?;
        let devices: BTreeSet<DeviceNo> =
            tasks.iter().filter_map(|no| Some(self.tasks.get(no)?.task.device)).collect();
        self.look_elsewhere(devices.iter().copied())?;
        self.make_whole(devices)
    }

    fn hold(&mut self, tasks: Vec<Task>) -> Result<(), StoreError> {
        let missing: BTreeSet<JobNo> =
            tasks.iter().map(|task| task.no.job).filter(|job| !self.batches.contains_key(job)).collect();
        let jobs = self.tx.jobs_load(&missing.into_iter().collect::<Vec<_>>())?;
        let firmwares: BTreeSet<_> = jobs.iter().map(|job| job.firmware).collect();
        let firmwares = self.tx.firmwares_load(&firmwares.into_iter().collect::<Vec<_>>())?;
        for job in jobs {
            let firmware = firmwares.iter().find(|firmware| firmware.no == job.firmware).cloned().ok_or(
                StoreError::Corrupt {
                    place: "job.firmware",
                    detail: format!("no firmware for job {}", job.no),
                },
            )?;
            self.batches
                .insert(job.no, Batch { job, firmware, package: None, pace_changed: false, reopened: false });
        }
        for task in tasks {
            self.by_device.entry(task.device).or_default().insert(task.no);
            let held = Held { status_before: task.status, revision_before: task.revision, task };
            self.tasks.entry(held.task.no).or_insert(held);
        }
        Ok(())
    }

    /// The tasks in hand of a device for one module, oldest first.
    pub fn tasks_of(&self, device: DeviceNo, module: &str) -> Vec<TaskNo> {
        self.by_device
            .get(&device)
            .into_iter()
            .flatten()
            .filter(|task| self.batches.get(&task.job).is_some_and(|batch| batch.firmware.module == module))
            .copied()
            .collect()
    }

    /// The unfinished tasks in hand of a package's batches, or of one of them.
    pub fn tasks_of_firmware(&self, firmware: FirmwareNo, job: Option<JobNo>) -> Vec<TaskNo> {
        let of = |no: &TaskNo| {
            self.batches.get(&no.job).is_some_and(|batch| batch.firmware.no == firmware)
                && job.is_none_or(|job| job == no.job)
        };
        self.tasks.keys().copied().filter(of).collect()
    }

    /// The tasks in hand of a device, oldest first.
    pub fn all_tasks_of(&self, device: DeviceNo) -> Vec<TaskNo> {
        self.by_device.get(&device).into_iter().flatten().copied().collect()
    }

    /// The unfinished tasks in hand of a device, oldest first, as a new batch meets them.
    pub fn open_tasks_of(&self, device: DeviceNo) -> Vec<(TaskNo, Standing<'_>)> {
        let standing = |no: &TaskNo| {
            let status = self.status(*no).filter(|status| status.is_open())?;
            let module = self.batches.get(&no.job)?.firmware.module.as_str();
            Some((*no, Standing { job: no.job, module, status }))
        };
        self.by_device.get(&device).into_iter().flatten().filter_map(standing).collect()
    }

    /// Where a task in hand stands.
    pub fn status(&self, task: TaskNo) -> Option<TaskStatus> {
        self.tasks.get(&task).map(|held| held.task.status)
    }

    /// Applies one event to one task in hand. A refusal is noted and answered as `false`.
    pub fn apply(&mut self, no: TaskNo, event: &Event<'_>) -> Result<bool, StoreError> {
        let (Some(held), Some(batch)) = (self.tasks.get_mut(&no), self.batches.get_mut(&no.job)) else {
            return Ok(false);
        };
        let terms = terms::of(&batch.job, &batch.firmware, no, held.task.status, &self.app.config);
        let outcome = step(&held.task, &terms, event, self.now);
        trace(&held.task, event, &outcome);
        match outcome {
            Ok(Step::Same) => Ok(true),
            Ok(Step::Next(after)) => {
                // A difference that waits to be written must not reach a device that left its source.
                let difference = batch.firmware.differs_from().is_some();
                if after.status == TaskStatus::Canceled || difference && after.status == TaskStatus::Failed {
                    self.effects.withdrawn.push((after.device, no, after.revision));
                }
                if after.due_at() != held.task.due_at() {
                    self.effects.wake = true;
                }
                if after.status.is_open() && batch.job.is_over() {
                    batch.job.status = batch.job.schedule.open_status(self.now);
                    batch.reopened = true;
                }
                let finished = batch.job.schedule.is_finished(self.now);
                self.lines.extend(history::line(&held.task, &after, event, finished, self.now));
                held.task = after;
                Ok(true)
            }
            Err(refused) => {
                self.effects.refused.push((no, refused));
                Ok(false)
            }
        }
    }

    /// Applies an event that an operator asks for to one task in hand: a refusal is the operator's answer.
    pub fn apply_asked(&mut self, no: TaskNo, event: &Event<'_>) -> Result<Result<(), Refused>, StoreError> {
        if self.apply(no, event)? {
            return Ok(Ok(()));
        }
        let missing = || StoreError::Internal(format!("task {no} is not in hand"));
        self.effects.refused.pop().map(|(_, refused)| Err(refused)).ok_or_else(missing)
    }

    /// A task in hand.
    pub fn task(&self, no: TaskNo) -> Option<&Task> {
        self.tasks.get(&no).map(|held| &held.task)
    }

    /// Sends a listening device what it needs of a task: now, or at a slot that is reserved for it. What a device of
    /// another node needs now is due now, and that node sees to it.
    pub fn offer(&mut self, no: TaskNo) -> Result<(), StoreError> {
        let Some(device) = self.task(no).map(|task| task.device) else { return Ok(()) };
        let elsewhere = self.reach(device)? == Reach::Elsewhere;
        let (Some(held), Some(batch)) = (self.tasks.get(&no), self.batches.get_mut(&no.job)) else {
            return Ok(());
        };
        if terms::condition(&batch.job, &batch.firmware).holds_up(held.task.status, batch.job.need_push) {
            // It waits for the end of the cancellation, which does not reach it.
            let slot = reserve(batch, self.now.plus_ms(HOLD_MS));
            return self.apply(no, &Event::Slot(slot)).map(|_| ());
        }
        let terms = terms::of(&batch.job, &batch.firmware, no, held.task.status, &self.app.config);
        let started = terms.started;
        match push_need(&held.task, &terms, self.now) {
            PushNeed::Nothing | PushNeed::WaitForSlot => Ok(()),
            PushNeed::Repeat if elsewhere => self.apply(no, &Event::Hold(self.now)).map(|_| ()),
            PushNeed::Repeat => self.push_in_turn(no),
            PushNeed::Slot(earliest) => {
                // Who waits for its turn takes no slot away from others.
                if started && let Some(until) = self.waits(no)? {
                    return self.apply(no, &Event::Hold(until)).map(|_| ());
                }
                let Some(batch) = self.batches.get_mut(&no.job) else { return Ok(()) };
                let slot = reserve(batch, earliest);
                if started && slot <= self.now && !elsewhere {
                    self.push(no)
                } else {
                    self.apply(no, &Event::Slot(slot)).map(|_| ())
                }
            }
        }
    }

    /// A task's slot, retry, time-out or wait for its turn has come.
    pub fn due(&mut self, no: TaskNo) -> Result<(), StoreError> {
        let Some(task) = self.tasks.get(&no).map(|held| &held.task) else { return Ok(()) };
        let (device, slot, status, hold_until) = (task.device, task.slot_at, task.status, task.hold_until);
        let reach = self.reach(device)?;
        match status {
            TaskStatus::Queued => {
                let started = self.batches.get(&no.job).is_some_and(|batch| {
                    terms::of(&batch.job, &batch.firmware, no, status, &self.app.config).started
                        && !batch.job.slot_is_void(no.ordinal)
                });
                let usable = slot.is_some_and(|slot| pace::is_usable(slot, self.now));
                if reach == Reach::Here && started && usable {
                    return self.push_in_turn(no);
                }
                self.apply(no, &Event::SlotLost)?;
                if reach == Reach::Nowhere { Ok(()) } else { self.offer(no) }
            }
            TaskStatus::Notified | TaskStatus::InProgress => {
                if hold_until.is_some_and(|until| until <= self.now) {
                    self.apply(no, &Event::SlotLost)?;
                }
                self.apply(no, &Event::Timeout)?;
                self.apply(no, &Event::RetryDue)?;
                let waits = self.task(no).is_none_or(|task| task.retry_at.is_some());
                let open = self.status(no).is_some_and(TaskStatus::is_open);
                if open && !waits && reach != Reach::Nowhere { self.offer(no) } else { Ok(()) }
            }
            TaskStatus::Confirm | TaskStatus::Succeeded | TaskStatus::Failed | TaskStatus::Canceled => {
                // Cannot be; but one such row must not hold up all others for ever.
                tracing::error!(task = %no, status = status.name(), "a task had a deadline that it must not have");
                self.tx.task_due_clear(no)
            }
        }
    }

    /// Answers a device's question about a module: the package of its task, or nothing.
    pub fn answer_pull(&mut self, device: DeviceNo, module: &str, asked: &Asked) -> Result<(), StoreError> {
        let open: Vec<TaskNo> = self
            .tasks_of(device, module)
            .into_iter()
            .filter(|no| self.status(*no).is_some_and(TaskStatus::is_open))
            .collect();
        if open.is_empty() {
            // Of a device with nothing to do that is how things are; of another one it is worth a note.
            let remember = !self.open_of(device).is_empty();
            self.in_vain(device, &Event::Pull, module, remember);
        }
        let mut package = None;
        for no in open {
            if package.is_none() && self.apply(no, &Event::Pull)? {
                if self.begins_a_turn(no) {
                    self.apply(no, &Event::Turn)?;
                }
                package = self.package(no).map(|(revision, package, _)| (no, revision, package));
            }
        }
        let downlink = Downlink::PullReply { asked: asked.clone(), package };
        self.effects.downlinks.push((device, downlink));
        Ok(())
    }

    /// Notes that a device said something that belongs to none of its tasks.
    pub fn in_vain(&mut self, device: DeviceNo, event: &Event<'_>, module: &str, remember: bool) {
        let why = if self.open_of(device).is_empty() { NO_TASK } else { NO_TASK_OF_MODULE };
        self.note(Unmatched { device, event: event.name(), why, module: module.to_owned(), remember });
    }

    /// Notes that what a device said comes to nothing.
    pub fn note(&mut self, said: Unmatched) {
        self.effects.unmatched.push(said);
    }

    fn package(&mut self, no: TaskNo) -> Option<(i64, Arc<Package>, DeviceNo)> {
        let held = self.tasks.get(&no)?;
        let batch = self.batches.get_mut(&no.job)?;
        let package = batch
            .package
            .get_or_insert_with(|| Arc::new(package::of(self.app, &batch.firmware, &batch.job, self.now)));
        let package = Arc::clone(package);
        Some((held.task.revision, package, held.task.device))
    }

    /// Takes messages back whose task ended, or whose attempt failed, later in the same group: a device that began
    /// to listen and told the new version in one breath needs no push.
    fn forget_ended(&mut self) {
        let tasks = &self.tasks;
        let open = |no: &TaskNo| {
            tasks.get(no).is_some_and(|held| held.task.status.is_open() && held.task.retry_at.is_none())
        };
        self.effects.downlinks.retain_mut(|(_, downlink)| match downlink {
            Downlink::Push { task, .. } => open(task),
            Downlink::PullReply { package, .. } => {
                if package.as_ref().is_some_and(|(task, _, _)| !open(task)) {
                    *package = None;
                }
                true
            }
            Downlink::Message { .. } => true,
        });
    }

    /// Writes what changed and ends the batches whose last task ended.
    pub fn close(mut self) -> Result<Effects, StoreError> {
        self.pass_turns_on()?;
        self.forget_ended();
        let mut changed = Vec::new();
        let mut counts: BTreeMap<(JobNo, TaskStatus), i64> = BTreeMap::new();
        let mut ended: BTreeSet<JobNo> = BTreeSet::new();
        let mut freed: BTreeSet<DeviceNo> = BTreeSet::new();
        for (no, held) in std::mem::take(&mut self.tasks) {
            if held.task.revision == held.revision_before {
                continue;
            }
            if held.task.status != held.status_before {
                *counts.entry((no.job, held.status_before)).or_default() -= 1;
                *counts.entry((no.job, held.task.status)).or_default() += 1;
                if !held.task.status.is_open() {
                    ended.insert(no.job);
                    freed.insert(held.task.device);
                }
            }
            changed.push((held.revision_before, held.task));
        }
        self.tx.tasks_apply(&changed)?;
        self.tx.counts_add(&counts)?;
        self.tx.task_history_add(&self.lines)?;
        self.tx.task_refusals_add(&self.effects.refusals(self.now))?;
        self.tx.device_refusals_add(&self.effects.device_refusals(self.now))?;
        for batch in self.batches.values().filter(|batch| batch.pace_changed) {
            self.tx.job_pace_set(batch.job.no, batch.job.pace)?;
        }
        for batch in self.batches.values().filter(|batch| batch.reopened) {
            reopen(self.tx, batch, self.now)?;
        }
        let jobs: Vec<&Job> =
            self.batches.values().map(|batch| &batch.job).filter(|job| ended.contains(&job.no)).collect();
        end_jobs(self.tx, &jobs, self.now)?;
        // A dynamic batch may have waited for the device.
        self.effects.wake |= self.tx.reviews_add_for_policies(&freed.into_iter().collect::<Vec<_>>())?;
        Ok(self.effects)
    }
}

/// Says what an event did to a task: for whoever follows one, and for the simulation, which counts it.
fn trace(task: &Task, event: &Event<'_>, outcome: &Result<Step, Refused>) {
    tracing::trace!(
        task = %task.no,
        status = task.status.name(),
        event = event.name(),
        outcome = match outcome {
            Ok(Step::Same) => "same".to_owned(),
            Ok(Step::Next(after)) => format!("-> {}", after.status.name()),
            Err(refused) => format!("refused: {}", refused.why),
        }
    );
}

/// An ended batch in which a task was put back in line runs again, and so does a package's verification.
fn reopen(tx: &mut Tx<'_>, batch: &Batch, now: Timestamp) -> Result<(), StoreError> {
    let job = &batch.job;
    tx.job_open(job.no, job.status, job.schedule.due_at(job.status), now)?;
    if job.job_type == JobType::Verify && batch.firmware.verify_job == Some(job.no) {
        tx.firmware_status_set(job.firmware, FirmwareStatus::Verifying, now)?;
    }
    Ok(())
}

/// Ends those of these running batches that have no open task left, and judges the packages that they verify.
pub fn end_jobs(tx: &mut Tx<'_>, jobs: &[&Job], now: Timestamp) -> Result<(), StoreError> {
    let numbers: Vec<JobNo> =
        jobs.iter().filter(|job| job.expanded && ends_with_its_tasks(job)).map(|job| job.no).collect();
    let all = tx.counts_load(&numbers)?;
    for job in jobs.iter().filter(|job| numbers.contains(&job.no)) {
        let counts = all.get(&job.no).copied().unwrap_or_default();
        let Some(status) = job::ending(&counts, job.schedule.is_finished(now)) else { continue };
        tx.job_end(job.no, status, now)?;
        if job.job_type == JobType::Verify {
            judge(tx, job, &counts, now)?;
        }
        tracing::info!(job.id = job.job_id, tasks = counts.total(), ?status, "a batch ended");
    }
    Ok(())
}

/// Whether the batch runs until its last task ends: a dynamic one waits for more, and is ended by an operator.
fn ends_with_its_tasks(job: &Job) -> bool {
    !job.status.is_ended() && job.conduct.dynamic.is_none()
}

/// The verification of a package is over: its last batch decides.
fn judge(tx: &mut Tx<'_>, job: &Job, counts: &Counts, now: Timestamp) -> Result<(), StoreError> {
    let Some(firmware) = tx.firmwares_load(&[job.firmware])?.pop() else { return Ok(()) };
    if firmware.verify_job != Some(job.no) {
        return Ok(());
    }
    let status = FirmwareStatus::after_verification(counts);
    tx.firmware_status_set(firmware.no, status, now)?;
    // Its dynamic batch may go on.
    match tx.policy_of_firmware(firmware.no)?.filter(|_| status.may_upgrade()) {
        None => Ok(()),
        Some(policy) => {
            let last = tx.device_last(firmware.product)?;
            tx.policy_walk_again(policy.no, last)
        }
    }
}

/// The next free push slot of a batch, from `earliest` on.
fn reserve(batch: &mut Batch, earliest: Timestamp) -> Timestamp {
    match batch.job.per_minute {
        None => earliest,
        Some(per_minute) => {
            batch.pace_changed = true;
            batch.job.pace.reserve(per_minute, earliest)
        }
    }
}
