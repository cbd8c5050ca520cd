//! Packages, products and devices that are deleted while updates are under way.

use crate::dynamic::{dynamic, running, tell};
use crate::overwrite::status;
use crate::rules::{pull, report, tasks};
use crate::server::TestServer;
use crate::shop::{Shop, text};
use crate::states::Lamp;
use updraft_core::time::{HOUR_MS, MINUTE_MS};

#[tokio::test]
async fn a_deleted_device_ends_its_task_in_every_state() {
    for (state, more) in [
        ("CONFIRM", &[("NeedConfirm", "true")][..]),
        ("QUEUED", &[]),
        ("NOTIFIED", &[]),
        ("IN_PROGRESS", &[("TimeoutInMinutes", "30")]),
        ("waits for another attempt", &[("RetryInterval", "10"), ("RetryCount", "1")]),
    ] {
        let server = TestServer::new().await;
        let lamp = Lamp::open(&server).await;
        let job = lamp.batch(more).await;
        lamp.bring(if state.contains(' ') { "IN_PROGRESS" } else { state }).await;
        if state.contains(' ') {
            lamp.fails(-2, "").await;
        }
        server.ok("DeleteDevice", &[("IotId", &lamp.id)]).await;
        assert_eq!(lamp.task(&job).await, "CANCELED", "{state}");
        assert_eq!(status(&server, &job).await, "CANCELED", "{state}");
        lamp.pass(HOUR_MS).await;
        assert_eq!(lamp.task(&job).await, "CANCELED", "no timer wakes it: {state}");
    }
}

#[tokio::test]
async fn a_deleted_device_ends_a_batch_that_waits_for_its_hour() {
    let server = TestServer::new().await;
    let lamp = Lamp::open(&server).await;
    let start = server.app.now().plus_ms(HOUR_MS).0.to_string();
    let job = lamp.batch(&[("ScheduleTime", &start)]).await;
    server.ok("DeleteDevice", &[("IotId", &lamp.id)]).await;
    assert_eq!(status(&server, &job).await, "CANCELED");
    lamp.pass(2 * HOUR_MS).await;
    assert_eq!(status(&server, &job).await, "CANCELED");
}

#[tokio::test]
async fn a_deleted_test_device_fails_its_verification() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    let (first, second) = (shop.device("lamp-1").await, shop.device("lamp-2").await);
    let firmware = shop.unverified().await;
    let verify = [
        ("FirmwareId", firmware.as_str()),
        ("ProductKey", &shop.product_key),
        ("TargetDeviceName.1", "lamp-1"),
        ("TargetDeviceName.2", "lamp-2"),
    ];
    server.ok("CreateOTAVerifyJob", &verify).await;
    server.ok("DeleteDevice", &[("IotId", &first)]).await;
    let verdict = async || {
        server.ok("QueryOTAFirmware", &[("FirmwareId", &firmware)]).await["FirmwareInfo"]["Status"].clone()
    };
    assert_eq!(verdict().await, 2, "the other one is waited for");
    server.device(&second, report("2.0.0")).await;
    assert_eq!(verdict().await, 3);
}

#[tokio::test]
async fn a_rule_outlives_its_devices_and_takes_in_who_gets_a_free_name() {
    let server = TestServer::on_disk().await;
    let shop = Shop::open(&server).await;
    let lamp = running(&shop, "lamp-1", "1.0.0").await;
    let rule = dynamic(&shop, &shop.package().await, &[]).await;
    server.device(&lamp, pull()).await;
    server.ok("DeleteDevice", &[("IotId", &lamp)]).await;
    server.engine().await;
    assert_eq!(tasks(&server, &rule).await, ["lamp-1 CANCELED "]);
    assert_eq!(status(&server, &rule).await, "IN_PROGRESS");
    // A device that has its name is another one: that the first was cancelled does not matter.
    let next = shop.device("lamp-1").await;
    tell(&server, &next, "1.0.0").await;
    assert_eq!(tasks(&server, &rule).await, ["lamp-1 CANCELED ", "lamp-1 QUEUED "]);
}

#[tokio::test]
async fn a_deleted_package_ends_tasks_that_wait_for_another_attempt_too() {
    let server = TestServer::new().await;
    let lamp = Lamp::open(&server).await;
    lamp.connects().await;
    let job = lamp.batch(&[("RetryInterval", "10"), ("RetryCount", "2")]).await;
    lamp.says(5).await;
    lamp.fails(-4, "").await;
    lamp.told();
    let firmware = text(&server.ok("QueryOTAJob", &[("JobId", &job)]).await, "/Data/FirmwareId");
    server.ok("DeleteOTAFirmware", &[("FirmwareId", &firmware)]).await;
    server.engine().await;
    assert_eq!(lamp.task(&job).await, "CANCELED");
    lamp.pass(10 * MINUTE_MS).await;
    lamp.happens(pull()).await;
    assert_eq!((lamp.told(), lamp.task(&job).await.as_str()), ((0, 0), "CANCELED"));
    // What it did all the same is its own news.
    lamp.runs("2.0.0").await;
    assert_eq!(lamp.task(&job).await, "CANCELED");
}

#[tokio::test]
async fn a_product_stays_while_its_devices_update_and_goes_once_they_are_gone() {
    let server = TestServer::new().await;
    let lamp = Lamp::open(&server).await;
    let job = lamp.batch(&[]).await;
    lamp.bring("IN_PROGRESS").await;
    let product = [("ProductKey", lamp.shop.product_key.as_str())];
    let (_, answer) = server.call("DeleteProduct", &product).await;
    assert_eq!(answer["Code"], "iot.prod.ProductHasDevices");
    assert_eq!(lamp.task(&job).await, "IN_PROGRESS", "and nothing was touched");
    server.ok("DeleteDevice", &[("IotId", &lamp.id)]).await;
    server.ok("DeleteProduct", &product).await;
    server.engine().await;
    // Its batches stay to be read.
    assert_eq!(
        (status(&server, &job).await.as_str(), lamp.task(&job).await.as_str()),
        ("CANCELED", "CANCELED")
    );
}

#[tokio::test]
async fn a_deleted_product_ends_its_rules() {
    let server = TestServer::on_disk().await;
    let shop = Shop::open(&server).await;
    let rule = dynamic(&shop, &shop.package().await, &[]).await;
    server.ok("DeleteProduct", &[("ProductKey", &shop.product_key)]).await;
    server.engine().await;
    assert_eq!(status(&server, &rule).await, "CANCELED");
}
