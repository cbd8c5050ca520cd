//! The tasks of batches.

use crate::engine::Engine;
use crate::harness::cases;
use crate::help::{NOW, read, try_write, write};
use crate::shop::{Shop, insert, queued, task};
use std::time::{Duration, Instant};
use updraft_core::id::{DeviceNo, JobNo, TaskNo};
use updraft_core::page::Page;
use updraft_core::task::{Task, TaskStatus};
use updraft_core::time::Timestamp;
use updraft_store::{ListedTask, Store, StoreError, TaskFilter, Tx};

cases! {
    Store:
        a_task_comes_back_as_it_was_inserted,
        many_tasks_come_back_as_they_were_inserted,
        unknown_tasks_are_left_out,
        a_task_is_inserted_once,
        applied_changes_come_back,
        a_stale_revision_is_a_conflict_and_rolls_the_whole_write_back,
        one_stale_task_spoils_its_set,
        a_missing_task_is_a_conflict,
        only_unfinished_tasks_are_open,
        open_tasks_of_one_device_come_in_order,
        due_tasks_come_earliest_first,
        every_deadline_of_a_task_makes_it_due,
        open_tasks_are_listed_with_their_batch_and_package,
        the_next_due_time_is_the_earliest,
        tasks_by_status_come_in_order,
        unfiltered_pages_cover_each_task_once,
        pages_filtered_by_status_cover_each_match_once,
        lists_show_the_devices_names,
        tasks_of_named_devices_are_listed,
        ten_thousand_tasks_go_in_as_one_set;
    OnlyPostgres:
        a_table_that_was_empty_a_moment_ago_is_read_by_its_indexes;
}

const LATER: Timestamp = Timestamp(NOW.0 + 1);

fn load(store: &Store, job: JobNo, ordinal: i64) -> Task {
    read_all(store, vec![TaskNo { job, ordinal }]).pop().expect("the task exists")
}

/// Loads tasks as the engine does: in a write, where they are locked until the decision is stored.
fn read_all(store: &Store, numbers: Vec<TaskNo>) -> Vec<Task> {
    write(store, move |tx| tx.tasks_load(&numbers))
}

fn open(store: &Store, devices: &[DeviceNo]) -> Vec<Task> {
    let devices = devices.to_vec();
    let mut tasks = write(store, move |tx| tx.tasks_open(&devices));
    tasks.sort_by_key(|task| task.no);
    tasks
}

fn apply(store: &Store, changed: Vec<(i64, Task)>) -> Result<(), StoreError> {
    try_write(store, move |tx| tx.tasks_apply(&changed))
}

fn ordinals<'a>(tasks: impl IntoIterator<Item = &'a Task>) -> Vec<i64> {
    tasks.into_iter().map(|task| task.no.ordinal).collect()
}

fn listed_ordinals(tasks: &[ListedTask]) -> Vec<i64> {
    ordinals(tasks.iter().map(|listed| &listed.task))
}

/// A task with every field set.
fn full(job: JobNo, ordinal: i64, device: DeviceNo) -> Task {
    Task {
        src_version: Some("1.0 '\"路".to_owned()),
        progress: 100,
        desc: "why 'it' \"failed\" 🔥".to_owned(),
        retry_at: Some(Timestamp(i64::MAX - 1)),
        timeout_at: Some(Timestamp(i64::MAX)),
        retries: 5,
        working: true,
        confirmed: true,
        told_at: Some(Timestamp(i64::MAX - 2)),
        hold_until: Some(Timestamp(i64::MAX - 3)),
        revision: i64::MAX,
        modified_at: LATER,
        ..task(job, ordinal, device, TaskStatus::Failed)
    }
}

fn changed(before: &Task, status: TaskStatus, due_at: Option<i64>) -> (i64, Task) {
    let due_at = due_at.map(Timestamp);
    let queued = status == TaskStatus::Queued;
    let after = Task {
        status,
        slot_at: due_at.filter(|_| queued),
        timeout_at: due_at.filter(|_| !queued),
        revision: before.revision + 1,
        modified_at: LATER,
        ..before.clone()
    };
    (before.revision, after)
}

