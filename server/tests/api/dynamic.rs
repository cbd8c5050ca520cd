//! Dynamic batches: whom they take in, when, and until when.

use crate::overwrite::{progress, status};
use crate::rules::{failure, pull, refused, report, tasks};
use crate::server::TestServer;
use crate::shop::{Pairs, Shop, changed, pairs, text};
use serde_json::json;
use updraft_core::id::{JobNo, TaskNo};
use updraft_core::limits::DYNAMIC_MATCHES_MAX;
use updraft_core::task::{Task, TaskStatus};
use updraft_store::Lane;

const CREATE: &str = "CreateOTADynamicUpgradeJob";
const STOP: &str = "CancelOTAStrategyByJob";
const REPLACE: [(&str, &str); 1] = [("OverwriteMode", "2")];

/// What makes a dynamic batch for devices that run this.
fn request(shop: &Shop<'_>, firmware: &str, source: &str) -> Pairs {
    pairs(&[("FirmwareId", firmware), ("ProductKey", &shop.product_key), ("SrcVersion.1", source)])
}

/// A dynamic batch for devices that run 1.0.0, with more parameters; answers its JobId. The engine has looked at all
/// devices.
pub async fn dynamic(shop: &Shop<'_>, firmware: &str, more: &[(&str, &str)]) -> String {
    let request = changed(&request(shop, firmware, "1.0.0"), more);
    shop.server.later_ms(10);
    let job = text(&shop.server.ok(CREATE, &request).await, "/Data/JobId");
    shop.server.engine().await;
    job
}

/// A device that runs this.
pub async fn running(shop: &Shop<'_>, name: &str, version: &str) -> String {
    let device = shop.device(name).await;
    tell(shop.server, &device, version).await;
    device
}

/// The device reports its version, and the engine looks.
pub async fn tell(server: &TestServer, device: &str, version: &str) {
    server.later_ms(10);
    server.device(device, report(version)).await;
    server.engine().await;
}

/// The device's task fails.
async fn fail(server: &TestServer, device: &str) {
    server.later_ms(10);
    server.device(device, pull()).await;
    server.device(device, progress("default")).await;
    server.device(device, failure()).await;
    server.engine().await;
}

#[tokio::test]
async fn whoever_fits_now_or_later_is_taken_in() {
    let server = TestServer::on_disk().await;
    let shop = Shop::open(&server).await;
    running(&shop, "now-1", "1.0.0").await;
    running(&shop, "other-2", "0.9.0").await;
    running(&shop, "there-3", "2.0.0").await;
    let silent = shop.device("silent-4").await;
    let batch = dynamic(&shop, &shop.package().await, &[]).await;
    assert_eq!(tasks(&server, &batch).await, ["now-1 QUEUED "]);
    // Registered later; and who never told, or ran another version, tells now.
    let later = running(&shop, "later-5", "1.0.0").await;
    tell(&server, &silent, "1.0.0").await;
    running(&shop, "other-6", "1.0.1").await;
    assert_eq!(
        tasks(&server, &batch).await,
        ["now-1 QUEUED ", "later-5 QUEUED ", "silent-4 QUEUED "],
        "in the order in which they came to fit"
    );
    let answer = server.ok("QueryOTAJob", &[("JobId", &batch)]).await;
    let data = &answer["Data"];
    assert_eq!(
        (&data["SelectionType"], &data["TargetSelection"], &data["DynamicMode"], &data["JobStatus"]),
        (&json!("DYNAMIC"), &json!("ALL"), &json!(1), &json!("IN_PROGRESS"))
    );
    // It does not end with its last task.
    for device in [&later, &silent] {
        server.device(device, pull()).await;
        tell(&server, device, "2.0.0").await;
    }
    server.ok("CancelOTATaskByJob", &[("JobId", batch.as_str()), ("CancelQueuedTask", "true")]).await;
    assert_eq!(
        tasks(&server, &batch).await,
        ["now-1 CANCELED ", "later-5 SUCCEEDED ", "silent-4 SUCCEEDED "]
    );
    assert_eq!(status(&server, &batch).await, "IN_PROGRESS");
}

