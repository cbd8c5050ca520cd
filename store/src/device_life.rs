//! What becomes of a device: its logins, whether it may connect, its end.

use crate::error::StoreError;
use crate::group_dynamic::DeviceChange;
use crate::tx::{Column, Hot, Tx};
use crate::value::Value;
use updraft_core::id::{DeviceNo, JobNo, ProductNo};
use updraft_core::time::Timestamp;

/// What a device was given that registered itself without pre-registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceToken {
    /// The client id that it must name.
    pub client_id: String,
    /// The SHA-256 of the token.
    pub hash: Vec<u8>,
}

/// What a login finds under the name that it gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceLogin {
    /// A device.
    Known {
        /// Its row number.
        device: DeviceNo,
        /// Its secret, sealed with the master key.
        secret_sealed: Vec<u8>,
        /// Whether it may not connect.
        disabled: bool,
        /// What it logs in with instead, if it registered itself without pre-registration.
        token: Option<DeviceToken>,
        /// How often what it proves itself with has changed.
        credentials: i64,
        /// Whether its product is one of gateways.
        is_gateway: bool,
        /// Whether it is of a product whose devices log in with certificates.
        certified: bool,
    },
    /// None any more: the one of that name was deleted.
    Deleted,
}

const BARRED: Hot = Hot {
    row: "SELECT id FROM device WHERE id = ?1 AND (disabled <> 0 OR deleted_at IS NOT NULL)",
    set: "SELECT id FROM device
          WHERE id = ANY($1::bigint[]) AND (disabled <> 0 OR deleted_at IS NOT NULL)",
    columns: &[Column::Int],
};

const DELETED: Hot = Hot {
    row: "SELECT id FROM device WHERE id = ?1 AND deleted_at IS NOT NULL",
    set: "SELECT id FROM device WHERE id = ANY($1::bigint[]) AND deleted_at IS NOT NULL",
    columns: &[Column::Int],
};

// Two halves, since each has its index.
const OF_JOB: Hot = Hot {
    row: "SELECT d.id FROM device d WHERE d.product = ?2 AND d.name = ?3 AND d.deleted_at IS NULL
            AND EXISTS (SELECT 1 FROM task t WHERE t.device = d.id AND t.job = ?1)
          UNION ALL
          SELECT d.id FROM device d WHERE d.product = ?2 AND d.name = ?3 AND d.deleted_at IS NOT NULL
            AND EXISTS (SELECT 1 FROM task t WHERE t.device = d.id AND t.job = ?1)",
    set: "SELECT d.id FROM unnest($1::bigint[], $2::bigint[], $3::text[]) AS n(job, product, name)
          JOIN device d ON d.product = n.product AND d.name = n.name AND d.deleted_at IS NULL
            AND EXISTS (SELECT 1 FROM task t WHERE t.device = d.id AND t.job = n.job)
          UNION ALL
          SELECT d.id FROM unnest($1::bigint[], $2::bigint[], $3::text[]) AS n(job, product, name)
          JOIN device d ON d.product = n.product AND d.name = n.name AND d.deleted_at IS NOT NULL
            AND EXISTS (SELECT 1 FROM task t WHERE t.device = d.id AND t.job = n.job)",
    columns: &[Column::Int, Column::Int, Column::Text],
};

