//! Update batches.

use crate::harness::cases;
use crate::help::{NOW, read, try_glance, try_write, write};
use crate::shop::Shop;
use updraft_core::id::{DeviceNo, FirmwareNo, GroupNo, InstanceNo, JobNo};
use updraft_core::job::{
    Conduct, DownloadProtocol, DynamicMode, JobStatus, JobType, OverwriteMode, Schedule, Tag, TargetSelection,
};
use updraft_core::pace::Pace;
use updraft_core::page::Page;
use updraft_core::target::GrayPercent;
use updraft_core::task::Cancel;
use updraft_core::time::Timestamp;
use updraft_store::{FirmwareJobs, Job, ListedJob, NewJob, RetryRule, Store, StoreError};

cases! {
    Store:
        a_new_batch_runs_and_comes_back_as_it_was_added,
        another_accounts_batch_is_not_found,
        a_planned_batch_is_due_at_its_start_and_at_its_finish,
        a_gray_batch_is_not_expanded_before_its_devices_are_chosen,
        batches_are_found_by_the_beginning_of_their_id,
        batches_of_a_device_come_newest_first,
        ordinals_are_gapless_per_package,
        a_list_shows_what_the_batch_is,
        a_refused_batch_takes_no_ordinal,
        a_batch_of_an_unknown_package_is_refused,
        pages_of_a_packages_batches_come_newest_first,
        a_package_without_batches_is_told_from_none,
        batches_load_in_the_order_asked_for,
        tags_survive_unicode_and_quotes,
        every_cancel_mask_survives,
        a_cancellation_is_added_to_and_carried_out_in_parts,
        batches_of_a_package_that_lack_tasks_are_noticed,
        batches_being_cancelled_are_found_in_order,
        unexpanded_batches_are_found_until_expanded,
        the_pace_is_kept,
        every_ending_is_kept;
}

const LATER: Timestamp = Timestamp(NOW.0 + 1);

fn load(store: &Store, no: JobNo) -> Job {
    read(store, move |tx| tx.jobs_load(&[no])).pop().expect("the batch exists")
}

fn numbers(jobs: &[ListedJob]) -> Vec<JobNo> {
    jobs.iter().map(|job| job.no).collect()
}

/// A page, as large as `size`, of the batches of the package with this id.
fn page(
    store: &Store,
    instance: InstanceNo,
    id: &'static str,
    number: i64,
    size: i64,
) -> Option<FirmwareJobs> {
    let page = Page::new(number, size, 200).expect("the page is in range");
    try_glance(store, move |tx| tx.job_list_by_firmware(instance, id, page)).expect("the look succeeds")
}

/// A package with so many batches, oldest first.
fn batches(store: &Store, shop: Shop, count: usize) -> (FirmwareNo, Vec<JobNo>) {
    let firmware = shop.firmware(store, "package");
    (firmware, (1..=count).map(|n| shop.job(store, firmware, &format!("batch {n}"))).collect())
}

fn a_new_batch_runs_and_comes_back_as_it_was_added(store: &Store) {
    let shop = Shop::open(store);
    let new = NewJob {
        job_type: JobType::Verify,
        target_selection: TargetSelection::All,
        need_push: false,
        per_minute: None,
        timeout_minutes: Some(1_440),
        need_confirm: true,
        src_versions: vec!["1.0".to_owned(), "1.1".to_owned()],
        gray_percent: GrayPercent::parse("33.333"),
        retry: Some(RetryRule { interval_minutes: 30, count: 5 }),
        schedule: Schedule { start: Some(NOW.plus_ms(1)), finish: Some(NOW.plus_ms(2)) },
        conduct: Conduct {
            overwrite: OverwriteMode::Replace,
            multi_module: true,
            dynamic: Some(DynamicMode::Later),
            group: Some(GroupNo(7)),
            download: DownloadProtocol::Mqtt,
        },
        tags: Vec::new(),
        expanded: false,
        expand_upto: DeviceNo(i64::MAX),
        ..shop.new_job(shop.firmware(store, "package"), "batch")
    };
    let added = new.clone();
    let no = write(store, move |tx| tx.job_insert(&added, NOW));
    let expected = Job {
        no,
        job_id: new.job_id,
        firmware: new.firmware,
        product: shop.product,
        job_type: new.job_type,
        status: JobStatus::Planned,
        target_selection: new.target_selection,
        need_push: false,
        per_minute: None,
        timeout_minutes: Some(1_440),
        need_confirm: true,
        src_versions: new.src_versions,
        gray_percent: new.gray_percent,
        retry: new.retry,
        schedule: new.schedule,
        conduct: new.conduct,
        policy: true,
        former: Vec::new(),
        repace_after: None,
        selecting: true,
        tags: Vec::new(),
        pace: Pace::default(),
        expanded: false,
        expand_after: DeviceNo(0),
        expand_upto: DeviceNo(i64::MAX),
        task_count: 0,
        cancel: Cancel::default(),
        created_at: NOW,
        modified_at: NOW,
        start_at: None,
        end_at: None,
    };
    assert_eq!(load(store, no), expected);
    assert_eq!(read(store, move |tx| tx.job_find(shop.instance, "batch")), Some(expected));
}

