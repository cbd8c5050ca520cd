//! Files: packages of several, the end of those that nobody uses, and the disk's reserve.

use crate::rules::pull;
use crate::server::{Answer, HOST, TestServer, form};
use crate::shop::{IMAGE, IMAGE_MD5, IMAGE_SHA256, Shop, changed, pairs, text, without};
use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::mpsc;
use updraft_core::time::Timestamp;
use updraft_server::device::link::Downlink;
use updraft_server::files::blobs::Folder;
use updraft_server::files::{purge, upload};
use updraft_store::Location;

const HOUR_MS: i64 = 3_600_000;
const OTHER: &[u8] = b"another image";
const OTHER_MD5: &str = "834bc9ab5f492521eb66f933f4feb8cc";

/// The file behind a signed address.
async fn download(server: &TestServer, url: &str) -> Answer {
    let path = url.strip_prefix(&format!("http://{HOST}")).expect("an address of this server");
    server.send(Request::get(path)).await
}

async fn refusal(server: &TestServer, request: &[(String, String)]) -> (String, String) {
    let (_, answer) = server.call("CreateOTAFirmware", request).await;
    assert_ne!(answer["Success"], true, "{request:?}");
    let message = answer["ErrorMessage"].as_str().or(answer["Message"].as_str());
    (answer["Code"].as_str().unwrap_or_default().to_owned(), message.unwrap_or_default().to_owned())
}

#[tokio::test]
async fn a_package_of_several_files_shows_each_with_an_address_of_its_own() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    let (first, second) = (shop.file_of(OTHER).await, shop.file().await);
    let mut request = shop.several(&[("b.bin", &first), ("a 路.bin", &second)]);
    request.extend(pairs(&[
        ("SignMethod", "SHA256"),
        ("MultiFiles.2.Size", "14"),
        ("MultiFiles.2.FileMd5", &IMAGE_MD5.to_uppercase()),
        ("MultiFiles.2.SignValue", IMAGE_SHA256),
    ]));
    let id = text(&server.ok("CreateOTAFirmware", &request).await, "/Data/FirmwareId");
    let info = server.ok("QueryOTAFirmware", &[("FirmwareId", &id)]).await["FirmwareInfo"].clone();
    for absent in ["FirmwareUrl", "FirmwareSize", "FirmwareSign"] {
        assert_eq!(info.get(absent), None, "{absent}");
    }
    let files = info["MultiFiles"].as_array().expect("a bare list");
    let column = |name: &str| files.iter().map(|file| file[name].clone()).collect::<Vec<_>>();
    assert_eq!(column("Name"), [json!("b.bin"), json!("a 路.bin")]);
    assert_eq!(column("Size"), [json!(13), json!(14)]);
    assert_eq!(column("FileMd5"), [json!(OTHER_MD5), json!(IMAGE_MD5)]);
    assert_eq!(files[1]["SignValue"], IMAGE_SHA256);
    let addresses = column("Url");
    for (address, content) in addresses.iter().zip([OTHER, IMAGE]) {
        let answer = download(&server, address.as_str().unwrap()).await;
        assert_eq!((answer.status, answer.body.as_bytes()), (200, content));
    }
    // Both files are in use now, and a purge leaves them alone.
    for file in [&first, &second] {
        let request = changed(&shop.package_request().await, &[("FirmwareUrl", file)]);
        assert_eq!(refusal(&server, &request).await.0, "iot.ota.InvalidFirmwareUrl");
    }
    server.later_ms(2 * HOUR_MS);
    assert!(!purge::turn(&server.app).await.unwrap());
    for address in &addresses {
        assert_eq!(download(&server, address.as_str().unwrap()).await.status, 200);
    }
}

/// The path of the address that the device was told last.
fn told(server: &TestServer) -> String {
    let sent = std::mem::take(&mut *server.sent.lock().unwrap());
    let paths = sent.into_iter().filter_map(|(_, downlink)| match downlink {
        Downlink::PullReply { package: Some((.., package)), .. } => Some(package.files[0].path.clone()),
        _ => None,
    });
    paths.last().expect("it was told")
}

