//! What becomes of devices: logins, disabling, deletion.

use crate::engine::Engine;
use crate::harness::cases;
use crate::help::{NOW, read, try_glance, write};
use crate::shop::{Shop, new_device};
use updraft_core::device::DeviceStatus;
use updraft_core::id::{DeviceNo, JobNo};
use updraft_core::page::Page;
use updraft_core::time::Timestamp;
use updraft_store::{BrowseFilter, Device, DeviceFilter, DeviceLogin, NewDevice, OnlineDevice, Store};

cases! {
    Store:
        a_login_finds_number_and_secret,
        a_disabled_device_keeps_its_presence_for_later,
        what_is_so_already_is_no_news,
        a_disabled_device_shows_as_such_everywhere,
        a_deleted_device_is_found_by_nothing,
        a_deleted_devices_name_is_free_and_its_number_is_not,
        deleted_devices_are_no_candidates,
        a_batch_knows_its_devices_by_their_names_deleted_or_not,
        barred_are_the_disabled_and_the_deleted;
    Engine:
        a_deleted_device_leaves_no_secret_no_versions_and_no_tags;
}

const LATER: Timestamp = Timestamp(NOW.0 + 60_000);

fn find(store: &Store, shop: Shop, name: &'static str) -> Device {
    read(store, move |tx| tx.device_find(shop.product, name)).expect("the device exists")
}

fn login(store: &Store, name: &'static str) -> Option<DeviceLogin> {
    try_glance(store, move |tx| tx.device_login("key", name)).expect("the look succeeds")
}

fn known(device: DeviceNo, secret: &str, disabled: bool) -> DeviceLogin {
    DeviceLogin::Known {
        device,
        secret_sealed: secret.as_bytes().to_vec(),
        disabled,
        token: None,
        credentials: 0,
        is_gateway: false,
        certified: false,
    }
}

fn go_online(store: &Store, device: DeviceNo, session: i64) {
    let login = OnlineDevice { device, session, ip: "10.0.0.1".to_owned() };
    write(store, move |tx| tx.devices_online(std::slice::from_ref(&login), NOW));
}

fn delete(store: &Store, shop: Shop, device: DeviceNo) {
    write(store, move |tx| tx.device_delete(shop.product, device, LATER));
}

fn browsed(store: &Store, shop: Shop, status: Option<DeviceStatus>) -> Vec<String> {
    let filter = DeviceFilter { product: Some(shop.product), status, ..DeviceFilter::default() };
    read(store, move |tx| tx.browse_devices(&filter, 0, 10)).into_iter().map(|device| device.name).collect()
}

fn a_batch_knows_its_devices_by_their_names_deleted_or_not(store: &Store) {
    let shop = Shop::open(store);
    let (job, devices) = shop.batch(store, 3);
    delete(store, shop, devices[0]);
    // One of that name that is not in the batch.
    write(store, move |tx| {
        let anew = NewDevice { iot_id: "anew".to_owned(), ..new_device(shop.product, "dev1") };
        tx.device_insert(&anew, NOW)
    });
    let of = |job: JobNo, names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut found = read(store, move |tx| tx.devices_of_job(job, shop.product, &names));
        found.sort_unstable();
        found
    };
    assert_eq!(of(job, &["dev1", "dev3", "dev9"]), [devices[0], devices[2]]);
    assert_eq!(of(job, &[]), []);
    assert_eq!(of(JobNo(job.0 + 1), &["dev1", "dev3"]), []);
}

fn a_login_finds_number_and_secret(store: &Store) {
    let shop = Shop::open(store);
    let device = shop.devices(store, 1)[0];
    assert_eq!(login(store, "dev1"), Some(known(device, "dev1", false)));
    assert_eq!(login(store, "dev2"), None);
    assert_eq!(read(store, |tx| tx.device_login("other key", "dev1")), None);
}

