//! Batches whose devices are named by a list file.

use crate::server::{HOST, TestServer, form};
use crate::shop::{Pairs, Shop, changed, pairs, text};
use http::Request;
use serde_json::json;
use updraft_server::device::link::DeviceEvent;
use updraft_server::engine;
use updraft_store::Location;

/// Uploads a list as the platform's sample does; answers its FileUrl.
pub async fn upload(server: &TestServer, list: &[u8]) -> String {
    let ticket = server.ok::<&str, &str>("GenerateDeviceNameListURL", &[]).await;
    assert_eq!(send(server, &ticket, list).await, 204);
    text(&ticket, "/Data/FileUrl")
}

async fn send(server: &TestServer, ticket: &serde_json::Value, list: &[u8]) -> u16 {
    let field = |name: &str| text(ticket, &format!("/Data/{}", name.trim_start_matches("OSS")));
    let form = String::from_utf8(form(field, list)).unwrap().replace("OSSAccessKeyId", "AccessKeyId");
    let request = Request::post("/").header("content-type", "multipart/form-data; boundary=edge");
    server.send_with(request, form.into_bytes()).await.status
}

fn request(shop: &Shop<'_>, firmware: &str, list: &str) -> Pairs {
    pairs(&[
        ("FirmwareId", firmware),
        ("ProductKey", &shop.product_key),
        ("TargetSelection", "SPECIFIC"),
        ("DnListFileUrl", list),
    ])
}

/// Code and message of a refusal.
async fn refusal(server: &TestServer, request: &[(String, String)]) -> (String, String) {
    let (_, answer) = server.call("CreateOTAStaticUpgradeJob", request).await;
    assert_ne!(answer["Success"], true, "{request:?}");
    (text(&answer, "/Code"), text(&answer, "/ErrorMessage"))
}

async fn devices_of(server: &TestServer, job: &str) -> Vec<String> {
    let list = server.ok("ListOTATaskByJob", &[("JobId", job), ("PageSize", "100")]).await;
    let rows = list["Data"]["SimpleOTATaskInfo"].as_array().unwrap();
    rows.iter().map(|row| text(row, "/DeviceName")).collect()
}

/// Lets the engine make all tasks.
pub async fn settle(server: &TestServer) {
    while engine::turn(&server.app).await.unwrap().more {}
}

#[tokio::test]
async fn a_batch_is_for_the_devices_of_its_list() {
    // Two devices a transaction: the list has parts.
    let server = TestServer::with(Location::Inline, |config| {
        config.quota_scale = 0.0;
        config.engine_chunk_rows = 2;
    })
    .await;
    let shop = Shop::open(&server).await;
    for n in (0..40).rev() {
        shop.device(&format!("device_{n:02}")).await;
    }
    let firmware = shop.package().await;
    let ticket = server.ok::<&str, &str>("GenerateDeviceNameListURL", &[]).await;
    assert_eq!(text(&ticket, "/Data/Host"), format!("http://{HOST}"));
    assert_eq!(text(&ticket, "/Data/ObjectStorage"), "OSS");
    // A few of many are looked up, most of them are walked past: both ways find the same.
    let few = upload(&server, b"\xef\xbb\xbfdevice_07, device_39\r\n\r\ndevice_00,\n").await;
    let most: Vec<String> = (0..40).filter(|n| n % 8 != 3).map(|n| format!("device_{n:02}")).collect();
    let most = most.join("\n");
    let most = upload(&server, most.as_bytes()).await;
    let overwritten = shop.package().await;
    for (firmware, list, expected) in
        [(&firmware, &few, vec!["device_39", "device_07", "device_00"]), (&overwritten, &most, Vec::new())]
    {
        let job = text(
            &server.ok("CreateOTAStaticUpgradeJob", &request(&shop, firmware, list)).await,
            "/Data/JobId",
        );
        let before = server.ok("QueryOTAJob", &[("JobId", &job)]).await;
        assert_eq!(before["Data"]["JobStatus"], "IN_PROGRESS", "no task is there, and yet it has not ended");
        assert_eq!(before["Data"]["TargetSelection"], "SPECIFIC");
        settle(&server).await;
        let found = devices_of(&server, &job).await;
        if expected.is_empty() {
            assert_eq!(found.len(), 35);
            assert!(!found.contains(&"device_11".to_owned()));
            assert_eq!(found.first().map(String::as_str), Some("device_39"), "in registration order");
        } else {
            assert_eq!(found, expected);
        }
    }
    // A list may be used again as long as it is there.
    server.ok("CreateOTAStaticUpgradeJob", &request(&shop, &firmware, &few)).await;
}