#[tokio::test]
async fn each_question_gets_a_fresh_address_and_an_old_one_ends() {
    let server = TestServer::on_disk().await;
    let shop = Shop::open(&server).await;
    let device = shop.device("lamp-1").await;
    let firmware = shop.package().await;
    shop.batch(&firmware, "lamp-1", &[]).await;
    let fetch = async |path: &str| server.send(Request::get(path)).await;
    server.device(&device, pull()).await;
    let first = told(&server);
    assert_eq!(fetch(&first).await.body.as_bytes(), IMAGE);
    server.later_ms(HOUR_MS);
    server.device(&device, pull()).await;
    let second = told(&server);
    assert_ne!(first, second);
    assert_eq!((fetch(&first).await.status, fetch(&second).await.status), (200, 200));
    // The first one is good for a day, and the second an hour longer.
    server.later_ms(23 * HOUR_MS + 1_000);
    assert_eq!((fetch(&first).await.status, fetch(&second).await.status), (403, 200));
    assert_eq!(fetch(&format!("{second}x")).await.status, 403);
    assert_eq!(fetch("/d/").await.status, 403);
    server.ok("DeleteOTAFirmware", &[("FirmwareId", firmware.as_str())]).await;
    assert_eq!(fetch(&second).await.status, 404, "its package is deleted");
}

#[tokio::test]
async fn who_comes_when_too_many_download_is_told_when_to_come_back() {
    let server = TestServer::with(Location::Inline, |config| config.download_connections_max = 1).await;
    let shop = Shop::open(&server).await;
    let device = shop.device("lamp-1").await;
    shop.batch(&shop.package().await, "lamp-1", &[]).await;
    server.device(&device, pull()).await;
    let path = told(&server);
    let first = server.app.bandwidth.begin();
    let mut waits = std::collections::BTreeSet::new();
    for _ in 0..10 {
        let answer = server.send(Request::get(&path)).await;
        assert_eq!(answer.status, 503);
        let wait: u64 = answer.header("retry-after").parse().unwrap();
        assert!((5..=30).contains(&wait), "{wait}");
        waits.insert(wait);
    }
    assert!(waits.len() > 1, "who was sent away together does not come back together");
    assert_eq!(server.send(Request::head(&path)).await.status, 200);
    drop(first);
    assert_eq!(server.send(Request::get(&path)).await.status, 200);
    assert_eq!(server.send(Request::get(&path)).await.status, 200, "it has ended");
}

#[tokio::test]
async fn a_package_of_one_named_file_keeps_its_name() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    let request = shop.several(&[("only.bin", &shop.file().await)]);
    let id = text(&server.ok("CreateOTAFirmware", &request).await, "/Data/FirmwareId");
    let info = &server.ok("QueryOTAFirmware", &[("FirmwareId", &id)]).await["FirmwareInfo"];
    assert_eq!(text(info, "/MultiFiles/0/Name"), "only.bin");
    assert_eq!(info.get("FirmwareUrl"), None);
}

#[tokio::test]
async fn files_of_a_package_have_names_and_addresses_of_their_own() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    let (first, second) = (shop.file().await, shop.file().await);
    let good = shop.several(&[("a", &first), ("b", &second)]);
    let long = "n".repeat(33);
    for (name, value, code) in [
        ("MultiFiles.2.Name", "a", "iot.ota.InvalidMultiFiles"),
        ("MultiFiles.2.Name", &long, "iot.ota.InvalidMultiFiles"),
        ("MultiFiles.2.Name", "../b", "iot.ota.InvalidMultiFiles"),
        ("MultiFiles.2.Name", "", "MissingMultiFiles"),
        ("MultiFiles.2.Url", "", "MissingMultiFiles"),
        ("MultiFiles.2.Url", &first, "iot.ota.InvalidMultiFiles"),
        ("MultiFiles.2.Url", "http://elsewhere/ota/a/b.bin", "iot.ota.InvalidFirmwareUrl"),
        ("MultiFiles.2.Size", "13", "iot.ota.FirmwareFileMismatch"),
        ("MultiFiles.2.Size", "many", "InvalidMultiFiles"),
        ("MultiFiles.2.FileMd5", IMAGE_SHA256, "iot.ota.FirmwareFileMismatch"),
        ("MultiFiles.2.SignValue", IMAGE_SHA256, "iot.ota.FirmwareFileMismatch"),
        ("MultiFiles.4.Name", "d", "InvalidMultiFiles"),
        ("FirmwareUrl", &shop.file().await, "iot.ota.InvalidMultiFiles"),
        ("FirmwareSize", "14", "iot.ota.InvalidMultiFiles"),
        ("FirmwareSign", IMAGE_MD5, "iot.ota.InvalidMultiFiles"),
    ] {
        let (found, message) = refusal(&server, &changed(&good, &[(name, value)])).await;
        assert_eq!(found, code, "{name}={value}: {message}");
    }
    // The refusal says which file is meant.
    let (_, message) = refusal(&server, &changed(&good, &[("MultiFiles.2.Size", "13")])).await;
    assert!(message.starts_with("MultiFiles.2.Size differs"), "{message}");
    let mut files = Vec::new();
    for n in 0..21 {
        files.push((format!("file {n}"), shop.file().await));
    }
    let mut names: Vec<(&str, &str)> =
        files.iter().map(|(name, url)| (name.as_str(), url.as_str())).collect();
    assert_eq!(refusal(&server, &shop.several(&names)).await.0, "InvalidMultiFiles");
    names.pop();
    server.ok("CreateOTAFirmware", &shop.several(&names)).await;
    server.ok("CreateOTAFirmware", &good).await;
}

