//! Update packages.

use crate::error::StoreError;
use crate::job::Job;
use crate::tx::{Column, Hot, Tx};
use crate::value::{Row, Value};
use updraft_core::firmware::{FirmwareKind, FirmwareStatus, SignMethod};
use updraft_core::id::{FileNo, FirmwareNo, InstanceNo, JobNo, ProductNo};
use updraft_core::page::Page;
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
    /// Whole or a difference.
    pub kind: FirmwareKind,
    /// The version that it comes from; of a differential package always given.
    pub src_version: Option<String>,
    /// Verification.
    pub status: FirmwareStatus,
    /// How its files are signed.
    pub sign_method: SignMethod,
    /// Bytes of all its files.
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
    /// When it was deleted: it is found by its row number only, for the batches that it had.
    pub deleted_at: Option<Timestamp>,
    /// Its files in order, one at least.
    pub files: Vec<FirmwareFile>,
}

/// A file of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirmwareFile {
    /// The name that its maker gave it; `None` if the package was made of one file without a name.
    pub name: Option<String>,
    /// The key that it was uploaded under.
    pub object_key: String,
    /// Where its bytes are, in the blob store; `None` once they are purged.
    pub blob: Option<String>,
    /// Bytes.
    pub size: i64,
    /// Lower-case hex.
    pub md5: String,
    /// Lower-case hex.
    pub sha256: String,
}

impl FirmwareFile {
    /// The digest by this method, lower-case hex.
    pub fn digest(&self, method: SignMethod) -> &str {
        match method {
            SignMethod::Md5 => &self.md5,
            SignMethod::Sha256 => &self.sha256,
        }
    }
}

impl Firmware {
    /// The source version of a differential package.
    pub fn differs_from(&self) -> Option<&str> {
        self.src_version.as_deref().filter(|_| self.kind == FirmwareKind::Differential)
    }

    /// The versions that devices of this batch of the package may come from (empty: any).
    pub fn sources<'a>(&'a self, job: &'a Job) -> &'a [String] {
        self.sources_for(&job.src_versions)
    }

    /// The versions that devices of a batch may come from that asks for these (empty: any). A differential package
    /// has its own say, whatever its batch asks for.
    pub fn sources_for<'a>(&'a self, asked: &'a [String]) -> &'a [String] {
        match self.kind {
            FirmwareKind::Differential => self.src_version.as_slice(),
            FirmwareKind::Full => asked,
        }
    }

    /// The digest of the package's only file, by its sign method; `None` if it has several.
    pub fn sign(&self) -> Option<&str> {
        match self.files.as_slice() {
            [file] => Some(file.digest(self.sign_method)),
            _ => None,
        }
    }
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
    /// Whole or a difference.
    pub kind: FirmwareKind,
    /// The version that it comes from; of a differential package always given.
    pub src_version: Option<String>,
    /// Verification.
    pub status: FirmwareStatus,
    /// How its files are signed.
    pub sign_method: SignMethod,
    /// Bytes of all its files.
    pub size: i64,
    /// Its files in order, one at least, with their names within the package.
    pub files: Vec<(FileNo, Option<String>)>,
    /// Custom information.
    pub udi: Option<String>,
}

/// What is to be changed of a package; absent: stays as it is.
#[derive(Debug, Clone, Default)]
pub struct FirmwareChanges {
    /// Unique in the instance.
    pub name: Option<String>,
    /// Free text.
    pub description: Option<String>,
    /// Custom information.
    pub udi: Option<String>,
}

/// A query for packages, in the order of columns that [`firmware`] reads: one row for each file, those of a
/// package together and in order.
macro_rules! firmwares {
    ($rest:literal) => {
        concat!(
            "SELECT f.id, f.instance, f.product, f.firmware_id, f.name, f.description, f.dest_version, f.module, ",
            "f.status, f.sign_method, f.size, f.udi, f.verify_job, f.job_count, f.created_at, f.modified_at, ",
            "f.kind, f.src_version, f.deleted_at, x.name, x.object_key, x.size, x.md5, x.sha256, x.blob FROM firmware f JOIN file x ON x.firmware = f.id ",
            $rest,
            " ORDER BY f.id, x.ordinal"
        )
    };
}
pub(crate) use firmwares;

