//! Dynamic groups: what expressions look at, who is noted, how far a new group has looked.

use crate::harness::cases;
use crate::help::{NOW, read, write};
use crate::shop::{Shop, new_device, new_product};
use updraft_core::group::expression::Expression;
use updraft_core::id::{DeviceNo, GroupNo, InstanceNo};
use updraft_core::page::Page;
use updraft_store::{DeviceChange, GroupFilter, GroupWalk, NewGroup, OnlineDevice, Store};

cases! {
    Store:
        a_dynamic_group_is_listed_apart_and_keeps_its_expression,
        facts_are_what_is_stored_of_a_device,
        devices_are_noted_only_if_a_group_of_their_instance_asks,
        a_new_device_is_noted_if_there_is_a_dynamic_group,
        who_is_online_at_a_start_is_noted_if_a_group_asks_for_presence,
        a_new_group_looks_at_all_devices_in_chunks,
        members_are_filtered_by_what_is_stored_of_them;
}

fn group(store: &Store, instance: InstanceNo, name: &str, expression: &'static str) -> GroupNo {
    let new = NewGroup {
        instance,
        group_id: format!("id of {name}"),
        name: name.to_owned(),
        description: None,
        parent: None,
    };
    let parsed = Expression::parse(expression).expect("it is an expression");
    write(store, move |tx| tx.group_insert_dynamic(&new, expression, &parsed, NOW)).expect("the name is free")
}

fn note(store: &Store, change: DeviceChange, devices: &[DeviceNo]) {
    let devices = devices.to_vec();
    write(store, move |tx| tx.reviews_add_for_groups(change, &devices));
}

/// Who is noted; and forgets it.
fn noted(store: &Store) -> Vec<DeviceNo> {
    write(store, |tx| {
        let devices = tx.reviews(100)?;
        tx.reviews_done(&devices)?;
        Ok(devices)
    })
}

fn a_dynamic_group_is_listed_apart_and_keeps_its_expression(store: &Store) {
    let shop = Shop::open(store);
    let no = group(store, shop.instance, "group", "name = 'it''s'");
    let page = Page::new(1, 10, 10).expect("the page exists");
    for (dynamic, expected) in [(true, 1), (false, 0)] {
        let filter = GroupFilter { dynamic, ..GroupFilter::default() };
        assert_eq!(read(store, move |tx| tx.group_list(shop.instance, filter, page)).1, expected);
        assert_eq!(read(store, move |tx| tx.group_count(shop.instance, dynamic)), expected);
    }
    let rules = move || read(store, move |tx| tx.groups_dynamic(shop.instance));
    assert_eq!(rules(), [(no, "name = 'it''s'".to_owned())]);
    write(store, move |tx| tx.group_delete(no, NOW));
    assert_eq!(rules(), []);
    assert_eq!(read(store, |tx| tx.group_walking()), None, "a deleted group looks at nothing");
}

fn facts_are_what_is_stored_of_a_device(store: &Store) {
    let shop = Shop::open(store);
    let devices = shop.devices(store, 2);
    let first = devices[0];
    let reports =
        vec![(first, "default".to_owned(), "1.0".to_owned()), (first, "mcu".to_owned(), "2.0".to_owned())];
    write(store, move |tx| tx.versions_put(&reports, NOW));
    let asked = [devices[1], first, DeviceNo(999)];
    let facts = read(store, move |tx| tx.device_facts(&asked));
    assert_eq!(facts.keys().copied().collect::<Vec<_>>(), devices);
    let (instance, first) = &facts[&first];
    assert_eq!(*instance, shop.instance);
    assert_eq!((first.product_key.as_str(), first.name.as_str(), first.status), ("key", "dev1", "UNACTIVE"));
    let versions: Vec<_> =
        first.versions.iter().map(|(module, version)| format!("{module} {version}")).collect();
    assert_eq!(versions, ["default 1.0", "mcu 2.0"]);
    assert!(facts[&devices[1]].1.versions.is_empty() && first.tags.is_empty());
}

fn devices_are_noted_only_if_a_group_of_their_instance_asks(store: &Store) {
    use DeviceChange::{Itself, Status, Version};
    let shop = Shop::open(store);
    let devices = shop.devices(store, 2);
    let asked = |change| {
        note(store, change, &devices);
        noted(store) == devices
    };
    assert!(!asked(Itself) && !asked(Status) && !asked(Version));
    group(store, InstanceNo(shop.instance.0 + 1), "elsewhere", "status = 'ONLINE' and version = '1'");
    assert!(!asked(Itself) && !asked(Status) && !asked(Version), "another instance's group");
    group(store, shop.instance, "by_name", "name = 'x'");
    assert!(asked(Itself) && !asked(Status) && !asked(Version));
    group(store, shop.instance, "by_status", "status = 'ONLINE'");
    assert!(asked(Itself) && asked(Status) && !asked(Version));
    let by_version = group(store, shop.instance, "by_version", "version.mcu = '1'");
    assert!(asked(Version));
    write(store, move |tx| tx.group_delete(by_version, NOW));
    assert!(!asked(Version));
    note(store, Itself, &devices[..1]);
    note(store, Itself, &[devices[0], DeviceNo(999)]);
    assert_eq!(noted(store), devices[..1], "one note for a device");
}

