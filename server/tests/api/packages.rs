//! Modules, differential packages, and the changes and the end of packages.

use crate::rules::{asked, pull, refused, tasks};
use crate::server::{ROOT, TestServer};
use crate::shop::{Pairs, Shop, changed, pairs, text, without};
use serde_json::Value;
use updraft_server::device::link::DeviceEvent;
use updraft_server::files::purge;
use updraft_store::Location;

fn report(module: &str, version: &str) -> DeviceEvent {
    DeviceEvent::Report { module: module.to_owned(), version: version.to_owned() }
}

fn pull_of(module: &str) -> DeviceEvent {
    DeviceEvent::Pull { module: module.to_owned(), asked: asked() }
}

async fn module(shop: &Shop<'_>, name: &str) -> Pairs {
    let module = pairs(&[("ProductKey", &shop.product_key), ("ModuleName", name)]);
    shop.server.ok("CreateOTAModule", &module).await;
    module
}

/// A package with more parameters that needs no verification; answers its FirmwareId.
async fn package(shop: &Shop<'_>, more: &[(&str, &str)]) -> String {
    let request = changed(&shop.package_request().await, &[("NeedToVerify", "false")]);
    text(&shop.server.ok("CreateOTAFirmware", &changed(&request, more)).await, "/Data/FirmwareId")
}

/// `1.0.0` to `2.0.0`.
async fn difference(shop: &Shop<'_>, more: &[(&str, &str)]) -> String {
    package(shop, &[&[("Type", "1"), ("SrcVersion", "1.0.0")], more].concat()).await
}

#[tokio::test]
async fn a_module_has_one_name_in_its_product_whatever_the_case() {
    let server = TestServer::on_disk().await;
    let shop = Shop::open(&server).await;
    let mcu = module(&shop, "MCU").await;
    for name in ["MCU", "mcu", "default", "DeFault"] {
        let again = changed(&mcu, &[("ModuleName", name)]);
        refused(&server, "CreateOTAModule", &again, "iot.ota.AlreadyExistedModuleName").await;
    }
    // Elsewhere a name is written as it was made.
    for action in ["UpdateOTAModule", "DeleteOTAModule"] {
        let other_case = changed(&mcu, &[("ModuleName", "mcu"), ("Desc", "x")]);
        refused(&server, action, &other_case, "iot.ota.ModuleNotFound").await;
        let default = changed(&mcu, &[("ModuleName", "default"), ("Desc", "x")]);
        refused(&server, action, &default, "iot.ota.DefaultModuleFixed").await;
    }
    let other_case = changed(&shop.package_request().await, &[("ModuleName", "mcu")]);
    refused(&server, "CreateOTAFirmware", &other_case, "iot.ota.ModuleNotFound").await;
    // Another product has modules of its own, and a deleted one's name is free.
    let other = text(&server.ok("CreateProduct", &shop.valid("CreateProduct").await).await, "/ProductKey");
    server.ok("CreateOTAModule", &changed(&mcu, &[("ProductKey", &other)])).await;
    server.ok("DeleteOTAModule", &mcu).await;
    server.ok("CreateOTAModule", &changed(&mcu, &[("ModuleName", "mcu")])).await;
}

