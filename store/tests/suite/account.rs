//! Accounts and access keys.

use crate::harness::cases;
use crate::help::{NOW, read, try_write, write};
use updraft_core::id::AccountNo;
use updraft_core::time::Timestamp;
use updraft_store::{AccessKey, AuditFilter, AuditLine, AuditWorth, Store};

cases! {
    Store:
        an_account_is_made_once,
        an_unknown_account_is_not_found,
        instances_are_found_by_their_own_account_only,
        an_access_key_comes_back_as_it_was_put,
        putting_a_key_again_replaces_its_secret_and_switch,
        only_a_key_without_ram_user_is_a_root_key,
        a_keys_holder_is_known_with_its_policy,
        a_key_without_its_user_is_no_key,
        an_account_is_inserted_once_only,
        keys_are_listed_counted_switched_and_deleted,
        users_are_made_once_and_take_their_keys_along,
        accounts_and_instances_are_listed_by_age,
        audit_lines_are_found_by_what_they_say,
        the_oldest_audit_lines_are_trimmed_by_age,
        audit_lines_are_scanned_by_worth_and_deleted_by_number,
        an_installation_is_named_once;
}

fn key(id: &str, account: AccountNo, ram_user: Option<&str>) -> AccessKey {
    AccessKey {
        id: id.to_owned(),
        account,
        ram_user: ram_user.map(str::to_owned),
        secret_sealed: vec![0, 255, 0, 1],
        enabled: true,
    }
}

fn an_installation_is_named_once(store: &Store) {
    assert_eq!(read(store, |tx| tx.installation_find()), None);
    write(store, |tx| tx.installation_insert(&[0, 255]));
    assert_eq!(read(store, |tx| tx.installation_find()), Some(vec![0, 255]));
    assert!(try_write(store, |tx| tx.installation_insert(&[1])).is_err());
    assert_eq!(read(store, |tx| tx.installation_find()), Some(vec![0, 255]));
}

fn put(store: &Store, key: &AccessKey) {
    let key = key.clone();
    write(store, move |tx| {
        if let Some(user) = &key.ram_user {
            tx.ram_user_insert(key.account, user, NOW)?;
        }
        tx.access_key_put(&key, NOW)
    });
}

fn account(store: &Store, name: &'static str) -> AccountNo {
    write(store, move |tx| tx.account_ensure(name, NOW))
}

fn an_account_is_made_once(store: &Store) {
    let first = account(store, "first");
    let second = account(store, "second");
    assert_ne!(first, second);
    assert_eq!(account(store, "first"), first);
    assert_eq!(read(store, |tx| tx.account_find("first")), Some(first));
    assert_eq!(read(store, |tx| tx.account_find("second")), Some(second));
}

fn instances_are_found_by_their_own_account_only(store: &Store) {
    let (owner, stranger) = (account(store, "owner"), account(store, "stranger"));
    let public = read(store, move |tx| tx.instance_public(owner));
    assert_ne!(read(store, move |tx| tx.instance_public(stranger)), public);
    let make = |of, id, name| write(store, move |tx| tx.instance_insert(of, id, name, NOW));
    let made = make(owner, "iot-1", "plant").expect("the name is free");
    assert_ne!(made, public);
    assert_eq!(make(owner, "iot-2", "plant"), None, "a name counts once in an account");
    assert!(make(stranger, "iot-3", "plant").is_some());
    let find = |of, id| read(store, move |tx| tx.instance_find(of, id));
    assert_eq!(find(owner, "iot-1"), Some(made));
    assert_eq!(find(stranger, "iot-1"), None);
    assert_eq!(find(owner, "iot-2"), None);
    assert_eq!(find(owner, ""), None);
}

fn an_unknown_account_is_not_found(store: &Store) {
    account(store, "first");
    assert_eq!(read(store, |tx| tx.account_find("First")), None);
}

