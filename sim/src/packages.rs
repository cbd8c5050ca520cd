//! The keeper of packages: makes, changes and deletes them while others roll them out.

use crate::api::{self, Answer, Pairs, pairs};
use crate::devices::Image;
use crate::operator::text;
use crate::server::answer;
use crate::world::{Event, World};
use crate::{Violation, ensure};
use md5::{Digest as _, Md5};
use sha2::Sha256;
use std::collections::BTreeMap;
use updraft_core::device::DEFAULT_MODULE;
use updraft_core::id::{FirmwareNo, JobNo};
use updraft_core::page::Page;
use updraft_core::task::{Task, TaskStatus};
use updraft_core::time::{MINUTE_MS, SECOND_MS};
use updraft_fleet::DeviceConfig;
use updraft_server::files::purge;

/// The module that devices have beside the default one, in worlds with modules.
pub(crate) const MODULE: &str = "radio";
/// What it runs at first.
pub(crate) const MODULE_VERSION: &str = "5.0.0";

/// A package.
#[derive(Clone)]
pub(crate) struct Package {
    pub(crate) no: FirmwareNo,
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) product: usize,
    pub(crate) version: String,
    pub(crate) module: String,
    /// Of a difference: what it comes from.
    pub(crate) source: Option<String>,
}

/// What a package is to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Draft<'a> {
    pub(crate) product: usize,
    pub(crate) version: &'a str,
    pub(crate) module: &'a str,
    pub(crate) source: Option<&'a str>,
    pub(crate) verify: bool,
    pub(crate) method: &'a str,
}

impl<'a> Draft<'a> {
    /// A whole firmware that needs no verification.
    pub(crate) fn new(product: usize, version: &'a str) -> Self {
        Self { product, version, module: DEFAULT_MODULE, source: None, verify: false, method: "MD5" }
    }
}

/// Gives a device the module.
pub(crate) fn fit_module(config: &mut DeviceConfig) {
    config.versions.push((MODULE.to_owned(), MODULE_VERSION.to_owned()));
}

impl World {
    /// Whether a batch's package is deleted.
    pub(crate) fn is_gone(&self, job: JobNo) -> bool {
        self.checker.job(job).is_some_and(|job| self.checker.is_gone(job.firmware))
    }

    /// Modules, and what is made for them, and differences; then the keeper begins.
    pub(crate) fn stock_up(&mut self, products: usize, parts: bool) -> Result<(), Violation> {
        for product in 0..products {
            let mut drafts = Vec::new();
            for (source, version) in [("1.0.0", "2.0.1"), ("2.0.0", "2.1.0")] {
                if self.keeper.percent(40) {
                    drafts.push(Draft { source: Some(source), ..Draft::new(product, version) });
                }
            }
            if parts {
                self.make_module(product)?;
                let whole = Draft { module: MODULE, ..Draft::new(product, "5.1.0") };
                drafts.extend([whole, Draft { version: "5.2.0", source: Some(MODULE_VERSION), ..whole }]);
            }
            for draft in drafts {
                self.make_package(draft)?;
            }
        }
        self.at(MINUTE_MS, Event::Keep);
        Ok(())
    }

    /// Adds a module to a product, as its page has it: packages need it, devices do not.
    pub(crate) fn make_module(&mut self, product: usize) -> Result<(), Violation> {
        let key = self.products[product].key.clone();
        self.must("CreateOTAModule", &[("ProductKey", &key), ("ModuleName", MODULE)]).map(drop)
    }

    /// Makes a package of a new file.
    pub(crate) fn make_package(&mut self, draft: Draft<'_>) -> Result<(), Violation> {
        let name = format!("package_{}", self.packages.len() + 1);
        let made = self.try_package(draft, &name)?;
        let made = made.ok_or_else(|| Violation(format!("{name} must be made")))?;
        self.packages.push(made);
        Ok(())
    }

