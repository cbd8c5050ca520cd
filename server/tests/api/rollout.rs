//! Batches in full: shares, source versions, schedules, confirmation, retries, and what is put back in line.

use crate::groups;
use crate::rules::{failure, pull, refused, report, tasks};
use crate::server::TestServer;
use crate::shop::{Shop, changed, pairs, text, without};
use serde_json::Value;
use std::collections::BTreeMap;
use updraft_core::time::{HOUR_MS, MINUTE_MS};
use updraft_server::device::link::DeviceEvent;

const CREATE: &str = "CreateOTAStaticUpgradeJob";

/// A product with devices `lamp-01` to `lamp-N`, all but the last of which run 1.0.0.
async fn fleet(server: &TestServer, count: usize) -> (Shop<'_>, Vec<String>) {
    let shop = Shop::open(server).await;
    let mut devices = Vec::new();
    for number in 1..=count {
        let device = shop.device(&format!("lamp-{number:02}")).await;
        if number < count {
            server.device(&device, report("1.0.0")).await;
        }
        devices.push(device);
    }
    (shop, devices)
}

/// What makes a batch for all devices, with more parameters.
fn for_all(shop: &Shop<'_>, firmware: &str, more: &[(&str, &str)]) -> Vec<(String, String)> {
    let all = shop.batch_request(firmware, "nobody");
    changed(&changed(&without(&all, "TargetDeviceName"), &[("TargetSelection", "ALL")]), more)
}

async fn make(server: &TestServer, request: &[(String, String)]) -> String {
    let made = server.ok(CREATE, request).await;
    server.engine().await;
    text(&made, "/Data/JobId")
}

async fn job(server: &TestServer, id: &str) -> Value {
    server.ok("QueryOTAJob", &[("JobId", id)]).await["Data"].clone()
}

async fn status(server: &TestServer, id: &str) -> String {
    text(&job(server, id).await, "/JobStatus")
}

async fn progress(server: &TestServer, device: &str) {
    let desc = String::new();
    server.device(device, DeviceEvent::Progress { module: "default".to_owned(), percent: 5, desc }).await;
}

/// Minutes pass, and the engine looks at what is due.
async fn pass(server: &TestServer, minutes: i64) {
    server.later_ms(minutes * MINUTE_MS);
    server.engine().await;
}

#[tokio::test]
async fn a_batch_for_a_group_takes_its_devices_and_no_later_ones() {
    let server = TestServer::on_disk().await;
    let (shop, devices) = fleet(&server, 4).await;
    server.device(&devices[1], report("2.0.0")).await;
    let group = groups::group(&server, "north", "").await;
    groups::add(&shop, &group, &["lamp-01", "lamp-02", "lamp-04"]).await;
    let firmware = shop.package().await;
    let asked = [("TargetSelection", "GROUP"), ("GroupId", group.as_str()), ("GroupType", "LINK_PLATFORM")];
    let request = for_all(&shop, &firmware, &asked);
    let id = text(&server.ok(CREATE, &request).await, "/Data/JobId");
    // Registered after the batch was made, and in the group before its tasks are: none of the batch's devices.
    shop.device("lamp-05").await;
    groups::add(&shop, &group, &["lamp-05"]).await;
    let gone = server.call("DeleteDeviceGroup", &[("GroupId", group.as_str())]).await.1;
    assert_eq!(gone["Code"], "iot.group.GroupInUse", "its tasks are still to be made");
    server.engine().await;
    assert_eq!(tasks(&server, &id).await, ["lamp-01 QUEUED ", "lamp-04 QUEUED "]);
    server.ok("DeleteDeviceGroup", &[("GroupId", group.as_str())]).await;
    let shown = job(&server, &id).await;
    assert_eq!(shown["TargetSelection"], "GROUP");
    assert_eq!((text(&shown, "/GroupId"), text(&shown, "/GroupName")), (group.clone(), "north".to_owned()));
    refused(&server, CREATE, &request, "iot.group.NotExistedGroup").await;
}