#[tokio::test]
async fn packages_are_listed_newest_first_and_filtered() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    let plain = shop.unverified().await;
    server.later_ms(1_000);
    let mut request = shop.several(&[("a", &shop.file().await), ("b", &shop.file_of(OTHER).await)]);
    request.extend(pairs(&[("FirmwareDesc", "two"), ("NeedToVerify", "false")]));
    let request = changed(&request, &[("DestVersion", "3.0.0")]);
    let several = text(&server.ok("CreateOTAFirmware", &request).await, "/Data/FirmwareId");
    let answer = server.ok("ListOTAFirmware", &[("CurrentPage", "1"), ("PageSize", "100")]).await;
    assert_eq!((&answer["Total"], &answer["PageCount"]), (&json!(2), &json!(1)));
    let rows = answer["FirmwareInfo"]["SimpleFirmwareInfo"].as_array().unwrap();
    assert_eq!(text(&rows[0], "/FirmwareId"), several);
    assert_eq!((&rows[0]["FirmwareSize"], rows[0].get("FirmwareSign")), (&json!(27), None));
    assert_eq!((&rows[0]["Status"], &rows[0]["FirmwareDesc"]), (&json!(-1), &json!("two")));
    assert_eq!(text(&rows[1], "/FirmwareId"), plain);
    assert_eq!((&rows[1]["FirmwareSize"], text(&rows[1], "/FirmwareSign").as_str()), (&json!(14), IMAGE_MD5));
    assert_eq!((&rows[1]["ProductName"], &rows[1]["Status"]), (&json!("lamps"), &json!(0)));

    let other = server.ok("CreateProduct", &[("ProductName", "posts"), ("NodeType", "0")]).await;
    let other = text(&other, "/ProductKey");
    for (filter, value, found) in [
        ("DestVersion", "3.0.0", vec![several.as_str()]),
        ("DestVersion", "3.0", vec![]),
        ("ProductKey", &shop.product_key, vec![&several, &plain]),
        ("ProductKey", &other, vec![]),
        ("PageSize", "1", vec![&several]),
    ] {
        let all = pairs(&[("CurrentPage", "1"), ("PageSize", "100")]);
        let answer = server.ok("ListOTAFirmware", &changed(&all, &[(filter, value)])).await;
        let rows = answer["FirmwareInfo"]["SimpleFirmwareInfo"].as_array().unwrap();
        let ids: Vec<String> = rows.iter().map(|row| text(row, "/FirmwareId")).collect();
        assert_eq!(ids, found, "{filter}={value}");
    }
}

fn blobs(server: &TestServer) -> usize {
    Folder::shared(&server.dir.path().join("blobs")).unwrap().names().unwrap().len()
}

