//! What is asked to explain a device.

use crate::harness::cases;
use crate::help::{NOW, read, write};
use crate::shop::{Shop, insert, new_device, task};
use updraft_core::history::{Line, What};
use updraft_core::id::{DeviceNo, JobNo, TaskNo};
use updraft_core::job::JobStatus;
use updraft_core::task::TaskStatus;
use updraft_core::time::Timestamp;
use updraft_store::{DeviceRefusals, ReportedVersion, Store};

cases! {
    Store:
        what_a_device_said_in_vain_adds_up_and_is_forgotten_by_age,
        the_running_batches_of_a_product_come_newest_first,
        a_device_is_loaded_also_after_its_end,
        a_devices_tasks_versions_and_notes_are_found,
        the_last_line_of_a_history_is_the_one_that_was_written_last;
}

const DEVICE: DeviceNo = DeviceNo(7);

fn refusal(device: DeviceNo, why: &str, module: &str, count: i64, at: i64) -> DeviceRefusals {
    let (event, why, module) = ("progress".to_owned(), why.to_owned(), module.to_owned());
    DeviceRefusals { device, event, why, module, count, first_at: Timestamp(at), last_at: Timestamp(at) }
}

fn what_a_device_said_in_vain_adds_up_and_is_forgotten_by_age(store: &Store) {
    write(store, |tx| {
        tx.device_refusals_add(&[
            refusal(DEVICE, "a", "radio", 2, 10),
            refusal(DEVICE, "b", "radio", 1, 11),
            refusal(DeviceNo(8), "a", "radio", 9, 12),
        ])
    });
    write(store, |tx| tx.device_refusals_add(&[refusal(DEVICE, "a", "motor", 3, 20)]));
    let again = DeviceRefusals { first_at: Timestamp(10), ..refusal(DEVICE, "a", "motor", 5, 20) };
    let wanted = [again, refusal(DEVICE, "b", "radio", 1, 11)];
    assert_eq!(read(store, |tx| tx.device_refusals(DEVICE)), wanted);
    let overdue = |at| read(store, move |tx| tx.task_history_overdue(Timestamp(at), 100));
    let trim = |at, chunk| write(store, move |tx| tx.task_history_trim(Timestamp(at), 100, chunk));
    assert!(!overdue(11) && overdue(12));
    assert_eq!(trim(13, 1), 1, "one at a time");
    assert_eq!(trim(13, 9), 1);
    assert!(!overdue(13));
    assert_eq!(read(store, |tx| tx.device_refusals(DEVICE)).len(), 1);
}

fn the_running_batches_of_a_product_come_newest_first(store: &Store) {
    let shop = Shop::open(store);
    let firmware = shop.firmware(store, "package");
    let jobs: Vec<JobNo> = ["one", "two", "three", "four"].map(|id| shop.job(store, firmware, id)).to_vec();
    let ended = jobs[2];
    write(store, move |tx| tx.job_end(ended, JobStatus::Completed, NOW));
    let running = |limit| -> Vec<JobNo> {
        read(store, move |tx| tx.jobs_running(shop.product, limit)).iter().map(|job| job.no).collect()
    };
    assert_eq!(running(9), [jobs[3], jobs[1], jobs[0]]);
    assert_eq!(running(2), [jobs[3], jobs[1]]);
    let other = shop.product(store, "other");
    assert_eq!(read(store, move |tx| tx.jobs_running(other, 9)), []);
}

fn a_device_is_loaded_also_after_its_end(store: &Store) {
    let shop = Shop::open(store);
    let no = write(store, move |tx| tx.device_insert(&new_device(shop.product, "lamp"), NOW)).unwrap();
    let (device, deleted) = read(store, move |tx| tx.device_load(no)).unwrap();
    assert_eq!((device.name.as_str(), deleted), ("lamp", None));
    write(store, move |tx| tx.device_delete(shop.product, no, Timestamp(5)));
    let (device, deleted) = read(store, move |tx| tx.device_load(no)).unwrap();
    assert_eq!((device.no, deleted), (no, Some(Timestamp(5))));
    assert_eq!(read(store, |tx| tx.device_load(DeviceNo(99))), None);
}

fn a_devices_tasks_versions_and_notes_are_found(store: &Store) {
    let shop = Shop::open(store);
    let devices = shop.devices(store, 2);
    let (first, second) = (devices[0], devices[1]);
    let firmware = shop.firmware(store, "package");
    let jobs = ["one", "two", "three"].map(|id| shop.job(store, firmware, id));
    for job in jobs {
        insert(
            store,
            vec![task(job, 1, second, TaskStatus::Queued), task(job, 2, first, TaskStatus::Failed)],
        );
    }
    let asked = [jobs[0], jobs[2]];
    let found = read(store, move |tx| tx.tasks_of_device(first, &asked));
    let mut found: Vec<TaskNo> = found.iter().map(|listed| listed.task.no).collect();
    found.sort();
    assert_eq!(found, asked.map(|job| TaskNo { job, ordinal: 2 }));

    let report = |module: &str, version: &str| (first, module.to_owned(), version.to_owned());
    let reports = [report("radio", "7"), report("default", "1.0")];
    write(store, move |tx| tx.versions_put(&reports, Timestamp(5)));
    let version = |module: &str, version: &str| ReportedVersion {
        module: module.to_owned(),
        version: version.to_owned(),
        at: Timestamp(5),
    };
    let wanted = [version("default", "1.0"), version("radio", "7")];
    assert_eq!(read(store, move |tx| tx.versions_reported(first)), wanted);

    let job = jobs[0];
    write(store, move |tx| tx.job_targets_insert(job, &[first]));
    write(store, move |tx| tx.reviews_add(&[first]));
    for (device, is) in [(first, true), (second, false)] {
        assert_eq!(read(store, move |tx| tx.job_target_exists(job, device)), is);
        assert_eq!(read(store, move |tx| tx.review_exists(device)), is);
    }
}

fn the_last_line_of_a_history_is_the_one_that_was_written_last(store: &Store) {
    let no = TaskNo { job: JobNo(7), ordinal: 3 };
    let line = |task, revision, at| {
        let (from, to, at) = (TaskStatus::Queued, TaskStatus::Notified, Timestamp(at));
        Line { task, revision, at, what: What::Pushed, from, to, detail: String::new() }
    };
    assert_eq!(read(store, move |tx| tx.task_history_last(no)), None);
    // The clock may go back.
    let lines = [line(no, 1, 90), line(no, 2, 80), line(TaskNo { ordinal: 4, ..no }, 1, 99)];
    write(store, move |tx| tx.task_history_add(&lines));
    assert_eq!(read(store, move |tx| tx.task_history_last(no)), Some(line(no, 2, 80)));
}
