//! Plans of batches: what they say comes true, and they change nothing.

use crate::list_files::upload;
use crate::overwrite::progress;
use crate::rules::{asked, refused, report, tasks};
use crate::server::TestServer;
use crate::shop::{Pairs, Shop, pairs, text};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use updraft_core::task::DESC_DEVICE_BUSY;
use updraft_server::config::Config;
use updraft_server::device::link::DeviceEvent;
use updraft_server::random::Random;
use updraft_store::Location;

const PLAN: &str = "PlanOTAJob";
const CREATE: &str = "CreateOTAStaticUpgradeJob";
const DEVICES: usize = 14;

/// Draws what a seed says.
struct Dice(Random);

impl Dice {
    fn new(seed: u8) -> Self {
        Self(Random::from_seed([seed; 32]))
    }

    fn below(&self, sides: usize) -> usize {
        u32::from_le_bytes(self.0.bytes("dice")) as usize % sides
    }

    fn one<'v, T: ?Sized>(&self, of: &[&'v T]) -> &'v T {
        of[self.below(of.len())]
    }
}

/// A fleet in any state: versions, presence, tasks of other batches.
struct World<'a> {
    server: &'a TestServer,
    shop: Shop<'a>,
    dice: Dice,
    names: Vec<String>,
    packages: [String; 2],
    jobs: Vec<String>,
    group: String,
}