#[tokio::test]
async fn a_batch_for_a_group_says_which_and_nothing_else() {
    let server = TestServer::on_disk().await;
    let (shop, _) = fleet(&server, 1).await;
    let group = groups::group(&server, "north", "").await;
    let firmware = shop.package().await;
    let (id, kind) = (("GroupId", group.as_str()), ("GroupType", "LINK_PLATFORM"));
    let asked = |selection, more: &[_]| {
        for_all(&shop, &firmware, &[&[("TargetSelection", selection)], more].concat())
    };
    for (selection, more, code) in [
        ("GROUP", &[id][..], "iot.ota.InvalidTargetDevices"),
        ("GROUP", &[kind], "iot.ota.InvalidTargetDevices"),
        ("ALL", &[id, kind], "iot.ota.InvalidTargetDevices"),
        ("GRAY", &[id, kind, ("GrayPercent", "50")], "iot.ota.InvalidTargetDevices"),
        ("GROUP", &[id, kind, ("TargetDeviceName.1", "lamp-01")], "iot.ota.InvalidTargetDevices"),
        ("GROUP", &[id, kind, ("SrcVersion.1", "1.0.0")], "iot.ota.InvalidSrcVersion"),
        ("GROUP", &[id, kind, ("GrayPercent", "50")], "iot.ota.InvalidGrayPercent"),
        ("GROUP", &[id, ("GroupType", "LINK_PLATFORM_DYNAMIC")], "iot.group.InvalidGroupType"),
        ("GROUP", &[("GroupId", "unknown"), kind], "iot.group.NotExistedGroup"),
    ] {
        refused(&server, CREATE, &asked(selection, more), code).await;
    }
    let empty = make(&server, &asked("GROUP", &[id, kind])).await;
    assert_eq!(status(&server, &empty).await, "COMPLETED", "an empty group has nothing to wait for");
}

#[tokio::test]
async fn a_gray_batch_takes_exactly_its_share_of_the_devices_that_fit() {
    let server = TestServer::on_disk().await;
    let (shop, devices) = fleet(&server, 10).await;
    server.device(&devices[0], report("2.0.0")).await;
    let firmware = shop.package().await;
    // Nine are not on the version yet.
    let gray = |percent| [("TargetSelection", "GRAY"), ("GrayPercent", percent)];
    let third = make(&server, &for_all(&shop, &firmware, &gray("33.34"))).await;
    let first = tasks(&server, &third).await;
    assert_eq!(first.len(), 3, "{first:?}");
    assert_eq!(job(&server, &third).await["GrayPercent"], "33.34");
    assert_eq!(job(&server, &third).await["TargetSelection"], "GRAY");
    let one = make(&server, &for_all(&shop, &firmware, &gray("0.001"))).await;
    assert_eq!(tasks(&server, &one).await.len(), 1, "never nobody");
    let all = make(&server, &for_all(&shop, &firmware, &gray("100"))).await;
    let all = tasks(&server, &all).await;
    assert_eq!(all.len(), 9);
    assert!(
        all.iter().filter(|task| task.contains("FAILED")).count() >= 3,
        "who is in another batch is busy"
    );
    // With source versions only those that run one count: eight do.
    let sourced = [("TargetSelection", "GRAY"), ("GrayPercent", "50"), ("SrcVersion.1", "1.0.0")];
    let half = make(&server, &for_all(&shop, &firmware, &sourced)).await;
    assert_eq!(tasks(&server, &half).await.len(), 4);

    for wrong in ["0", "100.1", "33.3333", "-1", "half"] {
        let request = for_all(&shop, &firmware, &gray(wrong));
        refused(&server, CREATE, &request, "iot.ota.InvalidGrayPercent").await;
    }
    let bare = for_all(&shop, &firmware, &[("TargetSelection", "GRAY")]);
    refused(&server, CREATE, &bare, "iot.ota.InvalidGrayPercent").await;
}

