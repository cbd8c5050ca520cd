//! Devices: registration, presence, versions, candidates.

use crate::engine::Engine;
use crate::harness::cases;
use crate::help::{NOW, read, write};
use crate::shop::{Shop, insert, new_device, task};
use updraft_core::device::DeviceStatus;
use updraft_core::id::{DeviceNo, ProductNo};
use updraft_core::page::Page;
use updraft_core::task::TaskStatus;
use updraft_core::time::Timestamp;
use updraft_store::{Candidate, Device, NewDevice, OnlineDevice, Store};

cases! {
    Store:
        a_new_device_is_unactive_and_comes_back_as_it_was_added,
        a_device_name_is_unique_in_its_product_only,
        a_later_device_has_a_larger_number,
        devices_are_found_by_name_and_unknown_names_left_out,
        a_device_is_found_by_iot_id_by_its_owner_only,
        the_first_connection_activates_and_later_ones_do_not,
        a_late_offline_of_an_old_session_changes_nothing,
        a_late_online_of_an_older_session_changes_nothing,
        of_several_logins_in_one_set_the_newest_session_counts,
        a_set_of_presence_changes_touches_each_named_device,
        after_a_restart_no_device_is_online,
        a_restart_keeps_session_numbers,
        starts_are_counted,
        the_last_of_several_versions_in_one_set_counts,
        a_newer_version_replaces_the_older,
        versions_of_modules_are_apart,
        an_empty_set_changes_nothing,
        a_status_is_dated_by_its_last_change,
        devices_are_listed_newest_first,
        chosen_devices_become_candidates_in_order,
        candidates_of_a_product_come_in_order_within_bounds,
        candidates_carry_presence_version_and_busyness,
        candidates_by_number_leave_unknown_devices_out;
    Engine:
        a_product_counts_its_devices_and_no_refused_ones;
}

const LATER: Timestamp = Timestamp(NOW.0 + 60_000);

fn online(device: DeviceNo, session: i64) -> OnlineDevice {
    OnlineDevice { device, session, ip: format!("10.0.0.{session}") }
}

/// When connections end here.
const GONE: Timestamp = Timestamp(NOW.0 + 777);

fn set_online(store: &Store, devices: Vec<OnlineDevice>, now: Timestamp) {
    write(store, move |tx| tx.devices_online(&devices, now));
}

fn set_offline(store: &Store, devices: Vec<(DeviceNo, i64)>) {
    write(store, move |tx| tx.devices_offline(&devices, GONE));
}

fn all_offline(store: &Store) -> usize {
    write(store, |tx| tx.devices_all_offline(GONE))
}

fn put_versions(store: &Store, reports: &[(DeviceNo, &str, &str)]) {
    let reports: Vec<(DeviceNo, String, String)> = reports
        .iter()
        .map(|(device, module, version)| (*device, (*module).to_owned(), (*version).to_owned()))
        .collect();
    write(store, move |tx| tx.versions_put(&reports, NOW));
}

fn version(store: &Store, device: DeviceNo, module: &'static str) -> Option<String> {
    read(store, move |tx| tx.version_find(device, module))
}

fn find(store: &Store, product: ProductNo, name: &'static str) -> Device {
    read(store, move |tx| tx.device_find(product, name)).expect("the device exists")
}

fn one_device(store: &Store) -> (Shop, DeviceNo) {
    let shop = Shop::open(store);
    let device = shop.devices(store, 1)[0];
    (shop, device)
}

fn a_new_device_is_unactive_and_comes_back_as_it_was_added(store: &Store) {
    let shop = Shop::open(store);
    let new = NewDevice { nickname: Some("门口的灯".to_owned()), ..new_device(shop.product, "dev1") };
    let added = new.clone();
    let no = write(store, move |tx| tx.device_insert(&added, NOW)).expect("the name is free");
    let expected = Device {
        no,
        product: shop.product,
        name: new.name,
        iot_id: new.iot_id,
        secret_sealed: new.secret_sealed,
        nickname: new.nickname,
        status: DeviceStatus::Unactive,
        ip: None,
        created_at: NOW,
        active_at: None,
        online_at: None,
        status_at: NOW,
    };
    assert_eq!(find(store, shop.product, "dev1"), expected);
    assert_eq!(read(store, move |tx| tx.device_find(shop.product, "dev2")), None);
}

