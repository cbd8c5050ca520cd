//! Tags of devices.

use crate::error::StoreError;
use crate::tx::{Column, Hot, Tx};
use crate::value::Value;
use std::collections::BTreeMap;
use updraft_core::id::{DeviceNo, InstanceNo};
use updraft_core::limits::TAGS_ASKED_MAX;

/// Behind every tag value: no value has this character.
const VALUES_END: &str = "\u{10ffff}";

/// A tag that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagAsked {
    /// Its key.
    pub key: String,
    /// Its value; `None`: any.
    pub value: Option<String>,
}

/// A device found by its tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaggedDevice {
    /// The key of its product.
    pub product_key: String,
    /// The name of its product.
    pub product_name: String,
    /// Its name.
    pub name: String,
    /// Its IotId.
    pub iot_id: String,
}

/// How far a search by tags has come: the last device looked at, and its value of the first tag.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TagPlace {
    value: String,
    device: DeviceNo,
}

/// Where the smallest value of the first tag stands among the parameters of a search.
const FIRST_VALUE: usize = 2;

const PUT: Hot = Hot {
    row: "INSERT INTO device_tag (instance, device, tag_key, tag_value) VALUES (?1, ?2, ?3, ?4)
          ON CONFLICT (device, tag_key) DO UPDATE SET tag_value = excluded.tag_value",
    set: "INSERT INTO device_tag (instance, device, tag_key, tag_value)
          SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[])
          ON CONFLICT (device, tag_key) DO UPDATE SET tag_value = excluded.tag_value",
    columns: &[Column::Int, Column::Int, Column::Text, Column::Text],
};

const OF: Hot = Hot {
    row: "SELECT device, tag_key, tag_value FROM device_tag WHERE device = ?1 ORDER BY tag_key",
    set: "SELECT t.device, t.tag_key, t.tag_value
          FROM unnest($1::bigint[]) AS n(device) JOIN device_tag t ON t.device = n.device
          ORDER BY t.device, t.tag_key",
    columns: &[Column::Int],
};

const FORGET: Hot = Hot {
    row: "DELETE FROM device_tag WHERE device = ?1",
    set: "DELETE FROM device_tag WHERE device = ANY($1::bigint[])",
    columns: &[Column::Int],
};

const LOAD: Hot = Hot {
    row: "SELECT p.product_key, p.name, d.name, d.iot_id FROM device d JOIN product p ON p.id = d.product
          WHERE d.id = ?1 AND d.deleted_at IS NULL",
    set: "SELECT p.product_key, p.name, d.name, d.iot_id FROM device d JOIN product p ON p.id = d.product
          WHERE d.id = ANY($1::bigint[]) AND d.deleted_at IS NULL ORDER BY d.id DESC",
    columns: &[Column::Int],
};

/// Whether a device that has the first of up to ten tags has the others, too. Unused places are NULL.
macro_rules! has_the_others {
    () => {
        concat!(
            "1 = 1",
            has_the_others!("?5", "?6", "?7"),
            has_the_others!("?8", "?9", "?10"),
            has_the_others!("?11", "?12", "?13"),
            has_the_others!("?14", "?15", "?16"),
            has_the_others!("?17", "?18", "?19"),
            has_the_others!("?20", "?21", "?22"),
            has_the_others!("?23", "?24", "?25"),
            has_the_others!("?26", "?27", "?28"),
            has_the_others!("?29", "?30", "?31"),
        )
    };
    ($key:literal, $from:literal, $upto:literal) => {
        concat!(
            " AND (CAST(",
            $key,
            " AS TEXT) IS NULL OR EXISTS (SELECT 1 FROM device_tag x WHERE x.device = t.device AND x.tag_key = ",
            $key,
            " AND x.tag_value >= ",
            $from,
            " AND x.tag_value <= ",
            $upto,
            "))"
        )
    };
}

/// Ten times key, smallest and largest value; unused places are NULL.
pub(crate) fn tag_params(tags: &[TagAsked]) -> Vec<Value<'_>> {
    let mut params = Vec::with_capacity(3 * TAGS_ASKED_MAX);
    for at in 0..TAGS_ASKED_MAX {
        let tag = tags.get(at);
        let value = tag.and_then(|tag| tag.value.as_deref());
        params.push(tag.map(|tag| tag.key.as_str()).into());
        params.push(tag.map(|_| value.unwrap_or_default()).into());
        params.push(tag.map(|_| value.unwrap_or(VALUES_END)).into());
    }
    params
}

