//! Update packages.

use crate::harness::cases;
use crate::help::{NOW, read, write};
use crate::shop::Shop;
use updraft_core::firmware::{FirmwareKind, FirmwareStatus, SignMethod};
use updraft_core::id::{FirmwareNo, JobNo};
use updraft_core::job::{Conduct, DynamicMode, JobStatus};
use updraft_core::page::Page;
use updraft_core::task::Cancel;
use updraft_core::time::Timestamp;
use updraft_store::{Firmware, FirmwareChanges, FirmwareFile, NewFirmware, NewJob, Store};

cases! {
    Store:
        a_package_comes_back_with_its_files_key_and_digest,
        files_come_back_in_order_with_their_names,
        the_list_is_newest_first_and_filtered,
        a_package_changes_where_asked_unless_its_new_name_is_taken,
        a_package_name_is_unique_in_its_instance,
        a_refused_package_leaves_its_file_free,
        another_accounts_package_is_not_found,
        packages_load_by_number_and_unknown_ones_are_left_out,
        packages_count_per_instance,
        a_deleted_package_is_found_by_its_number_only_and_its_name_is_free,
        a_deletion_stops_the_batches_of_its_package_only,
        files_of_a_deleted_package_go_when_its_batches_have_ended,
        every_verification_status_is_kept,
        the_verification_batch_is_kept;
}

fn load(store: &Store, no: FirmwareNo) -> Firmware {
    read(store, move |tx| tx.firmwares_load(&[no])).pop().expect("the package exists")
}

/// What [`Shop::file`] uploads under this key.
fn file(object_key: &str, name: Option<&str>) -> FirmwareFile {
    FirmwareFile {
        name: name.map(str::to_owned),
        object_key: object_key.to_owned(),
        blob: Some(format!("blob of {object_key}")),
        size: 7,
        md5: "md5 of it".to_owned(),
        sha256: "sha256 of it".to_owned(),
    }
}

fn a_package_comes_back_with_its_files_key_and_digest(store: &Store) {
    let shop = Shop::open(store);
    let new = NewFirmware {
        description: Some(String::new()),
        kind: FirmwareKind::Differential,
        src_version: Some("1.0".to_owned()),
        status: FirmwareStatus::Unverified,
        sign_method: SignMethod::Sha256,
        size: i64::MAX,
        udi: Some("{\"a\": \"'路'\"}".to_owned()),
        ..shop.new_firmware("パッケージ", shop.file(store, "ota/k"))
    };
    let added = new.clone();
    let no = write(store, move |tx| tx.firmware_insert(&added, NOW)).expect("the name is free");
    let expected = Firmware {
        no,
        instance: shop.instance,
        product: shop.product,
        firmware_id: new.firmware_id.clone(),
        name: new.name,
        description: new.description,
        dest_version: new.dest_version,
        module: new.module,
        kind: new.kind,
        src_version: new.src_version,
        status: new.status,
        sign_method: new.sign_method,
        size: new.size,
        udi: new.udi,
        verify_job: None,
        job_count: 0,
        created_at: NOW,
        modified_at: NOW,
        deleted_at: None,
        files: vec![file("ota/k", None)],
    };
    assert_eq!(load(store, no), expected);
    let id = new.firmware_id;
    assert_eq!(read(store, move |tx| tx.firmware_find(shop.instance, &id)), Some(expected));
}

