//! The operator: what back ends do through the API, and the draws of a scenario.

use crate::api::{Answer, Pairs, pairs};
use crate::devices::Node;
use crate::invariant::Invariant;
use crate::mask::Kind;
use crate::packages::{Draft, MODULE, Package, fit_module};
use crate::server::answer;
use crate::stats::Of;
use crate::world::{Event, World};
use crate::{Violation, ensure};
use serde_json::Value;
use updraft_core::id::{JobNo, ProductNo};
use updraft_core::task::{Task, TaskStatus};
use updraft_core::time::{MINUTE_MS, SECOND_MS, Timestamp};
use updraft_fleet::{Behaviour, Delivery, DeviceConfig, Identity, Qos};
use updraft_store::DeviceLogin;

/// Most batches of a world.
const JOBS_MAX: usize = 20;

/// A product.
pub(crate) struct Product {
    /// Its row on the server.
    pub(crate) no: ProductNo,
    pub(crate) key: String,
}

impl World {
    /// Calls an operation once.
    pub(crate) fn call_once(&mut self, action: &str, params: &Pairs) -> Result<Answer, Violation> {
        let answer = self.answer_of(action, params)?;
        let outcome = match &answer {
            Answer::Done(_) => "done",
            Answer::Refused(code) => code,
            Answer::Lost => "no answer",
        };
        self.stats.count(Of::Call, format!("{action}: {outcome}"));
        Ok(answer)
    }

    fn answer_of(&mut self, action: &str, params: &Pairs) -> Result<Answer, Violation> {
        let request = self.server.request(action, params);
        let worked = self.operate(|running| answer(running.http.clone(), request))?;
        let Some((status, body)) = worked.value.filter(|_| !worked.died) else { return Ok(Answer::Lost) };
        let code = body["Code"].as_str().unwrap_or_default().to_owned();
        if worked.failed && code == "ServiceUnavailable" {
            ensure(status == 503, || format!("{action} answered {status} when the storage failed"))?;
            self.note(format!("{action} is answered that the server cannot do it now"));
            return Ok(Answer::Lost);
        }
        let fault = status != 200 || code == "iot.system.SystemException" || code == "ServiceUnavailable";
        ensure(!fault, || format!("{action} answered {status} {body}"))?;
        Ok(if body["Success"] == Value::Bool(true) { Answer::Done(body) } else { Answer::Refused(code) })
    }

    /// Calls an operation that must succeed.
    pub(crate) fn must(&mut self, action: &str, params: &[(&str, &str)]) -> Result<Value, Violation> {
        match self.call(action, &pairs(params))? {
            Answer::Done(body) => Ok(body),
            other => Err(Violation(format!("{action} must succeed: {other:?}"))),
        }
    }

    pub(crate) fn make_product(&mut self, name: &str) -> Result<usize, Violation> {
        self.make_product_of(name, "0")
    }

    /// A product of gateways.
    pub(crate) fn make_gateways_product(&mut self, name: &str) -> Result<usize, Violation> {
        self.make_product_of(name, "1")
    }

    fn make_product_of(&mut self, name: &str, node_type: &str) -> Result<usize, Violation> {
        let body = self.must("CreateProduct", &[("ProductName", name), ("NodeType", node_type)])?;
        let (instance, key) = (self.server.instance, text(&body["ProductKey"]));
        let wanted = key.clone();
        let found = self.server.read(move |tx| tx.product_find(instance, &wanted))?;
        let no = found.map(|product| product.no).ok_or_else(|| Violation(format!("{name} is not there")))?;
        self.products.push(Product { no, key });
        Ok(self.products.len() - 1)
    }

    /// Registers a device and switches it on after a while; `shape` makes it what it is.
    pub(crate) fn make_device(
        &mut self,
        product: usize,
        name: &str,
        on_ms: i64,
        shape: impl FnOnce(&mut DeviceConfig),
    ) -> Result<usize, Violation> {
        let key = self.products[product].key.clone();
        let body = self.must("RegisterDevice", &[("ProductKey", &key), ("DeviceName", name)])?;
        self.add_node(product, name, text(&body["Data"]["DeviceSecret"]), on_ms, shape)
    }

