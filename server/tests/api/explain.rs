//! ExplainOTATask: what is told of real states, and that it comes true.

use crate::dynamic::{dynamic, running, tell};
use crate::overwrite::progress;
use crate::rules::{asked, failure, pull, report};
use crate::server::TestServer;
use crate::shop::{Pairs, Shop, changed, pairs, text};
use serde_json::Value;
use std::sync::atomic::Ordering;
use updraft_core::time::{MINUTE_MS, Timestamp};
use updraft_server::api::answer::utc;
use updraft_server::device::link::{DeviceEvent, Downlink};

/// What is told of a device (IotId) and a batch.
async fn told(server: &TestServer, device: &str, job: &str) -> Value {
    let answer = server.ok("ExplainOTATask", &[("IotId", device), ("JobId", job)]).await;
    let batches = answer["Data"]["Batches"]["BatchExplanation"].as_array().unwrap().clone();
    assert_eq!(batches.len(), 1, "{answer}");
    batches[0].clone()
}

/// Verdict, what is waited for, what comes next, and the first predicate that does not hold.
fn shape(told: &Value) -> [&str; 4] {
    let checks = told["Checks"]["Check"].as_array().unwrap();
    let no = checks.iter().find(|check| check["Holds"] == "NO").map(|check| &check["Name"]);
    let of = |field: &str| told[field].as_str().unwrap_or_default();
    [of("Verdict"), of("WaitsFor"), of("Next"), no.and_then(Value::as_str).unwrap_or_default()]
}

fn pushed(server: &TestServer) -> usize {
    server.sent.lock().unwrap().iter().filter(|(_, sent)| matches!(sent, Downlink::Push { .. })).count()
}

#[tokio::test]
async fn an_open_task_is_explained_at_each_station_of_its_way() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    let device = shop.device("lamp_1").await;
    server.device(&device, report("1.0.0")).await;
    let job = shop
        .batch(&shop.package().await, "lamp_1", &[("NeedConfirm", "true"), ("TimeoutInMinutes", "30")])
        .await;
    let task = shop.task(&job).await;
    let now = told(&server, &device, &job).await;
    assert_eq!(shape(&now), ["WAITING", "CONSENT", "NOTHING", "CONFIRMATION"]);
    assert_eq!(text(&now, "/TaskId"), task);
    assert_eq!(text(&now, "/UtcWaitsSince"), utc(server.app.now()));
    server.later_ms(5_000);
    let confirmed = server.app.now();
    server.ok("ConfirmOTATask", &[("TaskId.1", &task)]).await;
    server.engine().await;
    let now = told(&server, &device, &job).await;
    assert_eq!(shape(&now), ["WAITING", "CONNECTION", "NOTHING", "CONNECTION"]);
    assert_eq!(text(&now, "/UtcWaitsSince"), utc(confirmed), "since the consent");
    server.listening.store(true, Ordering::Relaxed);
    server.device(&device, DeviceEvent::Listening).await;
    let now = told(&server, &device, &job).await;
    assert_eq!(shape(&now), ["UNDER_WAY", "ANSWER", "NOTHING", ""]);
    server.later_ms(5_000);
    let begun = server.app.now();
    server.device(&device, progress("default")).await;
    let now = told(&server, &device, &job).await;
    assert_eq!(shape(&now), ["UNDER_WAY", "VERSION", "TIMEOUT", ""]);
    let end = utc(begun.plus_ms(30 * MINUTE_MS));
    assert_eq!((text(&now, "/UtcNext"), text(&now, "/UtcEndsBy")), (end.clone(), end));
    // What was foretold comes true, to the millisecond.
    server.later_ms(30 * MINUTE_MS - 1);
    server.engine().await;
    assert_eq!(shape(&told(&server, &device, &job).await)[0], "UNDER_WAY");
    server.later_ms(1);
    server.engine().await;
    let now = told(&server, &device, &job).await;
    assert_eq!(shape(&now), ["ENDED", "", "NOTHING", "TASK"]);
    assert!(text(&now, "/Summary").contains("by the clock: timeout"), "{now}");
    server.ok("ReupgradeOTATask", &[("JobId", &job), ("TaskId.1", &task)]).await;
    server.engine().await;
    server.device(&device, report("2.0.0")).await;
    let now = told(&server, &device, &job).await;
    assert_eq!(shape(&now), ["UPDATED", "", "NOTHING", ""]);
}