/// Packages of the rows that [`firmwares`] yields.
pub(crate) fn gather(rows: Vec<Firmware>) -> Vec<Firmware> {
    let mut packages: Vec<Firmware> = Vec::with_capacity(rows.len());
    for mut row in rows {
        match packages.last_mut() {
            Some(package) if package.no == row.no => package.files.append(&mut row.files),
            _ => packages.push(row),
        }
    }
    packages
}

pub(crate) fn firmware(row: &Row<'_>) -> Result<Firmware, StoreError> {
    let status = row.int(8)?;
    let method = row.int(9)?;
    let kind = row.int(16)?;
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
        size: row.int(10)?,
        udi: row.opt_text(11)?,
        verify_job: row.opt_int(12)?.map(JobNo),
        job_count: row.int(13)?,
        created_at: Timestamp(row.int(14)?),
        modified_at: Timestamp(row.int(15)?),
        kind: FirmwareKind::from_code(kind)
            .ok_or(StoreError::Corrupt { place: "firmware.kind", detail: kind.to_string() })?,
        src_version: row.opt_text(17)?,
        deleted_at: row.opt_int(18)?.map(Timestamp),
        files: vec![FirmwareFile {
            name: row.opt_text(19)?,
            object_key: row.text(20)?,
            blob: row.opt_text(24)?,
            size: row.int(21)?,
            md5: row.text(22)?,
            sha256: row.text(23)?,
        }],
    })
}

const LOAD: Hot = Hot {
    row: firmwares!("WHERE f.id = ?1"),
    set: firmwares!("WHERE f.id = ANY($1::bigint[])"),
    columns: &[Column::Int],
};

const CLAIM: Hot = Hot {
    row: "UPDATE file SET firmware = ?2, ordinal = ?3, name = ?4, unused_since = NULL
          WHERE id = ?1 AND firmware IS NULL",
    set: "UPDATE file SET firmware = u.firmware, ordinal = u.ordinal, name = u.name, unused_since = NULL
          FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[]) AS u (id, firmware, ordinal, name)
          WHERE file.id = u.id AND file.firmware IS NULL",
    columns: &[Column::Int, Column::Int, Column::Int, Column::Text],
};

