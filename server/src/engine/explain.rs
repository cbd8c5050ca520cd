//! Why a device is, is not, or will be updated: everything that is known, read in one transaction, in the hands of the
//! functions that decide by it (`core/src/explain.rs`).
//!
//! Nothing is changed here, and a command beside the server runs the same code on the same rows; but who listens is in
//! the memory of the running server alone.

use crate::config::Config;
use crate::engine::{dynamic, expand, terms};
use std::collections::{BTreeMap, BTreeSet};
use updraft_core::dynamic::{Earlier, Reported, followed};
use updraft_core::explain::{
    EndedTask, Explanation, Making, Newcomer, OpenTask, Rule, Seen, ended, newcomer, open,
};
use updraft_core::history::Line;
use updraft_core::id::{DeviceNo, FirmwareNo, GroupNo, JobNo, ProductNo, TaskNo, task_id};
use updraft_core::job::TargetSelection;
use updraft_core::target::Standing;
use updraft_core::task::Task;
use updraft_core::time::Timestamp;
use updraft_store::{
    Device, DeviceRefusals, Firmware, Job, OpenTask as Unfinished, Product, Refusals, StoreError, Tx,
};

/// Batches that are explained at once, if none is named.
pub const BATCHES_MAX: i64 = 20;

/// From where it is looked at a device.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// The settings of the server.
    pub config: &'a Config,
    /// The present.
    pub now: Timestamp,
    /// Whether a push would reach the device now; `None`: only the running server knows.
    pub listening: Option<bool>,
}

/// A device that is asked about.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Its product.
    pub product: Product,
    /// Itself.
    pub device: Device,
    /// When it was deleted, if it is one that was.
    pub deleted_at: Option<Timestamp>,
}

/// What there is to say of a device and a batch.
#[derive(Debug, Clone)]
pub struct OfBatch {
    /// The batch.
    pub job: Job,
    /// Its package.
    pub firmware: Firmware,
    /// The device's last task of it.
    pub task: Option<Task>,
    /// How many tasks of it the device has had.
    pub tasks: usize,
    /// Why they stand as they do.
    pub explanation: Explanation,
    /// What of the task was refused.
    pub refusals: Vec<Refusals>,
}

/// What there is to say of a device.
#[derive(Debug, Clone)]
pub struct OfDevice {
    /// The device.
    pub asked: Asked,
    /// By batch, newest first.
    pub batches: Vec<OfBatch>,
    /// Whether the product has more running batches than are told of.
    pub more: bool,
    /// What the device said that belongs to no task.
    pub refusals: Vec<DeviceRefusals>,
}