#[tokio::test]
async fn the_later_mode_waits_for_a_report() {
    let server = TestServer::on_disk().await;
    let shop = Shop::open(&server).await;
    let device = running(&shop, "lamp-1", "1.0.0").await;
    let batch = dynamic(&shop, &shop.package().await, &[("DynamicMode", "2")]).await;
    server.engine().await;
    assert!(tasks(&server, &batch).await.is_empty());
    // It is looked at again for another reason: the report is as old as before.
    let other = shop.batch(&shop.package().await, "lamp-1", &[]).await;
    server.ok("CancelOTATaskByJob", &[("JobId", other.as_str()), ("CancelQueuedTask", "true")]).await;
    server.engine().await;
    assert!(tasks(&server, &batch).await.is_empty());
    tell(&server, &device, "1.0.0").await;
    assert_eq!(tasks(&server, &batch).await, ["lamp-1 QUEUED "]);
}

#[tokio::test]
async fn an_ended_strategy_takes_nobody_in_and_its_tasks_live_on() {
    let server = TestServer::on_disk().await;
    let shop = Shop::open(&server).await;
    let begun = running(&shop, "begun-1", "1.0.0").await;
    let waiting = running(&shop, "waiting-2", "1.0.0").await;
    running(&shop, "idle-3", "1.0.0").await;
    let firmware = shop.package().await;
    let batch = dynamic(&shop, &firmware, &[]).await;
    server.device(&begun, pull()).await;
    let stop = pairs(&[("JobId", &batch)]);
    server.ok(STOP, &stop).await;
    assert_eq!(status(&server, &batch).await, "CANCELED");
    let ended = text(&server.ok("QueryOTAJob", &stop).await, "/Data/UtcEndTime");
    running(&shop, "late-4", "1.0.0").await;
    // Who was told goes on, and who waits is told.
    server.device(&begun, progress("default")).await;
    tell(&server, &begun, "2.0.0").await;
    server.device(&waiting, pull()).await;
    assert_eq!(tasks(&server, &batch).await, ["begun-1 SUCCEEDED ", "waiting-2 NOTIFIED ", "idle-3 QUEUED "]);
    // Its end stays where it was, whatever becomes of its tasks.
    server.later_ms(5_000);
    server.ok(STOP, &stop).await;
    let cancel = [("JobId", batch.as_str()), ("CancelQueuedTask", "true"), ("CancelNotifiedTask", "true")];
    server.ok("CancelOTATaskByJob", &cancel).await;
    assert_eq!(
        tasks(&server, &batch).await,
        ["begun-1 SUCCEEDED ", "waiting-2 CANCELED ", "idle-3 CANCELED "]
    );
    let list = server.ok("ListOTATaskByJob", &[("JobId", &batch)]).await;
    let again = text(&list, "/Data/SimpleOTATaskInfo/1/TaskId");
    server.ok("ReupgradeOTATask", &[("JobId", &batch), ("TaskId.1", &again)]).await;
    server.device(&waiting, pull()).await;
    assert_eq!(tasks(&server, &batch).await[1], "waiting-2 NOTIFIED ");
    let answer = server.ok("QueryOTAJob", &stop).await;
    assert_eq!(
        (&answer["Data"]["JobStatus"], text(&answer, "/Data/UtcEndTime")),
        (&json!("CANCELED"), ended)
    );
    // Another one may follow; a static one has no strategy.
    dynamic(&shop, &firmware, &[]).await;
    let fixed = shop.batch(&shop.package().await, "late-4", &REPLACE).await;
    refused(&server, STOP, &pairs(&[("JobId", &fixed)]), "iot.ota.NotDynamicJob").await;
}

