//! Registrations of devices in bulk.

use crate::engine::Engine;
use crate::harness::cases;
use crate::help::{NOW, read, write};
use crate::shop::{Shop, new_device};
use updraft_core::apply::{ApplyStatus, NameProblem};
use updraft_core::id::{ApplyNo, DeviceNo};
use updraft_core::page::Page;
use updraft_core::time::Timestamp;
use updraft_store::{Apply, NewApply, NewDevice, Store};

cases! {
    Store:
        a_registration_comes_back_with_its_names,
        an_id_is_used_once,
        the_oldest_unfinished_registration_is_next,
        devices_are_made_as_a_set_and_taken_names_left_out,
        made_devices_are_paged_in_the_order_of_the_request,
        a_deleted_device_leaves_its_registration,
        one_registration_of_a_product_runs_at_a_time,
        of_checks_without_a_sequel_the_last_are_kept;
    Engine:
        what_is_overdue_is_forgotten_in_pieces;
}

const LATER: Timestamp = Timestamp(NOW.0 + 60_000);

fn new_apply(shop: Shop, apply_id: i64, status: ApplyStatus, names: usize) -> NewApply {
    let names = (1..=names).map(|n| (format!("dev{n}"), (n == 2).then(|| "二号灯".to_owned()))).collect();
    NewApply { product: shop.product, apply_id, status, names }
}

fn insert(store: &Store, new: &NewApply) -> Option<ApplyNo> {
    let new = new.clone();
    write(store, move |tx| tx.apply_insert(&new, NOW))
}

fn find(store: &Store, shop: Shop, apply_id: i64) -> Option<Apply> {
    read(store, move |tx| tx.apply_find(shop.instance, apply_id))
}

fn put(store: &Store, apply: &Apply) {
    let apply = apply.clone();
    write(store, move |tx| tx.apply_put(&apply, LATER));
}

/// Makes the devices of a registration's names, and notes them.
fn make(store: &Store, shop: Shop, apply: Apply) -> Vec<DeviceNo> {
    write(store, move |tx| {
        let names = tx.apply_names(apply.no, 0, 100)?;
        let new: Vec<NewDevice> = names.iter().map(|name| new_device(shop.product, &name.name)).collect();
        let made = tx.devices_insert(shop.product, &new, NOW)?;
        let of = |name: &str| made.iter().find(|(made, _)| made == name).expect("it is made").1;
        let made: Vec<_> = names.iter().map(|name| (name.ordinal, of(&name.name))).collect();
        tx.apply_names_made(apply.no, &made)?;
        let status = ApplyStatus::CreateSuccess;
        tx.apply_put(&Apply { made: made.len() as i64, status, ..apply.clone() }, NOW)?;
        Ok(made.into_iter().map(|(_, device)| device).collect())
    })
}

fn paged(store: &Store, apply: ApplyNo, number: i64, size: i64) -> Vec<String> {
    let page = Page::new(number, size, 50).expect("a page");
    read(store, move |tx| tx.apply_devices(apply, page)).into_iter().map(|device| device.name).collect()
}

fn a_registration_comes_back_with_its_names(store: &Store) {
    let shop = Shop::open(store);
    let no = insert(store, &new_apply(shop, 77, ApplyStatus::Check, 3)).expect("the id is free");
    let mut apply = find(store, shop, 77).expect("it exists");
    let fresh = Apply {
        no,
        product: shop.product,
        apply_id: 77,
        status: ApplyStatus::Check,
        wanted: false,
        done: 0,
        bad: 0,
        made: 0,
    };
    assert_eq!(apply, fresh);
    assert_eq!(read(store, move |tx| tx.apply_size(no)), 3);
    write(store, move |tx| tx.apply_names_bad(no, &[(2, NameProblem::Taken), (3, NameProblem::ProductFull)]));
    let names = read(store, move |tx| tx.apply_names(no, 1, 1));
    assert_eq!(names.len(), 1);
    assert_eq!((names[0].ordinal, names[0].name.as_str()), (2, "dev2"));
    assert_eq!((names[0].nickname.as_deref(), names[0].problem), (Some("二号灯"), Some(NameProblem::Taken)));
    (apply.status, apply.wanted, apply.done, apply.bad) = (ApplyStatus::CheckFailed, true, 3, 2);
    put(store, &apply);
    assert_eq!(find(store, shop, 77), Some(apply));
    assert_eq!(find(store, shop, 78), None);
}

fn an_id_is_used_once(store: &Store) {
    let shop = Shop::open(store);
    assert!(insert(store, &new_apply(shop, 77, ApplyStatus::Check, 1)).is_some());
    assert_eq!(insert(store, &new_apply(shop, 77, ApplyStatus::Check, 2)), None);
}

fn the_oldest_unfinished_registration_is_next(store: &Store) {
    let shop = Shop::open(store);
    assert_eq!(read(store, |tx| tx.apply_next()), None);
    for (id, status) in [(1, ApplyStatus::CheckSuccess), (2, ApplyStatus::Check), (3, ApplyStatus::Create)] {
        insert(store, &new_apply(shop, id, status, 1));
    }
    let next = |store: &Store| read(store, |tx| tx.apply_next()).map(|apply| apply.apply_id);
    assert_eq!(next(store), Some(2));
    put(store, &Apply { status: ApplyStatus::CheckFailed, ..find(store, shop, 2).expect("it exists") });
    assert_eq!(next(store), Some(3));
}