#[tokio::test]
async fn a_push_goes_out_when_it_was_foretold() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    let (mut devices, package) = (Vec::new(), shop.package().await);
    for name in ["lamp_1", "lamp_2", "lamp_3"] {
        devices.push(shop.device(name).await);
    }
    let request: Pairs = pairs(&[
        ("FirmwareId", &package),
        ("ProductKey", &shop.product_key),
        ("TargetSelection", "ALL"),
        ("MaximumPerMinute", "10"),
    ]);
    let job = text(&server.ok("CreateOTAStaticUpgradeJob", &request).await, "/Data/JobId");
    server.engine().await;
    server.listening.store(true, Ordering::Relaxed);
    for device in &devices {
        server.device(device, DeviceEvent::Listening).await;
    }
    assert_eq!(pushed(&server), 1);
    for (device, before) in devices[1..].iter().zip(1..) {
        let now = told(&server, device, &job).await;
        assert_eq!(shape(&now), ["WAITING", "SLOT", "PUSH", "SLOT"]);
        let slot = Timestamp(text_ms(&text(&now, "/UtcNext")));
        server.clock.set(slot.plus_ms(-1));
        server.engine().await;
        assert_eq!(pushed(&server), before, "a millisecond before");
        server.clock.set(slot);
        server.engine().await;
        assert_eq!(pushed(&server), before + 1, "at that moment");
    }
}

/// The milliseconds of a moment as it is told.
fn text_ms(utc: &str) -> i64 {
    let moment: jiff::Timestamp = utc.parse().unwrap();
    moment.as_millisecond()
}

#[tokio::test]
async fn a_device_without_a_task_is_told_why() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    let early = running(&shop, "lamp_1", "1.0.0").await;
    let package = shop.package().await;
    let request: Pairs = pairs(&[
        ("FirmwareId", &package),
        ("ProductKey", &shop.product_key),
        ("TargetSelection", "ALL"),
        ("SrcVersion.1", "1.0.0"),
    ]);
    let job = text(&server.ok("CreateOTAStaticUpgradeJob", &request).await, "/Data/JobId");
    assert_eq!(shape(&told(&server, &early, &job).await), ["TO_COME", "MAKING", "DECISION", ""]);
    server.engine().await;
    assert_eq!(shape(&told(&server, &early, &job).await)[1], "CONNECTION", "it has its task");
    let late = running(&shop, "lamp_2", "1.0.0").await;
    assert_eq!(shape(&told(&server, &late, &job).await), ["LEFT_OUT", "", "NOTHING", "REGISTERED"]);
    let other = Shop::open_as(&server, "other_").await;
    let stranger = other.device("lamp_3").await;
    assert_eq!(shape(&told(&server, &stranger, &job).await), ["LEFT_OUT", "", "NOTHING", "PRODUCT"]);
    // A batch without tasks, which is over.
    let request = changed(&request, &[("FirmwareId", &shop.package().await), ("SrcVersion.1", "0.9.0")]);
    let none = text(&server.ok("CreateOTAStaticUpgradeJob", &request).await, "/Data/JobId");
    server.engine().await;
    let now = told(&server, &late, &none).await;
    assert_eq!(shape(&now), ["LEFT_OUT", "", "NOTHING", "SOURCE_VERSION"]);
    assert!(text(&now, "/Summary").contains("As of now"), "{now}");
    // A task that was born failed says by what its device is kept.
    let busy = shop.batch(&shop.package().await, "lamp_1", &[]).await;
    let now = told(&server, &early, &busy).await;
    assert_eq!(shape(&now)[0], "ENDED");
    assert!(text(&now, "/Summary").contains("unfinished task in another batch"), "{now}");
    // A device that is gone is found by its batch.
    server.ok("DeleteDevice", &[("IotId", &early)]).await;
    let names = [("ProductKey", shop.product_key.as_str()), ("DeviceName", "lamp_1")];
    let answer = server.ok("ExplainOTATask", &[&names[..], &[("JobId", &job)]].concat()).await;
    let now = &answer["Data"]["Batches"]["BatchExplanation"][0];
    assert_eq!(now["TaskStatus"], "CANCELED");
    let checks = now["Checks"]["Check"].as_array().unwrap();
    assert!(checks.iter().any(|check| check["Name"] == "DEVICE" && check["Holds"] == "NO"), "{now}");
}

