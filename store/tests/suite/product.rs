//! Products.

use crate::harness::cases;
use crate::help::{NOW, read, try_write, write};
use crate::shop::{Shop, new_product};
use updraft_store::{NewProduct, Product, Store, StoreError};

cases! {
    Store:
        a_product_comes_back_as_it_was_added,
        a_product_name_is_unique_in_its_instance_only,
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
        node_type: 1,
        created_at: NOW,
    };
    assert_eq!(read(store, move |tx| tx.product_find(shop.instance, "a1")).as_ref(), Some(&expected));
    assert_eq!(read(store, move |tx| tx.product_load(no)), Some(expected));
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