fn a_disabled_device_keeps_its_presence_for_later(store: &Store) {
    let shop = Shop::open(store);
    let devices = shop.devices(store, 2);
    go_online(store, devices[1], 1);
    for device in devices.clone() {
        assert!(write(store, move |tx| tx.device_disable(device, LATER)));
    }
    for name in ["dev1", "dev2"] {
        let device = find(store, shop, name);
        assert_eq!((device.status, device.status_at), (DeviceStatus::Disable, LATER));
    }
    assert_eq!(login(store, "dev1"), Some(known(devices[0], "dev1", true)));
    let enabled_at = Timestamp(LATER.0 + 1);
    for device in devices.clone() {
        assert!(write(store, move |tx| tx.device_enable(device, enabled_at)));
    }
    let (never, gone) = (find(store, shop, "dev1"), find(store, shop, "dev2"));
    assert_eq!((never.status, never.status_at), (DeviceStatus::Unactive, enabled_at));
    // Its connection ended with the right to have one.
    assert_eq!((gone.status, gone.status_at), (DeviceStatus::Offline, enabled_at));
}

fn what_is_so_already_is_no_news(store: &Store) {
    let shop = Shop::open(store);
    let device = shop.devices(store, 1)[0];
    assert!(!write(store, move |tx| tx.device_enable(device, LATER)));
    assert_eq!(find(store, shop, "dev1").status_at, NOW);
    assert!(write(store, move |tx| tx.device_disable(device, NOW)));
    assert!(!write(store, move |tx| tx.device_disable(device, LATER)));
    // The end of a connection that the disabling ended changes nothing.
    write(store, move |tx| tx.devices_offline(&[(device, 9)], LATER));
    assert_eq!(find(store, shop, "dev1").status_at, NOW);
}

fn a_disabled_device_shows_as_such_everywhere(store: &Store) {
    let shop = Shop::open(store);
    let device = shop.devices(store, 2)[0];
    write(store, move |tx| tx.device_disable(device, NOW));
    let listed = read(store, move |tx| tx.device_list(shop.product, Page::new(1, 10, 10).expect("a page")));
    let listed: Vec<DeviceStatus> = listed.into_iter().map(|device| device.status).collect();
    assert_eq!(listed, [DeviceStatus::Unactive, DeviceStatus::Disable]);
    assert_eq!(browsed(store, shop, Some(DeviceStatus::Disable)), ["dev1"]);
    assert_eq!(browsed(store, shop, Some(DeviceStatus::Unactive)), ["dev2"]);
    let counts = read(store, move |tx| tx.browse_device_counts(shop.product));
    assert_eq!((counts[&DeviceStatus::Disable], counts[&DeviceStatus::Unactive]), (1, 1));
}

fn a_deleted_device_is_found_by_nothing(store: &Store) {
    let shop = Shop::open(store);
    let devices = shop.devices(store, 2);
    let iot_id = find(store, shop, "dev1").iot_id;
    delete(store, shop, devices[0]);
    assert_eq!(login(store, "dev1"), Some(DeviceLogin::Deleted));
    assert_eq!(read(store, move |tx| tx.device_find(shop.product, "dev1")), None);
    let names = ["dev1".to_owned(), "dev2".to_owned()];
    let found = read(store, move |tx| tx.devices_find(shop.product, &names));
    assert_eq!(found.into_iter().map(|device| device.no).collect::<Vec<_>>(), [devices[1]]);
    let asked = iot_id.clone();
    assert_eq!(read(store, move |tx| tx.device_find_by_iot_id(shop.instance, &asked)), None);
    let page = Page::new(1, 10, 10).expect("a page");
    assert_eq!(read(store, move |tx| tx.device_list(shop.product, page)).len(), 1);
    let below = DeviceNo(i64::MAX);
    assert_eq!(read(store, move |tx| tx.device_list_below(shop.product, below, 10)).len(), 1);
    assert_eq!(browsed(store, shop, None), ["dev2"]);
    assert_eq!(read(store, move |tx| tx.browse_device(shop.product, "dev1")), None);
    assert_eq!(read(store, move |tx| tx.browse_device_by_iot_id(&iot_id)), None);
    let counts = read(store, move |tx| tx.browse_device_counts(shop.product));
    assert_eq!(counts.values().sum::<i64>(), 1);
    let products = read(store, |tx| tx.browse_products(&BrowseFilter::default(), 0, 10));
    assert_eq!(products[0].device_count, 1);
}

