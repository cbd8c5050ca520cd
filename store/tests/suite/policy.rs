//! Dynamic batches: the rules that stand, and whom they may ask for.

use crate::harness::cases;
use crate::help::{NOW, read, write};
use crate::shop::{Shop, insert, new_device, queued, task};
use updraft_core::id::{DeviceNo, FirmwareNo, GroupNo, JobNo};
use updraft_core::job::{Conduct, DynamicMode, JobStatus};
use updraft_core::page::Page;
use updraft_core::task::TaskStatus;
use updraft_core::time::Timestamp;
use updraft_store::{Job, NewFirmware, NewJob, Store};

cases! {
    Store:
        only_devices_of_products_with_a_running_rule_are_noted,
        rules_are_found_by_product_group_and_package_while_they_run,
        an_ended_rule_lets_older_ones_of_its_module_look_again,
        a_walk_is_kept_and_begun_again,
        a_rule_looks_at_devices_after_the_batches_that_wait,
        candidates_come_with_the_moment_of_their_report,
        what_a_device_had_in_a_batch_comes_in_order,
        a_batch_that_has_a_device_twice_is_listed_once;
}

const LATER: Timestamp = Timestamp(NOW.0 + 1);

fn load(store: &Store, no: JobNo) -> Job {
    read(store, move |tx| tx.jobs_load(&[no])).pop().expect("the batch exists")
}

fn rule(shop: Shop, firmware: FirmwareNo, id: &str, group: Option<GroupNo>) -> NewJob {
    let conduct = Conduct { dynamic: Some(DynamicMode::NowAndLater), group, ..Conduct::default() };
    NewJob { conduct, ..shop.new_job(firmware, id) }
}

fn add(store: &Store, new: NewJob) -> JobNo {
    write(store, move |tx| tx.job_insert(&new, NOW))
}

fn end(store: &Store, no: JobNo) {
    let job = load(store, no);
    write(store, move |tx| tx.policy_end(&job, LATER));
}

fn note(store: &Store, devices: &[DeviceNo]) -> (bool, Vec<DeviceNo>) {
    let devices = devices.to_vec();
    write(store, move |tx| {
        let noted = tx.reviews_add_for_policies(&devices)?;
        let all = tx.reviews(100)?;
        tx.reviews_done(&all)?;
        Ok((noted, all))
    })
}

fn only_devices_of_products_with_a_running_rule_are_noted(store: &Store) {
    let shop = Shop::open(store);
    let other = shop.product(store, "other");
    let mut devices = shop.devices(store, 2);
    let strange = write(store, move |tx| tx.device_insert(&new_device(other, "strange"), NOW));
    devices.push(strange.expect("the name is free"));
    let firmware = shop.firmware(store, "package");
    shop.job(store, firmware, "static");
    assert_eq!(note(store, &devices), (false, vec![]));
    let rule = add(store, rule(shop, firmware, "rule", None));
    assert_eq!(note(store, &devices), (true, devices[..2].to_vec()));
    assert_eq!(note(store, &devices[2..]), (false, vec![]));
    assert_eq!(note(store, &[]), (false, vec![]));
    end(store, rule);
    assert_eq!(note(store, &devices), (false, vec![]));
}

fn rules_are_found_by_product_group_and_package_while_they_run(store: &Store) {
    let shop = Shop::open(store);
    let (first, second) = (shop.firmware(store, "first"), shop.firmware(store, "second"));
    shop.job(store, first, "static");
    let by_version = add(store, rule(shop, first, "by version", None));
    let by_group = add(store, rule(shop, second, "by group", Some(GroupNo(7))));
    let found = || {
        read(store, move |tx| {
            let of = |jobs: Vec<Job>| jobs.iter().map(|job| job.no).collect::<Vec<_>>();
            let package = tx.policy_of_firmware(first)?.map(|job| job.no);
            let product = of(tx.policies_of_product(shop.product)?);
            Ok((product, of(tx.policies_of_group(GroupNo(7))?), package))
        })
    };
    assert_eq!(found(), (vec![by_group, by_version], vec![by_group], Some(by_version)));
    end(store, by_version);
    assert_eq!(found(), (vec![by_group], vec![by_group], None));
    let ended = load(store, by_version);
    assert_eq!((ended.status, ended.policy, ended.end_at), (JobStatus::Canceled, false, Some(LATER)));
    end(store, by_group);
    assert_eq!(found(), (vec![], vec![], None));
}

fn an_ended_rule_lets_older_ones_of_its_module_look_again(store: &Store) {
    let shop = Shop::open(store);
    let last = shop.devices(store, 3)[2];
    let radio = NewFirmware {
        module: "radio".to_owned(),
        ..shop.new_firmware("for radio", shop.file(store, "for radio"))
    };
    let radio = write(store, move |tx| tx.firmware_insert(&radio, NOW)).expect("the name is free");
    let package = |name: &str| shop.firmware(store, name);
    let rules = [package("a"), radio, package("b"), package("c"), package("d")].into_iter().zip(1..);
    let jobs: Vec<JobNo> =
        rules.map(|(firmware, n)| add(store, rule(shop, firmware, &format!("rule {n}"), None))).collect();
    end(store, jobs[0]);
    end(store, jobs[3]);
    let walks = |no: JobNo| {
        let job = load(store, no);
        (!job.expanded, job.expand_upto)
    };
    assert!(!walks(jobs[0]).0, "it has ended");
    assert!(!walks(jobs[1]).0, "it is for another module");
    assert_eq!(walks(jobs[2]), (true, last));
    assert!(!walks(jobs[3]).0 && !walks(jobs[4]).0, "it is newer");
}

