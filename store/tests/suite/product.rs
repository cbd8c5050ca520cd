//! Products.

use crate::harness::cases;
use crate::help::{NOW, read, try_write, write};
use crate::shop::{Shop, new_product};
use updraft_core::page::Page;
use updraft_store::{NewProduct, Product, Store, StoreError};

cases! {
    Store:
        a_product_comes_back_as_it_was_added,
        a_product_name_is_unique_in_its_instance_only,
        products_are_listed_newest_first_and_by_commodity_code,
        a_product_key_is_unique_everywhere,
        another_accounts_product_is_not_found;
}

fn a_product_comes_back_as_it_was_added(store: &Store) {
    let shop = Shop::open(store);
    let new = NewProduct {
        node_type: 1,
        description: Some("路灯 'quoted' \"twice\"".to_owned()),
        ..new_product(shop.instance, "a1", "路灯")
    };
    let no = write(store, move |tx| tx.product_insert(&new, NOW)).expect("the name is free");
    let expected = Product {
        no,
        instance: shop.instance,
        product_key: "a1".to_owned(),
        name: "路灯".to_owned(),
        secret_sealed: b"sealed".to_vec(),
        node_type: 1,
        data_format: 1,
        net_type: "WIFI".to_owned(),
        commodity_code: "iothub_senior".to_owned(),
        description: Some("路灯 'quoted' \"twice\"".to_owned()),
        device_count: 0,
        created_at: NOW,
    };
    assert_eq!(read(store, move |tx| tx.product_find(shop.instance, "a1")).as_ref(), Some(&expected));
    assert_eq!(read(store, move |tx| tx.product_load(no)), Some(expected));
}

fn products_are_listed_newest_first_and_by_commodity_code(store: &Store) {
    let shop = Shop::open(store);
    for (key, code) in [("a", "iothub"), ("b", "iothub_senior"), ("c", "iothub")] {
        let new = NewProduct { commodity_code: code.to_owned(), ..new_product(shop.instance, key, key) };
        write(store, move |tx| tx.product_insert(&new, NOW)).expect("the name is free");
    }
    let stranger = crate::shop::stranger(store);
    write(store, move |tx| tx.product_insert(&new_product(stranger, "d", "d"), NOW));
    let list = |code: Option<&'static str>, number| {
        let page = Page::new(number, 2, 10).expect("in range");
        let (found, total) = read(store, move |tx| tx.product_list(shop.instance, code, page));
        (found.into_iter().map(|product| product.product_key).collect::<Vec<_>>().join(" "), total)
    };
    assert_eq!(list(None, 1), ("c b".to_owned(), 4));
    assert_eq!(list(None, 2), ("a key".to_owned(), 4));
    assert_eq!(list(Some("iothub"), 1), ("c a".to_owned(), 2));
    assert_eq!(list(Some("iothub"), 2), (String::new(), 2));
}

fn a_product_name_is_unique_in_its_instance_only(store: &Store) {
    let shop = Shop::open(store);
    let taken = new_product(shop.instance, "other key", "lamps");
    assert_eq!(write(store, move |tx| tx.product_insert(&taken, NOW)), None);
    assert_eq!(read(store, move |tx| tx.product_find(shop.instance, "other key")), None);
    let elsewhere = write(store, |tx| {
        let stranger = tx.account_ensure("stranger", NOW)?;
        let stranger = tx.instance_public(stranger)?;
        tx.product_insert(&new_product(stranger, "other key", "lamps"), NOW)
    });
    assert!(elsewhere.is_some());
}

fn a_product_key_is_unique_everywhere(store: &Store) {
    let shop = Shop::open(store);
    let taken = new_product(shop.instance, "key", "other name");
    let refused = try_write(store, move |tx| tx.product_insert(&taken, NOW));
    assert!(matches!(refused, Err(StoreError::Internal(_))), "{refused:?}");
}

fn another_accounts_product_is_not_found(store: &Store) {
    let shop = Shop::open(store);
    let stranger = crate::shop::stranger(store);
    assert!(read(store, move |tx| tx.product_find(shop.instance, "key")).is_some());
    assert_eq!(read(store, move |tx| tx.product_find(stranger, "key")), None);
    assert_eq!(read(store, move |tx| tx.product_find(shop.instance, "KEY")), None);
}
