//! Batches that are changed while they run.

use crate::harness::cases;
use crate::help::{NOW, read, write};
use crate::shop::{Shop, insert, queued, task};
use updraft_core::id::TaskNo;
use updraft_core::job::{JobStatus, Tag};
use updraft_core::pace::Pace;
use updraft_core::task::TaskStatus;
use updraft_core::time::Timestamp;
use updraft_store::{FormerTerms, Job, JobUpdate, Store};

cases! {
    Store:
        a_change_comes_back_and_earlier_tasks_keep_their_terms,
        a_batch_whose_rate_changed_is_found_until_its_slots_are_given_anew,
        running_batches_are_found_whose_slots_lie_far_ahead;
}

fn update(job: &Job, repace: bool) -> JobUpdate {
    JobUpdate {
        per_minute: 30,
        pace: Pace { next_us: 77 },
        repace,
        timeout_minutes: Some(20),
        src_versions: vec!["1.1".to_owned(), "'1.2\"".to_owned()],
        tags: vec![Tag { key: "k2".to_owned(), value: "夏 \"x\"".to_owned() }],
        former: vec![
            FormerTerms { upto: 2, timeout_minutes: None, src_versions: vec!["0.9".to_owned()] },
            FormerTerms { upto: 5, timeout_minutes: Some(7), src_versions: job.src_versions.clone() },
        ],
    }
}

fn a_change_comes_back_and_earlier_tasks_keep_their_terms(store: &Store) {
    let shop = Shop::open(store);
    let firmware = shop.firmware(store, "package");
    let no = shop.job(store, firmware, "batch");
    let before = read(store, move |tx| tx.jobs_load(&[no])).remove(0);
    let (wanted, later) = (update(&before, false), Timestamp(NOW.0 + 5));
    let change = wanted.clone();
    write(store, move |tx| tx.job_update(no, &change, later));
    let after = read(store, move |tx| tx.jobs_load(&[no])).remove(0);
    let expected = Job {
        per_minute: Some(30),
        pace: wanted.pace,
        timeout_minutes: Some(20),
        src_versions: wanted.src_versions,
        tags: wanted.tags,
        former: wanted.former,
        modified_at: later,
        ..before
    };
    assert_eq!(after, expected);
    let timeouts = [1, 2, 3, 5, 6].map(|ordinal| after.timeout_minutes_of(ordinal));
    assert_eq!(timeouts, [None, None, Some(7), Some(7), Some(20)]);
    let package = read(store, move |tx| tx.firmwares_load(&[firmware])).remove(0);
    assert_eq!(package.sources_of(&after, 2), ["0.9"]);
    assert!(package.sources_of(&after, 3).is_empty());
    assert_eq!(package.sources_of(&after, 6), package.sources(&after));
}

fn running_batches_are_found_whose_slots_lie_far_ahead(store: &Store) {
    let shop = Shop::open(store);
    let (no, _) = shop.batch(store, 3);
    let (soon, late) = (NOW.plus_ms(1_000), NOW.plus_ms(1_001));
    write(store, move |tx| tx.job_pace_set(no, Pace { next_us: late.0 * 1_000 }));
    assert_eq!(read(store, move |tx| tx.jobs_paced_beyond(soon)), [no]);
    assert!(read(store, move |tx| tx.jobs_paced_beyond(late)).is_empty());
    for status in [JobStatus::Planned, JobStatus::Completed, JobStatus::Canceled] {
        write(store, move |tx| tx.job_open(no, status, None, NOW));
        assert!(read(store, move |tx| tx.jobs_paced_beyond(soon)).is_empty(), "{status:?}");
    }
}

fn a_batch_whose_rate_changed_is_found_until_its_slots_are_given_anew(store: &Store) {
    let shop = Shop::open(store);
    let (no, devices) = shop.batch(store, 3);
    let late = shop.job(store, shop.firmware(store, "other"), "other");
    insert(store, queued(late, &devices));
    insert(store, vec![task(no, 4, devices[0], TaskStatus::Failed)]);
    let before = read(store, move |tx| tx.jobs_load(&[no])).remove(0);
    assert!(!before.slot_is_void(1));
    let change = update(&before, true);
    write(store, move |tx| tx.job_update(no, &change, NOW));
    assert_eq!(read(store, move |tx| tx.jobs_repacing(9)), [no]);
    let waiting = |after| read(store, move |tx| tx.tasks_queued_after(no, after, 2));
    let tasks = |from: i64| [from, from + 1].map(|ordinal| TaskNo { job: no, ordinal });
    assert_eq!(waiting(0), tasks(1));
    assert_eq!(waiting(2), [TaskNo { job: no, ordinal: 3 }]);
    write(store, move |tx| tx.job_repace_set(no, Some(2)));
    let half = read(store, move |tx| tx.jobs_load(&[no])).remove(0);
    assert!(!half.slot_is_void(2) && half.slot_is_void(3));
    write(store, move |tx| tx.job_repace_set(no, None));
    assert!(read(store, move |tx| tx.jobs_repacing(9)).is_empty());
}
