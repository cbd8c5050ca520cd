//! Once nothing goes wrong any more: everything that can end must end, and the API must tell the truth.

use crate::api::{Answer, pairs};
use crate::explained::Foretold;
use crate::faults::Rates;
use crate::invariant::Invariant;
use crate::operator::text;
use crate::packages::MODULE;
use crate::storage::Storage;
use crate::world::World;
use crate::{Violation, ensure};
use serde_json::Value;
use std::collections::BTreeMap;
use updraft_core::device::{DEFAULT_MODULE, DeviceStatus};
use updraft_core::id::{DeviceNo, JobNo};
use updraft_core::job::JobStatus;
use updraft_core::task::{Task, TaskStatus};
use updraft_core::time::MINUTE_MS;
use updraft_fleet::{Behaviour, Delivery};

/// How long everything that can end may take: the longest schedule, the longest time-out, ten times over for a device
/// that a dynamic batch takes in again and again, the slowest device twice, the slowest batch, and rests of old updates.
const WITHIN_MINUTES: i64 = 400;
/// How often devices connect anew meanwhile that have something to do: some ask only then.
const RECONNECT_MINUTES: i64 = 5;
/// All others do so only until then: a server that is down hears nothing.
const RECONNECT_ALL_MINUTES: i64 = 10;
/// Tasks on one page of ListOTATaskByJob.
const TASKS_SHOWN: usize = 100;

impl World {
    /// Ends all trouble, waits, cancels what waits for ever, and checks the end.
    pub(crate) fn settle(&mut self) -> Result<(), Violation> {
        self.plan = None;
        self.rates = Rates::calm();
        self.death = None;
        self.server.storage = Storage::default();
        self.note("from here on nothing goes wrong".to_owned());
        // A wake-up that was lost in a world in which days pass would be missed for longer than anything may take now.
        self.round_in(0);
        self.retire_twins();
        for node in &mut self.nodes {
            node.away_until = self.now;
        }
        let mut foretold = Foretold::default();
        // Deadlines of before come later by as much as the clock was set back since.
        let within = WITHIN_MINUTES + self.set_back_ms / MINUTE_MS;
        for minute in 0..within {
            if minute % RECONNECT_MINUTES == 0 {
                if minute > 0 {
                    self.explanations_hold(&mut foretold)?;
                }
                // Again and again: a server that is down hears nothing.
                self.enable_all()?;
                self.free_the_stranded();
                self.reconnect(minute <= RECONNECT_ALL_MINUTES);
            }
            self.pass(MINUTE_MS)?;
            if minute > 1 && self.unfinished().is_empty() {
                break;
            }
        }
        self.explanations_hold(&mut foretold)?;
        let late = self.unfinished();
        self.stats.looked(Invariant::Ends, self.checker.tasks().count());
        ensure(late.is_empty(), || format!("these tasks do not end: {}", late.join("; ")))?;
        self.rules_are_carried_out()?;
        self.cancel_the_rest()?;
        self.enable_all()?;
        self.reconnect(true);
        self.pass(3 * MINUTE_MS)?;
        self.end_is_right()
    }

    /// Lets devices connect anew: all, or those that have something to do.
    fn reconnect(&mut self, all: bool) {
        let has_task = |no| self.checker.tasks().any(|task| task.device == no && task.status.is_open());
        let some = self.nodes.iter().filter(|node| all || has_task(node.no));
        let open: Vec<_> = some.filter_map(|node| node.conn).collect();
        for no in open {
            self.cut(no, false, 0, 0);
        }
    }

    /// Open tasks of devices that can end them.
    fn unfinished(&self) -> Vec<String> {
        let open = self.checker.tasks().filter(|task| task.status.is_open() && !self.is_excused(task));
        open.map(|task| {
            let node = self.nodes.iter().find(|node| node.no == task.device);
            let device = node.map(|node| (&node.name, &node.device.config().behaviour, node.device.phase()));
            format!("{} {:?} of {device:?}", task.no, task.status)
        })
        .collect()
    }

    /// Whether a task may stay open for ever: for its own reasons, or since its device is kept by another for ever.
    fn is_excused(&self, task: &Task) -> bool {
        let keeps = |other: &&Task| other.device == task.device && other.status == TaskStatus::InProgress;
        self.waits_for_ever(task)
            || self.checker.tasks().filter(keeps).any(|other| self.waits_for_ever(other))
    }