fn a_new_device_is_noted_if_there_is_a_dynamic_group(store: &Store) {
    let shop = Shop::open(store);
    shop.devices(store, 1);
    assert_eq!(noted(store), []);
    group(store, shop.instance, "group", "name = 'x'");
    let new = new_device(shop.product, "another");
    let device = write(store, move |tx| tx.device_insert(&new, NOW)).expect("the name is free");
    assert_eq!(noted(store), [device]);
}

fn who_is_online_at_a_start_is_noted_if_a_group_asks_for_presence(store: &Store) {
    let shop = Shop::open(store);
    let devices = shop.devices(store, 2);
    let login = OnlineDevice { device: devices[1], session: 1, ip: String::new() };
    write(store, move |tx| tx.devices_online(std::slice::from_ref(&login), NOW));
    group(store, shop.instance, "by_name", "name = 'x'");
    write(store, |tx| tx.reviews_add_online_for_groups());
    assert_eq!(noted(store), []);
    group(store, shop.instance, "by_status", "status = 'ONLINE'");
    write(store, |tx| tx.reviews_add_online_for_groups());
    assert_eq!(noted(store), devices[1..]);
}

fn a_new_group_looks_at_all_devices_in_chunks(store: &Store) {
    let shop = Shop::open(store);
    let devices = shop.devices(store, 3);
    let other = InstanceNo(shop.instance.0 + 1);
    let theirs = write(store, move |tx| {
        let product = tx.product_insert(&new_product(other, "theirs", "theirs"), NOW)?;
        tx.device_insert(&new_device(product.expect("the name is free"), "dev1"), NOW)
    });
    let theirs = theirs.expect("the name is free");
    let no = group(store, shop.instance, "group", "name = 'x'");
    let late = new_device(shop.product, "late");
    write(store, move |tx| tx.device_insert(&late, NOW));
    let walk = || read(store, |tx| tx.group_walking());
    let mut expected = GroupWalk { group: no, instance: shop.instance, after: DeviceNo(0), upto: theirs };
    assert_eq!(walk(), Some(expected));
    let next = |walk: GroupWalk| read(store, move |tx| tx.group_walk_devices(&walk, 2));
    assert_eq!(next(expected), [(devices[0], shop.instance), (devices[1], shop.instance)]);
    let last = devices[1];
    write(store, move |tx| tx.group_walk_set(no, Some(last)));
    expected.after = last;
    assert_eq!(walk(), Some(expected));
    assert_eq!(next(expected), [(devices[2], shop.instance), (theirs, other)], "and no younger one");
    // Deleted ones count, so that a chunk stays bounded; nobody looks at them.
    let gone = devices[2];
    write(store, move |tx| tx.device_delete(shop.product, gone, NOW));
    assert_eq!(next(expected), [(gone, shop.instance), (theirs, other)]);
    assert!(read(store, move |tx| tx.device_facts(&[gone])).is_empty());
    write(store, move |tx| tx.group_walk_set(no, None));
    assert_eq!(walk(), None);
}

fn members_are_filtered_by_what_is_stored_of_them(store: &Store) {
    let shop = Shop::open(store);
    let devices = shop.devices(store, 3);
    let no = group(store, shop.instance, "group", "name like 'dev%'");
    let joining = devices.clone();
    write(store, move |tx| tx.group_members_add(no, &joining));
    let some = |below, limit| -> Vec<String> {
        let found = read(store, move |tx| tx.group_member_traits(no, below, limit));
        assert!(found.iter().all(|device| device.product == shop.product));
        found.into_iter().map(|device| format!("{} {}", device.name, device.status.name())).collect()
    };
    assert_eq!(some(DeviceNo(i64::MAX), 2), ["dev3 UNACTIVE", "dev2 UNACTIVE"]);
    assert_eq!(some(devices[1], 2), ["dev1 UNACTIVE"]);
    let asked = [devices[2], devices[0]];
    let loaded = read(store, move |tx| tx.members_load(&asked));
    assert_eq!(loaded.iter().map(|member| member.name.as_str()).collect::<Vec<_>>(), ["dev3", "dev1"]);
    let page = read(store, move |tx| tx.group_members(no, DeviceNo(i64::MAX), 1, 1));
    assert_eq!((page.len(), page[0].device, page[0].node_type), (1, devices[1], 0));
}