#[tokio::test]
async fn what_no_package_uses_for_an_hour_is_refused_and_purged() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    server.ok("GenerateOTAUploadURL", &[("FileSuffix", "bin")]).await;
    let mut late = shop.package_request().await;
    let used = shop.unverified().await;
    server.later_ms(HOUR_MS);
    // To the last moment.
    assert!(!purge::turn(&server.app).await.unwrap());
    assert_eq!(blobs(&server), 2);
    server.later_ms(1);
    let fresh = shop.file().await;
    let (code, message) = refusal(&server, &late).await;
    assert_eq!(code, "iot.ota.InvalidFirmwareUrl");
    assert!(message.contains("upload_unused_seconds") && message.contains("upload it again"), "{message}");
    assert!(!purge::turn(&server.app).await.unwrap());
    assert_eq!(blobs(&server), 2, "the package's and the fresh one");
    assert_eq!(refusal(&server, &late).await.0, "iot.ota.InvalidFirmwareUrl");
    let info = server.ok("QueryOTAFirmware", &[("FirmwareId", &used)]).await;
    assert_eq!(download(&server, &text(&info, "/FirmwareInfo/FirmwareUrl")).await.status, 200);
    late = changed(&without(&late, "FirmwareUrl"), &[("FirmwareUrl", &fresh)]);
    server.ok("CreateOTAFirmware", &late).await;
}

#[tokio::test]
async fn a_purge_goes_on_in_chunks_until_nothing_is_left() {
    let server = TestServer::new().await;
    for _ in 0..450 {
        server.ok::<&str, &str>("GenerateOTAUploadURL", &[]).await;
    }
    server.later_ms(2 * HOUR_MS);
    let mut turns = Vec::new();
    for _ in 0..3 {
        turns.push(purge::turn(&server.app).await.unwrap());
    }
    assert_eq!(turns, [true, true, false]);
    let left = server.app.store.read(|tx| tx.files_unused(Timestamp(i64::MAX), 1)).await;
    assert_eq!(left.unwrap(), Vec::new());
}

/// An upload whose bytes come when the test sends them.
async fn slowly(server: &TestServer, announced: Option<u64>, chunks: mpsc::Receiver<Bytes>) -> (u16, String) {
    let head = upload::Head { host: HOST, content_type: "multipart/form-data; boundary=edge", announced };
    let body = futures_util::stream::unfold(chunks, |mut chunks| async move {
        let chunk = chunks.recv().await?;
        Some((Ok::<_, io::Error>(chunk), chunks))
    });
    let reply = upload::answer(&server.app, "request", &head, Box::pin(body)).await;
    let (parts, body) = reply.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (parts.status.as_u16(), String::from_utf8(body.to_vec()).unwrap())
}

fn ticket_form(ticket: &Value, file: &[u8]) -> Vec<u8> {
    form(|field| text(ticket, &format!("/Data/{field}")), file)
}

#[tokio::test]
async fn an_upload_in_progress_is_not_purged_however_long_it_takes() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    let ticket = server.ok::<&str, &str>("GenerateOTAUploadURL", &[]).await;
    let (send, chunks) = mpsc::channel(1);
    let form = ticket_form(&ticket, IMAGE);
    let (head, tail) = form.split_at(form.len() - 15);
    let rest = async {
        send.send(Bytes::copy_from_slice(head)).await.unwrap();
        // Taken once its file has begun.
        while server.app.busy_keys.lock().is_empty() {
            tokio::task::yield_now().await;
        }
        server.later_ms(2 * HOUR_MS);
        assert!(!purge::turn(&server.app).await.unwrap());
        let second = slowly(&server, None, {
            let (send, chunks) = mpsc::channel(1);
            send.send(Bytes::from(form.clone())).await.unwrap();
            chunks
        });
        // Its own ticket is over by now; another one for the same key cannot exist.
        assert_eq!(second.await.0, 403);
        send.send(Bytes::copy_from_slice(tail)).await.unwrap();
        drop(send);
    };
    let (outcome, ()) = tokio::join!(slowly(&server, None, chunks), rest);
    assert_eq!(outcome.0, 204, "{}", outcome.1);
    assert!(server.app.busy_keys.lock().is_empty());
    // The hour counts from its end.
    assert!(!purge::turn(&server.app).await.unwrap());
    let url = text(&ticket, "/Data/FirmwareUrl");
    let request = changed(&shop.package_request().await, &[("FirmwareUrl", &url)]);
    server.ok("CreateOTAFirmware", &request).await;
}