fn an_access_key_comes_back_as_it_was_put(store: &Store) {
    let owner = account(store, "owner");
    let (root, user) = (key("root", owner, None), key("user", owner, Some("alice")));
    put(store, &root);
    put(store, &user);
    assert_eq!(read(store, |tx| tx.access_key_find("root")), Some(root));
    assert_eq!(read(store, |tx| tx.access_key_find("user")), Some(user));
    assert_eq!(read(store, |tx| tx.access_key_find("nobody")), None);
}

fn putting_a_key_again_replaces_its_secret_and_switch(store: &Store) {
    let owner = account(store, "owner");
    let stranger = account(store, "stranger");
    put(store, &key("id", owner, Some("alice")));
    let again =
        AccessKey { secret_sealed: b"new".to_vec(), enabled: false, ..key("id", stranger, Some("mallory")) };
    put(store, &again);
    // Whom it acts for never changes.
    let expected = AccessKey { account: owner, ram_user: Some("alice".to_owned()), ..again };
    assert_eq!(read(store, |tx| tx.access_key_find("id")), Some(expected));
}

fn only_a_key_without_ram_user_is_a_root_key(store: &Store) {
    let owner = account(store, "owner");
    let other = account(store, "other");
    put(store, &key("user", owner, Some("alice")));
    put(store, &key("others", other, None));
    assert!(!read(store, move |tx| tx.access_key_root_exists(owner)));
    put(store, &key("root", owner, None));
    assert!(read(store, move |tx| tx.access_key_root_exists(owner)));
}

fn a_keys_holder_is_known_with_its_policy(store: &Store) {
    let owner = account(store, "owner");
    account(store, "stranger");
    put(store, &key("root", owner, None));
    put(store, &key("user", owner, Some("alice")));
    assert!(write(store, move |tx| tx.ram_user_policy_set(owner, "alice", Some("{}"))));
    assert!(!write(store, move |tx| tx.ram_user_policy_set(owner, "bob", Some("{}"))));
    let holder = |id| read(store, move |tx| tx.access_key_holder(id));
    let root = holder("root").expect("there is one");
    assert_eq!((root.key, root.policy), (key("root", owner, None), None));
    let user = holder("user").expect("there is one");
    assert_eq!((user.key, user.policy), (key("user", owner, Some("alice")), Some("{}".to_owned())));
    assert_eq!(user.account_name, "owner");
    assert_eq!(user.public, read(store, move |tx| tx.instance_public(owner)));
    assert!(write(store, move |tx| tx.ram_user_policy_set(owner, "alice", None)));
    assert_eq!(holder("user").expect("there is one").policy, None);
    assert_eq!(holder("nobody"), None);
}

fn a_key_without_its_user_is_no_key(store: &Store) {
    let owner = account(store, "owner");
    let ghost = key("ghost", owner, Some("alice"));
    write(store, move |tx| tx.access_key_put(&ghost, NOW));
    assert_eq!(read(store, |tx| tx.access_key_holder("ghost")), None);
    assert_eq!(read(store, move |tx| tx.ram_user_list(owner)), [], "a key makes no user");
    assert!(write(store, move |tx| tx.ram_user_insert(owner, "alice", NOW)));
    assert!(read(store, |tx| tx.access_key_holder("ghost")).is_some());
}

fn an_account_is_inserted_once_only(store: &Store) {
    let insert = || {
        write(store, |tx| {
            tx.admin_lock()?;
            tx.account_insert("acme", NOW)
        })
    };
    let made = insert().expect("the name is free");
    assert_eq!(insert(), None);
    assert_eq!(account(store, "acme"), made);
}