impl Tx<'_> {
    /// The devices of a product that have tasks of a batch and one of these names, or had it when they were deleted.
    pub fn devices_of_job(
        &mut self,
        job: JobNo,
        product: ProductNo,
        names: &[String],
    ) -> Result<Vec<DeviceNo>, StoreError> {
        let keys: Vec<Vec<Value<'_>>> =
            names.iter().map(|name| vec![job.0.into(), product.0.into(), name.into()]).collect();
        self.query_set(&OF_JOB, &keys, |row| Ok(DeviceNo(row.int(0)?)))
    }

    /// What a login that names this device finds; `None`: nothing, and there never was.
    // One statement, for `Store::glance`. Two halves, since each has its index.
    pub fn device_login(&mut self, product_key: &str, name: &str) -> Result<Option<DeviceLogin>, StoreError> {
        self.query_one(
            "SELECT CAST(0 AS BIGINT), d.id, d.secret_sealed, d.disabled, d.token_client, d.token_hash,
                    d.credentials, p.node_type, p.certified
             FROM product p JOIN device d ON d.product = p.id
             WHERE p.product_key = ?1 AND d.name = ?2 AND d.deleted_at IS NULL
             UNION ALL
             SELECT CAST(1 AS BIGINT), d.id, d.secret_sealed, d.disabled, d.token_client, d.token_hash,
                    d.credentials, p.node_type, p.certified
             FROM product p JOIN device d ON d.product = p.id
             WHERE p.product_key = ?1 AND d.name = ?2 AND d.deleted_at IS NOT NULL
             ORDER BY 1 LIMIT 1",
            &[product_key.into(), name.into()],
            |row| {
                if row.flag(0)? {
                    return Ok(DeviceLogin::Deleted);
                }
                Ok(DeviceLogin::Known {
                    device: DeviceNo(row.int(1)?),
                    secret_sealed: row.blob(2)?,
                    disabled: row.flag(3)?,
                    token: row
                        .opt_text(4)?
                        .zip(row.opt_blob(5)?)
                        .map(|(client_id, hash)| DeviceToken { client_id, hash }),
                    credentials: row.int(6)?,
                    is_gateway: row.int(7)? == 1,
                    certified: row.flag(8)?,
                })
            },
        )
    }

    /// Those of these devices that may not be connected: they are disabled or deleted.
    pub fn devices_barred(&mut self, devices: &[DeviceNo]) -> Result<Vec<DeviceNo>, StoreError> {
        self.query_set(&BARRED, &keys(devices), |row| Ok(DeviceNo(row.int(0)?)))
    }

    /// Those of these devices that are deleted.
    pub fn devices_deleted(&mut self, devices: &[DeviceNo]) -> Result<Vec<DeviceNo>, StoreError> {
        self.query_set(&DELETED, &keys(devices), |row| Ok(DeviceNo(row.int(0)?)))
    }

    /// Keeps a device from connecting; its connection counts as ended. Answers whether that is news.
    pub fn device_disable(&mut self, device: DeviceNo, now: Timestamp) -> Result<bool, StoreError> {
        let changed = self.exec(
            "UPDATE device SET disabled = 1, status_at = ?2,
                               status = CASE WHEN status = 1 THEN 2 ELSE status END
             WHERE id = ?1 AND disabled = 0 AND deleted_at IS NULL",
            &[device.0.into(), now.0.into()],
        )?;
        self.status_changed(device, changed)
    }

    /// Lets a device connect again. Answers whether that is news.
    pub fn device_enable(&mut self, device: DeviceNo, now: Timestamp) -> Result<bool, StoreError> {
        let changed = self.exec(
            "UPDATE device SET disabled = 0, status_at = ?2
             WHERE id = ?1 AND disabled <> 0 AND deleted_at IS NULL",
            &[device.0.into(), now.0.into()],
        )?;
        self.status_changed(device, changed)
    }

    /// A dynamic group may ask for the status of devices.
    fn status_changed(&mut self, device: DeviceNo, changed: usize) -> Result<bool, StoreError> {
        if changed == 0 {
            return Ok(false);
        }
        self.reviews_add_for_groups(DeviceChange::Status, &[device])?;
        Ok(true)
    }

    /// Deletes a device: its name is free, its secret is gone, and so is what it reported. Its row stays for the
    /// lists of its tasks, which the caller has ended.
    pub fn device_delete(
        &mut self,
        product: ProductNo,
        device: DeviceNo,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let gone = self.exec(
            "UPDATE device SET deleted_at = ?2, secret_sealed = ?3, status = 2, ip = NULL, registered_at = NULL,
                               reset_at = NULL, token_client = NULL, token_hash = NULL
             WHERE id = ?1 AND deleted_at IS NULL",
            &[device.0.into(), now.0.into(), Value::Blob(&[])],
        )?;
        if gone == 0 {
            return Ok(());
        }
        self.exec(
            "UPDATE device_certificate SET key_sealed = ?2 WHERE device = ?1",
            &[device.0.into(), Value::Blob(&[])],
        )?;
        self.exec("DELETE FROM device_version WHERE device = ?1", &[device.0.into()])?;
        self.device_tags_forget(&[device])?;
        self.group_members_forget(&[device])?;
        self.apply_device_forget(device)?;
        self.topo_forget(device)?;
        self.exec("DELETE FROM device_review WHERE device = ?1", &[device.0.into()])?;
        self.exec("UPDATE product SET device_count = device_count - 1 WHERE id = ?1", &[product.0.into()])?;
        Ok(())
    }
}

fn keys(devices: &[DeviceNo]) -> Vec<Vec<Value<'static>>> {
    devices.iter().map(|device| vec![device.0.into()]).collect()
}
