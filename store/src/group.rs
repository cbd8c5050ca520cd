//! Device groups: their rows and their members, static and dynamic alike.

use crate::device::{Candidate, candidate};
use crate::error::StoreError;
use crate::tx::{Column, Hot, Tx};
use crate::value::{Row, Value};
use updraft_core::id::{DeviceNo, GroupNo, InstanceNo, ProductNo};
use updraft_core::page::Page;
use updraft_core::time::Timestamp;

/// A group as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Row number.
    pub no: GroupNo,
    /// The instance that it belongs to.
    pub instance: InstanceNo,
    /// The id on the wire.
    pub group_id: String,
    /// Its name, unique in the instance.
    pub name: String,
    /// Free text.
    pub description: Option<String>,
    /// The group that it is in.
    pub parent: Option<GroupNo>,
    /// How many groups are above it.
    pub depth: i64,
    /// A dynamic group's expression; `None`: a static group.
    pub expression: Option<String>,
    /// How many devices it has.
    pub device_count: i64,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A group to add.
#[derive(Debug, Clone)]
pub struct NewGroup {
    /// The instance that it belongs to.
    pub instance: InstanceNo,
    /// The id on the wire.
    pub group_id: String,
    /// Its name.
    pub name: String,
    /// Free text.
    pub description: Option<String>,
    /// The group that it is in, and how many are above it.
    pub parent: Option<(GroupNo, i64)>,
}

/// Which groups a list has.
#[derive(Debug, Clone, Copy, Default)]
pub struct GroupFilter<'a> {
    /// Dynamic ones, or static ones.
    pub dynamic: bool,
    /// Only the one of this name.
    pub name: Option<&'a str>,
    /// Only those right below this one.
    pub parent: Option<GroupNo>,
}

/// A member as lists show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub device: DeviceNo,
    /// The key of its product.
    pub product_key: String,
    /// The name of its product.
    pub product_name: String,
    /// Its name.
    pub name: String,
    /// Its IotId.
    pub iot_id: String,
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

/// A query for groups, in the order of columns that [`group`] reads.
macro_rules! groups {
    ($rest:literal) => {
        concat!(
            "SELECT g.id, g.instance, g.group_id, g.name, g.description, g.parent, g.depth, g.expression, ",
            "g.device_count, g.created_at FROM device_group g ",
            $rest
        )
    };
}

fn group(row: &Row<'_>) -> Result<Group, StoreError> {
    Ok(Group {
        no: GroupNo(row.int(0)?),
        instance: InstanceNo(row.int(1)?),
        group_id: row.text(2)?,
        name: row.text(3)?,
        description: row.opt_text(4)?,
        parent: row.opt_int(5)?.map(GroupNo),
        depth: row.int(6)?,
        expression: row.opt_text(7)?,
        device_count: row.int(8)?,
        created_at: Timestamp(row.int(9)?),
    })
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

fn pairs(group: GroupNo, devices: &[DeviceNo]) -> Vec<Vec<Value<'static>>> {
    devices.iter().map(|device| vec![group.0.into(), device.0.into()]).collect()
}