#[tokio::test]
async fn modules_are_listed_without_the_default_one_and_keep_what_is_not_changed() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    let key = [("ProductKey", shop.product_key.as_str())];
    assert_eq!(server.ok("ListOTAModuleByProduct", &key).await["Data"], Value::Array(Vec::new()));
    let radio = module(&shop, "radio").await;
    let mcu = changed(&radio, &[("ModuleName", "MCU"), ("AliasName", "微控制器"), ("Desc", "a part")]);
    server.ok("CreateOTAModule", &mcu).await;
    server.later_ms(60_000);
    server.ok("UpdateOTAModule", &changed(&without(&mcu, "AliasName"), &[("Desc", "the part")])).await;
    let answer = server.ok("ListOTAModuleByProduct", &key).await;
    let row = |at: usize, field: &str| answer["Data"][at][field].as_str().map(str::to_owned);
    assert_eq!([row(0, "ModuleName"), row(1, "ModuleName")].map(Option::unwrap), ["MCU", "radio"]);
    assert_eq!(row(0, "AliasName").as_deref(), Some("微控制器"));
    assert_eq!((row(0, "Desc").as_deref(), row(1, "Desc")), (Some("the part"), None));
    assert_ne!(row(0, "GmtModified"), row(0, "GmtCreate"));
    assert_eq!(answer["Data"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_product_has_only_so_many_modules() {
    let server = TestServer::with(Location::Inline, |config| {
        config.quota_scale = 0.0;
        config.module_max = 2;
    })
    .await;
    let shop = Shop::open(&server).await;
    module(&shop, "one").await;
    let two = module(&shop, "two").await;
    let three = changed(&two, &[("ModuleName", "three")]);
    let answer = server.call_as(ROOT, "JSON", "CreateOTAModule", &three).await;
    assert_eq!(answer.code(), "iot.ota.ModuleCountExceedMax");
    assert!(answer.message().contains("2 modules") && answer.message().contains("module_max"));
    server.ok("DeleteOTAModule", &two).await;
    server.ok("CreateOTAModule", &three).await;
}

#[tokio::test]
async fn a_module_stays_while_a_package_is_for_it() {
    let server = TestServer::on_disk().await;
    let shop = Shop::open(&server).await;
    let mcu = module(&shop, "MCU").await;
    package(&shop, &[("ModuleName", "MCU")]).await;
    refused(&server, "DeleteOTAModule", &mcu, "iot.ota.ModuleInUse").await;
}

#[tokio::test]
async fn of_two_calls_at_once_one_makes_the_thing_and_the_other_finds_it_made() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    let mcu = pairs(&[("ProductKey", &shop.product_key), ("ModuleName", "MCU")]);
    let other_case = changed(&mcu, &[("ModuleName", "mcu")]);
    let one = shop.package_request().await;
    let two = changed(&one, &[("FirmwareUrl", &shop.file().await)]);
    for (action, one, two, code) in [
        ("CreateOTAModule", &mcu, &other_case, "iot.ota.AlreadyExistedModuleName"),
        ("CreateOTAFirmware", &one, &two, "iot.ota.AlreadyExistedFirmwareName"),
    ] {
        let calls = [one, two].map(|params| server.call_as(ROOT, "JSON", action, params));
        let answers = futures_util::future::join_all(calls).await;
        let mut codes: Vec<String> = answers.iter().map(crate::server::Answer::code).collect();
        codes.sort();
        assert_eq!(codes, ["", code], "{action}");
    }
}

#[tokio::test]
async fn a_devices_modules_have_versions_and_updates_of_their_own() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    module(&shop, "MCU").await;
    let lamp = shop.device("lamp-1").await;
    for event in [report("MCU", "1.0.0"), report("default", "9.0"), report("invented", "0.1")] {
        server.device(&lamp, event).await;
    }
    let page = |number, size| [("IotId", lamp.as_str()), ("CurrentPage", number), ("PageSize", size)];
    let answer = server.ok("ListOTAModuleVersionsByDevice", &page("1", "2")).await;
    let rows = answer["Data"]["SimpleOTAModuleInfo"].as_array().unwrap();
    let versions: Vec<_> = rows.iter().map(|row| (&row["ModuleName"], &row["ModuleVersion"])).collect();
    assert_eq!(versions[0], (&"MCU".into(), &"1.0.0".into()));
    assert_eq!(versions[1], (&"default".into(), &"9.0".into()));
    assert_eq!((&answer["Total"], &answer["PageCount"]), (&3.into(), &2.into()));
    let answer = server.ok("ListOTAModuleVersionsByDevice", &page("2", "2")).await;
    assert_eq!(answer["Data"]["SimpleOTAModuleInfo"][0]["ModuleName"], "invented");

    // A package of the module is for whom its version fits, and only the module's reports decide.
    let firmware = package(&shop, &[("ModuleName", "MCU")]).await;
    let job = shop.batch(&firmware, "lamp-1", &[]).await;
    server.device(&lamp, pull()).await;
    assert_eq!(tasks(&server, &job).await, ["lamp-1 QUEUED "]);
    server.device(&lamp, pull_of("MCU")).await;
    assert_eq!(tasks(&server, &job).await, ["lamp-1 NOTIFIED "]);
    server.device(&lamp, report("default", "2.0.0")).await;
    let progress = DeviceEvent::Progress { module: "default".to_owned(), percent: 1, desc: String::new() };
    server.device(&lamp, progress).await;
    assert_eq!(tasks(&server, &job).await, ["lamp-1 NOTIFIED "]);
    let progress = DeviceEvent::Progress { module: "MCU".to_owned(), percent: 1, desc: String::new() };
    server.device(&lamp, progress).await;
    assert_eq!(tasks(&server, &job).await, ["lamp-1 IN_PROGRESS "]);
    server.device(&lamp, report("MCU", "2.0.0")).await;
    assert_eq!(tasks(&server, &job).await, ["lamp-1 SUCCEEDED "]);
}

