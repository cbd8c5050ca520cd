//! How many devices there are, and how many of them are active or online. All of these costs grow with what is
//! counted, so they are taken in pieces.

use crate::error::StoreError;
use crate::tx::Tx;
use updraft_core::id::{DeviceNo, GroupNo, InstanceNo, ProductNo};

/// What is counted of a product's devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// Those that have ever been online.
    Active,
    /// Those that are online.
    Online,
}

/// What a piece of a group has of one product's devices, or of all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PieceCounts {
    /// How many members were looked at.
    pub looked_at: i64,
    /// The last one looked at.
    pub last: DeviceNo,
    /// How many of them are counted.
    pub devices: i64,
    /// How many of those have ever been online.
    pub active: i64,
    /// How many of those are online.
    pub online: i64,
}

impl Tx<'_> {
    /// The instance's products, and how many devices each has.
    pub fn products_counted(&mut self, instance: InstanceNo) -> Result<Vec<(ProductNo, i64)>, StoreError> {
        self.query(
            "SELECT id, device_count FROM product WHERE instance = ?1 AND deleted_at IS NULL ORDER BY id",
            &[instance.0.into()],
            |row| Ok((ProductNo(row.int(0)?), row.int(1)?)),
        )
    }

    /// Counts the next `limit` active or online devices of a product after `after`, in an index that holds no
    /// others; answers how many, and the last one.
    pub fn devices_counted(
        &mut self,
        product: ProductNo,
        what: Counted,
        after: DeviceNo,
        limit: i64,
    ) -> Result<(i64, DeviceNo), StoreError> {
        let sql = match what {
            Counted::Active => {
                "SELECT COUNT(*), COALESCE(MAX(n.id), 0) FROM (
                   SELECT id FROM device
                   WHERE product = ?1 AND active_at IS NOT NULL AND deleted_at IS NULL AND id > ?2
                   ORDER BY id LIMIT ?3) n"
            }
            Counted::Online => {
                "SELECT COUNT(*), COALESCE(MAX(n.id), 0) FROM (
                   SELECT id FROM device WHERE product = ?1 AND status = 1 AND id > ?2 ORDER BY id LIMIT ?3) n"
            }
        };
        let counted = self.query_one(sql, &[product.0.into(), after.0.into(), limit.into()], |row| {
            Ok((row.int(0)?, DeviceNo(row.int(1)?)))
        })?;
        Ok(counted.unwrap_or_default())
    }

    /// Looks at the next `limit` members of a group after `after`, and counts those of a product, or all.
    pub fn members_counted(
        &mut self,
        group: GroupNo,
        product: Option<ProductNo>,
        after: DeviceNo,
        limit: i64,
    ) -> Result<PieceCounts, StoreError> {
        let counts = self.query_one(
            "SELECT COUNT(*), COALESCE(MAX(d.id), 0), CAST(COALESCE(SUM(d.counts), 0) AS BIGINT),
                    CAST(COALESCE(SUM(CASE WHEN d.active_at IS NULL THEN 0 ELSE d.counts END), 0) AS BIGINT),
                    CAST(COALESCE(SUM(CASE WHEN d.status = 1 THEN d.counts ELSE 0 END), 0) AS BIGINT)
             FROM (SELECT x.id, x.active_at, x.status,
                          CASE WHEN x.product = COALESCE(?4, x.product) THEN 1 ELSE 0 END AS counts
                   FROM (SELECT device FROM group_member WHERE device_group = ?1 AND device > ?2
                         ORDER BY device LIMIT ?3) m
                   JOIN device x ON x.id = m.device) d",
            &[group.0.into(), after.0.into(), limit.into(), product.map(|product| product.0).into()],
            |row| {
                Ok(PieceCounts {
                    looked_at: row.int(0)?,
                    last: DeviceNo(row.int(1)?),
                    devices: row.int(2)?,
                    active: row.int(3)?,
                    online: row.int(4)?,
                })
            },
        )?;
        Ok(counts.unwrap_or_default())
    }
}
