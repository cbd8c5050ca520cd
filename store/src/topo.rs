//! Which devices are behind which gateway.

use crate::error::StoreError;
use crate::tx::{Column, Hot, Tx};
use crate::value::{Row, Value};
use updraft_core::id::{DeviceNo, InstanceNo, ProductNo};
use updraft_core::page::Page;
use updraft_core::time::Timestamp;

/// A gateway that asks for something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    /// Whose it is.
    pub instance: InstanceNo,
    /// Its product's key.
    pub product_key: String,
    /// Its name.
    pub name: String,
    /// Whether its product is one of gateways.
    pub is_gateway: bool,
    /// How many devices are behind it.
    pub subs: i64,
}

/// A device that may be behind a gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubDevice {
    /// Its row number.
    pub device: DeviceNo,
    /// Its product.
    pub product: ProductNo,
    /// Its product's key.
    pub product_key: String,
    /// Its name.
    pub name: String,
    /// Its IotId.
    pub iot_id: String,
    /// Its secret, sealed with the master key.
    pub secret_sealed: Vec<u8>,
    /// Whether it may not connect.
    pub disabled: bool,
    /// Whether its product is one of gateways.
    pub is_gateway: bool,
    /// The gateway that it is behind.
    pub gateway: Option<DeviceNo>,
}

/// A query for devices with their gateways, in the order of columns that [`sub_device`] reads.
macro_rules! sub_devices {
    ($rest:literal) => {
        concat!(
            "SELECT d.id, d.product, p.product_key, d.name, d.iot_id, d.secret_sealed, d.disabled, ",
            "p.node_type, t.gateway ",
            $rest
        )
    };
}

fn sub_device(row: &Row<'_>) -> Result<SubDevice, StoreError> {
    Ok(SubDevice {
        device: DeviceNo(row.int(0)?),
        product: ProductNo(row.int(1)?),
        product_key: row.text(2)?,
        name: row.text(3)?,
        iot_id: row.text(4)?,
        secret_sealed: row.blob(5)?,
        disabled: row.flag(6)?,
        is_gateway: row.int(7)? == 1,
        gateway: row.opt_int(8)?.map(DeviceNo),
    })
}

const BY_NAMES: Hot = Hot {
    row: sub_devices!(
        "FROM product p JOIN device d ON d.product = p.id LEFT JOIN topo t ON t.device = d.id
         WHERE p.product_key = ?2 AND p.instance = ?1 AND d.name = ?3 AND d.deleted_at IS NULL"
    ),
    set: sub_devices!(
        "FROM unnest($1::bigint[], $2::text[], $3::text[]) AS n(instance, product_key, name)
         JOIN product p ON p.product_key = n.product_key AND p.instance = n.instance
         JOIN device d ON d.product = p.id AND d.name = n.name AND d.deleted_at IS NULL
         LEFT JOIN topo t ON t.device = d.id"
    ),
    columns: &[Column::Int, Column::Text, Column::Text],
};

const PUT: Hot = Hot {
    row: "INSERT INTO topo (device, gateway, created_at) VALUES (?1, ?2, ?3)
          ON CONFLICT (device) DO UPDATE SET gateway = excluded.gateway, created_at = excluded.created_at
          WHERE topo.gateway <> excluded.gateway",
    set: "INSERT INTO topo (device, gateway, created_at)
          SELECT DISTINCT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS n(device, gateway, created_at)
          ON CONFLICT (device) DO UPDATE SET gateway = excluded.gateway, created_at = excluded.created_at
          WHERE topo.gateway <> excluded.gateway",
    columns: &[Column::Int, Column::Int, Column::Int],
};

const REMOVE: Hot = Hot {
    row: "DELETE FROM topo WHERE device = ?1",
    set: "DELETE FROM topo WHERE device = ANY($1::bigint[])",
    columns: &[Column::Int],
};

const BEHIND: Hot = Hot {
    row: "SELECT device, gateway FROM topo WHERE device = ?1 AND gateway = ?2",
    set:
        "SELECT t.device, t.gateway FROM topo t JOIN unnest($1::bigint[], $2::bigint[]) AS n(device, gateway)
            ON t.device = n.device AND t.gateway = n.gateway",
    columns: &[Column::Int, Column::Int],
};

