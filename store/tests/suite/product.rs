//! Products.

use crate::harness::cases;
use crate::help::{NOW, read, try_write, write};
use crate::shop::{Shop, new_product};
use std::collections::BTreeMap;
use updraft_core::id::{InstanceNo, ProductNo};
use updraft_core::page::Page;
use updraft_core::registration::Mode;
use updraft_core::time::Timestamp;
use updraft_store::{NewFirmware, NewProduct, Product, Store, StoreError, TagAsked};

cases! {
    Store:
        a_product_comes_back_as_it_was_added,
        a_product_name_is_unique_in_its_instance_only,
        products_are_listed_newest_first_and_by_commodity_code,
        a_product_key_is_unique_everywhere,
        a_product_is_renamed_and_described,
        a_deleted_product_is_found_by_its_number_only_and_its_name_is_free,
        a_deletion_takes_what_is_the_products_own_and_nothing_else,
        tags_of_products_are_kept_replaced_and_taken_away,
        products_are_found_by_any_tag_newest_first,
        another_accounts_product_is_not_found;
}

fn a_product_comes_back_as_it_was_added(store: &Store) {
    let shop = Shop::open(store);
    let new = NewProduct {
        node_type: 1,
        description: Some("路灯 'quoted' \"twice\"".to_owned()),
        protocol_type: Some("modbus".to_owned()),
        category_key: Some("Lamp".to_owned()),
        validate_type: 2,
        certified: true,
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
        protocol_type: Some("modbus".to_owned()),
        category_key: Some("Lamp".to_owned()),
        validate_type: 2,
        certified: true,
        registration: Mode::Off,
        device_count: 0,
        created_at: NOW,
        deleted_at: None,
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

fn a_product_is_renamed_and_described(store: &Store) {
    let shop = Shop::open(store);
    shop.product(store, "other");
    let stranger = crate::shop::stranger(store);
    write(store, move |tx| tx.product_insert(&new_product(stranger, "theirs", "theirs"), NOW));
    let product = read(store, move |tx| tx.product_load(shop.product)).expect("it exists");
    let update = |name: &'static str, description| {
        let product = product.clone();
        write(store, move |tx| tx.product_update(&product, name, description))
    };
    assert!(!update("other", Some("x")));
    assert!(update("lamps", Some("bright")) && update("theirs", None));
    let found = read(store, move |tx| tx.product_load(shop.product)).expect("it exists");
    assert_eq!((found.name.as_str(), found.description.as_deref()), ("theirs", Some("bright")));
}

fn a_deleted_product_is_found_by_its_number_only_and_its_name_is_free(store: &Store) {
    let shop = Shop::open(store);
    let later = Timestamp(NOW.0 + 1);
    write(store, move |tx| tx.product_delete(shop.product, later));
    let found = read(store, move |tx| tx.product_load(shop.product)).expect("its row stays");
    assert_eq!((found.deleted_at, found.name.as_str()), (Some(later), "lamps"));
    assert!(found.secret_sealed.is_empty());
    assert_eq!(read(store, move |tx| tx.product_find(shop.instance, "key")), None);
    let page = Page::new(1, 10, 10).expect("in range");
    assert_eq!(read(store, move |tx| tx.product_list(shop.instance, None, page)), (Vec::new(), 0));
    assert_eq!(read(store, move |tx| tx.product_count(shop.instance)), 0);
    let again = new_product(shop.instance, "another key", "lamps");
    assert!(write(store, move |tx| tx.product_insert(&again, NOW)).is_some());
    assert_eq!(read(store, move |tx| tx.product_count(shop.instance)), 1);
    // Its key is never given again.
    let taken = new_product(shop.instance, "key", "other name");
    assert!(try_write(store, move |tx| tx.product_insert(&taken, NOW)).is_err());
}

fn a_deletion_takes_what_is_the_products_own_and_nothing_else(store: &Store) {
    let shop = Shop::open(store);
    let other = shop.product(store, "other");
    let package = shop.firmware(store, "package");
    let kept = NewFirmware { product: other, ..shop.new_firmware("kept", shop.file(store, "kept")) };
    let kept = write(store, move |tx| tx.firmware_insert(&kept, NOW)).expect("the name is free");
    for product in [shop.product, other] {
        tag(store, shop.instance, product, &[("room", "hall")]);
        write(store, move |tx| tx.module_insert(product, "radio", None, None, NOW));
    }
    write(store, move |tx| tx.product_delete(shop.product, NOW));
    let left =
        |product| read(store, move |tx| Ok((tx.product_tags(product)?.len(), tx.modules(product)?.len())));
    assert_eq!((left(shop.product), left(other)), ((0, 0), (1, 1)));
    let deleted = read(store, move |tx| tx.firmwares_load(&[package, kept]));
    let deleted: Vec<bool> = deleted.iter().map(|package| package.deleted_at.is_some()).collect();
    assert_eq!(deleted, [true, false]);
}

fn tag(store: &Store, instance: InstanceNo, product: ProductNo, tags: &[(&str, &str)]) {
    let tags: BTreeMap<String, String> =
        tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    write(store, move |tx| tx.product_tags_put(instance, product, &tags));
}

fn tags_of_products_are_kept_replaced_and_taken_away(store: &Store) {
    let shop = Shop::open(store);
    let other = shop.product(store, "other");
    tag(store, shop.instance, shop.product, &[("room", "hall"), ("floor", "3"), ("a.b", "路")]);
    tag(store, shop.instance, other, &[("room", "hall")]);
    tag(store, shop.instance, shop.product, &[("room", "cellar")]);
    let gone = ["floor".to_owned(), "a.b".to_owned(), "unknown".to_owned()];
    write(store, move |tx| tx.product_tags_delete(shop.product, &gone));
    let found = read(store, move |tx| Ok((tx.product_tags(shop.product)?, tx.product_tags(other)?)));
    let one = |value: &str| BTreeMap::from([("room".to_owned(), value.to_owned())]);
    assert_eq!(found, (one("cellar"), one("hall")));
}

fn products_are_found_by_any_tag_newest_first(store: &Store) {
    let shop = Shop::open(store);
    let (second, third) = (shop.product(store, "second"), shop.product(store, "third"));
    tag(store, shop.instance, shop.product, &[("room", "hall"), ("floor", "3")]);
    tag(store, shop.instance, second, &[("room", "hallway")]);
    tag(store, shop.instance, third, &[("floor", "3")]);
    let stranger = crate::shop::stranger(store);
    let theirs = new_product(stranger, "theirs", "theirs");
    let theirs = write(store, move |tx| tx.product_insert(&theirs, NOW)).expect("the name is free");
    tag(store, stranger, theirs, &[("room", "hall")]);
    let found = |asked: &[(&str, &str)], number| {
        let asked: Vec<TagAsked> = asked
            .iter()
            .map(|(key, value)| TagAsked {
                key: (*key).to_owned(),
                value: (!value.is_empty()).then(|| (*value).to_owned()),
            })
            .collect();
        let page = Page::new(number, 2, 2).expect("in range");
        let found = read(store, move |tx| tx.products_by_tags(shop.instance, &asked, page));
        found.into_iter().map(|product| product.product_key).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(found(&[("room", "hall")], 1), "key");
    assert_eq!(found(&[("room", "")], 1), "second key");
    assert_eq!(found(&[("room", "hall"), ("floor", "3")], 1), "third key");
    assert_eq!(found(&[("room", ""), ("floor", "")], 1), "third second");
    assert_eq!(found(&[("room", ""), ("floor", "")], 2), "key");
    let mut ten = vec![("room", "nowhere"); 9];
    ten.push(("floor", "3"));
    assert_eq!(found(&ten, 1), "third key");
    write(store, move |tx| tx.product_delete(third, NOW));
    assert_eq!(found(&[("floor", "3")], 1), "key");
}