fn a_planned_batch_is_due_at_its_start_and_at_its_finish(store: &Store) {
    let shop = Shop::open(store);
    let (start, finish) = (NOW.plus_ms(100), NOW.plus_ms(900));
    let firmware = shop.firmware(store, "package");
    shop.job(store, firmware, "unscheduled");
    let schedule = Schedule { start: Some(start), finish: Some(finish) };
    let new = NewJob { schedule, ..shop.new_job(firmware, "planned") };
    let job = write(store, move |tx| tx.job_insert(&new, NOW));
    let due = |at: Timestamp| read(store, move |tx| tx.jobs_due(at, 10));
    let next = || read(store, |tx| tx.job_next_due());
    assert_eq!((next(), due(start.plus_ms(-1)), due(start)), (Some(start), vec![], vec![job]));
    write(store, move |tx| tx.job_open(job, JobStatus::InProgress, Some(finish), start));
    let running = load(store, job);
    assert_eq!(
        (running.status, running.start_at, running.modified_at),
        (JobStatus::InProgress, Some(start), start)
    );
    assert_eq!((next(), due(finish)), (Some(finish), vec![job]));
    write(store, move |tx| tx.job_due_clear(job));
    assert_eq!(next(), None);
    // A batch that is opened again keeps its first start and has no end any more.
    write(store, move |tx| tx.job_end(job, JobStatus::Canceled, finish));
    write(store, move |tx| tx.job_open(job, JobStatus::InProgress, Some(finish), finish));
    let again = load(store, job);
    assert_eq!((again.start_at, again.end_at), (Some(start), None));
    write(store, move |tx| tx.job_end(job, JobStatus::Completed, finish));
    assert_eq!(next(), None, "an ended batch is not due");
}

fn a_gray_batch_is_not_expanded_before_its_devices_are_chosen(store: &Store) {
    let shop = Shop::open(store);
    let firmware = shop.firmware(store, "package");
    let gray_percent = GrayPercent::parse("50");
    let new = NewJob { gray_percent, expanded: false, ..shop.new_job(firmware, "gray") };
    let job = write(store, move |tx| tx.job_insert(&new, NOW));
    assert_eq!(read(store, |tx| tx.jobs_selecting(9)), [job]);
    assert_eq!(read(store, |tx| tx.jobs_unexpanded(9)), []);
    write(store, move |tx| tx.job_selected(job));
    assert_eq!(read(store, |tx| tx.jobs_selecting(9)), []);
    assert_eq!(read(store, |tx| tx.jobs_unexpanded(9)), [job]);
}

fn batches_are_found_by_the_beginning_of_their_id(store: &Store) {
    let shop = Shop::open(store);
    let firmware = shop.firmware(store, "package");
    for id in ["AbcX1", "Abc", "AbcZz", "abcX1", "Abd", "Ab"] {
        shop.job(store, firmware, id);
    }
    let stranger = crate::shop::stranger(store);
    let found = |instance| {
        let jobs = read(store, move |tx| tx.jobs_by_prefix(instance, "Abc"));
        jobs.into_iter().map(|job| job.job_id).collect::<Vec<_>>()
    };
    assert_eq!(found(shop.instance), ["Abc", "AbcX1", "AbcZz"]);
    assert_eq!(found(stranger), [""; 0]);
    assert!(read(store, |tx| tx.job_find_any("Abd")).is_some());
    assert_eq!(read(store, |tx| tx.job_find_any("Abe")), None);
}

