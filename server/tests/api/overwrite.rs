//! What a new batch does to the unfinished tasks that its devices have already: OverwriteMode, MultiModuleMode.

use crate::rules::{pull, refused, report, tasks};
use crate::server::TestServer;
use crate::shop::{Shop, changed, pairs, text};
use updraft_server::device::link::DeviceEvent;
use updraft_store::Location;

const CREATE: &str = "CreateOTAStaticUpgradeJob";
const REPLACE: [(&str, &str); 1] = [("OverwriteMode", "2")];
const MULTI: [(&str, &str); 1] = [("MultiModuleMode", "true")];

pub fn progress(module: &str) -> DeviceEvent {
    DeviceEvent::Progress { module: module.to_owned(), percent: 5, desc: String::new() }
}

pub async fn status(server: &TestServer, job: &str) -> String {
    text(&server.ok("QueryOTAJob", &[("JobId", job)]).await, "/Data/JobStatus")
}

/// A package for another module than the device's firmware.
async fn package_for(shop: &Shop<'_>, module: &str) -> String {
    let firmware = shop.package().await;
    let file = rusqlite::Connection::open(shop.server.dir.path().join("updraft.db")).unwrap();
    file.execute("UPDATE firmware SET module = ?1 WHERE firmware_id = ?2", [module, &firmware]).unwrap();
    firmware
}

/// Brings the device's task of the batch, made with `confirm` if it is to wait for its user, into this state.
async fn bring(server: &TestServer, device: &str, state: &str) {
    if matches!(state, "NOTIFIED" | "IN_PROGRESS") {
        server.device(device, pull()).await;
    }
    if state == "IN_PROGRESS" {
        server.device(device, progress("default")).await;
    }
}

#[tokio::test]
async fn a_task_is_kept_or_replaced_as_the_newer_batch_says() {
    let server = TestServer::on_disk().await;
    let shop = Shop::open(&server).await;
    for (number, state) in ["CONFIRM", "QUEUED", "NOTIFIED", "IN_PROGRESS"].into_iter().enumerate() {
        let name = format!("lamp-{number}");
        let device = shop.device(&name).await;
        server.device(&device, report("1.0.0")).await;
        let confirm = [("NeedConfirm", if state == "CONFIRM" { "true" } else { "false" })];
        let old = shop.batch(&shop.package().await, &name, &confirm).await;
        bring(&server, &device, state).await;
        assert_eq!(tasks(&server, &old).await, [format!("{name} {state} ")]);

        let kept = shop.batch(&shop.package().await, &name, &[]).await;
        let busy = format!("{name} FAILED the device has an unfinished task in another batch");
        assert_eq!(tasks(&server, &kept).await, [busy.as_str()]);
        for mode in [&REPLACE, &MULTI] {
            let before = tasks(&server, &old).await;
            let newer = shop.batch(&shop.package().await, &name, mode).await;
            if state == "IN_PROGRESS" {
                assert_eq!(tasks(&server, &newer).await, [busy.as_str()], "{mode:?}");
                assert_eq!(tasks(&server, &old).await, before);
                assert_eq!(status(&server, &old).await, "IN_PROGRESS");
            } else {
                assert_eq!(tasks(&server, &newer).await, [format!("{name} QUEUED ")], "{mode:?}");
                assert_eq!(tasks(&server, &old).await, [format!("{name} CANCELED ")]);
                assert_eq!(status(&server, &old).await, "CANCELED", "its last task has ended");
            }
        }
        let kept = server.ok("ListOTAUnfinishedTaskByDevice", &[("IotId", device.as_str())]).await;
        assert_eq!(kept["Data"]["SimpleOTATaskInfo"].as_array().unwrap().len(), 1, "{kept}");
    }
}

#[tokio::test]
async fn modules_are_independent_only_for_batches_that_say_so() {
    let server = TestServer::on_disk().await;
    let shop = Shop::open(&server).await;
    let device = shop.device("lamp-1").await;
    let main = shop.batch(&shop.package().await, "lamp-1", &[]).await;
    let radio = package_for(&shop, "radio").await;
    let plain = shop.batch(&radio, "lamp-1", &[]).await;
    assert!(tasks(&server, &plain).await[0].contains("FAILED"), "any task is in its way");
    let beside = shop.batch(&radio, "lamp-1", &MULTI).await;
    assert_eq!(tasks(&server, &main).await, ["lamp-1 QUEUED "]);
    assert_eq!(tasks(&server, &beside).await, ["lamp-1 QUEUED "]);
    // Each module goes its own way.
    server
        .device(&device, DeviceEvent::Pull { module: "radio".to_owned(), asked: crate::rules::asked() })
        .await;
    server.device(&device, progress("radio")).await;
    assert_eq!(tasks(&server, &main).await, ["lamp-1 QUEUED "]);
    assert_eq!(tasks(&server, &beside).await, ["lamp-1 IN_PROGRESS "]);
    // One that has begun protects all from a batch that replaces; nothing protects the other module's.
    let over = shop.batch(&shop.package().await, "lamp-1", &REPLACE).await;
    assert!(tasks(&server, &over).await[0].contains("FAILED"));
    let newer = shop.batch(&shop.package().await, "lamp-1", &MULTI).await;
    assert_eq!(tasks(&server, &newer).await, ["lamp-1 QUEUED "]);
    assert_eq!(tasks(&server, &main).await, ["lamp-1 CANCELED "]);
    assert_eq!(tasks(&server, &beside).await, ["lamp-1 IN_PROGRESS "]);
    // The replaced one is put back in line only once nothing is in its way.
    let again =
        [("JobId", main.as_str()), ("TaskId.1", &shop.task(&main).await)].map(|(n, v)| (n, v.to_owned()));
    assert_eq!(server.call("ReupgradeOTATask", &again).await.1["Code"], "iot.ota.TaskStatusForbids");
    let again =
        [("JobId", plain.as_str()), ("TaskId.1", &shop.task(&plain).await)].map(|(n, v)| (n, v.to_owned()));
    assert_eq!(server.call("ReupgradeOTATask", &again).await.1["Code"], "iot.ota.TaskStatusForbids");
    server.device(&device, report("2.0.0")).await;
    let told = DeviceEvent::Report { module: "radio".to_owned(), version: "2.0.0".to_owned() };
    server.device(&device, told).await;
    assert_eq!(status(&server, &newer).await, "COMPLETED");
    assert_eq!(status(&server, &beside).await, "COMPLETED");
}