fn a_task_comes_back_as_it_was_inserted(store: &Store) {
    let plain = task(JobNo(1), 1, DeviceNo(1), TaskStatus::Confirm);
    let rich = full(JobNo(1), 2, DeviceNo(i64::MAX));
    let empty =
        Task { src_version: Some(String::new()), ..task(JobNo(2), 1, DeviceNo(3), TaskStatus::Queued) };
    insert(store, vec![plain.clone(), rich.clone(), empty.clone()]);
    let found = read_all(store, [&plain, &rich, &empty].map(|task| task.no).to_vec());
    assert_eq!(found, [plain, rich, empty]);
}

/// PostgreSQL is given many at a time in another way.
fn many_tasks_come_back_as_they_were_inserted(store: &Store) {
    let tasks: Vec<Task> = (1..=250)
        .map(|n| match n % 3 {
            0 => task(JobNo(1), n, DeviceNo(n), TaskStatus::Confirm),
            1 => full(JobNo(1), n, DeviceNo(i64::MAX - n)),
            _ => Task {
                src_version: Some(String::new()),
                ..task(JobNo(1), n, DeviceNo(n), TaskStatus::Queued)
            },
        })
        .collect();
    insert(store, tasks.clone());
    assert_eq!(read_all(store, tasks.iter().map(|task| task.no).collect()), tasks);
}

fn unknown_tasks_are_left_out(store: &Store) {
    insert(store, queued(JobNo(1), &[DeviceNo(1)]));
    let asked = [(1, 1), (1, 2), (2, 1)].map(|(job, ordinal)| TaskNo { job: JobNo(job), ordinal });
    assert_eq!(ordinals(&read_all(store, asked.to_vec())), [1]);
    assert_eq!(read_all(store, vec![]), []);
    insert(store, vec![]);
    assert_eq!(open(store, &[]), []);
}

fn a_task_is_inserted_once(store: &Store) {
    let first = queued(JobNo(1), &[DeviceNo(1)]);
    insert(store, first.clone());
    let again = queued(JobNo(1), &[DeviceNo(8), DeviceNo(9)]);
    assert!(try_write(store, move |tx| tx.tasks_insert(&again)).is_err());
    assert_eq!(open(store, &[DeviceNo(1), DeviceNo(8), DeviceNo(9)]), first);
    let devices: Vec<DeviceNo> = (2..=300).map(DeviceNo).collect();
    let many = queued(JobNo(1), &devices);
    assert!(try_write(store, move |tx| tx.tasks_insert(&many)).is_err());
    assert_eq!(open(store, &devices), []);
    insert(store, queued(JobNo(2), &devices));
    assert_eq!(open(store, &devices).len(), 299, "the connection works on");
}

fn applied_changes_come_back(store: &Store) {
    let job = JobNo(1);
    let before = queued(job, &[DeviceNo(1), DeviceNo(2), DeviceNo(3)]);
    insert(store, before.clone());
    let rich = Task { created_at: NOW, ..full(job, 1, DeviceNo(1)) };
    let slot = changed(&before[1], TaskStatus::Queued, Some(5));
    apply(store, vec![(0, rich.clone()), slot.clone()]).expect("the revisions fit");
    assert_eq!(load(store, job, 1), rich);
    assert_eq!(load(store, job, 2), slot.1);
    assert_eq!(load(store, job, 3), before[2]);

    // What was set becomes empty again.
    let pushed = changed(&slot.1, TaskStatus::Notified, None);
    apply(store, vec![pushed.clone()]).expect("the revision fits");
    assert_eq!(load(store, job, 2), pushed.1);
    apply(store, vec![]).expect("nothing fits always");
}

fn a_stale_revision_is_a_conflict_and_rolls_the_whole_write_back(store: &Store) {
    let job = JobNo(1);
    let before = queued(job, &[DeviceNo(1), DeviceNo(2)]);
    insert(store, before.clone());
    let first = changed(&before[0], TaskStatus::Notified, None);
    apply(store, vec![first.clone()]).expect("the revision fits");

    let stale = changed(&before[0], TaskStatus::Canceled, None);
    let innocent = changed(&before[1], TaskStatus::Canceled, None);
    let refused = try_write(store, move |tx| {
        tx.account_ensure("trace", NOW)?;
        tx.tasks_apply(std::slice::from_ref(&innocent))?;
        tx.tasks_apply(std::slice::from_ref(&stale))
    });
    assert!(matches!(refused, Err(StoreError::Conflict(_))), "{refused:?}");
    assert_eq!(load(store, job, 1), first.1);
    assert_eq!(load(store, job, 2), before[1]);
    assert_eq!(read(store, |tx| tx.account_find("trace")), None);
}