fn a_device_name_is_unique_in_its_product_only(store: &Store) {
    let (shop, device) = one_device(store);
    let other = shop.product(store, "other");
    let taken = NewDevice { iot_id: "fresh".to_owned(), ..new_device(shop.product, "dev1") };
    assert_eq!(write(store, move |tx| tx.device_insert(&taken, NOW)), None);
    let elsewhere = new_device(other, "dev1");
    let second = write(store, move |tx| tx.device_insert(&elsewhere, NOW)).expect("the name is free there");
    assert_eq!(find(store, shop.product, "dev1").no, device);
    assert_eq!(find(store, other, "dev1").no, second);
}

fn a_product_counts_its_devices_and_no_refused_ones(engine: &Engine) {
    let store = engine.open();
    let shop = Shop::open(&store);
    shop.devices(&store, 3);
    let taken = NewDevice { iot_id: "fresh".to_owned(), ..new_device(shop.product, "dev1") };
    assert_eq!(write(&store, move |tx| tx.device_insert(&taken, NOW)), None);
    let count = engine.outside().number("SELECT device_count FROM product WHERE product_key = 'key'");
    assert_eq!(count, 3);
}

fn a_later_device_has_a_larger_number(store: &Store) {
    let shop = Shop::open(store);
    let other = shop.product(store, "other");
    assert_eq!(read(store, move |tx| tx.device_last(shop.product)), DeviceNo(0));
    let devices = shop.devices(store, 5);
    assert!(devices.is_sorted_by(|a, b| a < b), "{devices:?}");
    assert_eq!(read(store, move |tx| tx.device_last(shop.product)), devices[4]);
    assert_eq!(read(store, move |tx| tx.device_last(other)), DeviceNo(0));
}

fn devices_are_found_by_name_and_unknown_names_left_out(store: &Store) {
    let shop = Shop::open(store);
    let devices = shop.devices(store, 3);
    let names = ["dev3", "nobody", "dev1"].map(str::to_owned);
    let mut found = read(store, move |tx| tx.devices_find(shop.product, &names));
    found.sort_by_key(|device| device.no);
    let numbers: Vec<DeviceNo> = found.iter().map(|device| device.no).collect();
    assert_eq!(numbers, [devices[0], devices[2]]);
    assert_eq!(found[1], find(store, shop.product, "dev3"));
    assert_eq!(read(store, move |tx| tx.devices_find(shop.product, &[])), []);
}

fn a_device_is_found_by_iot_id_by_its_owner_only(store: &Store) {
    let (shop, device) = one_device(store);
    let stranger = crate::shop::stranger(store);
    let iot_id = find(store, shop.product, "dev1").iot_id;
    let asked = iot_id.clone();
    let found = read(store, move |tx| tx.device_find_by_iot_id(shop.instance, &asked));
    assert_eq!(found.map(|found| found.no), Some(device));
    assert_eq!(read(store, move |tx| tx.device_find_by_iot_id(stranger, &iot_id)), None);
    assert_eq!(read(store, move |tx| tx.device_find_by_iot_id(shop.instance, "unknown")), None);
}

fn the_first_connection_activates_and_later_ones_do_not(store: &Store) {
    let (shop, device) = one_device(store);
    set_online(store, vec![online(device, 1)], NOW);
    let first = find(store, shop.product, "dev1");
    assert_eq!((first.status, first.ip.as_deref()), (DeviceStatus::Online, Some("10.0.0.1")));
    assert_eq!((first.active_at, first.online_at), (Some(NOW), Some(NOW)));

    set_offline(store, vec![(device, 1)]);
    let gone = find(store, shop.product, "dev1");
    assert_eq!(gone, Device { status: DeviceStatus::Offline, status_at: GONE, ..first });

    set_online(store, vec![online(device, 2)], LATER);
    let again = find(store, shop.product, "dev1");
    assert_eq!((again.status, again.ip.as_deref()), (DeviceStatus::Online, Some("10.0.0.2")));
    assert_eq!((again.active_at, again.online_at), (Some(NOW), Some(LATER)));
}