#[tokio::test]
async fn a_replaced_test_device_fails_the_verification() {
    let server = TestServer::on_disk().await;
    let shop = Shop::open(&server).await;
    shop.device("lamp-1").await;
    let unproven = shop.unverified().await;
    let proof = shop.verification(&unproven, "lamp-1").await;
    shop.batch(&shop.package().await, "lamp-1", &REPLACE).await;
    assert_eq!(tasks(&server, &proof).await, ["lamp-1 CANCELED "]);
    let answer = server.ok("QueryOTAFirmware", &[("FirmwareId", unproven.as_str())]).await;
    assert_eq!(answer["FirmwareInfo"]["Status"], 3);
}

#[tokio::test]
async fn a_batch_for_all_replaces_chunk_by_chunk() {
    let server = TestServer::with(Location::Inline, |config| {
        config.quota_scale = 0.0;
        config.engine_chunk_rows = 1;
    })
    .await;
    let shop = Shop::open(&server).await;
    for name in ["lamp-1", "lamp-2", "lamp-3"] {
        shop.device(name).await;
    }
    let old = shop.batch(&shop.package().await, "lamp-2", &[]).await;
    let all = replacing_all(&shop).await;
    server.engine().await;
    assert_eq!(tasks(&server, &all).await, ["lamp-1 QUEUED ", "lamp-2 QUEUED ", "lamp-3 QUEUED "]);
    assert_eq!(tasks(&server, &old).await, ["lamp-2 CANCELED "]);
    let shown = server.ok("QueryOTAJob", &[("JobId", all.as_str())]).await;
    assert_eq!(shown["Data"]["OverwriteMode"], 2);
    assert_eq!(shown["Data"]["MultiModuleMode"], false);
}

/// Makes a batch for all devices that replaces what it meets; answers its JobId. The engine has not begun yet.
async fn replacing_all(shop: &Shop<'_>) -> String {
    let all = changed(
        &shop.batch_request(&shop.package().await, "lamp-1"),
        &[("TargetSelection", "ALL"), ("OverwriteMode", "2")],
    );
    let all: Vec<_> = all.into_iter().filter(|(name, _)| !name.starts_with("TargetDevice")).collect();
    text(&shop.server.ok(CREATE, &all).await, "/Data/JobId")
}

#[tokio::test]
async fn a_batch_in_the_making_replaces_nothing_of_a_newer_one() {
    let server = TestServer::on_disk().await;
    let shop = Shop::open(&server).await;
    for name in ["lamp-1", "lamp-2"] {
        let device = shop.device(name).await;
        server.device(&device, report(if name == "lamp-1" { "1.0.0" } else { "2.0.0" })).await;
    }
    let all = replacing_all(&shop).await;
    let radio = package_for(&shop, "radio").await;
    let newer = shop.batch(&shop.package().await, "lamp-1", &[]).await;
    let other = shop.batch(&radio, "lamp-2", &[]).await;
    server.engine().await;
    assert_eq!(tasks(&server, &newer).await, ["lamp-1 QUEUED "]);
    assert_eq!(tasks(&server, &other).await, ["lamp-2 QUEUED "]);
    // Who runs the version already is not in the batch, busy or not.
    let busy = "lamp-1 FAILED the device has an unfinished task in another batch";
    assert_eq!(tasks(&server, &all).await, [busy]);
}

#[tokio::test]
async fn a_batch_that_is_being_cancelled_replaces_nothing_more() {
    let server = TestServer::on_disk().await;
    let shop = Shop::open(&server).await;
    for name in ["lamp-1", "lamp-2"] {
        shop.device(name).await;
    }
    let old = shop.batch(&shop.package().await, "lamp-1", &[]).await;
    let all = replacing_all(&shop).await;
    server.ok("CancelOTATaskByJob", &[("JobId", all.as_str()), ("CancelQueuedTask", "true")]).await;
    server.engine().await;
    assert_eq!(tasks(&server, &old).await, ["lamp-1 QUEUED "], "nobody takes its place");
    let busy = "lamp-1 FAILED the device has an unfinished task in another batch";
    assert_eq!(tasks(&server, &all).await, [busy, "lamp-2 CANCELED "]);
}

#[tokio::test]
async fn the_two_modes_exclude_each_other() {
    let server = TestServer::on_disk().await;
    let shop = Shop::open(&server).await;
    shop.device("lamp-1").await;
    let request = shop.batch_request(&shop.package().await, "lamp-1");
    for wrong in [&[("OverwriteMode", "2"), ("MultiModuleMode", "true")][..], &[("OverwriteMode", "3")][..]] {
        let mut request = request.clone();
        request.extend(pairs(wrong));
        refused(&server, CREATE, &request, "iot.ota.InvalidOverwriteMode").await;
    }
}
