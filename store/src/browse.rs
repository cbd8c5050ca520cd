//! Lists for the operator's command line: over all accounts, in pages that go on behind a key.
//!
//! A page costs what it looks at, wherever it lies, and a whole list one pass over its table, however long the
//! list is. No secret is read here.

use crate::error::StoreError;
use crate::job::Job;
use crate::tx::Tx;
use crate::value::{Row, Value};
use std::collections::BTreeMap;
use updraft_core::device::DeviceStatus;
use updraft_core::firmware::FirmwareStatus;
use updraft_core::id::{DeviceNo, FirmwareNo, JobNo, ProductNo};
use updraft_core::job::{Counts, JobStatus};
use updraft_core::task::TaskStatus;
use updraft_core::time::Timestamp;

/// Where a thing belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The account's name.
    pub account: String,
    /// IotInstanceId; `None`: the account's public instance.
    pub instance_id: Option<String>,
}

/// Which things are looked for; `None`: any.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BrowseFilter {
    /// The account's name.
    pub account: Option<String>,
    /// ProductKey.
    pub product_key: Option<String>,
    /// FirmwareId (packages and batches).
    pub firmware_id: Option<String>,
    /// JobId (batches).
    pub job_id: Option<String>,
}

/// A product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrowsedProduct {
    /// Row number.
    pub no: ProductNo,
    /// Where it belongs.
    pub place: Place,
    /// ProductKey.
    pub product_key: String,
    /// ProductName.
    pub name: String,
    /// 0 device, 1 gateway.
    pub node_type: i64,
    /// How many devices it has.
    pub device_count: i64,
    /// How many packages it has.
    pub firmware_count: i64,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Which devices are looked for; `None`: any.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeviceFilter {
    /// The product.
    pub product: Option<ProductNo>,
    /// Presence.
    pub status: Option<DeviceStatus>,
    /// FirmwareVersion, exactly.
    pub version: Option<String>,
    /// How its name begins.
    pub name_prefix: String,
}

/// A device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrowsedDevice {
    /// Row number.
    pub no: DeviceNo,
    /// ProductKey.
    pub product_key: String,
    /// DeviceName.
    pub name: String,
    /// IotId.
    pub iot_id: String,
    /// A name for people.
    pub nickname: Option<String>,
    /// Presence.
    pub status: DeviceStatus,
    /// FirmwareVersion, as far as it ever told.
    pub version: Option<String>,
    /// The address of its last connection.
    pub ip: Option<String>,
    /// When it was registered.
    pub created_at: Timestamp,
    /// When it last connected.
    pub online_at: Option<Timestamp>,
}

/// A package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrowsedFirmware {
    /// Row number.
    pub no: FirmwareNo,
    /// Where it belongs.
    pub place: Place,
    /// ProductKey.
    pub product_key: String,
    /// FirmwareId.
    pub firmware_id: String,
    /// FirmwareName.
    pub name: String,
    /// The version that it leads to.
    pub dest_version: String,
    /// The module that it is for.
    pub module: String,
    /// Verification.
    pub status: FirmwareStatus,
    /// Bytes.
    pub size: i64,
    /// How many batches it has.
    pub job_count: i64,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrowsedJob {
    /// Itself.
    pub job: Job,
    /// Where it belongs.
    pub place: Place,
    /// ProductKey.
    pub product_key: String,
    /// FirmwareId.
    pub firmware_id: String,
    /// The version that its package leads to.
    pub dest_version: String,
    /// How many of its tasks are in each state.
    pub counts: Counts,
}

/// A task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrowsedTask {
    /// Its position in the batch.
    pub ordinal: i64,
    /// DeviceName.
    pub device_name: String,
    /// IotId.
    pub iot_id: String,
    /// Where it stands.
    pub status: TaskStatus,
    /// The version before the update, as far as the device ever told.
    pub src_version: Option<String>,
    /// Percent.
    pub progress: i64,
    /// Why it failed, or what the device last said.
    pub description: Option<String>,
    /// How many attempts were repeated.
    pub retries: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub modified_at: Timestamp,
}