#[tokio::test]
async fn a_package_has_one_running_dynamic_batch() {
    let server = TestServer::on_disk().await;
    let shop = Shop::open(&server).await;
    let firmware = shop.package().await;
    let first = dynamic(&shop, &firmware, &[]).await;
    let second = request(&shop, &firmware, "1.1.0");
    refused(&server, CREATE, &second, "iot.ota.DynamicJobExists").await;
    let (_, answer) = server.call(CREATE, &second).await;
    assert!(text(&answer, "/ErrorMessage").contains(&first), "{answer}");
    server.ok(STOP, &[("JobId", &first)]).await;
    server.ok(CREATE, &second).await;
    let unproven = shop.unverified().await;
    refused(&server, CREATE, &request(&shop, &unproven, "1.0.0"), "iot.ota.FirmwareNotVerified").await;
}

#[tokio::test]
async fn a_dynamic_batch_is_by_version_or_by_group() {
    let server = TestServer::on_disk().await;
    let shop = Shop::open(&server).await;
    let good = request(&shop, &shop.package().await, "1.0.0");
    let grouped: [(&str, &str); 2] = [("GroupId", "g"), ("GroupType", "LINK_PLATFORM_DYNAMIC")];
    let none: Pairs = good[..2].to_vec();
    for (request, code) in [
        (none.clone(), "iot.ota.InvalidDynamicTargets"),
        (changed(&good, &grouped), "iot.ota.InvalidDynamicTargets"),
        (changed(&none, &grouped[..1]), "iot.ota.InvalidDynamicTargets"),
        (changed(&none, &grouped[1..]), "iot.ota.InvalidDynamicTargets"),
        (changed(&none, &[grouped[0], ("GroupType", "LINK_PLATFORM")]), "iot.group.InvalidGroupType"),
        (changed(&none, &grouped), "iot.group.NotExistedGroup"),
        (changed(&good, &[("SrcVersion.1", "2.0.0")]), "iot.ota.InvalidSrcVersion"),
        (
            changed(&good, &[("OverwriteMode", "2"), ("MultiModuleMode", "true")]),
            "iot.ota.InvalidOverwriteMode",
        ),
    ] {
        refused(&server, CREATE, &request, code).await;
    }
}

#[tokio::test]
async fn a_device_follows_the_newest_batch_that_it_fits() {
    let server = TestServer::on_disk().await;
    let shop = Shop::open(&server).await;
    let old = dynamic(&shop, &shop.package().await, &[("SrcVersion.2", "0.9.0")]).await;
    let new = dynamic(&shop, &shop.package().await, &[]).await;
    let device = running(&shop, "lamp-1", "1.0.0").await;
    running(&shop, "lamp-2", "0.9.0").await;
    assert_eq!(tasks(&server, &new).await, ["lamp-1 QUEUED "]);
    assert_eq!(tasks(&server, &old).await, ["lamp-2 QUEUED "], "it does not fit the newest one");
    fail(&server, &device).await;
    assert_eq!(tasks(&server, &old).await.len(), 1, "the older one is not looked at");
    // With the end of the newest one the next one has its turn.
    server.ok(STOP, &[("JobId", &new)]).await;
    server.engine().await;
    assert_eq!(tasks(&server, &old).await, ["lamp-2 QUEUED ", "lamp-1 QUEUED "]);
}

#[tokio::test]
async fn a_busy_device_is_taken_in_once_it_is_free() {
    let server = TestServer::on_disk().await;
    let shop = Shop::open(&server).await;
    let device = running(&shop, "lamp-1", "1.0.0").await;
    let blocking = shop.batch(&shop.package().await, "lamp-1", &[]).await;
    let batch = dynamic(&shop, &shop.package().await, &[]).await;
    tell(&server, &device, "1.0.0").await;
    assert!(tasks(&server, &batch).await.is_empty(), "neither a task nor a failed one");
    fail(&server, &device).await;
    assert!(tasks(&server, &blocking).await[0].starts_with("lamp-1 FAILED"));
    assert_eq!(tasks(&server, &batch).await, ["lamp-1 QUEUED "]);
}

