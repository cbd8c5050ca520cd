//! Devices that register themselves: what their product allows, what they are given, and the end of that.

use crate::device_life::DeviceToken;
use crate::error::StoreError;
use crate::product::mode;
use crate::tx::Tx;
use crate::value::Value;
use updraft_core::id::{DeviceNo, InstanceNo, ProductNo};
use updraft_core::registration::{Known, Mode};
use updraft_core::time::Timestamp;

/// The product that a registration names, and its device of that name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registrant {
    /// The product.
    pub product: ProductNo,
    /// The instance that it belongs to.
    pub instance: InstanceNo,
    /// The instance's IotInstanceId; `None`: the public one.
    pub instance_id: Option<String>,
    /// The product's secret, sealed with the master key.
    pub secret_sealed: Vec<u8>,
    /// Whether its devices may register themselves.
    pub mode: Mode,
    /// How many devices it has.
    pub device_count: i64,
    /// The device, if the product has one of that name.
    pub device: Option<RegistrantDevice>,
}

/// A device that asks for what it is to log in with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistrantDevice {
    /// Its row number.
    pub no: DeviceNo,
    /// Unique everywhere.
    pub iot_id: String,
    /// Its secret, sealed with the master key.
    pub secret_sealed: Vec<u8>,
    /// What decides whether it may.
    pub known: Known,
}

/// What a device is given when it has registered itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// A new secret, sealed with the master key; `None`: the one that it has.
    pub secret_sealed: Option<Vec<u8>>,
    /// A token; `None`: it logs in with its secret, and a token that it had is good no more.
    pub token: Option<DeviceToken>,
}

/// A device that a token of the HTTP channel is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenHolder {
    /// Its product's key.
    pub product_key: String,
    /// Its name.
    pub name: String,
    /// Whether it may not connect.
    pub disabled: bool,
    /// How often what it proves itself with has changed.
    pub credentials: i64,
}

impl Tx<'_> {
    /// What a registration names: `None` if there is no such product.
    pub fn registrant_find(
        &mut self,
        product_key: &str,
        name: &str,
    ) -> Result<Option<Registrant>, StoreError> {
        let found = self.query_one(
            "SELECT p.id, p.instance, i.instance_id, p.secret_sealed, p.registration, p.device_count
             FROM product p JOIN instance i ON i.id = p.instance
             WHERE p.product_key = ?1 AND p.deleted_at IS NULL",
            &[product_key.into()],
            |row| {
                Ok(Registrant {
                    product: ProductNo(row.int(0)?),
                    instance: InstanceNo(row.int(1)?),
                    instance_id: row.opt_text(2)?,
                    secret_sealed: row.blob(3)?,
                    mode: mode(row.int(4)?)?,
                    device_count: row.int(5)?,
                    device: None,
                })
            },
        )?;
        let Some(found) = found else { return Ok(None) };
        let device = self.query_one(
            "SELECT id, iot_id, secret_sealed, active_at, registered_at, reset_at, disabled FROM device
             WHERE product = ?1 AND name = ?2 AND deleted_at IS NULL",
            &[found.product.0.into(), name.into()],
            |row| {
                Ok(RegistrantDevice {
                    no: DeviceNo(row.int(0)?),
                    iot_id: row.text(1)?,
                    secret_sealed: row.blob(2)?,
                    known: Known {
                        active: row.opt_int(3)?.is_some(),
                        registered: row.opt_int(4)?.is_some(),
                        reset: row.opt_int(5)?.is_some(),
                        disabled: row.flag(6)?,
                    },
                })
            },
        )?;
        Ok(Some(Registrant { device, ..found }))
    }

    /// Whether the server has an instance with this IotInstanceId, whoever's it is.
    pub fn instance_exists(&mut self, instance_id: &str) -> Result<bool, StoreError> {
        let found =
            self.query_one("SELECT 1 FROM instance WHERE instance_id = ?1", &[instance_id.into()], |_| {
                Ok(())
            })?;
        Ok(found.is_some())
    }

    /// Sets which devices of a product may register themselves.
    pub fn product_registration_set(&mut self, product: ProductNo, mode: Mode) -> Result<(), StoreError> {
        self.exec(
            "UPDATE product SET registration = ?2 WHERE id = ?1",
            &[product.0.into(), mode.code().into()],
        )?;
        Ok(())
    }

    /// Notes that a device registered itself, and what it was given.
    pub fn device_registered(
        &mut self,
        device: DeviceNo,
        given: &Credentials,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.exec(
            "UPDATE device SET registered_at = ?2, secret_sealed = COALESCE(?3, secret_sealed), token_client = ?4,
                               token_hash = ?5, credentials = credentials + 1
             WHERE id = ?1",
            &[
                device.0.into(),
                now.0.into(),
                given.secret_sealed.as_deref().map_or(Value::Null, Value::Blob),
                given.token.as_ref().map(|token| &token.client_id).into(),
                given.token.as_ref().map_or(Value::Null, |token| Value::Blob(&token.hash)),
            ],
        )?;
        Ok(())
    }

    /// Lets a device register itself again. Its secret stays good until it does; a token of its own ends. Answers
    /// whether it had one.
    pub fn device_reset(&mut self, device: DeviceNo, now: Timestamp) -> Result<bool, StoreError> {
        let had_token = self.query_one(
            "SELECT 1 FROM device WHERE id = ?1 AND token_hash IS NOT NULL",
            &[device.0.into()],
            |_| Ok(()),
        )?;
        self.exec(
            "UPDATE device SET registered_at = NULL, reset_at = ?2, token_client = NULL, token_hash = NULL,
                               credentials = credentials + 1
             WHERE id = ?1",
            &[device.0.into(), now.0.into()],
        )?;
        Ok(had_token.is_some())
    }

    /// The device that a token is about; `None`: it is deleted.
    pub fn token_holder(&mut self, device: DeviceNo) -> Result<Option<TokenHolder>, StoreError> {
        self.query_one(
            "SELECT p.product_key, d.name, d.disabled, d.credentials
             FROM device d JOIN product p ON p.id = d.product WHERE d.id = ?1 AND d.deleted_at IS NULL",
            &[device.0.into()],
            |row| {
                Ok(TokenHolder {
                    product_key: row.text(0)?,
                    name: row.text(1)?,
                    disabled: row.flag(2)?,
                    credentials: row.int(3)?,
                })
            },
        )
    }

    /// Notes that a device logged in without a connection: it is active, and as online as it was. Answers whether its
    /// status changed.
    pub fn device_visited(&mut self, device: DeviceNo, ip: &str, now: Timestamp) -> Result<bool, StoreError> {
        let first = self.exec(
            "UPDATE device SET status = 2, status_at = ?2
             WHERE id = ?1 AND status = 0 AND disabled = 0 AND deleted_at IS NULL",
            &[device.0.into(), now.0.into()],
        )?;
        self.exec(
            "UPDATE device SET ip = ?2, online_at = ?3, active_at = COALESCE(active_at, ?3),
                               reset_at = CASE WHEN registered_at IS NULL THEN reset_at END
             WHERE id = ?1 AND disabled = 0 AND deleted_at IS NULL",
            &[device.0.into(), ip.into(), now.0.into()],
        )?;
        Ok(first > 0)
    }
}
