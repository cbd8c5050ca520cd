//! Devices that register themselves.

use crate::harness::cases;
use crate::help::{NOW, read, write};
use crate::shop::Shop;
use updraft_core::device::DeviceStatus;
use updraft_core::id::DeviceNo;
use updraft_core::registration::{Known, Mode};
use updraft_core::time::Timestamp;
use updraft_store::{
    Credentials, Device, DeviceLogin, DeviceToken, OnlineDevice, Registrant, Store, TokenHolder,
};

cases! {
    Store:
        a_product_is_found_with_its_switch_and_the_device,
        a_registration_replaces_what_was_given_before,
        a_reset_opens_the_way_until_the_device_is_back,
        a_deletion_ends_a_token,
        a_visit_activates_and_is_no_connection;
}

const LATER: Timestamp = Timestamp(NOW.0 + 60_000);

fn found(store: &Store, name: &'static str) -> Registrant {
    read(store, move |tx| tx.registrant_find("key", name)).expect("there is the product")
}

fn known(store: &Store) -> Known {
    found(store, "dev1").device.expect("there is the device").known
}

fn token(hash: &[u8]) -> DeviceToken {
    DeviceToken { client_id: "client".to_owned(), hash: hash.to_vec() }
}

fn register(store: &Store, device: DeviceNo, given: Credentials) {
    write(store, move |tx| tx.device_registered(device, &given, LATER));
}

fn login(store: &Store) -> (Vec<u8>, Option<DeviceToken>, i64) {
    match read(store, |tx| tx.device_login("key", "dev1")) {
        Some(DeviceLogin::Known { secret_sealed, token, credentials, .. }) => {
            (secret_sealed, token, credentials)
        }
        other => panic!("{other:?}"),
    }
}

fn go_online(store: &Store, device: DeviceNo, session: i64) {
    let login = OnlineDevice { device, session, ip: "10.0.0.1".to_owned() };
    write(store, move |tx| tx.devices_online(std::slice::from_ref(&login), NOW));
}

fn a_product_is_found_with_its_switch_and_the_device(store: &Store) {
    let shop = Shop::open(store);
    let device = shop.devices(store, 1)[0];
    let none = found(store, "dev9");
    assert_eq!((none.mode, none.device, none.device_count, none.instance_id), (Mode::Off, None, 1, None));
    assert_eq!(
        (none.product, none.instance, none.secret_sealed),
        (shop.product, shop.instance, b"sealed".to_vec())
    );
    for mode in Mode::ALL {
        write(store, move |tx| tx.product_registration_set(shop.product, mode));
        assert_eq!(found(store, "dev1").mode, mode);
        let product = read(store, move |tx| tx.product_find(shop.instance, "key"));
        assert_eq!(product.map(|product| product.registration), Some(mode));
    }
    let one = found(store, "dev1").device.expect("there is the device");
    assert_eq!((one.no, one.secret_sealed, one.known), (device, b"dev1".to_vec(), Known::default()));
    assert_eq!(read(store, |tx| tx.registrant_find("other key", "dev1")), None);
    write(store, move |tx| tx.device_disable(device, NOW));
    assert!(known(store).disabled);
    write(store, move |tx| tx.product_delete(shop.product, NOW));
    assert_eq!(read(store, |tx| tx.registrant_find("key", "dev1")), None);
    assert!(!read(store, |tx| tx.instance_exists("iot-none")));
}

fn a_registration_replaces_what_was_given_before(store: &Store) {
    let shop = Shop::open(store);
    let device = shop.devices(store, 2)[0];
    register(store, device, Credentials::default());
    assert_eq!(login(store), (b"dev1".to_vec(), None, 1));
    assert_eq!(known(store), Known { registered: true, ..Known::default() });
    register(store, device, Credentials { secret_sealed: Some(b"new".to_vec()), token: Some(token(b"1")) });
    assert_eq!(login(store), (b"new".to_vec(), Some(token(b"1")), 2));
    register(store, device, Credentials { secret_sealed: None, token: Some(token(b"2")) });
    assert_eq!(login(store), (b"new".to_vec(), Some(token(b"2")), 3));
    register(store, device, Credentials { secret_sealed: Some(b"last".to_vec()), token: None });
    assert_eq!(login(store), (b"last".to_vec(), None, 4), "a secret ends the token");
    let other = found(store, "dev2").device.expect("there is the other");
    assert_eq!((other.secret_sealed, other.known), (b"dev2".to_vec(), Known::default()));
}