    /// Uploads a file and makes a package of it; `None` if the server died before.
    fn try_package(&mut self, draft: Draft<'_>, name: &str) -> Result<Option<Package>, Violation> {
        let Some(url) = self.upload()? else { return Ok(None) };
        let key = self.products[draft.product].key.clone();
        let mut params = pairs(&[
            ("ProductKey", key.as_str()),
            ("FirmwareName", name),
            ("DestVersion", draft.version),
            ("FirmwareUrl", &url),
            ("SignMethod", draft.method),
            ("NeedToVerify", if draft.verify { "true" } else { "false" }),
            ("ModuleName", draft.module),
        ]);
        params.extend(draft.source.iter().flat_map(|source| pairs(&[("Type", "1"), ("SrcVersion", source)])));
        if let Answer::Refused(code) = self.call("CreateOTAFirmware", &params)? {
            return Err(Violation(format!("{name} was refused: {code}")));
        }
        // The server may have died between commit and answer.
        let (instance, wanted) = (self.server.instance, name.to_owned());
        let found = self.server.read(move |tx| {
            let Some(page) = Page::new(1, 100, 100) else { return Ok(None) };
            let (list, _) = tx.firmware_list(instance, None, None, page)?;
            Ok(list.into_iter().find(|package| package.name == wanted))
        })?;
        let Some(found) = found else { return Ok(None) };
        Ok(Some(Package {
            no: found.no,
            id: found.firmware_id,
            name: name.to_owned(),
            product: draft.product,
            version: draft.version.to_owned(),
            module: draft.module.to_owned(),
            source: draft.source.map(str::to_owned),
        }))
    }

    /// Uploads a new file; answers its address.
    fn upload(&mut self) -> Result<Option<String>, Violation> {
        let file: Vec<u8> = (0..4_096_usize).map(|at| (at * (self.images.len() + 3) % 251) as u8).collect();
        let ticket = match self.call("GenerateOTAUploadURL", &pairs(&[("FileSuffix", "bin")]))? {
            Answer::Done(ticket) => ticket,
            Answer::Refused(code) => return Err(Violation(format!("an upload was refused: {code}"))),
            Answer::Lost => return Ok(None),
        };
        if self.server.running.is_none() {
            return Ok(None);
        }
        let upload = api::upload(&ticket, &file);
        let worked = self.operate(|running| answer(running.http.clone(), upload))?;
        let Some((status, _)) = worked.value.filter(|_| !worked.died) else { return Ok(None) };
        if worked.failed && status == 503 {
            return Ok(None);
        }
        ensure(status == 204, || format!("the upload was answered with {status}"))?;
        let digests = BTreeMap::from([
            ("md5", hex::encode(Md5::digest(&file))),
            ("sha256", hex::encode(Sha256::digest(&file))),
        ]);
        self.images.insert(text(&ticket["Data"]["Key"]), Image { size: file.len() as u64, digests });
        Ok(Some(text(&ticket["Data"]["FirmwareUrl"])))
    }

    /// The keeper does one thing, and plans the next.
    pub(crate) fn keep(&mut self) -> Result<(), Violation> {
        if self.plan.is_none() {
            return Ok(());
        }
        let wait_ms = self.keeper.range(10 * SECOND_MS, 6 * MINUTE_MS) * self.nature.slowness;
        self.at(wait_ms, Event::Keep);
        if self.is_left_out() || self.server.running.is_none() {
            return Ok(());
        }
        let package = self.keeper.below(self.packages.len());
        let gone = (0..self.packages.len()).find(|at| self.checker.is_gone(self.packages[*at].no));
        match (self.keeper.below(100), gone) {
            (0..20, _) => self.modify(package),
            (20..40, _) => self.delete(package),
            (40..60, _) => {
                self.reflash_one();
                Ok(())
            }
            (60..90, Some(gone)) => self.make_again(gone),
            _ => self.purge().map(drop),
        }
    }