fn one_stale_task_spoils_its_set(store: &Store) {
    let before = queued(JobNo(1), &[DeviceNo(1), DeviceNo(2), DeviceNo(3)]);
    insert(store, before.clone());
    let mut set: Vec<(i64, Task)> =
        before.iter().map(|task| changed(task, TaskStatus::Canceled, None)).collect();
    set[1].0 = 7;
    let refused = apply(store, set);
    assert!(matches!(refused, Err(StoreError::Conflict(_))), "{refused:?}");
    assert_eq!(open(store, &[DeviceNo(1), DeviceNo(2), DeviceNo(3)]), before);
}

fn a_missing_task_is_a_conflict(store: &Store) {
    let ghost = task(JobNo(1), 1, DeviceNo(1), TaskStatus::Queued);
    let refused = apply(store, vec![changed(&ghost, TaskStatus::Canceled, None)]);
    assert!(matches!(refused, Err(StoreError::Conflict(_))), "{refused:?}");
}

fn only_unfinished_tasks_are_open(store: &Store) {
    let device = DeviceNo(1);
    let tasks: Vec<Task> = TaskStatus::ALL
        .into_iter()
        .zip(1..)
        .map(|(status, ordinal)| task(JobNo(1), ordinal, device, status))
        .collect();
    insert(store, tasks.clone());
    insert(store, queued(JobNo(2), &[DeviceNo(2)]));
    let expected: Vec<Task> = tasks.into_iter().filter(|task| task.status.is_open()).collect();
    assert_eq!(open(store, &[device]), expected);
    assert_eq!(open(store, &[DeviceNo(3)]), []);
    assert_eq!(open(store, &[device, DeviceNo(2), DeviceNo(3)]).len(), expected.len() + 1);
}

fn open_tasks_of_one_device_come_in_order(store: &Store) {
    let device = DeviceNo(1);
    for job in [3, 1, 2] {
        insert(store, queued(JobNo(job), &[device]));
    }
    let found = write(store, move |tx| tx.tasks_open(&[device]));
    assert_eq!(found.iter().map(|task| task.no.job.0).collect::<Vec<_>>(), [1, 2, 3]);
}

fn every_deadline_of_a_task_makes_it_due(store: &Store) {
    let at = |ms| Some(Timestamp(ms));
    let plain = |ordinal, status| task(JobNo(1), ordinal, DeviceNo(ordinal), status);
    let slot = Task { slot_at: at(10), ..plain(1, TaskStatus::Queued) };
    let timeout = Task { timeout_at: at(20), ..plain(2, TaskStatus::InProgress) };
    let retry = Task { retry_at: at(30), timeout_at: at(90), ..plain(3, TaskStatus::InProgress) };
    let retry_first = Task { retry_at: at(40), ..plain(4, TaskStatus::Notified) };
    let held = Task { told_at: at(1), hold_until: at(50), ..plain(5, TaskStatus::Queued) };
    insert(store, vec![slot.clone(), timeout, retry, retry_first, held.clone()]);
    assert_eq!(load(store, JobNo(1), 5), held, "a wait is no slot");
    let due = |now| {
        let found = read(store, move |tx| tx.tasks_due(Timestamp(now), 9));
        found.into_iter().map(|no| no.ordinal).collect::<Vec<_>>()
    };
    assert_eq!([due(9), due(29), due(49)], [vec![], vec![1, 2], vec![1, 2, 3, 4]]);
    assert_eq!(due(50), [1, 2, 3, 4, 5]);
    let after = Task { slot_at: None, status: TaskStatus::Notified, revision: 1, ..slot };
    write(store, move |tx| tx.tasks_apply(&[(0, after.clone())]));
    assert_eq!(due(9), Vec::<i64>::new());
    assert_eq!(due(40), [2, 3, 4]);
}

fn open_tasks_are_listed_with_their_batch_and_package(store: &Store) {
    let shop = Shop::open(store);
    let (job, devices) = shop.batch(store, 2);
    let device = devices[1];
    let found = read(store, move |tx| tx.task_list_open(device));
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].task, task(job, 2, device, TaskStatus::Queued));
    let names = [&found[0].job_id, &found[0].firmware_id, &found[0].module, &found[0].dest_version];
    assert_eq!(names, ["batch", "id of package", "default", "2.0.0"]);
    let ended = Task { status: TaskStatus::Failed, revision: 1, ..found[0].task.clone() };
    write(store, move |tx| tx.tasks_apply(&[(0, ended.clone())]));
    assert_eq!(read(store, move |tx| tx.task_list_open(device)), []);
}

