//! Batches by list file.

use crate::harness::cases;
use crate::help::{NOW, read, write};
use crate::shop::{Shop, new_device};
use updraft_core::id::DeviceNo;
use updraft_store::{NewJob, Store};

cases! {
    Store:
        a_list_is_taken_part_by_part_in_order,
        names_are_found_in_the_order_of_their_bytes;
}

fn a_list_is_taken_part_by_part_in_order(store: &Store) {
    let shop = Shop::open(store);
    let firmware = shop.firmware(store, "package");
    let new = NewJob { expanded: false, ..shop.new_job(firmware, "by list") };
    let other = shop.job(store, firmware, "other");
    let job = write(store, move |tx| {
        let job = tx.job_insert(&new, NOW)?;
        let devices: Vec<DeviceNo> = [1, 2, 300, 70_000, i64::MAX].map(DeviceNo).to_vec();
        tx.job_list_insert(job, &devices, 2)?;
        tx.job_list_insert(other, &[DeviceNo(9)], 2)?;
        Ok(job)
    });
    for (part, empty) in
        [(vec![1, 2], false), (vec![300, 70_000], false), (vec![i64::MAX], true), (vec![], true)]
    {
        let (found, is_empty) =
            write(store, move |tx| Ok((tx.job_list_take(job)?, tx.job_list_is_empty(job)?)));
        assert_eq!((found.iter().map(|no| no.0).collect::<Vec<_>>(), is_empty), (part, empty));
    }
    assert!(!read(store, move |tx| tx.job_list_is_empty(other)));
}

fn names_are_found_in_the_order_of_their_bytes(store: &Store) {
    let shop = Shop::open(store);
    let elsewhere = shop.product(store, "elsewhere");
    let add = |product, name: &'static str| {
        write(store, move |tx| tx.device_insert(&new_device(product, name), NOW)).expect("the name is free")
    };
    // Registered in another order; `_` lies between the capital and the small letters.
    let [dev2, dev1, capital, line, _stranger] = ["dev2", "dev1", "Dev1", "_dev", "dev3"]
        .map(|name| add(if name == "dev3" { elsewhere } else { shop.product }, name));
    let gone = add(shop.product, "dev4");
    write(store, move |tx| tx.device_delete(shop.product, gone, NOW));
    let named = |all: &[(&str, DeviceNo)]| -> Vec<(String, DeviceNo)> {
        all.iter().map(|(name, no)| ((*name).to_owned(), *no)).collect()
    };
    let product = shop.product;
    let found =
        read(store, move |tx| tx.device_numbers(product, &["Dev1", "_dev", "dev1", "dev3", "dev4", "dev9"]));
    assert_eq!(found, named(&[("Dev1", capital), ("_dev", line), ("dev1", dev1)]));
    let walk = |after: &'static str, upto: &'static str, limit| {
        read(store, move |tx| tx.device_numbers_between(product, after, upto, limit))
    };
    assert_eq!(
        walk("", "dev9", 9),
        named(&[("Dev1", capital), ("_dev", line), ("dev1", dev1), ("dev2", dev2)])
    );
    assert_eq!(walk("_dev", "dev1", 9), named(&[("dev1", dev1)]));
    assert_eq!(walk("", "dev9", 1), named(&[("Dev1", capital)]));
}
