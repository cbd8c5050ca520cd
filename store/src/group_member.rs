//! The members of device groups, static and dynamic alike.

use crate::candidate::{Candidate, candidate, candidates};
use crate::device::status;
use crate::error::StoreError;
use crate::group::{Group, group, groups};
use crate::tx::{Column, Hot, Sql, Tx};
use crate::value::{Row, Value};
use updraft_core::device::DeviceStatus;
use updraft_core::id::{DeviceNo, GroupNo, ProductNo};
use updraft_core::time::Timestamp;

/// A member as lists show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub device: DeviceNo,
    /// The key of its product.
    pub product_key: String,
    /// The name of its product.
    pub product_name: String,
    /// The category that its product is in.
    pub category_key: Option<String>,
    /// Its name.
    pub name: String,
    /// Its IotId.
    pub iot_id: String,
    /// A name for people.
    pub nickname: Option<String>,
    /// Presence.
    pub status: DeviceStatus,
    /// 0 device, 1 gateway.
    pub node_type: i64,
    /// When it first connected.
    pub active_at: Option<Timestamp>,
    /// When it last connected.
    pub online_at: Option<Timestamp>,
}

/// What filters of a group's members look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberTraits {
    /// Who.
    pub device: DeviceNo,
    /// Its product.
    pub product: ProductNo,
    /// Its name.
    pub name: String,
    /// Presence.
    pub status: DeviceStatus,
}

/// What a part of a group's members is like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemberCounts {
    /// How many were counted.
    pub devices: i64,
    /// How many of them have ever been online.
    pub active: i64,
    /// How many of them are online.
    pub online: i64,
    /// The last one counted.
    pub last: DeviceNo,
}

const ADD: Hot = Hot {
    row: "INSERT INTO group_member (device_group, device) VALUES (?1, ?2)
          ON CONFLICT (device_group, device) DO NOTHING",
    set: "INSERT INTO group_member (device_group, device)
          SELECT DISTINCT * FROM unnest($1::bigint[], $2::bigint[]) AS n(device_group, device)
          ON CONFLICT (device_group, device) DO NOTHING",
    columns: &[Column::Int, Column::Int],
};

const REMOVE: Hot = Hot {
    row: "DELETE FROM group_member WHERE device_group = ?1 AND device = ?2",
    set: "DELETE FROM group_member m USING unnest($1::bigint[], $2::bigint[]) AS n(device_group, device)
          WHERE m.device_group = n.device_group AND m.device = n.device",
    columns: &[Column::Int, Column::Int],
};

const COUNT: Hot = Hot {
    row: "UPDATE device_group SET device_count = device_count + ?2 WHERE id = ?1",
    set: "UPDATE device_group SET device_count = device_count + n.delta
          FROM unnest($1::bigint[], $2::bigint[]) AS n(id, delta) WHERE device_group.id = n.id",
    columns: &[Column::Int, Column::Int],
};

const OF_DEVICES: Hot = Hot {
    row: "SELECT m.device, m.device_group, g.dynamic FROM group_member m
          JOIN device_group g ON g.id = m.device_group AND g.deleted_at IS NULL
          WHERE m.device = ?1 ORDER BY m.device_group",
    set: "SELECT m.device, m.device_group, g.dynamic FROM group_member m
          JOIN device_group g ON g.id = m.device_group AND g.deleted_at IS NULL
          WHERE m.device = ANY($1::bigint[]) ORDER BY m.device, m.device_group",
    columns: &[Column::Int],
};

/// A membership: who, where, and whether the group is dynamic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Membership {
    /// The device.
    pub device: DeviceNo,
    /// The group.
    pub group: GroupNo,
    /// Whether the group is dynamic.
    pub dynamic: bool,
}

/// A query for members, in the order of columns that [`member`] reads.
macro_rules! members {
    ($rest:literal) => {
        concat!(
            "SELECT d.id, p.product_key, p.name, d.name, d.iot_id, d.nickname, ",
            "CASE WHEN d.disabled <> 0 THEN 3 ELSE d.status END, p.node_type, d.active_at, d.online_at, ",
            "p.category_key ",
            $rest
        )
    };
}

