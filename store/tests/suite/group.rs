//! Device groups: names, members, counts, and what is left of deleted ones.

use crate::harness::cases;
use crate::help::{NOW, read, write};
use crate::shop::Shop;
use updraft_core::id::{DeviceNo, GroupNo, InstanceNo};
use updraft_core::page::Page;
use updraft_store::{Group, GroupFilter, MemberCounts, Membership, NewGroup, OnlineDevice, Store};

cases! {
    Store:
        a_group_comes_back_as_it_was_added,
        a_group_name_is_unique_among_those_that_are_left,
        groups_are_listed_newest_first_by_name_and_parent,
        devices_come_and_go_and_are_counted,
        a_deleted_group_is_found_by_nobody_and_its_members_go_in_chunks,
        a_deleted_device_is_in_no_group,
        members_are_counted_in_pieces,
        candidates_of_a_group_are_of_the_product_and_in_order,
        who_joins_or_leaves_is_looked_at_if_a_standing_rule_asks_for_the_group,
        a_group_knows_the_batch_that_uses_it;
}

fn new_group(instance: InstanceNo, name: &str) -> NewGroup {
    NewGroup {
        instance,
        group_id: format!("id of {name}"),
        name: name.to_owned(),
        description: None,
        parent: None,
    }
}

fn add(store: &Store, new: &NewGroup) -> Option<GroupNo> {
    let new = new.clone();
    write(store, move |tx| tx.group_insert(&new, NOW))
}

fn group(store: &Store, shop: Shop, name: &str) -> GroupNo {
    add(store, &new_group(shop.instance, name)).expect("the name is free")
}

fn join(store: &Store, group: GroupNo, devices: &[DeviceNo]) -> i64 {
    let devices = devices.to_vec();
    write(store, move |tx| tx.group_members_add(group, &devices))
}

fn leave(store: &Store, group: GroupNo, devices: &[DeviceNo]) -> i64 {
    let devices = devices.to_vec();
    write(store, move |tx| tx.group_members_remove(group, &devices))
}

fn load(store: &Store, group: GroupNo) -> Group {
    read(store, move |tx| tx.group_load(group)).expect("the group has a row")
}

fn page(number: i64, size: i64) -> Page {
    Page::new(number, size, 200).expect("the page exists")
}

fn members(store: &Store, group: GroupNo) -> Vec<DeviceNo> {
    let listed = read(store, move |tx| tx.group_members(group, DeviceNo(i64::MAX), 0, 200));
    listed.into_iter().map(|member| member.device).collect()
}

fn noted(store: &Store) -> Vec<DeviceNo> {
    read(store, |tx| tx.reviews(100))
}

fn a_group_comes_back_as_it_was_added(store: &Store) {
    let shop = Shop::open(store);
    let parent = group(store, shop, "parent");
    let new = NewGroup {
        description: Some("路灯".to_owned()),
        parent: Some((parent, 1)),
        ..new_group(shop.instance, "child")
    };
    let no = add(store, &new).expect("the name is free");
    let expected = Group {
        no,
        instance: shop.instance,
        group_id: new.group_id,
        name: new.name,
        description: new.description,
        parent: Some(parent),
        depth: 1,
        expression: None,
        device_count: 0,
        created_at: NOW,
    };
    assert_eq!(read(store, move |tx| tx.group_find(shop.instance, "id of child")), Some(expected.clone()));
    assert_eq!(load(store, no), expected);
    assert_eq!(read(store, move |tx| tx.group_find(InstanceNo(shop.instance.0 + 1), "id of child")), None);
    assert!(read(store, move |tx| tx.group_has_subgroups(parent)));
    assert!(!read(store, move |tx| tx.group_has_subgroups(no)));
    write(store, move |tx| tx.group_describe(no, "changed"));
    assert_eq!(load(store, no).description.as_deref(), Some("changed"));
}

fn a_group_name_is_unique_among_those_that_are_left(store: &Store) {
    let shop = Shop::open(store);
    let first = group(store, shop, "lamps");
    let again = NewGroup { group_id: "another".to_owned(), ..new_group(shop.instance, "lamps") };
    assert_eq!(add(store, &again), None);
    let elsewhere = NewGroup { instance: InstanceNo(99), group_id: "third".to_owned(), ..again.clone() };
    assert!(add(store, &elsewhere).is_some(), "another instance");
    write(store, move |tx| tx.group_delete(first, NOW));
    assert!(add(store, &again).is_some(), "the name is free again");
}