    /// Puts a registered device into the world.
    pub(crate) fn add_node(
        &mut self,
        product: usize,
        name: &str,
        secret: String,
        on_ms: i64,
        shape: impl FnOnce(&mut DeviceConfig),
    ) -> Result<usize, Violation> {
        let key = self.products[product].key.clone();
        let identity = Identity::new(&key, name, secret);
        let (wanted, named) = (key, name.to_owned());
        let found = self.server.read(move |tx| tx.device_login(&wanted, &named))?;
        let Some(DeviceLogin::Known { device: no, .. }) = found else {
            return Err(Violation(format!("{name} is registered but not found")));
        };
        let node = self.nodes.len();
        let mut config = DeviceConfig { seed: node as u64, ..DeviceConfig::new(identity, "1.0.0") };
        shape(&mut config);
        self.nodes.push(Node::new(name.to_owned(), product, no, config));
        self.at(on_ms, Event::Tick(node, 0));
        Ok(node)
    }

    /// Makes a batch with these parameters and names.
    pub(crate) fn make_job(
        &mut self,
        action: &str,
        package: usize,
        names: &[String],
        more: &[(&str, &str)],
    ) -> Result<Option<JobNo>, Violation> {
        let package = self.packages[package].clone();
        let key = self.products[package.product].key.clone();
        let mut params = pairs(more);
        params.extend(pairs(&[("FirmwareId", &package.id), ("ProductKey", &key)]));
        for (index, name) in names.iter().enumerate() {
            params.push((format!("TargetDeviceName.{}", index + 1), name.clone()));
        }
        let settings: Vec<String> = more.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let what = format!("operator: {action} {} {names:?} {}", package.version, settings.join(" "));
        self.note(what);
        match self.call(action, &params)? {
            Answer::Done(body) => {
                let no = self.checker.job_named(&text(&body["Data"]["JobId"]))?;
                self.note(format!("operator: it is batch {no}"));
                Ok(Some(no))
            }
            Answer::Refused(code) => {
                self.note(format!("operator: refused, {code}"));
                Ok(None)
            }
            Answer::Lost => {
                self.note("operator: no answer".to_owned());
                Ok(None)
            }
        }
    }

    /// Cancels tasks of a batch in the states that these flags name.
    pub(crate) fn cancel(&mut self, job: JobNo, flags: &[&str]) -> Result<(), Violation> {
        let id = self.checker.job(job).map(|job| job.job_id.clone()).unwrap_or_default();
        let mut params = pairs(&[("JobId", &id)]);
        params.extend(flags.iter().map(|flag| ((*flag).to_owned(), "true".to_owned())));
        self.note(format!("operator: cancels batch {job}: {}", flags.join(" ")));
        match self.call("CancelOTATaskByJob", &params)? {
            Answer::Refused(code) => Err(Violation(format!("a cancellation was refused: {code}"))),
            Answer::Done(_) => self.is_cancelled(job, flags),
            Answer::Lost => Ok(()),
        }
    }

    /// What was told to be cancelled is.
    fn is_cancelled(&mut self, job: JobNo, flags: &[&str]) -> Result<(), Violation> {
        self.stats.looked(Invariant::Answered, 1);
        let reached = |task: &&Task| match task.status {
            TaskStatus::Notified => flags.contains(&"CancelNotifiedTask"),
            TaskStatus::InProgress => flags.contains(&"CancelInProgressTask"),
            _ => false,
        };
        let left = self.checker.tasks().filter(|task| task.no.job == job).find(reached);
        let left = left.map(|task| task.no);
        ensure(left.is_none(), || format!("task {left:?} was told to be cancelled and goes on"))
    }

