//! Counts of devices.

use crate::harness::cases;
use crate::help::{NOW, read, write};
use crate::shop::{Shop, new_device, new_product, stranger};
use updraft_core::id::DeviceNo;
use updraft_store::{Counted, NewGroup, OnlineDevice, PieceCounts, Store};

cases! {
    Store:
        active_and_online_devices_of_a_product_are_counted_in_pieces,
        members_of_a_group_are_counted_for_a_product_or_all,
        products_are_counted_per_instance;
}

fn online(store: &Store, devices: &[DeviceNo]) {
    let logins: Vec<OnlineDevice> = devices
        .iter()
        .map(|device| OnlineDevice { device: *device, session: 1, ip: String::new() })
        .collect();
    write(store, move |tx| tx.devices_online(&logins, NOW));
}

fn offline(store: &Store, device: DeviceNo) {
    write(store, move |tx| tx.devices_offline(&[(device, 1)], NOW));
}

fn active_and_online_devices_of_a_product_are_counted_in_pieces(store: &Store) {
    let shop = Shop::open(store);
    let devices = shop.devices(store, 5);
    let other = shop.product(store, "other");
    let theirs = write(store, move |tx| tx.device_insert(&new_device(other, "theirs"), NOW));
    online(store, &[devices[0], devices[2], devices[3], devices[4], theirs.expect("the name is free")]);
    offline(store, devices[2]);
    // A deleted device is neither.
    let gone = devices[4];
    write(store, move |tx| tx.device_delete(shop.product, gone, NOW));
    let count = |what, after| read(store, move |tx| tx.devices_counted(shop.product, what, after, 2));
    assert_eq!(count(Counted::Active, DeviceNo(0)), (2, devices[2]));
    assert_eq!(count(Counted::Active, devices[2]), (1, devices[3]));
    assert_eq!(count(Counted::Active, devices[3]), (0, DeviceNo(0)));
    assert_eq!(count(Counted::Online, DeviceNo(0)), (2, devices[3]));
    assert_eq!(count(Counted::Online, devices[3]), (0, DeviceNo(0)));
}

fn members_of_a_group_are_counted_for_a_product_or_all(store: &Store) {
    let shop = Shop::open(store);
    let devices = shop.devices(store, 3);
    let other = shop.product(store, "other");
    let theirs = write(store, move |tx| tx.device_insert(&new_device(other, "theirs"), NOW));
    let theirs = theirs.expect("the name is free");
    let group = NewGroup {
        instance: shop.instance,
        group_id: "group".to_owned(),
        name: "group".to_owned(),
        description: None,
        parent: None,
    };
    let group = write(store, move |tx| tx.group_insert(&group, NOW)).expect("the name is free");
    let members = [devices[0], devices[1], theirs];
    write(store, move |tx| tx.group_members_add(group, &members));
    online(store, &[devices[0], devices[1], devices[2], theirs]);
    offline(store, devices[1]);
    let count =
        |product, after, limit| read(store, move |tx| tx.members_counted(group, product, after, limit));
    let of =
        |looked_at, last, devices, active, online| PieceCounts { looked_at, last, devices, active, online };
    assert_eq!(count(None, DeviceNo(0), 2), of(2, devices[1], 2, 2, 1));
    assert_eq!(count(None, devices[1], 2), of(1, theirs, 1, 1, 1));
    assert_eq!(count(Some(other), DeviceNo(0), 9), of(3, theirs, 1, 1, 1));
    assert_eq!(count(Some(shop.product), DeviceNo(0), 9), of(3, theirs, 2, 2, 1));
    assert_eq!(count(None, theirs, 2), PieceCounts::default());
}

fn products_are_counted_per_instance(store: &Store) {
    let shop = Shop::open(store);
    let (second, gone) = (shop.product(store, "second"), shop.product(store, "gone"));
    shop.devices(store, 2);
    let instance = stranger(store);
    write(store, move |tx| {
        tx.product_insert(&new_product(instance, "theirs", "theirs"), NOW)?;
        tx.product_delete(gone, NOW)
    });
    let counted = read(store, move |tx| tx.products_counted(shop.instance));
    assert_eq!(counted, [(shop.product, 2), (second, 0)]);
}
