//! Counts of a batch's tasks.

use crate::harness::cases;
use crate::help::{read, try_write, write};
use crate::shop::{Shop, insert, task};
use std::collections::BTreeMap;
use updraft_core::id::JobNo;
use updraft_core::job::Counts;
use updraft_core::task::TaskStatus;
use updraft_store::{Store, StoreError};

cases! {
    Store:
        a_batch_without_tasks_has_no_counts,
        counts_add_up_over_sets,
        a_negative_delta_takes_away,
        a_zero_delta_makes_no_row,
        a_rolled_back_write_leaves_the_counts,
        kept_counts_equal_the_rows;
}

const A: JobNo = JobNo(1);
const B: JobNo = JobNo(2);

fn add(store: &Store, deltas: &[(JobNo, TaskStatus, i64)]) {
    let deltas: BTreeMap<_, _> = deltas.iter().map(|(job, status, n)| ((*job, *status), *n)).collect();
    write(store, move |tx| tx.counts_add(&deltas));
}

fn load(store: &Store, jobs: &'static [JobNo]) -> BTreeMap<JobNo, Counts> {
    read(store, move |tx| tx.counts_load(jobs))
}

fn counts(list: &[(TaskStatus, i64)]) -> Counts {
    let mut counts = Counts::default();
    for (status, n) in list {
        counts.add(*status, *n);
    }
    counts
}

fn a_batch_without_tasks_has_no_counts(store: &Store) {
    add(store, &[(A, TaskStatus::Queued, 1)]);
    assert_eq!(load(store, &[B]), BTreeMap::new());
    assert_eq!(load(store, &[]), BTreeMap::new());
    assert_eq!(read(store, |tx| tx.counts_from_rows(A)), Counts::default());
}

fn counts_add_up_over_sets(store: &Store) {
    add(store, &[(A, TaskStatus::Queued, 5), (A, TaskStatus::Failed, 1), (B, TaskStatus::Queued, 7)]);
    add(store, &[(A, TaskStatus::Queued, 2), (B, TaskStatus::Canceled, 1)]);
    let expected = BTreeMap::from([
        (A, counts(&[(TaskStatus::Queued, 7), (TaskStatus::Failed, 1)])),
        (B, counts(&[(TaskStatus::Queued, 7), (TaskStatus::Canceled, 1)])),
    ]);
    assert_eq!(load(store, &[B, JobNo(99), A]), expected);
}

fn a_negative_delta_takes_away(store: &Store) {
    add(store, &[(A, TaskStatus::Queued, 5)]);
    add(store, &[(A, TaskStatus::Queued, -3), (A, TaskStatus::Notified, 3)]);
    let expected = counts(&[(TaskStatus::Queued, 2), (TaskStatus::Notified, 3)]);
    assert_eq!(load(store, &[A])[&A], expected);
    add(store, &[(A, TaskStatus::Queued, -2), (A, TaskStatus::Succeeded, 2)]);
    let expected = counts(&[(TaskStatus::Notified, 3), (TaskStatus::Succeeded, 2)]);
    assert_eq!(load(store, &[A])[&A], expected);
}

fn a_zero_delta_makes_no_row(store: &Store) {
    add(store, &[(A, TaskStatus::Queued, 0)]);
    assert_eq!(load(store, &[A]), BTreeMap::new());
}

fn a_rolled_back_write_leaves_the_counts(store: &Store) {
    add(store, &[(A, TaskStatus::Queued, 5)]);
    let refused = try_write(store, |tx| {
        tx.counts_add(&BTreeMap::from([((A, TaskStatus::Queued), 100), ((B, TaskStatus::Queued), 1)]))?;
        Err::<(), _>(StoreError::Conflict("nothing may stand"))
    });
    assert!(refused.is_err());
    assert_eq!(load(store, &[A, B]), BTreeMap::from([(A, counts(&[(TaskStatus::Queued, 5)]))]));
}

fn kept_counts_equal_the_rows(store: &Store) {
    let shop = Shop::open(store);
    let firmware = shop.firmware(store, "package");
    let (job, other) = (shop.job(store, firmware, "batch"), shop.job(store, firmware, "other"));
    let devices = shop.devices(store, 3);
    let mut deltas: BTreeMap<(JobNo, TaskStatus), i64> = BTreeMap::new();
    let mut tasks = Vec::new();
    for (status, ordinal) in TaskStatus::ALL.into_iter().cycle().zip(1..=17) {
        tasks.push(task(job, ordinal, devices[ordinal as usize % 3], status));
        *deltas.entry((job, status)).or_default() += 1;
    }
    tasks.push(task(other, 1, devices[0], TaskStatus::Confirm));
    insert(store, tasks);
    write(store, move |tx| tx.counts_add(&deltas));
    let (kept, counted) = read(store, move |tx| Ok((tx.counts_load(&[job])?, tx.counts_from_rows(job)?)));
    assert_eq!(kept[&job], counted);
    assert_eq!((counted.total(), counted.of(TaskStatus::Confirm)), (17, 3));
}
