//! Temporary keys.

use crate::harness::cases;
use crate::help::{NOW, read, write};
use updraft_core::id::AccountNo;
use updraft_store::{Store, StsKey};

cases! {
    Store:
        a_temporary_key_comes_back_with_its_holder,
        a_users_end_and_a_revocation_take_temporary_keys_along,
        expired_temporary_keys_are_trimmed_oldest_first;
}

fn account(store: &Store, name: &'static str) -> AccountNo {
    write(store, move |tx| {
        let account = tx.account_ensure(name, NOW)?;
        tx.ram_user_insert(account, "alice", NOW)?;
        Ok(account)
    })
}

fn put(store: &Store, id: &str, account: AccountNo, user: Option<&str>, lives_ms: i64) -> StsKey {
    let key = StsKey {
        id: id.to_owned(),
        account,
        ram_user: user.map(str::to_owned),
        session_name: "ci".to_owned(),
        policy: user.map(|_| "{}".to_owned()),
        secret_sealed: vec![0, 255, 1],
        token_hash: vec![7; 32],
        created_at: NOW,
        expires_at: NOW.plus_ms(lives_ms),
    };
    let row = key.clone();
    write(store, move |tx| tx.sts_key_insert(&row));
    key
}

fn found(store: &Store, id: &'static str) -> Option<StsKey> {
    read(store, move |tx| tx.sts_key_holder(id)).map(|holder| holder.key)
}

fn a_temporary_key_comes_back_with_its_holder(store: &Store) {
    let owner = account(store, "owner");
    let of_user = put(store, "STS.a", owner, Some("alice"), 10);
    let of_root = put(store, "STS.b", owner, None, 10);
    write(store, move |tx| tx.ram_user_policy_set(owner, "alice", Some("{\"Statement\": []}")));
    let holder = read(store, |tx| tx.sts_key_holder("STS.a")).unwrap();
    assert_eq!((holder.key, holder.account_name.as_str()), (of_user, "owner"));
    assert_eq!(holder.user_policy.as_deref(), Some("{\"Statement\": []}"));
    assert_eq!(holder.public, read(store, move |tx| tx.instance_public(owner)));
    assert_eq!(found(store, "STS.b"), Some(of_root));
    assert_eq!(found(store, "STS.c"), None);
    // Nobody knows what a user may do who is not there.
    put(store, "STS.d", owner, Some("bob"), 10);
    assert_eq!(found(store, "STS.d"), None);
}

fn a_users_end_and_a_revocation_take_temporary_keys_along(store: &Store) {
    let (owner, stranger) = (account(store, "owner"), account(store, "stranger"));
    for (id, of, user) in [
        ("STS.a", owner, Some("alice")),
        ("STS.b", owner, Some("alice")),
        ("STS.c", owner, None),
        ("STS.d", stranger, Some("alice")),
    ] {
        put(store, id, of, user, 10);
    }
    let count = move |user: Option<&'static str>, at| {
        read(store, move |tx| tx.sts_key_count(owner, user, NOW.plus_ms(at)))
    };
    assert_eq!((count(Some("alice"), 9), count(Some("alice"), 10), count(None, 9)), (2, 0, 1));
    assert_eq!(write(store, move |tx| tx.sts_keys_revoke(owner, None, NOW)), 1);
    assert_eq!((found(store, "STS.c"), count(Some("alice"), 0)), (None, 2));
    assert!(write(store, move |tx| tx.ram_user_delete(owner, "alice")));
    write(store, move |tx| tx.ram_user_insert(owner, "alice", NOW));
    assert_eq!((found(store, "STS.a"), found(store, "STS.b")), (None, None), "a namesake gets nothing");
    assert!(found(store, "STS.d").is_some());
    assert_eq!(write(store, move |tx| tx.sts_keys_revoke(stranger, Some("alice"), NOW.plus_ms(10))), 0);
    assert_eq!(found(store, "STS.d"), None);
}

fn expired_temporary_keys_are_trimmed_oldest_first(store: &Store) {
    let owner = account(store, "owner");
    for (id, lives_ms) in [("STS.a", 30), ("STS.b", 10), ("STS.c", 20)] {
        put(store, id, owner, None, lives_ms);
    }
    assert!(!read(store, |tx| tx.sts_keys_overdue(NOW.plus_ms(10))));
    assert!(read(store, |tx| tx.sts_keys_overdue(NOW.plus_ms(11))));
    let trim = |at, max| write(store, move |tx| tx.sts_keys_trim(NOW.plus_ms(at), max));
    assert_eq!(trim(30, 1), 1);
    assert_eq!((found(store, "STS.b"), found(store, "STS.c").is_some()), (None, true));
    assert_eq!((trim(30, 10), trim(30, 10)), (1, 0));
    assert!(found(store, "STS.a").is_some());
}