fn a_walk_is_kept_and_begun_again(store: &Store) {
    let shop = Shop::open(store);
    let firmware = shop.firmware(store, "package");
    let no = add(store, rule(shop, firmware, "rule", None));
    write(store, move |tx| {
        tx.policy_walk_again(no, DeviceNo(9))?;
        tx.policy_walk_set(no, DeviceNo(5), false)?;
        tx.job_task_count_set(no, 3)
    });
    let job = load(store, no);
    let at = (job.expanded, job.expand_after, job.expand_upto, job.task_count);
    assert_eq!(at, (false, DeviceNo(5), DeviceNo(9), 3));
    assert_eq!(read(store, move |tx| tx.jobs_unexpanded(9)), [no]);
    write(store, move |tx| tx.policy_walk_set(no, DeviceNo(9), true));
    assert!(load(store, no).expanded);
    end(store, no);
    write(store, move |tx| tx.policy_walk_again(no, DeviceNo(9)));
    assert!(load(store, no).expanded, "an ended rule looks at nobody");
}

fn a_rule_looks_at_devices_after_the_batches_that_wait(store: &Store) {
    let shop = Shop::open(store);
    let (first, second) = (shop.firmware(store, "first"), shop.firmware(store, "second"));
    let waiting = |new: NewJob| add(store, NewJob { expanded: false, ..new });
    let old = waiting(rule(shop, first, "old", None));
    let new = waiting(rule(shop, second, "new", None));
    let batch = waiting(shop.new_job(first, "static"));
    assert_eq!(read(store, |tx| tx.jobs_unexpanded(9)), [batch, old, new]);
    assert_eq!(read(store, |tx| tx.jobs_unexpanded(1)), [batch]);
}

fn candidates_come_with_the_moment_of_their_report(store: &Store) {
    let shop = Shop::open(store);
    let devices = shop.devices(store, 2);
    let firmware = shop.firmware(store, "package");
    let job = shop.job(store, firmware, "batch");
    insert(store, queued(job, &devices[..1]));
    let told = vec![(devices[0], "default".to_owned(), "1.0".to_owned())];
    write(store, move |tx| tx.versions_put(&told, LATER));
    let wanted = devices.clone();
    let seen = read(store, move |tx| tx.candidates_reported(&wanted, "default"));
    let seen: Vec<_> = seen.iter().map(|(of, at)| (of.device, of.version.as_deref(), of.busy, *at)).collect();
    assert_eq!(seen, [(devices[0], Some("1.0"), true, Some(LATER)), (devices[1], None, false, None)]);
    let wanted = devices.clone();
    let products = read(store, move |tx| tx.products_of(&wanted));
    assert_eq!(products, devices.iter().map(|device| (shop.product, *device)).collect::<Vec<_>>());
}

fn what_a_device_had_in_a_batch_comes_in_order(store: &Store) {
    let shop = Shop::open(store);
    let devices = shop.devices(store, 2);
    let firmware = shop.firmware(store, "package");
    let (job, other) = (shop.job(store, firmware, "batch"), shop.job(store, firmware, "other"));
    let of = |ordinal, device, status| task(job, ordinal, device, status);
    insert(
        store,
        vec![
            of(1, devices[0], TaskStatus::Failed),
            of(2, devices[1], TaskStatus::Queued),
            of(3, devices[0], TaskStatus::Canceled),
        ],
    );
    insert(store, queued(other, &devices));
    let device = devices[0];
    let had = read(store, move |tx| tx.tasks_earlier(&[(job, device)]));
    let had: Vec<_> = had.iter().map(|of| (of.job, of.device, of.status, of.changed_at)).collect();
    assert_eq!(had, [(job, device, TaskStatus::Failed, NOW), (job, device, TaskStatus::Canceled, NOW)]);
}

fn a_batch_that_has_a_device_twice_is_listed_once(store: &Store) {
    let shop = Shop::open(store);
    let device = shop.devices(store, 1)[0];
    let firmware = shop.firmware(store, "package");
    let job = add(store, rule(shop, firmware, "rule", None));
    insert(store, vec![task(job, 1, device, TaskStatus::Failed), task(job, 2, device, TaskStatus::Queued)]);
    let page = Page::new(1, 10, 10).expect("in range");
    let (jobs, total) = read(store, move |tx| tx.job_list_by_device(firmware, device, page));
    assert_eq!((jobs.len(), total, jobs[0].no, jobs[0].dynamic), (1, 1, job, true));
}