#[tokio::test]
async fn a_difference_has_a_source_and_shows_it() {
    let server = TestServer::on_disk().await;
    let shop = Shop::open(&server).await;
    let request = shop.package_request().await;
    for (source, code) in [
        ("", "iot.ota.InvalidFirmwareSrcVersion"),
        ("2.0.0", "iot.ota.InvalidFirmwareSrcVersion"),
        ("1 0", "iot.ota.InvalidFormattedVersion"),
    ] {
        let params = changed(&request, &[("Type", "1"), ("SrcVersion", source)]);
        refused(&server, "CreateOTAFirmware", &params, code).await;
    }
    let shown = async |firmware: &str| {
        let answer = server.ok("QueryOTAFirmware", &[("FirmwareId", firmware)]).await;
        let list = server.ok("ListOTAFirmware", &[("CurrentPage", "1"), ("PageSize", "10")]).await;
        let (one, row) = (&answer["FirmwareInfo"], &list["FirmwareInfo"]["SimpleFirmwareInfo"][0]);
        assert_eq!((&one["Type"], &one["SrcVersion"]), (&row["Type"], &row["SrcVersion"]));
        (one["Type"].as_i64().unwrap(), one["SrcVersion"].as_str().map(str::to_owned))
    };
    let firmware = difference(&shop, &[]).await;
    assert_eq!(shown(&firmware).await, (1, Some("1.0.0".to_owned())));
    // Of a full package it says nothing, and may be anything.
    let firmware = package(&shop, &[("Type", "0"), ("SrcVersion", "2.0.0")]).await;
    assert_eq!(shown(&firmware).await, (0, None));
}

#[tokio::test]
async fn a_batch_of_a_difference_names_its_source_or_devices_that_run_it() {
    let server = TestServer::on_disk().await;
    let shop = Shop::open(&server).await;
    for (name, version) in [("lamp-1", "1.0.0"), ("lamp-2", "0.9"), ("lamp-3", "")] {
        let lamp = shop.device(name).await;
        if !version.is_empty() {
            server.device(&lamp, report("default", version)).await;
        }
    }
    let firmware = difference(&shop, &[]).await;
    let named = shop.batch_request(&firmware, "lamp-1");
    let all = changed(&without(&named, "TargetDeviceName"), &[("TargetSelection", "ALL")]);
    let gray = changed(&all, &[("TargetSelection", "GRAY"), ("GrayPercent", "100")]);
    for whole in [&all, &gray] {
        for sources in
            [&[][..], &[("SrcVersion.1", "0.9")], &[("SrcVersion.1", "1.0.0"), ("SrcVersion.2", "0.9")]]
        {
            let params = changed(whole, sources);
            refused(&server, "CreateOTAStaticUpgradeJob", &params, "iot.ota.InvalidSrcVersion").await;
        }
    }
    let several = changed(&named, &[("TargetDeviceName.2", "lamp-2"), ("TargetDeviceName.3", "lamp-3")]);
    let code = "iot.ota.DeviceSrcVersionMismatch";
    refused(&server, "CreateOTAStaticUpgradeJob", &several, code).await;
    let message = server.call_as(ROOT, "JSON", "CreateOTAStaticUpgradeJob", &several).await.message();
    assert!(message.contains("1.0.0 only") && message.contains("lamp-2 (0.9), lamp-3 (never"), "{message}");
    let verification = without(&changed(&named, &[("TargetDeviceName.1", "lamp-2")]), "TargetSelection");
    refused(&server, "CreateOTAVerifyJob", &verification, code).await;
    // Of all devices those are in that run it.
    let job = server.ok("CreateOTAStaticUpgradeJob", &changed(&all, &[("SrcVersion.1", "1.0.0")])).await;
    server.engine().await;
    assert_eq!(tasks(&server, &text(&job, "/Data/JobId")).await, ["lamp-1 QUEUED "]);
}

