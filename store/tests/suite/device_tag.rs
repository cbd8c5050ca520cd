//! Tags of devices.

use crate::harness::cases;
use crate::help::{NOW, read, write};
use crate::shop::{Shop, new_device, new_product, stranger};
use std::collections::BTreeMap;
use updraft_core::id::{DeviceNo, InstanceNo};
use updraft_store::{Store, TagAsked, TagPlace};

cases! {
    Store:
        tags_are_kept_replaced_and_taken_away,
        tags_of_many_devices_come_at_once,
        devices_are_found_by_all_of_their_tags,
        a_deleted_device_is_not_shown,
        another_instances_tags_find_nothing;
}

fn tags(all: &[(&str, &str)]) -> BTreeMap<String, String> {
    all.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn put(store: &Store, instance: InstanceNo, device: DeviceNo, all: &[(&str, &str)]) {
    let all = tags(all);
    write(store, move |tx| tx.device_tags_put(instance, device, &all));
}

/// The names of the devices with these tags, newest first, looked for in pieces of this size.
fn found_in_pieces(store: &Store, instance: InstanceNo, asked: &[(&str, &str)], piece: i64) -> String {
    let asked: Vec<TagAsked> = asked
        .iter()
        .map(|(key, value)| TagAsked {
            key: (*key).to_owned(),
            value: (!value.is_empty()).then(|| (*value).to_owned()),
        })
        .collect();
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let (asked, place) = (asked.clone(), after);
        let (devices, next): (Vec<DeviceNo>, Option<TagPlace>) =
            read(store, move |tx| tx.devices_tagged(instance, &asked, place.as_ref(), piece));
        assert!(devices.len() as i64 <= piece);
        found.extend(devices);
        after = next;
        if after.is_none() {
            break;
        }
    }
    found.sort_unstable_by(|one, other| other.cmp(one));
    let devices = read(store, move |tx| tx.devices_tagged_load(&found));
    devices.into_iter().map(|device| device.name).collect::<Vec<_>>().join(" ")
}

fn found(store: &Store, instance: InstanceNo, asked: &[(&str, &str)]) -> String {
    let all = found_in_pieces(store, instance, asked, 100);
    for piece in 1..=3 {
        assert_eq!(found_in_pieces(store, instance, asked, piece), all, "in pieces of {piece}");
    }
    all
}

fn tags_are_kept_replaced_and_taken_away(store: &Store) {
    let shop = Shop::open(store);
    let device = shop.devices(store, 1)[0];
    put(store, shop.instance, device, &[("colour", "red"), ("site", "路灯")]);
    put(store, shop.instance, device, &[("colour", "blue"), ("a.b", "1")]);
    let expected = tags(&[("a.b", "1"), ("colour", "blue"), ("site", "路灯")]);
    assert_eq!(read(store, move |tx| tx.device_tags(device)), expected);
    assert!(write(store, move |tx| tx.device_tag_delete(device, "site")));
    assert!(!write(store, move |tx| tx.device_tag_delete(device, "site")));
    assert_eq!(read(store, move |tx| tx.device_tags(device)).len(), 2);
    write(store, move |tx| tx.device_tags_forget(&[device]));
    assert_eq!(read(store, move |tx| tx.device_tags(device)), BTreeMap::new());
}

fn tags_of_many_devices_come_at_once(store: &Store) {
    let shop = Shop::open(store);
    let devices = shop.devices(store, 3);
    put(store, shop.instance, devices[0], &[("b", "2"), ("a", "1")]);
    put(store, shop.instance, devices[2], &[("a", "3")]);
    let (first, last) = (devices[0], devices[2]);
    let all = read(store, move |tx| tx.device_tags_of(&devices));
    let row = |device, key: &str, value: &str| (device, key.to_owned(), value.to_owned());
    assert_eq!(all, [row(first, "a", "1"), row(first, "b", "2"), row(last, "a", "3")]);
}

fn devices_are_found_by_all_of_their_tags(store: &Store) {
    let shop = Shop::open(store);
    let devices = shop.devices(store, 3);
    put(store, shop.instance, devices[0], &[("colour", "red"), ("site", "a")]);
    put(store, shop.instance, devices[1], &[("colour", "red"), ("site", "b")]);
    put(store, shop.instance, devices[2], &[("colour", "reddish"), ("site", "b")]);
    let found = |asked: &[(&str, &str)]| found(store, shop.instance, asked);
    assert_eq!(found(&[("colour", "red")]), "dev2 dev1");
    assert_eq!(found(&[("colour", "red"), ("site", "b")]), "dev2");
    assert_eq!(found(&[("colour", "")]), "dev3 dev2 dev1");
    assert_eq!(found(&[("colour", ""), ("site", "b")]), "dev3 dev2");
    assert_eq!(found(&[("site", "b"), ("site", "a")]), "");
    assert_eq!(found(&[("Colour", "red")]), "");
    let mut ten = vec![("colour", "red"); 9];
    ten.push(("site", "a"));
    assert_eq!(found(&ten), "dev1");
}

fn a_deleted_device_is_not_shown(store: &Store) {
    let shop = Shop::open(store);
    let devices = shop.devices(store, 3);
    let (first, last) = (devices[0], devices[2]);
    write(store, move |tx| tx.device_delete(shop.product, first, NOW));
    let shown = read(store, move |tx| tx.devices_tagged_load(&[last, first]));
    assert_eq!(shown.into_iter().map(|device| device.name).collect::<Vec<_>>(), ["dev3"]);
}

fn another_instances_tags_find_nothing(store: &Store) {
    let shop = Shop::open(store);
    let theirs = stranger(store);
    let device = write(store, move |tx| {
        let product = tx.product_insert(&new_product(theirs, "theirs", "theirs"), NOW)?;
        tx.device_insert(&new_device(product.expect("the name is free"), "dev9"), NOW)
    });
    put(store, theirs, device.expect("the name is free"), &[("colour", "red")]);
    assert_eq!(found(store, shop.instance, &[("colour", "red")]), "");
    assert_eq!(found(store, theirs, &[("colour", "red")]), "dev9");
}
