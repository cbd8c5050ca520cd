//! The operations' own rules: names, files, verification, targets, tags, limits.

use crate::server::{OTHER_ACCOUNT, ROOT, TestServer};
use crate::shop::{IMAGE, IMAGE_MD5, IMAGE_SHA256, Pairs, Shop, changed, pairs, text, without};
use serde_json::{Value, json};
use updraft_core::task::FailedStep;
use updraft_server::device::link::{Asked, DeviceEvent, Question};
use updraft_store::Location;

/// A call that must be refused with a code, and must change nothing.
pub async fn refused(server: &TestServer, action: &str, params: &Pairs, code: &str) {
    let before = server.dump();
    let answer = server.call_as(ROOT, "JSON", action, params).await;
    assert_eq!(answer.code(), code, "{action} {params:?}: {}", answer.body);
    assert!(server.dump() == before, "{action} {params:?} changed the database");
}

pub fn report(version: &str) -> DeviceEvent {
    DeviceEvent::Report { module: "default".to_owned(), version: version.to_owned() }
}

/// A question on the usual topic.
pub fn asked() -> Asked {
    Asked { by: Question::Get, id: "1".to_owned() }
}

pub fn pull() -> DeviceEvent {
    DeviceEvent::Pull { module: "default".to_owned(), asked: asked() }
}

pub fn failure() -> DeviceEvent {
    let (module, desc) = ("default".to_owned(), "no".to_owned());
    DeviceEvent::Failure { module, step: FailedStep::Download, desc }
}

/// `(Status, VerifyProgress)` of a package.
async fn verdict(server: &TestServer, firmware: &str) -> (i64, i64) {
    let answer = server.ok("QueryOTAFirmware", &[("FirmwareId", firmware)]).await;
    let field = |name: &str| answer["FirmwareInfo"][name].as_i64().unwrap();
    (field("Status"), field("VerifyProgress"))
}

/// `DeviceName TaskStatus TaskDesc` of each task of a batch.
pub async fn tasks(server: &TestServer, job: &str) -> Vec<String> {
    let answer = server.ok("ListOTATaskByJob", &[("JobId", job), ("PageSize", "100")]).await;
    let row = |row: &Value| {
        ["DeviceName", "TaskStatus", "TaskDesc"].map(|name| row[name].as_str().unwrap().to_owned()).join(" ")
    };
    answer["Data"]["SimpleOTATaskInfo"].as_array().unwrap().iter().map(row).collect()
}

#[tokio::test]
async fn names_are_taken_once_in_their_scope() {
    let server = TestServer::on_disk().await;
    let shop = Shop::open(&server).await;
    let product = shop.valid("CreateProduct").await;
    server.ok("CreateProduct", &product).await;
    refused(&server, "CreateProduct", &product, "iot.prod.AlreadyExistedProductName").await;
    let device = shop.valid("RegisterDevice").await;
    server.ok("RegisterDevice", &device).await;
    refused(&server, "RegisterDevice", &device, "iot.device.AlreadyExistedDeviceName").await;
    let package = shop.valid("CreateOTAFirmware").await;
    server.ok("CreateOTAFirmware", &package).await;
    let same_name = changed(&package, &[("FirmwareUrl", &shop.file().await)]);
    refused(&server, "CreateOTAFirmware", &same_name, "iot.ota.AlreadyExistedFirmwareName").await;
    // In another product, or of another account, a name is another name.
    let other = text(&server.ok("CreateProduct", &shop.valid("CreateProduct").await).await, "/ProductKey");
    server.ok("RegisterDevice", &changed(&device, &[("ProductKey", &other)])).await;
    let answer = server.call_as(OTHER_ACCOUNT, "JSON", "CreateProduct", &product).await;
    assert_eq!(answer.json()["Success"], true, "{}", answer.body);
}