fn files_come_back_in_order_with_their_names(store: &Store) {
    let shop = Shop::open(store);
    // Not in the order of their rows.
    let keys = ["ota/c", "ota/a", "ota/b"];
    let mut numbers = keys.map(|key| shop.file(store, key));
    numbers.rotate_left(1);
    let named = |no, name: &str| (no, Some(name.to_owned()));
    let several = NewFirmware {
        files: vec![named(numbers[0], "zeta"), named(numbers[1], "路"), named(numbers[2], "alpha")],
        ..shop.new_firmware("several", numbers[0])
    };
    let several = write(store, move |tx| tx.firmware_insert(&several, NOW)).expect("the name is free");
    let single = shop.firmware(store, "single");
    let found = read(store, move |tx| tx.firmwares_load(&[single, several]));
    let found: Vec<_> = [single, several]
        .map(|no| found.iter().find(|package| package.no == no).expect("it is there"))
        .into_iter()
        .map(|package| (package.files.clone(), package.sign().map(str::to_owned)))
        .collect();
    let files = vec![file("ota/a", Some("zeta")), file("ota/b", Some("路")), file("ota/c", Some("alpha"))];
    assert_eq!(found, [(vec![file("single", None)], Some("md5 of it".to_owned())), (files.clone(), None)]);
    let by_id = read(store, move |tx| tx.firmware_find(shop.instance, "id of several"));
    assert_eq!(by_id.map(|package| package.files), Some(files));
    for key in keys {
        let used = read(store, move |tx| tx.file_find_any(key)).expect("the file exists");
        assert_eq!((used.firmware, used.unused_since), (Some(several), None));
    }
}

fn the_list_is_newest_first_and_filtered(store: &Store) {
    let shop = Shop::open(store);
    let other = shop.product(store, "other");
    let stranger = crate::shop::stranger(store);
    for (name, product, version) in
        [("one", shop.product, "1.0"), ("two", other, "1.0"), ("three", shop.product, "2.0")]
    {
        let new = NewFirmware {
            product,
            dest_version: version.to_owned(),
            ..shop.new_firmware(name, shop.file(store, name))
        };
        write(store, move |tx| tx.firmware_insert(&new, NOW)).expect("the name is free");
    }
    let list = |instance, product, version: Option<&'static str>, number, size| {
        let page = Page::new(number, size, 100).expect("in range");
        let (found, total) = read(store, move |tx| tx.firmware_list(instance, product, version, page));
        (found.into_iter().map(|package| package.name).collect::<Vec<_>>(), total)
    };
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert_eq!(list(shop.instance, None, None, 1, 100), (names(&["three", "two", "one"]), 3));
    assert_eq!(list(shop.instance, None, None, 2, 2), (names(&["one"]), 3));
    assert_eq!(list(shop.instance, None, None, 3, 2), (names(&[]), 3));
    assert_eq!(list(shop.instance, Some(shop.product), None, 1, 1), (names(&["three"]), 2));
    assert_eq!(list(shop.instance, None, Some("1.0"), 1, 9), (names(&["two", "one"]), 2));
    assert_eq!(list(shop.instance, Some(other), Some("2.0"), 1, 9), (names(&[]), 0));
    assert_eq!(list(stranger, None, None, 1, 9), (names(&[]), 0));
}

fn a_package_changes_where_asked_unless_its_new_name_is_taken(store: &Store) {
    let shop = Shop::open(store);
    shop.firmware(store, "other");
    let before = load(store, shop.firmware(store, "package"));
    let modify = |changes: FirmwareChanges| {
        let (package, later) = (before.clone(), Timestamp(NOW.0 + 1));
        write(store, move |tx| tx.firmware_modify(&package, &changes, later))
    };
    let text = |text: &str| Some(text.to_owned());
    assert!(!modify(FirmwareChanges {
        name: text("other"),
        udi: text("lost"),
        ..FirmwareChanges::default()
    }));
    assert_eq!(load(store, before.no), before);
    assert!(modify(FirmwareChanges { name: text("package"), udi: text("u"), ..FirmwareChanges::default() }));
    assert!(modify(FirmwareChanges { name: text("new"), description: text("d"), udi: None }));
    let modified_at = Timestamp(NOW.0 + 1);
    let after = Firmware {
        name: "new".to_owned(),
        description: text("d"),
        udi: text("u"),
        modified_at,
        ..before.clone()
    };
    assert_eq!(load(store, before.no), after);
    shop.firmware(store, "package 2");
}

