//! Certificates of devices, and the authority that makes them.

use crate::error::StoreError;
use crate::tx::Tx;
use crate::value::Value;
use updraft_core::id::DeviceNo;
use updraft_core::time::Timestamp;

/// The authority that makes certificates of devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceAuthority {
    /// Its certificate (PEM).
    pub certificate: String,
    /// Its private key (PEM), sealed with the master key.
    pub key_sealed: Vec<u8>,
}

/// A device's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceCertificate {
    /// Its serial number, in hexadecimal digits.
    pub serial: String,
    /// The certificate (PEM).
    pub certificate: String,
    /// Its private key (PEM), sealed with the master key.
    pub key_sealed: Vec<u8>,
}

/// Whose a certificate is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertifiedDevice {
    /// Its row number.
    pub device: DeviceNo,
    /// The key of its product.
    pub product_key: String,
    /// Its name.
    pub name: String,
    /// Whether its product is one of gateways.
    pub is_gateway: bool,
    /// Whether it may not connect.
    pub disabled: bool,
    /// Whether it was deleted.
    pub deleted: bool,
}

impl Tx<'_> {
    /// The authority, if there is one.
    pub fn device_authority_find(&mut self) -> Result<Option<DeviceAuthority>, StoreError> {
        self.query_one("SELECT certificate, key_sealed FROM device_authority WHERE id = 0", &[], |row| {
            Ok(DeviceAuthority { certificate: row.text(0)?, key_sealed: row.blob(1)? })
        })
    }

    /// Makes this the authority, for good; false: there is one already.
    pub fn device_authority_insert(&mut self, new: &DeviceAuthority) -> Result<bool, StoreError> {
        let made = self.exec(
            "INSERT INTO device_authority (id, certificate, key_sealed) VALUES (0, ?1, ?2) ON CONFLICT DO NOTHING",
            &[(&new.certificate).into(), Value::Blob(&new.key_sealed)],
        )?;
        Ok(made > 0)
    }

    /// A device's certificate, if it was ever asked for.
    pub fn device_certificate_find(
        &mut self,
        device: DeviceNo,
    ) -> Result<Option<DeviceCertificate>, StoreError> {
        self.query_one(
            "SELECT serial, certificate, key_sealed FROM device_certificate WHERE device = ?1",
            &[device.0.into()],
            |row| {
                Ok(DeviceCertificate {
                    serial: row.text(0)?,
                    certificate: row.text(1)?,
                    key_sealed: row.blob(2)?,
                })
            },
        )
    }

    /// Gives a device its certificate; false: it has one already.
    pub fn device_certificate_insert(
        &mut self,
        device: DeviceNo,
        new: &DeviceCertificate,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let made = self.exec(
            "INSERT INTO device_certificate (device, serial, certificate, key_sealed, created_at)
             VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (device) DO NOTHING",
            &[
                device.0.into(),
                (&new.serial).into(),
                (&new.certificate).into(),
                Value::Blob(&new.key_sealed),
                now.0.into(),
            ],
        )?;
        Ok(made > 0)
    }

    /// Whose the certificate with this serial number is.
    pub fn device_certified(&mut self, serial: &str) -> Result<Option<CertifiedDevice>, StoreError> {
        self.query_one(
            "SELECT d.id, p.product_key, d.name, d.disabled, d.deleted_at, p.node_type
             FROM device_certificate c JOIN device d ON d.id = c.device JOIN product p ON p.id = d.product
             WHERE c.serial = ?1",
            &[serial.into()],
            |row| {
                Ok(CertifiedDevice {
                    device: DeviceNo(row.int(0)?),
                    product_key: row.text(1)?,
                    name: row.text(2)?,
                    disabled: row.flag(3)?,
                    deleted: row.opt_int(4)?.is_some(),
                    is_gateway: row.int(5)? == 1,
                })
            },
        )
    }
}