fn batches_of_a_device_come_newest_first(store: &Store) {
    let shop = Shop::open(store);
    let devices = shop.devices(store, 2);
    let (mine, other) = (shop.firmware(store, "package"), shop.firmware(store, "other package"));
    for (at, firmware) in [(1, mine), (2, other), (3, mine), (4, mine)] {
        let job = shop.job(store, firmware, &format!("batch {at}"));
        let in_it = if at == 4 { devices[1] } else { devices[0] };
        crate::shop::insert(store, crate::shop::queued(job, &[in_it]));
    }
    let device = devices[0];
    let listed = |number| {
        let page = Page::new(number, 1, 10).expect("in range");
        let (jobs, total) = read(store, move |tx| tx.job_list_by_device(mine, device, page));
        (jobs.into_iter().map(|job| job.job_id).collect::<Vec<_>>(), total)
    };
    assert_eq!(listed(1), (vec!["batch 3".to_owned()], 2));
    assert_eq!(listed(2), (vec!["batch 1".to_owned()], 2));
    assert_eq!(listed(3), (vec![], 2));
}

fn another_accounts_batch_is_not_found(store: &Store) {
    let shop = Shop::open(store);
    batches(store, shop, 1);
    let stranger = crate::shop::stranger(store);
    assert!(read(store, move |tx| tx.job_find(shop.instance, "batch 1")).is_some());
    assert_eq!(read(store, move |tx| tx.job_find(stranger, "batch 1")), None);
}

fn ordinals_are_gapless_per_package(store: &Store) {
    let shop = Shop::open(store);
    let (first, second) = (shop.firmware(store, "first"), shop.firmware(store, "second"));
    let jobs =
        [(first, "a"), (second, "b"), (first, "c")].map(|(firmware, id)| shop.job(store, firmware, id));
    let list = |id| page(store, shop.instance, id, 1, 9).expect("the package exists");
    assert_eq!((numbers(&list("id of first").page), list("id of first").total), (vec![jobs[2], jobs[0]], 2));
    assert_eq!((numbers(&list("id of second").page), list("id of second").total), (vec![jobs[1]], 1));
    let loaded = read(store, move |tx| tx.firmwares_load(&[first, second]));
    assert_eq!(loaded.iter().map(|firmware| firmware.job_count).sum::<i64>(), 3);
}

fn a_list_shows_what_the_batch_is(store: &Store) {
    let shop = Shop::open(store);
    let (_, jobs) = batches(store, shop, 1);
    let mut found = page(store, shop.instance, "id of package", 1, 1).expect("the package exists");
    assert_eq!((found.product_key.as_str(), found.total), ("key", 1));
    let listed = found.page.remove(0);
    let whole = read(store, move |tx| tx.jobs_load(&jobs)).remove(0);
    let expected = ListedJob {
        no: whole.no,
        job_id: whole.job_id,
        job_type: whole.job_type,
        status: whole.status,
        target_selection: whole.target_selection,
        dynamic: false,
        tags: whole.tags,
        created_at: whole.created_at,
        modified_at: whole.modified_at,
        start_at: whole.start_at,
        end_at: whole.end_at,
    };
    assert_eq!(listed, expected);
}

fn a_refused_batch_takes_no_ordinal(store: &Store) {
    let shop = Shop::open(store);
    let (firmware, jobs) = batches(store, shop, 1);
    let taken = shop.new_job(firmware, "batch 1");
    let refused = try_write(store, move |tx| tx.job_insert(&taken, NOW));
    assert!(matches!(refused, Err(StoreError::Internal(_))), "{refused:?}");
    let next = shop.job(store, firmware, "batch 2");
    let found = page(store, shop.instance, "id of package", 1, 9).expect("the package exists");
    assert_eq!(numbers(&found.page), [next, jobs[0]]);
    assert_eq!(read(store, move |tx| tx.firmwares_load(&[firmware]))[0].job_count, 2);
}