fn keys_are_listed_counted_switched_and_deleted(store: &Store) {
    let (owner, stranger) = (account(store, "owner"), account(store, "stranger"));
    for (id, of, user) in
        [("3", owner, Some("alice")), ("2", owner, None), ("1", owner, None), ("0", stranger, Some("alice"))]
    {
        put(store, &key(id, of, user));
    }
    let ids = || -> Vec<String> {
        read(store, move |tx| tx.access_key_list(owner)).into_iter().map(|key| key.id).collect()
    };
    assert_eq!(ids(), ["1", "2", "3"]);
    let count = |user| read(store, move |tx| tx.access_key_count(owner, user));
    assert_eq!((count(None), count(Some("alice")), count(Some("bob"))), ((2, 2), (1, 1), (0, 0)));
    write(store, |tx| tx.access_key_switch("1", false));
    assert_eq!(count(None), (2, 1));
    assert!(!read(store, |tx| tx.access_key_find("1")).expect("there is one").enabled);
    write(store, |tx| tx.access_key_delete("2"));
    assert_eq!((ids(), count(None)), (vec!["1".to_owned(), "3".to_owned()], (1, 0)));
}

fn users_are_made_once_and_take_their_keys_along(store: &Store) {
    let (owner, stranger) = (account(store, "owner"), account(store, "stranger"));
    assert!(write(store, move |tx| tx.ram_user_insert(owner, "bob", NOW)));
    assert!(!write(store, move |tx| tx.ram_user_insert(owner, "bob", NOW)));
    put(store, &key("a", owner, Some("alice")));
    put(store, &key("b", owner, Some("alice")));
    put(store, &key("c", stranger, Some("alice")));
    let list = move |of| read(store, move |tx| tx.ram_user_list(of));
    let users: Vec<(String, i64)> = list(owner).into_iter().map(|user| (user.name, user.keys)).collect();
    assert_eq!(users, [("alice".to_owned(), 2), ("bob".to_owned(), 0)]);
    assert_eq!(read(store, move |tx| tx.ram_user_count(owner)), 2);
    assert!(write(store, move |tx| tx.ram_user_delete(owner, "alice")));
    assert!(!write(store, move |tx| tx.ram_user_delete(owner, "alice")));
    assert_eq!(read(store, |tx| tx.access_key_find("a")), None);
    assert!(read(store, |tx| tx.access_key_find("c")).is_some());
    assert_eq!(read(store, move |tx| tx.ram_user_find(owner, "alice")), None);
    assert_eq!(list(stranger).len(), 1);
}

fn accounts_and_instances_are_listed_by_age(store: &Store) {
    let owner = account(store, "owner");
    account(store, "another");
    write(store, move |tx| tx.instance_insert(owner, "iot-2", "b", NOW));
    write(store, move |tx| tx.instance_insert(owner, "iot-1", "a", NOW));
    let names =
        |list: Vec<(String, Timestamp)>| -> Vec<String> { list.into_iter().map(|row| row.0).collect() };
    assert_eq!(names(read(store, |tx| tx.account_list())), ["owner", "another"]);
    let ids: Vec<Option<String>> =
        read(store, move |tx| tx.instance_list(owner)).into_iter().map(|row| row.instance_id).collect();
    assert_eq!(ids, [None, Some("iot-2".to_owned()), Some("iot-1".to_owned())]);
}

fn audit(store: &Store, at: i64, line: AuditLine) {
    write(store, move |tx| tx.audit_insert(&AuditLine { at: Timestamp(at), ..line.clone() }));
}

fn subjects(store: &Store, filter: AuditFilter, limit: i64) -> Vec<String> {
    let lines = read(store, move |tx| tx.audit_list(&filter, i64::MAX, limit));
    lines.into_iter().map(|(_, line)| line.subject).collect()
}

