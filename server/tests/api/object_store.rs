//! Files in a bucket: what the API and the workers make of them. `acceptance/test_object_store.py` has the store itself.

use crate::list_files;
use crate::server::{HOST, TestServer};
use crate::shop::{IMAGE, Shop, pairs, text};
use http::Request;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};
use std::sync::Arc;
use updraft_core::time::Timestamp;
use updraft_server::files::blobs::{Bucket, Folder};
use updraft_server::files::{Blobs, sweep};

const ORPHAN: &str = "p/ab/abcdefghijklmnopqrstuvwx";
const YEARS_MS: i64 = 100 * 365 * 86_400_000;

async fn in_bucket() -> (TestServer, Arc<InMemory>) {
    let store = Arc::new(InMemory::new());
    let bucket = Bucket::new(Arc::clone(&store) as Arc<dyn ObjectStore>, "p");
    let server = TestServer::with_blobs(Blobs::Bucket(bucket), |config| {
        config.quota_scale = 0.0;
        config.blobs_url = Some("s3://bucket/p".to_owned());
        // What a full disk refuses elsewhere goes to no disk here.
        config.disk_reserve_bytes = i64::MAX;
    });
    (server.await, store)
}

async fn there(store: &InMemory, path: &str) -> bool {
    store.head(&Path::from(path)).await.is_ok()
}

#[tokio::test]
async fn packages_and_lists_of_devices_are_read_from_a_bucket() {
    let (server, _store) = in_bucket().await;
    let shop = Shop::open(&server).await;
    for name in ["device_1", "device_2", "device_3"] {
        shop.device(name).await;
    }
    let package = shop.package().await;
    let info = server.ok("QueryOTAFirmware", &[("FirmwareId", &package)]).await;
    let url = text(&info, "/FirmwareInfo/FirmwareUrl");
    let path = url.strip_prefix(&format!("http://{HOST}")).expect("an address of this server").to_owned();
    let whole = server.send(Request::get(&path)).await;
    assert_eq!((whole.status, whole.body.as_bytes()), (200, IMAGE));
    let part = server.send(Request::get(&path).header("range", "bytes=3-5")).await;
    assert_eq!((part.status, part.body.as_bytes()), (206, &IMAGE[3..6]));
    assert_eq!(server.send(Request::get(&path).header("range", "bytes=99-")).await.status, 416);

    // Longer than a chunk.
    let list = format!("device_3{}device_1", "\n".repeat(300_000));
    let list = list_files::upload(&server, list.as_bytes()).await;
    let request = pairs(&[
        ("FirmwareId", &package),
        ("ProductKey", &shop.product_key),
        ("TargetSelection", "SPECIFIC"),
        ("DnListFileUrl", &list),
    ]);
    let job = text(&server.ok("CreateOTAStaticUpgradeJob", &request).await, "/Data/JobId");
    list_files::settle(&server).await;
    let tasks = server.ok("ListOTATaskByJob", &[("JobId", job.as_str()), ("PageSize", "100")]).await;
    assert_eq!(tasks["Total"], 2);
}

#[tokio::test]
async fn the_sweep_takes_only_old_objects_that_no_row_names() {
    let (server, store) = in_bucket().await;
    let used = Shop::open(&server).await.file().await;
    store.put(&Path::from(ORPHAN), "x".into()).await.unwrap();
    assert!(sweep::turn(&server.app, None).await.unwrap().is_none());
    assert!(there(&store, ORPHAN).await, "another node may be about to name it");
    server.later_ms(YEARS_MS);
    sweep::turn(&server.app, None).await.unwrap();
    assert!(!there(&store, ORPHAN).await);
    let key = updraft_server::files::address::object_key_of(&used).unwrap().to_owned();
    let file = server.app.store.read(move |tx| tx.file_find_any(&key)).await.unwrap().unwrap();
    assert!(there(&store, &format!("p/{}/{}", &file.blob[..2], file.blob)).await);
}

#[tokio::test]
async fn in_a_folder_that_nodes_share_the_sweep_puts_old_files_aside() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = Blobs::Folder(Folder::shared(dir.path()).unwrap());
    let server = TestServer::with_blobs(blobs, |config| {
        config.blobs_url = Some(format!("file:{}", dir.path().display()));
    })
    .await;
    Shop::open(&server).await.file().await;
    let other_node = Folder::shared(dir.path()).unwrap();
    let mut orphan = other_node.create("orphan".to_owned()).await.unwrap();
    orphan.write(b"x").await.unwrap();
    orphan.keep().await.unwrap();
    sweep::turn(&server.app, None).await.unwrap();
    assert_eq!(other_node.names().unwrap().len(), 2, "another node may be about to name it");
    server.later_ms(YEARS_MS);
    sweep::turn(&server.app, None).await.unwrap();
    let left = other_node.names().unwrap();
    assert!(left.len() == 1 && left[0] != "orphan", "{left:?}");
    assert!(dir.path().join("lost/orphan").exists());
}

#[tokio::test]
async fn the_sweep_goes_on_behind_the_last_page() {
    let (server, store) = in_bucket().await;
    for n in 0..1_001 {
        store.put(&Path::from(format!("p/ab/ab{n:022}")), "x".into()).await.unwrap();
    }
    server.clock.set(Timestamp(server.app.now().0 + YEARS_MS));
    let next = sweep::turn(&server.app, None).await.unwrap();
    assert!(next.is_some());
    assert!(sweep::turn(&server.app, next).await.unwrap().is_none());
    for n in [0, 999, 1_000] {
        assert!(!there(&store, &format!("p/ab/ab{n:022}")).await, "{n}");
    }
}