fn a_batch_of_an_unknown_package_is_refused(store: &Store) {
    let shop = Shop::open(store);
    let new = shop.new_job(FirmwareNo(i64::MAX), "batch");
    assert!(try_write(store, move |tx| tx.job_insert(&new, NOW)).is_err());
    assert_eq!(read(store, move |tx| tx.job_find(shop.instance, "batch")), None);
}

fn pages_of_a_packages_batches_come_newest_first(store: &Store) {
    let shop = Shop::open(store);
    let (_, mut newest_first) = batches(store, shop, 5);
    newest_first.reverse();
    let of = |number, size| {
        let found = page(store, shop.instance, "id of package", number, size).expect("the package exists");
        assert_eq!((found.product_key.as_str(), found.total), ("key", 5));
        numbers(&found.page)
    };
    assert_eq!(of(1, 2), newest_first[..2]);
    assert_eq!(of(2, 2), newest_first[2..4]);
    assert_eq!(of(3, 2), newest_first[4..]);
    assert_eq!(of(1, 200), newest_first);
    // Behind the last one there is nothing but the count.
    assert_eq!(of(4, 2), []);
    assert_eq!(of(i64::MAX / 200, 200), []);
}

fn a_package_without_batches_is_told_from_none(store: &Store) {
    let shop = Shop::open(store);
    shop.firmware(store, "package");
    let found = page(store, shop.instance, "id of package", 1, 10).expect("the package exists");
    assert_eq!(found, FirmwareJobs { product_key: "key".to_owned(), total: 0, page: Vec::new() });
    assert_eq!(page(store, shop.instance, "id of another", 1, 10), None);
    assert_eq!(page(store, crate::shop::stranger(store), "id of package", 1, 10), None);
}

fn batches_load_in_the_order_asked_for(store: &Store) {
    let shop = Shop::open(store);
    let (_, jobs) = batches(store, shop, 3);
    let asked = [jobs[2], JobNo(i64::MAX), jobs[0], jobs[1]];
    let found = read(store, move |tx| tx.jobs_load(&asked));
    assert_eq!(found.iter().map(|job| job.no).collect::<Vec<_>>(), [jobs[2], jobs[0], jobs[1]]);
    assert_eq!(read(store, |tx| tx.jobs_load(&[])), []);
}

fn tags_survive_unicode_and_quotes(store: &Store) {
    let shop = Shop::open(store);
    let firmware = shop.firmware(store, "package");
    let tag = |key: &str, value: &str| Tag { key: key.to_owned(), value: value.to_owned() };
    let tags = vec![
        tag("b", "\"double\" 'single' \\back\\ ?1 $1"),
        tag("a", "路灯 🔥 e\u{301} \u{1} \n\t"),
        tag("a", "the same key again"),
        tag("", "[]"),
    ];
    let new = NewJob { tags: tags.clone(), ..shop.new_job(firmware, "batch") };
    let no = write(store, move |tx| tx.job_insert(&new, NOW));
    assert_eq!(load(store, no).tags, tags);
}

fn every_cancel_mask_survives(store: &Store) {
    let shop = Shop::open(store);
    let no = batches(store, shop, 1).1[0];
    for mask in 0..16 {
        let cancel = Cancel {
            confirm: mask & 1 != 0,
            queued: mask & 2 != 0,
            notified: mask & 4 != 0,
            in_progress: mask & 8 != 0,
        };
        write(store, move |tx| tx.job_cancel_add(no, cancel, LATER));
        let found = load(store, no);
        assert_eq!((found.cancel, found.modified_at), (cancel, LATER));
        let canceling = read(store, |tx| tx.jobs_canceling(10));
        assert_eq!(canceling, if mask == 0 { vec![] } else { vec![no] });
        write(store, move |tx| tx.job_cancel_done(no, Cancel::ALL, LATER));
        assert_eq!(load(store, no).cancel, Cancel::default());
    }
}