#[tokio::test]
async fn a_file_larger_than_allowed_is_refused_while_it_comes_and_leaves_nothing() {
    let server = TestServer::with(updraft_store::Location::Inline, |config| {
        config.quota_scale = 0.0;
        config.file_bytes_max = 1_000_000;
    })
    .await;
    for (bytes, status) in [(1_000_000, 204), (1_000_001, 400)] {
        let ticket = server.ok::<&str, &str>("GenerateOTAUploadURL", &[]).await;
        let form = ticket_form(&ticket, &vec![7; bytes]);
        let (send, chunks) = mpsc::channel(1);
        let feed = async move {
            for chunk in form.chunks(10_000) {
                // Refused uploads are not read to their end.
                if send.send(Bytes::copy_from_slice(chunk)).await.is_err() {
                    break;
                }
            }
        };
        let ((found, body), ()) = tokio::join!(slowly(&server, None, chunks), feed);
        assert_eq!(found, status, "{body}");
        assert_eq!(body.contains("<Code>EntityTooLarge</Code>"), status == 400);
    }
    assert_eq!(blobs(&server), 1);
    let incoming = server.dir.path().join("blobs/incoming");
    assert_eq!(std::fs::read_dir(incoming).unwrap().count(), 0);
}

const MIB: u64 = 1024 * 1024;

/// Free space of a test's disk, which its uploads do not change.
static FREE: AtomicU64 = AtomicU64::new(0);

#[expect(clippy::unnecessary_wraps, reason = "a disk that cannot be measured is part of the type")]
fn free(_: &Path) -> io::Result<u64> {
    Ok(FREE.load(Ordering::Relaxed))
}

#[tokio::test]
async fn uploads_leave_the_disks_reserve_alone() {
    FREE.store(200 * MIB, Ordering::Relaxed);
    let server = TestServer::with_disk(free, |config| {
        config.quota_scale = 0.0;
        config.disk_reserve_bytes = 100 * MIB as i64;
    })
    .await;
    let ticket = server.ok::<&str, &str>("GenerateOTAUploadURL", &[]).await;
    let feed = |form: Vec<u8>| {
        let (send, chunks) = mpsc::channel(1);
        let feeding = async move {
            for chunk in form.chunks(64 * 1024) {
                if send.send(Bytes::copy_from_slice(chunk)).await.is_err() {
                    break;
                }
                // In the middle of the second upload somebody else fills the disk.
                if form.len() as u64 > 8 * MIB {
                    FREE.fetch_sub(64 * 1024 * 20, Ordering::Relaxed);
                }
            }
        };
        (chunks, feeding)
    };

    // By the announced size, before it starts.
    let (chunks, feeding) = feed(ticket_form(&ticket, IMAGE));
    let ((status, body), ()) = tokio::join!(slowly(&server, Some(101 * MIB), chunks), feeding);
    assert_eq!(status, 507);
    assert!(body.contains("<Error><Code>InsufficientStorage</Code>"), "{body}");
    assert!(body.contains("disk_reserve_bytes") && body.contains("104857600"), "{body}");

    // While it comes.
    let (chunks, feeding) = feed(ticket_form(&ticket, &vec![7; 12 * MIB as usize]));
    let ((status, body), ()) = tokio::join!(slowly(&server, None, chunks), feeding);
    assert!(status == 507 && body.contains("InsufficientStorage"), "{status} {body}");
    assert_eq!(blobs(&server), 0);

    // No more tickets while there is no room.
    FREE.store(100 * MIB - 1, Ordering::Relaxed);
    let (status, answer) = server.call::<&str, &str>("GenerateOTAUploadURL", &[]).await;
    assert_eq!((status, &answer["Code"]), (200, &json!("iot.ota.InsufficientStorage")));
    assert!(text(&answer, "/ErrorMessage").contains("disk_reserve_bytes"), "{answer}");

    FREE.store(200 * MIB, Ordering::Relaxed);
    let (chunks, feeding) = feed(ticket_form(&ticket, IMAGE));
    let ((status, body), ()) = tokio::join!(slowly(&server, Some(100 * MIB), chunks), feeding);
    assert_eq!(status, 204, "{body}");
    assert_eq!(blobs(&server), 1);
}