fn a_late_offline_of_an_old_session_changes_nothing(store: &Store) {
    let (shop, device) = one_device(store);
    set_online(store, vec![online(device, 1)], NOW);
    set_online(store, vec![online(device, 2)], NOW);
    let before = find(store, shop.product, "dev1");
    set_offline(store, vec![(device, 1)]);
    assert_eq!(find(store, shop.product, "dev1"), before);
    set_offline(store, vec![(device, 2)]);
    assert_eq!(find(store, shop.product, "dev1").status, DeviceStatus::Offline);
}

fn a_late_online_of_an_older_session_changes_nothing(store: &Store) {
    let (shop, device) = one_device(store);
    set_online(store, vec![online(device, 5)], NOW);
    set_offline(store, vec![(device, 5)]);
    let before = find(store, shop.product, "dev1");
    set_online(store, vec![online(device, 4)], LATER);
    set_online(store, vec![online(device, 5)], LATER);
    assert_eq!(find(store, shop.product, "dev1"), before);
}

fn of_several_logins_in_one_set_the_newest_session_counts(store: &Store) {
    let (shop, device) = one_device(store);
    set_online(store, vec![online(device, 2), online(device, 3), online(device, 1)], NOW);
    assert_eq!(find(store, shop.product, "dev1").ip.as_deref(), Some("10.0.0.3"));
    set_offline(store, vec![(device, 1), (device, 2)]);
    assert_eq!(find(store, shop.product, "dev1").status, DeviceStatus::Online);
    set_offline(store, vec![(device, 2), (device, 3)]);
    assert_eq!(find(store, shop.product, "dev1").status, DeviceStatus::Offline);
}

fn a_set_of_presence_changes_touches_each_named_device(store: &Store) {
    let shop = Shop::open(store);
    let devices = shop.devices(store, 3);
    set_online(
        store,
        devices.iter().zip(1..).map(|(device, session)| online(*device, session)).collect(),
        NOW,
    );
    set_offline(store, vec![(devices[0], 1), (devices[2], 3)]);
    let status = |name| find(store, shop.product, name).status;
    assert_eq!(status("dev1"), DeviceStatus::Offline);
    assert_eq!(status("dev2"), DeviceStatus::Online);
    assert_eq!(status("dev3"), DeviceStatus::Offline);
}

fn after_a_restart_no_device_is_online(store: &Store) {
    let shop = Shop::open(store);
    let devices = shop.devices(store, 3);
    set_online(store, vec![online(devices[0], 1), online(devices[1], 2)], NOW);
    assert_eq!(all_offline(store), 2);
    assert_eq!(all_offline(store), 0);
    assert_eq!(find(store, shop.product, "dev1").status, DeviceStatus::Offline);
    assert_eq!(find(store, shop.product, "dev3").status, DeviceStatus::Unactive);
}

fn a_restart_keeps_session_numbers(store: &Store) {
    let (shop, device) = one_device(store);
    set_online(store, vec![online(device, 7)], NOW);
    all_offline(store);
    set_online(store, vec![online(device, 7)], LATER);
    assert_eq!(find(store, shop.product, "dev1").status, DeviceStatus::Offline);
    set_online(store, vec![online(device, 8)], LATER);
    assert_eq!(find(store, shop.product, "dev1").status, DeviceStatus::Online);
}

fn starts_are_counted(store: &Store) {
    let start = || write(store, |tx| tx.node_start());
    assert_eq!([start(), start(), start()], [1, 2, 3]);
}

fn the_last_of_several_versions_in_one_set_counts(store: &Store) {
    let (_, device) = one_device(store);
    put_versions(store, &[(device, "m", "3"), (device, "m", "1"), (device, "m", "2")]);
    assert_eq!(version(store, device, "m").as_deref(), Some("2"));
    assert_eq!(read(store, move |tx| tx.version_count(device)), 1);
}

fn a_newer_version_replaces_the_older(store: &Store) {
    let (_, device) = one_device(store);
    put_versions(store, &[(device, "default", "1.0")]);
    put_versions(store, &[(device, "default", "2.0")]);
    assert_eq!(version(store, device, "default").as_deref(), Some("2.0"));
}