#[tokio::test]
async fn source_versions_are_matched_at_the_start_and_kept_until_the_device_is_told() {
    let server = TestServer::on_disk().await;
    let (shop, devices) = fleet(&server, 4).await;
    let firmware = shop.package().await;
    server.device(&devices[1], report("1.1.0")).await;
    let sources = [("SrcVersion.1", "1.0.0"), ("SrcVersion.2", "1.1.0")];
    let batch = make(&server, &for_all(&shop, &firmware, &sources)).await;
    let found = tasks(&server, &batch).await;
    assert_eq!(
        found,
        ["lamp-01 QUEUED ", "lamp-02 QUEUED ", "lamp-03 QUEUED "],
        "who never told has no task"
    );
    assert_eq!(
        job(&server, &batch).await["SrcVersions"]["SrcVersion"],
        serde_json::json!(["1.0.0", "1.1.0"])
    );
    // From one source version to another is fine, away from all of them is not.
    server.device(&devices[0], report("1.1.0")).await;
    server.device(&devices[1], report("1.2.0")).await;
    server.device(&devices[2], pull()).await;
    server.device(&devices[2], report("1.2.0")).await;
    let found = tasks(&server, &batch).await;
    assert_eq!(
        found,
        [
            "lamp-01 QUEUED ",
            "lamp-02 FAILED the device no longer runs a source version of the batch",
            "lamp-03 NOTIFIED ",
        ]
    );
    let own = for_all(&shop, &firmware, &[("SrcVersion.1", "2.0.0")]);
    refused(&server, CREATE, &own, "iot.ota.InvalidSrcVersion").await;
    let named = changed(&shop.batch_request(&firmware, "lamp-01"), &[("SrcVersion.1", "1.0.0")]);
    refused(&server, CREATE, &named, "iot.ota.InvalidSrcVersion").await;
}

#[tokio::test]
async fn a_scheduled_batch_starts_and_finishes_at_its_times() {
    let server = TestServer::on_disk().await;
    let (shop, devices) = fleet(&server, 5).await;
    let firmware = shop.package().await;
    let now = server.app.now();
    let at = |ms: i64| now.plus_ms(ms).0.to_string();
    let (start, finish) = (at(10 * MINUTE_MS), at(10 * MINUTE_MS + HOUR_MS));
    let times = [("ScheduleTime", start.as_str()), ("ScheduleFinishTime", finish.as_str())];
    let batch = make(&server, &for_all(&shop, &firmware, &times)).await;
    let planned = job(&server, &batch).await;
    assert_eq!(planned["JobStatus"], "PLANNED");
    assert!(planned.get("UtcStartTime").is_none(), "{planned}");
    assert_eq!(text(&planned, "/UtcScheduleTime"), "2024-05-20T12:10:00.000Z");
    assert_eq!(text(&planned, "/UtcScheduleFinishTime"), "2024-05-20T13:10:00.000Z");
    assert_eq!(tasks(&server, &batch).await.len(), 5);
    // Until then nobody is told, not even who asks; and the devices count as busy.
    server.device(&devices[0], pull()).await;
    assert!(tasks(&server, &batch).await.iter().all(|task| task.contains("QUEUED")));
    let other = make(&server, &shop.batch_request(&firmware, "lamp-01")).await;
    let busy = "lamp-01 FAILED the device has an unfinished task in another batch";
    assert_eq!(tasks(&server, &other).await, [busy]);
    pass(&server, 9).await;
    assert_eq!(status(&server, &batch).await, "PLANNED");

    pass(&server, 1).await;
    let running = job(&server, &batch).await;
    assert_eq!(running["JobStatus"], "IN_PROGRESS");
    assert_eq!(text(&running, "/UtcStartTime"), "2024-05-20T12:10:00.000Z");
    server.device(&devices[0], pull()).await;
    server.device(&devices[1], pull()).await;
    progress(&server, &devices[1]).await;
    server.device(&devices[2], pull()).await;
    progress(&server, &devices[2]).await;
    server.device(&devices[3], report("2.0.0")).await;

    // At the finish time who has begun may go on, everybody else is called off.
    pass(&server, 60).await;
    let expected = ["CANCELED", "IN_PROGRESS", "IN_PROGRESS", "SUCCEEDED", "CANCELED"];
    let found = tasks(&server, &batch).await;
    for (task, expected) in found.iter().zip(expected) {
        assert!(task.contains(expected), "{found:?}");
    }
    assert_eq!(status(&server, &batch).await, "IN_PROGRESS");
    server.device(&devices[1], report("2.0.0")).await;
    // One device never answers again: the batch ends all the same.
    pass(&server, 24 * 60).await;
    let ended = job(&server, &batch).await;
    assert_eq!(ended["JobStatus"], "COMPLETED");
    assert_eq!(tasks(&server, &batch).await[2], "lamp-03 FAILED timeout");

    // After that nothing is put back in line.
    let failed =
        server.ok("ListOTATaskByJob", &[("JobId", &batch), ("TaskStatus", &"FAILED".to_owned())]).await;
    let task = text(&failed, "/Data/SimpleOTATaskInfo/0/TaskId");
    let again = pairs(&[("JobId", &batch), ("TaskId.1", &task)]);
    refused(&server, "ReupgradeOTATask", &again, "iot.ota.TaskStatusForbids").await;
}

