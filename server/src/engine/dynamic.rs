//! Carries dynamic batches out: which devices they take in now.
//!
//! The answer follows from what is stored (`core/src/dynamic.rs`), whoever asks: the review of a device that changed,
//! or the walk of a batch over the devices that it may be for. Asking twice does no harm.

use crate::app::App;
use crate::engine::advance::Effects;
use crate::engine::expand;
use std::collections::{BTreeMap, BTreeSet};
use updraft_core::dynamic::{self, Earlier, Policy, Reported};
use updraft_core::id::{DeviceNo, GroupNo, JobNo, ProductNo};
use updraft_core::target;
use updraft_core::time::Timestamp;
use updraft_store::{Candidate, Firmware, Job, StoreError, Tx};

/// A running dynamic batch.
pub struct Rule {
    /// The batch.
    pub job: Job,
    /// Its package.
    pub firmware: Firmware,
}

impl Rule {
    fn policy(&self) -> Policy<'_> {
        policy(&self.job, &self.firmware)
    }
}

/// What a dynamic batch asks of devices.
pub fn policy<'a>(job: &'a Job, firmware: &'a Firmware) -> Policy<'a> {
    Policy {
        job: job.no,
        conduct: job.conduct,
        since: job.created_at,
        src_versions: firmware.sources(job),
        dest_version: &firmware.dest_version,
    }
}

/// A device, and when it last reported its version.
type Seen = (Candidate, Option<Timestamp>);

/// What a device reported.
fn reported(seen: &Seen) -> Option<Reported<'_>> {
    seen.0.version.as_deref().zip(seen.1).map(|(version, at)| Reported { version, at })
}

/// Gives each of these devices the tasks that the running dynamic batches have for it now.
pub fn take_in(
    tx: &mut Tx<'_>,
    app: &App,
    devices: &[DeviceNo],
    now: Timestamp,
) -> Result<Effects, StoreError> {
    let mut by_product: BTreeMap<ProductNo, Vec<DeviceNo>> = BTreeMap::new();
    for (product, device) in tx.products_of(devices)? {
        by_product.entry(product).or_default().push(device);
    }
    let mut effects = Effects::default();
    for (product, devices) in by_product {
        let rules = rules(tx, product)?;
        let mut chosen = choose(tx, &rules, &devices)?;
        // The newest first: what it makes its devices busy with is not for the older ones to undo.
        for mut rule in rules {
            let Some(candidates) = chosen.remove(&rule.job.no) else { continue };
            effects.add(expand::take_in(tx, app, &mut rule.job, &rule.firmware, &candidates, now)?);
        }
    }
    Ok(effects)
}

/// The running dynamic batches of a product, newest first.
pub fn rules(tx: &mut Tx<'_>, product: ProductNo) -> Result<Vec<Rule>, StoreError> {
    let jobs = tx.policies_of_product(product)?;
    let packages: BTreeSet<_> = jobs.iter().map(|job| job.firmware).collect();
    let packages = tx.firmwares_load(&packages.into_iter().collect::<Vec<_>>())?;
    let package = |job: &Job| packages.iter().find(|firmware| firmware.no == job.firmware).cloned();
    let rules = jobs.into_iter().map(|job| {
        let firmware = package(&job).ok_or_else(|| StoreError::Corrupt {
            place: "job.firmware",
            detail: format!("no firmware for job {}", job.no),
        })?;
        Ok(Rule { job, firmware })
    });
    rules.collect()
}

/// Which of these devices get a task of which batch: each follows the newest one that it fits, module by module.
fn choose(
    tx: &mut Tx<'_>,
    rules: &[Rule],
    devices: &[DeviceNo],
) -> Result<BTreeMap<JobNo, Vec<Candidate>>, StoreError> {
    let members = members(tx, rules, devices)?;
    let modules: BTreeSet<&str> = rules.iter().map(|rule| rule.firmware.module.as_str()).collect();
    let mut following: BTreeMap<(JobNo, DeviceNo), Seen> = BTreeMap::new();
    for module in modules {
        for seen in tx.candidates_reported(devices, module)? {
            let device = seen.0.device;
            let mut of_module = rules.iter().filter(|rule| rule.firmware.module == module);
            let is_member = |group| members.contains(&(group, device));
            let followed = dynamic::followed(of_module.clone().map(Rule::policy), reported(&seen), is_member);
            let rule = followed.and_then(|place| of_module.nth(place));
            // A package that may not be rolled out now keeps its devices waiting.
            if let Some(rule) = rule.filter(|rule| rule.firmware.status.may_upgrade()) {
                following.insert((rule.job.no, device), seen);
            }
        }
    }
    let mut earlier: BTreeMap<(JobNo, DeviceNo), Vec<Earlier>> = BTreeMap::new();
    for task in tx.tasks_earlier(&following.keys().copied().collect::<Vec<_>>())? {
        let task_of = earlier.entry((task.job, task.device)).or_default();
        task_of.push(Earlier { status: task.status, changed_at: task.changed_at });
    }
    let mut chosen: BTreeMap<JobNo, Vec<Candidate>> = BTreeMap::new();
    for (pair, seen) in following {
        if dynamic::is_due(earlier.get(&pair).map_or(&[], Vec::as_slice), reported(&seen)) {
            // Another batch may make it busy in this very transaction, so that is looked at again.
            chosen.entry(pair.0).or_default().push(Candidate { busy: true, ..seen.0 });
        }
    }
    Ok(chosen)
}

/// Which devices are in which groups, if a batch asks.
fn members(
    tx: &mut Tx<'_>,
    rules: &[Rule],
    devices: &[DeviceNo],
) -> Result<BTreeSet<(GroupNo, DeviceNo)>, StoreError> {
    if rules.iter().all(|rule| rule.job.conduct.group.is_none()) {
        return Ok(BTreeSet::new());
    }
    Ok(tx.groups_of(devices)?.into_iter().map(|of| (of.group, of.device)).collect())
}

/// Lets a dynamic batch look at its next devices, and notes how far it came. Devices that come to fit behind its
/// back are noted for review by whoever changes them.
pub fn walk_chunk(
    tx: &mut Tx<'_>,
    app: &App,
    job: &Job,
    firmware: &Firmware,
    rows: i64,
    now: Timestamp,
) -> Result<Effects, StoreError> {
    let (module, after) = (firmware.module.as_str(), job.expand_after);
    let page: Vec<(DeviceNo, Option<String>)> = match job.conduct.group {
        None => tx.versions_of_product(job.product, module, after, job.expand_upto, rows)?,
        Some(group) => {
            let members = tx.candidates_of_group(group, job.product, module, after, job.expand_upto, rows)?;
            members.into_iter().map(|candidate| (candidate.device, candidate.version)).collect()
        }
    };
    let last = page.last().map_or(after, |(device, _)| *device);
    tx.policy_walk_set(job.no, last, (page.len() as i64) < rows)?;
    let fits = |version: Option<&str>| target::is_for(version, firmware.sources(job), &firmware.dest_version);
    let fitting: Vec<DeviceNo> =
        page.iter().filter(|(_, version)| fits(version.as_deref())).map(|(device, _)| *device).collect();
    take_in(tx, app, &fitting, now)
}