fn due_tasks_come_earliest_first(store: &Store) {
    let due = |job: i64, ordinal, at: i64| Task {
        slot_at: Some(Timestamp(at)),
        ..task(JobNo(job), ordinal, DeviceNo(ordinal), TaskStatus::Queued)
    };
    let never = task(JobNo(1), 9, DeviceNo(9), TaskStatus::Queued);
    insert(store, vec![due(1, 1, 30), due(2, 1, 20), due(1, 2, 20), due(1, 3, 31), due(1, 4, 10), never]);
    let due = |now, limit| -> Vec<(i64, i64)> {
        read(store, move |tx| tx.tasks_due(Timestamp(now), limit))
            .into_iter()
            .map(|no| (no.job.0, no.ordinal))
            .collect()
    };
    assert_eq!(due(30, 100), [(1, 4), (1, 2), (2, 1), (1, 1)]);
    assert_eq!(due(30, 2), [(1, 4), (1, 2)]);
    assert_eq!(due(9, 100), []);
}

fn next_due(store: &Store) -> Option<Timestamp> {
    read(store, |tx| tx.task_next_due())
}

fn the_next_due_time_is_the_earliest(store: &Store) {
    assert_eq!(next_due(store), None);
    let before = queued(JobNo(1), &[DeviceNo(1), DeviceNo(2)]);
    insert(store, before.clone());
    assert_eq!(next_due(store), None);
    let slots =
        [50, 40].into_iter().zip(&before).map(|(at, task)| changed(task, TaskStatus::Queued, Some(at)));
    let slots: Vec<(i64, Task)> = slots.collect();
    apply(store, slots.clone()).expect("the revisions fit");
    assert_eq!(next_due(store), Some(Timestamp(40)));
    apply(store, vec![changed(&slots[1].1, TaskStatus::Notified, None)]).expect("the revision fits");
    assert_eq!(next_due(store), Some(Timestamp(50)));
}

fn tasks_by_status_come_in_order(store: &Store) {
    let statuses = [TaskStatus::Queued, TaskStatus::Failed, TaskStatus::Queued, TaskStatus::Queued];
    let tasks =
        statuses.into_iter().zip(1..).map(|(status, n)| task(JobNo(1), n, DeviceNo(n), status)).collect();
    insert(store, tasks);
    insert(store, queued(JobNo(2), &[DeviceNo(1)]));
    let of =
        |status, limit| -> Vec<TaskNo> { read(store, move |tx| tx.tasks_by_status(JobNo(1), status, limit)) };
    let numbers = |ordinals: &[i64]| -> Vec<TaskNo> {
        ordinals.iter().map(|ordinal| TaskNo { job: JobNo(1), ordinal: *ordinal }).collect()
    };
    assert_eq!(of(TaskStatus::Queued, 10), numbers(&[1, 3, 4]));
    assert_eq!(of(TaskStatus::Queued, 2), numbers(&[1, 3]));
    assert_eq!(of(TaskStatus::Failed, 10), numbers(&[2]));
    assert_eq!(of(TaskStatus::Canceled, 10), []);
}

fn list(store: &Store, job: JobNo, filter: &TaskFilter, number: i64, total: i64) -> Vec<ListedTask> {
    let (filter, page) = (filter.clone(), Page::new(number, 3, 100).expect("the page is in range"));
    read(store, move |tx| tx.task_list_by_job(job, &filter, page, total))
}

fn unfiltered_pages_cover_each_task_once(store: &Store) {
    let (job, _) = Shop::open(store).batch(store, 7);
    let page = |number| listed_ordinals(&list(store, job, &TaskFilter::All, number, 7));
    assert_eq!(page(1), [1, 2, 3]);
    assert_eq!(page(2), [4, 5, 6]);
    assert_eq!(page(3), [7]);
    assert_eq!(page(4), [0_i64; 0]);
}