#[tokio::test]
async fn a_finish_time_ends_a_batch_that_no_device_began() {
    let server = TestServer::on_disk().await;
    let (shop, _) = fleet(&server, 2).await;
    let finish = server.app.now().plus_ms(HOUR_MS).0.to_string();
    let times = [("ScheduleFinishTime", finish.as_str())];
    let batch = make(&server, &for_all(&shop, &shop.package().await, &times)).await;
    assert_eq!(status(&server, &batch).await, "IN_PROGRESS");
    pass(&server, 60).await;
    assert_eq!(status(&server, &batch).await, "COMPLETED", "its time is over; nobody cancelled it");
    assert!(tasks(&server, &batch).await.iter().all(|task| task.contains("CANCELED")));
}

#[tokio::test]
async fn schedules_have_bounds() {
    let server = TestServer::on_disk().await;
    let (shop, _) = fleet(&server, 1).await;
    let firmware = shop.package().await;
    let now = server.app.now();
    let at = |minutes: i64| now.plus_ms(minutes * MINUTE_MS).0.to_string();
    for (start, finish) in [
        (Some(at(4)), None),
        (Some(at(7 * 24 * 60 + 1)), None),
        (Some(at(-5)), None),
        (Some("1716206700".to_owned()), None),
        (Some(at(10)), Some(at(69))),
        (None, Some(at(59))),
        (Some(at(10)), Some(at(10 + 30 * 24 * 60 + 1))),
    ] {
        let mut request = for_all(&shop, &firmware, &[]);
        request.extend(start.map(|at| ("ScheduleTime".to_owned(), at)));
        request.extend(finish.map(|at| ("ScheduleFinishTime".to_owned(), at)));
        refused(&server, CREATE, &request, "iot.ota.InvalidSchedule").await;
    }
}

#[tokio::test]
async fn a_planned_batch_is_called_off_as_a_whole() {
    let server = TestServer::on_disk().await;
    let (shop, _) = fleet(&server, 3).await;
    let firmware = shop.package().await;
    let start = server.app.now().plus_ms(HOUR_MS).0.to_string();
    let planned = for_all(&shop, &firmware, &[("ScheduleTime", start.as_str()), ("NeedConfirm", "true")]);
    let batch = make(&server, &planned).await;
    server.ok("CancelOTATaskByJob", &[("JobId", batch.as_str()), ("CancelScheduledTask", "true")]).await;
    assert_eq!(status(&server, &batch).await, "CANCELED");
    // It does not come back at its time; and a running batch is not reached by that flag.
    pass(&server, 61).await;
    assert_eq!(status(&server, &batch).await, "CANCELED");
    let running = make(&server, &for_all(&shop, &firmware, &[])).await;
    server.ok("CancelOTATaskByJob", &[("JobId", running.as_str()), ("CancelScheduledTask", "true")]).await;
    assert_eq!(status(&server, &running).await, "IN_PROGRESS");
    // The other flags reach tasks by their states, also while the batch waits.
    let start = server.app.now().plus_ms(HOUR_MS).0.to_string();
    server.ok("CancelOTATaskByJob", &[("JobId", running.as_str()), ("CancelQueuedTask", "true")]).await;
    let waiting = make(&server, &for_all(&shop, &firmware, &[("ScheduleTime", start.as_str())])).await;
    server.ok("CancelOTATaskByJob", &[("JobId", waiting.as_str()), ("CancelQueuedTask", "true")]).await;
    assert_eq!(status(&server, &waiting).await, "CANCELED");
}

