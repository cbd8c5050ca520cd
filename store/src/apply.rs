//! Registrations of devices in bulk: what was asked for, how far it is, and what became of each name.

use crate::error::StoreError;
use crate::tx::{Column, Hot, Tx};
use crate::value::{Row, Value};
use updraft_core::apply::{ApplyStatus, NameProblem};
use updraft_core::id::{ApplyNo, DeviceNo, InstanceNo, ProductNo};
use updraft_core::page::Page;
use updraft_core::time::Timestamp;

/// A registration as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Apply {
    /// Row number.
    pub no: ApplyNo,
    /// The product that its devices are of.
    pub product: ProductNo,
    /// The id on the wire.
    pub apply_id: i64,
    /// How far it is.
    pub status: ApplyStatus,
    /// Whether its caller has asked for the devices, not only for the check.
    pub wanted: bool,
    /// The last name that the check, or the making, has dealt with.
    pub done: i64,
    /// How many names have a problem.
    pub bad: i64,
    /// How many of its devices exist.
    pub made: i64,
}

/// A registration to add.
#[derive(Debug, Clone)]
pub struct NewApply {
    /// The product that its devices are of.
    pub product: ProductNo,
    /// The id on the wire.
    pub apply_id: i64,
    /// `Check` or, if nothing needs to be checked, `Create`.
    pub status: ApplyStatus,
    /// Names, each once, and names for people.
    pub names: Vec<(String, Option<String>)>,
}

/// A name of a registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApplyName {
    /// Its place in the request, from 1.
    pub ordinal: i64,
    /// The device's name.
    pub name: String,
    /// A name for people.
    pub nickname: Option<String>,
    /// Why it has no device.
    pub problem: Option<NameProblem>,
}

/// A device that a registration made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApplyDevice {
    /// Its name.
    pub name: String,
    /// Its IotId.
    pub iot_id: String,
    /// Its secret, sealed with the master key.
    pub secret_sealed: Vec<u8>,
}

/// A query for registrations, in the order of columns that [`apply`] reads.
macro_rules! applies {
    ($rest:literal) => {
        concat!(
            "SELECT a.id, a.product, a.apply_id, a.status, a.wanted, a.done, a.bad, a.made FROM device_apply a ",
            $rest
        )
    };
}

fn apply(row: &Row<'_>) -> Result<Apply, StoreError> {
    let status = row.int(3)?;
    Ok(Apply {
        no: ApplyNo(row.int(0)?),
        product: ProductNo(row.int(1)?),
        apply_id: row.int(2)?,
        status: ApplyStatus::from_code(status).ok_or_else(|| StoreError::Corrupt {
            place: "device_apply.status",
            detail: format!("status {status}"),
        })?,
        wanted: row.flag(4)?,
        done: row.int(5)?,
        bad: row.int(6)?,
        made: row.int(7)?,
    })
}

fn name(row: &Row<'_>) -> Result<ApplyName, StoreError> {
    Ok(ApplyName {
        ordinal: row.int(0)?,
        name: row.text(1)?,
        nickname: row.opt_text(2)?,
        problem: NameProblem::from_code(row.int(3)?),
    })
}

const NAMES_ADD: Hot = Hot {
    row: "INSERT INTO device_apply_name (apply, ordinal, name, nickname, problem) VALUES (?1, ?2, ?3, ?4, 0)",
    set: "INSERT INTO device_apply_name (apply, ordinal, name, nickname, problem)
          SELECT n.*, 0 FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[]) AS n",
    columns: &[Column::Int, Column::Int, Column::Text, Column::Text],
};

const NAMES_BAD: Hot = Hot {
    row: "UPDATE device_apply_name SET problem = ?3 WHERE apply = ?1 AND ordinal = ?2",
    set: "UPDATE device_apply_name d SET problem = n.problem
          FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS n(apply, ordinal, problem)
          WHERE d.apply = n.apply AND d.ordinal = n.ordinal",
    columns: &[Column::Int, Column::Int, Column::Int],
};

const NAMES_MADE: Hot = Hot {
    row: "UPDATE device_apply_name SET device = ?3 WHERE apply = ?1 AND ordinal = ?2",
    set: "UPDATE device_apply_name d SET device = n.device
          FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS n(apply, ordinal, device)
          WHERE d.apply = n.apply AND d.ordinal = n.ordinal",
    columns: &[Column::Int, Column::Int, Column::Int],
};

