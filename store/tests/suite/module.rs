//! Modules of products, and the versions that devices report for them.

use crate::harness::cases;
use crate::help::{NOW, read, write};
use crate::shop::Shop;
use updraft_core::id::ProductNo;
use updraft_core::page::Page;
use updraft_core::time::Timestamp;
use updraft_store::{Module, NewFirmware, Store};

cases! {
    Store:
        a_module_comes_back_as_it_was_made_and_changed,
        a_module_name_is_unique_in_its_product_ignoring_case,
        a_module_is_used_by_packages_of_its_product_only,
        a_devices_versions_are_paged_by_module;
}

fn insert(store: &Store, product: ProductNo, name: &'static str) -> bool {
    write(store, move |tx| tx.module_insert(product, name, None, None, NOW))
}

fn names(store: &Store, product: ProductNo) -> Vec<String> {
    read(store, move |tx| tx.modules(product)).into_iter().map(|module| module.name).collect()
}

fn a_module_comes_back_as_it_was_made_and_changed(store: &Store) {
    let product = Shop::open(store).product;
    assert!(insert(store, product, "radio"));
    assert!(write(store, move |tx| tx.module_insert(product, "MCU", Some("微"), Some("'a'"), NOW)));
    let later = Timestamp(NOW.0 + 5);
    assert!(write(store, move |tx| tx.module_update(product, "MCU", None, Some("b"), later)));
    let expected = Module {
        name: "MCU".to_owned(),
        alias: Some("微".to_owned()),
        description: Some("b".to_owned()),
        created_at: NOW,
        modified_at: later,
    };
    let found = read(store, move |tx| tx.modules(product));
    assert_eq!((found.len(), &found[0]), (2, &expected));
    assert!(!write(store, move |tx| tx.module_update(product, "mcu", None, Some("c"), later)));
    assert!(!write(store, move |tx| tx.module_delete(product, "mcu")));
    assert!(write(store, move |tx| tx.module_delete(product, "MCU")));
    assert_eq!(names(store, product), ["radio"]);
}

fn a_module_name_is_unique_in_its_product_ignoring_case(store: &Store) {
    let shop = Shop::open(store);
    let other = shop.product(store, "other");
    assert!(insert(store, shop.product, "MCU"));
    assert!(!insert(store, shop.product, "mcu"));
    assert!(insert(store, other, "mcu"));
    assert_eq!((names(store, shop.product), names(store, other)), (vec!["MCU".into()], vec!["mcu".into()]));
    let exists = |name: &'static str| read(store, move |tx| tx.module_exists(shop.product, name));
    assert_eq!([exists("MCU"), exists("mcu"), exists("radio")], [true, false, false]);
}

fn a_module_is_used_by_packages_of_its_product_only(store: &Store) {
    let shop = Shop::open(store);
    let other = shop.product(store, "other");
    let new = NewFirmware { module: "MCU".to_owned(), ..shop.new_firmware("package", shop.file(store, "k")) };
    write(store, move |tx| tx.firmware_insert(&new, NOW)).expect("the name is free");
    let used =
        |product, module: &'static str| read(store, move |tx| tx.firmware_of_module_exists(product, module));
    assert_eq!(
        [used(shop.product, "MCU"), used(shop.product, "radio"), used(other, "MCU")],
        [true, false, false]
    );
}

fn a_devices_versions_are_paged_by_module(store: &Store) {
    let shop = Shop::open(store);
    let devices = shop.devices(store, 2);
    let (device, silent) = (devices[0], devices[1]);
    let reports: Vec<_> =
        ["c", "a", "b"].map(|module| (device, module.to_owned(), format!("{module}1"))).to_vec();
    write(store, move |tx| tx.versions_put(&reports, NOW));
    let page = |device, number| {
        let page = Page::new(number, 2, 200).expect("in range");
        read(store, move |tx| tx.versions_page(device, page))
    };
    let rows =
        |modules: &[&str]| modules.iter().map(|m| ((*m).to_owned(), format!("{m}1"))).collect::<Vec<_>>();
    assert_eq!(page(device, 1), (rows(&["a", "b"]), 3));
    assert_eq!(page(device, 2), (rows(&["c"]), 3));
    assert_eq!(page(silent, 1), (Vec::new(), 0));
}