impl Tx<'_> {
    /// A device, as a gateway.
    pub fn gateway_load(&mut self, device: DeviceNo) -> Result<Option<Gateway>, StoreError> {
        self.query_one(
            "SELECT p.instance, p.product_key, d.name, p.node_type, (SELECT COUNT(*) FROM topo t WHERE t.gateway = d.id)
             FROM device d JOIN product p ON p.id = d.product WHERE d.id = ?1 AND d.deleted_at IS NULL",
            &[device.0.into()],
            |row| {
                Ok(Gateway {
                    instance: InstanceNo(row.int(0)?),
                    product_key: row.text(1)?,
                    name: row.text(2)?,
                    is_gateway: row.int(3)? == 1,
                    subs: row.int(4)?,
                })
            },
        )
    }

    /// The instance's devices of these product keys and names, in any order; unknown ones are left out.
    pub fn sub_devices_find(
        &mut self,
        instance: InstanceNo,
        names: &[(&str, &str)],
    ) -> Result<Vec<SubDevice>, StoreError> {
        let keys: Vec<Vec<Value<'_>>> = names
            .iter()
            .map(|(product_key, name)| vec![instance.0.into(), (*product_key).into(), (*name).into()])
            .collect();
        self.query_set(&BY_NAMES, &keys, sub_device)
    }

    /// Puts devices behind a gateway, wherever they were before.
    pub fn topo_put(
        &mut self,
        gateway: DeviceNo,
        devices: &[DeviceNo],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let rows: Vec<Vec<Value<'_>>> =
            devices.iter().map(|device| vec![device.0.into(), gateway.0.into(), now.0.into()]).collect();
        self.exec_set(&PUT, &rows)?;
        Ok(())
    }

    /// Takes devices from behind their gateways.
    pub fn topo_remove(&mut self, devices: &[DeviceNo]) -> Result<(), StoreError> {
        let rows: Vec<Vec<Value<'_>>> = devices.iter().map(|device| vec![device.0.into()]).collect();
        self.exec_set(&REMOVE, &rows)?;
        Ok(())
    }

    /// Forgets a device that ends: it is behind no gateway, and nobody is behind it.
    pub(crate) fn topo_forget(&mut self, device: DeviceNo) -> Result<(), StoreError> {
        self.exec("DELETE FROM topo WHERE device = ?1", &[device.0.into()])?;
        self.exec("DELETE FROM topo WHERE gateway = ?1", &[device.0.into()])?;
        Ok(())
    }

    /// The gateway that a device is behind.
    pub fn topo_gateway(&mut self, device: DeviceNo) -> Result<Option<DeviceNo>, StoreError> {
        self.query_one("SELECT gateway FROM topo WHERE device = ?1", &[device.0.into()], |row| {
            Ok(DeviceNo(row.int(0)?))
        })
    }

    /// Those of these devices that are not behind the gateway named with them.
    pub fn topo_strays(&mut self, pairs: &[(DeviceNo, DeviceNo)]) -> Result<Vec<DeviceNo>, StoreError> {
        let keys: Vec<Vec<Value<'_>>> =
            pairs.iter().map(|(device, gateway)| vec![device.0.into(), gateway.0.into()]).collect();
        let behind =
            self.query_set(&BEHIND, &keys, |row| Ok((DeviceNo(row.int(0)?), DeviceNo(row.int(1)?))))?;
        Ok(pairs.iter().filter(|pair| !behind.contains(pair)).map(|(device, _)| *device).collect())
    }

    /// One page of the devices behind a gateway, in the order of their numbers. Skips the pages before it; the limit
    /// of devices behind a gateway bounds that.
    pub fn topo_list(&mut self, gateway: DeviceNo, page: Page) -> Result<Vec<SubDevice>, StoreError> {
        self.query(
            sub_devices!(
                "FROM topo t JOIN device d ON d.id = t.device JOIN product p ON p.id = d.product
                 WHERE t.gateway = ?1 ORDER BY t.device LIMIT ?2 OFFSET ?3"
            ),
            &[gateway.0.into(), page.size().into(), page.skip().into()],
            sub_device,
        )
    }
}