#[tokio::test]
async fn what_another_account_has_does_not_exist() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    for (action, code) in [
        ("RegisterDevice", "iot.prod.NotExistedProduct"),
        ("QueryDeviceDetail", "iot.prod.NotExistedProduct"),
        ("CreateOTAFirmware", "iot.prod.NotExistedProduct"),
        ("QueryOTAFirmware", "iot.ota.FirmwareNotFound"),
        ("CreateOTAVerifyJob", "iot.ota.FirmwareNotFound"),
        ("CreateOTAStaticUpgradeJob", "iot.ota.FirmwareNotFound"),
        ("QueryOTAJob", "iot.ota.JobNotFound"),
        ("ListOTAJobByFirmware", "iot.ota.FirmwareNotFound"),
        ("ListOTATaskByJob", "iot.ota.JobNotFound"),
        ("CancelOTATaskByJob", "iot.ota.JobNotFound"),
    ] {
        let answer = server.call_as(OTHER_ACCOUNT, "JSON", action, &shop.valid(action).await).await;
        assert_eq!((answer.status, answer.code().as_str()), (200, code), "{action}");
    }
    let iot_id = shop.device("lamp-1").await;
    let answer = server.call_as(OTHER_ACCOUNT, "JSON", "QueryDeviceDetail", &[("IotId", iot_id)]).await;
    assert_eq!(answer.code(), "iot.device.NotExistedDevice");
}

#[tokio::test]
async fn a_device_is_named_by_iot_id_or_by_product_and_name_and_iot_id_wins() {
    let server = TestServer::on_disk().await;
    let shop = Shop::open(&server).await;
    let iot_id = shop.device("lamp-1").await;
    shop.device("lamp-2").await;
    let key = shop.product_key.as_str();
    let both = [("IotId", iot_id.as_str()), ("ProductKey", key), ("DeviceName", "lamp-2")];
    let answer = server.ok("QueryDeviceDetail", &both).await;
    assert_eq!(answer["Data"]["DeviceName"], "lamp-1");
    assert_eq!(answer["Data"]["Status"], "UNACTIVE");
    for half in [vec![], vec![("ProductKey", key)], vec![("DeviceName", "lamp-1")]] {
        refused(&server, "QueryDeviceDetail", &pairs(&half), "iot.device.NullDeviceName").await;
    }
    // Without a name a device gets one.
    let named = server.ok("RegisterDevice", &[("ProductKey", key)]).await;
    assert_eq!(text(&named, "/Data/DeviceName").len(), 20);
    assert_eq!(text(&named, "/Data/DeviceSecret").len(), 32);
}

#[tokio::test]
async fn a_packages_file_is_one_that_was_uploaded_here_and_is_not_in_use() {
    let server = TestServer::on_disk().await;
    let shop = Shop::open(&server).await;
    let good = shop.package_request().await;
    let invalid = "iot.ota.InvalidFirmwareUrl";
    refused(&server, "CreateOTAFirmware", &without(&good, "FirmwareUrl"), "MissingFirmwareUrl").await;
    for url in ["http://h/ota/0/unknown.bin", "ftp://h/ota/x", "nonsense", "http://h"] {
        refused(&server, "CreateOTAFirmware", &changed(&good, &[("FirmwareUrl", url)]), invalid).await;
    }
    // A ticket without its upload.
    let ticket = server.ok("GenerateOTAUploadURL", &[("FileSuffix", "bin")]).await;
    let url = text(&ticket, "/Data/FirmwareUrl");
    refused(&server, "CreateOTAFirmware", &changed(&good, &[("FirmwareUrl", &url)]), invalid).await;
    // Another account's file.
    let answer =
        server.call_as(OTHER_ACCOUNT, "JSON", "GenerateOTAUploadURL", &[("FileSuffix", "bin")]).await;
    let ticket = answer.json();
    server.upload(|field| text(&ticket, &format!("/Data/{field}")), IMAGE).await;
    let url = text(&ticket, "/Data/FirmwareUrl");
    refused(&server, "CreateOTAFirmware", &changed(&good, &[("FirmwareUrl", &url)]), invalid).await;
    // Used twice.
    server.ok("CreateOTAFirmware", &good).await;
    let again = changed(&good, &[("FirmwareName", "another")]);
    refused(&server, "CreateOTAFirmware", &again, invalid).await;
}

