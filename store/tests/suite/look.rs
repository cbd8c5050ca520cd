//! What checks of the whole look at.

use crate::harness::cases;
use crate::help::{NOW, read, write};
use crate::shop::{Shop, queued};
use updraft_core::id::{FirmwareNo, JobNo};
use updraft_core::task::TaskStatus;
use updraft_store::{Location, Store, TaskMark};

cases! {
    Store:
        everything_is_seen_in_one_go,
        a_mark_tells_that_a_task_changed,
        a_mark_tells_that_packages_changed,
        barred_devices_are_told_from_deleted_ones,
        only_a_database_in_memory_counts_what_is_written;
}

fn everything_is_seen_in_one_go(store: &Store) {
    let shop = Shop::open(store);
    let (one, two) = (shop.firmware(store, "one"), shop.firmware(store, "two"));
    let jobs = [shop.job(store, two, "a"), shop.job(store, one, "b")];
    write(store, move |tx| tx.firmware_delete(one, NOW).map(drop));
    let found: Vec<FirmwareNo> =
        read(store, |tx| tx.firmwares_all()).into_iter().map(|package| package.no).collect();
    assert_eq!(found, [one, two]);
    let found: Vec<JobNo> = read(store, |tx| tx.jobs_all()).into_iter().map(|job| job.no).collect();
    assert_eq!(found, jobs);
    let (all, some) = read(store, move |tx| Ok((tx.counts_all()?, tx.counts_load(&jobs)?)));
    assert_eq!(all, some);
}

fn a_mark_tells_that_a_task_changed(store: &Store) {
    let shop = Shop::open(store);
    let (job, devices) = shop.batch(store, 2);
    let mark = |ordinal, status, revision| TaskMark { ordinal, status, revision };
    let before = read(store, move |tx| tx.task_marks(job));
    assert_eq!(before, [mark(1, TaskStatus::Queued, 0), mark(2, TaskStatus::Queued, 0)]);
    let mut task = queued(job, &devices).remove(1);
    (task.status, task.revision) = (TaskStatus::Notified, 1);
    write(store, move |tx| tx.tasks_apply(&[(0, task.clone())]));
    let after = read(store, move |tx| tx.task_marks(job));
    assert_eq!(after, [mark(1, TaskStatus::Queued, 0), mark(2, TaskStatus::Notified, 1)]);
    assert_eq!(read(store, move |tx| tx.task_marks(JobNo(job.0 + 1))), []);
}

fn a_mark_tells_that_packages_changed(store: &Store) {
    let shop = Shop::open(store);
    let mark = || read(store, |tx| tx.firmwares_mark());
    let none = mark();
    let firmware = shop.firmware(store, "one");
    let one = mark();
    assert_eq!(mark(), one);
    shop.job(store, firmware, "a");
    let rolled_out = mark();
    write(store, move |tx| tx.firmware_delete(firmware, NOW).map(drop));
    let all = [none, one, rolled_out, mark()];
    assert!(all.iter().zip(&all[1..]).all(|(before, after)| before != after), "{all:?}");
}

fn barred_devices_are_told_from_deleted_ones(store: &Store) {
    let shop = Shop::open(store);
    let devices = shop.devices(store, 3);
    let (disabled, deleted) = (devices[1], devices[2]);
    write(store, move |tx| {
        tx.device_disable(disabled, NOW)?;
        tx.device_delete(shop.product, deleted, NOW)
    });
    assert_eq!(read(store, |tx| tx.devices_barred_all()), [(disabled, false), (deleted, true)]);
}

fn only_a_database_in_memory_counts_what_is_written(store: &Store) {
    assert_eq!(store.rows_written(), None);
    let memory = Store::open(&Location::Inline).unwrap();
    let before = memory.rows_written();
    assert_eq!(read(&memory, |tx| tx.jobs_all()), []);
    assert_eq!(memory.rows_written(), before);
    Shop::open(&memory);
    assert!(memory.rows_written() > before);
}