impl Tx<'_> {
    /// Adds a static group; `None` if the instance has a group of that name.
    pub fn group_insert(&mut self, new: &NewGroup, now: Timestamp) -> Result<Option<GroupNo>, StoreError> {
        self.query_one(
            "INSERT INTO device_group (instance, group_id, name, description, parent, depth, dynamic, asks_status,
                                       asks_version, device_count, work, work_after, work_upto, created_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0, 0, 0, 0, 0, 0, 0, ?7)
             ON CONFLICT (instance, name) WHERE deleted_at IS NULL DO NOTHING RETURNING id",
            &[
                new.instance.0.into(),
                (&new.group_id).into(),
                (&new.name).into(),
                new.description.as_ref().into(),
                new.parent.map(|(parent, _)| parent.0).into(),
                new.parent.map_or(0, |(_, depth)| depth).into(),
                now.0.into(),
            ],
            |row| Ok(GroupNo(row.int(0)?)),
        )
    }

    /// The instance's group with this id, static or dynamic.
    pub fn group_find(&mut self, instance: InstanceNo, group_id: &str) -> Result<Option<Group>, StoreError> {
        self.query_one(
            groups!("WHERE g.group_id = ?1 AND g.instance = ?2 AND g.deleted_at IS NULL"),
            &[group_id.into(), instance.0.into()],
            group,
        )
    }

    /// The group with this row number, also if it was deleted: batches go on naming theirs.
    pub fn group_load(&mut self, no: GroupNo) -> Result<Option<Group>, StoreError> {
        self.query_one(groups!("WHERE g.id = ?1"), &[no.0.into()], group)
    }

    /// How many groups of a kind the instance has.
    pub fn group_count(&mut self, instance: InstanceNo, dynamic: bool) -> Result<i64, StoreError> {
        let count = self.query_one(
            "SELECT COUNT(*) FROM device_group WHERE instance = ?1 AND dynamic = ?2 AND deleted_at IS NULL",
            &[instance.0.into(), dynamic.into()],
            |row| row.int(0),
        )?;
        Ok(count.unwrap_or_default())
    }

    /// One page of the instance's groups, newest first, and how many there are. Reads all groups of the kind, of
    /// which an instance has a bounded number.
    pub fn group_list(
        &mut self,
        instance: InstanceNo,
        filter: GroupFilter<'_>,
        page: Page,
    ) -> Result<(Vec<Group>, i64), StoreError> {
        let of = [
            instance.0.into(),
            filter.dynamic.into(),
            filter.name.into(),
            filter.parent.map(|no| no.0).into(),
        ];
        let total = self.query_one(
            "SELECT COUNT(*) FROM device_group
             WHERE instance = ?1 AND dynamic = ?2 AND deleted_at IS NULL AND name = COALESCE(?3, name)
               AND COALESCE(parent, 0) = COALESCE(?4, parent, 0)",
            &of,
            |row| row.int(0),
        )?;
        let [instance, dynamic, name, parent] = of;
        let rows = self.query(
            groups!(
                "WHERE g.instance = ?1 AND g.dynamic = ?2 AND g.deleted_at IS NULL AND g.name = COALESCE(?3, g.name)
                   AND COALESCE(g.parent, 0) = COALESCE(?4, g.parent, 0)
                 ORDER BY g.id DESC LIMIT ?5 OFFSET ?6"
            ),
            &[instance, dynamic, name, parent, page.size().into(), page.skip().into()],
            group,
        )?;
        Ok((rows, total.unwrap_or_default()))
    }

    /// Whether there are groups below this one.
    pub fn group_has_subgroups(&mut self, no: GroupNo) -> Result<bool, StoreError> {
        let found = self.query_one(
            "SELECT 1 FROM device_group WHERE parent = ?1 AND deleted_at IS NULL LIMIT 1",
            &[no.0.into()],
            |_| Ok(()),
        )?;
        Ok(found.is_some())
    }

    /// Changes a group's description.
    pub fn group_describe(&mut self, no: GroupNo, description: &str) -> Result<(), StoreError> {
        self.exec(
            "UPDATE device_group SET description = ?2 WHERE id = ?1",
            &[no.0.into(), description.into()],
        )?;
        Ok(())
    }

    /// The id of a batch that still takes devices from this group: a running dynamic one, or one of which tasks are
    /// still to be made.
    pub fn group_user(&mut self, no: GroupNo) -> Result<Option<String>, StoreError> {
        let running = self.query_one(
            "SELECT job_id FROM job WHERE device_group = ?1 AND policy <> 0 LIMIT 1",
            &[no.0.into()],
            |row| row.text(0),
        )?;
        if running.is_some() {
            return Ok(running);
        }
        self.query_one(
            "SELECT job_id FROM job WHERE expanded = 0 AND device_group = ?1 LIMIT 1",
            &[no.0.into()],
            |row| row.text(0),
        )
    }

    /// Deletes a group: nothing finds it any more and its name is free. Its members are forgotten later, in chunks.
    pub fn group_delete(&mut self, no: GroupNo, now: Timestamp) -> Result<(), StoreError> {
        self.exec(
            "UPDATE device_group SET deleted_at = ?2, dynamic = 0, asks_status = 0, asks_version = 0, work = 2
             WHERE id = ?1",
            &[no.0.into(), now.0.into()],
        )?;
        Ok(())
    }

    /// The next deleted group of which members are left.
    pub fn group_clearing(&mut self) -> Result<Option<GroupNo>, StoreError> {
        self.query_one(
            "SELECT id FROM device_group WHERE work = 2 AND work <> 0 ORDER BY id LIMIT 1",
            &[],
            |row| Ok(GroupNo(row.int(0)?)),
        )
    }

    /// Forgets the next members of a deleted group; the group is done when there are no more.
    pub fn group_clear(&mut self, no: GroupNo, limit: i64) -> Result<(), StoreError> {
        let gone = self.exec(
            "DELETE FROM group_member WHERE device_group = ?1 AND device IN
               (SELECT device FROM group_member WHERE device_group = ?1 ORDER BY device LIMIT ?2)",
            &[no.0.into(), limit.into()],
        )?;
        if (gone as i64) < limit {
            self.exec("UPDATE device_group SET work = 0, device_count = 0 WHERE id = ?1", &[no.0.into()])?;
        }
        Ok(())
    }

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

    /// One page of a group's members, newest device first. Skips the pages before it.
    pub fn group_members(&mut self, no: GroupNo, page: Page) -> Result<Vec<Member>, StoreError> {
        self.query(
            "SELECT d.id, p.product_key, p.name, d.name, d.iot_id
             FROM (SELECT device FROM group_member WHERE device_group = ?1
                   ORDER BY device DESC LIMIT ?2 OFFSET ?3) m
             JOIN device d ON d.id = m.device JOIN product p ON p.id = d.product ORDER BY d.id DESC",
            &[no.0.into(), page.size().into(), page.skip().into()],
            |row| {
                Ok(Member {
                    device: DeviceNo(row.int(0)?),
                    product_key: row.text(1)?,
                    product_name: row.text(2)?,
                    name: row.text(3)?,
                    iot_id: row.text(4)?,
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
        self.query(
            "SELECT d.id, d.status, v.version,
                    CAST(CASE WHEN EXISTS (SELECT 1 FROM task t WHERE t.device = d.id AND t.status < 4)
                         THEN 1 ELSE 0 END AS BIGINT)
             FROM group_member m JOIN device d ON d.id = m.device
             LEFT JOIN device_version v ON v.device = d.id AND v.module = ?3
             WHERE m.device_group = ?1 AND d.product = ?2 AND m.device > ?4 AND m.device <= ?5
             ORDER BY m.device LIMIT ?6",
            &[group.0.into(), product.0.into(), module.into(), after.0.into(), upto.0.into(), limit.into()],
            candidate,
        )
    }
}