    /// Somebody puts another version on a device that is in line for a difference, or was updated, without telling
    /// the server.
    fn reflash_one(&mut self) {
        let updated = self.keeper.percent(30);
        let is_difference = |job: JobNo| {
            let of = self.checker.job(job).map(|job| job.firmware);
            self.packages.iter().find(|package| Some(package.no) == of && package.source.is_some())
        };
        let of = |task: &&Task| {
            if updated { task.status == TaskStatus::Succeeded } else { task.status.is_open() }
        };
        let open = self.checker.tasks().filter(of);
        let found: Vec<(usize, String)> = open
            .filter_map(|task| {
                let node = self.nodes.iter().position(|node| node.no == task.device)?;
                let module = if updated {
                    self.checker.module(task.no).to_owned()
                } else {
                    is_difference(task.no.job)?.module.clone()
                };
                Some((node, module))
            })
            .collect();
        if found.is_empty() {
            return;
        }
        let (node, module) = self.keeper.pick(&found);
        let off_ms = self.keeper.range(SECOND_MS, MINUTE_MS);
        self.note(format!("keeper: puts 1.5.0 on {}", self.nodes[node].name));
        self.reflash(node, off_ms, &module, "1.5.0");
    }

    /// Changes what goes out with the next pushes.
    fn modify(&mut self, package: usize) -> Result<(), Violation> {
        let Package { no, id, product, name, .. } = self.packages[package].clone();
        let key = self.products[product].key.clone();
        let number = self.keeper.below(1_000).to_string();
        let params = [("FirmwareId", id.as_str()), ("ProductKey", &key), ("FirmwareUdi", &number)];
        self.note(format!("keeper: changes {name}"));
        self.of_package("ModifyOTAFirmware", no, &pairs(&params)).map(drop)
    }

    fn delete(&mut self, package: usize) -> Result<(), Violation> {
        let Package { no, id, name, .. } = self.packages[package].clone();
        self.note(format!("keeper: deletes {name}"));
        let deleted = self.of_package("DeleteOTAFirmware", no, &pairs(&[("FirmwareId", &id)]))?;
        ensure(!deleted || self.checker.is_gone(no), || format!("{name} was deleted and is there"))
    }

    /// Calls an operation that only a deleted package refuses; answers whether it is known to be done.
    fn of_package(&mut self, action: &str, no: FirmwareNo, params: &Pairs) -> Result<bool, Violation> {
        let gone = self.checker.is_gone(no);
        match self.call(action, params)? {
            Answer::Done(_) if !gone => Ok(true),
            Answer::Refused(code) if gone && code == "iot.ota.FirmwareNotFound" => Ok(false),
            Answer::Lost => Ok(false),
            other => Err(Violation(format!("{action} of a package, deleted: {gone}: {other:?}"))),
        }
    }

    /// Makes a package in a deleted one's place, with its name.
    fn make_again(&mut self, package: usize) -> Result<(), Violation> {
        let old = self.packages[package].clone();
        self.note(format!("keeper: makes {} again", old.name));
        let draft = Draft {
            module: &old.module,
            source: old.source.as_deref(),
            ..Draft::new(old.product, &old.version)
        };
        if old.module == MODULE && self.ends {
            // Somebody may have deleted the module meanwhile.
            let key = self.products[old.product].key.clone();
            self.call("CreateOTAModule", &pairs(&[("ProductKey", key.as_str()), ("ModuleName", MODULE)]))?;
            if self.server.running.is_none() {
                return Ok(());
            }
        }
        if let Some(made) = self.try_package(draft, &old.name)? {
            self.packages[package] = made;
        }
        Ok(())
    }

    /// Lets the server remove what it needs no more; answers whether files of deleted packages are left.
    pub(crate) fn purge(&mut self) -> Result<bool, Violation> {
        let worked = self.operate(|running| {
            let app = running.app.clone();
            async move { purge::deleted(&app).await }
        })?;
        if let Some(outcome) = worked.value.filter(|outcome| !worked.failed || outcome.is_ok()) {
            outcome.map_err(|error| Violation(format!("nothing could be purged: {error}")))?;
        }
        self.server.read(|tx| tx.firmware_purge_exists())
    }
}