fn groups_are_listed_newest_first_by_name_and_parent(store: &Store) {
    let shop = Shop::open(store);
    let parent = group(store, shop, "parent");
    for n in 1..=3 {
        let new = NewGroup { parent: Some((parent, 1)), ..new_group(shop.instance, &format!("child{n}")) };
        add(store, &new).expect("the name is free");
    }
    let list = |name: Option<&'static str>, parent: Option<GroupNo>, page: Page| {
        let (groups, total) = read(store, move |tx| {
            tx.group_list(shop.instance, GroupFilter { dynamic: false, name, parent }, page)
        });
        (groups.into_iter().map(|group| group.name).collect::<Vec<_>>(), total)
    };
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert_eq!(list(None, None, page(1, 3)), (names(&["child3", "child2", "child1"]), 4));
    assert_eq!(list(None, None, page(2, 3)), (names(&["parent"]), 4));
    assert_eq!(list(None, Some(parent), page(1, 2)), (names(&["child3", "child2"]), 3));
    assert_eq!(list(Some("child2"), Some(parent), page(1, 9)), (names(&["child2"]), 1));
    assert_eq!(list(Some("parent"), Some(parent), page(1, 9)), (Vec::new(), 0));
    let dynamic = GroupFilter { dynamic: true, ..GroupFilter::default() };
    assert_eq!(read(store, move |tx| tx.group_list(shop.instance, dynamic, page(1, 9))).1, 0);
    assert_eq!(read(store, move |tx| tx.group_count(shop.instance, false)), 4);
}

fn devices_come_and_go_and_are_counted(store: &Store) {
    let shop = Shop::open(store);
    let devices = shop.devices(store, 3);
    let (first, second) = (group(store, shop, "first"), group(store, shop, "second"));
    assert_eq!(join(store, first, &devices[..2]), 2);
    assert_eq!(join(store, first, &devices), 1, "two were in it");
    assert_eq!(join(store, second, &devices[1..2]), 1);
    assert_eq!(members(store, first), [devices[2], devices[1], devices[0]]);
    assert_eq!(load(store, first).device_count, 3);
    let of = devices[1];
    let membership = |group| Membership { device: of, group, dynamic: false };
    let both = [membership(first), membership(second)];
    assert_eq!(read(store, move |tx| tx.groups_of(&[of])), both);
    let names: Vec<_> = read(store, move |tx| tx.groups_of_device(of)).iter().map(|group| group.no).collect();
    assert_eq!(names, [second, first]);
    assert_eq!(leave(store, first, &devices[1..]), 2);
    assert_eq!(leave(store, first, &devices[1..]), 0);
    assert_eq!(load(store, first).device_count, 1);
    assert_eq!(load(store, second).device_count, 1);
    assert_eq!(noted(store), [], "nobody asks for these groups");
}

fn a_deleted_group_is_found_by_nobody_and_its_members_go_in_chunks(store: &Store) {
    let shop = Shop::open(store);
    let devices = shop.devices(store, 3);
    let (gone, kept) = (group(store, shop, "gone"), group(store, shop, "kept"));
    join(store, gone, &devices);
    join(store, kept, &devices);
    write(store, move |tx| tx.group_delete(gone, NOW));
    assert_eq!(read(store, move |tx| tx.group_find(shop.instance, "id of gone")), None);
    assert_eq!(load(store, gone).name, "gone", "batches go on naming it");
    assert_eq!(read(store, move |tx| tx.group_count(shop.instance, false)), 1);
    let of = devices[0];
    let left = [Membership { device: of, group: kept, dynamic: false }];
    assert_eq!(read(store, move |tx| tx.groups_of(&[of])), left, "though the rows are still there");
    assert_eq!(read(store, move |tx| tx.groups_of_device(of)).len(), 1);
    let clearing = || read(store, |tx| tx.group_clearing());
    for left in [1, 0] {
        assert_eq!(clearing(), Some(gone));
        write(store, move |tx| tx.group_clear(gone, 2));
        assert_eq!(members(store, gone).len(), left);
    }
    assert_eq!(clearing(), None);
    assert_eq!(members(store, kept).len(), 3);
}