#[tokio::test]
async fn size_and_digest_must_be_those_of_the_file_and_are_filled_in_if_absent() {
    let server = TestServer::on_disk().await;
    let shop = Shop::open(&server).await;
    let size = IMAGE.len().to_string();
    for (method, wrong, right) in [("MD5", IMAGE_SHA256, IMAGE_MD5), ("SHA256", IMAGE_MD5, IMAGE_SHA256)] {
        let request = changed(&shop.package_request().await, &[("SignMethod", method)]);
        let mismatch = "iot.ota.FirmwareFileMismatch";
        refused(&server, "CreateOTAFirmware", &changed(&request, &[("FirmwareSign", wrong)]), mismatch).await;
        refused(&server, "CreateOTAFirmware", &changed(&request, &[("FirmwareSize", "15")]), mismatch).await;
        refused(
            &server,
            "CreateOTAFirmware",
            &changed(&request, &[("FirmwareSize", "x")]),
            "InvalidFirmwareSize",
        )
        .await;
        let upper = right.to_uppercase();
        for given in [vec![], vec![("FirmwareSign", upper.as_str()), ("FirmwareSize", &size)]] {
            let fresh = changed(&shop.package_request().await, &[("SignMethod", method)]);
            let made = server.ok("CreateOTAFirmware", &changed(&fresh, &given)).await;
            let id = text(&made, "/Data/FirmwareId");
            let info = server.ok("QueryOTAFirmware", &[("FirmwareId", id)]).await["FirmwareInfo"].clone();
            assert_eq!((&info["FirmwareSign"], &info["FirmwareSize"]), (&json!(right), &json!(IMAGE.len())));
            assert_eq!(info["SignMethod"], method);
        }
    }
}

#[tokio::test]
async fn the_download_address_of_a_package_gives_its_file() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    let id = shop.package().await;
    let answer = server.ok("QueryOTAFirmware", &[("FirmwareId", id)]).await;
    let url = text(&answer, "/FirmwareInfo/FirmwareUrl");
    let path = url.split_once("8080").unwrap().1;
    let file = server.send(http::Request::get(path)).await;
    assert_eq!((file.status, file.body.as_bytes()), (200, IMAGE));
    let unsigned = path.split_once('?').unwrap().0;
    assert_eq!(server.send(http::Request::get(unsigned)).await.status, 403);
}

#[tokio::test]
async fn an_account_has_only_so_many_packages() {
    let server = TestServer::with(Location::Inline, |config| {
        config.quota_scale = 0.0;
        config.firmware_max = 2;
    })
    .await;
    let shop = Shop::open(&server).await;
    shop.package().await;
    shop.package().await;
    let (_, answer) = server.call("CreateOTAFirmware", &shop.package_request().await).await;
    assert_eq!(answer["Code"], "iot.ota.FirmwareCountExceedMax");
}

#[tokio::test]
async fn a_package_is_verified_if_every_test_device_succeeds() {
    let server = TestServer::on_disk().await;
    let shop = Shop::open(&server).await;
    let devices = [shop.device("lamp-1").await, shop.device("lamp-2").await];
    let firmware = shop.unverified().await;
    assert_eq!(verdict(&server, &firmware).await, (0, 0));
    let upgrade = shop.batch_request(&firmware, "lamp-1");
    let unproven = "iot.ota.FirmwareNotVerified";
    refused(&server, "CreateOTAStaticUpgradeJob", &upgrade, unproven).await;
    let verify = changed(&without(&upgrade, "TargetSelection"), &[("TargetDeviceName.2", "lamp-2")]);
    server.ok("CreateOTAVerifyJob", &verify).await;
    assert_eq!(verdict(&server, &firmware).await, (2, 0));
    refused(&server, "CreateOTAStaticUpgradeJob", &upgrade, unproven).await;
    refused(&server, "CreateOTAVerifyJob", &verify, "iot.ota.FirmwareVerifyNotAllowed").await;
    server.device(&devices[0], report("2.0.0")).await;
    assert_eq!(verdict(&server, &firmware).await, (2, 50));
    server.device(&devices[1], report("2.0.0")).await;
    assert_eq!(verdict(&server, &firmware).await, (1, 100));
    refused(&server, "CreateOTAVerifyJob", &verify, "iot.ota.FirmwareVerifyNotAllowed").await;
    server.ok("CreateOTAStaticUpgradeJob", &upgrade).await;
}