    /// Products, devices and packages of a drawn scenario.
    pub(crate) fn populate(&mut self) -> Result<(), Violation> {
        let products = 1 + usize::from(self.operator.percent(30));
        let parts = self.keeper.percent(50);
        let devices = self.operator.range(5, 40) as usize;
        for product in 0..products {
            self.make_product(&format!("product_{}", product + 1))?;
        }
        for number in 0..devices {
            if self.next_is_left_out(Kind::Device) {
                continue;
            }
            let product = self.operator.below(products);
            let on_ms = self.operator.range(0, 90 * SECOND_MS);
            let plain = self.draw_behaviour();
            let behaviour = self.draw_oddity(plain);
            let draws: Vec<usize> = (0..3).map(|_| self.operator.below(100)).collect();
            self.make_device(product, &format!("device-{number:02}"), on_ms, |config| {
                config.seed = number as u64;
                config.behaviour = behaviour;
                config.delivery = match draws[0] {
                    0..60 => Delivery::Auto,
                    60..80 => Delivery::Subscribe,
                    _ => Delivery::Ask,
                };
                config.qos = if draws[1] < 15 { Qos::AtMostOnce } else { Qos::AtLeastOnce };
                config.clean_session = draws[2] < 85;
                if parts {
                    fit_module(config);
                }
            })?;
        }
        self.throw("beside the devices", 0);
        self.draw_twins();
        for product in 0..products {
            for version in ["2.0.0", "2.1.0", "3.0.0"].iter().take(2 + self.operator.below(2)) {
                let (verify, sha) = (self.operator.percent(30), self.operator.percent(50));
                let method = if sha { "SHA256" } else { "MD5" };
                self.make_package(Draft { verify, method, ..Draft::new(product, version) })?;
            }
        }
        self.stock_up(products, parts)?;
        self.populate_groups()?;
        self.populate_gateways()
    }

    fn draw_behaviour(&mut self) -> Behaviour {
        let chance = &mut self.operator;
        match chance.below(100) {
            0..40 => Behaviour::Good,
            40..50 => Behaviour::Slow { download_ms: chance.range(5, 120) * SECOND_MS },
            50..55 => Behaviour::Late { delay_ms: chance.range(10, 600) * SECOND_MS },
            55..63 => {
                let name =
                    chance.pick(&["fails-upgrade", "fails-download", "fails-verification", "fails-flashing"]);
                let times = chance.pick(&[1, 2, u32::MAX]);
                match Behaviour::from_name(name) {
                    Some(Behaviour::Fails { step, desc, .. }) => Behaviour::Fails { step, desc, times },
                    _ => Behaviour::Good,
                }
            }
            63..70 => Behaviour::WrongVersion { version: "0.0.1-rescue".to_owned() },
            70..78 => Behaviour::RevertsToOld,
            78..83 => Behaviour::Silent,
            83..92 => Behaviour::Puller { every_ms: chance.range(20, 120) * SECOND_MS },
            _ => Behaviour::Flaky,
        }
    }