/// Explains a device and a batch, or all running batches of its product and those that it has open tasks of.
pub fn explain(
    tx: &mut Tx<'_>,
    view: View<'_>,
    asked: Asked,
    job: Option<Job>,
) -> Result<OfDevice, StoreError> {
    let device = asked.device.no;
    let unfinished = tx.task_list_open(device)?;
    let (jobs, more) = match job {
        Some(job) => (vec![job], false),
        None => all_batches(tx, asked.product.no, &unfinished)?,
    };
    let known = Known::read(tx, &asked, &jobs)?;
    let ids: BTreeMap<JobNo, String> =
        unfinished.iter().map(|open| (open.task.no.job, open.job_id.clone())).collect();
    let open: Vec<Task> = unfinished.iter().map(|open| open.task.clone()).collect();
    let standing: Vec<(TaskNo, Standing<'_>)> = unfinished
        .iter()
        .map(|open| {
            (open.task.no, Standing { job: open.task.no.job, module: &open.module, status: open.task.status })
        })
        .collect();
    let named = |no: TaskNo| ids.get(&no.job).map(|id| task_id(id, no.ordinal)).unwrap_or_default();
    let mut batches = Vec::new();
    for job in jobs {
        let Some(firmware) = known.firmwares.get(&job.firmware).cloned() else { continue };
        let tasks = known.tasks.get(&job.no).map_or(&[][..], Vec::as_slice);
        let task = tasks.iter().find(|task| task.status.is_open()).or(tasks.last()).cloned();
        let (last, refusals) = match &task {
            Some(task) => (tx.task_history_last(task.no)?, tx.task_refusals(task.no)?),
            None => (None, Vec::new()),
        };
        let chosen = if !job.expanded && !job.selecting && job.target_selection == TargetSelection::Gray {
            Some(tx.job_target_exists(job.no, device)?)
        } else {
            None
        };
        let of = Of { known: &known, view, asked: &asked, job: &job, firmware: &firmware };
        let explanation = match &task {
            Some(task) if task.status.is_open() => of.open(task, &open, last.as_ref(), named),
            Some(task) => {
                let ended = of.ended(task, last.as_ref());
                // A dynamic batch may take it in again.
                if job.conduct.dynamic.is_some() {
                    ended.then(of.newcomer(tasks, &standing, chosen, named))
                } else {
                    ended
                }
            }
            None => of.newcomer(tasks, &standing, chosen, named),
        };
        let tasks = tasks.len();
        batches.push(OfBatch { job, firmware, task, tasks, explanation, refusals });
    }
    let refusals = tx.device_refusals(device)?;
    Ok(OfDevice { asked, batches, more, refusals })
}

/// The newest running batches of a product, and those that the device has open tasks of, newest first; and whether
/// there are more.
fn all_batches(
    tx: &mut Tx<'_>,
    product: ProductNo,
    unfinished: &[Unfinished],
) -> Result<(Vec<Job>, bool), StoreError> {
    let running = tx.jobs_running(product, BATCHES_MAX + 1)?;
    let more = running.len() as i64 > BATCHES_MAX;
    let running = running.iter().map(|job| job.no).take(BATCHES_MAX as usize);
    let all: BTreeSet<JobNo> = running.chain(unfinished.iter().map(|open| open.task.no.job)).collect();
    let newest_first: Vec<JobNo> = all.into_iter().rev().collect();
    Ok((tx.jobs_load(&newest_first)?, more))
}

/// The last device of this name that was deleted and has a task of the batch, if the batch is of its product.
pub fn deleted_of_job(
    tx: &mut Tx<'_>,
    job: &Job,
    product_key: &str,
    name: &str,
) -> Result<Option<Asked>, StoreError> {
    let product = tx.product_load(job.product)?.filter(|product| product.product_key == product_key);
    let Some(product) = product else { return Ok(None) };
    let devices = tx.devices_of_job(job.no, product.no, &[name.to_owned()])?;
    let Some(last) = devices.into_iter().max() else { return Ok(None) };
    let found = tx.device_load(last)?;
    Ok(found.map(|(device, deleted_at)| Asked { product, device, deleted_at }))
}

/// What is known of the device, whichever batch is asked about.
struct Known {
    firmwares: BTreeMap<FirmwareNo, Firmware>,
    product_keys: BTreeMap<ProductNo, String>,
    /// By module.
    versions: BTreeMap<String, (String, Timestamp)>,
    groups: BTreeSet<GroupNo>,
    /// Its tasks by batch, in their order.
    tasks: BTreeMap<JobNo, Vec<Task>>,
    rules: Vec<dynamic::Rule>,
    is_noted: bool,
}

impl Known {
    fn read(tx: &mut Tx<'_>, asked: &Asked, jobs: &[Job]) -> Result<Self, StoreError> {
        let device: DeviceNo = asked.device.no;
        let firmwares: BTreeSet<FirmwareNo> = jobs.iter().map(|job| job.firmware).collect();
        let firmwares = tx.firmwares_load(&firmwares.into_iter().collect::<Vec<_>>())?;
        let mut product_keys = BTreeMap::from([(asked.product.no, asked.product.product_key.clone())]);
        for job in jobs {
            if !product_keys.contains_key(&job.product)
                && let Some(product) = tx.product_load(job.product)?
            {
                product_keys.insert(job.product, product.product_key);
            }
        }
        let reported = tx.versions_reported(device)?;
        let groups = tx.groups_of(&[device])?;
        let mut tasks: BTreeMap<JobNo, Vec<Task>> = BTreeMap::new();
        let numbers: Vec<JobNo> = jobs.iter().map(|job| job.no).collect();
        for listed in tx.tasks_of_device(device, &numbers)? {
            tasks.entry(listed.task.no.job).or_default().push(listed.task);
        }
        for tasks in tasks.values_mut() {
            tasks.sort_by_key(|task| task.no);
        }
        let asks = jobs.iter().any(|job| job.conduct.dynamic.is_some());
        let rules = if asks { dynamic::rules(tx, asked.product.no)? } else { Vec::new() };
        Ok(Self {
            firmwares: firmwares.into_iter().map(|firmware| (firmware.no, firmware)).collect(),
            product_keys,
            versions: reported.into_iter().map(|of| (of.module, (of.version, of.at))).collect(),
            groups: groups.into_iter().map(|of| of.group).collect(),
            tasks,
            rules,
            is_noted: tx.review_exists(device)?,
        })
    }
}

/// A batch, and what is known of the device.
struct Of<'a> {
    known: &'a Known,
    view: View<'a>,
    asked: &'a Asked,
    job: &'a Job,
    firmware: &'a Firmware,
}