#[tokio::test]
async fn a_failed_or_cancelled_test_device_fails_the_verification_which_may_be_repeated() {
    let server = TestServer::on_disk().await;
    let shop = Shop::open(&server).await;
    let device = shop.device("lamp-1").await;
    for made in [shop.unverified().await, shop.package().await] {
        shop.verification(&made, "lamp-1").await;
        server.device(&device, pull()).await;
        server.device(&device, failure()).await;
        assert_eq!(verdict(&server, &made).await, (3, 100));
        let upgrade = shop.batch_request(&made, "lamp-1");
        refused(&server, "CreateOTAStaticUpgradeJob", &upgrade, "iot.ota.FirmwareNotVerified").await;
        let job = shop.verification(&made, "lamp-1").await;
        server.ok("CancelOTATaskByJob", &[("JobId", job.as_str()), ("CancelQueuedTask", "true")]).await;
        assert_eq!(verdict(&server, &made).await, (3, 100));
    }
}

#[tokio::test]
async fn a_test_device_on_the_version_already_proves_nothing() {
    let server = TestServer::on_disk().await;
    let shop = Shop::open(&server).await;
    let device = shop.device("lamp-1").await;
    server.device(&device, report("2.0.0")).await;
    let firmware = shop.unverified().await;
    let verify = without(&shop.batch_request(&firmware, "lamp-1"), "TargetSelection");
    refused(&server, "CreateOTAVerifyJob", &verify, "iot.ota.DeviceOnDestVersion").await;
}

#[tokio::test]
async fn targets_are_named_once_each_belong_to_the_product_and_fit_the_selection() {
    let server = TestServer::on_disk().await;
    let shop = Shop::open(&server).await;
    shop.device("lamp-1").await;
    let other = text(&server.ok("CreateProduct", &shop.valid("CreateProduct").await).await, "/ProductKey");
    let (firmware, raw) = (shop.package().await, shop.unverified().await);
    let good = shop.batch_request(&firmware, "lamp-1");
    let verify = without(&shop.batch_request(&raw, "lamp-1"), "TargetSelection");
    let invalid = "iot.ota.InvalidTargetDevices";
    for (action, good) in [("CreateOTAStaticUpgradeJob", &good), ("CreateOTAVerifyJob", &verify)] {
        let twice = changed(good, &[("TargetDeviceName.2", "lamp-1")]);
        refused(&server, action, &twice, invalid).await;
        let gap = changed(good, &[("TargetDeviceName.3", "lamp-1")]);
        refused(&server, action, &gap, "InvalidTargetDeviceName").await;
        let unknown = changed(good, &[("TargetDeviceName.2", "lamp-2")]);
        refused(&server, action, &unknown, "iot.ota.TargetDeviceNotFound").await;
        let elsewhere = changed(good, &[("ProductKey", &other)]);
        refused(&server, action, &elsewhere, "iot.ota.FirmwareProductMismatch").await;
        let most = if action == "CreateOTAVerifyJob" { 10 } else { 200 };
        let mut many = good.clone();
        many.extend((2..=most).map(|n| (format!("TargetDeviceName.{n}"), format!("none-{n}"))));
        refused(&server, action, &many, "iot.ota.TargetDeviceNotFound").await;
        many.push((format!("TargetDeviceName.{}", most + 1), "none".to_owned()));
        refused(&server, action, &many, "InvalidTargetDeviceName").await;
    }
    let action = "CreateOTAStaticUpgradeJob";
    refused(&server, action, &changed(&good, &[("TargetSelection", "ALL")]), invalid).await;
    refused(&server, action, &without(&good, "TargetDeviceName"), invalid).await;
    refused(&server, action, &changed(&good, &[("TargetSelection", "GRAY")]), invalid).await;
    refused(&server, action, &changed(&good, &[("TargetSelection", "GROUP")]), invalid).await;
}