    /// The operator does one thing of a drawn scenario, and plans the next.
    pub(crate) fn act(&mut self) -> Result<(), Violation> {
        if self.plan.is_none() {
            return Ok(());
        }
        let wait_ms = self.operator.range(SECOND_MS, 60 * SECOND_MS) * self.nature.slowness;
        self.at(wait_ms, Event::Act);
        if self.is_left_out() || self.server.running.is_none() {
            return Ok(());
        }
        self.shuffle_groups()?;
        self.move_some()?;
        self.end_something()?;
        let package = self.operator.below(self.packages.len());
        let jobs: Vec<JobNo> = self.checker.jobs().map(|job| job.no).collect();
        match self.operator.below(100) {
            0..34 if jobs.len() < JOBS_MAX => self.draw_batch(package),
            34..45 if jobs.len() < JOBS_MAX => self.draw_rule(package),
            45..60 if jobs.len() < JOBS_MAX => {
                let names = self.draw_names(package, 3);
                // A product may have no device.
                if names.is_empty() {
                    return Ok(());
                }
                self.draw_job("CreateOTAVerifyJob", package, &names, &[])
            }
            60..68 => self.confirm_some(),
            68..74 => self.reupgrade_some(),
            74..77 => self.cancel_devices(package),
            77..86 if !jobs.is_empty() => {
                let all = [
                    "CancelScheduledTask",
                    "CancelQueuedTask",
                    "CancelNotifiedTask",
                    "CancelInProgressTask",
                    "CancelUnconfirmedTask",
                ];
                let flags: Vec<&str> = all.into_iter().filter(|_| self.operator.percent(50)).collect();
                let job = self.operator.pick(&jobs);
                if flags.is_empty() { Ok(()) } else { self.cancel(job, &flags) }
            }
            86..89 if !jobs.is_empty() => {
                // Changes of batches that do not run are refused: that is tried, too, but leads nowhere.
                let runs = |no: &JobNo| self.checker.job(*no).is_some_and(|job| !job.status.is_ended());
                let running: Vec<JobNo> = jobs.iter().copied().filter(runs).collect();
                let some = if running.is_empty() || self.operator.percent(20) { &jobs } else { &running };
                let job = self.operator.pick(some);
                if self.operator.percent(40) { self.end_rule(job) } else { self.draw_change(job) }
            }
            89..93 => self.list_is_right(package),
            93..96 => self.unfinished_is_right(),
            _ if !jobs.is_empty() => {
                let job = self.operator.pick(&jobs);
                self.task_list_is_right(job)
            }
            _ => Ok(()),
        }
    }

    /// The operator cancels what it has just begun.
    pub(crate) fn regret(&mut self, job: JobNo) -> Result<(), Violation> {
        if self.server.running.is_none() {
            return Ok(());
        }
        self.cancel(job, &["CancelQueuedTask", "CancelNotifiedTask"])
    }

    fn draw_batch(&mut self, package: usize) -> Result<(), Violation> {
        // Refusals are tried too, but they lead nowhere.
        if !self.checker.is_ready(self.packages[package].no) && self.operator.percent(80) {
            return Ok(());
        }
        let source = self.packages[package].source.clone();
        let per_minute = self.operator.pick(&["10", "12", "15", "25", "40", "100"]);
        let mut more = vec![("MaximumPerMinute", per_minute)];
        let (start, finish) = self.draw_schedule();
        more.extend(start.as_deref().map(|at| ("ScheduleTime", at)));
        more.extend(finish.as_deref().map(|at| ("ScheduleFinishTime", at)));
        if self.operator.percent(25) {
            let (interval, count) = (self.operator.pick(&["0", "10"]), self.operator.pick(&["1", "2", "5"]));
            more.extend([("RetryInterval", interval), ("RetryCount", count)]);
        }
        more.extend(self.draw_mode(package));
        if !self.groups.is_empty() && self.grouper.percent(20) {
            let group = self.grouper.pick(&self.groups);
            more.extend([("TargetSelection", "GROUP"), ("GroupType", "LINK_PLATFORM"), ("GroupId", &group)]);
            self.draw_job("CreateOTAStaticUpgradeJob", package, &[], &more)
        } else if self.operator.percent(60) {
            more.push(("TargetSelection", "SPECIFIC"));
            let count = 1 + self.operator.below(20);
            let names = self.draw_names(package, count);
            if names.is_empty() {
                return Ok(());
            }
            self.draw_job("CreateOTAStaticUpgradeJob", package, &names, &more)
        } else {
            if self.operator.percent(40) {
                let percent = self.operator.pick(&["1", "33.333", "50", "99.9"]);
                more.extend([("TargetSelection", "GRAY"), ("GrayPercent", percent)]);
            } else {
                more.push(("TargetSelection", "ALL"));
            }
            if self.operator.percent(30) {
                more.extend([("SrcVersion.1", "1.0.0"), ("SrcVersion.2", "2.1.0")]);
            } else if let Some(source) = &source {
                more.push(("SrcVersion.1", source));
            }
            self.draw_job("CreateOTAStaticUpgradeJob", package, &[], &more)
        }
    }

