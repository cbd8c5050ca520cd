//! Uploaded files.

use crate::harness::cases;
use crate::help::{NOW, read, try_write, write};
use crate::shop::Shop;
use updraft_store::{Store, StoreError, UploadNoted, UploadedFile};

cases! {
    Store:
        a_ticket_is_known_before_its_file_is,
        an_object_key_is_given_out_once,
        an_uploaded_file_comes_back_with_its_digests,
        another_accounts_file_is_not_found_but_can_be_downloaded,
        a_file_may_be_uploaded_again_until_a_package_uses_it,
        the_blob_that_an_upload_replaces_is_named,
        an_upload_without_a_ticket_is_refused,
        a_blob_exists_while_a_file_names_it;
}

fn uploaded(store: &Store, key: &'static str, blob: &'static str) -> bool {
    noted(store, key, blob) != UploadNoted::Refused
}

fn noted(store: &Store, key: &'static str, blob: &'static str) -> UploadNoted {
    write(store, move |tx| tx.file_uploaded(key, blob, i64::MAX, "md5", "sha256"))
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
