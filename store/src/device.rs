//! Devices: registration, presence, reported versions.

use crate::error::StoreError;
use crate::group_dynamic::DeviceChange;
use crate::tx::{Column, Hot, Tx};
use crate::value::{Row, Value};
use updraft_core::device::DeviceStatus;
use updraft_core::id::{DeviceNo, InstanceNo, ProductNo};
use updraft_core::page::Page;
use updraft_core::time::Timestamp;

/// A device as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Row number; a later device has a larger one.
    pub no: DeviceNo,
    /// The product that it belongs to.
    pub product: ProductNo,
    /// Unique in the product.
    pub name: String,
    /// Unique everywhere.
    pub iot_id: String,
    /// Its secret, sealed with the master key.
    pub secret_sealed: Vec<u8>,
    /// A name for people.
    pub nickname: Option<String>,
    /// Presence, or that it is disabled.
    pub status: DeviceStatus,
    /// The address of its last connection.
    pub ip: Option<String>,
    /// When it was registered.
    pub created_at: Timestamp,
    /// When it first connected.
    pub active_at: Option<Timestamp>,
    /// When it last connected.
    pub online_at: Option<Timestamp>,
    /// When its status last changed.
    pub status_at: Timestamp,
}

/// A device to register.
#[derive(Debug, Clone)]
pub struct NewDevice {
    /// The product.
    pub product: ProductNo,
    /// Unique in the product.
    pub name: String,
    /// Unique everywhere.
    pub iot_id: String,
    /// Its secret, sealed with the master key.
    pub secret_sealed: Vec<u8>,
    /// A name for people.
    pub nickname: Option<String>,
}

/// A device that came online.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnlineDevice {
    /// Who.
    pub device: DeviceNo,
    /// The login's number; larger than every earlier one of the device.
    pub session: i64,
    /// The address that it came from.
    pub ip: String,
}

/// A query for devices, in the order of columns that [`device`] reads.
macro_rules! devices {
    ($rest:literal) => {
        concat!(
            "SELECT d.id, d.product, d.name, d.iot_id, d.secret_sealed, d.nickname, ",
            "CASE WHEN d.disabled <> 0 THEN 3 ELSE d.status END, d.ip, d.created_at, ",
            "d.active_at, d.online_at, COALESCE(d.status_at, d.created_at) ",
            $rest
        )
    };
}

pub(crate) use devices;

pub(crate) fn status(code: i64) -> Result<DeviceStatus, StoreError> {
    DeviceStatus::from_code(code)
        .ok_or(StoreError::Corrupt { place: "device.status", detail: code.to_string() })
}

pub(crate) fn device(row: &Row<'_>) -> Result<Device, StoreError> {
    Ok(Device {
        no: DeviceNo(row.int(0)?),
        product: ProductNo(row.int(1)?),
        name: row.text(2)?,
        iot_id: row.text(3)?,
        secret_sealed: row.blob(4)?,
        nickname: row.opt_text(5)?,
        status: status(row.int(6)?)?,
        ip: row.opt_text(7)?,
        created_at: Timestamp(row.int(8)?),
        active_at: row.opt_int(9)?.map(Timestamp),
        online_at: row.opt_int(10)?.map(Timestamp),
        status_at: Timestamp(row.int(11)?),
    })
}

// `session < ?2` keeps a login that was overtaken on its way here from undoing a newer one of the same node; of logins at
// two nodes the one that comes here last counts. Whoever was reset and has registered anew is through with that.
const ONLINE: Hot = Hot {
    row: "UPDATE device SET status = 1, session = ?2, ip = ?3, online_at = ?4,
                            active_at = COALESCE(active_at, ?4),
                            reset_at = CASE WHEN registered_at IS NULL THEN reset_at END,
                            status_at = CASE WHEN status = 1 THEN status_at ELSE ?4 END
          WHERE id = ?1 AND (session < ?2 OR session >> 40 <> ?2 >> 40)",
    set: "UPDATE device SET status = 1, session = n.session, ip = n.ip, online_at = n.at,
                            active_at = COALESCE(active_at, n.at),
                            reset_at = CASE WHEN registered_at IS NULL THEN reset_at END,
                            status_at = CASE WHEN status = 1 THEN status_at ELSE n.at END
          FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bigint[]) AS n(id, session, ip, at)
          WHERE device.id = n.id
            AND (device.session < n.session OR device.session >> 40 <> n.session >> 40)",
    columns: &[Column::Int, Column::Int, Column::Text, Column::Int],
};