    /// What a batch does with what it meets; one for a part of a device mostly lets the others be.
    pub(crate) fn draw_mode(&mut self, package: usize) -> Option<(&'static str, &'static str)> {
        let beside = if self.packages[package].module == MODULE { 30..90 } else { 30..45 };
        match self.operator.below(100) {
            0..30 => Some(("OverwriteMode", "2")),
            drawn if beside.contains(&drawn) => Some(("MultiModuleMode", "true")),
            _ => None,
        }
    }

    pub(crate) fn draw_job(
        &mut self,
        action: &str,
        package: usize,
        names: &[String],
        more: &[(&str, &str)],
    ) -> Result<(), Violation> {
        let mut more = more.to_vec();
        if self.operator.percent(40) {
            more.push(("TimeoutInMinutes", self.operator.pick(&["1", "2", "5", "30"])));
        }
        if self.operator.percent(25) {
            more.push(("NeedPush", "false"));
        }
        if self.operator.percent(15) {
            more.push(("NeedConfirm", "true"));
        }
        if self.operator.percent(30) {
            more.extend([("Tag.1.Key", "ring"), ("Tag.1.Value", "a \"b\" 路")]);
        }
        if let Some(job) = self.make_job(action, package, names, &more)?
            && self.operator.percent(20)
        {
            let wait_ms = self.operator.range(0, 10 * SECOND_MS);
            self.at(wait_ms, Event::Regret(job));
        }
        Ok(())
    }

    /// A start some minutes ahead, a finish some time after it, or neither, by the server's clock.
    fn draw_schedule(&mut self) -> (Option<String>, Option<String>) {
        let now = self.server.clock.peek();
        let start = self.operator.percent(20).then(|| now.plus_ms(self.operator.range(6, 20) * MINUTE_MS));
        let from = start.unwrap_or(now);
        let finish = self.operator.percent(20).then(|| from.plus_ms(self.operator.range(61, 90) * MINUTE_MS));
        let text = |at: Option<Timestamp>| at.map(|at| at.0.to_string());
        (text(start), text(finish))
    }

    /// Takes devices out of the batches of a package.
    fn cancel_devices(&mut self, package: usize) -> Result<(), Violation> {
        let names = self.draw_names(package, 3);
        if names.is_empty() {
            return Ok(());
        }
        let Package { no, id, product, .. } = self.packages[package].clone();
        let mut params = pairs(&[("FirmwareId", &id), ("ProductKey", &self.products[product].key)]);
        params.extend(names.iter().zip(1..).map(|(name, n)| (format!("DeviceName.{n}"), name.clone())));
        self.note(format!("operator: takes {names:?} out"));
        match self.call("CancelOTATaskByDevice", &params)? {
            Answer::Refused(code) if code == "iot.ota.FirmwareNotFound" && self.checker.is_gone(no) => Ok(()),
            // Tasks of a batch may still be in the making.
            Answer::Refused(code) if code != "iot.ota.TaskStatusForbids" => {
                Err(Violation(format!("a cancellation by device was refused: {code}")))
            }
            Answer::Refused(_) | Answer::Done(_) | Answer::Lost => Ok(()),
        }
    }

    fn draw_names(&mut self, package: usize, count: usize) -> Vec<String> {
        let Package { product, source, module, .. } = self.packages[package].clone();
        // Refusals of devices with another version are tried too.
        let wanted = source.filter(|_| !self.keeper.percent(20));
        let fits = |node: &&Node| {
            node.product == product
                && !node.twin
                && !self.deleted.contains(&node.no)
                && wanted.as_deref().is_none_or(|wanted| node.device.version(&module) == Some(wanted))
        };
        let all: Vec<String> = self.nodes.iter().filter(fits).map(|node| node.name.clone()).collect();
        self.operator.some(count, all.len()).into_iter().map(|at| all[at].clone()).collect()
    }
}

/// A text of an answer; empty if there is none.
pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