#[tokio::test]
async fn devices_on_the_version_are_skipped() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    let (firmware, ready) = (shop.package().await, shop.device("ready").await);
    shop.device("other").await;
    let report = DeviceEvent::Report { module: "default".to_owned(), version: "2.0.0".to_owned() };
    server.device(&ready, report).await;
    let list = upload(&server, b"ready,other").await;
    let job = server.ok("CreateOTAStaticUpgradeJob", &request(&shop, &firmware, &list)).await;
    settle(&server).await;
    assert_eq!(devices_of(&server, &text(&job, "/Data/JobId")).await, ["other"]);
    // Of nobody but such a device: the batch ends at once.
    let list = upload(&server, b"ready").await;
    let job = server.ok("CreateOTAStaticUpgradeJob", &request(&shop, &firmware, &list)).await;
    settle(&server).await;
    let job = server.ok("QueryOTAJob", &[("JobId", &text(&job, "/Data/JobId"))]).await;
    assert_eq!(job["Data"]["JobStatus"], "COMPLETED");
}

#[tokio::test]
async fn devices_that_a_difference_does_not_fit_are_skipped() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    for (name, version) in [("older", "0.9.0"), ("fits", "1.0.0"), ("silent", "")] {
        let device = shop.device(name).await;
        if !version.is_empty() {
            let (module, version) = ("default".to_owned(), version.to_owned());
            server.device(&device, DeviceEvent::Report { module, version }).await;
        }
    }
    let mut package = shop.package_request().await;
    package.extend(pairs(&[("Type", "1"), ("SrcVersion", "1.0.0"), ("NeedToVerify", "false")]));
    let firmware = text(&server.ok("CreateOTAFirmware", &package).await, "/Data/FirmwareId");
    let list = upload(&server, b"older,fits,silent").await;
    let job = server.ok("CreateOTAStaticUpgradeJob", &request(&shop, &firmware, &list)).await;
    settle(&server).await;
    assert_eq!(devices_of(&server, &text(&job, "/Data/JobId")).await, ["fits"]);
}

#[tokio::test]
async fn a_list_with_faults_is_refused_and_the_lines_are_told() {
    let server = TestServer::with(Location::Inline, |config| {
        config.quota_scale = 0.0;
        config.list_names_max = 3;
    })
    .await;
    let shop = Shop::open(&server).await;
    let firmware = shop.package().await;
    for n in 1..=4 {
        shop.device(&format!("dev{n}")).await;
    }
    for (list, code, words) in [
        (&b"dev1\ndev2\ndev9\n\ndev8"[..2 * 5], "", ""),
        (b"dev1\ndev9\n\ndev8", "iot.ota.TargetDeviceNotFound", "line 2: dev9, line 4: dev8"),
        (b"dev9,dev8", "iot.ota.TargetDeviceNotFound", "line 1: dev8, line 1: dev9"),
        (b"dev1\ndev2\ndev1", "iot.ota.InvalidTargetDevices", "line 3: dev1"),
        (b"dev1\nd 2\n\"dev3\"", "iot.ota.InvalidTargetDevices", "line 2: \"d 2\", line 3: \"\\\"dev3\\\"\""),
        (b" ,\r\n", "iot.ota.InvalidTargetDevices", "no device name"),
        (b"dev1,dev2,dev3,dev4", "iot.ota.InvalidTargetDevices", "list_names_max"),
    ] {
        let url = upload(&server, list).await;
        let request = request(&shop, &firmware, &url);
        if code.is_empty() {
            server.ok("CreateOTAStaticUpgradeJob", &request).await;
            continue;
        }
        let (found, message) = refusal(&server, &request).await;
        assert_eq!(found, code, "{message}");
        assert!(message.contains(words), "{message}");
    }
    let count = server.ok("QueryOTAFirmware", &[("FirmwareId", &firmware)]).await;
    assert_eq!(count["Success"], json!(true));
    let page = [("FirmwareId", firmware.as_str()), ("CurrentPage", "1"), ("PageSize", "10")];
    assert_eq!(server.ok("ListOTAJobByFirmware", &page).await["Total"], 1, "a refused list leaves no batch");
}