fn a_deleted_devices_name_is_free_and_its_number_is_not(store: &Store) {
    let shop = Shop::open(store);
    let old = shop.devices(store, 1)[0];
    delete(store, shop, old);
    // A second deletion of the same device must not count again.
    delete(store, shop, old);
    let mut new = new_device(shop.product, "dev1");
    let same_id = new.clone();
    assert!(crate::help::try_write(store, move |tx| tx.device_insert(&same_id, NOW)).is_err());
    "fresh".clone_into(&mut new.iot_id);
    let again = write(store, move |tx| tx.device_insert(&new, NOW)).expect("the name is free");
    assert!(again > old);
    assert_eq!(login(store, "dev1"), Some(known(again, "dev1", false)));
    let product = read(store, move |tx| tx.product_load(shop.product)).expect("the product");
    assert_eq!(product.device_count, 1);
}

fn deleted_devices_are_no_candidates(store: &Store) {
    let shop = Shop::open(store);
    let devices = shop.devices(store, 3);
    let job = JobNo(1);
    let chosen = devices.clone();
    write(store, move |tx| tx.job_targets_insert(job, &chosen));
    delete(store, shop, devices[1]);
    let left = [devices[0], devices[2]];
    let numbers = |found: Vec<updraft_store::Candidate>| -> Vec<DeviceNo> {
        found.into_iter().map(|candidate| candidate.device).collect()
    };
    let (after, upto) = (DeviceNo(0), DeviceNo(i64::MAX));
    let of_product = move |tx: &mut updraft_store::Tx<'_>| {
        tx.candidates_of_product(shop.product, "default", after, upto, 10)
    };
    assert_eq!(numbers(read(store, of_product)), left);
    assert_eq!(numbers(read(store, move |tx| tx.candidates_of_targets(job, "default", after, 10))), left);
    let asked = devices.clone();
    assert_eq!(numbers(read(store, move |tx| tx.candidates_of(&asked, "default"))), left);
    let versions = read(store, move |tx| tx.versions_of_product(shop.product, "default", after, upto, 10));
    assert_eq!(versions.into_iter().map(|(device, _)| device).collect::<Vec<_>>(), left);
}

fn barred_are_the_disabled_and_the_deleted(store: &Store) {
    let shop = Shop::open(store);
    let devices = shop.devices(store, 3);
    let (disabled, deleted) = (devices[0], devices[2]);
    write(store, move |tx| tx.device_disable(disabled, NOW));
    delete(store, shop, deleted);
    let asked = devices.clone();
    let mut barred = read(store, move |tx| tx.devices_barred(&asked));
    barred.sort_unstable();
    assert_eq!(barred, [disabled, deleted]);
    assert_eq!(read(store, move |tx| tx.devices_deleted(&devices)), [deleted]);
    assert!(!write(store, move |tx| tx.device_disable(deleted, NOW)), "there is nothing to disable");
    assert_eq!(read(store, |tx| tx.devices_barred(&[])), []);
}

fn a_deleted_device_leaves_no_secret_no_versions_and_no_tags(engine: &Engine) {
    let store = engine.open();
    let shop = Shop::open(&store);
    let device = shop.devices(&store, 1)[0];
    write(&store, move |tx| {
        tx.versions_put(&[(device, "default".to_owned(), "1.0.0".to_owned())], NOW)?;
        tx.device_tags_put(shop.instance, device, &[("room".to_owned(), "hall".to_owned())].into())?;
        tx.reviews_add(&[device])
    });
    delete(&store, shop, device);
    let mut outside = engine.outside();
    assert_eq!(outside.number("SELECT COUNT(*) FROM device WHERE length(secret_sealed) = 0"), 1);
    assert_eq!(outside.number("SELECT COUNT(*) FROM device_version"), 0);
    assert_eq!(outside.number("SELECT COUNT(*) FROM device_tag"), 0);
    assert_eq!(outside.number("SELECT COUNT(*) FROM device_review"), 0);
}
