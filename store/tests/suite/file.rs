//! Uploaded files.

use crate::harness::cases;
use crate::help::{NOW, read, try_write, write};
use crate::shop::{Shop, insert, task};
use updraft_core::id::FileNo;
use updraft_core::job::{Conduct, DownloadProtocol};
use updraft_core::task::TaskStatus;
use updraft_core::time::Timestamp;
use updraft_store::{NewFirmware, NewJob, Store, StoreError, UploadNoted, UploadedFile};

cases! {
    Store:
        a_ticket_is_known_before_its_file_is,
        an_object_key_is_given_out_once,
        an_uploaded_file_comes_back_with_its_digests,
        another_accounts_file_is_not_found_but_can_be_downloaded,
        a_file_is_found_by_what_its_key_begins_with,
    a_file_is_found_by_what_its_key_begins_with,
        a_file_may_be_uploaded_again_until_a_package_uses_it,
        the_blob_that_an_upload_replaces_is_named,
        an_upload_without_a_ticket_is_refused,
        a_blob_exists_while_a_file_names_it,
        what_no_package_uses_is_found_oldest_first_and_purged,
        a_new_upload_is_not_purged_with_its_old_ticket,
        what_a_package_uses_is_never_purged,
        a_file_by_mqtt_is_for_who_was_told_of_it;
}

fn uploaded(store: &Store, key: &'static str, blob: &'static str) -> bool {
    noted(store, key, blob) != UploadNoted::Refused
}

fn noted(store: &Store, key: &'static str, blob: &'static str) -> UploadNoted {
    write(store, move |tx| tx.file_uploaded(key, blob, i64::MAX, "md5", "sha256", NOW))
}

fn ticket(store: &Store, shop: Shop, key: &'static str) {
    write(store, move |tx| tx.file_ticket_insert(shop.instance, key, NOW));
}

fn a_ticket_is_known_before_its_file_is(store: &Store) {
    let shop = Shop::open(store);
    ticket(store, shop, "ota/k");
    assert_eq!(read(store, |tx| tx.file_ticket_find("ota/k")), Some(None));
    assert_eq!(read(store, |tx| tx.file_ticket_find("ota/other")), None);
    assert_eq!(read(store, move |tx| tx.file_find(shop.instance, "ota/k")), None);
    assert_eq!(read(store, |tx| tx.file_find_any("ota/k")), None);
}

fn an_object_key_is_given_out_once(store: &Store) {
    let shop = Shop::open(store);
    ticket(store, shop, "ota/k");
    let refused = try_write(store, move |tx| tx.file_ticket_insert(shop.instance, "ota/k", NOW));
    assert!(matches!(refused, Err(StoreError::Internal(_))), "{refused:?}");
}

fn an_uploaded_file_comes_back_with_its_digests(store: &Store) {
    let shop = Shop::open(store);
    ticket(store, shop, "ota/k");
    assert!(uploaded(store, "ota/k", "blob"));
    let found = read(store, move |tx| tx.file_find(shop.instance, "ota/k")).expect("the file exists");
    let expected = UploadedFile {
        no: found.no,
        object_key: "ota/k".to_owned(),
        blob: "blob".to_owned(),
        size: i64::MAX,
        md5: "md5".to_owned(),
        sha256: "sha256".to_owned(),
        firmware: None,
        unused_since: Some(NOW),
    };
    assert_eq!(found, expected);
    assert_eq!(read(store, |tx| tx.file_find_any("ota/k")), Some(expected));
}

fn another_accounts_file_is_not_found_but_can_be_downloaded(store: &Store) {
    let shop = Shop::open(store);
    let no = shop.file(store, "k");
    let stranger = crate::shop::stranger(store);
    assert_eq!(read(store, move |tx| tx.file_find(stranger, "k")), None);
    assert_eq!(read(store, |tx| tx.file_find_any("k")).map(|file| file.no), Some(no));
}

