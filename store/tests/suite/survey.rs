//! What plans ask.

use crate::harness::cases;
use crate::help::{NOW, read, write};
use crate::shop::{Shop, insert, task};
use updraft_core::history::{Line, What};
use updraft_core::id::{JobNo, TaskNo};
use updraft_core::task::{Task, TaskStatus};
use updraft_core::time::Timestamp;
use updraft_store::{NewFirmware, PastTask, StandingTask, Store};

cases! {
    Store:
        unfinished_tasks_are_found_with_their_modules,
        the_newest_batches_are_those_of_a_module_and_the_next_has_the_next_number,
        what_became_of_tasks_is_told_from_the_last_time_that_they_were;
}

/// Adds a package for a module, with a batch.
fn batch_for(store: &Store, shop: Shop, module: &str) -> JobNo {
    let name = format!("package for {module}");
    let new = shop.new_firmware(&name, shop.file(store, &name));
    let new = NewFirmware { module: module.to_owned(), ..new };
    let firmware = write(store, move |tx| tx.firmware_insert(&new, NOW)).expect("the name is free");
    shop.job(store, firmware, &format!("batch for {module}"))
}

fn unfinished_tasks_are_found_with_their_modules(store: &Store) {
    let shop = Shop::open(store);
    let (first, second) = (batch_for(store, shop, "default"), batch_for(store, shop, "radio"));
    let devices = shop.devices(store, 3);
    insert(
        store,
        vec![
            task(first, 1, devices[0], TaskStatus::Succeeded),
            task(first, 2, devices[1], TaskStatus::InProgress),
            task(second, 1, devices[1], TaskStatus::Confirm),
            task(second, 2, devices[2], TaskStatus::Queued),
        ],
    );
    let standing = |device: usize, job, module: &str, status| StandingTask {
        device: devices[device],
        job,
        module: module.to_owned(),
        status,
    };
    let expected = [
        standing(1, first, "default", TaskStatus::InProgress),
        standing(1, second, "radio", TaskStatus::Confirm),
        standing(2, second, "radio", TaskStatus::Queued),
    ];
    assert_eq!(read(store, move |tx| tx.tasks_standing(&devices)), expected);
}

fn the_newest_batches_are_those_of_a_module_and_the_next_has_the_next_number(store: &Store) {
    let shop = Shop::open(store);
    assert_eq!(read(store, |tx| tx.job_next()), JobNo(1));
    let (job, _) = shop.batch(store, 2);
    write(store, move |tx| tx.job_task_count_set(job, 2));
    let radio = batch_for(store, shop, "radio");
    let again = shop.firmware(store, "again");
    let again = shop.job(store, again, "batch again");
    let lately = |module, limit| read(store, move |tx| tx.jobs_lately(shop.product, module, limit));
    assert_eq!(lately("default", 9), [(again, 0), (job, 2)]);
    assert_eq!(lately("default", 1), [(again, 0)]);
    assert_eq!(lately("radio", 9), [(radio, 0)]);
    let other = shop.product(store, "other");
    assert_eq!(read(store, move |tx| tx.jobs_lately(other, "default", 9)), []);
    assert_eq!(read(store, |tx| tx.job_next()), JobNo(again.0 + 1));
}

fn what_became_of_tasks_is_told_from_the_last_time_that_they_were(store: &Store) {
    let shop = Shop::open(store);
    let firmware = shop.firmware(store, "package");
    let job = shop.job(store, firmware, "batch");
    let devices = shop.devices(store, 3);
    let ended = |ordinal: i64, at: i64, retries| Task {
        modified_at: Timestamp(at),
        retries,
        ..task(job, ordinal, devices[ordinal as usize - 1], TaskStatus::Succeeded)
    };
    insert(store, vec![ended(1, 900, 2), ended(2, 800, 0), task(job, 3, devices[2], TaskStatus::Notified)]);
    let line = |ordinal, at, from, to| Line {
        task: TaskNo { job, ordinal },
        revision: at,
        at: Timestamp(at),
        what: What::Pushed,
        from,
        to,
        detail: String::new(),
    };
    let (queued, notified) = (TaskStatus::Queued, TaskStatus::Notified);
    let lines = [
        line(1, 100, queued, notified),
        line(1, 200, notified, TaskStatus::Failed),
        line(1, 300, queued, notified),
        line(1, 900, TaskStatus::InProgress, TaskStatus::Succeeded),
        line(3, 50, queued, notified),
    ];
    write(store, move |tx| tx.task_history_add(&lines));
    let asked: Vec<TaskNo> = [1, 2, 3, 99].map(|ordinal| TaskNo { job, ordinal }).to_vec();
    let past = |status, retries, told_at: Option<i64>, changed_at| PastTask {
        status,
        retries,
        told_at: told_at.map(Timestamp),
        changed_at: Timestamp(changed_at),
    };
    let expected = [
        past(TaskStatus::Succeeded, 2, Some(300), 900),
        past(TaskStatus::Succeeded, 0, None, 800),
        past(notified, 0, Some(50), NOW.0),
    ];
    assert_eq!(read(store, move |tx| tx.tasks_past(&asked)), expected);
}