fn a_deleted_device_is_in_no_group(store: &Store) {
    let shop = Shop::open(store);
    let devices = shop.devices(store, 3);
    let (first, second) = (group(store, shop, "first"), group(store, shop, "second"));
    join(store, first, &devices);
    join(store, second, &devices[..1]);
    let going = devices[..2].to_vec();
    write(store, move |tx| tx.group_members_forget(&going));
    assert_eq!(members(store, first), devices[2..]);
    assert_eq!((load(store, first).device_count, load(store, second).device_count), (1, 0));
    write(store, |tx| tx.group_members_forget(&[]));
}

fn members_are_counted_in_pieces(store: &Store) {
    let shop = Shop::open(store);
    let devices = shop.devices(store, 3);
    let group = group(store, shop, "group");
    join(store, group, &devices);
    let online = |device, session| OnlineDevice { device, session, ip: String::new() };
    let logins = vec![online(devices[0], 1), online(devices[2], 1)];
    write(store, move |tx| tx.devices_online(&logins, NOW));
    let gone = devices[2];
    write(store, move |tx| tx.devices_offline(&[(gone, 1)], NOW));
    let count = |after, limit| read(store, move |tx| tx.group_member_counts(group, after, limit));
    let of = |devices, active, online, last| MemberCounts { devices, active, online, last };
    assert_eq!(count(DeviceNo(0), 2), of(2, 1, 1, devices[1]));
    assert_eq!(count(devices[1], 2), of(1, 1, 0, devices[2]));
    assert_eq!(count(devices[2], 2), of(0, 0, 0, DeviceNo(0)));
}

fn candidates_of_a_group_are_of_the_product_and_in_order(store: &Store) {
    let shop = Shop::open(store);
    let devices = shop.devices(store, 4);
    let other = shop.product(store, "other");
    let group = group(store, shop, "group");
    join(store, group, &[devices[3], devices[0], devices[1]]);
    let reported = vec![(devices[0], "default".to_owned(), "1.0".to_owned())];
    write(store, move |tx| tx.versions_put(&reported, NOW));
    let upto = |product, after, upto, limit| {
        let found =
            read(store, move |tx| tx.candidates_of_group(group, product, "default", after, upto, limit));
        found.into_iter().map(|found| (found.device, found.version)).collect::<Vec<_>>()
    };
    let of = |product, after, limit| upto(product, after, DeviceNo(i64::MAX), limit);
    let first = (devices[0], Some("1.0".to_owned()));
    assert_eq!(of(shop.product, DeviceNo(0), 2), [first, (devices[1], None)]);
    assert_eq!(of(shop.product, devices[1], 2), [(devices[3], None)]);
    assert_eq!(
        upto(shop.product, devices[0], devices[2], 9),
        [(devices[1], None)],
        "later ones are left out"
    );
    assert_eq!(of(other, DeviceNo(0), 9), []);
}

fn who_joins_or_leaves_is_looked_at_if_a_standing_rule_asks_for_the_group(store: &Store) {
    use updraft_core::job::{Conduct, DynamicMode};
    let shop = Shop::open(store);
    let devices = shop.devices(store, 3);
    let (asked, other) = (group(store, shop, "asked"), group(store, shop, "other"));
    let firmware = shop.firmware(store, "package");
    let mut new = shop.new_job(firmware, "job");
    new.conduct =
        Conduct { dynamic: Some(DynamicMode::NowAndLater), group: Some(asked), ..Conduct::default() };
    write(store, move |tx| tx.job_insert(&new, NOW));
    join(store, other, &devices);
    assert_eq!(noted(store), []);
    join(store, asked, &devices[..1]);
    assert_eq!(noted(store), devices[..1]);
    leave(store, asked, &devices[1..2]);
    assert_eq!(noted(store), devices[..1], "it was no member");
}

fn a_group_knows_the_batch_that_uses_it(store: &Store) {
    use updraft_core::job::Conduct;
    let shop = Shop::open(store);
    let device = shop.devices(store, 1)[0];
    let group = group(store, shop, "group");
    let user = || read(store, move |tx| tx.group_user(group));
    assert_eq!(user(), None);
    let firmware = shop.firmware(store, "package");
    let mut new = shop.new_job(firmware, "job");
    new.expanded = false;
    new.conduct = Conduct { group: Some(group), ..Conduct::default() };
    let job = write(store, move |tx| tx.job_insert(&new, NOW));
    assert_eq!(user().as_deref(), Some("job"));
    write(store, move |tx| tx.job_expansion_set(job, device, true, 1));
    assert_eq!(user(), None);
}