fn a_file_is_found_by_what_its_key_begins_with(store: &Store) {
    let shop = Shop::open(store);
    for key in ["ota/aa/one.bin", "ota/ab/two.bin", "ota/ab0/three.bin"] {
        ticket(store, shop, key);
        assert!(uploaded(store, key, key));
    }
    ticket(store, shop, "ota/ac/never.bin");
    let found =
        |head: &'static str| read(store, move |tx| tx.file_find_below(head)).map(|file| file.object_key);
    assert_eq!(found("ota/aa/").as_deref(), Some("ota/aa/one.bin"));
    assert_eq!(found("ota/ab/").as_deref(), Some("ota/ab/two.bin"));
    assert_eq!(found("ota/ac/"), None, "it was never uploaded");
    assert_eq!(found("ota/a/"), None);
    assert_eq!(found("ota/b/"), None);
}

fn a_file_may_be_uploaded_again_until_a_package_uses_it(store: &Store) {
    let shop = Shop::open(store);
    let file = shop.file(store, "k");
    assert!(uploaded(store, "k", "second"));
    let new = shop.new_firmware("package", file);
    let firmware = write(store, move |tx| tx.firmware_insert(&new, NOW));
    assert!(!uploaded(store, "k", "third"));
    let found = read(store, |tx| tx.file_find_any("k")).expect("the file exists");
    assert_eq!((found.blob.as_str(), found.firmware), ("second", firmware));
    assert_eq!(read(store, |tx| tx.file_ticket_find("k")), Some(firmware));
}

fn the_blob_that_an_upload_replaces_is_named(store: &Store) {
    let shop = Shop::open(store);
    ticket(store, shop, "key");
    assert_eq!(noted(store, "key", "one"), UploadNoted::First);
    assert_eq!(noted(store, "key", "two"), UploadNoted::Replaced("one".to_owned()));
    assert_eq!(noted(store, "other", "three"), UploadNoted::Refused);
}

fn an_upload_without_a_ticket_is_refused(store: &Store) {
    assert!(!uploaded(store, "k", "blob"));
    assert_eq!(read(store, |tx| tx.file_find_any("k")), None);
}

fn a_blob_exists_while_a_file_names_it(store: &Store) {
    let shop = Shop::open(store);
    ticket(store, shop, "k");
    assert!(uploaded(store, "k", "first"));
    assert!(read(store, |tx| tx.file_blob_exists("first")));
    assert!(uploaded(store, "k", "second"));
    assert!(!read(store, |tx| tx.file_blob_exists("first")));
    assert!(read(store, |tx| tx.file_blob_exists("second")));
    // Two uploads may share one blob.
    ticket(store, shop, "k2");
    assert!(uploaded(store, "k2", "second"));
    assert!(read(store, |tx| tx.file_blob_exists("second")));
}

const HOUR_LATER: Timestamp = Timestamp(NOW.0 + 3_600_000);

fn unused(store: &Store, before: Timestamp, limit: i64) -> Vec<String> {
    let found = read(store, move |tx| tx.files_unused(before, limit));
    found.into_iter().map(|file| file.object_key).collect()
}

fn number(store: &Store, key: &'static str) -> FileNo {
    let found = read(store, |tx| tx.files_unused(Timestamp(i64::MAX), i64::MAX));
    found.into_iter().find(|file| file.object_key == key).expect("it is not used").no
}

