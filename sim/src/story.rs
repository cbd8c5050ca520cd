//! Written scenarios: a calm world, and somebody who says what happens.

use crate::Violation;
use crate::mask::Mask;
use crate::packages::{Draft, MODULE};
use crate::server::Death;
use crate::world::World;
use updraft_core::device::DEFAULT_MODULE;
use updraft_core::id::JobNo;
use updraft_core::time::SECOND_MS;
use updraft_fleet::{Behaviour, DeviceConfig};
use updraft_store::Trouble;

/// A calm world with one product.
pub struct Story {
    world: World,
}

impl Story {
    /// A server, one product, and a package of version 2.0.0 that `must_be_verified` or not.
    pub fn begin(must_be_verified: bool) -> Result<Self, Violation> {
        let mut world = World::new(0, 2_000, Mask::default(), true)?;
        world.make_product("lamp")?;
        let draft = Draft { verify: must_be_verified, method: "SHA256", ..Draft::new(0, "2.0.0") };
        world.make_package(draft)?;
        Ok(Self { world })
    }

    /// Adds a device that runs 1.0.0 and is switched on at once.
    pub fn device(&mut self, name: &str, behaviour: Behaviour) -> Result<(), Violation> {
        self.device_with(name, |config| config.behaviour = behaviour)
    }

    /// Adds a device that `shape` makes what it is.
    pub fn device_with(
        &mut self,
        name: &str,
        shape: impl FnOnce(&mut DeviceConfig),
    ) -> Result<(), Violation> {
        self.world.make_device(0, name, 0, shape).map(drop)
    }

    /// Verifies the package on these devices; the batch, unless it was refused.
    pub fn verify(&mut self, names: &[&str]) -> Result<Option<i64>, Violation> {
        self.job("CreateOTAVerifyJob", names, &[])
    }

    /// Starts a batch for all devices.
    pub fn batch(&mut self, more: &[(&str, &str)]) -> Result<Option<i64>, Violation> {
        let mut more = more.to_vec();
        more.push(("TargetSelection", "ALL"));
        self.job("CreateOTAStaticUpgradeJob", &[], &more)
    }

    /// Starts a batch for a share of the devices.
    pub fn gray(&mut self, percent: &str, more: &[(&str, &str)]) -> Result<Option<i64>, Violation> {
        let mut more = more.to_vec();
        more.extend([("TargetSelection", "GRAY"), ("GrayPercent", percent)]);
        self.job("CreateOTAStaticUpgradeJob", &[], &more)
    }

    /// Starts a dynamic batch for devices that run this version.
    pub fn rule(&mut self, version: &str, more: &[(&str, &str)]) -> Result<Option<i64>, Violation> {
        let mut more = more.to_vec();
        more.push(("SrcVersion.1", version));
        self.job("CreateOTADynamicUpgradeJob", &[], &more)
    }

    /// Ends a dynamic batch.
    pub fn end_rule(&mut self, job: i64) -> Result<(), Violation> {
        self.world.end_rule(JobNo(job))
    }

    /// Lets a batch serve so many devices in a minute from now on.
    pub fn change_rate(&mut self, job: i64, rate: &str) -> Result<(), Violation> {
        let job = self.world.checker.job(JobNo(job)).cloned();
        job.map_or(Ok(()), |job| self.world.change(&job, rate, &[]))
    }

    /// A module that devices may have, with a package for it: version 5.1.0.
    pub fn part(&mut self) -> Result<(), Violation> {
        self.world.make_module(0)?;
        self.world.make_package(Draft { module: MODULE, method: "SHA256", ..Draft::new(0, "5.1.0") })
    }

    /// Starts a batch for the module of all devices.
    pub fn part_batch(&mut self, more: &[(&str, &str)]) -> Result<Option<i64>, Violation> {
        let mut more = more.to_vec();
        more.push(("TargetSelection", "ALL"));
        Ok(self.world.make_job("CreateOTAStaticUpgradeJob", 1, &[], &more)?.map(|job| job.0))
    }

    /// A group of these devices; its number.
    pub fn group(&mut self, names: &[&str]) -> Result<usize, Violation> {
        let nodes = self.nodes(names);
        self.world.make_group(&nodes)
    }

    /// Takes these devices into a group, or out of it.
    pub fn regroup(&mut self, group: usize, names: &[&str], add: bool) -> Result<(), Violation> {
        let nodes = self.nodes(names);
        self.world.regroup(group, &nodes, add)
    }

    /// Starts a batch for the devices of a group.
    pub fn group_batch(&mut self, group: usize) -> Result<Option<i64>, Violation> {
        let id = self.world.groups[group].clone();
        let more = [("TargetSelection", "GROUP"), ("GroupType", "LINK_PLATFORM"), ("GroupId", id.as_str())];
        self.job("CreateOTAStaticUpgradeJob", &[], &more)
    }

    fn nodes(&self, names: &[&str]) -> Vec<usize> {
        let at = |name: &&str| self.world.nodes.iter().position(|node| node.name == *name);
        names.iter().filter_map(at).collect()
    }

    /// A moment so far from now, as the API takes it.
    pub fn in_ms(&self, ms: i64) -> String {
        self.world.now.plus_ms(ms).0.to_string()
    }

    /// The users of these devices agree.
    pub fn confirm(&mut self, job: i64, names: &[&str]) -> Result<(), Violation> {
        self.world.ask_for("ConfirmOTATask", JobNo(job), names)
    }

    /// Puts these devices back in line.
    pub fn reupgrade(&mut self, job: i64, names: &[&str]) -> Result<(), Violation> {
        self.world.ask_for("ReupgradeOTATask", JobNo(job), names)
    }

