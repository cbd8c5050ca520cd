//! Which devices are behind which gateway.

use crate::harness::cases;
use crate::help::{NOW, read, write};
use crate::shop::{Shop, new_device, new_product};
use updraft_core::id::{DeviceNo, InstanceNo, ProductNo};
use updraft_core::page::Page;
use updraft_store::{DeviceLogin, Gateway, NewProduct, Store};

cases! {
    Store:
        a_device_is_behind_one_gateway,
        a_gateway_knows_its_kind_and_how_many_are_behind_it,
        devices_are_found_by_their_names_in_the_instance_only,
        the_list_of_a_gateway_has_pages,
        strays_are_those_behind_another_gateway_or_none,
        what_is_deleted_is_behind_nobody_and_has_nobody_behind_it,
        a_login_says_whether_it_is_a_gateways;
}

/// A product of gateways with devices of these names.
fn gateways<const N: usize>(
    store: &Store,
    shop: Shop,
    names: [&'static str; N],
) -> (ProductNo, [DeviceNo; N]) {
    write(store, move |tx| {
        let new = NewProduct { node_type: 1, ..new_product(shop.instance, "gateways", "gateways") };
        let product = tx.product_insert(&new, NOW)?.expect("the name is free");
        let mut made = [DeviceNo(0); N];
        for (no, name) in made.iter_mut().zip(names) {
            *no = tx.device_insert(&new_device(product, name), NOW)?.expect("the name is free");
        }
        Ok((product, made))
    })
}

fn put(store: &Store, gateway: DeviceNo, devices: &[DeviceNo]) {
    let devices = devices.to_vec();
    write(store, move |tx| tx.topo_put(gateway, &devices, NOW));
}

fn behind(store: &Store, gateway: DeviceNo) -> Vec<DeviceNo> {
    let page = Page::new(1, 100, 100).expect("in range");
    read(store, move |tx| tx.topo_list(gateway, page)).iter().map(|sub| sub.device).collect()
}

fn a_device_is_behind_one_gateway(store: &Store) {
    let shop = Shop::open(store);
    let devices = shop.devices(store, 3);
    let (_, [first, second]) = gateways(store, shop, ["first", "second"]);
    put(store, first, &devices);
    put(store, first, &devices);
    assert_eq!(behind(store, first), devices);
    put(store, second, &[devices[1], devices[1]]);
    assert_eq!(
        (behind(store, first), behind(store, second)),
        (vec![devices[0], devices[2]], vec![devices[1]])
    );
    let of = |device: DeviceNo| read(store, move |tx| tx.topo_gateway(device));
    assert_eq!((of(devices[0]), of(devices[1]), of(first)), (Some(first), Some(second), None));
    let gone = [devices[0], devices[1]];
    write(store, move |tx| tx.topo_remove(&gone));
    assert_eq!((behind(store, first), behind(store, second)), (vec![devices[2]], Vec::new()));
}

fn a_gateway_knows_its_kind_and_how_many_are_behind_it(store: &Store) {
    let shop = Shop::open(store);
    let devices = shop.devices(store, 2);
    let (_, [gateway]) = gateways(store, shop, ["gateway"]);
    put(store, gateway, &devices);
    let load = |device: DeviceNo| read(store, move |tx| tx.gateway_load(device));
    let known = |product_key: &str, name: &str, is_gateway, subs| {
        let (product_key, name) = (product_key.to_owned(), name.to_owned());
        Some(Gateway { instance: shop.instance, product_key, name, is_gateway, subs })
    };
    assert_eq!(load(gateway), known("gateways", "gateway", true, 2));
    assert_eq!(load(devices[0]), known("key", "dev1", false, 0));
    assert_eq!(load(DeviceNo(99)), None);
}

fn devices_are_found_by_their_names_in_the_instance_only(store: &Store) {
    let shop = Shop::open(store);
    let devices = shop.devices(store, 2);
    let (_, [gateway]) = gateways(store, shop, ["gateway"]);
    put(store, gateway, &devices[1..]);
    let find = |instance: InstanceNo| {
        let mut found = read(store, move |tx| {
            tx.sub_devices_find(
                instance,
                &[
                    ("key", "dev1"),
                    ("key", "dev2"),
                    ("key", "dev3"),
                    ("gateways", "gateway"),
                    ("other", "dev1"),
                ],
            )
        });
        found.sort_unstable_by_key(|sub| sub.device);
        found
    };
    let found = find(shop.instance);
    let seen: Vec<_> = found.iter().map(|sub| (sub.device, sub.is_gateway, sub.gateway)).collect();
    assert_eq!(seen, [(devices[0], false, None), (devices[1], false, Some(gateway)), (gateway, true, None)]);
    let dev2 = &found[1];
    assert_eq!((dev2.product_key.as_str(), dev2.name.as_str()), ("key", "dev2"));
    assert_eq!((dev2.secret_sealed.as_slice(), dev2.disabled), (&b"dev2"[..], false));
    assert_eq!(find(InstanceNo(shop.instance.0 + 1)), []);
    let disabled = devices[1];
    write(store, move |tx| tx.device_disable(disabled, NOW));
    assert!(find(shop.instance)[1].disabled);
}

fn the_list_of_a_gateway_has_pages(store: &Store) {
    let shop = Shop::open(store);
    let devices = shop.devices(store, 5);
    let (_, [gateway]) = gateways(store, shop, ["gateway"]);
    put(store, gateway, &devices);
    let page = |number| {
        let page = Page::new(number, 2, 2).expect("in range");
        let found = read(store, move |tx| tx.topo_list(gateway, page));
        found.iter().map(|sub| sub.device).collect::<Vec<_>>()
    };
    assert_eq!(
        [page(1), page(2), page(3), page(4)],
        [devices[..2].to_vec(), devices[2..4].to_vec(), devices[4..].to_vec(), Vec::new()]
    );
}

fn strays_are_those_behind_another_gateway_or_none(store: &Store) {
    let shop = Shop::open(store);
    let devices = shop.devices(store, 3);
    let (_, [first, second]) = gateways(store, shop, ["first", "second"]);
    put(store, first, &devices[..1]);
    put(store, second, &devices[1..2]);
    let pairs: Vec<_> = devices.iter().map(|device| (*device, first)).collect();
    assert_eq!(read(store, move |tx| tx.topo_strays(&pairs)), devices[1..]);
    assert_eq!(read(store, |tx| tx.topo_strays(&[])), []);
}

fn what_is_deleted_is_behind_nobody_and_has_nobody_behind_it(store: &Store) {
    let shop = Shop::open(store);
    let devices = shop.devices(store, 3);
    let (product, [gateway]) = gateways(store, shop, ["gateway"]);
    put(store, gateway, &devices);
    let first = devices[0];
    write(store, move |tx| tx.device_delete(shop.product, first, NOW));
    assert_eq!(behind(store, gateway), devices[1..]);
    write(store, move |tx| tx.device_delete(product, gateway, NOW));
    let last = devices[2];
    assert_eq!(read(store, move |tx| tx.topo_gateway(last)), None);
    assert_eq!(read(store, move |tx| tx.gateway_load(gateway)), None);
}

fn a_login_says_whether_it_is_a_gateways(store: &Store) {
    let shop = Shop::open(store);
    shop.devices(store, 1);
    gateways(store, shop, ["gateway"]);
    let is_gateway =
        |key: &'static str, name: &'static str| match read(store, move |tx| tx.device_login(key, name)) {
            Some(DeviceLogin::Known { is_gateway, .. }) => is_gateway,
            other => panic!("{other:?}"),
        };
    assert_eq!((is_gateway("key", "dev1"), is_gateway("gateways", "gateway")), (false, true));
}