impl Of<'_> {
    fn seen(&self) -> Seen<'_> {
        let device = &self.asked.device;
        let reported = self.known.versions.get(&self.firmware.module);
        Seen {
            status: device.status,
            status_at: device.status_at,
            created_at: device.created_at,
            deleted_at: self.asked.deleted_at,
            listening: self.view.listening,
            reported: reported.map(|(version, at)| Reported { version, at: *at }),
        }
    }

    fn open(
        &self,
        task: &Task,
        all: &[Task],
        last: Option<&Line>,
        named: impl Fn(TaskNo) -> String,
    ) -> Explanation {
        let Self { job, firmware, view, .. } = self;
        let of = OpenTask {
            task,
            terms: &terms::of(job, firmware, task.no, task.status, view.config),
            condition: terms::condition(job, firmware),
            start: job.schedule.start,
            all,
            turn_ms: terms::turn_ms(view.config),
            slot_is_void: job.slot_is_void(task.no.ordinal),
            last,
            device: &self.seen(),
        };
        open(&of, named, view.now)
    }

    fn ended(&self, task: &Task, last: Option<&Line>) -> Explanation {
        let terms = &terms::of(self.job, self.firmware, task.no, task.status, self.view.config);
        ended(&EndedTask { task, terms, last, device: &self.seen() }, self.view.now)
    }

    fn newcomer(
        &self,
        tasks: &[Task],
        standing: &[(TaskNo, Standing<'_>)],
        chosen: Option<bool>,
        named: impl Fn(TaskNo) -> String,
    ) -> Explanation {
        let Self { known, asked, job, firmware, .. } = self;
        let seen = self.seen();
        let earlier: Vec<Earlier> =
            tasks.iter().map(|task| Earlier { status: task.status, changed_at: task.modified_at }).collect();
        let rules: Vec<_> =
            known.rules.iter().filter(|rule| rule.firmware.module == firmware.module).collect();
        let follows = followed(
            rules.iter().map(|rule| dynamic::policy(&rule.job, &rule.firmware)),
            seen.reported,
            |group| known.groups.contains(&group),
        );
        let follows = follows.and_then(|place| rules.get(place));
        let rule = job.conduct.dynamic.map(|_| Rule {
            policy: dynamic::policy(job, firmware),
            stands: job.policy,
            follows: follows.map(|rule| rule.job.job_id.as_str()),
            is_followed: follows.is_some_and(|rule| rule.job.no == job.no),
            may_upgrade: firmware.status.may_upgrade(),
            earlier: &earlier,
            is_noted: known.is_noted,
        });
        let key = |product| known.product_keys.get(&product).map_or("", String::as_str);
        let of = Newcomer {
            no: asked.device.no,
            device: &seen,
            product_key: &asked.product.product_key,
            wanted_product_key: key(job.product),
            made_at: job.created_at,
            condition: terms::condition(job, firmware),
            demand: expand::demand(job, firmware),
            selection: job.target_selection,
            making: Making {
                selecting: job.selecting,
                done: job.expanded,
                after: job.expand_after,
                upto: job.expand_upto,
            },
            chosen,
            is_member: job.conduct.group.is_some_and(|group| known.groups.contains(&group)),
            standing,
            rule,
        };
        newcomer(&of, named)
    }
}