fn pages_filtered_by_status_cover_each_match_once(store: &Store) {
    let (job, devices) = Shop::open(store).batch(store, 9);
    let failed = queued(job, &devices)
        .iter()
        .filter(|task| task.no.ordinal % 2 == 0)
        .map(|task| changed(task, TaskStatus::Failed, None))
        .collect();
    apply(store, failed).expect("the revisions fit");
    let page = |status, number, total| {
        listed_ordinals(&list(store, job, &TaskFilter::Status(status), number, total))
    };
    assert_eq!(page(TaskStatus::Queued, 1, 5), [1, 3, 5]);
    assert_eq!(page(TaskStatus::Queued, 2, 5), [7, 9]);
    assert_eq!(page(TaskStatus::Queued, 3, 5), [0_i64; 0]);
    assert_eq!(page(TaskStatus::Failed, 1, 4), [2, 4, 6]);
    assert_eq!(page(TaskStatus::Failed, 2, 4), [8]);
    assert_eq!(page(TaskStatus::Canceled, 1, 0), [0_i64; 0]);
}

fn lists_show_the_devices_names(store: &Store) {
    let (job, devices) = Shop::open(store).batch(store, 2);
    let by_page = list(store, job, &TaskFilter::All, 1, 2);
    assert_eq!(by_page.iter().map(|listed| listed.task.clone()).collect::<Vec<_>>(), queued(job, &devices));
    assert_eq!(by_page[1].device_name, "dev2");
    assert!(by_page[1].iot_id.ends_with("-dev2"));
    assert_eq!(list(store, job, &TaskFilter::Status(TaskStatus::Queued), 1, 2), by_page);
    assert_eq!(read(store, move |tx| tx.task_list_by_devices(job, &devices)), by_page);
}

fn tasks_of_named_devices_are_listed(store: &Store) {
    let shop = Shop::open(store);
    let (job, devices) = shop.batch(store, 4);
    let firmware = shop.firmware(store, "other package");
    insert(store, queued(shop.job(store, firmware, "other"), &devices));
    let asked = [devices[3], DeviceNo(i64::MAX), devices[1]];
    let mut found = read(store, move |tx| tx.task_list_by_devices(job, &asked));
    found.sort_by_key(|listed| listed.task.no);
    assert_eq!(listed_ordinals(&found), [2, 4]);
    assert!(found.iter().all(|listed| listed.task.no.job == job));
    assert_eq!(read(store, move |tx| tx.task_list_by_devices(job, &[])), []);
}

fn ten_thousand_tasks_go_in_as_one_set(store: &Store) {
    let job = JobNo(1);
    let devices: Vec<DeviceNo> = (1..=10_000).map(DeviceNo).collect();
    let before = queued(job, &devices);
    insert(store, before.clone());
    let set = before.iter().map(|task| changed(task, TaskStatus::Canceled, None)).collect();
    apply(store, set).expect("the revisions fit");
    let counts = read(store, move |tx| tx.counts_from_rows(job));
    assert_eq!((counts.total(), counts.of(TaskStatus::Canceled)), (10_000, 10_000));
}

/// PostgreSQL plans for an empty table until it has looked at it again; a batch fills one within seconds.
fn a_table_that_was_empty_a_moment_ago_is_read_by_its_indexes(engine: &Engine) {
    let mut outside = engine.outside();
    let store = engine.open();
    let shop = Shop::open(&store);
    let firmware = shop.firmware(&store, "package");
    let job = shop.job(&store, firmware, "batch");
    let devices = shop.devices(&store, 100);
    outside.execute("VACUUM task");
    let mut scans = |kind: &str| {
        outside.number(&format!("SELECT {kind} FROM pg_stat_user_tables WHERE relname = 'task'"))
    };
    let begun = scans("seq_scan");
    let candidates = move |tx: &mut Tx<'_>| {
        tx.candidates_of_product(shop.product, "default", DeviceNo(0), DeviceNo(i64::MAX), 100)
    };
    assert_eq!(write(&store, candidates).len(), 100);
    insert(&store, queued(job, &devices));
    assert!(write(&store, candidates).iter().all(|candidate| candidate.busy));
    drop(store);
    // What a session did is told all at once, at its end.
    let ended = Instant::now();
    while scans("seq_scan + idx_scan") < begun + 200 {
        assert!(ended.elapsed() < Duration::from_secs(30), "it was not told what the session did");
    }
    assert_eq!(scans("seq_scan"), begun);
}
