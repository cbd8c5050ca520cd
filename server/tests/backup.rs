//! Backups: taken while somebody writes, compared, restored, and refused when they are damaged.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use tempfile::TempDir;
use updraft_core::id::{InstanceNo, ProductNo};
use updraft_core::time::Timestamp;
use updraft_server::backup::{self, MANIFEST, Manifest};
use updraft_server::config::Config;
use updraft_server::random::Random;
use updraft_server::setup::{self, ROOT_ACCOUNT};
use updraft_store::{Lane, NewDevice, NewProduct, Store, StoreError};

const NOW: Timestamp = Timestamp(1_716_206_400_000);
struct World {
    dir: TempDir,
    config: Config,
    store: Store,
    product: ProductNo,
    instance: InstanceNo,
}

impl World {
    async fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let config = Config { data_dir: dir.path().join("data"), ..Config::default() };
        setup::data_dir(&config).unwrap();
        let store = Store::open(&config.database().unwrap()).unwrap();
        let random = Random::from_seed([5; 32]);
        let master = setup::master_key(&config, &store, &random).await.unwrap();
        setup::root_account(&config, &store, &master, &random, NOW).await.unwrap();
        let made = store.write(Lane::Interactive, |tx| {
            let account = tx.account_ensure(ROOT_ACCOUNT, NOW)?;
            let instance = tx.instance_public(account)?;
            let product = NewProduct {
                instance,
                product_key: "a1TestPk001".to_owned(),
                name: "kept".to_owned(),
                secret_sealed: Vec::new(),
                node_type: 0,
                data_format: 0,
                net_type: "WIFI".to_owned(),
                commodity_code: "iothub".to_owned(),
                description: None,
                protocol_type: None,
                category_key: None,
                validate_type: 1,
                certified: false,
            };
            Ok::<_, StoreError>((instance, tx.product_insert(&product, NOW)?.unwrap()))
        });
        let (instance, product) = made.await.unwrap();
        Self { dir, config, store, product, instance }
    }

    async fn device(&self, number: i64) {
        let (product, name) = (self.product, format!("dev-{number}"));
        let new =
            NewDevice { product, iot_id: name.clone(), name, secret_sealed: vec![1; 60], nickname: None };
        self.store.write(Lane::Interactive, move |tx| tx.device_insert(&new, NOW)).await.unwrap();
    }

    /// A file that was uploaded.
    async fn upload(&self, blob: &'static str, content: &str) {
        let path = self.blob(blob);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        let (instance, key, size) = (self.instance, format!("ota/{blob}"), content.len() as i64);
        let sha256 = sha256(content);
        let written = self.store.write(Lane::Interactive, move |tx| {
            tx.file_ticket_insert(instance, &key, NOW)?;
            tx.file_uploaded(&key, blob, size, "0", &sha256, NOW)
        });
        written.await.unwrap();
    }

    fn blob(&self, blob: &str) -> PathBuf {
        self.config.data_dir.join("blobs").join(&blob[..2]).join(blob)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn take(&self, name: &str) -> anyhow::Result<Manifest> {
        backup::take(&self.config, &self.path(name), &mut |_, done, all| assert!(done <= all))
    }

    fn restore(&self, from: &str, to: &str) -> anyhow::Result<Manifest> {
        let config = Config { data_dir: self.path(to), ..Config::default() };
        backup::restore(&self.path(from), &config, &mut |_, done, all| assert!(done <= all))
    }
}

fn sha256(content: &str) -> String {
    use sha2::Digest as _;
    hex::encode(sha2::Sha256::digest(content))
}