/// Reads a number that stands for a state.
fn state<T>(place: &'static str, found: Option<T>, code: i64) -> Result<T, StoreError> {
    found.ok_or(StoreError::Corrupt { place, detail: code.to_string() })
}

fn place(row: &Row<'_>, column: usize) -> Result<Place, StoreError> {
    Ok(Place { account: row.text(column)?, instance_id: row.opt_text(column + 1)? })
}

/// A query for devices, in the order of columns that [`device`] reads.
macro_rules! devices {
    ($($rest:literal),+) => {
        concat!(
            "SELECT d.id, p.product_key, d.name, d.iot_id, d.nickname, ",
            "CASE WHEN d.disabled <> 0 THEN 3 ELSE d.status END, v.version, d.ip, d.created_at, ",
            "d.online_at FROM device d JOIN product p ON p.id = d.product ",
            "LEFT JOIN device_version v ON v.device = d.id AND v.module = 'default' ",
            $($rest),+
        )
    };
}

/// What both lists of devices ask for.
macro_rules! device_page {
    ($before:literal) => {
        devices!(
            $before,
            "d.id > ?1 AND d.deleted_at IS NULL
             AND CASE WHEN d.disabled <> 0 THEN 3 ELSE d.status END
               = COALESCE(?2, CASE WHEN d.disabled <> 0 THEN 3 ELSE d.status END)
             AND COALESCE(v.version, '') = COALESCE(?3, COALESCE(v.version, ''))
             AND d.name >= ?4 AND d.name < ?5 ORDER BY d.id LIMIT ?6"
        )
    };
}

fn device(row: &Row<'_>) -> Result<BrowsedDevice, StoreError> {
    let status = row.int(5)?;
    Ok(BrowsedDevice {
        no: DeviceNo(row.int(0)?),
        product_key: row.text(1)?,
        name: row.text(2)?,
        iot_id: row.text(3)?,
        nickname: row.opt_text(4)?,
        status: state("device.status", DeviceStatus::from_code(status), status)?,
        version: row.opt_text(6)?,
        ip: row.opt_text(7)?,
        created_at: Timestamp(row.int(8)?),
        online_at: row.opt_int(9)?.map(Timestamp),
    })
}

/// A query for tasks, in the order of columns that [`task`] reads.
macro_rules! tasks {
    ($rest:literal) => {
        concat!(
            "SELECT t.ordinal, d.name, d.iot_id, t.status, t.src_version, t.progress, t.description, t.retries, ",
            "t.created_at, t.modified_at FROM task t JOIN device d ON d.id = t.device ",
            $rest
        )
    };
}

fn task(row: &Row<'_>) -> Result<BrowsedTask, StoreError> {
    let status = row.int(3)?;
    Ok(BrowsedTask {
        ordinal: row.int(0)?,
        device_name: row.text(1)?,
        iot_id: row.text(2)?,
        status: state("task.status", TaskStatus::from_code(status), status)?,
        src_version: row.opt_text(4)?,
        progress: row.int(5)?,
        description: row.opt_text(6)?,
        retries: row.int(7)?,
        created_at: Timestamp(row.int(8)?),
        modified_at: Timestamp(row.int(9)?),
    })
}

