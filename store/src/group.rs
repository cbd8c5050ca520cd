//! Device groups, static and dynamic; `group_member.rs` has their members.

use crate::error::StoreError;
use crate::tx::Tx;
use crate::value::Row;
use updraft_core::id::{GroupNo, InstanceNo};
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

pub(crate) use groups;

pub(crate) fn group(row: &Row<'_>) -> Result<Group, StoreError> {
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
}
