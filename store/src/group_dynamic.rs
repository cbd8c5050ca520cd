//! Dynamic groups: what their expressions look at, which devices may have come or gone, and how far a new group
//! has looked.

use crate::error::StoreError;
use crate::group::{Group, NewGroup, group, groups};
use crate::tx::{Column, Hot, Tx};
use crate::value::Value;
use std::collections::BTreeMap;
use updraft_core::device::DeviceStatus;
use updraft_core::group::expression::{Expression, Facts};
use updraft_core::id::{DeviceNo, GroupNo, InstanceNo};
use updraft_core::time::Timestamp;

/// What changed of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceChange {
    /// It is new, or its tags changed: every dynamic group may ask for that.
    Itself,
    /// Its presence, or whether it is disabled.
    Status,
    /// The version of a module.
    Version,
}

/// A dynamic group that still has to look at devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupWalk {
    /// Which.
    pub group: GroupNo,
    /// Whose devices it looks at.
    pub instance: InstanceNo,
    /// The last device that it looked at.
    pub after: DeviceNo,
    /// The last one to look at: younger ones are noted when they are made.
    pub upto: DeviceNo,
}

/// A dynamic group's row number, and what makes a device one of it.
pub type GroupRule = (GroupNo, String);

/// Notes those of a set of devices of which a group of their instance asks for this.
macro_rules! note {
    ($column:literal) => {
        Hot {
            row: concat!(
                "INSERT INTO device_review (device)
                 SELECT d.id FROM device d JOIN product p ON p.id = d.product
                 WHERE d.id = ?1 AND EXISTS
                   (SELECT 1 FROM device_group g WHERE g.instance = p.instance AND g.",
                $column,
                " <> 0) ON CONFLICT (device) DO NOTHING"
            ),
            set: concat!(
                "INSERT INTO device_review (device)
                 SELECT d.id FROM device d JOIN product p ON p.id = d.product
                 WHERE d.id = ANY($1::bigint[]) AND EXISTS
                   (SELECT 1 FROM device_group g WHERE g.instance = p.instance AND g.",
                $column,
                " <> 0) ON CONFLICT (device) DO NOTHING"
            ),
            columns: &[Column::Int],
        }
    };
}

const NOTE_ITSELF: Hot = note!("dynamic");
const NOTE_STATUS: Hot = note!("asks_status");
const NOTE_VERSION: Hot = note!("asks_version");

const FACTS: Hot = Hot {
    row: "SELECT d.id, p.instance, p.product_key, d.name, CASE WHEN d.disabled <> 0 THEN 3 ELSE d.status END
          FROM device d JOIN product p ON p.id = d.product WHERE d.deleted_at IS NULL AND d.id = ?1",
    set: "SELECT d.id, p.instance, p.product_key, d.name, CASE WHEN d.disabled <> 0 THEN 3 ELSE d.status END
          FROM device d JOIN product p ON p.id = d.product WHERE d.deleted_at IS NULL AND d.id = ANY($1::bigint[])",
    columns: &[Column::Int],
};

const VERSIONS: Hot = Hot {
    row: "SELECT device, module, version FROM device_version WHERE device = ?1",
    set: "SELECT device, module, version FROM device_version WHERE device = ANY($1::bigint[])",
    columns: &[Column::Int],
};

impl Tx<'_> {
    /// Adds a dynamic group, whose engine work is to look at all devices that exist; `None` if the instance has a
    /// group of that name.
    pub fn group_insert_dynamic(
        &mut self,
        new: &NewGroup,
        text: &str,
        expression: &Expression,
        now: Timestamp,
    ) -> Result<Option<GroupNo>, StoreError> {
        self.query_one(
            "INSERT INTO device_group (instance, group_id, name, description, depth, expression, dynamic, asks_status,
                                       asks_version, device_count, work, work_after, work_upto, created_at)
             VALUES (?1, ?2, ?3, ?4, 0, ?5, 1, ?6, ?7, 0, 1, 0, (SELECT COALESCE(MAX(id), 0) FROM device), ?8)
             ON CONFLICT (instance, name) WHERE deleted_at IS NULL DO NOTHING RETURNING id",
            &[
                new.instance.0.into(),
                (&new.group_id).into(),
                (&new.name).into(),
                new.description.as_ref().into(),
                text.into(),
                expression.asks_status().into(),
                expression.asks_version().into(),
                now.0.into(),
            ],
            |row| Ok(GroupNo(row.int(0)?)),
        )
    }

    /// Notes devices of which this changed, if a dynamic group of their instance asks for it. Without such a group
    /// in the database it costs one look at an empty index, whatever the number of devices.
    pub fn reviews_add_for_groups(
        &mut self,
        change: DeviceChange,
        devices: &[DeviceNo],
    ) -> Result<(), StoreError> {
        if devices.is_empty() || !self.groups_ask_for(change)? {
            return Ok(());
        }
        let hot = match change {
            DeviceChange::Itself => &NOTE_ITSELF,
            DeviceChange::Status => &NOTE_STATUS,
            DeviceChange::Version => &NOTE_VERSION,
        };
        let rows: Vec<Vec<Value<'_>>> = devices.iter().map(|device| vec![device.0.into()]).collect();
        self.exec_set(hot, &rows)?;
        Ok(())
    }

    /// Whether any dynamic group asks for this: one look at an index that is usually empty.
    pub fn groups_ask_for(&mut self, change: DeviceChange) -> Result<bool, StoreError> {
        let sql = match change {
            DeviceChange::Itself => "SELECT 1 FROM device_group WHERE dynamic <> 0 LIMIT 1",
            DeviceChange::Status => "SELECT 1 FROM device_group WHERE asks_status <> 0 LIMIT 1",
            DeviceChange::Version => "SELECT 1 FROM device_group WHERE asks_version <> 0 LIMIT 1",
        };
        Ok(self.query_one(sql, &[], |_| Ok(()))?.is_some())
    }

    /// Notes all devices that are shown online, if a dynamic group of their instance asks for presence: after a
    /// start they are not.
    pub fn reviews_add_online_for_groups(&mut self) -> Result<(), StoreError> {
        if !self.groups_ask_for(DeviceChange::Status)? {
            return Ok(());
        }
        self.exec(
            "INSERT INTO device_review (device)
             SELECT d.id FROM device d JOIN product p ON p.id = d.product
             WHERE d.status = 1 AND EXISTS
               (SELECT 1 FROM device_group g WHERE g.instance = p.instance AND g.asks_status <> 0)
             ON CONFLICT (device) DO NOTHING",
            &[],
        )?;
        Ok(())
    }

    /// What expressions look at, of these devices, with their instances; devices that do not exist are left out.
    pub fn device_facts(
        &mut self,
        devices: &[DeviceNo],
    ) -> Result<BTreeMap<DeviceNo, (InstanceNo, Facts)>, StoreError> {
        let keys: Vec<Vec<Value<'_>>> = devices.iter().map(|device| vec![device.0.into()]).collect();
        let rows = self.query_set(&FACTS, &keys, |row| {
            let status = row.int(4)?;
            let status = DeviceStatus::from_code(status)
                .ok_or(StoreError::Corrupt { place: "device.status", detail: status.to_string() })?;
            let facts = Facts {
                product_key: row.text(2)?,
                name: row.text(3)?,
                status: status.name(),
                ..Facts::default()
            };
            Ok((DeviceNo(row.int(0)?), (InstanceNo(row.int(1)?), facts)))
        })?;
        let mut all: BTreeMap<DeviceNo, (InstanceNo, Facts)> = rows.into_iter().collect();
        let pair = |row: &crate::value::Row<'_>| Ok((DeviceNo(row.int(0)?), row.text(1)?, row.text(2)?));
        for (device, module, version) in self.query_set(&VERSIONS, &keys, pair)? {
            if let Some((_, facts)) = all.get_mut(&device) {
                facts.versions.insert(module, version);
            }
        }
        for (device, key, value) in self.device_tags_of(devices)? {
            if let Some((_, facts)) = all.get_mut(&device) {
                facts.tags.insert(key, value);
            }
        }
        Ok(all)
    }

    /// The dynamic groups of an instance.
    pub fn groups_dynamic(&mut self, instance: InstanceNo) -> Result<Vec<GroupRule>, StoreError> {
        let found: Vec<Group> =
            self.query(groups!("WHERE g.instance = ?1 AND g.dynamic <> 0"), &[instance.0.into()], group)?;
        Ok(found.into_iter().map(|group| (group.no, group.expression.unwrap_or_default())).collect())
    }

    /// The next dynamic group that still has to look at devices.
    pub fn group_walking(&mut self) -> Result<Option<GroupWalk>, StoreError> {
        self.query_one(
            "SELECT id, instance, work_after, work_upto FROM device_group WHERE work = 1 AND work <> 0
             ORDER BY id LIMIT 1",
            &[],
            |row| {
                Ok(GroupWalk {
                    group: GroupNo(row.int(0)?),
                    instance: InstanceNo(row.int(1)?),
                    after: DeviceNo(row.int(2)?),
                    upto: DeviceNo(row.int(3)?),
                })
            },
        )
    }

    /// The next `limit` devices that a new group looks at, each with its instance: devices of others and
    /// deleted ones are passed by, and count, so that a chunk is bounded.
    pub fn group_walk_devices(
        &mut self,
        walk: &GroupWalk,
        limit: i64,
    ) -> Result<Vec<(DeviceNo, InstanceNo)>, StoreError> {
        self.query(
            "SELECT d.id, p.instance FROM (SELECT id, product FROM device
                                           WHERE id > ?1 AND id <= ?2 ORDER BY id LIMIT ?3) d
             JOIN product p ON p.id = d.product ORDER BY d.id",
            &[walk.after.0.into(), walk.upto.0.into(), limit.into()],
            |row| Ok((DeviceNo(row.int(0)?), InstanceNo(row.int(1)?))),
        )
    }

    /// Notes how far a group has looked; `None`: it has seen all.
    pub fn group_walk_set(&mut self, no: GroupNo, after: Option<DeviceNo>) -> Result<(), StoreError> {
        self.exec(
            "UPDATE device_group SET work = ?2, work_after = COALESCE(?3, work_after) WHERE id = ?1 AND work = 1",
            &[no.0.into(), i64::from(after.is_some()).into(), after.map(|device| device.0).into()],
        )?;
        Ok(())
    }
}
