//! Batches whose package is downloaded by MQTT.

use crate::server::TestServer;
use crate::shop::{IMAGE, Pairs, Shop, changed, pairs, text};
use updraft_core::id::DeviceNo;
use updraft_server::device::link::{Asked, Block, DeviceEvent, NoBlock, Question, Wanted};
use updraft_server::files::block;
use updraft_store::{Location, StoreError};

async fn refusal(server: &TestServer, action: &str, request: &[(String, String)]) -> (String, String) {
    let (_, answer) = server.call(action, request).await;
    assert_ne!(answer["Success"], true, "{request:?}");
    (text(&answer, "/Code"), text(&answer, "/ErrorMessage"))
}

/// The row numbers of a device and a batch.
async fn numbers(server: &TestServer, name: &str, job_id: &str) -> (DeviceNo, i64) {
    let (name, job_id) = (name.to_owned(), job_id.to_owned());
    let found = server.app.store.read(move |tx| {
        let job = tx.job_find_any(&job_id)?.expect("the batch exists");
        let device = tx.device_find(job.product, &name)?.expect("the device exists");
        Ok::<_, StoreError>((device.no, job.no.0))
    });
    found.await.unwrap()
}

/// A package that needs no verification.
async fn package(server: &TestServer, mut request: Pairs) -> String {
    request.extend(pairs(&[("NeedToVerify", "false")]));
    text(&server.ok("CreateOTAFirmware", &request).await, "/Data/FirmwareId")
}

fn pull() -> DeviceEvent {
    let asked = Asked { by: Question::Get, id: "1".to_owned() };
    DeviceEvent::Pull { module: "default".to_owned(), asked }
}

#[tokio::test]
async fn one_file_that_is_not_too_large_may_go_by_mqtt() {
    let server = TestServer::with(Location::Inline, |config| {
        config.quota_scale = 0.0;
        config.mqtt_file_bytes_max = IMAGE.len() as i64;
    })
    .await;
    let shop = Shop::open(&server).await;
    for name in ["dev1", "dev2", "dev3"] {
        shop.device(name).await;
    }
    let (file, other, large) = (shop.file().await, shop.file().await, [IMAGE, b"!"].concat());
    let single = package(&server, shop.several(&[("a.bin", &file)])).await;
    let several = package(&server, shop.several(&[("a.bin", &shop.file().await), ("b.bin", &other)])).await;
    let large = shop.file_of(&large).await;
    let large = package(&server, changed(&shop.package_request().await, &[("FirmwareUrl", &large)])).await;
    for (firmware, device, words) in
        [(&single, "dev1", ""), (&several, "dev2", "has 2 files"), (&large, "dev2", "mqtt_file_bytes_max")]
    {
        let mut by_https = shop.batch_request(firmware, device);
        let by_mqtt = changed(&by_https, &[("DownloadProtocol", "MQTT")]);
        let verification: Pairs =
            by_mqtt.iter().filter(|(name, _)| name != "TargetSelection").cloned().collect();
        let dynamic: Pairs = changed(&verification, &[("SrcVersion.1", "1.0.0")])
            .into_iter()
            .filter(|(name, _)| name != "TargetDeviceName.1")
            .collect();
        if words.is_empty() {
            let job = text(&server.ok("CreateOTAStaticUpgradeJob", &by_mqtt).await, "/Data/JobId");
            let job = server.ok("QueryOTAJob", &[("JobId", &job)]).await;
            assert_eq!(job["Data"]["DownloadProtocol"], "MQTT");
            let job = text(&server.ok("CreateOTADynamicUpgradeJob", &dynamic).await, "/Data/JobId");
            let job = server.ok("QueryOTAJob", &[("JobId", &job)]).await;
            assert_eq!(job["Data"]["DownloadProtocol"], "MQTT");
            let other_device = changed(&verification, &[("TargetDeviceName.1", "dev3")]);
            let job = text(&server.ok("CreateOTAVerifyJob", &other_device).await, "/Data/JobId");
            let job = server.ok("QueryOTAJob", &[("JobId", &job)]).await;
            assert_eq!(job["Data"]["DownloadProtocol"], "MQTT");
            continue;
        }
        for (action, request) in [
            ("CreateOTAStaticUpgradeJob", &by_mqtt),
            ("CreateOTAVerifyJob", &verification),
            ("CreateOTADynamicUpgradeJob", &dynamic),
        ] {
            let (code, message) = refusal(&server, action, request).await;
            assert_eq!(code, "iot.ota.DownloadProtocolNotAllowed", "{action}");
            assert!(message.contains(words), "{message}");
        }
        by_https.push(("DownloadProtocol".to_owned(), "HTTPS".to_owned()));
        server.ok("CreateOTAStaticUpgradeJob", &by_https).await;
    }
}

#[tokio::test]
async fn a_device_gets_blocks_of_its_own_task_while_that_is_open_and_told() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    let (mine, others) = (shop.device("mine").await, shop.device("others").await);
    let firmware = shop.package().await;
    let job = shop.batch(&firmware, "mine", &[("DownloadProtocol", "MQTT")]).await;
    let by_https = shop.batch(&firmware, "others", &[]).await;
    let (device, stream) = numbers(&server, "mine", &job).await;
    let (other, https_stream) = numbers(&server, "others", &by_https).await;
    let read = |device, stream, file, offset, size| {
        block::read(&server.app, device, Wanted { stream, file, offset, size })
    };
    let whole = IMAGE.len() as i64;
    assert_eq!(read(device, stream, 1, 0, 9).await, Err(NoBlock::NotYours), "it was not told yet");
    for (iot_id, progress) in [(&mine, true), (&others, false)] {
        server.device(iot_id, pull()).await;
        if progress {
            let event =
                DeviceEvent::Progress { module: "default".to_owned(), percent: 3, desc: String::new() };
            server.device(iot_id, event).await;
        }
    }
    for (offset, size, expected) in [
        (0, 9, &IMAGE[..9]),
        (9, 131_072, &IMAGE[9..]),
        (whole - 1, 1, &IMAGE[IMAGE.len() - 1..]),
        (0, whole, IMAGE),
    ] {
        let Block { bytes, file_bytes, .. } = read(device, stream, 1, offset, size).await.unwrap();
        assert_eq!((bytes.as_slice(), file_bytes), (expected, whole), "{offset} {size}");
    }
    for (offset, size) in [(whole, 1), (-1, 2), (i64::MAX, 1), (0, 0), (0, -1), (0, 131_073), (0, i64::MAX)] {
        assert_eq!(read(device, stream, 1, offset, size).await, Err(NoBlock::OutOfRange), "{offset} {size}");
    }
    for (device, stream, file) in [
        (other, stream, 1),
        (other, https_stream, 1),
        (device, https_stream, 1),
        (device, stream, 0),
        (device, stream, 2),
        (device, stream, i64::MIN),
        (device, i64::MAX, 1),
    ] {
        let got = read(device, stream, file, 0, 1).await;
        assert_eq!(got, Err(NoBlock::NotYours), "{device} {stream} {file}");
    }
    let done = DeviceEvent::Report { module: "default".to_owned(), version: "2.0.0".to_owned() };
    server.device(&mine, done).await;
    assert_eq!(read(device, stream, 1, 0, 9).await, Err(NoBlock::NotYours), "its task has ended");
}