#[tokio::test]
async fn a_dynamic_batch_tells_what_it_waits_for() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    let device = running(&shop, "lamp_1", "0.9.0").await;
    let first = dynamic(&shop, &shop.package().await, &[("DynamicMode", "2")]).await;
    assert_eq!(shape(&told(&server, &device, &first).await)[3], "SOURCE_VERSION");
    let quiet = running(&shop, "lamp_2", "0.9.0").await;
    let second =
        dynamic(&shop, &shop.package().await, &[("DynamicMode", "2"), ("SrcVersion.1", "0.9.0")]).await;
    let now = told(&server, &quiet, &second).await;
    assert_eq!(shape(&now), ["TO_COME", "REPORT", "NOTHING", "REPORT"]);
    tell(&server, &quiet, "0.9.0").await;
    assert_eq!(shape(&told(&server, &quiet, &second).await)[1], "CONNECTION");
    // Busy with another batch, then free: the review is noted in the transaction that frees it.
    let busy = running(&shop, "lamp_3", "1.1.0").await;
    let kept = shop.batch(&shop.package().await, "lamp_3", &[]).await;
    let third = dynamic(&shop, &shop.package().await, &[("SrcVersion.1", "1.1.0")]).await;
    assert_eq!(shape(&told(&server, &busy, &third).await), ["TO_COME", "FREE", "NOTHING", "BUSY"]);
    server.ok("CancelOTATaskByJob", &[("JobId", kept.as_str()), ("CancelQueuedTask", "true")]).await;
    assert_eq!(shape(&told(&server, &busy, &third).await), ["TO_COME", "ROUND", "DECISION", ""]);
    server.engine().await;
    assert_eq!(shape(&told(&server, &busy, &third).await)[1], "CONNECTION");
    // After the end of its task it must report again.
    server.device(&busy, pull()).await;
    server.device(&busy, failure()).await;
    let now = told(&server, &busy, &third).await;
    assert_eq!([shape(&now)[0], shape(&now)[1]], ["ENDED", "REPORT"]);
    server.ok("CancelOTAStrategyByJob", &[("JobId", &third)]).await;
    let now = told(&server, &busy, &third).await;
    assert_eq!([shape(&now)[0], shape(&now)[1]], ["ENDED", ""]);
    assert!(text(&now, "/Summary").contains("has ended"), "{now}");
}

#[tokio::test]
async fn without_a_batch_all_that_run_are_told_of_and_that_there_are_none() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    shop.device("lamp_1").await;
    shop.device("lamp_2").await;
    let by_name = [("ProductKey", shop.product_key.as_str()), ("DeviceName", "lamp_1")];
    let answer = server.ok("ExplainOTATask", &by_name).await;
    assert!(text(&answer, "/Data/Summary").contains("nothing updates it"), "{answer}");
    assert_eq!(answer["Data"]["Batches"]["BatchExplanation"].as_array().unwrap().len(), 0);
    let own = shop.batch(&shop.package().await, "lamp_1", &[]).await;
    let mut others = Vec::new();
    for _ in 0..21 {
        others.push(shop.batch(&shop.package().await, "lamp_2", &[]).await);
    }
    let answer = server.ok("ExplainOTATask", &by_name).await;
    let batches = answer["Data"]["Batches"]["BatchExplanation"].as_array().unwrap();
    // Those of lamp_2 but the first ended at once, since it is busy.
    assert_eq!(batches.iter().map(|of| text(of, "/JobId")).collect::<Vec<_>>(), [others[0].clone(), own]);
    assert_eq!(shape(&batches[0])[0], "LEFT_OUT");
    assert!(text(&answer, "/Data/Summary").contains("1 of the 2"), "{answer}");
}

#[tokio::test]
async fn what_a_device_says_in_vain_is_told() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    let device = shop.device("lamp_1").await;
    let refusals = async |device: &str| {
        let answer = server.ok("ExplainOTATask", &[("IotId", device)]).await;
        let all = answer["Data"]["Refusals"]["DeviceRefusal"].as_array().unwrap().clone();
        let of = |refused: &Value| {
            format!(
                "{} {} {} x{}",
                text(refused, "/Event"),
                text(refused, "/ModuleName"),
                text(refused, "/Reason"),
                refused["Count"]
            )
        };
        let mut all: Vec<String> = all.iter().map(of).collect();
        all.sort();
        all
    };
    // A question of a device that has nothing to do is how things are.
    server.device(&device, pull()).await;
    assert_eq!(refusals(&device).await, [""; 0]);
    for module in ["radio", "default"] {
        server.device(&device, progress(module)).await;
    }
    assert_eq!(refusals(&device).await, ["progress default the device has no task x2"]);
    let package = shop.package().await;
    shop.batch(&package, "lamp_1", &[]).await;
    server.device(&device, DeviceEvent::Pull { module: "radio".to_owned(), asked: asked() }).await;
    server.device(&device, progress("radio")).await;
    let wanted = [
        "progress default the device has no task x2",
        "progress radio the device has tasks, but none for this module x1",
        "pull radio the device has tasks, but none for this module x1",
    ];
    assert_eq!(refusals(&device).await, wanted);
}