async fn ids(server: &TestServer, job: &str) -> BTreeMap<String, String> {
    let rows = server.ok("ListOTATaskByJob", &[("JobId", job)]).await;
    let rows = rows["Data"]["SimpleOTATaskInfo"].as_array().unwrap().clone();
    rows.iter().map(|row| (text(row, "/DeviceName"), text(row, "/TaskId"))).collect()
}

#[tokio::test]
async fn tasks_wait_for_their_confirmation_and_are_confirmed_all_or_none() {
    let server = TestServer::on_disk().await;
    let (shop, devices) = fleet(&server, 3).await;
    let firmware = shop.package().await;
    let batch = make(&server, &for_all(&shop, &firmware, &[("NeedConfirm", "true")])).await;
    assert_eq!(job(&server, &batch).await["NeedConfirm"], true);
    server.device(&devices[0], pull()).await;
    let waiting = ["lamp-01 CONFIRM ", "lamp-02 CONFIRM ", "lamp-03 CONFIRM "];
    assert_eq!(tasks(&server, &batch).await, waiting, "nobody is told before");
    let ids = ids(&server, &batch).await;
    let confirm = |names: &[&str]| {
        names.iter().zip(1..).map(|(name, n)| (format!("TaskId.{n}"), ids[*name].clone())).collect::<Vec<_>>()
    };
    // One of them has ended: none is confirmed.
    server.device(&devices[2], report("2.0.0")).await;
    let both = confirm(&["lamp-01", "lamp-03"]);
    refused(&server, "ConfirmOTATask", &both, "iot.ota.TaskStatusForbids").await;
    server.ok("ConfirmOTATask", &confirm(&["lamp-01", "lamp-02"])).await;
    server.device(&devices[0], pull()).await;
    // Once more is no mistake.
    server.ok("ConfirmOTATask", &confirm(&["lamp-01"])).await;
    assert_eq!(tasks(&server, &batch).await, ["lamp-01 NOTIFIED ", "lamp-02 QUEUED ", "lamp-03 SUCCEEDED "]);
    let many: Vec<_> = (1..=11).map(|n| (format!("TaskId.{n}"), format!("{n}"))).collect();
    refused(&server, "ConfirmOTATask", &many, "InvalidTaskId").await;

    // Unset, CancelUnconfirmedTask follows CancelQueuedTask; set, it decides by itself.
    for (flags, reached) in [
        (vec![("CancelQueuedTask", "true")], true),
        (vec![("CancelQueuedTask", "true"), ("CancelUnconfirmedTask", "false")], false),
        (vec![("CancelUnconfirmedTask", "true")], true),
    ] {
        let device = shop.name("lamp");
        shop.device(&device).await;
        let batch = shop.batch(&firmware, &device, &[("NeedConfirm", "true")]).await;
        let mut cancel = vec![("JobId", batch.as_str())];
        cancel.extend(&flags);
        server.ok("CancelOTATaskByJob", &cancel).await;
        assert_eq!(status(&server, &batch).await == "CANCELED", reached, "{flags:?}");
    }
}