    /// The platform's rule for devices that never answer.
    fn waits_for_ever(&self, task: &Task) -> bool {
        if !task.status.is_open() {
            return false;
        }
        let Some(node) = self.nodes.iter().find(|node| node.no == task.device) else { return false };
        let Some(job) = self.checker.job(task.no.job) else { return false };
        // A finish time ends whatever has not begun; what has begun may take a day longer.
        if job.schedule.finish.is_some() && task.status != TaskStatus::InProgress {
            return false;
        }
        if task.status == TaskStatus::Confirm {
            return true;
        }
        if self.is_gone(task.no.job) {
            return false;
        }
        let config = node.device.config();
        // Who never had the module does not ask for it, and takes nothing that it did not ask for.
        let knows = node.device.version(self.checker.module(task.no)).is_some();
        let asks = matches!(config.behaviour, Behaviour::Puller { .. }) || config.delivery == Delivery::Ask;
        if asks && !knows {
            return true;
        }
        match config.behaviour {
            Behaviour::Silent => true,
            // Once it runs the wrong version it starts from it and comes back with it, again and again.
            Behaviour::WrongVersion { .. } if job.timeout_minutes_of(task.no.ordinal).is_none() => true,
            _ => !(job.need_push || asks),
        }
    }

    fn cancel_the_rest(&mut self) -> Result<(), Violation> {
        let open: Vec<JobNo> = self.checker.jobs().filter(|job| !job.is_over()).map(|job| job.no).collect();
        for job in open {
            if self.checker.job(job).is_some_and(|job| job.policy) {
                self.end_rule(job)?;
            }
            let flags =
                ["CancelScheduledTask", "CancelQueuedTask", "CancelNotifiedTask", "CancelInProgressTask"];
            self.cancel(job, &flags)?;
        }
        self.pass(MINUTE_MS)
    }

    fn end_is_right(&mut self) -> Result<(), Violation> {
        self.checker.be_thorough();
        let jobs: Vec<JobNo> = self.checker.jobs().map(|job| job.no).collect();
        for job in self.checker.jobs() {
            ensure(job.status.is_ended(), || format!("batch {} does not end: {:?}", job.no, job.status))?;
            ensure(job.cancel == updraft_core::task::Cancel::default(), || {
                format!("batch {}: its cancellation is not carried out", job.no)
            })?;
            ensure(!job.selecting && job.expanded, || format!("batch {}: its tasks are not made", job.no))?;
        }
        for package in 0..self.packages.len() {
            self.list_is_right(package)?;
        }
        for job in jobs {
            self.task_list_is_right(job)?;
        }
        for node in (0..self.nodes.len()).filter(|node| !self.nodes[*node].twin).collect::<Vec<_>>() {
            self.detail_is_right(node)?;
            self.modules_are_right(node)?;
        }
        for group in 0..self.groups.len() {
            self.group_is_right(group)?;
        }
        for product in 0..self.products.len() {
            self.devices_are_counted(product)?;
        }
        self.refusals_are_counted()?;
        ensure(!self.purge()?, || "files of deleted packages stay".to_owned())?;
        self.presence_is_true()
    }

    /// Presence in the database is the link's, once everything was taken.
    pub(crate) fn presence_is_true(&mut self) -> Result<(), Violation> {
        let mut wanted: Vec<(String, String)> = Vec::new();
        for node in &self.nodes {
            wanted.push((self.products[node.product].key.clone(), node.name.clone()));
        }
        let instance = self.server.instance;
        let found = self.server.read(move |tx| {
            let mut found = Vec::new();
            for (key, name) in &wanted {
                if let Some(product) = tx.product_find(instance, key)? {
                    found.push(tx.device_find(product.no, name)?.map(|device| (device.no, device.status)));
                }
            }
            Ok(found)
        })?;
        self.stats.looked(Invariant::Presence, found.len());
        for (no, status) in found.into_iter().flatten() {
            let truth = self.presence(no);
            // Who came for the first time and left in the group that is being taken.
            let came = self.coming.contains(&no) && status == DeviceStatus::Offline;
            ensure(status == truth || came && truth == DeviceStatus::Unactive, || {
                format!("device {no} is {status:?} in the database, but {truth:?}")
            })?;
        }
        Ok(())
    }