impl Tx<'_> {
    /// Adds a registration with its names; `None` if its id is another's.
    pub fn apply_insert(&mut self, new: &NewApply, now: Timestamp) -> Result<Option<ApplyNo>, StoreError> {
        let wanted = new.status == ApplyStatus::Create;
        let added = self.query_one(
            "INSERT INTO device_apply (product, apply_id, status, wanted, done, bad, made, changed_at)
             VALUES (?1, ?2, ?3, ?4, 0, 0, 0, ?5) ON CONFLICT (apply_id) DO NOTHING RETURNING id",
            &[
                new.product.0.into(),
                new.apply_id.into(),
                new.status.code().into(),
                wanted.into(),
                now.0.into(),
            ],
            |row| Ok(ApplyNo(row.int(0)?)),
        )?;
        let Some(no) = added else { return Ok(None) };
        let rows: Vec<Vec<Value<'_>>> = new
            .names
            .iter()
            .zip(1_i64..)
            .map(|((name, nickname), n)| vec![no.0.into(), n.into(), name.into(), nickname.as_ref().into()])
            .collect();
        self.exec_set(&NAMES_ADD, &rows)?;
        Ok(Some(no))
    }

    /// The instance's registration with this id, unless it is to be forgotten or its product is deleted.
    pub fn apply_find(&mut self, instance: InstanceNo, apply_id: i64) -> Result<Option<Apply>, StoreError> {
        self.query_one(
            applies!(
                "JOIN product p ON p.id = a.product
                 WHERE a.apply_id = ?1 AND p.instance = ?2 AND a.status <> 6 AND p.deleted_at IS NULL"
            ),
            &[apply_id.into(), instance.0.into()],
            apply,
        )
    }

    /// Whether devices of the product are being made in bulk, or will be as soon as their names are checked.
    pub fn apply_running(&mut self, product: ProductNo) -> Result<bool, StoreError> {
        let found = self.query_one(
            "SELECT 1 FROM device_apply WHERE product = ?1 AND status < 2 AND wanted <> 0 LIMIT 1",
            &[product.0.into()],
            |_| Ok(()),
        )?;
        Ok(found.is_some())
    }

    /// The oldest registration that the engine has to work at.
    pub fn apply_next(&mut self) -> Result<Option<Apply>, StoreError> {
        self.query_one(applies!("WHERE a.status < 2 ORDER BY a.id LIMIT 1"), &[], apply)
    }

    /// Writes down how far a registration is.
    pub fn apply_put(&mut self, apply: &Apply, now: Timestamp) -> Result<(), StoreError> {
        self.exec(
            "UPDATE device_apply SET status = ?2, wanted = ?3, done = ?4, bad = ?5, made = ?6, changed_at = ?7
             WHERE id = ?1",
            &[
                apply.no.0.into(),
                apply.status.code().into(),
                apply.wanted.into(),
                apply.done.into(),
                apply.bad.into(),
                apply.made.into(),
                now.0.into(),
            ],
        )?;
        Ok(())
    }

    /// Names of a registration behind one, in the order of the request.
    pub fn apply_names(
        &mut self,
        apply: ApplyNo,
        after: i64,
        limit: i64,
    ) -> Result<Vec<ApplyName>, StoreError> {
        self.query(
            "SELECT ordinal, name, nickname, problem FROM device_apply_name
             WHERE apply = ?1 AND ordinal > ?2 ORDER BY ordinal LIMIT ?3",
            &[apply.0.into(), after.into(), limit.into()],
            name,
        )
    }

    /// How many names a registration has, deleted devices' at its end not counted.
    pub fn apply_size(&mut self, apply: ApplyNo) -> Result<i64, StoreError> {
        let size = self.query_one(
            "SELECT COALESCE(MAX(ordinal), 0) FROM device_apply_name WHERE apply = ?1",
            &[apply.0.into()],
            |row| row.int(0),
        )?;
        Ok(size.unwrap_or_default())
    }

    /// Notes what is wrong with names.
    pub fn apply_names_bad(&mut self, apply: ApplyNo, bad: &[(i64, NameProblem)]) -> Result<(), StoreError> {
        let row = |(ordinal, problem): &(i64, NameProblem)| -> Vec<Value<'_>> {
            vec![apply.0.into(), (*ordinal).into(), problem.code().into()]
        };
        self.exec_set(&NAMES_BAD, &bad.iter().map(row).collect::<Vec<_>>())?;
        Ok(())
    }

    /// Notes which devices were made of names.
    pub fn apply_names_made(&mut self, apply: ApplyNo, made: &[(i64, DeviceNo)]) -> Result<(), StoreError> {
        let row = |(ordinal, device): &(i64, DeviceNo)| -> Vec<Value<'_>> {
            vec![apply.0.into(), (*ordinal).into(), device.0.into()]
        };
        self.exec_set(&NAMES_MADE, &made.iter().map(row).collect::<Vec<_>>())?;
        Ok(())
    }

    /// A page of the devices that a registration made, in the order of the request. Skips the pages before it:
    /// a registration has few enough names.
    pub fn apply_devices(&mut self, apply: ApplyNo, page: Page) -> Result<Vec<ApplyDevice>, StoreError> {
        self.query(
            "SELECT d.name, d.iot_id, d.secret_sealed FROM device_apply_name n JOIN device d ON d.id = n.device
             WHERE n.apply = ?1 AND n.device IS NOT NULL ORDER BY n.ordinal LIMIT ?2 OFFSET ?3",
            &[apply.0.into(), page.size().into(), page.skip().into()],
            |row| Ok(ApplyDevice { name: row.text(0)?, iot_id: row.text(1)?, secret_sealed: row.blob(2)? }),
        )
    }

    /// Forgets the oldest checks of a product of which nothing became, but for the last `keep`.
    pub fn apply_checks_trim(&mut self, product: ProductNo, keep: i64) -> Result<(), StoreError> {
        self.exec(
            // A failed one stays a failed one, also if its devices were wished for before it had failed.
            "UPDATE device_apply SET status = 6
             WHERE product = ?1 AND status IN (0, 2, 3) AND (wanted = 0 OR status = 3) AND id <=
               (SELECT id FROM device_apply
                WHERE product = ?1 AND status IN (0, 2, 3) AND (wanted = 0 OR status = 3)
                ORDER BY id DESC LIMIT 1 OFFSET ?2)",
            &[product.0.into(), keep.into()],
        )?;
        Ok(())
    }

    /// Takes a device, which is deleted, out of the registration that made it.
    pub(crate) fn apply_device_forget(&mut self, device: DeviceNo) -> Result<(), StoreError> {
        let apply = self.query_one(
            "SELECT apply FROM device_apply_name WHERE device = ?1",
            &[device.0.into()],
            |row| row.int(0),
        )?;
        let Some(apply) = apply else { return Ok(()) };
        self.exec("DELETE FROM device_apply_name WHERE device = ?1", &[device.0.into()])?;
        self.exec("UPDATE device_apply SET made = made - 1 WHERE id = ?1", &[apply.into()])?;
        Ok(())
    }

    /// A registration that may be forgotten: it is marked so, or nothing has become of it since `before`.
    pub fn apply_overdue(&mut self, before: Timestamp) -> Result<Option<ApplyNo>, StoreError> {
        let no = |row: &Row<'_>| Ok(ApplyNo(row.int(0)?));
        let marked =
            self.query_one("SELECT id FROM device_apply WHERE status = 6 ORDER BY id LIMIT 1", &[], no)?;
        if marked.is_some() {
            return Ok(marked);
        }
        self.query_one(
            "SELECT id FROM device_apply WHERE changed_at < ?1 AND status >= 2 ORDER BY changed_at LIMIT 1",
            &[before.0.into()],
            no,
        )
    }

    /// Forgets a registration: up to `rows` of its names, and itself when none is left.
    pub fn apply_forget(&mut self, apply: ApplyNo, rows: i64) -> Result<(), StoreError> {
        let gone = self.exec(
            "DELETE FROM device_apply_name WHERE apply = ?1 AND ordinal IN
               (SELECT ordinal FROM device_apply_name WHERE apply = ?1 ORDER BY ordinal LIMIT ?2)",
            &[apply.0.into(), rows.into()],
        )?;
        if (gone as i64) < rows {
            self.exec("DELETE FROM device_apply WHERE id = ?1", &[apply.0.into()])?;
        } else {
            // What has lost names is not to be asked for any more.
            self.exec("UPDATE device_apply SET status = 6 WHERE id = ?1", &[apply.0.into()])?;
        }
        Ok(())
    }
}