#[tokio::test]
async fn numbers_of_a_batch_have_bounds() {
    let server = TestServer::on_disk().await;
    let shop = Shop::open(&server).await;
    let action = "CreateOTAStaticUpgradeJob";
    let good = shop.valid(action).await;
    for (name, values) in
        [("TimeoutInMinutes", ["0", "1441", "-1"]), ("MaximumPerMinute", ["9", "10001", "-10"])]
    {
        for value in values {
            refused(&server, action, &changed(&good, &[(name, value)]), "iot.ota.InvalidJobLimit").await;
        }
        refused(&server, action, &changed(&good, &[(name, "1e3")]), &format!("Invalid{name}")).await;
    }
    for (minutes, rate) in [("1", "10"), ("1440", "10000")] {
        let limits = [("TimeoutInMinutes", minutes), ("MaximumPerMinute", rate)];
        let made = server.ok(action, &changed(&shop.valid(action).await, &limits)).await;
        let job = server.ok("QueryOTAJob", &[("JobId", text(&made, "/Data/JobId"))]).await;
        assert_eq!(job["Data"]["TimeoutInMinutes"].to_string(), minutes);
        assert_eq!(job["Data"]["MaximumPerMinute"].to_string(), rate);
    }
    let made = server.ok(action, &good).await;
    let job = server.ok("QueryOTAJob", &[("JobId", text(&made, "/Data/JobId"))]).await;
    assert_eq!(
        (job["Data"]["MaximumPerMinute"].as_i64(), job["Data"].get("TimeoutInMinutes")),
        (Some(10_000), None)
    );
}

#[tokio::test]
async fn tags_have_keys_and_values_each_within_bounds() {
    let server = TestServer::on_disk().await;
    let shop = Shop::open(&server).await;
    let action = "CreateOTAStaticUpgradeJob";
    let good = shop.valid(action).await;
    let long = "v".repeat(1_025);
    for tag in [("", "v"), ("a_b", "v"), ("路", "v"), (&"k".repeat(31), "v"), ("k", ""), ("k", long.as_str())]
    {
        let bad = changed(&good, &[("Tag.1.Key", tag.0), ("Tag.1.Value", tag.1)]);
        refused(&server, action, &bad, "iot.ota.InvalidTag").await;
    }
    let tags = |count: usize| {
        let names = (1..=count).flat_map(|n| {
            [(format!("Tag.{n}.Key"), format!("key{n}")), (format!("Tag.{n}.Value"), "v".to_owned())]
        });
        good.iter().cloned().chain(names).collect::<Pairs>()
    };
    refused(&server, action, &tags(11), "InvalidTag").await;
    let full = "v".repeat(1_023);
    let sum = ["a", "b", "c", "d"].iter().zip(1..).flat_map(|(key, n)| {
        [(format!("Tag.{n}.Key"), (*key).to_owned()), (format!("Tag.{n}.Value"), full.clone())]
    });
    let sum: Pairs = good.iter().cloned().chain(sum).collect();
    let above = changed(&sum, &[("Tag.5.Key", "e"), ("Tag.5.Value", "v")]);
    refused(&server, action, &above, "iot.ota.InvalidTag").await;
    let strange = changed(&tags(1), &[("Tag.1.Colour", "red")]);
    refused(&server, action, &strange, "iot.ota.InvalidTag").await;
    let made = server.ok(action, &tags(10)).await;
    let job = server.ok("QueryOTAJob", &[("JobId", text(&made, "/Data/JobId"))]).await;
    assert_eq!(job["Data"]["Tags"]["OtaTagDTO"].as_array().unwrap().len(), 10);
}

#[tokio::test]
async fn devices_on_the_version_are_skipped_and_busy_ones_fail_at_once() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    let done = shop.device("lamp-1").await;
    shop.device("lamp-2").await;
    shop.device("lamp-3").await;
    server.device(&done, report("2.0.0")).await;
    let (first, second) = (shop.package().await, shop.package().await);
    shop.batch(&first, "lamp-2", &[]).await;
    let all =
        [("FirmwareId", second.as_str()), ("ProductKey", &shop.product_key), ("TargetSelection", "ALL")];
    let job = text(&server.ok("CreateOTAStaticUpgradeJob", &all).await, "/Data/JobId");
    shop.device("lamp-4").await;
    server.engine().await;
    assert_eq!(
        tasks(&server, &job).await,
        ["lamp-2 FAILED the device has an unfinished task in another batch", "lamp-3 QUEUED "]
    );
}