#[tokio::test]
async fn all_tasks_of_named_devices_are_one_page() {
    let server = TestServer::on_disk().await;
    let shop = Shop::open(&server).await;
    running(&shop, "lamp-1", "1.0.0").await;
    let batch = dynamic(&shop, &shop.package().await, &[]).await;
    // As of eleven devices that had ten tasks each.
    let more = server.app.store.write(Lane::Bulk, |tx| {
        let first = tx.tasks_load(&[TaskNo { job: JobNo(1), ordinal: 1 }])?.pop().expect("it was made");
        let at = |ordinal| Task { no: TaskNo { ordinal, ..first.no }, ..first.clone() };
        let more: Vec<Task> =
            (2..=110).map(at).map(|task| Task { status: TaskStatus::Failed, ..task }).collect();
        tx.tasks_insert(&more)
    });
    more.await.unwrap();
    let named = [("JobId", batch.as_str()), ("DeviceNames.1", "lamp-1")];
    let found = server.ok("ListOTATaskByJob", &named).await;
    let rows = found["Data"]["SimpleOTATaskInfo"].as_array().unwrap().len();
    assert_eq!((&found["Total"], &found["PageSize"], rows), (&json!(110), &json!(110), 110));
}

#[tokio::test]
async fn another_task_follows_another_report_ten_times_at_most() {
    let server = TestServer::on_disk().await;
    let shop = Shop::open(&server).await;
    let device = running(&shop, "lamp-1", "1.0.0").await;
    let firmware = shop.package().await;
    let batch = dynamic(&shop, &firmware, &[]).await;
    for made in 1..=DYNAMIC_MATCHES_MAX {
        assert_eq!(tasks(&server, &batch).await.len(), made);
        tell(&server, &device, "1.0.0").await;
        assert_eq!(tasks(&server, &batch).await.len(), made, "one is enough while it is open");
        fail(&server, &device).await;
        assert_eq!(tasks(&server, &batch).await.len(), made, "its end is no report");
        tell(&server, &device, "1.0.0").await;
    }
    assert_eq!(tasks(&server, &batch).await.len(), DYNAMIC_MATCHES_MAX);
    let page = [
        ("FirmwareId", firmware.as_str()),
        ("ProductKey", &shop.product_key),
        ("DeviceName", "lamp-1"),
        ("CurrentPage", "1"),
        ("PageSize", "10"),
    ];
    let listed = server.ok("ListOTAJobByDevice", &page).await;
    assert_eq!(
        (&listed["Total"], listed["Data"]["SimpleOTAJobInfo"].as_array().unwrap().len()),
        (&json!(1), 1)
    );
    assert_eq!(listed["Data"]["SimpleOTAJobInfo"][0]["SelectionType"], "DYNAMIC");
}

#[tokio::test]
async fn of_a_devices_tasks_in_a_batch_one_at_a_time_is_put_back_in_line() {
    let server = TestServer::on_disk().await;
    let shop = Shop::open(&server).await;
    let device = running(&shop, "lamp-1", "1.0.0").await;
    let batch = dynamic(&shop, &shop.package().await, &[]).await;
    fail(&server, &device).await;
    tell(&server, &device, "1.0.0").await;
    fail(&server, &device).await;
    let list = server.ok("ListOTATaskByJob", &[("JobId", &batch)]).await;
    let ids = [0, 1].map(|at| text(&list, &format!("/Data/SimpleOTATaskInfo/{at}/TaskId")));
    let both = pairs(&[("JobId", &batch), ("TaskId.1", &ids[0]), ("TaskId.2", &ids[1])]);
    refused(&server, "ReupgradeOTATask", &both, "iot.ota.TaskStatusForbids").await;
    server.ok("ReupgradeOTATask", &both[..2]).await;
    let second = pairs(&[("JobId", &batch), ("TaskId.1", &ids[1])]);
    refused(&server, "ReupgradeOTATask", &second, "iot.ota.TaskStatusForbids").await;
    // It counts as unfinished: its end, not the other one's, is what the next report must follow.
    tell(&server, &device, "1.0.0").await;
    assert_eq!(tasks(&server, &batch).await.len(), 2);
}

