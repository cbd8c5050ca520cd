//! Accounts and access keys.

use crate::harness::cases;
use crate::help::{NOW, read, try_write, write};
use updraft_core::id::AccountNo;
use updraft_store::{AccessKey, Store};

cases! {
    Store:
        an_account_is_made_once,
        an_unknown_account_is_not_found,
        instances_are_found_by_their_own_account_only,
        an_access_key_comes_back_as_it_was_put,
        putting_a_key_again_replaces_its_secret_and_switch,
        only_a_key_without_ram_user_is_a_root_key,
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
    write(store, move |tx| tx.access_key_put(&key, NOW));
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
