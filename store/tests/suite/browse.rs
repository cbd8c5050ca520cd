//! Lists for the operator's command line.

use crate::harness::cases;
use crate::help::{NOW, read, write};
use crate::shop::{Shop, new_product};
use updraft_core::device::DeviceStatus;
use updraft_core::firmware::FirmwareStatus;
use updraft_core::id::JobNo;
use updraft_core::job::JobStatus;
use updraft_core::task::TaskStatus;
use updraft_store::{BrowseFilter, DeviceFilter, OnlineDevice, Store};

cases! {
    Store:
        products_are_listed_with_where_they_belong,
        devices_are_listed_by_what_is_asked_for,
        pages_go_on_behind_the_last_one,
        packages_and_batches_are_listed_with_counts,
        tasks_of_a_batch_are_listed_by_state;
}

fn text(text: &str) -> String {
    text.to_owned()
}

fn products_are_listed_with_where_they_belong(store: &Store) {
    let shop = Shop::open(store);
    shop.devices(store, 2);
    shop.firmware(store, "package");
    write(store, |tx| {
        let other = tx.account_ensure("other", NOW)?;
        let instance = tx.instance_insert(other, "iot-1", "plant", NOW)?.expect("the name is free");
        tx.product_insert(&new_product(instance, "theirs", "theirs"), NOW)
    });
    let list = |filter: BrowseFilter| read(store, move |tx| tx.browse_products(&filter, 0, 10));
    let all = list(BrowseFilter::default());
    let keys: Vec<&str> = all.iter().map(|product| product.product_key.as_str()).collect();
    assert_eq!(keys, ["key", "theirs"]);
    assert_eq!((all[0].place.account.as_str(), &all[0].place.instance_id), ("owner", &None));
    assert_eq!((all[0].device_count, all[0].firmware_count), (2, 1));
    assert_eq!((all[1].place.account.as_str(), &all[1].place.instance_id), ("other", &Some(text("iot-1"))));
    assert_eq!(list(BrowseFilter { account: Some(text("other")), ..BrowseFilter::default() }), all[1..]);
    assert_eq!(list(BrowseFilter { product_key: Some(text("key")), ..BrowseFilter::default() }), all[..1]);
}

fn devices_are_listed_by_what_is_asked_for(store: &Store) {
    let shop = Shop::open(store);
    let devices = shop.devices(store, 3);
    let first = devices[0];
    write(store, move |tx| {
        tx.devices_online(&[OnlineDevice { device: first, session: 1, ip: "10.0.0.1".to_owned() }], NOW)?;
        let report = |module: &str, version: &str| (first, module.to_owned(), version.to_owned());
        tx.versions_put(&[report("default", "1.0.0"), report("mcu", "7")], NOW)
    });
    let list = |filter: DeviceFilter| -> Vec<String> {
        let found = read(store, move |tx| tx.browse_devices(&filter, 0, 10));
        found.into_iter().map(|device| device.name).collect()
    };
    let any = DeviceFilter::default;
    assert_eq!(list(any()), ["dev1", "dev2", "dev3"]);
    assert_eq!(list(DeviceFilter { product: Some(shop.product), ..any() }), ["dev1", "dev2", "dev3"]);
    assert_eq!(list(DeviceFilter { product: Some(shop.product(store, "empty")), ..any() }), [""; 0]);
    assert_eq!(list(DeviceFilter { status: Some(DeviceStatus::Online), ..any() }), ["dev1"]);
    assert_eq!(list(DeviceFilter { version: Some(text("1.0.0")), ..any() }), ["dev1"]);
    assert_eq!(list(DeviceFilter { version: Some(text("7")), ..any() }), [""; 0], "of another module");
    assert_eq!(list(DeviceFilter { name_prefix: "dev2".to_owned(), ..any() }), ["dev2"]);
    assert_eq!(list(DeviceFilter { name_prefix: "Dev".to_owned(), ..any() }), [""; 0]);
    let found = read(store, move |tx| tx.browse_device(shop.product, "dev1")).expect("there is one");
    assert_eq!((found.version, found.ip), (Some(text("1.0.0")), Some(text("10.0.0.1"))));
    let iot_id = found.iot_id.clone();
    let again = read(store, move |tx| tx.browse_device_by_iot_id(&iot_id)).expect("there is one");
    assert_eq!(again.no, first);
    let versions = read(store, move |tx| tx.browse_versions(first));
    let expected = [("default", "1.0.0"), ("mcu", "7")].map(|(m, v)| (m.to_owned(), v.to_owned()));
    assert_eq!(versions, expected);
    let counts = read(store, move |tx| tx.browse_device_counts(shop.product));
    assert_eq!((counts[&DeviceStatus::Online], counts[&DeviceStatus::Unactive]), (1, 2));
}