fn a_package_name_is_unique_in_its_instance(store: &Store) {
    let shop = Shop::open(store);
    shop.firmware(store, "package");
    let again = NewFirmware {
        firmware_id: "fresh".to_owned(),
        ..shop.new_firmware("package", shop.file(store, "k"))
    };
    assert_eq!(write(store, move |tx| tx.firmware_insert(&again, NOW)), None);
    assert_eq!(read(store, move |tx| tx.firmware_find(shop.instance, "fresh")), None);
}

fn a_refused_package_leaves_its_file_free(store: &Store) {
    let shop = Shop::open(store);
    shop.firmware(store, "package");
    let again = NewFirmware {
        firmware_id: "fresh".to_owned(),
        ..shop.new_firmware("package", shop.file(store, "k"))
    };
    write(store, move |tx| tx.firmware_insert(&again, NOW));
    assert_eq!(read(store, |tx| tx.file_ticket_find("k")), Some(None));
}

fn another_accounts_package_is_not_found(store: &Store) {
    let shop = Shop::open(store);
    shop.firmware(store, "package");
    let stranger = crate::shop::stranger(store);
    assert!(read(store, move |tx| tx.firmware_find(shop.instance, "id of package")).is_some());
    assert_eq!(read(store, move |tx| tx.firmware_find(stranger, "id of package")), None);
}

fn packages_load_by_number_and_unknown_ones_are_left_out(store: &Store) {
    let shop = Shop::open(store);
    let first = shop.firmware(store, "first");
    let second = shop.firmware(store, "second");
    let mut found = read(store, move |tx| tx.firmwares_load(&[second, FirmwareNo(i64::MAX), first]));
    found.sort_by_key(|firmware| firmware.no);
    assert_eq!(found.iter().map(|firmware| firmware.no).collect::<Vec<_>>(), [first, second]);
    assert_eq!(read(store, |tx| tx.firmwares_load(&[])), []);
}

fn packages_count_per_instance(store: &Store) {
    let shop = Shop::open(store);
    let stranger = crate::shop::stranger(store);
    shop.firmware(store, "first");
    shop.firmware(store, "second");
    let counts = read(store, move |tx| Ok((tx.firmware_count(shop.instance)?, tx.firmware_count(stranger)?)));
    assert_eq!(counts, (2, 0));
}

fn a_deleted_package_is_found_by_its_number_only_and_its_name_is_free(store: &Store) {
    let shop = Shop::open(store);
    let no = shop.firmware(store, "package");
    let later = Timestamp(NOW.0 + 1);
    assert!(write(store, move |tx| tx.firmware_delete(no, later)));
    assert!(!write(store, move |tx| tx.firmware_delete(no, later)));
    let found = load(store, no);
    assert_eq!((found.deleted_at, found.name.as_str()), (Some(later), "package"));
    let page = Page::new(1, 10, 10).expect("in range");
    let nothing = read(store, move |tx| {
        let by_id = tx.firmware_find(shop.instance, "id of package")?;
        let batches = tx.job_list_by_firmware(shop.instance, "id of package", page)?;
        let (listed, total) = tx.firmware_list(shop.instance, None, None, page)?;
        let used = tx.firmware_of_module_exists(shop.product, "default")?;
        Ok((by_id, batches, listed, total, tx.firmware_count(shop.instance)?, used))
    });
    assert_eq!(nothing, (None, None, Vec::new(), 0, 0, false));
    let again = NewFirmware {
        firmware_id: "fresh".to_owned(),
        ..shop.new_firmware("package", shop.file(store, "k"))
    };
    assert!(write(store, move |tx| tx.firmware_insert(&again, NOW)).is_some());
}

