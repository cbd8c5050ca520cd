//! The nodes that serve a database together: who they are, that they live, and what they leave for one another.

use crate::error::StoreError;
use crate::tx::{Column, Conn, Hot, Tx};
use crate::value::Value;
use std::collections::BTreeMap;
use updraft_core::id::DeviceNo;
use updraft_core::time::Timestamp;

/// Bits of a login's number that its node counts; above them is the node's own number.
pub const LOGIN_BITS: i64 = 40;

/// A node that serves this database now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The number of its start: no other process has it, earlier or later.
    pub id: i64,
    /// What people call it.
    pub name: String,
    /// What it does, a bit for each role.
    pub roles: i64,
    /// Grows while it lives.
    pub beat: i64,
    /// Its release.
    pub version: String,
    /// When it joined.
    pub started_at: Timestamp,
}

/// Where a device is logged in, or was the last time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DevicePlace {
    /// The device.
    pub device: DeviceNo,
    /// Whether it is online.
    pub online: bool,
    /// The number of its last login.
    pub session: i64,
}

impl DevicePlace {
    /// The node that counted its last login.
    pub fn node(&self) -> i64 {
        node_of(self.session)
    }
}

/// The node that counted a login.
pub fn node_of(session: i64) -> i64 {
    session >> LOGIN_BITS
}

/// What one node leaves for another one about a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// The node that it is for.
    pub node: i64,
    /// The device.
    pub device: DeviceNo,
    /// What is to be done, as the server writes it.
    pub body: Vec<u8>,
}

const PLACES: Hot = Hot {
    row: "SELECT id, status, session FROM device WHERE id = ?1",
    set: "SELECT id, status, session FROM device WHERE id = ANY($1::bigint[])",
    columns: &[Column::Int],
};

const POST: Hot = Hot {
    row: "INSERT INTO node_mail (node, device, body)
          SELECT ?1, ?2, ?3 WHERE EXISTS (SELECT 1 FROM serving_node WHERE id = ?1)",
    set: "INSERT INTO node_mail (node, device, body)
          SELECT n.node, n.device, n.body
          FROM unnest($1::bigint[], $2::bigint[], $3::bytea[]) WITH ORDINALITY AS n(node, device, body, place)
          JOIN serving_node s ON s.id = n.node ORDER BY n.place",
    columns: &[Column::Int, Column::Int, Column::Blob],
};