fn pages_go_on_behind_the_last_one(store: &Store) {
    let shop = Shop::open(store);
    let devices = shop.devices(store, 5);
    let mut seen = Vec::new();
    let mut after = 0;
    loop {
        let page = read(store, move |tx| tx.browse_devices(&DeviceFilter::default(), after, 2));
        let Some(last) = page.last() else { break };
        after = last.no.0;
        assert!(page.len() <= 2);
        seen.extend(page.iter().map(|device| device.no));
    }
    assert_eq!(seen, devices);
}

fn packages_and_batches_are_listed_with_counts(store: &Store) {
    let shop = Shop::open(store);
    let (job, _) = shop.batch(store, 3);
    write(store, move |tx| tx.counts_add(&[((job, TaskStatus::Queued), 3)].into()));
    let other = shop.firmware(store, "other");
    shop.job(store, other, "second");
    let packages = |filter: BrowseFilter, status| -> Vec<(String, i64)> {
        let found = read(store, move |tx| tx.browse_firmwares(&filter, status, 0, 10));
        found.into_iter().map(|firmware| (firmware.firmware_id, firmware.job_count)).collect()
    };
    let any = BrowseFilter::default;
    let ids = |id: &str| vec![(id.to_owned(), 1)];
    assert_eq!(packages(any(), None), [ids("id of package"), ids("id of other")].concat());
    assert_eq!(
        packages(BrowseFilter { firmware_id: Some(text("id of other")), ..any() }, None),
        ids("id of other")
    );
    assert_eq!(packages(BrowseFilter { product_key: Some(text("none")), ..any() }, None), []);
    assert_eq!(packages(any(), Some(FirmwareStatus::VerifyFailed)), []);

    let jobs = |filter: BrowseFilter, status, before| {
        read(store, move |tx| tx.browse_jobs(&filter, status, before, 10))
    };
    let all = jobs(any(), None, i64::MAX);
    let names: Vec<&str> = all.iter().map(|found| found.job.job_id.as_str()).collect();
    assert_eq!(names, ["second", "batch"], "newest first");
    assert_eq!(
        (all[1].counts.of(TaskStatus::Queued), all[1].counts.total(), all[0].counts.total()),
        (3, 3, 0)
    );
    assert_eq!(all[1].job.no, job);
    assert_eq!(jobs(any(), None, all[0].job.no.0).len(), 1);
    assert_eq!(
        jobs(BrowseFilter { firmware_id: Some(text("id of other")), ..any() }, None, i64::MAX),
        all[..1]
    );
    assert_eq!(jobs(BrowseFilter { job_id: Some(text("batch")), ..any() }, None, i64::MAX), all[1..]);
    assert_eq!(jobs(any(), Some(JobStatus::Canceled), i64::MAX), []);
    let head = |head: &'static str| read(store, move |tx| tx.browse_jobs_of_head(head));
    assert_eq!((head("bat"), head("none")), (vec![job], Vec::<JobNo>::new()));
}

fn tasks_of_a_batch_are_listed_by_state(store: &Store) {
    let shop = Shop::open(store);
    let (job, _) = shop.batch(store, 3);
    let list = |status, after| -> Vec<String> {
        let found = read(store, move |tx| tx.browse_tasks(job, status, after, 2));
        found.into_iter().map(|task| task.device_name).collect()
    };
    assert_eq!(list(None, 0), ["dev1", "dev2"]);
    assert_eq!(list(None, 2), ["dev3"]);
    assert_eq!(list(Some(TaskStatus::Queued), 1), ["dev2", "dev3"]);
    assert_eq!(list(Some(TaskStatus::Failed), 0), [""; 0]);
}
