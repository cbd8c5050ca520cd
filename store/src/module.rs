//! The modules of a product, without `default`, which every product has and which has no row.

use crate::error::StoreError;
use crate::tx::Tx;
use crate::value::Row;
use updraft_core::id::{DeviceNo, ProductNo};
use updraft_core::page::Page;
use updraft_core::time::Timestamp;

/// A module as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// As it was made; unique in the product ignoring case.
    pub name: String,
    /// What people call it.
    pub alias: Option<String>,
    /// Free text.
    pub description: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub modified_at: Timestamp,
}

fn module(row: &Row<'_>) -> Result<Module, StoreError> {
    Ok(Module {
        name: row.text(0)?,
        alias: row.opt_text(1)?,
        description: row.opt_text(2)?,
        created_at: Timestamp(row.int(3)?),
        modified_at: Timestamp(row.int(4)?),
    })
}

impl Tx<'_> {
    /// Adds a module to a product; `false` if it has one of that name, ignoring case.
    pub fn module_insert(
        &mut self,
        product: ProductNo,
        name: &str,
        alias: Option<&str>,
        description: Option<&str>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        // Names are ASCII.
        let folded = name.to_ascii_lowercase();
        let added = self.exec(
            "INSERT INTO product_module (product, name, name_folded, alias_name, description, created_at,
                                         modified_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6) ON CONFLICT (product, name_folded) DO NOTHING",
            &[
                product.0.into(),
                name.into(),
                (&folded).into(),
                alias.into(),
                description.into(),
                now.0.into(),
            ],
        )?;
        Ok(added == 1)
    }

    /// Whether the product has a module of exactly this name.
    pub fn module_exists(&mut self, product: ProductNo, name: &str) -> Result<bool, StoreError> {
        let folded = name.to_ascii_lowercase();
        let found = self.query_one(
            "SELECT 1 FROM product_module WHERE product = ?1 AND name_folded = ?2 AND name = ?3",
            &[product.0.into(), (&folded).into(), name.into()],
            |_| Ok(()),
        )?;
        Ok(found.is_some())
    }

    /// Changes what people call a module and its description, where given; `false` if there is none.
    pub fn module_update(
        &mut self,
        product: ProductNo,
        name: &str,
        alias: Option<&str>,
        description: Option<&str>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let folded = name.to_ascii_lowercase();
        let changed = self.exec(
            "UPDATE product_module SET alias_name = COALESCE(?4, alias_name),
                                       description = COALESCE(?5, description), modified_at = ?6
             WHERE product = ?1 AND name_folded = ?2 AND name = ?3",
            &[
                product.0.into(),
                (&folded).into(),
                name.into(),
                alias.into(),
                description.into(),
                now.0.into(),
            ],
        )?;
        Ok(changed == 1)
    }

    /// Deletes a module; `false` if there is none.
    pub fn module_delete(&mut self, product: ProductNo, name: &str) -> Result<bool, StoreError> {
        let folded = name.to_ascii_lowercase();
        let deleted = self.exec(
            "DELETE FROM product_module WHERE product = ?1 AND name_folded = ?2 AND name = ?3",
            &[product.0.into(), (&folded).into(), name.into()],
        )?;
        Ok(deleted == 1)
    }

    /// The modules of a product by name; bounded by the quota.
    pub fn modules(&mut self, product: ProductNo) -> Result<Vec<Module>, StoreError> {
        self.query(
            "SELECT name, alias_name, description, created_at, modified_at FROM product_module
             WHERE product = ?1 ORDER BY name_folded",
            &[product.0.into()],
            module,
        )
    }

    /// A page of the versions that a device reported, by module, and how many there are.
    pub fn versions_page(
        &mut self,
        device: DeviceNo,
        page: Page,
    ) -> Result<(Vec<(String, String)>, i64), StoreError> {
        let total = self.version_count(device)?;
        let rows = self.query(
            "SELECT module, version FROM device_version WHERE device = ?1 ORDER BY module LIMIT ?2 OFFSET ?3",
            &[device.0.into(), page.size().into(), page.skip().into()],
            |row| Ok((row.text(0)?, row.text(1)?)),
        )?;
        Ok((rows, total))
    }
}