#[tokio::test]
async fn a_device_that_left_the_source_is_not_given_the_difference_told_or_not() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    for (name, told) in [("lamp-1", false), ("lamp-2", true)] {
        let lamp = shop.device(name).await;
        server.device(&lamp, report("default", "1.0.0")).await;
        let firmware = difference(&shop, &[]).await;
        let job = shop.batch(&firmware, name, &[]).await;
        if told {
            server.device(&lamp, pull()).await;
            assert_eq!(tasks(&server, &job).await, [format!("{name} NOTIFIED ")]);
        }
        server.withdrawn.lock().unwrap().clear();
        server.device(&lamp, report("default", "1.5")).await;
        let why = "the device no longer runs a source version of the batch";
        assert_eq!(tasks(&server, &job).await, [format!("{name} FAILED {why}")]);
        // What waits for the device's attention is taken back: born, told or not, and failed.
        let revisions: Vec<i64> =
            server.withdrawn.lock().unwrap().iter().map(|(_, revision)| *revision).collect();
        assert_eq!(revisions, [2 + i64::from(told)]);
        // Nor does it come back in line as long as it runs another version.
        let again = [("JobId", job.as_str()), ("TaskId.1", &shop.task(&job).await)];
        let (_, answer) = server.call("ReupgradeOTATask", &again).await;
        assert_eq!(answer["Code"], "iot.ota.TaskStatusForbids", "{answer}");
        server.device(&lamp, report("default", "1.0.0")).await;
        server.ok("ReupgradeOTATask", &again).await;
    }
}

#[tokio::test]
async fn a_package_is_changed_where_asked_and_keeps_the_rest() {
    let server = TestServer::on_disk().await;
    let shop = Shop::open(&server).await;
    let other = package(&shop, &[("FirmwareName", "taken")]).await;
    let firmware = package(&shop, &[("FirmwareName", "mine"), ("FirmwareDesc", "old"), ("Udi", "old")]).await;
    let id = pairs(&[("FirmwareId", &firmware), ("ProductKey", &shop.product_key)]);
    let shown = async || {
        let answer = server.ok("QueryOTAFirmware", &[("FirmwareId", firmware.as_str())]).await;
        ["FirmwareName", "FirmwareDesc", "Udi"].map(|name| text(&answer, &format!("/FirmwareInfo/{name}")))
    };
    for (change, expected) in [
        (&[("FirmwareUdi", "new")][..], ["mine", "old", "new"]),
        (&[("FirmwareName", "mine"), ("FirmwareDesc", "also")], ["mine", "also", "new"]),
        (&[("FirmwareName", "better")], ["better", "also", "new"]),
        (&[], ["better", "also", "new"]),
    ] {
        server.ok("ModifyOTAFirmware", &changed(&id, change)).await;
        assert_eq!(shown().await, expected);
    }
    let taken = changed(&id, &[("FirmwareName", "taken"), ("FirmwareDesc", "lost")]);
    refused(&server, "ModifyOTAFirmware", &taken, "iot.ota.AlreadyExistedFirmwareName").await;
    let product = text(&server.ok("CreateProduct", &shop.valid("CreateProduct").await).await, "/ProductKey");
    let wrong = changed(&id, &[("ProductKey", &product)]);
    refused(&server, "ModifyOTAFirmware", &wrong, "iot.ota.FirmwareProductMismatch").await;
    // The name that it had is free.
    server.ok("ModifyOTAFirmware", &changed(&id, &[("FirmwareId", &other), ("FirmwareName", "mine")])).await;
}