#[tokio::test]
async fn a_failed_attempt_is_repeated_after_its_interval_and_fails_in_the_end() {
    let server = TestServer::on_disk().await;
    let (shop, devices) = fleet(&server, 1).await;
    let firmware = shop.package().await;
    let retry = [("RetryInterval", "10"), ("RetryCount", "1"), ("TimeoutInMinutes", "60")];
    let batch = make(&server, &for_all(&shop, &firmware, &retry)).await;
    let shown = job(&server, &batch).await;
    assert_eq!((&shown["RetryInterval"], &shown["RetryCount"]), (&10.into(), &1.into()));
    let device = &devices[0];
    server.device(device, report("1.0.0")).await;
    server.device(device, pull()).await;
    progress(&server, device).await;
    server.device(device, failure()).await;
    assert_eq!(tasks(&server, &batch).await, ["lamp-01 IN_PROGRESS "], "it looks as it did");
    pass(&server, 10).await;
    // It asks and gets the package again; the second failure is the last.
    server.device(device, pull()).await;
    progress(&server, device).await;
    server.device(device, report("0.9-rescue")).await;
    assert_eq!(tasks(&server, &batch).await, ["lamp-01 FAILED report version is not conform"]);
    assert_eq!(status(&server, &batch).await, "COMPLETED");
    for wrong in
        [[("RetryInterval", "10"), ("RetryCount", "3")], [("RetryInterval", "7"), ("RetryCount", "2")]]
    {
        let request = for_all(&shop, &firmware, &wrong);
        refused(&server, CREATE, &request, "iot.ota.InvalidRetry").await;
    }
    let late = [("RetryInterval", "60"), ("RetryCount", "2"), ("TimeoutInMinutes", "60")];
    refused(&server, CREATE, &for_all(&shop, &firmware, &late), "iot.ota.InvalidRetry").await;
}

#[tokio::test]
async fn what_failed_or_was_cancelled_is_put_back_in_line_and_the_batch_runs_again() {
    let server = TestServer::on_disk().await;
    let (shop, devices) = fleet(&server, 4).await;
    let firmware = shop.package().await;
    let batch = make(&server, &for_all(&shop, &firmware, &[])).await;
    server.device(&devices[0], pull()).await;
    server.device(&devices[0], failure()).await;
    server.device(&devices[1], report("2.0.0")).await;
    server.ok("CancelOTATaskByJob", &[("JobId", batch.as_str()), ("CancelQueuedTask", "true")]).await;
    assert_eq!(status(&server, &batch).await, "COMPLETED");
    let ids = ids(&server, &batch).await;
    let again = |names: &[&str]| {
        let mut params = pairs(&[("JobId", &batch)]);
        params.extend(names.iter().zip(1..).map(|(name, n)| (format!("TaskId.{n}"), ids[*name].clone())));
        params
    };
    let code = "iot.ota.TaskStatusForbids";
    refused(&server, "ReupgradeOTATask", &again(&["lamp-01", "lamp-02"]), code).await;
    // Who is in another batch by now stays there.
    let other = shop.batch(&firmware, "lamp-04", &[]).await;
    refused(&server, "ReupgradeOTATask", &again(&["lamp-04"]), code).await;
    server.ok("ReupgradeOTATask", &again(&["lamp-01", "lamp-03"])).await;
    let running = job(&server, &batch).await;
    assert_eq!(running["JobStatus"], "IN_PROGRESS");
    assert!(running.get("UtcEndTime").is_none());
    let found = tasks(&server, &batch).await;
    assert_eq!(found, ["lamp-01 QUEUED ", "lamp-02 SUCCEEDED ", "lamp-03 QUEUED ", "lamp-04 CANCELED "]);
    refused(&server, "ReupgradeOTATask", &again(&["lamp-01"]), code).await;
    // A task of another batch is none of this one's.
    let mut foreign = again(&["lamp-03"]);
    foreign[0].1 = other;
    refused(&server, "ReupgradeOTATask", &foreign, "iot.ota.TaskNotFound").await;
    server.device(&devices[0], report("2.0.0")).await;
    server.device(&devices[2], report("2.0.0")).await;
    assert_eq!(status(&server, &batch).await, "COMPLETED");
}