fn versions_of_modules_are_apart(store: &Store) {
    let shop = Shop::open(store);
    let devices = shop.devices(store, 2);
    put_versions(store, &[(devices[0], "a", "1"), (devices[0], "b", "2"), (devices[1], "a", "3")]);
    assert_eq!(version(store, devices[0], "a").as_deref(), Some("1"));
    assert_eq!(version(store, devices[0], "b").as_deref(), Some("2"));
    assert_eq!(version(store, devices[1], "a").as_deref(), Some("3"));
    assert_eq!(version(store, devices[1], "b"), None);
    let (first, second) = (devices[0], devices[1]);
    assert_eq!(read(store, move |tx| Ok((tx.version_count(first)?, tx.version_count(second)?))), (2, 1));
}

fn an_empty_set_changes_nothing(store: &Store) {
    let (shop, _) = one_device(store);
    let before = find(store, shop.product, "dev1");
    write(store, |tx| {
        tx.devices_online(&[], NOW)?;
        tx.devices_offline(&[], NOW)?;
        tx.versions_put(&[], NOW)
    });
    assert_eq!(find(store, shop.product, "dev1"), before);
    assert_eq!(read(store, |tx| tx.candidates_of(&[], "default")), []);
}

fn a_status_is_dated_by_its_last_change(store: &Store) {
    let (shop, device) = one_device(store);
    let since = || find(store, shop.product, "dev1").status_at;
    assert_eq!(since(), NOW, "unactive since it was registered");
    let login = |session, at: i64| {
        let online = OnlineDevice { device, session, ip: "10.0.0.1".to_owned() };
        set_online(store, vec![online], NOW.plus_ms(at));
    };
    login(1, 10);
    assert_eq!(since(), NOW.plus_ms(10));
    login(2, 20);
    assert_eq!(since(), NOW.plus_ms(10), "it was online before");
    set_offline(store, vec![(device, 1)]);
    assert_eq!(since(), NOW.plus_ms(10), "an old session's end");
    set_offline(store, vec![(device, 2)]);
    assert_eq!(since(), GONE);
    login(3, 1_000);
    assert_eq!(all_offline(store), 1);
    assert_eq!(since(), GONE);
}

fn devices_are_listed_newest_first(store: &Store) {
    let shop = Shop::open(store);
    let devices = shop.devices(store, 5);
    let elsewhere = shop.product(store, "other");
    write(store, move |tx| tx.device_insert(&new_device(elsewhere, "foreign"), NOW));
    let page = |number, size| {
        let page = Page::new(number, size, 10).expect("in range");
        let found = read(store, move |tx| tx.device_list(shop.product, page));
        found.iter().map(|device| device.no).collect::<Vec<_>>()
    };
    assert_eq!(page(1, 2), [devices[4], devices[3]]);
    assert_eq!(page(3, 2), [devices[0]]);
    assert_eq!(page(4, 2), []);
    let below = devices[3];
    let found = read(store, move |tx| tx.device_list_below(shop.product, below, 2));
    assert_eq!(found.iter().map(|device| device.no).collect::<Vec<_>>(), [devices[2], devices[1]]);
}