    fn job(&mut self, action: &str, names: &[&str], more: &[(&str, &str)]) -> Result<Option<i64>, Violation> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        Ok(self.world.make_job(action, 0, &names, more)?.map(|job| job.0))
    }

    /// Cancels tasks of a batch in the states that these flags name.
    pub fn cancel(&mut self, job: i64, flags: &[&str]) -> Result<(), Violation> {
        self.world.cancel(JobNo(job), flags)
    }

    /// Takes these devices out of a batch, whatever they do.
    pub fn cancel_devices(&mut self, job: i64, names: &[&str]) -> Result<(), Violation> {
        let (firmware, key) = (self.world.packages[0].id.clone(), self.world.products[0].key.clone());
        let id = self.world.checker.job(JobNo(job)).map(|job| job.job_id.clone()).unwrap_or_default();
        self.world.note(format!("operator: CancelOTATaskByDevice {names:?}"));
        let numbered: Vec<String> = (1..=names.len()).map(|n| format!("DeviceName.{n}")).collect();
        let mut params = vec![("FirmwareId", firmware.as_str()), ("ProductKey", &key), ("JobId", &id)];
        params.extend(numbered.iter().map(String::as_str).zip(names.iter().copied()));
        self.world.must("CancelOTATaskByDevice", &params).map(drop)
    }

    /// Lets time pass.
    pub fn pass(&mut self, ms: i64) -> Result<(), Violation> {
        self.world.pass(ms)
    }

    /// Somebody puts another version on a device, which is off for ten seconds meanwhile.
    pub fn reflash(&mut self, name: &str, version: &str) {
        if let Some(node) = self.world.nodes.iter().position(|node| node.name == name) {
            self.world.note(format!("somebody puts {version} on {name}"));
            self.world.reflash(node, 10 * SECOND_MS, DEFAULT_MODULE, version);
        }
    }

    /// Deletes the first package.
    pub fn delete_package(&mut self) -> Result<(), Violation> {
        let id = self.world.packages[0].id.clone();
        self.world.note("operator: DeleteOTAFirmware".to_owned());
        self.world.must("DeleteOTAFirmware", &[("FirmwareId", &id)]).map(drop)
    }

    /// Deletes a device.
    pub fn delete_device(&mut self, name: &str) -> Result<(), Violation> {
        let key = self.world.products[0].key.clone();
        self.world.note(format!("operator: DeleteDevice {name}"));
        self.world.must("DeleteDevice", &[("ProductKey", &key), ("DeviceName", name)]).map(drop)
    }

    /// Takes a device out of everybody's reach.
    pub fn send_away(&mut self, name: &str, ms: i64) {
        if let Some(node) = self.world.nodes.iter().position(|node| node.name == name) {
            self.world.send_away(node, ms);
        }
    }

    /// Takes a device's power for a while.
    pub fn power_off(&mut self, name: &str, ms: i64) {
        if let Some(node) = self.world.nodes.iter().position(|node| node.name == name) {
            self.world.power_cycle(node, ms);
        }
    }

    /// Lets the server die within its next piece of work: after its commits, before their effects.
    pub fn die_before_effects(&mut self) {
        self.world.death = Some(Death::BeforeEffects);
    }

    /// Adds a device with the identity of one that is there.
    pub fn twin(&mut self, name: &str, behaviour: Behaviour) {
        if let Some(node) = self.world.nodes.iter().position(|node| node.name == name) {
            self.world.make_twin(node, behaviour, 30 * SECOND_MS);
        }
    }

    /// Adds a gateway, and these devices are behind it.
    pub fn gateway(&mut self, name: &str, names: &[&str]) -> Result<(), Violation> {
        let product = self.world.make_gateways_product("gateways")?;
        let gateway = self.world.make_device(product, name, 0, |_| {})?;
        for node in self.nodes(names) {
            self.world.put_behind(node, gateway);
        }
        Ok(())
    }

    /// Takes a device from behind its gateway, on the server.
    pub fn take_from_gateway(&mut self, name: &str) -> Result<(), Violation> {
        let key = self.world.products[0].key.clone();
        self.world.note(format!("operator: RemoveThingTopo {name}"));
        self.world.must("RemoveThingTopo", &[("ProductKey", &key), ("DeviceName", name)]).map(drop)
    }

    /// Breaks a device's connection.
    pub fn cut(&mut self, name: &str) {
        for node in self.nodes(&[name]) {
            if let Some(no) = self.world.nodes[node].conn {
                self.world.note(format!("the connection of {name} breaks"));
                self.world.cut(no, true, 0, 2 * SECOND_MS);
            }
        }
    }

    /// Sets the server's clock ahead, or back.
    pub fn set_clock(&mut self, by_ms: i64) {
        self.world.set_clock(by_ms);
    }

    /// Fills the server's disk for a while: nothing can be written that needs more room.
    pub fn fill_disk(&mut self, ms: i64) {
        self.world.wreck_storage(Trouble::Full { pages: 0 }, Some(ms));
    }

    /// Breaks the server's disk for a while: nothing can be read or written.
    pub fn break_disk(&mut self, ms: i64) {
        self.world.wreck_storage(Trouble::Interrupt { after: 0, stays: true }, Some(ms));
    }

    /// Lets the next commit of a change fail.
    pub fn refuse_commit(&mut self) {
        self.world.wreck_storage(Trouble::Commit { after: 0 }, None);
    }

    /// The transcript, after the checks that a quiet world must pass.
    pub fn end(mut self) -> Result<String, Violation> {
        for package in 0..self.world.packages.len() {
            self.world.list_is_right(package)?;
        }
        self.world.presence_is_true()?;
        Ok(self.world.transcript.text())
    }
}