fn audit_lines_are_found_by_what_they_say(store: &Store) {
    let text = |text: &str| Some(text.to_owned());
    let call = AuditLine {
        account: "root".to_owned(),
        instance: "iot-1".to_owned(),
        ram_user: text("alice"),
        access_key: text("key"),
        action: "CreateProduct".to_owned(),
        request_id: text("request"),
        outcome: "ok".to_owned(),
        subject: "first".to_owned(),
        ..AuditLine::default()
    };
    let command = AuditLine {
        account: "other".to_owned(),
        os_user: text("alice"),
        action: "ram create-user".to_owned(),
        subject: "second".to_owned(),
        ..AuditLine::default()
    };
    let by_sudo = AuditLine {
        account: "third".to_owned(),
        os_user: text("root (sudo by carol)"),
        subject: "sudo".to_owned(),
        ..AuditLine::default()
    };
    audit(store, 50, by_sudo);
    audit(store, 100, call.clone());
    audit(store, 200, command);
    let all = read(store, |tx| tx.audit_list(&AuditFilter::default(), i64::MAX, 10));
    assert_eq!(all[1].1, AuditLine { at: Timestamp(100), ..call });
    let before = all[0].0;
    assert_eq!(read(store, move |tx| tx.audit_list(&AuditFilter::default(), before, 10)).len(), 2);
    for (filter, expected) in [
        (AuditFilter::default(), vec!["second", "first", "sudo"]),
        (AuditFilter { user: text("carol"), ..AuditFilter::default() }, vec!["sudo"]),
        (AuditFilter { since: Some(Timestamp(101)), ..AuditFilter::default() }, vec!["second"]),
        (AuditFilter { account: text("root"), ..AuditFilter::default() }, vec!["first"]),
        (AuditFilter { user: text("alice"), ..AuditFilter::default() }, vec!["second", "first"]),
        (AuditFilter { user: text("bob"), ..AuditFilter::default() }, vec![]),
        (AuditFilter { action: text("CreateProduct"), ..AuditFilter::default() }, vec!["first"]),
    ] {
        assert_eq!(subjects(store, filter.clone(), 10), expected, "{filter:?}");
    }
    assert_eq!(subjects(store, AuditFilter::default(), 1), ["second"]);
}

fn the_oldest_audit_lines_are_trimmed_by_age(store: &Store) {
    // The first is of a clock that was wrong.
    for at in [1_000, 1, 2, 3, 4] {
        audit(store, at, AuditLine { subject: at.to_string(), ..AuditLine::default() });
    }
    let trim = |older, chunk| write(store, move |tx| tx.audit_trim(Timestamp(older), chunk));
    let overdue = |older, chunk| read(store, move |tx| tx.audit_overdue(Timestamp(older), chunk));
    let left = || subjects(store, AuditFilter::default(), 10);
    assert_eq!((overdue(1, 10), trim(1, 10)), (false, 0));
    assert_eq!((overdue(4, 3), trim(4, 3)), (true, 2), "no more than a chunk");
    assert_eq!(left(), ["4", "3", "1000"]);
    assert_eq!(trim(4, 3), 1);
    assert_eq!(left(), ["4", "1000"]);
    assert_eq!((trim(2_000, 10), trim(2_000, 10)), (2, 0), "then of nothing");
}

fn audit_lines_are_scanned_by_worth_and_deleted_by_number(store: &Store) {
    assert_eq!(read(store, |tx| tx.audit_span()), None);
    for (outcome, os_user) in [("NoPermission", None), ("ok", None), ("ok", Some("alice"))] {
        let os_user = os_user.map(str::to_owned);
        let line = AuditLine {
            account: "acme".to_owned(),
            outcome: outcome.to_owned(),
            os_user,
            ..AuditLine::default()
        };
        audit(store, 1, line);
    }
    let all = read(store, |tx| tx.audit_scan(0, 10));
    let worths: Vec<AuditWorth> = all.iter().map(|line| line.worth).collect();
    assert_eq!(worths, [AuditWorth::Refusal, AuditWorth::Change, AuditWorth::Command]);
    assert!(all.iter().all(|line| line.account == "acme"));
    let (first, second, third) = (all[0].no, all[1].no, all[2].no);
    assert_eq!(read(store, |tx| tx.audit_span()), Some((first, third)));
    assert_eq!(read(store, move |tx| tx.audit_scan(first, 1)), all[1..2]);
    assert_eq!(write(store, move |tx| tx.audit_delete(&[first, third])), 2);
    assert_eq!(read(store, |tx| tx.audit_span()), Some((second, second)));
}