fn chosen_devices_become_candidates_in_order(store: &Store) {
    let shop = Shop::open(store);
    let devices = shop.devices(store, 5);
    let job = shop.job(store, shop.firmware(store, "package"), "gray");
    put_versions(store, &[(devices[3], "default", "1.0")]);
    let chosen = vec![devices[3], devices[0], devices[1], devices[0]];
    // PostgreSQL refuses to touch a row twice in one statement only on update; a conflict that does nothing is fine.
    write(store, move |tx| tx.job_targets_insert(job, &chosen));
    let after = |after: DeviceNo, limit| {
        read(store, move |tx| tx.candidates_of_targets(job, "default", after, limit))
    };
    let numbers = |found: &[Candidate]| found.iter().map(|c| c.device).collect::<Vec<_>>();
    let all = after(DeviceNo(0), 10);
    assert_eq!(numbers(&all), [devices[0], devices[1], devices[3]]);
    assert_eq!(all[2].version.as_deref(), Some("1.0"));
    assert_eq!(numbers(&after(devices[0], 1)), [devices[1]]);
    let upto = devices[1];
    assert_eq!(write(store, move |tx| tx.job_targets_delete(job, DeviceNo(0), upto, 1)), 1);
    assert_eq!(numbers(&after(DeviceNo(0), 10)), [devices[1], devices[3]]);
    let all = DeviceNo(i64::MAX);
    assert_eq!(write(store, move |tx| tx.job_targets_delete(job, upto, all, i64::MAX)), 1);
    assert_eq!(numbers(&after(DeviceNo(0), 10)), [devices[1]]);
    assert_eq!(write(store, move |tx| tx.job_targets_delete(job, DeviceNo(0), all, i64::MAX)), 1);
    assert_eq!(after(DeviceNo(0), 10), []);
    let versions = read(store, move |tx| {
        tx.versions_of_product(shop.product, "default", DeviceNo(0), DeviceNo(i64::MAX), 10)
    });
    assert_eq!(versions.len(), 5);
    assert_eq!(versions[3], (devices[3], Some("1.0".to_owned())));
}

fn candidates_of_a_product_come_in_order_within_bounds(store: &Store) {
    let shop = Shop::open(store);
    let devices = shop.devices(store, 5);
    let other = shop.product(store, "other");
    let stranger = new_device(other, "stranger");
    write(store, move |tx| tx.device_insert(&stranger, NOW));
    let page = |after, upto, limit| -> Vec<DeviceNo> {
        read(store, move |tx| tx.candidates_of_product(shop.product, "default", after, upto, limit))
            .into_iter()
            .map(|candidate| candidate.device)
            .collect()
    };
    assert_eq!(page(DeviceNo(0), DeviceNo(i64::MAX), 100), devices);
    assert_eq!(page(DeviceNo(0), DeviceNo(i64::MAX), 2), devices[..2]);
    assert_eq!(page(devices[1], devices[3], 100), devices[2..4]);
    assert_eq!(page(devices[3], devices[3], 100), []);
}

fn candidates_carry_presence_version_and_busyness(store: &Store) {
    let shop = Shop::open(store);
    let firmware = shop.firmware(store, "package");
    let job = shop.job(store, firmware, "batch");
    let devices = shop.devices(store, 4);
    set_online(store, vec![online(devices[0], 1)], NOW);
    put_versions(store, &[(devices[0], "m", "1"), (devices[1], "other", "9"), (devices[3], "m", "")]);
    insert(
        store,
        vec![
            task(job, 1, devices[1], TaskStatus::InProgress),
            task(job, 2, devices[2], TaskStatus::Succeeded),
            task(job, 3, devices[3], TaskStatus::Canceled),
            task(job, 4, devices[3], TaskStatus::Confirm),
        ],
    );
    let disabled = devices[2];
    assert!(write(store, move |tx| tx.device_disable(disabled, NOW)));
    let candidate = |at: usize, status, version: Option<&str>, busy| Candidate {
        device: devices[at],
        status,
        version: version.map(str::to_owned),
        busy,
    };
    let expected = [
        candidate(0, DeviceStatus::Online, Some("1"), false),
        candidate(1, DeviceStatus::Unactive, None, true),
        candidate(2, DeviceStatus::Disable, None, false),
        candidate(3, DeviceStatus::Unactive, Some(""), true),
    ];
    let upto = devices[3];
    let walked = read(store, move |tx| tx.candidates_of_product(shop.product, "m", DeviceNo(0), upto, 10));
    assert_eq!(walked, expected);
    assert_eq!(read(store, move |tx| tx.candidates_of(&devices, "m")), expected);
}

fn candidates_by_number_leave_unknown_devices_out(store: &Store) {
    let shop = Shop::open(store);
    let devices = shop.devices(store, 2);
    let asked = [devices[0], DeviceNo(i64::MAX), devices[1]];
    let found = read(store, move |tx| tx.candidates_of(&asked, "default"));
    assert_eq!(found.iter().map(|candidate| candidate.device).collect::<Vec<_>>(), devices);
}
