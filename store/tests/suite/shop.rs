//! Ready-made rows: one instance with a product, devices, packages, batches and tasks.

use crate::help::{NOW, write};
use updraft_core::firmware::{FirmwareKind, FirmwareStatus, SignMethod};
use updraft_core::id::{DeviceNo, FileNo, FirmwareNo, InstanceNo, JobNo, ProductNo, TaskNo};
use updraft_core::job::{Conduct, JobType, Schedule, Tag, TargetSelection};
use updraft_core::task::{Task, TaskStatus};
use updraft_store::{NewDevice, NewFirmware, NewJob, NewProduct, Store};

/// An instance and its product.
#[derive(Clone, Copy)]
pub struct Shop {
    pub instance: InstanceNo,
    pub product: ProductNo,
}

/// A product to add.
pub fn new_product(instance: InstanceNo, product_key: &str, name: &str) -> NewProduct {
    NewProduct {
        instance,
        product_key: product_key.to_owned(),
        name: name.to_owned(),
        secret_sealed: b"sealed".to_vec(),
        node_type: 0,
        data_format: 1,
        net_type: "WIFI".to_owned(),
        commodity_code: "iothub_senior".to_owned(),
        description: None,
        protocol_type: None,
        category_key: None,
        validate_type: 1,
        certified: false,
    }
}

/// A device to add.
pub fn new_device(product: ProductNo, name: &str) -> NewDevice {
    NewDevice {
        product,
        name: name.to_owned(),
        iot_id: format!("iot-{product}-{name}"),
        secret_sealed: name.as_bytes().to_vec(),
        nickname: None,
    }
}

impl Shop {
    /// The account `owner` with the product `key`.
    pub fn open(store: &Store) -> Self {
        write(store, |tx| {
            let owner = tx.account_ensure("owner", NOW)?;
            let instance = tx.instance_public(owner)?;
            let product = tx.product_insert(&new_product(instance, "key", "lamps"), NOW)?;
            Ok(Self { instance, product: product.expect("the name is free") })
        })
    }

    /// Adds another product of the instance.
    pub fn product(self, store: &Store, key: &str) -> ProductNo {
        let new = new_product(self.instance, key, key);
        write(store, move |tx| tx.product_insert(&new, NOW)).expect("the name is free")
    }

    /// Adds the devices `dev1`, `dev2`, …
    pub fn devices(self, store: &Store, count: usize) -> Vec<DeviceNo> {
        write(store, move |tx| {
            (1..=count)
                .map(|n| {
                    let added = tx.device_insert(&new_device(self.product, &format!("dev{n}")), NOW)?;
                    Ok(added.expect("the name is free"))
                })
                .collect()
        })
    }

    /// Adds an uploaded file.
    pub fn file(self, store: &Store, object_key: &str) -> FileNo {
        let key = object_key.to_owned();
        write(store, move |tx| {
            tx.file_ticket_insert(self.instance, &key, NOW)?;
            tx.file_uploaded(&key, &format!("blob of {key}"), 7, "md5 of it", "sha256 of it", NOW)?;
            Ok(tx.file_find(self.instance, &key)?.expect("the file was just uploaded").no)
        })
    }

    /// A package to add.
    pub fn new_firmware(self, name: &str, file: FileNo) -> NewFirmware {
        NewFirmware {
            instance: self.instance,
            product: self.product,
            firmware_id: format!("id of {name}"),
            name: name.to_owned(),
            description: None,
            dest_version: "2.0.0".to_owned(),
            module: "default".to_owned(),
            kind: FirmwareKind::Full,
            src_version: None,
            status: FirmwareStatus::NoVerification,
            sign_method: SignMethod::Md5,
            size: 7,
            files: vec![(file, None)],
            udi: None,
        }
    }

    /// Adds a package with a file of its own.
    pub fn firmware(self, store: &Store, name: &str) -> FirmwareNo {
        let new = self.new_firmware(name, self.file(store, name));
        write(store, move |tx| tx.firmware_insert(&new, NOW)).expect("the name is free")
    }

    /// A batch to add.
    pub fn new_job(self, firmware: FirmwareNo, job_id: &str) -> NewJob {
        NewJob {
            instance: self.instance,
            job_id: job_id.to_owned(),
            firmware,
            product: self.product,
            job_type: JobType::Upgrade,
            target_selection: TargetSelection::Specific,
            need_push: true,
            per_minute: Some(600),
            timeout_minutes: None,
            need_confirm: false,
            src_versions: Vec::new(),
            gray_percent: None,
            retry: None,
            schedule: Schedule::default(),
            conduct: Conduct::default(),
            tags: vec![Tag { key: "k".to_owned(), value: "v".to_owned() }],
            expanded: true,
            expand_upto: DeviceNo(0),
        }
    }

    /// Adds a batch.
    pub fn job(self, store: &Store, firmware: FirmwareNo, job_id: &str) -> JobNo {
        let new = self.new_job(firmware, job_id);
        write(store, move |tx| tx.job_insert(&new, NOW))
    }

    /// Adds a package with a batch of `count` queued tasks for new devices.
    pub fn batch(self, store: &Store, count: usize) -> (JobNo, Vec<DeviceNo>) {
        let firmware = self.firmware(store, "package");
        let job = self.job(store, firmware, "batch");
        let devices = self.devices(store, count);
        insert(store, queued(job, &devices));
        (job, devices)
    }
}

/// Queued tasks for these devices, from ordinal 1.
pub fn queued(job: JobNo, devices: &[DeviceNo]) -> Vec<Task> {
    devices.iter().zip(1..).map(|(device, ordinal)| task(job, ordinal, *device, TaskStatus::Queued)).collect()
}

/// A task in a state.
pub fn task(job: JobNo, ordinal: i64, device: DeviceNo, status: TaskStatus) -> Task {
    Task { revision: 0, ..Task::new(TaskNo { job, ordinal }, device, status, None, NOW) }
}

/// Stores tasks.
pub fn insert(store: &Store, tasks: Vec<Task>) {
    write(store, move |tx| tx.tasks_insert(&tasks));
}

/// The public instance of an account that owns nothing.
pub fn stranger(store: &Store) -> InstanceNo {
    write(store, |tx| {
        let stranger = tx.account_ensure("stranger", NOW)?;
        tx.instance_public(stranger)
    })
}
