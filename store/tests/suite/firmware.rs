//! Update packages.

use crate::harness::cases;
use crate::help::{NOW, read, write};
use crate::shop::Shop;
use updraft_core::firmware::{FirmwareStatus, SignMethod};
use updraft_core::id::{FirmwareNo, JobNo};
use updraft_core::time::Timestamp;
use updraft_store::{Firmware, NewFirmware, Store};

cases! {
    Store:
        a_package_comes_back_with_its_files_key_and_digest,
        a_package_name_is_unique_in_its_instance,
        a_refused_package_leaves_its_file_free,
        another_accounts_package_is_not_found,
        packages_load_by_number_and_unknown_ones_are_left_out,
        packages_count_per_instance,
        every_verification_status_is_kept,
        the_verification_batch_is_kept;
}

fn load(store: &Store, no: FirmwareNo) -> Firmware {
    read(store, move |tx| tx.firmwares_load(&[no])).pop().expect("the package exists")
}

fn a_package_comes_back_with_its_files_key_and_digest(store: &Store) {
    let shop = Shop::open(store);
    let new = NewFirmware {
        description: Some(String::new()),
        status: FirmwareStatus::Unverified,
        sign_method: SignMethod::Sha256,
        size: i64::MAX,
        udi: Some("{\"a\": \"'路'\"}".to_owned()),
        ..shop.new_firmware("パッケージ", shop.file(store, "ota/k"))
    };
    let added = new.clone();
    let no = write(store, move |tx| tx.firmware_insert(&added, NOW)).expect("the name is free");
    let expected = Firmware {
        no,
        instance: shop.instance,
        product: shop.product,
        firmware_id: new.firmware_id.clone(),
        name: new.name,
        description: new.description,
        dest_version: new.dest_version,
        module: new.module,
        status: new.status,
        sign_method: new.sign_method,
        sign: new.sign,
        size: new.size,
        udi: new.udi,
        verify_job: None,
        job_count: 0,
        created_at: NOW,
        modified_at: NOW,
        object_key: "ota/k".to_owned(),
        file_md5: "md5 of it".to_owned(),
    };
    assert_eq!(load(store, no), expected);
    let id = new.firmware_id;
    assert_eq!(read(store, move |tx| tx.firmware_find(shop.instance, &id)), Some(expected));
}

fn a_package_name_is_unique_in_its_instance(store: &Store) {
    let shop = Shop::open(store);
    shop.firmware(store, "package");
    let again = NewFirmware {
        firmware_id: "fresh".to_owned(),
        ..shop.new_firmware("package", shop.file(store, "k"))
    };
    assert_eq!(write(store, move |tx| tx.firmware_insert(&again, NOW)), None);
    assert_eq!(read(store, move |tx| tx.firmware_find(shop.instance, "fresh")), None);
}

fn a_refused_package_leaves_its_file_free(store: &Store) {
    let shop = Shop::open(store);
    shop.firmware(store, "package");
    let again = NewFirmware {
        firmware_id: "fresh".to_owned(),
        ..shop.new_firmware("package", shop.file(store, "k"))
    };
    write(store, move |tx| tx.firmware_insert(&again, NOW));
    assert_eq!(read(store, |tx| tx.file_ticket_find("k")), Some(None));
}

fn another_accounts_package_is_not_found(store: &Store) {
    let shop = Shop::open(store);
    shop.firmware(store, "package");
    let stranger = crate::shop::stranger(store);
    assert!(read(store, move |tx| tx.firmware_find(shop.instance, "id of package")).is_some());
    assert_eq!(read(store, move |tx| tx.firmware_find(stranger, "id of package")), None);
}

fn packages_load_by_number_and_unknown_ones_are_left_out(store: &Store) {
    let shop = Shop::open(store);
    let first = shop.firmware(store, "first");
    let second = shop.firmware(store, "second");
    let mut found = read(store, move |tx| tx.firmwares_load(&[second, FirmwareNo(i64::MAX), first]));
    found.sort_by_key(|firmware| firmware.no);
    assert_eq!(found.iter().map(|firmware| firmware.no).collect::<Vec<_>>(), [first, second]);
    assert_eq!(read(store, |tx| tx.firmwares_load(&[])), []);
}

fn packages_count_per_instance(store: &Store) {
    let shop = Shop::open(store);
    let stranger = crate::shop::stranger(store);
    shop.firmware(store, "first");
    shop.firmware(store, "second");
    let counts = read(store, move |tx| Ok((tx.firmware_count(shop.instance)?, tx.firmware_count(stranger)?)));
    assert_eq!(counts, (2, 0));
}

fn every_verification_status_is_kept(store: &Store) {
    let shop = Shop::open(store);
    let no = shop.firmware(store, "package");
    let untouched = load(store, shop.firmware(store, "other"));
    for (status, n) in FirmwareStatus::ALL.into_iter().zip(1..) {
        let now = Timestamp(NOW.0 + n);
        write(store, move |tx| tx.firmware_status_set(no, status, now));
        let found = load(store, no);
        assert_eq!((found.status, found.modified_at, found.created_at), (status, now, NOW));
    }
    assert_eq!(load(store, untouched.no), untouched);
}

fn the_verification_batch_is_kept(store: &Store) {
    let shop = Shop::open(store);
    let no = shop.firmware(store, "package");
    write(store, move |tx| tx.firmware_verify_job_set(no, JobNo(i64::MAX)));
    assert_eq!(load(store, no).verify_job, Some(JobNo(i64::MAX)));
}