const OFFLINE: Hot = Hot {
    row: "UPDATE device SET status = 2, status_at = ?3
          WHERE id = ?1 AND session <= ?2 AND session >> 40 = ?2 >> 40 AND status = 1",
    set: "UPDATE device SET status = 2, status_at = n.at
          FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS n(id, session, at)
          WHERE device.id = n.id AND device.session <= n.session AND device.session >> 40 = n.session >> 40
            AND device.status = 1",
    columns: &[Column::Int, Column::Int, Column::Int],
};

const VERSIONS: Hot = Hot {
    row: "INSERT INTO device_version (device, module, version, reported_at) VALUES (?1, ?2, ?3, ?4)
          ON CONFLICT (device, module)
          DO UPDATE SET version = excluded.version, reported_at = excluded.reported_at",
    set: "INSERT INTO device_version (device, module, version, reported_at)
          SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[])
          ON CONFLICT (device, module)
          DO UPDATE SET version = excluded.version, reported_at = excluded.reported_at",
    columns: &[Column::Int, Column::Text, Column::Text, Column::Int],
};

const BY_NAMES: Hot = Hot {
    row: devices!("FROM device d WHERE d.product = ?1 AND d.name = ?2 AND d.deleted_at IS NULL"),
    set: devices!(
        "FROM device d JOIN unnest($1::bigint[], $2::text[]) AS n(product, name)
           ON d.product = n.product AND d.name = n.name AND d.deleted_at IS NULL"
    ),
    columns: &[Column::Int, Column::Text],
};

const ADD: Hot = Hot {
    row: "INSERT INTO device (product, name, iot_id, secret_sealed, nickname, created_at, status, session)
          VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0, 0)
          ON CONFLICT (product, name) WHERE deleted_at IS NULL DO NOTHING RETURNING id, name",
    set: "INSERT INTO device (product, name, iot_id, secret_sealed, nickname, created_at, status, session)
          SELECT n.*, 0, 0
          FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bytea[], $5::text[], $6::bigint[]) AS n
          ON CONFLICT (product, name) WHERE deleted_at IS NULL DO NOTHING RETURNING id, name",
    columns: &[Column::Int, Column::Text, Column::Text, Column::Blob, Column::Text, Column::Int],
};