#[tokio::test]
async fn each_flag_of_a_cancellation_reaches_its_state_only() {
    for (flag, reached) in [
        ("CancelQueuedTask", "lamp-1 CANCELED "),
        ("CancelNotifiedTask", "lamp-2 CANCELED "),
        ("CancelInProgressTask", "lamp-3 CANCELED "),
        ("CancelUnconfirmedTask", ""),
        ("CancelScheduledTask", ""),
    ] {
        let server = TestServer::new().await;
        let shop = Shop::open(&server).await;
        let mut devices = Vec::new();
        for name in ["lamp-1", "lamp-2", "lamp-3"] {
            devices.push(shop.device(name).await);
        }
        let firmware = shop.package().await;
        let more = [("TargetDeviceName.2", "lamp-2"), ("TargetDeviceName.3", "lamp-3")];
        let job = shop.batch(&firmware, "lamp-1", &more).await;
        server.device(&devices[1], pull()).await;
        server.device(&devices[2], pull()).await;
        let module = "default".to_owned();
        server.device(&devices[2], DeviceEvent::Progress { module, percent: 7, desc: String::new() }).await;
        server.ok("CancelOTATaskByJob", &[("JobId", job.as_str()), (flag, "True")]).await;
        let cancelled: Vec<String> =
            tasks(&server, &job).await.into_iter().filter(|task| task.contains("CANCELED")).collect();
        assert_eq!(cancelled.concat(), reached, "{flag}");
    }
}

#[tokio::test]
async fn a_cancellation_needs_a_flag_and_an_ended_batch_stays_as_it_is() {
    let server = TestServer::on_disk().await;
    let shop = Shop::open(&server).await;
    let good = shop.valid("CancelOTATaskByJob").await;
    let action = "CancelOTATaskByJob";
    refused(&server, action, &without(&good, "CancelQueuedTask"), "iot.ota.NullCancelFlag").await;
    let no = changed(&good, &[("CancelQueuedTask", "false"), ("CancelNotifiedTask", "false")]);
    refused(&server, action, &no, "iot.ota.NullCancelFlag").await;
    server.ok(action, &good).await;
    let before = server.dump();
    server.later_ms(1_000);
    server.ok(action, &good).await;
    assert!(server.dump() == before, "an ended batch changed");
}

#[tokio::test]
async fn tasks_are_found_by_state_and_by_name_and_pages_are_bounded() {
    let server = TestServer::on_disk().await;
    let shop = Shop::open(&server).await;
    let mut names = Vec::new();
    for n in 1..=5 {
        let name = format!("lamp-{n}");
        shop.device(&name).await;
        names.push((format!("TargetDeviceName.{n}"), name));
    }
    let mut request = without(&shop.batch_request(&shop.package().await, "x"), "TargetDeviceName");
    request.extend(names);
    let job = text(&server.ok("CreateOTAStaticUpgradeJob", &request).await, "/Data/JobId");
    let list = |more: &[(&str, &str)]| changed(&pairs(&[("JobId", &job)]), more);
    let found = |answer: &Value| {
        let rows = answer["Data"]["SimpleOTATaskInfo"].as_array().unwrap().clone();
        let names: Vec<String> = rows.iter().map(|row| text(row, "/DeviceName")[5..].to_owned()).collect();
        format!("{} of {} in {}", names.concat(), answer["Total"], answer["PageCount"])
    };
    for (more, wanted) in [
        (vec![], "12345 of 5 in 1"),
        (vec![("PageSize", "2"), ("CurrentPage", "2")], "34 of 5 in 3"),
        (vec![("PageSize", "2"), ("CurrentPage", "4")], " of 5 in 3"),
        (vec![("TaskStatus", "QUEUED"), ("PageSize", "2"), ("CurrentPage", "3")], "5 of 5 in 3"),
        (vec![("TaskStatus", "FAILED")], " of 0 in 0"),
        (
            vec![("DeviceNames.1", "lamp-4"), ("DeviceNames.2", "none"), ("DeviceNames.3", "lamp-1")],
            "14 of 2 in 1",
        ),
        (vec![("DeviceNames.1", "lamp-4"), ("TaskStatus", "FAILED")], " of 0 in 0"),
        (vec![("PageSize", "100"), ("CurrentPage", "1000")], " of 5 in 1"),
    ] {
        assert_eq!(found(&server.ok("ListOTATaskByJob", &list(&more)).await), wanted, "{more:?}");
    }
    let bad = "iot.common.InvalidPageParams";
    for more in [[("PageSize", "100"), ("CurrentPage", "1001")], [("PageSize", "0"), ("CurrentPage", "1")]] {
        refused(&server, "ListOTATaskByJob", &list(&more), bad).await;
    }
}