#[tokio::test]
async fn a_list_goes_with_specific_alone() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    let firmware = shop.package().await;
    shop.device("dev1").await;
    let list = upload(&server, b"dev1").await;
    let good = request(&shop, &firmware, &list);
    let verified = shop.unverified().await;
    let elsewhere = format!("http://{HOST}/list/00/nothing.csv");
    let of_a_package = shop.file().await;
    for (changes, code) in [
        (&[("TargetDeviceName.1", "dev1")][..], "iot.ota.InvalidTargetDevices"),
        (&[("TargetSelection", "ALL")], "iot.ota.InvalidTargetDevices"),
        (&[("TargetSelection", "GRAY"), ("GrayPercent", "50")], "iot.ota.InvalidTargetDevices"),
        (&[("SrcVersion.1", "1.0.0")], "iot.ota.InvalidSrcVersion"),
        (&[("DnListFileUrl", "")], "iot.ota.InvalidTargetDevices"),
        (&[("DnListFileUrl", "list")], "iot.ota.InvalidDnListFileUrl"),
        (&[("DnListFileUrl", &elsewhere)], "iot.ota.InvalidDnListFileUrl"),
        (&[("DnListFileUrl", &of_a_package)], "iot.ota.InvalidDnListFileUrl"),
        (&[("FirmwareId", &verified)], "iot.ota.FirmwareNotVerified"),
        (&[("FirmwareId", "unknown")], "iot.ota.FirmwareNotFound"),
    ] {
        assert_eq!(refusal(&server, &changed(&good, changes)).await.0, code, "{changes:?}");
    }
    // Nor is a list a package's file.
    let package = changed(&shop.package_request().await, &[("FirmwareUrl", &list)]);
    let (_, answer) = server.call("CreateOTAFirmware", &package).await;
    assert_eq!(text(&answer, "/Code"), "iot.ota.InvalidFirmwareUrl");
    // A ticket alone is no list.
    let ticket = server.ok::<&str, &str>("GenerateDeviceNameListURL", &[]).await;
    let unused = changed(&good, &[("DnListFileUrl", &text(&ticket, "/Data/FileUrl"))]);
    assert_eq!(refusal(&server, &unused).await.0, "iot.ota.InvalidDnListFileUrl");
    server.ok("CreateOTAStaticUpgradeJob", &good).await;
}

#[tokio::test]
async fn a_list_has_its_own_size_and_an_hour() {
    let server = TestServer::with(Location::Inline, |config| {
        config.quota_scale = 0.0;
        config.list_file_bytes_max = 10;
    })
    .await;
    let shop = Shop::open(&server).await;
    let firmware = shop.package().await;
    shop.device("dev1").await;
    let ticket = server.ok::<&str, &str>("GenerateDeviceNameListURL", &[]).await;
    assert_eq!(send(&server, &ticket, b"dev1\ndev2\nd").await, 400);
    assert_eq!(send(&server, &ticket, b"dev1\n").await, 204);
    let request = request(&shop, &firmware, &text(&ticket, "/Data/FileUrl"));
    server.later_ms(3_600_000);
    server.ok("CreateOTAStaticUpgradeJob", &request).await;
    server.later_ms(1);
    let (code, message) = refusal(&server, &request).await;
    assert_eq!(code, "iot.ota.InvalidDnListFileUrl");
    assert!(message.contains("upload_unused_seconds"), "{message}");
}