fn a_cancellation_is_added_to_and_carried_out_in_parts(store: &Store) {
    let shop = Shop::open(store);
    let no = batches(store, shop, 1).1[0];
    let queued = Cancel { queued: true, ..Cancel::default() };
    let notified = Cancel { notified: true, ..Cancel::default() };
    write(store, move |tx| tx.job_cancel_add(no, queued, NOW));
    write(store, move |tx| tx.job_cancel_add(no, notified, NOW));
    assert_eq!(load(store, no).cancel, queued.or(notified));
    write(store, move |tx| tx.job_cancel_done(no, queued, NOW));
    assert_eq!(load(store, no).cancel, notified, "what was added meanwhile stays");
}

fn batches_of_a_package_that_lack_tasks_are_noticed(store: &Store) {
    let shop = Shop::open(store);
    let (mine, other) = (shop.firmware(store, "package"), shop.firmware(store, "other package"));
    let whole = shop.job(store, mine, "whole");
    let new = NewJob { expanded: false, ..shop.new_job(mine, "half") };
    let half = write(store, move |tx| tx.job_insert(&new, NOW));
    let lacks = |firmware, job| read(store, move |tx| tx.job_unexpanded_exists(firmware, job));
    assert!(lacks(mine, None) && lacks(mine, Some(half)));
    assert!(!lacks(mine, Some(whole)) && !lacks(other, None) && !lacks(other, Some(half)));
}

fn batches_being_cancelled_are_found_in_order(store: &Store) {
    let shop = Shop::open(store);
    let (_, jobs) = batches(store, shop, 4);
    for no in [jobs[3], jobs[0], jobs[2]] {
        let cancel = Cancel { queued: true, ..Cancel::default() };
        write(store, move |tx| tx.job_cancel_add(no, cancel, NOW));
    }
    assert_eq!(read(store, |tx| tx.jobs_canceling(10)), [jobs[0], jobs[2], jobs[3]]);
    assert_eq!(read(store, |tx| tx.jobs_canceling(2)), [jobs[0], jobs[2]]);
}

fn unexpanded_batches_are_found_until_expanded(store: &Store) {
    let shop = Shop::open(store);
    let firmware = shop.firmware(store, "package");
    shop.job(store, firmware, "expanded");
    let jobs = ["a", "b", "c"].map(|id| {
        let new = NewJob { expanded: false, ..shop.new_job(firmware, id) };
        write(store, move |tx| tx.job_insert(&new, NOW))
    });
    assert_eq!(read(store, |tx| tx.jobs_unexpanded(10)), jobs);
    assert_eq!(read(store, |tx| tx.jobs_unexpanded(1)), [jobs[0]]);
    write(store, move |tx| {
        tx.job_expansion_set(jobs[0], DeviceNo(17), false, 2_000)?;
        tx.job_expansion_set(jobs[1], DeviceNo(i64::MAX), true, 3)
    });
    assert_eq!(read(store, |tx| tx.jobs_unexpanded(10)), [jobs[0], jobs[2]]);
    let half = load(store, jobs[0]);
    assert_eq!((half.expand_after, half.expanded, half.task_count), (DeviceNo(17), false, 2_000));
    let whole = load(store, jobs[1]);
    assert_eq!((whole.expand_after, whole.expanded, whole.task_count), (DeviceNo(i64::MAX), true, 3));
}

fn the_pace_is_kept(store: &Store) {
    let shop = Shop::open(store);
    let (_, jobs) = batches(store, shop, 2);
    let mut pace = Pace::default();
    pace.reserve(600, NOW);
    let (no, kept) = (jobs[0], pace);
    write(store, move |tx| tx.job_pace_set(no, kept));
    assert_eq!(load(store, jobs[0]).pace, pace);
    assert_eq!(load(store, jobs[1]).pace, Pace::default());
}

fn every_ending_is_kept(store: &Store) {
    let shop = Shop::open(store);
    let (_, jobs) = batches(store, shop, 3);
    for (no, status) in jobs.iter().copied().zip([JobStatus::Completed, JobStatus::Canceled]) {
        write(store, move |tx| tx.job_end(no, status, LATER));
        let found = load(store, no);
        assert_eq!((found.status, found.end_at, found.modified_at), (status, Some(LATER), LATER));
    }
    let running = load(store, jobs[2]);
    assert_eq!((running.status, running.end_at, running.modified_at), (JobStatus::InProgress, None, NOW));
}