    fn presence(&self, device: DeviceNo) -> DeviceStatus {
        if self.barred.contains(&device) {
            return DeviceStatus::Disable;
        }
        let session = self.server.running.as_ref().and_then(|running| running.link.conn(device));
        if session.is_some() {
            DeviceStatus::Online
        } else if self.seen.contains(&device) {
            DeviceStatus::Offline
        } else {
            DeviceStatus::Unactive
        }
    }

    /// QueryDeviceDetail tells presence and version as they are.
    fn detail_is_right(&mut self, node: usize) -> Result<(), Violation> {
        self.stats.looked(Invariant::Shown, 1);
        let (key, name) =
            (self.products[self.nodes[node].product].key.clone(), self.nodes[node].name.clone());
        let (no, product) = (self.nodes[node].no, self.nodes[node].product);
        let deleted = self.deleted.contains(&no);
        let mut heirs = self.nodes.iter().filter(|other| other.product == product && other.name == name);
        if deleted && (self.unsure.contains(&name) || heirs.any(|heir| !self.deleted.contains(&heir.no))) {
            return Ok(());
        }
        let body =
            match self.call("QueryDeviceDetail", &pairs(&[("ProductKey", &key), ("DeviceName", &name)]))? {
                Answer::Done(body) if !deleted => body,
                Answer::Refused(_) if deleted => return Ok(()),
                answer => return Err(Violation(format!("{name} (deleted: {deleted}) is told: {answer:?}"))),
            };
        // A late device may not have been switched on yet.
        let known = self.seen.contains(&self.nodes[node].no);
        let truth = match (self.nodes[node].device.is_connected(), known) {
            (true, _) => "ONLINE",
            (false, true) => "OFFLINE",
            (false, false) => "UNACTIVE",
        };
        let status = text(&body["Data"]["Status"]);
        ensure(status == truth, || format!("{name} is {truth}, QueryDeviceDetail says {status}"))?;
        let version = text(&body["Data"]["FirmwareVersion"]);
        let truth = self.truth(node);
        // A device that is rebooting tells its version when it is back.
        let settled = self.nodes[node].device.is_settled();
        ensure(!settled || version == truth, || {
            format!("{name} runs {truth}, QueryDeviceDetail says {version}")
        })
    }

    /// ListOTAModuleVersionsByDevice tells the versions of a device's modules as they are.
    fn modules_are_right(&mut self, node: usize) -> Result<(), Violation> {
        self.stats.looked(Invariant::Shown, 1);
        if self.deleted.contains(&self.nodes[node].no) {
            return Ok(());
        }
        let (key, name) =
            (self.products[self.nodes[node].product].key.clone(), self.nodes[node].name.clone());
        let page = [("CurrentPage", "1"), ("PageSize", "100")];
        let params = pairs(&[&[("ProductKey", key.as_str()), ("DeviceName", &name)][..], &page].concat());
        let Answer::Done(body) = self.call("ListOTAModuleVersionsByDevice", &params)? else {
            return Err(Violation(format!("the modules of {name} cannot be listed")));
        };
        let found: BTreeMap<String, String> = rows(&body, "SimpleOTAModuleInfo")
            .iter()
            .map(|row| (text(&row["ModuleName"]), text(&row["ModuleVersion"])))
            .collect();
        let device = &self.nodes[node].device;
        for module in [DEFAULT_MODULE, MODULE] {
            let Some(runs) = device.version(module).filter(|_| device.is_settled()) else { continue };
            ensure(found.get(module).is_some_and(|found| found == runs), || {
                format!("{module} of {name} is at {runs}, but {found:?}")
            })?;
        }
        Ok(())
    }