#[tokio::test]
async fn a_verification_whose_device_is_put_back_in_line_is_decided_anew() {
    let server = TestServer::on_disk().await;
    let (shop, devices) = fleet(&server, 1).await;
    let firmware = shop.unverified().await;
    let of_firmware = [("FirmwareId", firmware.clone())];
    let verdict =
        async || server.ok("QueryOTAFirmware", &of_firmware).await["FirmwareInfo"]["Status"].clone();
    let batch = shop.verification(&firmware, "lamp-01").await;
    server.device(&devices[0], pull()).await;
    server.device(&devices[0], failure()).await;
    assert_eq!(verdict().await, 3);
    let again = pairs(&[("JobId", &batch), ("TaskId.1", &shop.task(&batch).await)]);
    server.ok("ReupgradeOTATask", &again).await;
    assert_eq!(verdict().await, 2);
    server.device(&devices[0], report("2.0.0")).await;
    assert_eq!(verdict().await, 1);
}

#[tokio::test]
async fn devices_are_taken_out_of_the_batches_of_a_package() {
    let server = TestServer::on_disk().await;
    let (shop, devices) = fleet(&server, 3).await;
    let (firmware, other) = (shop.package().await, shop.package().await);
    let batch = make(&server, &for_all(&shop, &firmware, &[])).await;
    server.device(&devices[0], pull()).await;
    progress(&server, &devices[0]).await;
    let of = |firmware: &str, more: &[(&str, &str)]| {
        let key = shop.product_key.as_str();
        let mut params = pairs(&[("FirmwareId", firmware), ("ProductKey", key)]);
        params.extend(pairs(&[("DeviceName.1", "lamp-01"), ("DeviceName.2", "lamp-02")]));
        params.extend(pairs(more));
        params
    };
    // Another package's batches are another matter.
    server.ok("CancelOTATaskByDevice", &of(&other, &[])).await;
    let elsewhere = of(&other, &[("JobId", &batch)]);
    refused(&server, "CancelOTATaskByDevice", &elsewhere, "iot.ota.JobNotFound").await;
    let found = tasks(&server, &batch).await;
    assert_eq!(found, ["lamp-01 IN_PROGRESS ", "lamp-02 QUEUED ", "lamp-03 QUEUED "]);
    server.ok("CancelOTATaskByDevice", &of(&firmware, &[("JobId", &batch)])).await;
    let found = tasks(&server, &batch).await;
    assert_eq!(found, ["lamp-01 CANCELED ", "lamp-02 CANCELED ", "lamp-03 QUEUED "]);
    // What the device still has to do, and where it was.
    let left = server.ok("ListOTAUnfinishedTaskByDevice", &[("IotId", &devices[2])]).await;
    assert_eq!(left["Data"]["SimpleOTATaskInfo"].as_array().unwrap().len(), 1);
    let left = server.ok("ListOTAUnfinishedTaskByDevice", &[("IotId", &devices[0])]).await;
    assert_eq!(left["Data"]["SimpleOTATaskInfo"], serde_json::json!([]));
    let filtered = [("IotId", devices[2].as_str()), ("TaskStatusList.1", "NOTIFIED")];
    let left = server.ok("ListOTAUnfinishedTaskByDevice", &filtered).await;
    assert_eq!(left["Data"]["SimpleOTATaskInfo"], serde_json::json!([]));
}

#[tokio::test]
async fn devices_of_a_product_are_read_page_by_page_and_on_by_token() {
    let server = TestServer::new().await;
    let (shop, _) = fleet(&server, 5).await;
    let mut params = pairs(&[("ProductKey", &shop.product_key), ("PageSize", "2")]);
    let mut names = Vec::new();
    loop {
        let page = server.ok("QueryDevice", &params).await;
        assert_eq!((&page["Total"], &page["PageCount"]), (&5.into(), &3.into()));
        let rows = page["Data"]["DeviceInfo"].as_array().unwrap();
        names.extend(rows.iter().map(|row| text(row, "/DeviceName")));
        let token = text(&page, "/NextToken");
        if token.is_empty() {
            break;
        }
        params = changed(&params, &[("NextToken", &token)]);
    }
    assert_eq!(names, ["lamp-05", "lamp-04", "lamp-03", "lamp-02", "lamp-01"]);
    let second = changed(&without(&params, "NextToken"), &[("CurrentPage", "2")]);
    let page = server.ok("QueryDevice", &second).await;
    assert_eq!(text(&page, "/Data/DeviceInfo/0/DeviceName"), "lamp-03");
}