/// `JobStatus` of a batch.
async fn status(server: &TestServer, job: &str) -> String {
    text(&server.ok("QueryOTAJob", &[("JobId", job)]).await, "/Data/JobStatus")
}

#[tokio::test]
async fn a_deleted_package_is_found_by_nothing_and_its_batches_end() {
    let server = TestServer::on_disk().await;
    let shop = Shop::open(&server).await;
    let mut lamps = Vec::new();
    for name in ["lamp-1", "lamp-2", "lamp-3"] {
        lamps.push(shop.device(name).await);
    }
    let module = module(&shop, "MCU").await;
    let firmware = package(&shop, &[("FirmwareName", "mine"), ("ModuleName", "MCU")]).await;
    let told = shop.batch(&firmware, "lamp-1", &[]).await;
    server.device(&lamps[0], pull_of("MCU")).await;
    let progress = DeviceEvent::Progress { module: "MCU".to_owned(), percent: 50, desc: "half".to_owned() };
    server.device(&lamps[0], progress).await;
    let start = server.app.now().plus_ms(600_000).0.to_string();
    let planned = shop.batch(&firmware, "lamp-2", &[("ScheduleTime", &start)]).await;
    let confirm = shop.batch(&firmware, "lamp-3", &[("NeedConfirm", "true")]).await;
    let waiting = shop.task(&confirm).await;

    server.ok("DeleteOTAFirmware", &[("FirmwareId", firmware.as_str())]).await;
    // From the commit on, before the engine has seen it.
    server.device(&lamps[0], pull_of("MCU")).await;
    let (_, answer) = server.call("ConfirmOTATask", &[("TaskId.1", waiting.as_str())]).await;
    assert_eq!(answer["Code"], "iot.ota.TaskStatusForbids", "{answer}");
    server.engine().await;
    for (job, task) in
        [(&told, "lamp-1 CANCELED "), (&planned, "lamp-2 CANCELED "), (&confirm, "lamp-3 CANCELED ")]
    {
        assert_eq!(tasks(&server, job).await, [task]);
        assert_eq!(status(&server, job).await, "CANCELED");
        let again = pairs(&[("JobId", job), ("TaskId.1", &shop.task(job).await)]);
        refused(&server, "ReupgradeOTATask", &again, "iot.ota.FirmwareNotFound").await;
    }
    let request = shop.batch_request(&firmware, "lamp-1");
    for (action, more) in [
        ("DeleteOTAFirmware", &[][..]),
        ("QueryOTAFirmware", &[]),
        ("ModifyOTAFirmware", &[]),
        ("CreateOTAStaticUpgradeJob", &[]),
        ("CreateOTAVerifyJob", &[]),
        ("ListOTAJobByFirmware", &[("CurrentPage", "1"), ("PageSize", "1")]),
        ("ListOTAJobByDevice", &[("CurrentPage", "1"), ("PageSize", "1"), ("DeviceName", "lamp-1")]),
        ("CancelOTATaskByDevice", &[("DeviceName.1", "lamp-1")]),
    ] {
        refused(&server, action, &changed(&request, more), "iot.ota.FirmwareNotFound").await;
    }
    let list = server.ok("ListOTAFirmware", &[("CurrentPage", "1"), ("PageSize", "10")]).await;
    assert_eq!(list["Total"], 0);
    // Its name and its module are free, the devices too.
    server.ok("DeleteOTAModule", &module).await;
    let firmware = package(&shop, &[("FirmwareName", "mine")]).await;
    let job = shop.batch(&firmware, "lamp-1", &[]).await;
    assert_eq!(tasks(&server, &job).await, ["lamp-1 QUEUED "]);
}