impl Tx<'_> {
    /// A device's tags, by key.
    pub fn device_tags(&mut self, device: DeviceNo) -> Result<BTreeMap<String, String>, StoreError> {
        let all = self.device_tags_of(&[device])?;
        Ok(all.into_iter().map(|(_, key, value)| (key, value)).collect())
    }

    /// The tags of these devices: who, key, value.
    pub fn device_tags_of(
        &mut self,
        devices: &[DeviceNo],
    ) -> Result<Vec<(DeviceNo, String, String)>, StoreError> {
        let keys: Vec<Vec<Value<'_>>> = devices.iter().map(|device| vec![device.0.into()]).collect();
        self.query_set(&OF, &keys, |row| Ok((DeviceNo(row.int(0)?), row.text(1)?, row.text(2)?)))
    }

    /// Gives a device of the instance these tags; a tag that it has gets the new value.
    pub fn device_tags_put(
        &mut self,
        instance: InstanceNo,
        device: DeviceNo,
        tags: &BTreeMap<String, String>,
    ) -> Result<(), StoreError> {
        let rows: Vec<Vec<Value<'_>>> = tags
            .iter()
            .map(|(key, value)| vec![instance.0.into(), device.0.into(), key.into(), value.into()])
            .collect();
        self.exec_set(&PUT, &rows)?;
        Ok(())
    }

    /// Takes a tag from a device; answers whether it had it.
    pub fn device_tag_delete(&mut self, device: DeviceNo, key: &str) -> Result<bool, StoreError> {
        let deleted = self.exec(
            "DELETE FROM device_tag WHERE device = ?1 AND tag_key = ?2",
            &[device.0.into(), key.into()],
        )?;
        Ok(deleted > 0)
    }

    /// Takes all tags from these devices.
    pub fn device_tags_forget(&mut self, devices: &[DeviceNo]) -> Result<(), StoreError> {
        let rows: Vec<Vec<Value<'_>>> = devices.iter().map(|device| vec![device.0.into()]).collect();
        self.exec_set(&FORGET, &rows)?;
        Ok(())
    }

    /// Looks at the next `limit` devices of the instance behind `after` that have the first of these tags: those of
    /// them that have all (the first ten count), and where to go on; `None`: there are no more. A fleet may have a tag
    /// in common, so nobody looks at all of its devices at once.
    pub fn devices_tagged(
        &mut self,
        instance: InstanceNo,
        tags: &[TagAsked],
        after: Option<&TagPlace>,
        limit: i64,
    ) -> Result<(Vec<DeviceNo>, Option<TagPlace>), StoreError> {
        let mut params: Vec<Value<'_>> = vec![instance.0.into()];
        params.extend(tag_params(tags));
        if let Some(place) = after {
            params[FIRST_VALUE] = (&place.value).into();
        }
        params.extend([Value::from(after.map_or(0, |place| place.device.0)), Value::from(limit)]);
        let rows = self.query(
            concat!(
                "SELECT t.tag_value, t.device, CAST(CASE WHEN ",
                has_the_others!(),
                " THEN 1 ELSE 0 END AS BIGINT)
                 FROM (SELECT tag_value, device FROM device_tag
                       WHERE instance = ?1 AND tag_key = ?2 AND (tag_value, device) > (?3, ?32) AND tag_value <= ?4
                       ORDER BY tag_value, device LIMIT ?33) t"
            ),
            &params,
            |row| Ok((row.text(0)?, DeviceNo(row.int(1)?), row.flag(2)?)),
        )?;
        let found = rows.iter().filter(|(_, _, has)| *has).map(|(_, device, _)| *device).collect();
        if (rows.len() as i64) < limit {
            return Ok((found, None));
        }
        let last = rows.into_iter().map(|(value, device, _)| TagPlace { value, device }).max();
        Ok((found, last))
    }

    /// These devices as such a list shows them, in the order given on SQLite and newest first on PostgreSQL.
    pub fn devices_tagged_load(&mut self, devices: &[DeviceNo]) -> Result<Vec<TaggedDevice>, StoreError> {
        let keys: Vec<Vec<Value<'_>>> = devices.iter().map(|device| vec![device.0.into()]).collect();
        self.query_set(&LOAD, &keys, |row| {
            Ok(TaggedDevice {
                product_key: row.text(0)?,
                product_name: row.text(1)?,
                name: row.text(2)?,
                iot_id: row.text(3)?,
            })
        })
    }
}
