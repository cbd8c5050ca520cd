//! Candidates of a batch: devices, each with its version and whether an unfinished task keeps it busy.

use crate::device::status;
use crate::error::StoreError;
use crate::tx::{Column, Hot, Sql, Tx};
use crate::value::{Row, Value};
use updraft_core::device::DeviceStatus;
use updraft_core::id::{DeviceNo, JobNo, ProductNo};

/// A device that a batch might be for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Who.
    pub device: DeviceNo,
    /// Presence, or that it is disabled.
    pub status: DeviceStatus,
    /// The version of the package's module that it last reported.
    pub version: Option<String>,
    /// Whether it has an unfinished task.
    pub busy: bool,
}

/// A device `d` with its version `v`, as [`candidate`] reads it; `$rest` may begin with further columns.
// A batch of an unfinished task, not whether there is one (EXISTS): PostgreSQL would rather collect all unfinished tasks
// first, a million of them for each page of devices. SQLite would rather look at all tasks that the device ever had.
macro_rules! candidates {
    ($rest:literal) => {
        $crate::tx::Sql {
            sqlite: candidates!("task t INDEXED BY task_open", $rest),
            postgres: candidates!("task t", $rest),
        }
    };
    ($task:literal, $rest:literal) => {
        concat!(
            "SELECT d.id, CASE WHEN d.disabled <> 0 THEN 3 ELSE d.status END, v.version, ",
            "(SELECT t.job FROM ",
            $task,
            " WHERE t.device = d.id AND t.status < 4 LIMIT 1) ",
            $rest
        )
    };
}
pub(crate) use candidates;

pub(crate) fn candidate(row: &Row<'_>) -> Result<Candidate, StoreError> {
    Ok(Candidate {
        device: DeviceNo(row.int(0)?),
        status: status(row.int(1)?)?,
        version: row.opt_text(2)?,
        busy: row.opt_int(3)?.is_some(),
    })
}

pub(crate) const CANDIDATES_OF: Hot = Hot {
    row: candidates!(
        "FROM device d LEFT JOIN device_version v ON v.device = d.id AND v.module = ?2
          WHERE d.id = ?1 AND d.deleted_at IS NULL"
    )
    .sqlite,
    set: candidates!(
        "FROM unnest($1::bigint[], $2::text[]) AS n(id, module)
          JOIN device d ON d.id = n.id AND d.deleted_at IS NULL
          LEFT JOIN device_version v ON v.device = d.id AND v.module = n.module
          ORDER BY d.id"
    )
    .postgres,
    columns: &[Column::Int, Column::Text],
};

impl Tx<'_> {
    /// The next `limit` devices of a product in id order, after `after` and up to `upto`.
    // The bounds are said of both tables: PostgreSQL likes to walk along both indexes side by side, and would begin the
    // second one at its first row for every page.
    pub fn candidates_of_product(
        &mut self,
        product: ProductNo,
        module: &str,
        after: DeviceNo,
        upto: DeviceNo,
        limit: i64,
    ) -> Result<Vec<Candidate>, StoreError> {
        const SQL: Sql = candidates!(
                "FROM device d
             LEFT JOIN device_version v ON v.device = d.id AND v.module = ?2 AND v.device > ?3 AND v.device <= ?4
             WHERE d.product = ?1 AND d.id > ?3 AND d.id <= ?4 AND d.deleted_at IS NULL
             ORDER BY d.id LIMIT ?5"
        );
        self.query(
            self.text_of(SQL),
            &[product.0.into(), module.into(), after.0.into(), upto.0.into(), limit.into()],
            candidate,
        )
    }

    /// The next `limit` devices chosen for a batch in id order, after `after`.
    pub fn candidates_of_targets(
        &mut self,
        job: JobNo,
        module: &str,
        after: DeviceNo,
        limit: i64,
    ) -> Result<Vec<Candidate>, StoreError> {
        const SQL: Sql = candidates!(
            "FROM job_target g JOIN device d ON d.id = g.device AND d.deleted_at IS NULL
             LEFT JOIN device_version v ON v.device = d.id AND v.module = ?2 AND v.device > ?3
             WHERE g.job = ?1 AND g.device > ?3 AND d.id > ?3 ORDER BY g.device LIMIT ?4"
        );
        self.query(self.text_of(SQL), &[job.0.into(), module.into(), after.0.into(), limit.into()], candidate)
    }

    /// Devices of a product in id order, after `after` and up to `upto`, each with the version of a module that it
    /// last reported.
    pub fn versions_of_product(
        &mut self,
        product: ProductNo,
        module: &str,
        after: DeviceNo,
        upto: DeviceNo,
        limit: i64,
    ) -> Result<Vec<(DeviceNo, Option<String>)>, StoreError> {
        self.query(
            "SELECT d.id, v.version FROM device d
             LEFT JOIN device_version v ON v.device = d.id AND v.module = ?2 AND v.device > ?3 AND v.device <= ?4
             WHERE d.product = ?1 AND d.id > ?3 AND d.id <= ?4 AND d.deleted_at IS NULL
             ORDER BY d.id LIMIT ?5",
            &[product.0.into(), module.into(), after.0.into(), upto.0.into(), limit.into()],
            |row| Ok((DeviceNo(row.int(0)?), row.opt_text(1)?)),
        )
    }

    /// These devices, as candidates, in the order given on SQLite and in id order on PostgreSQL.
    pub fn candidates_of(
        &mut self,
        devices: &[DeviceNo],
        module: &str,
    ) -> Result<Vec<Candidate>, StoreError> {
        let keys: Vec<Vec<Value<'_>>> =
            devices.iter().map(|device| vec![device.0.into(), module.into()]).collect();
        self.query_set(&CANDIDATES_OF, &keys, candidate)
    }
}