impl<'a> World<'a> {
    async fn draw(server: &'a TestServer, seed: u8) -> World<'a> {
        let (shop, dice) = (Shop::open(server).await, Dice::new(seed));
        let radio = [("ProductKey", shop.product_key.as_str()), ("ModuleName", "radio")];
        server.ok("CreateOTAModule", &radio).await;
        let mut of_radio = shop.package_request().await;
        of_radio.extend(pairs(&[("ModuleName", "radio"), ("NeedToVerify", "false")]));
        let of_radio = text(&server.ok("CreateOTAFirmware", &of_radio).await, "/Data/FirmwareId");
        let packages = [shop.package().await, of_radio];
        let group = server.ok("CreateDeviceGroup", &[("GroupName", "some_lamps")]).await;
        let group = text(&group, "/Data/GroupId");
        let names: Vec<String> = (0..DEVICES).map(|n| format!("lamp_{n:02}")).collect();
        let mut world = World { server, shop, dice, names, packages, jobs: Vec::new(), group };
        let mut ids = Vec::new();
        for name in world.names.clone() {
            let id = world.shop.device(&name).await;
            world.device(&name, &id).await;
            ids.push(id);
        }
        for _ in 0..world.dice.below(5) {
            let job = world.other_batch().await;
            world.jobs.push(job);
        }
        server.engine().await;
        for id in &ids {
            let module = world.dice.one(&["default", "radio"]);
            for _ in 0..world.dice.below(3) {
                let pull = DeviceEvent::Pull { module: module.to_owned(), asked: asked() };
                server.device(id, pull).await;
                server.device(id, progress(module)).await;
            }
        }
        world
    }

    /// Versions, presence and groups of a new device.
    async fn device(&self, name: &str, id: &str) {
        for module in ["default", "radio"] {
            let version = self.dice.one(&["", "1.0.0", "1.0.0", "1.1.0", "2.0.0"]);
            if !version.is_empty() {
                let (module, version) = (module.to_owned(), version.to_owned());
                self.server.device(id, DeviceEvent::Report { module, version }).await;
            }
        }
        let of = [("ProductKey", self.shop.product_key.as_str()), ("DeviceName", name)];
        match self.dice.below(5) {
            0 | 1 => {
                let online = DeviceEvent::Online { session: 1, ip: "192.0.2.7".to_owned() };
                self.server.device(id, online).await;
            }
            2 => drop(self.server.ok("DisableThing", &of).await),
            _ => {}
        }
        if self.dice.below(2) == 0 {
            let member = [
                ("GroupId", self.group.as_str()),
                ("Device.1.ProductKey", of[0].1),
                ("Device.1.DeviceName", name),
            ];
            self.server.ok("BatchAddDeviceGroupRelations", &member).await;
        }
    }

    async fn other_batch(&self) -> String {
        let package = self.dice.below(2);
        let mut request = self.of_package(package);
        let selection = self.dice.one(&["ALL", "SPECIFIC", "SPECIFIC"]);
        request.extend(pairs(&[("TargetSelection", selection)]));
        if selection == "SPECIFIC" {
            self.name_some(&mut request);
        }
        request.extend(self.conduct());
        text(&self.server.ok(CREATE, &request).await, "/Data/JobId")
    }

    fn of_package(&self, package: usize) -> Pairs {
        pairs(&[("FirmwareId", &self.packages[package]), ("ProductKey", &self.shop.product_key)])
    }

    /// Names that make up half of the fleet, at least one.
    fn some(&self) -> Vec<&str> {
        let always = self.dice.below(DEVICES);
        let drawn = self.names.iter().enumerate().filter(|(at, _)| *at == always || self.dice.below(2) == 0);
        drawn.map(|(_, name)| name.as_str()).collect()
    }

    fn name_some(&self, request: &mut Pairs) {
        for (name, n) in self.some().into_iter().zip(1..) {
            request.push((format!("TargetDeviceName.{n}"), name.to_owned()));
        }
    }

    fn conduct(&self) -> Pairs {
        let conduct: &[(&str, &str)] = match self.dice.below(4) {
            0 => &[("OverwriteMode", "2")],
            1 => &[("MultiModuleMode", "true")],
            2 => &[("NeedConfirm", "true")],
            _ => &[],
        };
        pairs(conduct)
    }

    /// Any batch that might be made.
    async fn request(&self) -> (&'static str, Pairs) {
        let mut request = self.of_package(self.dice.below(2));
        let kind = self.dice.one(&["ALL", "GRAY", "GROUP", "NAMES", "LIST"]);
        match kind {
            "NAMES" => self.name_some(&mut request),
            "LIST" => {
                let list = upload(self.server, self.some().join("\n").as_bytes()).await;
                request.extend(pairs(&[("DnListFileUrl", &list)]));
            }
            "GROUP" => request.extend(pairs(&[("GroupId", &self.group), ("GroupType", "LINK_PLATFORM")])),
            "GRAY" => request.extend(pairs(&[("GrayPercent", self.dice.one(&["5", "33.333", "70", "100"]))])),
            _ => {}
        }
        if matches!(kind, "ALL" | "GRAY") && self.dice.below(2) == 0 {
            request.extend(pairs(&[("SrcVersion.1", "1.0.0")]));
        }
        let selection = if matches!(kind, "NAMES" | "LIST") { "SPECIFIC" } else { kind };
        request.extend(pairs(&[("TargetSelection", selection)]));
        request.extend(self.conduct());
        (kind, request)
    }

    async fn canceled(&self) -> usize {
        let mut canceled = 0;
        for job in &self.jobs {
            canceled +=
                tasks(self.server, job).await.iter().filter(|task| task.contains(" CANCELED ")).count();
        }
        canceled
    }
}

fn count(plan: &Value, name: &str) -> usize {
    let found = plan["Devices"][name].as_u64();
    found.unwrap_or_else(|| panic!("there is no {name} in {plan}")) as usize
}

/// The fates of a plan: how many devices, and which of them are named.
fn fates(plan: &Value) -> BTreeMap<String, (usize, Vec<String>)> {
    let fate = |fate: &Value| {
        let examples = fate["Examples"]["DeviceName"].as_array().unwrap();
        let examples = examples.iter().map(|name| name.as_str().unwrap().to_owned()).collect();
        (text(fate, "/Fate"), (fate["Devices"].as_u64().unwrap() as usize, examples))
    };
    plan["Fates"]["PlanFate"].as_array().unwrap().iter().map(fate).collect()
}

#[tokio::test]
async fn what_a_plan_says_is_what_the_batch_does() {
    let (mut kinds, mut seen, mut replaced) = (BTreeSet::new(), BTreeSet::new(), 0);
    for seed in 0..60 {
        let small_pages = |config: &mut Config| {
            config.quota_scale = 0.0;
            config.engine_chunk_rows = 3;
        };
        // In a file it is slower, and can be looked at.
        let on_disk = seed % 8 == 0;
        let server = if on_disk {
            TestServer::on_disk_with(small_pages).await
        } else {
            TestServer::with(Location::Inline, small_pages).await
        };
        let world = World::draw(&server, seed).await;
        let (kind, request) = world.request().await;
        let before = on_disk.then(|| server.dump());
        let plan = server.ok(PLAN, &request).await["Data"].clone();
        assert_eq!(server.ok(PLAN, &request).await["Data"], plan, "it may be asked for again");
        assert!(on_disk.then(|| server.dump()) == before, "seed {seed}: a plan changed something");

        let canceled = world.canceled().await;
        let job = text(&server.ok(CREATE, &request).await, "/Data/JobId");
        server.engine().await;
        let made = tasks(&server, &job).await;
        let busy: BTreeSet<&str> =
            made.iter().filter_map(|task| task.strip_suffix(DESC_DEVICE_BUSY)?.split(' ').next()).collect();
        let of = format!("seed {seed}, {kind} {request:?}: {made:#?} {plan:#}");
        assert_eq!(count(&plan, "Tasks"), made.len(), "{of}");
        assert_eq!(count(&plan, "Taken"), made.len() - busy.len(), "{of}");
        assert_eq!(count(&plan, "ReplacedTasks"), world.canceled().await - canceled, "{of}");
        let present = ["Online", "Offline", "NeverOnline", "Disabled"].map(|name| count(&plan, name));
        assert_eq!(present.iter().sum::<usize>(), count(&plan, "Taken"), "{of}");

        let fates = fates(&plan);
        let all: usize = fates.values().map(|(devices, _)| devices).sum();
        assert_eq!(all, count(&plan, "Looked"), "{of}");
        assert_eq!(fates.get("BUSY").map_or(0, |(devices, _)| *devices), busy.len(), "{of}");
        for (fate, (devices, examples)) in &fates {
            assert_eq!(examples.len(), *devices.min(&5), "{of}");
            for name in examples {
                let task = made.iter().any(|task| task.starts_with(&format!("{name} ")));
                let expected = match fate.as_str() {
                    "QUEUED" | "REPLACING" => task && !busy.contains(name.as_str()),
                    "BUSY" => busy.contains(name.as_str()),
                    _ => !task,
                };
                assert!(expected, "{name} {fate}: {of}");
            }
        }
        kinds.insert(kind);
        seen.extend(fates.into_keys());
        replaced += count(&plan, "ReplacedTasks");
    }
    assert_eq!(kinds.len(), 5, "{kinds:?}");
    assert_eq!(seen.len(), 7, "{seen:?}");
    assert!(replaced > 10, "{replaced}");
}

#[tokio::test]
async fn times_rest_on_the_pace_and_on_how_the_last_batches_went() {
    let server = TestServer::with(Location::Inline, |config| {
        config.quota_scale = 0.0;
        config.download_bytes_per_second = 1;
    })
    .await;
    let shop = Shop::open(&server).await;
    let mut ids = Vec::new();
    for n in 0..4 {
        let id = shop.device(&format!("lamp_{n}")).await;
        server.device(&id, report("1.0.0")).await;
        if n < 3 {
            server.device(&id, DeviceEvent::Online { session: 1, ip: "192.0.2.7".to_owned() }).await;
        }
        ids.push(id);
    }
    let all = |firmware: &str, more: &[(&str, &str)]| {
        let of = [("FirmwareId", firmware), ("ProductKey", &shop.product_key), ("TargetSelection", "ALL")];
        [pairs(&of), pairs(more)].concat()
    };
    let (first, second) = (shop.package().await, shop.package().await);
    // 60 seconds and the grace of one, in ten slots.
    let slow = [("MaximumPerMinute", "10"), ("RetryInterval", "10"), ("RetryCount", "1")];
    let plan = server.ok(PLAN, &all(&first, &slow)).await["Data"].clone();
    assert_eq!(plan["Devices"]["Taken"], 4);
    assert_eq!((&plan["Pushes"]["Told"], &plan["Pushes"]["TooLate"]), (&3.into(), &0.into()), "{plan}");
    assert_eq!(text(&plan, "/Pushes/UtcFirst"), "2024-05-20T12:00:00.000Z");
    assert_eq!(text(&plan, "/Pushes/UtcLast"), "2024-05-20T12:00:12.200Z");
    assert_eq!(plan["Past"]["Tasks"], 0);
    assert!(plan["Pushes"].get("UtcEndMedian").is_none() && plan["Downloads"].get("BytesExpected").is_none());
    let notes = plan["Notes"]["Note"].to_string();
    assert!(notes.contains("only the pace is known") && notes.contains("when they come"), "{notes}");
    // 14 bytes each, one a second.
    assert_eq!(plan["Downloads"]["Bytes"], 4 * 14);
    assert_eq!(plan["Downloads"]["StretchSeconds"], 3 * 14 - 13, "{plan}");

    // Of the first batch one has succeeded after a minute, one has failed after two, and one goes on.
    let job = text(&server.ok(CREATE, &all(&first, &[])).await, "/Data/JobId");
    server.engine().await;
    for id in &ids[..3] {
        server.device(id, crate::rules::pull()).await;
        server.device(id, progress("default")).await;
    }
    server.later_ms(60_000);
    server.device(&ids[0], report("2.0.0")).await;
    server.later_ms(60_000);
    server.device(&ids[1], report("3.0.0")).await;
    assert_eq!(tasks(&server, &job).await.len(), 4);
    server.device(&ids[0], report("1.0.0")).await;

    let plan = server.ok(PLAN, &all(&second, &slow)).await["Data"].clone();
    let past = &plan["Past"];
    let of = ["Tasks", "Succeeded", "Open", "MedianSeconds", "P90Seconds"]
        .map(|name| past[name].as_i64().unwrap());
    assert_eq!(of, [2, 1, 1, 60, 120], "{plan}");
    assert_eq!(fates(&plan)["BUSY"].0, 2, "{plan}");
    // Two devices: the attempts of half fail, and those are repeated once.
    assert_eq!(plan["Downloads"]["BytesExpected"], 2 * 14 * 3 / 2);
    let notes = plan["Notes"]["Note"].to_string();
    assert!(notes.contains("TimeoutInMinutes") && notes.contains("download_bytes_per_second"), "{notes}");
    let end = text(&plan, "/Pushes/UtcEndP90");
    assert!(("2024-05-20T12:04:00.000Z".."2024-05-20T12:05:00.000Z").contains(&end.as_str()), "{end}");

    let silent = all(&second, &[("NeedPush", "false"), ("NeedConfirm", "true")]);
    let plan = server.ok(PLAN, &silent).await["Data"].clone();
    assert!(plan["Pushes"].get("Told").is_none(), "{plan}");
    let notes = plan["Notes"]["Note"].to_string();
    assert!(notes.contains("NeedPush") && notes.contains("NeedConfirm"), "{notes}");
}

#[tokio::test]
async fn who_comes_too_late_for_the_finish_time_is_counted() {
    let server = TestServer::with(Location::Inline, |config| {
        config.quota_scale = 0.0;
        // An hour of 60 milliseconds: ten slots are too far apart for it.
        config.minute_ms = 1;
    })
    .await;
    let shop = Shop::open(&server).await;
    for n in 0..2 {
        let id = shop.device(&format!("lamp_{n}")).await;
        server.device(&id, DeviceEvent::Online { session: 1, ip: "192.0.2.7".to_owned() }).await;
    }
    let finish = server.app.now().plus_ms(60).0.to_string();
    let request = pairs(&[
        ("FirmwareId", &shop.package().await),
        ("ProductKey", &shop.product_key),
        ("TargetSelection", "ALL"),
        ("MaximumPerMinute", "10"),
        ("ScheduleFinishTime", &finish),
    ]);
    let plan = server.ok(PLAN, &request).await["Data"].clone();
    assert_eq!((&plan["Pushes"]["Told"], &plan["Pushes"]["TooLate"]), (&1.into(), &1.into()), "{plan}");
    assert!(plan["Notes"].to_string().contains("ScheduleFinishTime"), "{plan}");
}

#[tokio::test]
async fn an_account_has_one_plan_at_a_time() {
    let server = TestServer::on_disk().await;
    let shop = Shop::open(&server).await;
    shop.device("lamp_1").await;
    let request = shop.batch_request(&shop.package().await, "lamp_1");
    let account = server.account().await;
    // As while another one is being made.
    server.app.planning.lock().insert(account);
    let (status, answer) = server.call(PLAN, &request).await;
    assert_eq!((status, text(&answer, "/Code").as_str()), (400, "Throttling.User"));
    assert!(text(&answer, "/Message").contains("Another plan"), "{answer}");
    server.app.planning.lock().remove(&account);
    server.ok(PLAN, &request).await;
    assert!(server.app.planning.lock().is_empty(), "the turn is given back");
    // What is wrong is told before the turn is asked for.
    server.app.planning.lock().insert(account);
    let unknown = shop.batch_request("unknown", "lamp_1");
    refused(&server, PLAN, &unknown, "iot.ota.FirmwareNotFound").await;
}
