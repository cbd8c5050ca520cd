//! Disabling, deleting and resetting devices.

use crate::server::TestServer;
use crate::shop::{Shop, pairs, text};
use updraft_core::device::DeviceStatus;
use updraft_core::id::DeviceNo;
use updraft_server::device::link::DeviceEvent;
use updraft_store::StoreError;

fn online(session: i64) -> DeviceEvent {
    DeviceEvent::Online { session, ip: "10.0.0.1".to_owned() }
}

async fn status(server: &TestServer, iot_id: &str) -> (String, i64) {
    let answer = server.ok("GetDeviceStatus", &[("IotId", iot_id)]).await;
    (text(&answer, "/Data/Status"), answer["Data"]["Timestamp"].as_i64().unwrap())
}

async fn number(server: &TestServer, shop: &Shop<'_>, name: &str) -> DeviceNo {
    let (key, name) = (shop.product_key.clone(), name.to_owned());
    let found = server.app.store.read(move |tx| tx.device_login(&key, &name)).await.unwrap();
    match found {
        Some(updraft_store::DeviceLogin::Known { device, .. }) => device,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_disabled_device_says_so_everywhere_and_comes_back_as_it_was() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    let id = shop.device("lamp_1").await;
    let never = shop.device("lamp_2").await;
    server.device(&id, online(1)).await;
    server.later_ms(5_000);
    let at = server.app.now().0;
    for id in [&id, &never] {
        server.ok("DisableThing", &[("IotId", id)]).await;
        assert_eq!(status(&server, id).await, ("DISABLE".to_owned(), at));
    }
    let no = number(&server, &shop, "lamp_1").await;
    assert_eq!(server.kicked.lock().unwrap()[0], no);
    let detail = server.ok("QueryDeviceDetail", &[("IotId", &id)]).await;
    assert_eq!(text(&detail, "/Data/Status"), "DISABLE");
    let list = server.ok("QueryDevice", &[("ProductKey", &shop.product_key)]).await;
    assert_eq!(text(&list, "/Data/DeviceInfo/0/DeviceStatus"), "DISABLE");
    // Its data is kept, and it may be disabled twice.
    server.later_ms(1_000);
    server.ok("DisableThing", &[("IotId", &id)]).await;
    assert_eq!(status(&server, &id).await.1, at);
    server.later_ms(1_000);
    for id in [&id, &never] {
        server.ok("EnableThing", &[("IotId", id)]).await;
    }
    assert_eq!(status(&server, &id).await, ("OFFLINE".to_owned(), at + 2_000));
    assert_eq!(status(&server, &never).await, ("UNACTIVE".to_owned(), at + 2_000));
    server.device(&id, online(2)).await;
    assert_eq!(status(&server, &id).await.0, "ONLINE");
}

#[tokio::test]
async fn a_login_that_raced_with_the_disabling_does_not_survive_it() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    let id = shop.device("lamp_1").await;
    let no = number(&server, &shop, "lamp_1").await;
    // The login was let in before; that it is online comes in after.
    server.ok("DisableThing", &[("IotId", &id)]).await;
    server.kicked.lock().unwrap().clear();
    server.device(&id, online(1)).await;
    assert_eq!(status(&server, &id).await.0, "DISABLE");
    assert_eq!(*server.kicked.lock().unwrap(), [no], "it is sent away");
    // What it says meanwhile is not taken, and its end changes nothing.
    let version = DeviceEvent::Report { module: "default".to_owned(), version: "9.9.9".to_owned() };
    server.device(&id, version).await;
    server.device(&id, DeviceEvent::Offline { session: 1 }).await;
    server.ok("EnableThing", &[("IotId", &id)]).await;
    let detail = server.ok("QueryDeviceDetail", &[("IotId", &id)]).await;
    assert_eq!(text(&detail, "/Data/Status"), "UNACTIVE", "{detail}");
    assert_eq!(detail["Data"].get("FirmwareVersion"), None);
}

#[tokio::test]
async fn tasks_of_a_disabled_device_stay_as_they_are() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    let id = shop.device("lamp_1").await;
    let job = shop.batch(&shop.package().await, "lamp_1", &[]).await;
    server.ok("DisableThing", &[("IotId", &id)]).await;
    server.engine().await;
    let tasks = server.ok("ListOTATaskByJob", &[("JobId", &job)]).await;
    assert_eq!(text(&tasks, "/Data/SimpleOTATaskInfo/0/TaskStatus"), "QUEUED");
}

