//! Certificates of devices.

use crate::harness::cases;
use crate::help::{NOW, read, write};
use crate::shop::{Shop, new_device};
use updraft_core::id::DeviceNo;
use updraft_store::{CertifiedDevice, DeviceAuthority, DeviceCertificate, NewDevice, Store};

cases! {
    Store:
        there_is_one_authority_and_it_stays,
        a_device_has_one_certificate_and_is_found_by_it,
        a_deleted_devices_certificate_stays_without_its_key;
}

fn certificate(serial: &str) -> DeviceCertificate {
    DeviceCertificate {
        serial: serial.to_owned(),
        certificate: format!("certificate {serial}"),
        key_sealed: b"sealed".to_vec(),
    }
}

fn give(store: &Store, device: DeviceNo, serial: &'static str) -> bool {
    write(store, move |tx| tx.device_certificate_insert(device, &certificate(serial), NOW))
}

fn there_is_one_authority_and_it_stays(store: &Store) {
    let authority =
        |text: &str| DeviceAuthority { certificate: text.to_owned(), key_sealed: text.as_bytes().to_vec() };
    assert_eq!(read(store, |tx| tx.device_authority_find()), None);
    let (first, second) = (authority("first"), authority("second"));
    assert!(write(store, move |tx| tx.device_authority_insert(&first)));
    assert!(!write(store, move |tx| tx.device_authority_insert(&second)));
    assert_eq!(read(store, |tx| tx.device_authority_find()), Some(authority("first")));
}

fn a_device_has_one_certificate_and_is_found_by_it(store: &Store) {
    let shop = Shop::open(store);
    let devices = shop.devices(store, 2);
    let (one, other) = (devices[0], devices[1]);
    assert_eq!(read(store, move |tx| tx.device_certificate_find(one)), None);
    assert!(give(store, one, "01"));
    assert!(!give(store, one, "02"), "the first one stays");
    assert!(give(store, other, "03"));
    assert_eq!(read(store, move |tx| tx.device_certificate_find(one)), Some(certificate("01")));
    let found = read(store, |tx| tx.device_certified("03"));
    let wanted = CertifiedDevice {
        device: other,
        product_key: "key".to_owned(),
        name: "dev2".to_owned(),
        is_gateway: false,
        disabled: false,
        deleted: false,
    };
    assert_eq!(found, Some(wanted));
    assert_eq!(read(store, |tx| tx.device_certified("02")), None);
    write(store, move |tx| tx.device_disable(other, NOW));
    assert!(read(store, |tx| tx.device_certified("03")).expect("it is there").disabled);
}

fn a_deleted_devices_certificate_stays_without_its_key(store: &Store) {
    let shop = Shop::open(store);
    let old = shop.devices(store, 1)[0];
    give(store, old, "01");
    write(store, move |tx| tx.device_delete(shop.product, old, NOW));
    let kept = read(store, move |tx| tx.device_certificate_find(old)).expect("it stays");
    assert_eq!(kept, DeviceCertificate { key_sealed: Vec::new(), ..certificate("01") });
    let new = NewDevice { iot_id: "another".to_owned(), ..new_device(shop.product, "dev1") };
    let new = write(store, move |tx| tx.device_insert(&new, NOW)).expect("the name is free");
    assert!(give(store, new, "02"));
    assert!(read(store, |tx| tx.device_certified("01")).expect("it is there").deleted);
    assert_eq!(read(store, |tx| tx.device_certified("02")).expect("it is there").device, new);
}
