//! Update packages.

use crate::error::StoreError;
use crate::tx::{Column, Hot, Tx};
use crate::value::{Row, Value};
use updraft_core::firmware::{FirmwareStatus, SignMethod};
use updraft_core::id::{FileNo, FirmwareNo, InstanceNo, JobNo, ProductNo};
use updraft_core::time::Timestamp;

/// A package as it is stored, with its file's key and digests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firmware {
    /// Row number.
    pub no: FirmwareNo,
    /// The instance that it belongs to.
    pub instance: InstanceNo,
    /// The product that it is for.
    pub product: ProductNo,
    /// The id on the wire.
    pub firmware_id: String,
    /// Unique in the instance.
    pub name: String,
    /// Free text.
    pub description: Option<String>,
    /// The version that it leads to.
    pub dest_version: String,
    /// The module that it is for.
    pub module: String,
    /// Verification.
    pub status: FirmwareStatus,
    /// How `sign` was made.
    pub sign_method: SignMethod,
    /// Lower-case hex digest.
    pub sign: String,
    /// Bytes.
    pub size: i64,
    /// Custom information, delivered with each push.
    pub udi: Option<String>,
    /// The running or last verification batch.
    pub verify_job: Option<JobNo>,
    /// How many batches it has; the newest one's ordinal.
    pub job_count: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub modified_at: Timestamp,
    /// The key of its file.
    pub object_key: String,
    /// MD5 of its file, lower-case hex.
    pub file_md5: String,
}

/// A package to add.
#[derive(Debug, Clone)]
pub struct NewFirmware {
    /// The instance that it belongs to.
    pub instance: InstanceNo,
    /// The product that it is for.
    pub product: ProductNo,
    /// The id on the wire.
    pub firmware_id: String,
    /// Unique in the instance.
    pub name: String,
    /// Free text.
    pub description: Option<String>,
    /// The version that it leads to.
    pub dest_version: String,
    /// The module that it is for.
    pub module: String,
    /// Verification.
    pub status: FirmwareStatus,
    /// How `sign` was made.
    pub sign_method: SignMethod,
    /// Lower-case hex digest.
    pub sign: String,
    /// Bytes.
    pub size: i64,
    /// Its file.
    pub file: FileNo,
    /// Custom information.
    pub udi: Option<String>,
}

/// A query for packages, in the order of columns that [`firmware`] reads.
macro_rules! firmwares {
    ($rest:literal) => {
        concat!(
            "SELECT f.id, f.instance, f.product, f.firmware_id, f.name, f.description, f.dest_version, f.module, ",
            "f.status, f.sign_method, f.sign, f.size, f.udi, f.verify_job, f.job_count, f.created_at, ",
            "f.modified_at, x.object_key, x.md5 FROM firmware f JOIN file x ON x.id = f.file ",
            $rest
        )
    };
}

fn firmware(row: &Row<'_>) -> Result<Firmware, StoreError> {
    let status = row.int(8)?;
    let method = row.int(9)?;
    Ok(Firmware {
        no: FirmwareNo(row.int(0)?),
        instance: InstanceNo(row.int(1)?),
        product: ProductNo(row.int(2)?),
        firmware_id: row.text(3)?,
        name: row.text(4)?,
        description: row.opt_text(5)?,
        dest_version: row.text(6)?,
        module: row.text(7)?,
        status: FirmwareStatus::from_code(status)
            .ok_or(StoreError::Corrupt { place: "firmware.status", detail: status.to_string() })?,
        sign_method: SignMethod::from_code(method)
            .ok_or(StoreError::Corrupt { place: "firmware.sign_method", detail: method.to_string() })?,
        sign: row.text(10)?,
        size: row.int(11)?,
        udi: row.opt_text(12)?,
        verify_job: row.opt_int(13)?.map(JobNo),
        job_count: row.int(14)?,
        created_at: Timestamp(row.int(15)?),
        modified_at: Timestamp(row.int(16)?),
        object_key: row.text(17)?,
        file_md5: row.text(18)?,
    })
}

const LOAD: Hot = Hot {
    row: firmwares!("WHERE f.id = ?1"),
    set: firmwares!("WHERE f.id = ANY($1::bigint[])"),
    columns: &[Column::Int],
};

impl Tx<'_> {
    /// Adds a package and ties its file to it; `None` if the instance has one of that name.
    pub fn firmware_insert(
        &mut self,
        new: &NewFirmware,
        now: Timestamp,
    ) -> Result<Option<FirmwareNo>, StoreError> {
        let no = self.query_one(
            "INSERT INTO firmware (instance, product, firmware_id, name, description, dest_version, module, status,
                                   sign_method, sign, size, file, udi, job_count, created_at, modified_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, 0, ?14, ?14)
             ON CONFLICT (instance, name) DO NOTHING RETURNING id",
            &[
                new.instance.0.into(),
                new.product.0.into(),
                (&new.firmware_id).into(),
                (&new.name).into(),
                new.description.as_ref().into(),
                (&new.dest_version).into(),
                (&new.module).into(),
                new.status.code().into(),
                new.sign_method.code().into(),
                (&new.sign).into(),
                new.size.into(),
                new.file.0.into(),
                new.udi.as_ref().into(),
                now.0.into(),
            ],
            |row| Ok(FirmwareNo(row.int(0)?)),
        )?;
        if let Some(no) = no {
            self.exec("UPDATE file SET firmware = ?2 WHERE id = ?1", &[new.file.0.into(), no.0.into()])?;
        }
        Ok(no)
    }

    /// The instance's package with this id.
    pub fn firmware_find(
        &mut self,
        instance: InstanceNo,
        firmware_id: &str,
    ) -> Result<Option<Firmware>, StoreError> {
        self.query_one(
            firmwares!("WHERE f.firmware_id = ?1 AND f.instance = ?2"),
            &[firmware_id.into(), instance.0.into()],
            firmware,
        )
    }

    /// The packages with these row numbers.
    pub fn firmwares_load(&mut self, numbers: &[FirmwareNo]) -> Result<Vec<Firmware>, StoreError> {
        let keys: Vec<Vec<Value<'_>>> = numbers.iter().map(|no| vec![no.0.into()]).collect();
        self.query_set(&LOAD, &keys, firmware)
    }

    /// How many packages the instance has; bounded by the quota.
    pub fn firmware_count(&mut self, instance: InstanceNo) -> Result<i64, StoreError> {
        let count = self.query_one(
            "SELECT COUNT(*) FROM firmware WHERE instance = ?1",
            &[instance.0.into()],
            |row| row.int(0),
        )?;
        Ok(count.unwrap_or_default())
    }

    /// Sets a package's verification status.
    pub fn firmware_status_set(
        &mut self,
        no: FirmwareNo,
        status: FirmwareStatus,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.exec(
            "UPDATE firmware SET status = ?2, modified_at = ?3 WHERE id = ?1",
            &[no.0.into(), status.code().into(), now.0.into()],
        )?;
        Ok(())
    }

    /// Notes which batch verifies the package.
    pub fn firmware_verify_job_set(&mut self, no: FirmwareNo, job: JobNo) -> Result<(), StoreError> {
        self.exec("UPDATE firmware SET verify_job = ?2 WHERE id = ?1", &[no.0.into(), job.0.into()])?;
        Ok(())
    }
}