#[tokio::test]
async fn deleting_a_device_ends_its_tasks_and_their_batches() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    let id = shop.device("lamp_1").await;
    let no = number(&server, &shop, "lamp_1").await;
    let job = shop.batch(&shop.package().await, "lamp_1", &[]).await;
    server.ok("DeleteDevice", &[("IotId", &id)]).await;
    assert_eq!(*server.kicked.lock().unwrap(), [no]);
    let batch = server.ok("QueryOTAJob", &[("JobId", &job)]).await;
    assert_eq!(text(&batch, "/Data/JobStatus"), "CANCELED");
    // The list of the batch still tells of it.
    let tasks = server.ok("ListOTATaskByJob", &[("JobId", &job)]).await;
    assert_eq!(text(&tasks, "/Data/SimpleOTATaskInfo/0/TaskStatus"), "CANCELED");
    assert_eq!(text(&tasks, "/Data/SimpleOTATaskInfo/0/DeviceName"), "lamp_1");
    // By name, too, also if another device has the name by now.
    shop.device("lamp_1").await;
    let named = server.ok("ListOTATaskByJob", &[("JobId", job.as_str()), ("DeviceNames.1", "lamp_1")]).await;
    assert_eq!((&named["Total"], &named["Data"]), (&1.into(), &tasks["Data"]));
    let task = text(&tasks, "/Data/SimpleOTATaskInfo/0/TaskId");
    let (_, answer) = server.call("ReupgradeOTATask", &[("JobId", &job), ("TaskId.1", &task)]).await;
    assert_eq!(answer["Code"], "iot.ota.TaskStatusForbids", "its batch would wait for ever: {answer}");
}

#[tokio::test]
async fn a_deleted_device_is_gone_for_good_and_its_name_is_free() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    let id = shop.device("lamp_1").await;
    let by_name = pairs(&[("ProductKey", &shop.product_key), ("DeviceName", "lamp_1")]);
    let no = number(&server, &shop, "lamp_1").await;
    server.ok("DeleteDevice", &by_name).await;
    for action in ["QueryDeviceDetail", "GetDeviceStatus", "DisableThing", "EnableThing", "DeleteDevice"] {
        for params in [&by_name, &pairs(&[("IotId", &id)])] {
            let (_, answer) = server.call(action, params).await;
            assert_eq!(answer["Code"], "iot.device.NotExistedDevice", "{action}");
        }
    }
    let list = server.ok("QueryDevice", &[("ProductKey", &shop.product_key)]).await;
    assert_eq!((list["Total"].as_i64(), list["Data"]["DeviceInfo"].as_array().unwrap().len()), (Some(0), 0));
    // What it still says leaves nothing behind.
    let late = [
        online(7),
        DeviceEvent::Report { module: "default".to_owned(), version: "1.0.0".to_owned() },
        DeviceEvent::Offline { session: 7 },
    ];
    let late = late.map(|event| updraft_server::device::link::Happened { device: no, event });
    updraft_server::engine::ingest::take(&server.app, late.to_vec()).await.unwrap();
    let version = server.app.store.read(move |tx| tx.version_find(no, "default")).await.unwrap();
    assert_eq!(version, None);
    let again = shop.device("lamp_1").await;
    assert_ne!(again, id);
    assert_eq!(status(&server, &again).await.0, DeviceStatus::Unactive.name());
    let list = server.ok("QueryDevice", &[("ProductKey", &shop.product_key)]).await;
    assert_eq!(list["Total"], 1);
}

#[tokio::test]
async fn a_device_deleted_between_the_choice_and_the_making_of_tasks_gets_none() {
    let server = TestServer::with(updraft_store::Location::Inline, |config| {
        config.quota_scale = 0.0;
        config.engine_chunk_rows = 2;
    })
    .await;
    let shop = Shop::open(&server).await;
    let firmware = shop.package().await;
    for n in 1..=5 {
        let id = shop.device(&format!("lamp_{n}")).await;
        let version = DeviceEvent::Report { module: "default".to_owned(), version: "1.0.0".to_owned() };
        server.device(&id, version).await;
    }
    let share = [("TargetSelection", "GRAY"), ("GrayPercent", "100")];
    let request = [pairs(&[("FirmwareId", &firmware), ("ProductKey", &shop.product_key)]), pairs(&share)];
    let job = text(&server.ok("CreateOTAStaticUpgradeJob", &request.concat()).await, "/Data/JobId");
    updraft_server::engine::select::select_one(&server.app).await.unwrap();
    for name in ["lamp_2", "lamp_4", "lamp_5"] {
        server.ok("DeleteDevice", &[("ProductKey", shop.product_key.as_str()), ("DeviceName", name)]).await;
    }
    server.engine().await;
    let tasks = server.ok("ListOTATaskByJob", &[("JobId", &job)]).await;
    assert_eq!(tasks["Total"], 2, "{tasks}");
    let left = server.app.store.read(|tx| {
        let all = updraft_core::id::DeviceNo(0);
        let job = updraft_core::id::JobNo(1);
        Ok::<_, StoreError>(tx.candidates_of_targets(job, "default", all, 10)?.len())
    });
    assert_eq!(left.await.unwrap(), 0, "no choice is left behind");
}

#[tokio::test]
async fn a_reset_names_a_job_and_leaves_the_device_alone() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    let id = shop.device("lamp_1").await;
    server.device(&id, online(1)).await;
    let answer = server.ok("ResetThing", &[("IotId", &id)]).await;
    assert!(!text(&answer, "/JobId").is_empty());
    assert_eq!(status(&server, &id).await.0, "ONLINE", "its activation is not reset");
}
