//! Values mean the same on both engines, in single statements and in sets.

use crate::harness::cases;
use crate::help::{NOW, read, write};
use crate::shop::{Shop, new_device, task};
use updraft_core::id::{DeviceNo, JobNo};
use updraft_core::task::{Task, TaskStatus};
use updraft_core::time::Timestamp;
use updraft_store::{AccessKey, NewDevice, Store};

cases! {
    Store:
        null_and_empty_text_differ_in_single_statements,
        null_and_empty_text_differ_in_sets,
        an_empty_description_of_a_task_stays_empty,
        every_text_but_u0000_survives,
        texts_compare_by_their_bytes,
        the_ends_of_the_integers_survive,
        blobs_keep_every_byte;
}

const TEXTS: [&str; 9] = [
    "",
    " ",
    "路灯 ライト лампа",
    "👩‍🚒\u{10FFFF}",
    "'single' \"double\" `back`",
    "?1 $1 %s {} \\ \\0 --;/*",
    "\u{1}\t\r\n\u{7f}",
    "e\u{301} is not \u{e9}",
    "NULL",
];

fn null_and_empty_text_differ_in_single_statements(store: &Store) {
    let shop = Shop::open(store);
    for (name, nickname) in [("none", None), ("empty", Some(String::new()))] {
        let new = NewDevice { nickname: nickname.clone(), ..new_device(shop.product, name) };
        write(store, move |tx| tx.device_insert(&new, NOW));
        let found = read(store, move |tx| tx.device_find(shop.product, name)).expect("the device exists");
        assert_eq!(found.nickname, nickname);
    }
}

fn null_and_empty_text_differ_in_sets(store: &Store) {
    let versions = [None, Some(String::new()), Some("1".to_owned())];
    let tasks: Vec<Task> = versions
        .into_iter()
        .zip(1..)
        .map(|(src_version, n)| Task { src_version, ..task(JobNo(1), n, DeviceNo(1), TaskStatus::Queued) })
        .collect();
    assert_eq!(stored(store, tasks.clone()), tasks);
}

fn an_empty_description_of_a_task_stays_empty(store: &Store) {
    let described = Task { desc: "x".to_owned(), ..task(JobNo(1), 1, DeviceNo(1), TaskStatus::Queued) };
    assert_eq!(stored(store, vec![described.clone()]), std::slice::from_ref(&described));
    let cleared = Task { desc: String::new(), revision: 1, ..described };
    let change = [(0, cleared.clone())];
    write(store, move |tx| tx.tasks_apply(&change));
    assert_eq!(write(store, |tx| tx.tasks_open(&[DeviceNo(1)])), [cleared]);
}

fn every_text_but_u0000_survives(store: &Store) {
    let tasks: Vec<Task> = TEXTS
        .into_iter()
        .zip(1..)
        .map(|(text, n)| Task {
            src_version: Some(text.to_owned()),
            desc: text.to_owned(),
            ..task(JobNo(1), n, DeviceNo(1), TaskStatus::Queued)
        })
        .collect();
    assert_eq!(stored(store, tasks.clone()), tasks);
    for text in TEXTS {
        let no = write(store, move |tx| tx.account_ensure(text, NOW));
        assert_eq!(read(store, move |tx| tx.account_find(text)), Some(no), "{text:?}");
    }
}

fn texts_compare_by_their_bytes(store: &Store) {
    let names = ["a", "A", "a ", "\u{e9}", "e\u{301}", "ss", "\u{df}"];
    let accounts = names.map(|name| write(store, move |tx| tx.account_ensure(name, NOW)));
    for (name, account) in names.into_iter().zip(accounts) {
        assert_eq!(read(store, move |tx| tx.account_find(name)), Some(account), "{name:?}");
    }
}

fn the_ends_of_the_integers_survive(store: &Store) {
    let tasks: Vec<Task> = [i64::MIN, -1, 0, i64::from(i32::MAX) + 1, i64::MAX]
        .into_iter()
        .zip(1..)
        .map(|(value, n)| Task {
            progress: value,
            slot_at: Some(Timestamp(value)),
            revision: value,
            created_at: Timestamp(value),
            ..task(JobNo(i64::MAX), n, DeviceNo(i64::MIN), TaskStatus::Queued)
        })
        .collect();
    assert_eq!(stored(store, tasks.clone()), tasks);
}

fn blobs_keep_every_byte(store: &Store) {
    let account = write(store, |tx| tx.account_ensure("owner", NOW));
    let every_byte: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    for secret_sealed in [Vec::new(), vec![0], vec![0; 33], every_byte] {
        let key = AccessKey { id: "id".to_owned(), account, ram_user: None, secret_sealed, enabled: false };
        let put = key.clone();
        write(store, move |tx| tx.access_key_put(&put, NOW));
        assert_eq!(read(store, |tx| tx.access_key_find("id")), Some(key));
    }
}

/// The tasks as they come back.
fn stored(store: &Store, tasks: Vec<Task>) -> Vec<Task> {
    write(store, move |tx| {
        tx.tasks_insert(&tasks)?;
        tx.tasks_load(&tasks.iter().map(|task| task.no).collect::<Vec<_>>())
    })
}