fn what_no_package_uses_is_found_oldest_first_and_purged(store: &Store) {
    let shop = Shop::open(store);
    for (key, at) in [("late", 2), ("ticket", 0), ("file", 1)] {
        write(store, move |tx| tx.file_ticket_insert(shop.instance, key, Timestamp(NOW.0 + at)));
    }
    write(store, |tx| {
        tx.file_uploaded("file", "blob", 7, "md5", "sha256", Timestamp(NOW.0 + 1))?;
        tx.file_uploaded("late", "late blob", 7, "md5", "sha256", Timestamp(NOW.0 + 2))
    });
    assert_eq!(unused(store, HOUR_LATER, 9), ["ticket", "file", "late"]);
    assert_eq!(unused(store, HOUR_LATER, 2), ["ticket", "file"]);
    assert_eq!(unused(store, Timestamp(NOW.0 + 1), 9), ["ticket"]);
    let all = [number(store, "ticket"), number(store, "file"), number(store, "late"), FileNo(i64::MAX)];
    let gone = write(store, move |tx| tx.files_purge(&all, Timestamp(NOW.0 + 2)));
    assert_eq!(gone, (2, vec!["blob".to_owned()]));
    assert_eq!(unused(store, HOUR_LATER, 9), ["late"]);
    assert!(!read(store, |tx| tx.file_blob_exists("blob")));
    assert_eq!(read(store, |tx| tx.file_ticket_find("ticket")), None);
    assert_eq!(write(store, |tx| tx.files_purge(&[], HOUR_LATER)), (0, Vec::new()));
}

fn a_new_upload_is_not_purged_with_its_old_ticket(store: &Store) {
    let shop = Shop::open(store);
    ticket(store, shop, "k");
    let file = number(store, "k");
    write(store, |tx| tx.file_uploaded("k", "blob", 7, "md5", "sha256", HOUR_LATER));
    assert_eq!(unused(store, HOUR_LATER, 9), Vec::<String>::new());
    assert_eq!(write(store, move |tx| tx.files_purge(&[file], HOUR_LATER)).0, 0);
    assert!(read(store, |tx| tx.file_find_any("k")).is_some());
}

fn what_a_package_uses_is_never_purged(store: &Store) {
    let shop = Shop::open(store);
    let files = [shop.file(store, "first"), shop.file(store, "second")];
    let new = NewFirmware {
        files: files.iter().map(|file| (*file, Some(file.0.to_string()))).collect(),
        ..shop.new_firmware("package", files[0])
    };
    write(store, move |tx| tx.firmware_insert(&new, NOW)).expect("the name is free");
    assert_eq!(unused(store, Timestamp(i64::MAX), 9), Vec::<String>::new());
    assert_eq!(write(store, move |tx| tx.files_purge(&files, Timestamp(i64::MAX))), (0, Vec::new()));
    assert!(read(store, |tx| tx.file_find_any("second")).is_some());
}

fn a_file_by_mqtt_is_for_who_was_told_of_it(store: &Store) {
    let shop = Shop::open(store);
    let firmware = shop.firmware(store, "package");
    let https = shop.job(store, firmware, "https");
    let conduct = Conduct { download: DownloadProtocol::Mqtt, ..Conduct::default() };
    let new = NewJob { conduct, ..shop.new_job(firmware, "mqtt") };
    let mqtt = write(store, move |tx| tx.job_insert(&new, NOW));
    let devices = shop.devices(store, TaskStatus::ALL.len() + 2);
    let of = |device: usize| devices.get(device).copied().expect("there are enough");
    let mut tasks: Vec<_> =
        (1..).zip(TaskStatus::ALL).map(|(n, status)| task(mqtt, n, of(n as usize), status)).collect();
    tasks.push(task(https, 1, of(0), TaskStatus::Notified));
    insert(store, tasks);
    let found = |device: usize, job, place| {
        let device = of(device);
        read(store, move |tx| tx.file_of_task(device, job, place)).is_some()
    };
    for (device, status) in (1..).zip(TaskStatus::ALL) {
        let told = matches!(status, TaskStatus::Notified | TaskStatus::InProgress);
        assert_eq!(found(device, mqtt, 1), told, "{status:?}");
        assert!(!found(device, mqtt, 0) && !found(device, mqtt, 2) && !found(device, mqtt, i64::MIN));
    }
    assert!(!found(0, https, 1), "a batch with addresses");
    assert!(!found(0, mqtt, 1) && !found(devices.len() - 1, mqtt, 1), "no task in it");
}