#[tokio::test]
async fn a_batch_whose_package_goes_before_its_tasks_are_made_makes_none() {
    let server = TestServer::on_disk().await;
    let shop = Shop::open(&server).await;
    for name in ["lamp-1", "lamp-2"] {
        shop.device(name).await;
    }
    for gray in [false, true] {
        let firmware = package(&shop, &[]).await;
        let request = without(&shop.batch_request(&firmware, "lamp-1"), "TargetDeviceName");
        let whole: &[_] = if gray {
            &[("TargetSelection", "GRAY"), ("GrayPercent", "50")]
        } else {
            &[("TargetSelection", "ALL")]
        };
        let answer = server.ok("CreateOTAStaticUpgradeJob", &changed(&request, whole)).await;
        let job = text(&answer, "/Data/JobId");
        server.ok("DeleteOTAFirmware", &[("FirmwareId", firmware.as_str())]).await;
        server.engine().await;
        assert_eq!(tasks(&server, &job).await, Vec::<String>::new());
        assert_eq!(status(&server, &job).await, "CANCELED");
    }
}

#[tokio::test]
async fn a_verification_ends_with_its_package() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    shop.device("lamp-1").await;
    let firmware = shop.unverified().await;
    let job = shop.verification(&firmware, "lamp-1").await;
    server.ok("DeleteOTAFirmware", &[("FirmwareId", firmware.as_str())]).await;
    server.engine().await;
    assert_eq!(tasks(&server, &job).await, ["lamp-1 CANCELED "]);
    assert_eq!(status(&server, &job).await, "CANCELED");
}

#[tokio::test]
async fn deleted_packages_do_not_count() {
    let server = TestServer::with(Location::Inline, |config| {
        config.quota_scale = 0.0;
        config.firmware_max = 1;
    })
    .await;
    let shop = Shop::open(&server).await;
    let firmware = shop.unverified().await;
    let second = shop.package_request().await;
    let answer = server.call_as(ROOT, "JSON", "CreateOTAFirmware", &second).await;
    assert_eq!(answer.code(), "iot.ota.FirmwareCountExceedMax");
    server.ok("DeleteOTAFirmware", &[("FirmwareId", firmware.as_str())]).await;
    server.ok("CreateOTAFirmware", &second).await;
}

#[tokio::test]
async fn a_deleted_packages_files_cannot_be_fetched_and_are_removed_once_no_task_is_open() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    shop.device("lamp-1").await;
    let firmware = package(&shop, &[]).await;
    let job = shop.batch(&firmware, "lamp-1", &[]).await;
    let shown = server.ok("QueryOTAFirmware", &[("FirmwareId", firmware.as_str())]).await;
    let url = text(&shown, "/FirmwareInfo/FirmwareUrl");
    let fetch = async || server.send(http::Request::get(url.as_str())).await.status;
    let files =
        || std::fs::read_dir(server.dir.path().join("blobs")).unwrap().flatten().filter(is_full).count();
    assert_eq!((fetch().await, files()), (200, 1));
    server.ok("DeleteOTAFirmware", &[("FirmwareId", firmware.as_str())]).await;
    assert_eq!(fetch().await, 404);
    // Its task is still open.
    purge::deleted(&server.app).await.unwrap();
    assert_eq!(files(), 1);
    server.engine().await;
    purge::deleted(&server.app).await.unwrap();
    assert_eq!((fetch().await, files()), (404, 0));
    assert_eq!(tasks(&server, &job).await, ["lamp-1 CANCELED "]);
    // Its address makes no other package.
    let again = changed(&shop.package_request().await, &[("FirmwareUrl", &url)]);
    let (_, answer) = server.call("CreateOTAFirmware", &again).await;
    assert_eq!(answer["Code"], "iot.ota.InvalidFirmwareUrl");
}

/// Whether an entry of the blobs' folder is, or holds, a file.
fn is_full(entry: &std::fs::DirEntry) -> bool {
    entry.path().is_file() || std::fs::read_dir(entry.path()).is_ok_and(|mut inside| inside.next().is_some())
}