const LOAD: Hot = Hot {
    row: members!("FROM device d JOIN product p ON p.id = d.product WHERE d.id = ?1"),
    set: members!(
        "FROM device d JOIN product p ON p.id = d.product WHERE d.id = ANY($1::bigint[]) ORDER BY d.id DESC"
    ),
    columns: &[Column::Int],
};

fn member(row: &Row<'_>) -> Result<Member, StoreError> {
    Ok(Member {
        device: DeviceNo(row.int(0)?),
        product_key: row.text(1)?,
        product_name: row.text(2)?,
        name: row.text(3)?,
        iot_id: row.text(4)?,
        nickname: row.opt_text(5)?,
        status: status(row.int(6)?)?,
        node_type: row.int(7)?,
        active_at: row.opt_int(8)?.map(Timestamp),
        online_at: row.opt_int(9)?.map(Timestamp),
        category_key: row.opt_text(10)?,
    })
}

fn pairs(group: GroupNo, devices: &[DeviceNo]) -> Vec<Vec<Value<'static>>> {
    devices.iter().map(|device| vec![group.0.into(), device.0.into()]).collect()
}
impl Tx<'_> {
    /// Adds devices to a group; answers how many were not in it. Dynamic batches that ask for the group look at
    /// the devices again.
    pub fn group_members_add(&mut self, no: GroupNo, devices: &[DeviceNo]) -> Result<i64, StoreError> {
        let added = self.exec_set(&ADD, &pairs(no, devices))? as i64;
        self.group_changed(no, added, devices)?;
        Ok(added)
    }

    /// Takes devices out of a group; answers how many were in it. Their tasks stay.
    pub fn group_members_remove(&mut self, no: GroupNo, devices: &[DeviceNo]) -> Result<i64, StoreError> {
        let removed = self.exec_set(&REMOVE, &pairs(no, devices))? as i64;
        self.group_changed(no, -removed, devices)?;
        Ok(removed)
    }

    fn group_changed(&mut self, no: GroupNo, delta: i64, devices: &[DeviceNo]) -> Result<(), StoreError> {
        if delta == 0 {
            return Ok(());
        }
        self.exec_set(&COUNT, &[vec![no.0.into(), delta.into()]])?;
        let asked = self.query_one(
            "SELECT 1 FROM job WHERE device_group = ?1 AND policy <> 0 LIMIT 1",
            &[no.0.into()],
            |_| Ok(()),
        )?;
        if asked.is_some() { self.reviews_add(devices) } else { Ok(()) }
    }

    /// Takes devices out of all groups: they are being deleted.
    pub fn group_members_forget(&mut self, devices: &[DeviceNo]) -> Result<(), StoreError> {
        let all = self.groups_of(devices)?;
        let mut deltas: std::collections::BTreeMap<GroupNo, i64> = std::collections::BTreeMap::new();
        for membership in &all {
            *deltas.entry(membership.group).or_default() -= 1;
        }
        let rows: Vec<Vec<Value<'_>>> =
            all.iter().map(|of| vec![of.group.0.into(), of.device.0.into()]).collect();
        self.exec_set(&REMOVE, &rows)?;
        let rows: Vec<Vec<Value<'_>>> =
            deltas.iter().map(|(group, delta)| vec![group.0.into(), (*delta).into()]).collect();
        self.exec_set(&COUNT, &rows)?;
        Ok(())
    }

    /// Which groups these devices are in, by device and group on PostgreSQL, in the order given on SQLite.
    pub fn groups_of(&mut self, devices: &[DeviceNo]) -> Result<Vec<Membership>, StoreError> {
        let keys: Vec<Vec<Value<'_>>> = devices.iter().map(|device| vec![device.0.into()]).collect();
        self.query_set(&OF_DEVICES, &keys, |row| {
            Ok(Membership {
                device: DeviceNo(row.int(0)?),
                group: GroupNo(row.int(1)?),
                dynamic: row.flag(2)?,
            })
        })
    }

    /// The groups that a device is in, newest first.
    pub fn groups_of_device(&mut self, device: DeviceNo) -> Result<Vec<Group>, StoreError> {
        self.query(
            groups!(
                "JOIN group_member m ON m.device_group = g.id
                 WHERE m.device = ?1 AND g.deleted_at IS NULL ORDER BY g.id DESC"
            ),
            &[device.0.into()],
            group,
        )
    }

    /// A group's members with a smaller number than `below`, newest first: `limit` of them after `skip`.
    pub fn group_members(
        &mut self,
        no: GroupNo,
        below: DeviceNo,
        skip: i64,
        limit: i64,
    ) -> Result<Vec<Member>, StoreError> {
        self.query(
            members!(
                "FROM (SELECT device FROM group_member WHERE device_group = ?1 AND device < ?2
                       ORDER BY device DESC LIMIT ?3 OFFSET ?4) m
                 JOIN device d ON d.id = m.device JOIN product p ON p.id = d.product ORDER BY d.id DESC"
            ),
            &[no.0.into(), below.0.into(), limit.into(), skip.into()],
            member,
        )
    }

    /// These devices as members; give them newest first.
    pub fn members_load(&mut self, devices: &[DeviceNo]) -> Result<Vec<Member>, StoreError> {
        let keys: Vec<Vec<Value<'_>>> = devices.iter().map(|device| vec![device.0.into()]).collect();
        self.query_set(&LOAD, &keys, member)
    }

    /// What filters look at of the next `limit` members with a smaller number than `below`, newest first.
    pub fn group_member_traits(
        &mut self,
        no: GroupNo,
        below: DeviceNo,
        limit: i64,
    ) -> Result<Vec<MemberTraits>, StoreError> {
        self.query(
            "SELECT d.id, d.product, d.name, CASE WHEN d.disabled <> 0 THEN 3 ELSE d.status END
             FROM (SELECT device FROM group_member WHERE device_group = ?1 AND device < ?2
                   ORDER BY device DESC LIMIT ?3) m
             JOIN device d ON d.id = m.device ORDER BY d.id DESC",
            &[no.0.into(), below.0.into(), limit.into()],
            |row| {
                Ok(MemberTraits {
                    device: DeviceNo(row.int(0)?),
                    product: ProductNo(row.int(1)?),
                    name: row.text(2)?,
                    status: status(row.int(3)?)?,
                })
            },
        )
    }

    /// Counts the next `limit` members after `after`: a look at each.
    pub fn group_member_counts(
        &mut self,
        no: GroupNo,
        after: DeviceNo,
        limit: i64,
    ) -> Result<MemberCounts, StoreError> {
        let counts = self.query_one(
            "SELECT COUNT(*), CAST(COALESCE(SUM(CASE WHEN d.active_at IS NULL THEN 0 ELSE 1 END), 0) AS BIGINT),
                    CAST(COALESCE(SUM(CASE WHEN d.status = 1 THEN 1 ELSE 0 END), 0) AS BIGINT),
                    COALESCE(MAX(m.device), 0)
             FROM (SELECT device FROM group_member WHERE device_group = ?1 AND device > ?2
                   ORDER BY device LIMIT ?3) m
             JOIN device d ON d.id = m.device",
            &[no.0.into(), after.0.into(), limit.into()],
            |row| {
                Ok(MemberCounts {
                    devices: row.int(0)?,
                    active: row.int(1)?,
                    online: row.int(2)?,
                    last: DeviceNo(row.int(3)?),
                })
            },
        )?;
        Ok(counts.unwrap_or_default())
    }

    /// The next `limit` devices of a product that are in a group, in id order, after `after` and up to `upto`. Costs
    /// a look at each member that it passes, of other products too.
    pub fn candidates_of_group(
        &mut self,
        group: GroupNo,
        product: ProductNo,
        module: &str,
        after: DeviceNo,
        upto: DeviceNo,
        limit: i64,
    ) -> Result<Vec<Candidate>, StoreError> {
        const SQL: Sql = candidates!(
                "FROM group_member m JOIN device d ON d.id = m.device
             LEFT JOIN device_version v ON v.device = d.id AND v.module = ?3 AND v.device > ?4 AND v.device <= ?5
             WHERE m.device_group = ?1 AND d.product = ?2 AND m.device > ?4 AND m.device <= ?5
               AND d.id > ?4 AND d.id <= ?5
             ORDER BY m.device LIMIT ?6"
        );
        self.query(
            self.text_of(SQL),
            &[group.0.into(), product.0.into(), module.into(), after.0.into(), upto.0.into(), limit.into()],
            candidate,
        )
    }
}