impl Tx<'_> {
    /// Adds a package and ties its files to it; `None` if the instance has one of that name.
    pub fn firmware_insert(
        &mut self,
        new: &NewFirmware,
        now: Timestamp,
    ) -> Result<Option<FirmwareNo>, StoreError> {
        let no = self.query_one(
            "INSERT INTO firmware (instance, product, firmware_id, name, description, dest_version, module, status,
                                   sign_method, size, udi, job_count, created_at, modified_at, kind, src_version)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, 0, ?12, ?12, ?13, ?14)
             ON CONFLICT (instance, name) WHERE deleted_at IS NULL DO NOTHING RETURNING id",
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
                new.size.into(),
                new.udi.as_ref().into(),
                now.0.into(),
                new.kind.code().into(),
                new.src_version.as_ref().into(),
            ],
            |row| Ok(FirmwareNo(row.int(0)?)),
        )?;
        if let Some(no) = no {
            let rows: Vec<Vec<Value<'_>>> = new
                .files
                .iter()
                .zip(0_i64..)
                .map(|((file, name), at)| vec![file.0.into(), no.0.into(), at.into(), name.as_ref().into()])
                .collect();
            // Found unused in this transaction; another node may have been faster.
            if self.exec_set(&CLAIM, &rows)? != rows.len() {
                return Err(StoreError::Conflict("file"));
            }
        }
        Ok(no)
    }

    /// The instance's package with this id.
    pub fn firmware_find(
        &mut self,
        instance: InstanceNo,
        firmware_id: &str,
    ) -> Result<Option<Firmware>, StoreError> {
        let rows = self.query(
            firmwares!("WHERE f.firmware_id = ?1 AND f.instance = ?2 AND f.deleted_at IS NULL"),
            &[firmware_id.into(), instance.0.into()],
            firmware,
        )?;
        Ok(gather(rows).pop())
    }

    /// The packages with these row numbers, deleted ones too.
    pub fn firmwares_load(&mut self, numbers: &[FirmwareNo]) -> Result<Vec<Firmware>, StoreError> {
        let keys: Vec<Vec<Value<'_>>> = numbers.iter().map(|no| vec![no.0.into()]).collect();
        Ok(gather(self.query_set(&LOAD, &keys, firmware)?))
    }

    /// A page of the instance's packages, newest first, and how many there are: all, or those of a product, or
    /// those that lead to a version.
    pub fn firmware_list(
        &mut self,
        instance: InstanceNo,
        product: Option<ProductNo>,
        dest_version: Option<&str>,
        page: Page,
    ) -> Result<(Vec<Firmware>, i64), StoreError> {
        let product = product.map(|no| no.0);
        let total = self.query_one(
            "SELECT COUNT(*) FROM firmware
             WHERE instance = ?1 AND deleted_at IS NULL
               AND product = COALESCE(?2, product) AND dest_version = COALESCE(?3, dest_version)",
            &[instance.0.into(), product.into(), dest_version.into()],
            |row| row.int(0),
        )?;
        let numbers = self.query(
            "SELECT id FROM firmware
             WHERE instance = ?1 AND deleted_at IS NULL
               AND product = COALESCE(?2, product) AND dest_version = COALESCE(?3, dest_version)
             ORDER BY id DESC LIMIT ?4 OFFSET ?5",
            &[instance.0.into(), product.into(), dest_version.into(), page.size().into(), page.skip().into()],
            |row| Ok(FirmwareNo(row.int(0)?)),
        )?;
        let mut packages = self.firmwares_load(&numbers)?;
        packages.sort_unstable_by_key(|package| std::cmp::Reverse(package.no));
        Ok((packages, total.unwrap_or_default()))
    }

    /// Whether a package of this module of the product exists.
    pub fn firmware_of_module_exists(
        &mut self,
        product: ProductNo,
        module: &str,
    ) -> Result<bool, StoreError> {
        let found = self.query_one(
            "SELECT 1 FROM firmware WHERE product = ?1 AND module = ?2 AND deleted_at IS NULL LIMIT 1",
            &[product.0.into(), module.into()],
            |_| Ok(()),
        )?;
        Ok(found.is_some())
    }

    /// Changes a package's name, description and custom information, those that are given; `false` if another
    /// package of its instance has that name.
    pub fn firmware_modify(
        &mut self,
        package: &Firmware,
        changes: &FirmwareChanges,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        if let Some(name) = &changes.name {
            let taken = self.query_one(
                "SELECT 1 FROM firmware WHERE instance = ?1 AND name = ?2 AND deleted_at IS NULL AND id <> ?3",
                &[package.instance.0.into(), name.into(), package.no.0.into()],
                |_| Ok(()),
            )?;
            if taken.is_some() {
                return Ok(false);
            }
        }
        self.exec(
            "UPDATE firmware SET name = COALESCE(?2, name), description = COALESCE(?3, description),
                                 udi = COALESCE(?4, udi), modified_at = ?5
             WHERE id = ?1",
            &[
                package.no.0.into(),
                changes.name.as_ref().into(),
                changes.description.as_ref().into(),
                changes.udi.as_ref().into(),
                now.0.into(),
            ],
        )?;
        Ok(true)
    }

    /// How many packages the instance has; bounded by the quota.
    pub fn firmware_count(&mut self, instance: InstanceNo) -> Result<i64, StoreError> {
        let count = self.query_one(
            "SELECT COUNT(*) FROM firmware WHERE instance = ?1 AND deleted_at IS NULL",
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