#[tokio::test]
async fn a_cancelled_task_is_not_made_again() {
    let server = TestServer::on_disk().await;
    let shop = Shop::open(&server).await;
    let device = running(&shop, "lamp-1", "1.0.0").await;
    let batch = dynamic(&shop, &shop.package().await, &[]).await;
    server.ok("CancelOTATaskByJob", &[("JobId", batch.as_str()), ("CancelQueuedTask", "true")]).await;
    tell(&server, &device, "1.0.0").await;
    assert_eq!(tasks(&server, &batch).await, ["lamp-1 CANCELED "]);
}

#[tokio::test]
async fn a_newer_dynamic_batch_replaces_and_an_older_one_does_not() {
    let server = TestServer::on_disk().await;
    let shop = Shop::open(&server).await;
    let device = running(&shop, "lamp-1", "1.0.0").await;
    let fixed = shop.batch(&shop.package().await, "lamp-1", &[]).await;
    let rule = dynamic(&shop, &shop.package().await, &REPLACE).await;
    assert_eq!(tasks(&server, &fixed).await, ["lamp-1 CANCELED "]);
    assert_eq!(tasks(&server, &rule).await, ["lamp-1 QUEUED "]);
    let newer = shop.batch(&shop.package().await, "lamp-1", &REPLACE).await;
    tell(&server, &device, "1.0.0").await;
    assert_eq!(tasks(&server, &rule).await, ["lamp-1 CANCELED "]);
    assert_eq!(tasks(&server, &newer).await, ["lamp-1 QUEUED "]);
    // A rule that has had no task of the device yet, but is older, waits as well.
    let (second, other) = (shop.package().await, running(&shop, "lamp-2", "0.9.0").await);
    let waits = dynamic(&shop, &second, &REPLACE).await;
    let newest = shop.batch(&shop.package().await, "lamp-2", &[]).await;
    tell(&server, &other, "1.0.0").await;
    assert!(!tasks(&server, &waits).await.iter().any(|task| task.starts_with("lamp-2")));
    assert_eq!(tasks(&server, &newest).await, ["lamp-2 QUEUED "]);
}

#[tokio::test]
async fn a_package_that_is_being_verified_keeps_its_devices_waiting() {
    let server = TestServer::on_disk().await;
    let shop = Shop::open(&server).await;
    let proof = running(&shop, "proof-1", "0.9.0").await;
    let firmware = shop.package().await;
    let batch = dynamic(&shop, &firmware, &[]).await;
    shop.verification(&firmware, "proof-1").await;
    running(&shop, "lamp-2", "1.0.0").await;
    assert!(tasks(&server, &batch).await.is_empty());
    server.device(&proof, pull()).await;
    tell(&server, &proof, "2.0.0").await;
    server.engine().await;
    assert_eq!(tasks(&server, &batch).await, ["lamp-2 QUEUED "]);
}

#[tokio::test]
async fn a_deleted_package_ends_its_dynamic_batch() {
    let server = TestServer::on_disk().await;
    let shop = Shop::open(&server).await;
    running(&shop, "lamp-1", "1.0.0").await;
    let (old, new) = (shop.package().await, shop.package().await);
    let older = dynamic(&shop, &old, &[]).await;
    server.ok("CancelOTATaskByJob", &[("JobId", older.as_str()), ("CancelQueuedTask", "true")]).await;
    let batch = dynamic(&shop, &new, &[]).await;
    assert_eq!(tasks(&server, &batch).await, ["lamp-1 QUEUED "]);
    server.ok("DeleteOTAFirmware", &[("FirmwareId", &new)]).await;
    server.engine().await;
    running(&shop, "lamp-2", "1.0.0").await;
    assert_eq!(tasks(&server, &batch).await, ["lamp-1 CANCELED "]);
    assert_eq!(status(&server, &batch).await, "CANCELED");
    assert_eq!(tasks(&server, &older).await, ["lamp-1 CANCELED ", "lamp-2 QUEUED "]);
}