fn devices_are_made_as_a_set_and_taken_names_left_out(store: &Store) {
    let shop = Shop::open(store);
    let old = shop.devices(store, 1)[0];
    let named = |n: usize| NewDevice {
        nickname: (n == 2).then(|| "二号灯".to_owned()),
        iot_id: format!("fresh-{n}"),
        ..new_device(shop.product, &format!("dev{n}"))
    };
    let new: Vec<NewDevice> = (1..=3).map(named).collect();
    let mut made = write(store, move |tx| tx.devices_insert(shop.product, &new, LATER));
    made.sort();
    assert_eq!(made.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["dev2", "dev3"]);
    assert!(made.iter().all(|(_, device)| *device > old));
    let found = read(store, move |tx| tx.device_find(shop.product, "dev2")).expect("it is made");
    assert_eq!((found.iot_id.as_str(), found.secret_sealed.as_slice()), ("fresh-2", b"dev2".as_slice()));
    assert_eq!((found.nickname.as_deref(), found.created_at), (Some("二号灯"), LATER));
    let product = read(store, move |tx| tx.product_load(shop.product)).expect("the product");
    assert_eq!(product.device_count, 3);
    assert_eq!(write(store, move |tx| tx.devices_insert(shop.product, &[], LATER)), []);
}

fn made_devices_are_paged_in_the_order_of_the_request(store: &Store) {
    let shop = Shop::open(store);
    let no = insert(store, &new_apply(shop, 1, ApplyStatus::Create, 5)).expect("the id is free");
    assert_eq!(paged(store, no, 1, 10), Vec::<String>::new());
    make(store, shop, find(store, shop, 1).expect("it exists"));
    assert_eq!(paged(store, no, 1, 2), ["dev1", "dev2"]);
    assert_eq!(paged(store, no, 3, 2), ["dev5"]);
    assert_eq!(paged(store, no, 4, 2), Vec::<String>::new());
}

fn a_deleted_device_leaves_its_registration(store: &Store) {
    let shop = Shop::open(store);
    let no = insert(store, &new_apply(shop, 1, ApplyStatus::Create, 3)).expect("the id is free");
    let device = make(store, shop, find(store, shop, 1).expect("it exists"))[1];
    write(store, move |tx| tx.device_delete(shop.product, device, LATER));
    assert_eq!(paged(store, no, 1, 10), ["dev1", "dev3"]);
    assert_eq!(find(store, shop, 1).map(|apply| apply.made), Some(2));
}

fn one_registration_of_a_product_runs_at_a_time(store: &Store) {
    let shop = Shop::open(store);
    let running = |store: &Store| read(store, move |tx| tx.apply_running(shop.product));
    insert(store, &new_apply(shop, 1, ApplyStatus::Check, 1));
    assert!(!running(store), "a check alone makes nothing");
    let mut apply = find(store, shop, 1).expect("it exists");
    apply.wanted = true;
    put(store, &apply);
    assert!(running(store));
    apply.status = ApplyStatus::CheckFailed;
    put(store, &apply);
    assert!(!running(store));
    insert(store, &new_apply(shop, 2, ApplyStatus::Create, 1));
    assert!(running(store));
    let other = shop.product(store, "other");
    assert!(!read(store, move |tx| tx.apply_running(other)));
}

fn of_checks_without_a_sequel_the_last_are_kept(store: &Store) {
    let shop = Shop::open(store);
    let states = [
        ApplyStatus::Check,
        ApplyStatus::Create,
        ApplyStatus::CheckFailed,
        ApplyStatus::CheckSuccess,
        ApplyStatus::Check,
    ];
    for (id, status) in (1..).zip(states) {
        insert(store, &new_apply(shop, id, status, 1));
    }
    let kept =
        |store: &Store| -> Vec<i64> { (1..=5).filter(|id| find(store, shop, *id).is_some()).collect() };
    write(store, move |tx| tx.apply_checks_trim(shop.product, 4));
    assert_eq!(kept(store), [1, 2, 3, 4, 5]);
    write(store, move |tx| tx.apply_checks_trim(shop.product, 2));
    assert_eq!(kept(store), [2, 4, 5]);
    assert!(read(store, |tx| tx.apply_overdue(Timestamp(0))).is_some(), "the others wait to be forgotten");
}

fn what_is_overdue_is_forgotten_in_pieces(engine: &Engine) {
    let store = engine.open();
    let shop = Shop::open(&store);
    for (id, status) in [(1, ApplyStatus::CheckSuccess), (2, ApplyStatus::Create)] {
        insert(&store, &new_apply(shop, id, status, 3));
    }
    let overdue = |store: &Store, before| read(store, move |tx| tx.apply_overdue(before));
    assert_eq!(overdue(&store, NOW), None);
    let no = overdue(&store, LATER).expect("the finished one");
    write(&store, move |tx| tx.apply_forget(no, 2));
    assert_eq!(find(&store, shop, 1), None, "a part of it is not shown");
    assert_eq!(overdue(&store, Timestamp(0)), Some(no), "it is gone on with");
    write(&store, move |tx| tx.apply_forget(no, 2));
    assert_eq!(overdue(&store, LATER), None, "what is worked at is not forgotten");
    let mut outside = engine.outside();
    assert_eq!(outside.number("SELECT COUNT(*) FROM device_apply"), 1);
    assert_eq!(outside.number("SELECT COUNT(*) FROM device_apply_name"), 3);
}