/// All files below a folder.
fn tree(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(root).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

async fn devices(path: &Path) -> i64 {
    let config = Config { data_dir: path.to_owned(), ..Config::default() };
    let store = Store::open_beside(&config.database().unwrap()).unwrap();
    setup::master_key_beside(&config, &store).await.unwrap();
    let product = store.read(|tx| tx.device_find(ProductNo(1), "dev-1")).await.unwrap();
    assert!(product.is_some());
    store.close();
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let eye = rusqlite::Connection::open_with_flags(path.join("updraft.db"), flags).unwrap();
    eye.query_row("SELECT COUNT(*) FROM device", [], |row| row.get(0)).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_taken_while_somebody_writes_has_all_that_was_there_before_it() {
    let world = Arc::new(World::new().await);
    world.upload("aabb", "firmware").await;
    world.device(1).await;
    let (written, enough) = (Arc::new(AtomicI64::new(1)), Arc::new(AtomicBool::new(false)));
    let writer = {
        let (world, written, enough) = (Arc::clone(&world), Arc::clone(&written), Arc::clone(&enough));
        tokio::spawn(async move {
            while !enough.load(Ordering::SeqCst) {
                let number = written.load(Ordering::SeqCst) + 1;
                world.device(number).await;
                written.store(number, Ordering::SeqCst);
            }
        })
    };
    let before = written.load(Ordering::SeqCst);
    let taking = Arc::clone(&world);
    let manifest = tokio::task::spawn_blocking(move || taking.take("backup")).await.unwrap().unwrap();
    enough.store(true, Ordering::SeqCst);
    writer.await.unwrap();
    assert_eq!(manifest.damaged, [""; 0]);
    assert_eq!(fs::metadata(world.path("backup")).unwrap().permissions().mode() & 0o077, 0);

    assert_eq!(backup::check(&world.path("backup"), &mut |_, _, _| {}).unwrap(), manifest);
    assert_eq!(world.restore("backup", "restored").unwrap(), manifest);
    let mut backed_up = tree(&world.path("backup"));
    backed_up.remove(Path::new(MANIFEST)).unwrap();
    assert_eq!(tree(&world.path("restored")), backed_up);
    assert_eq!(backed_up[Path::new("blobs/aa/aabb")], b"firmware");
    assert_eq!(
        backed_up[Path::new("master.key")],
        fs::read(world.config.data_dir.join("master.key")).unwrap()
    );
    let kept = devices(&world.path("restored")).await;
    assert!((before..=written.load(Ordering::SeqCst)).contains(&kept), "{before} {kept}");
}

#[tokio::test]
async fn a_blob_that_is_purged_meanwhile_is_in_no_backup_and_one_that_was_lost_is_told() {
    let world = World::new().await;
    world.device(1).await;
    world.upload("aakeep", "kept").await;
    world.upload("bbgone", "purged").await;
    world.upload("ccbad", "as it was").await;
    world.upload("ddlost", "lost").await;
    fs::write(world.blob("ccbad"), "flipped!!").unwrap();
    fs::remove_file(world.blob("ddlost")).unwrap();
    // The server purges a file as soon as the database has been copied: first its row, then its bytes.
    let eye = rusqlite::Connection::open(world.config.data_dir.join("updraft.db")).unwrap();
    let mut purged = false;
    let manifest = backup::take(&world.config, &world.path("backup"), &mut |what, done, all| {
        if what == "database" && done == all && !purged {
            purged = true;
            eye.execute("DELETE FROM file WHERE blob = 'bbgone'", []).unwrap();
            fs::remove_file(world.blob("bbgone")).unwrap();
        }
    });
    let manifest = manifest.unwrap();
    assert!(purged);
    assert_eq!(manifest.damaged, ["blobs/cc/ccbad", "blobs/dd/ddlost"]);
    let blobs: Vec<&String> = manifest.files.keys().filter(|name| name.starts_with("blobs/")).collect();
    assert_eq!(blobs, ["blobs/aa/aakeep", "blobs/cc/ccbad"]);
    // What was damaged before is no reason not to have the rest back.
    world.restore("backup", "restored").unwrap();
    assert_eq!(devices(&world.path("restored")).await, 1);
}

#[tokio::test]
async fn a_damaged_backup_is_refused_and_leaves_nothing() {
    let world = World::new().await;
    world.device(1).await;
    world.upload("aabb", "firmware").await;
    world.take("backup").unwrap();
    let whole = tree(&world.path("backup"));
    let refused = |why: &str| {
        let checked = backup::check(&world.path("backup"), &mut |_, _, _| {}).unwrap_err();
        let restored = world.restore("backup", "restored").unwrap_err();
        for error in [checked, restored] {
            assert!(format!("{error:#}").contains(why), "{why}: {error:#}");
        }
        let left = fs::read_dir(world.path("restored")).map(|left| left.count()).unwrap_or_default();
        assert_eq!(left, 0, "{why}");
    };
    for name in whole.keys().filter(|name| *name != Path::new(MANIFEST)) {
        let path = world.path("backup").join(name);
        let mut bytes = whole[name].clone();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, &bytes).unwrap();
        refused(&format!("{} is damaged", path.display()));
        fs::write(&path, &whole[name][..middle]).unwrap();
        refused(&format!("{} is damaged", path.display()));
        fs::remove_file(&path).unwrap();
        refused(&format!("cannot read {}", path.display()));
        fs::write(&path, &whole[name]).unwrap();
    }
    let manifest = world.path("backup").join(MANIFEST);
    for (text, why) in [
        ("{", "is damaged"),
        (r#"{"format":9,"release":"9.0.0","taken_at":"","files":{},"damaged":[]}"#, "made by release 9.0.0"),
        (
            r#"{"format":1,"release":"","taken_at":"","files":{"../x":{"bytes":0,"sha256":""}},"damaged":[]}"#,
            "outside of the backup: ../x",
        ),
        (
            r#"{"format":1,"release":"","taken_at":"","files":{"/etc/x":{"bytes":0,"sha256":""}},"damaged":[]}"#,
            "outside of the backup: /etc/x",
        ),
    ] {
        fs::write(&manifest, text).unwrap();
        refused(why);
    }
    fs::remove_file(&manifest).unwrap();
    refused("is no backup, or one that was not finished");
}

#[tokio::test]
async fn folders_that_are_in_use_are_left_alone() {
    let world = World::new().await;
    world.device(1).await;
    world.take("backup").unwrap();
    let before = tree(&world.path("backup"));
    assert!(world.take("backup").unwrap_err().to_string().contains("is not empty"));
    assert_eq!(tree(&world.path("backup")), before);
    // The running server's own folder, of all.
    let error = world.restore("backup", "data").unwrap_err();
    assert!(error.to_string().contains("is not empty"), "{error:#}");
    let postgres = Config { database_url: Some("postgres://db/x".to_owned()), ..world.config.clone() };
    let error = backup::take(&postgres, &world.path("other"), &mut |_, _, _| {}).unwrap_err();
    assert!(error.to_string().contains("pg_dump"), "{error:#}");
}