impl Tx<'_> {
    /// Adds a node; answers its number.
    pub fn node_join(
        &mut self,
        name: &str,
        roles: i64,
        version: &str,
        now: Timestamp,
    ) -> Result<i64, StoreError> {
        let id = self.node_start()?;
        self.exec(
            "INSERT INTO serving_node (id, name, roles, beat, version, started_at) VALUES (?1, ?2, ?3, 0, ?4, ?5)",
            &[id.into(), name.into(), roles.into(), version.into(), now.0.into()],
        )?;
        Ok(id)
    }

    /// Says that a node lives; `false`: the others have given it up, or it has left.
    pub fn node_beat(&mut self, id: i64) -> Result<bool, StoreError> {
        Ok(self.exec("UPDATE serving_node SET beat = beat + 1 WHERE id = ?1", &[id.into()])? == 1)
    }

    /// Whether a node is one that serves: the others have not given it up, and it has not left.
    pub fn node_serves(&mut self, id: i64) -> Result<bool, StoreError> {
        let found = self.query_one("SELECT 1 FROM serving_node WHERE id = ?1", &[id.into()], |_| Ok(()))?;
        Ok(found.is_some())
    }

    /// All nodes, the eldest first.
    pub fn nodes(&mut self) -> Result<Vec<Node>, StoreError> {
        self.query(
            "SELECT id, name, roles, beat, version, started_at FROM serving_node ORDER BY id",
            &[],
            |row| {
                Ok(Node {
                    id: row.int(0)?,
                    name: row.text(1)?,
                    roles: row.int(2)?,
                    beat: row.int(3)?,
                    version: row.text(4)?,
                    started_at: Timestamp(row.int(5)?),
                })
            },
        )
    }

    /// How many devices are online at each node that has any. Looks at every device.
    pub fn nodes_devices(&mut self) -> Result<BTreeMap<i64, i64>, StoreError> {
        let counts = self.query(
            "SELECT session >> 40, COUNT(*) FROM device WHERE status = 1 GROUP BY session >> 40",
            &[],
            |row| Ok((row.int(0)?, row.int(1)?)),
        )?;
        Ok(counts.into_iter().collect())
    }

    /// Takes a node out, with what was left for it. Whether it was there.
    pub fn node_leave(&mut self, id: i64) -> Result<bool, StoreError> {
        self.exec("DELETE FROM node_mail WHERE node = ?1", &[id.into()])?;
        Ok(self.exec("DELETE FROM serving_node WHERE id = ?1", &[id.into()])? == 1)
    }

    /// Takes a node out if it has not beaten since `beat`, with what was left for it. Whether it did so.
    pub fn node_give_up(&mut self, id: i64, beat: i64) -> Result<bool, StoreError> {
        let gone = self
            .exec("DELETE FROM serving_node WHERE id = ?1 AND beat = ?2", &[id.into(), beat.into()])?
            == 1;
        if gone {
            self.exec("DELETE FROM node_mail WHERE node = ?1", &[id.into()])?;
        }
        Ok(gone)
    }

    /// Takes all nodes out: for one that serves alone, and so knows that none of them lives.
    pub fn nodes_clear(&mut self) -> Result<(), StoreError> {
        self.exec("DELETE FROM node_mail", &[])?;
        self.exec("DELETE FROM serving_node", &[]).map(drop)
    }

    /// The largest number that a device has.
    pub fn device_largest(&mut self) -> Result<DeviceNo, StoreError> {
        let largest =
            self.query_one("SELECT COALESCE(MAX(id), 0) FROM device", &[], |row| Ok(DeviceNo(row.int(0)?)))?;
        Ok(largest.unwrap_or_default())
    }

    /// Marks devices offline that are shown online at a node that is none, among those with numbers after `after` up to
    /// `upto`; answers which.
    pub fn devices_lost_offline(
        &mut self,
        after: DeviceNo,
        upto: DeviceNo,
        now: Timestamp,
    ) -> Result<Vec<DeviceNo>, StoreError> {
        self.query(
            "UPDATE device SET status = 2, status_at = ?3
             WHERE id > ?1 AND id <= ?2 AND status = 1
               AND NOT EXISTS (SELECT 1 FROM serving_node WHERE serving_node.id = device.session >> 40)
             RETURNING id",
            &[after.0.into(), upto.0.into(), now.0.into()],
            |row| Ok(DeviceNo(row.int(0)?)),
        )
    }

    /// Where these devices are logged in, or were the last time.
    pub fn device_places(&mut self, devices: &[DeviceNo]) -> Result<Vec<DevicePlace>, StoreError> {
        let keys: Vec<Vec<Value<'_>>> = devices.iter().map(|device| vec![device.0.into()]).collect();
        self.query_set(&PLACES, &keys, |row| {
            Ok(DevicePlace { device: DeviceNo(row.int(0)?), online: row.int(1)? == 1, session: row.int(2)? })
        })
    }

    /// Leaves something for other nodes, in this order. What is for a node that is gone is for nobody.
    pub fn mail_post(&mut self, mails: &[Mail]) -> Result<(), StoreError> {
        let rows: Vec<Vec<Value<'_>>> = mails
            .iter()
            .map(|mail| vec![mail.node.into(), mail.device.0.into(), mail.body.as_slice().into()])
            .collect();
        self.exec_set(&POST, &rows).map(drop)
    }

    /// Whether something was left for a node.
    pub fn mail_waits(&mut self, node: i64) -> Result<bool, StoreError> {
        let found =
            self.query_one("SELECT 1 FROM node_mail WHERE node = ?1 LIMIT 1", &[node.into()], |_| Ok(()))?;
        Ok(found.is_some())
    }

    /// Takes what was left for a node, the oldest first, at most so much at a time.
    pub fn mail_take(&mut self, node: i64, limit: i64) -> Result<Vec<(DeviceNo, Vec<u8>)>, StoreError> {
        let rows = self.query(
            "SELECT id, device, body FROM node_mail WHERE node = ?1 ORDER BY id LIMIT ?2",
            &[node.into(), limit.into()],
            |row| Ok((row.int(0)?, DeviceNo(row.int(1)?), row.blob(2)?)),
        )?;
        if let Some((last, ..)) = rows.last() {
            self.exec("DELETE FROM node_mail WHERE node = ?1 AND id <= ?2", &[node.into(), (*last).into()])?;
        }
        Ok(rows.into_iter().map(|(_, device, body)| (device, body)).collect())
    }

    /// Wakes all nodes that listen ([`crate::Store::listen`]) once this transaction is committed.
    pub fn nodes_wake(&mut self) -> Result<(), StoreError> {
        match &mut self.conn {
            Conn::Sqlite(_) => Ok(()),
            Conn::Postgres(conn) => conn.batch("NOTIFY updraft"),
        }
    }

    /// What time the database server has; `None`: it has no clock of its own.
    pub fn clock(&mut self) -> Result<Option<Timestamp>, StoreError> {
        if let Conn::Sqlite(_) = self.conn {
            return Ok(None);
        }
        self.query_one("SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)", &[], |row| {
            Ok(Timestamp(row.int(0)?))
        })
    }
}
