//! The devices of a batch by list file, until their tasks are made; and how their names are looked up.
//!
//! A million numbers as rows would keep the writer busy for a second. Packed, they are some two megabytes in a few
//! hundred rows, which are written in the transaction that makes the batch: it exists with its whole list or not.

use crate::error::StoreError;
use crate::tx::{Column, Hot, Tx};
use crate::value::Value;
use updraft_core::id::{DeviceNo, JobNo, ProductNo};

const BY_NAMES: Hot = Hot {
    row: "SELECT name, id FROM device WHERE product = ?1 AND name = ?2 AND deleted_at IS NULL",
    set:
        "SELECT d.name, d.id FROM unnest($1::bigint[], $2::text[]) AS n(product, name)
          JOIN device d ON d.product = n.product AND d.name = n.name AND d.deleted_at IS NULL ORDER BY d.name",
    columns: &[Column::Int, Column::Text],
};

/// Sorted numbers as differences of seven bits a byte, the low ones first; a byte with the high bit goes on.
fn pack(devices: &[DeviceNo]) -> Vec<u8> {
    let mut out = Vec::with_capacity(devices.len() * 2);
    let mut before = 0;
    for device in devices {
        let mut rest = device.0.wrapping_sub(before).cast_unsigned();
        before = device.0;
        while rest > 0x7f {
            out.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        out.push(rest as u8);
    }
    out
}

fn unpack(bytes: &[u8]) -> Result<Vec<DeviceNo>, StoreError> {
    let corrupt = |detail: &str| StoreError::Corrupt { place: "job_list.devices", detail: detail.to_owned() };
    let mut out = Vec::with_capacity(bytes.len());
    let (mut number, mut value, mut shift) = (0_i64, 0_u64, 0);
    for byte in bytes {
        if shift > 63 {
            return Err(corrupt("a number is too long"));
        }
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            number = number.wrapping_add(value.cast_signed());
            out.push(DeviceNo(number));
            (value, shift) = (0, 0);
        } else {
            shift += 7;
        }
    }
    if shift == 0 { Ok(out) } else { Err(corrupt("the last number is cut off")) }
}

impl Tx<'_> {
    /// Writes a batch's list down, `part_devices` in each part. The numbers must be sorted.
    pub fn job_list_insert(
        &mut self,
        no: JobNo,
        devices: &[DeviceNo],
        part_devices: usize,
    ) -> Result<(), StoreError> {
        for (devices, part) in devices.chunks(part_devices.max(1)).zip(1_i64..) {
            self.exec(
                "INSERT INTO job_list (job, part, devices) VALUES (?1, ?2, ?3)",
                &[no.0.into(), part.into(), Value::Blob(&pack(devices))],
            )?;
        }
        Ok(())
    }

    /// Takes the next devices out of a batch's list; none if it is empty.
    pub fn job_list_take(&mut self, no: JobNo) -> Result<Vec<DeviceNo>, StoreError> {
        let part = self.query_one(
            "SELECT part, devices FROM job_list WHERE job = ?1 ORDER BY part LIMIT 1",
            &[no.0.into()],
            |row| Ok((row.int(0)?, row.blob(1)?)),
        )?;
        let Some((part, devices)) = part else { return Ok(Vec::new()) };
        self.exec("DELETE FROM job_list WHERE job = ?1 AND part = ?2", &[no.0.into(), part.into()])?;
        unpack(&devices)
    }

    /// Whether nothing of a batch's list is left.
    pub fn job_list_is_empty(&mut self, no: JobNo) -> Result<bool, StoreError> {
        let found =
            self.query_one("SELECT 1 FROM job_list WHERE job = ?1 LIMIT 1", &[no.0.into()], |_| Ok(()))?;
        Ok(found.is_none())
    }

    /// Names and numbers of the product's devices with these names, which must be in the order of their bytes: so are
    /// the rows. Unknown names are left out.
    pub fn device_numbers(
        &mut self,
        product: ProductNo,
        names: &[&str],
    ) -> Result<Vec<(String, DeviceNo)>, StoreError> {
        let keys: Vec<Vec<Value<'_>>> =
            names.iter().map(|name| vec![product.0.into(), (*name).into()]).collect();
        self.query_set(&BY_NAMES, &keys, |row| Ok((row.text(0)?, DeviceNo(row.int(1)?))))
    }

    /// The next `limit` devices of a product in the order of their names' bytes, behind a name and up to another one:
    /// a walk along an index, for lists that hold a good part of the product.
    pub fn device_numbers_between(
        &mut self,
        product: ProductNo,
        after: &str,
        upto: &str,
        limit: i64,
    ) -> Result<Vec<(String, DeviceNo)>, StoreError> {
        self.query(
            "SELECT name, id FROM device
             WHERE product = ?1 AND name > ?2 AND name <= ?3 AND deleted_at IS NULL ORDER BY name LIMIT ?4",
            &[product.0.into(), after.into(), upto.into(), limit.into()],
            |row| Ok((row.text(0)?, DeviceNo(row.int(1)?))),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(all: &[i64]) -> Vec<DeviceNo> {
        all.iter().copied().map(DeviceNo).collect()
    }

    #[test]
    fn what_is_packed_is_unpacked() {
        for all in [&[][..], &[1], &[1, 2, 130, 131, 16_600, i64::MAX], &[0, 127, 128, 255, 16_511, 16_512]] {
            let all = numbers(all);
            assert_eq!(unpack(&pack(&all)).unwrap(), all);
        }
        let dense: Vec<DeviceNo> = (1_000_000..1_002_000).map(DeviceNo).collect();
        assert!(pack(&dense).len() < 2_010);
    }

    #[test]
    fn a_damaged_list_is_told_and_not_guessed() {
        for bytes in [&[0x80][..], &[1, 0xff], &[0xff; 12]] {
            assert!(matches!(unpack(bytes), Err(StoreError::Corrupt { .. })), "{bytes:?}");
        }
    }
}