    /// ListOTAJobByFirmware shows every batch once, newest first, with the right totals.
    pub(crate) fn list_is_right(&mut self, package: usize) -> Result<(), Violation> {
        self.stats.looked(Invariant::Shown, 1);
        let package = self.packages[package].clone();
        let gone = self.checker.is_gone(package.no);
        let mut expected: Vec<(String, &str)> = self
            .checker
            .jobs()
            .filter(|job| job.firmware == package.no)
            .map(|job| (job.job_id.clone(), status_word(job.status)))
            .collect();
        expected.reverse();
        let size = 1 + self.operator.below(4);
        let pages = expected.len().div_ceil(size);
        let mut found = Vec::new();
        for page in 1..=pages + 1 {
            let (number, size) = (page.to_string(), size.to_string());
            let params = [("FirmwareId", package.id.as_str()), ("CurrentPage", &number), ("PageSize", &size)];
            let body = match self.call("ListOTAJobByFirmware", &pairs(&params))? {
                Answer::Done(body) => body,
                Answer::Refused(code) if code == "iot.ota.FirmwareNotFound" && gone => return Ok(()),
                Answer::Refused(code) => return Err(Violation(format!("a list was refused: {code}"))),
                Answer::Lost => return Ok(()),
            };
            ensure(!gone, || format!("a deleted package is found: {body}"))?;
            let totals = body["Total"] == expected.len() && body["PageCount"] == pages;
            ensure(totals, || format!("{} batches on {pages} pages, but {body}", expected.len()))?;
            let rows = rows(&body, "SimpleOTAJobInfo");
            ensure((page > pages) == rows.is_empty(), || format!("page {page} of {pages}: {body}"))?;
            found.extend(rows.iter().map(|row| (text(&row["JobId"]), text(&row["JobStatus"]))));
        }
        let same = found
            .iter()
            .map(|(id, status)| (id.as_str(), status.as_str()))
            .eq(expected.iter().map(|(id, status)| (id.as_str(), *status)));
        ensure(same, || format!("ListOTAJobByFirmware shows {found:?} instead of {expected:?}"))
    }

    /// ListOTAUnfinishedTaskByDevice shows what a device still has to do.
    pub(crate) fn unfinished_is_right(&mut self) -> Result<(), Violation> {
        // A world that is made small may have no device.
        if self.nodes.is_empty() {
            return Ok(());
        }
        self.stats.looked(Invariant::Shown, 1);
        let node = self.operator.below(self.nodes.len());
        // Its name may be another device's by now.
        if self.deleted.contains(&self.nodes[node].no) {
            return Ok(());
        }
        let (key, name) =
            (self.products[self.nodes[node].product].key.clone(), self.nodes[node].name.clone());
        let params = pairs(&[("ProductKey", &key), ("DeviceName", &name)]);
        let Answer::Done(body) = self.call("ListOTAUnfinishedTaskByDevice", &params)? else { return Ok(()) };
        let rows = body["Data"]["SimpleOTATaskInfo"].as_array().cloned().unwrap_or_default();
        let found: Vec<String> = rows.iter().map(|row| text(&row["TaskStatus"])).collect();
        let device = self.nodes[node].no;
        let open = self.checker.tasks().filter(|task| task.device == device && task.status.is_open());
        let expected: Vec<&str> = open.map(|task| task.status.name()).collect();
        ensure(found == expected, || format!("{name} has {found:?} to do instead of {expected:?}"))
    }

    /// ListOTATaskByJob shows every task with its status.
    pub(crate) fn task_list_is_right(&mut self, job: JobNo) -> Result<(), Violation> {
        self.stats.looked(Invariant::Shown, 1);
        let id = self.checker.job(job).map(|job| job.job_id.clone()).unwrap_or_default();
        for page in 1.. {
            // A dynamic batch may have several tasks of each device.
            let (number, size) = (page.to_string(), TASKS_SHOWN.to_string());
            let params =
                [("JobId", id.as_str()), ("CurrentPage", number.as_str()), ("PageSize", size.as_str())];
            let Answer::Done(body) = self.call("ListOTATaskByJob", &pairs(&params))? else { return Ok(()) };
            let found: Vec<String> =
                rows(&body, "SimpleOTATaskInfo").iter().map(|row| text(&row["TaskStatus"])).collect();
            let all = self.checker.tasks().filter(|task| task.no.job == job);
            let all: Vec<&str> = all.map(|task| task.status.name()).collect();
            let expected = all.chunks(TASKS_SHOWN).nth(page - 1).unwrap_or_default();
            ensure(found == expected && body["Total"] == all.len(), || {
                format!(
                    "ListOTATaskByJob of batch {job}, page {page}, shows {found:?} instead of {expected:?}"
                )
            })?;
            if all.len() <= page * TASKS_SHOWN {
                break;
            }
        }
        Ok(())
    }
}

fn rows(body: &Value, name: &str) -> Vec<Value> {
    body["Data"][name].as_array().cloned().unwrap_or_default()
}

/// `JobStatus` as ListOTAJobByFirmware's page spells it.
fn status_word(status: JobStatus) -> &'static str {
    match status {
        JobStatus::Planned => "PLANNED",
        JobStatus::InProgress => "IN_PROGRESS",
        JobStatus::Completed => "COMPLETE",
        JobStatus::Canceled => "CANCELED",
    }
}