impl Tx<'_> {
    /// Registers devices of one product; answers those that are new, by name. Names that the product has already
    /// are left out.
    pub fn devices_insert(
        &mut self,
        product: ProductNo,
        new: &[NewDevice],
        now: Timestamp,
    ) -> Result<Vec<(String, DeviceNo)>, StoreError> {
        let rows: Vec<Vec<Value<'_>>> = new
            .iter()
            .map(|NewDevice { name, iot_id, secret_sealed, nickname, .. }| {
                let (sealed, nickname) = (Value::Blob(secret_sealed), nickname.as_ref().into());
                vec![product.0.into(), name.into(), iot_id.into(), sealed, nickname, now.0.into()]
            })
            .collect();
        let added = self.query_set(&ADD, &rows, |row| Ok((row.text(1)?, DeviceNo(row.int(0)?))))?;
        self.exec(
            "UPDATE product SET device_count = device_count + ?2 WHERE id = ?1",
            &[product.0.into(), (added.len() as i64).into()],
        )?;
        // A dynamic group may ask for them. A note too many does no harm, so whose group it is is not looked at.
        let asked =
            self.query_one("SELECT 1 FROM device_group WHERE dynamic <> 0 LIMIT 1", &[], |_| Ok(()))?;
        if asked.is_some() {
            self.reviews_add(&added.iter().map(|(_, device)| *device).collect::<Vec<_>>())?;
        }
        Ok(added)
    }

    /// Registers a device; `None` if the product has one of that name.
    pub fn device_insert(&mut self, new: &NewDevice, now: Timestamp) -> Result<Option<DeviceNo>, StoreError> {
        let no = self.query_one(
            "INSERT INTO device (product, name, iot_id, secret_sealed, nickname, status, session, created_at)
             VALUES (?1, ?2, ?3, ?4, ?5, 0, 0, ?6)
             ON CONFLICT (product, name) WHERE deleted_at IS NULL DO NOTHING RETURNING id",
            &[
                new.product.0.into(),
                (&new.name).into(),
                (&new.iot_id).into(),
                Value::Blob(&new.secret_sealed),
                new.nickname.as_ref().into(),
                now.0.into(),
            ],
            |row| Ok(DeviceNo(row.int(0)?)),
        )?;
        if let Some(no) = no {
            self.reviews_add_for_groups(DeviceChange::Itself, &[no])?;
            self.exec(
                "UPDATE product SET device_count = device_count + 1 WHERE id = ?1",
                &[new.product.0.into()],
            )?;
        }
        Ok(no)
    }

    /// The device of this name in the product.
    pub fn device_find(&mut self, product: ProductNo, name: &str) -> Result<Option<Device>, StoreError> {
        self.query_one(
            devices!("FROM device d WHERE d.product = ?1 AND d.name = ?2 AND d.deleted_at IS NULL"),
            &[product.0.into(), name.into()],
            device,
        )
    }

    /// The instance's device with this IotId.
    pub fn device_find_by_iot_id(
        &mut self,
        instance: InstanceNo,
        iot_id: &str,
    ) -> Result<Option<Device>, StoreError> {
        self.query_one(
            devices!(
                "FROM device d JOIN product p ON p.id = d.product
                 WHERE d.iot_id = ?1 AND p.instance = ?2 AND d.deleted_at IS NULL"
            ),
            &[iot_id.into(), instance.0.into()],
            device,
        )
    }

    /// The devices of these names in the product; unknown names are left out.
    pub fn devices_find(&mut self, product: ProductNo, names: &[String]) -> Result<Vec<Device>, StoreError> {
        let keys: Vec<Vec<Value<'_>>> =
            names.iter().map(|name| vec![product.0.into(), name.into()]).collect();
        self.query_set(&BY_NAMES, &keys, device)
    }

    /// The largest number of a device that there is; a batch that targets all devices stops there.
    pub fn device_last(&mut self, product: ProductNo) -> Result<DeviceNo, StoreError> {
        let last = self.query_one(
            "SELECT COALESCE(MAX(id), 0) FROM device WHERE product = ?1 AND deleted_at IS NULL",
            &[product.0.into()],
            |row| Ok(DeviceNo(row.int(0)?)),
        )?;
        Ok(last.unwrap_or_default())
    }

    /// Marks devices online; of several logins of one device the newest session counts.
    pub fn devices_online(&mut self, devices: &[OnlineDevice], now: Timestamp) -> Result<(), StoreError> {
        // Of two rows for one device PostgreSQL takes any, so only the newest session stays.
        let mut newest: std::collections::BTreeMap<DeviceNo, &OnlineDevice> =
            std::collections::BTreeMap::new();
        for login in devices {
            let kept = newest.entry(login.device).or_insert(login);
            if kept.session < login.session {
                *kept = login;
            }
        }
        let rows: Vec<Vec<Value<'_>>> = newest
            .values()
            .map(|d| vec![d.device.0.into(), d.session.into(), (&d.ip).into(), now.0.into()])
            .collect();
        self.exec_set(&ONLINE, &rows)?;
        Ok(())
    }

    /// Marks devices offline whose session is this one or an older one of the same node: the end of a login whose
    /// beginning could not be written ends the one before it too.
    pub fn devices_offline(&mut self, devices: &[(DeviceNo, i64)], now: Timestamp) -> Result<(), StoreError> {
        let rows: Vec<Vec<Value<'_>>> = devices
            .iter()
            .map(|(device, session)| vec![device.0.into(), (*session).into(), now.0.into()])
            .collect();
        self.exec_set(&OFFLINE, &rows)?;
        Ok(())
    }

    /// Counts a start of this node; answers how many there were, this one included.
    pub fn node_start(&mut self) -> Result<i64, StoreError> {
        let starts = self.query_one(
            "INSERT INTO node (id, starts) VALUES (?1, 1)
             ON CONFLICT (id) DO UPDATE SET starts = node.starts + 1 RETURNING starts",
            &[crate::count::NODE.into()],
            |row| row.int(0),
        )?;
        starts.ok_or_else(|| StoreError::Internal("a start could not be counted".to_owned()))
    }

    /// Writes something and takes it back, in one transaction: the disk gets a page all the same. (A row that is
    /// set to what it was is none of SQLite's work.)
    pub(crate) fn node_probe(&mut self) -> Result<(), StoreError> {
        let nobody = -1;
        self.exec("INSERT INTO node (id, starts) VALUES (?1, 0)", &[Value::Int(nobody)])?;
        self.exec("DELETE FROM node WHERE id = ?1", &[Value::Int(nobody)]).map(drop)
    }

    /// Marks every device offline: after a start, no connection of before exists. Answers how many.
    pub fn devices_all_offline(&mut self, now: Timestamp) -> Result<usize, StoreError> {
        self.exec("UPDATE device SET status = 2, status_at = ?1 WHERE status = 1", &[now.0.into()])
    }

    /// The devices of a product with a smaller number than `below`, newest first.
    pub fn device_list_below(
        &mut self,
        product: ProductNo,
        below: DeviceNo,
        limit: i64,
    ) -> Result<Vec<Device>, StoreError> {
        self.query(
            devices!(
                "FROM device d WHERE d.product = ?1 AND d.id < ?2 AND d.deleted_at IS NULL
                 ORDER BY d.id DESC LIMIT ?3"
            ),
            &[product.0.into(), below.0.into(), limit.into()],
            device,
        )
    }

    /// One page of a product's devices, newest first; skips the pages before it, so its callers bound them.
    pub fn device_list(&mut self, product: ProductNo, page: Page) -> Result<Vec<Device>, StoreError> {
        self.query(
            devices!(
                "FROM device d WHERE d.product = ?1 AND d.deleted_at IS NULL
                 ORDER BY d.id DESC LIMIT ?2 OFFSET ?3"
            ),
            &[product.0.into(), page.size().into(), page.skip().into()],
            device,
        )
    }

    /// Remembers reported versions; of several for one module the last counts.
    pub fn versions_put(
        &mut self,
        reports: &[(DeviceNo, String, String)],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        // One statement must not touch a row twice (PostgreSQL refuses it), so only the last one stays.
        let mut last: std::collections::BTreeMap<(DeviceNo, &str), &str> = std::collections::BTreeMap::new();
        for (device, module, version) in reports {
            last.insert((*device, module), version);
        }
        let rows: Vec<Vec<Value<'_>>> = last
            .iter()
            .map(|((device, module), version)| {
                vec![device.0.into(), (*module).into(), (*version).into(), now.0.into()]
            })
            .collect();
        self.exec_set(&VERSIONS, &rows)?;
        Ok(())
    }

    /// The version that a device last reported for a module.
    pub fn version_find(&mut self, device: DeviceNo, module: &str) -> Result<Option<String>, StoreError> {
        self.query_one(
            "SELECT version FROM device_version WHERE device = ?1 AND module = ?2",
            &[device.0.into(), module.into()],
            |row| row.text(0),
        )
    }

    /// How many modules a device has reported.
    pub fn version_count(&mut self, device: DeviceNo) -> Result<i64, StoreError> {
        let count = self.query_one(
            "SELECT COUNT(*) FROM device_version WHERE device = ?1",
            &[device.0.into()],
            |row| row.int(0),
        )?;
        Ok(count.unwrap_or_default())
    }
}