fn a_deletion_stops_the_batches_of_its_package_only(store: &Store) {
    let shop = Shop::open(store);
    let (no, other) = (shop.firmware(store, "package"), shop.firmware(store, "other"));
    let dynamic = Conduct { dynamic: Some(DynamicMode::NowAndLater), ..Conduct::default() };
    let make = |firmware, id: &'static str, conduct| {
        let new = NewJob { conduct, ..shop.new_job(firmware, id) };
        write(store, move |tx| tx.job_insert(&new, NOW))
    };
    let running = make(no, "running", Conduct::default());
    let ended = make(no, "ended", Conduct::default());
    let policy = make(no, "policy", dynamic);
    // One that ended while tasks of it are open, and one without.
    let (outlived, over) = (make(no, "outlived", dynamic), make(no, "over", dynamic));
    let others = make(other, "others", dynamic);
    write(store, move |tx| {
        for job in [ended, outlived, over] {
            tx.job_end(job, JobStatus::Canceled, NOW)?;
        }
        Ok(())
    });
    let device = shop.devices(store, 1)[0];
    crate::shop::insert(store, crate::shop::queued(outlived, &[device]));
    let later = Timestamp(NOW.0 + 1);
    write(store, move |tx| tx.firmware_delete(no, later));
    let jobs = [running, ended, policy, outlived, over, others];
    let found = read(store, move |tx| tx.jobs_load(&jobs));
    let all = Cancel::ALL;
    let none = Cancel::default();
    let states: Vec<_> = found.iter().map(|job| (job.cancel, job.status, job.policy)).collect();
    assert_eq!(states[0], (all, JobStatus::InProgress, false));
    assert_eq!(states[1], (none, JobStatus::Canceled, false));
    assert_eq!(states[2], (all, JobStatus::Canceled, false));
    assert_eq!((states[3].0, states[4].0), (all, none));
    assert_eq!(states[5], (none, JobStatus::InProgress, true));
    assert_eq!((found[2].end_at, found[1].end_at), (Some(later), Some(NOW)));
}

fn files_of_a_deleted_package_go_when_its_batches_have_ended(store: &Store) {
    let shop = Shop::open(store);
    let (no, kept) = (shop.firmware(store, "package"), shop.firmware(store, "kept"));
    let job = shop.job(store, no, "batch");
    let purge = || write(store, |tx| tx.firmwares_purge(10));
    let waits = || read(store, |tx| tx.firmware_purge_exists());
    assert_eq!((waits(), purge()), (false, (0, Vec::new())));
    let before = load(store, no);
    write(store, move |tx| tx.firmware_delete(no, NOW));
    assert_eq!(read(store, |tx| tx.file_find_any("package")), None, "no download any more");
    assert_eq!((waits(), purge()), (true, (0, Vec::new())));
    write(store, move |tx| {
        tx.job_end(job, JobStatus::Canceled, NOW)?;
        tx.job_cancel_done(job, Cancel::ALL, NOW)
    });
    assert_eq!(purge(), (1, vec!["blob of package".to_owned()]));
    assert_eq!((waits(), purge()), (false, (0, Vec::new())));
    // What its batches show of it stays.
    let files = vec![FirmwareFile { blob: None, ..before.files[0].clone() }];
    assert_eq!(load(store, no), Firmware { deleted_at: Some(NOW), files, ..before });
    assert!(!read(store, |tx| tx.file_blob_exists("blob of package")));
    assert_eq!(read(store, |tx| tx.file_find_any("kept")).map(|file| file.firmware), Some(Some(kept)));
}

fn every_verification_status_is_kept(store: &Store) {
    let shop = Shop::open(store);
    let no = shop.firmware(store, "package");
    let untouched = load(store, shop.firmware(store, "other"));
    for (status, n) in FirmwareStatus::ALL.into_iter().zip(1..) {
        let now = Timestamp(NOW.0 + n);
        write(store, move |tx| tx.firmware_status_set(no, status, now));
        let found = load(store, no);
        assert_eq!((found.status, found.modified_at, found.created_at), (status, now, NOW));
    }
    assert_eq!(load(store, untouched.no), untouched);
}

fn the_verification_batch_is_kept(store: &Store) {
    let shop = Shop::open(store);
    let no = shop.firmware(store, "package");
    write(store, move |tx| tx.firmware_verify_job_set(no, JobNo(i64::MAX)));
    assert_eq!(load(store, no).verify_job, Some(JobNo(i64::MAX)));
}