impl Tx<'_> {
    /// Products behind number `after`, by age.
    pub fn browse_products(
        &mut self,
        filter: &BrowseFilter,
        after: i64,
        limit: i64,
    ) -> Result<Vec<BrowsedProduct>, StoreError> {
        self.query(
            "SELECT p.id, a.name, i.instance_id, p.product_key, p.name, p.node_type, p.device_count,
                    (SELECT COUNT(*) FROM firmware f
                     WHERE f.instance = p.instance AND f.product = p.id AND f.deleted_at IS NULL),
                    p.created_at
             FROM product p JOIN instance i ON i.id = p.instance JOIN account a ON a.id = i.account
             WHERE p.id > ?1 AND p.deleted_at IS NULL AND p.product_key = COALESCE(?2, p.product_key)
               AND a.name = COALESCE(?3, a.name)
             ORDER BY p.id LIMIT ?4",
            &[after.into(), filter.product_key.as_ref().into(), filter.account.as_ref().into(), limit.into()],
            |row| {
                Ok(BrowsedProduct {
                    no: ProductNo(row.int(0)?),
                    place: place(row, 1)?,
                    product_key: row.text(3)?,
                    name: row.text(4)?,
                    node_type: row.int(5)?,
                    device_count: row.int(6)?,
                    firmware_count: row.int(7)?,
                    created_at: Timestamp(row.int(8)?),
                })
            },
        )
    }

    /// How many of a product's devices are in each state. Costs a pass over them.
    pub fn browse_device_counts(
        &mut self,
        product: ProductNo,
    ) -> Result<BTreeMap<DeviceStatus, i64>, StoreError> {
        let rows = self.query(
            "SELECT CASE WHEN disabled <> 0 THEN 3 ELSE status END, COUNT(*) FROM device
             WHERE product = ?1 AND deleted_at IS NULL GROUP BY 1",
            &[product.0.into()],
            |row| {
                let status = row.int(0)?;
                Ok((state("device.status", DeviceStatus::from_code(status), status)?, row.int(1)?))
            },
        )?;
        Ok(rows.into_iter().collect())
    }

    /// Devices behind number `after`, by age.
    pub fn browse_devices(
        &mut self,
        filter: &DeviceFilter,
        after: i64,
        limit: i64,
    ) -> Result<Vec<BrowsedDevice>, StoreError> {
        // Behind every name that begins so: no name has this character.
        let upto = format!("{}\u{10ffff}", filter.name_prefix);
        let mut params: Vec<Value<'_>> = vec![
            after.into(),
            filter.status.map(DeviceStatus::code).into(),
            filter.version.as_ref().into(),
            (&filter.name_prefix).into(),
            (&upto).into(),
            limit.into(),
        ];
        let Some(product) = filter.product else {
            return self.query(device_page!("WHERE "), &params, device);
        };
        params.push(product.0.into());
        self.query(device_page!("WHERE d.product = ?7 AND "), &params, device)
    }

    /// The product's device of this name.
    pub fn browse_device(
        &mut self,
        product: ProductNo,
        name: &str,
    ) -> Result<Option<BrowsedDevice>, StoreError> {
        let params = [product.0.into(), name.into()];
        self.query_one(
            devices!("WHERE d.product = ?1 AND d.name = ?2 AND d.deleted_at IS NULL"),
            &params,
            device,
        )
    }

    /// The device of this IotId, whoever's.
    pub fn browse_device_by_iot_id(&mut self, iot_id: &str) -> Result<Option<BrowsedDevice>, StoreError> {
        self.query_one(devices!("WHERE d.iot_id = ?1 AND d.deleted_at IS NULL"), &[iot_id.into()], device)
    }

    /// The versions that a device reported, by module.
    pub fn browse_versions(&mut self, device: DeviceNo) -> Result<Vec<(String, String)>, StoreError> {
        self.query(
            "SELECT module, version FROM device_version WHERE device = ?1 ORDER BY module",
            &[device.0.into()],
            |row| Ok((row.text(0)?, row.text(1)?)),
        )
    }

    /// Packages behind number `after`, by age.
    pub fn browse_firmwares(
        &mut self,
        filter: &BrowseFilter,
        status: Option<FirmwareStatus>,
        after: i64,
        limit: i64,
    ) -> Result<Vec<BrowsedFirmware>, StoreError> {
        self.query(
            "SELECT f.id, a.name, i.instance_id, p.product_key, f.firmware_id, f.name, f.dest_version, f.module,
                    f.status, f.size, f.job_count, f.created_at
             FROM firmware f JOIN product p ON p.id = f.product JOIN instance i ON i.id = f.instance
             JOIN account a ON a.id = i.account
             WHERE f.id > ?1 AND f.deleted_at IS NULL AND f.firmware_id = COALESCE(?2, f.firmware_id)
               AND p.product_key = COALESCE(?3, p.product_key) AND a.name = COALESCE(?4, a.name)
               AND f.status = COALESCE(?5, f.status)
             ORDER BY f.id LIMIT ?6",
            &[
                after.into(),
                filter.firmware_id.as_ref().into(),
                filter.product_key.as_ref().into(),
                filter.account.as_ref().into(),
                status.map(FirmwareStatus::code).into(),
                limit.into(),
            ],
            |row| {
                let status = row.int(8)?;
                Ok(BrowsedFirmware {
                    no: FirmwareNo(row.int(0)?),
                    place: place(row, 1)?,
                    product_key: row.text(3)?,
                    firmware_id: row.text(4)?,
                    name: row.text(5)?,
                    dest_version: row.text(6)?,
                    module: row.text(7)?,
                    status: state("firmware.status", FirmwareStatus::from_code(status), status)?,
                    size: row.int(9)?,
                    job_count: row.int(10)?,
                    created_at: Timestamp(row.int(11)?),
                })
            },
        )
    }

    /// Batches before number `before`, newest first, with the counts of their tasks.
    pub fn browse_jobs(
        &mut self,
        filter: &BrowseFilter,
        status: Option<JobStatus>,
        before: i64,
        limit: i64,
    ) -> Result<Vec<BrowsedJob>, StoreError> {
        let found = self.query(
            "SELECT j.id, a.name, i.instance_id, p.product_key, f.firmware_id, f.dest_version
             FROM job j JOIN firmware f ON f.id = j.firmware JOIN product p ON p.id = j.product
             JOIN instance i ON i.id = j.instance JOIN account a ON a.id = i.account
             WHERE j.id < ?1 AND j.job_id = COALESCE(?2, j.job_id) AND f.firmware_id = COALESCE(?3, f.firmware_id)
               AND p.product_key = COALESCE(?4, p.product_key) AND a.name = COALESCE(?5, a.name)
               AND j.status = COALESCE(?6, j.status)
             ORDER BY j.id DESC LIMIT ?7",
            &[
                before.into(),
                filter.job_id.as_ref().into(),
                filter.firmware_id.as_ref().into(),
                filter.product_key.as_ref().into(),
                filter.account.as_ref().into(),
                status.map(JobStatus::code).into(),
                limit.into(),
            ],
            |row| Ok((JobNo(row.int(0)?), place(row, 1)?, row.text(3)?, row.text(4)?, row.text(5)?)),
        )?;
        let numbers: Vec<JobNo> = found.iter().map(|row| row.0).collect();
        let mut counts = self.counts_load(&numbers)?;
        let jobs = self.jobs_load(&numbers)?;
        let mut jobs: BTreeMap<JobNo, Job> = jobs.into_iter().map(|job| (job.no, job)).collect();
        let browsed = found.into_iter().filter_map(|(no, place, product_key, firmware_id, dest_version)| {
            let job = jobs.remove(&no)?;
            let counts = counts.remove(&no).unwrap_or_default();
            Some(BrowsedJob { job, place, product_key, firmware_id, dest_version, counts })
        });
        Ok(browsed.collect())
    }

    /// Tasks of a batch behind the one at `after`, in order.
    pub fn browse_tasks(
        &mut self,
        job: JobNo,
        status: Option<TaskStatus>,
        after: i64,
        limit: i64,
    ) -> Result<Vec<BrowsedTask>, StoreError> {
        self.query(
            tasks!(
                "WHERE t.job = ?1 AND t.ordinal > ?2 AND t.status = COALESCE(?3, t.status)
                 ORDER BY t.ordinal LIMIT ?4"
            ),
            &[job.0.into(), after.into(), status.map(TaskStatus::code).into(), limit.into()],
            task,
        )
    }

    /// The batches whose ids begin so: what a task's id tells of its batch.
    pub fn browse_jobs_of_head(&mut self, head: &str) -> Result<Vec<JobNo>, StoreError> {
        let upto = format!("{head}\u{10ffff}");
        self.query(
            "SELECT id FROM job WHERE job_id >= ?1 AND job_id < ?2 ORDER BY id",
            &[head.into(), (&upto).into()],
            |row| Ok(JobNo(row.int(0)?)),
        )
    }
}