fn a_reset_opens_the_way_until_the_device_is_back(store: &Store) {
    let shop = Shop::open(store);
    let device = shop.devices(store, 1)[0];
    register(store, device, Credentials { secret_sealed: None, token: Some(token(b"1")) });
    go_online(store, device, 1);
    let active = Known { active: true, registered: true, ..Known::default() };
    assert_eq!(known(store), active);
    assert!(write(store, move |tx| tx.device_reset(device, LATER)));
    assert_eq!(login(store), (b"dev1".to_vec(), None, 2));
    let reset = Known { active: true, reset: true, ..Known::default() };
    assert_eq!(known(store), reset);
    assert!(!write(store, move |tx| tx.device_reset(device, LATER)), "its token is gone already");
    // With the secret that it still has: it may register anew all the same.
    go_online(store, device, 2);
    assert_eq!(known(store), reset);
    register(store, device, Credentials { secret_sealed: Some(b"new".to_vec()), token: None });
    assert_eq!(known(store), Known { registered: true, ..reset });
    go_online(store, device, 3);
    assert_eq!(known(store), active);
}

fn a_deletion_ends_a_token(store: &Store) {
    let shop = Shop::open(store);
    let device = shop.devices(store, 1)[0];
    register(store, device, Credentials { secret_sealed: None, token: Some(token(b"1")) });
    let holder = TokenHolder {
        product_key: "key".to_owned(),
        name: "dev1".to_owned(),
        disabled: false,
        credentials: 1,
    };
    assert_eq!(read(store, move |tx| tx.token_holder(device)), Some(holder));
    write(store, move |tx| tx.device_delete(shop.product, device, LATER));
    assert_eq!(read(store, move |tx| tx.token_holder(device)), None);
    assert_eq!(read(store, |tx| tx.device_login("key", "dev1")), Some(DeviceLogin::Deleted));
    assert_eq!(found(store, "dev1").device, None);
}

fn a_visit_activates_and_is_no_connection(store: &Store) {
    let shop = Shop::open(store);
    let device = shop.devices(store, 1)[0];
    let find = || -> Device {
        read(store, move |tx| tx.device_find(shop.product, "dev1")).expect("the device exists")
    };
    assert!(write(store, move |tx| tx.device_visited(device, "10.0.0.7", LATER)));
    let seen = find();
    assert_eq!((seen.status, seen.status_at), (DeviceStatus::Offline, LATER));
    assert_eq!(
        (seen.active_at, seen.online_at, seen.ip.as_deref()),
        (Some(LATER), Some(LATER), Some("10.0.0.7"))
    );
    go_online(store, device, 1);
    assert!(!write(store, move |tx| tx.device_visited(device, "10.0.0.8", LATER)));
    let seen = find();
    assert_eq!(
        (seen.status, seen.active_at, seen.online_at),
        (DeviceStatus::Online, Some(LATER), Some(LATER))
    );
    // What was reset ends with a visit, too.
    write(store, move |tx| tx.device_reset(device, LATER));
    register(store, device, Credentials::default());
    write(store, move |tx| tx.device_visited(device, "10.0.0.8", LATER));
    assert!(!known(store).reset);
    // A disabled device visits nobody.
    write(store, move |tx| tx.device_disable(device, LATER));
    assert!(!write(store, move |tx| tx.device_visited(device, "10.0.0.9", LATER)));
    assert_eq!(find().ip.as_deref(), Some("10.0.0.8"));
}
