//! Products.

use crate::device_tag::{TagAsked, tag_params};
use crate::error::StoreError;
use crate::tx::Tx;
use crate::value::{Row, Value};
use updraft_core::id::{FirmwareNo, InstanceNo, ProductNo};
use updraft_core::page::Page;
use updraft_core::registration::Mode;
use updraft_core::time::Timestamp;

/// A product as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Product {
    /// Row number.
    pub no: ProductNo,
    /// The instance that it belongs to.
    pub instance: InstanceNo,
    /// The key that devices and callers name it by.
    pub product_key: String,
    /// Its name, unique in the instance.
    pub name: String,
    /// Product secret, sealed with the master key.
    pub secret_sealed: Vec<u8>,
    /// 0 device, 1 gateway.
    pub node_type: i64,
    /// 0 custom, 1 Alink.
    pub data_format: i64,
    /// How devices reach the network, as named in the API.
    pub net_type: String,
    /// `iothub_senior` or `iothub`.
    pub commodity_code: String,
    /// Free text.
    pub description: Option<String>,
    /// How its devices reach a gateway, as named in the API.
    pub protocol_type: Option<String>,
    /// The category that its maker put it in.
    pub category_key: Option<String>,
    /// How data are checked: 1 weakly, 2 not at all.
    pub validate_type: i64,
    /// Whether its devices log in with certificates instead of secrets.
    pub certified: bool,
    /// Which devices may register themselves.
    pub registration: Mode,
    /// How many devices it has.
    pub device_count: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was deleted.
    pub deleted_at: Option<Timestamp>,
}

/// A query for products, in the order of columns that [`product`] reads.
macro_rules! products {
    ($($rest:expr),+ $(,)?) => {
        concat!(
            "SELECT id, instance, product_key, name, secret_sealed, node_type, data_format, net_type, ",
            "commodity_code, description, protocol_type, category_key, validate_type, device_count, created_at, ",
            "deleted_at, registration, certified FROM product ",
            $($rest),+
        )
    };
}

/// The products that have a tag; of an unused place, none.
macro_rules! tagged {
    ($key:literal, $from:literal, $upto:literal) => {
        concat!(
            "SELECT product FROM product_tag WHERE instance = ?1 AND tag_key = ",
            $key,
            " AND tag_value >= ",
            $from,
            " AND tag_value <= ",
            $upto,
            " UNION ALL "
        )
    };
}

/// A product to add.
#[derive(Debug, Clone)]
pub struct NewProduct {
    /// The instance that it belongs to.
    pub instance: InstanceNo,
    /// The key that devices and callers name it by.
    pub product_key: String,
    /// Its name.
    pub name: String,
    /// Product secret, sealed with the master key.
    pub secret_sealed: Vec<u8>,
    /// 0 device, 1 gateway.
    pub node_type: i64,
    /// 0 custom, 1 Alink.
    pub data_format: i64,
    /// How devices reach the network, as named in the API.
    pub net_type: String,
    /// `iothub_senior` or `iothub`.
    pub commodity_code: String,
    /// Free text.
    pub description: Option<String>,
    /// How its devices reach a gateway, as named in the API.
    pub protocol_type: Option<String>,
    /// The category that its maker puts it in.
    pub category_key: Option<String>,
    /// How data are checked: 1 weakly, 2 not at all.
    pub validate_type: i64,
    /// Whether its devices log in with certificates instead of secrets.
    pub certified: bool,
}

/// The switch of a product's row.
pub(crate) fn mode(code: i64) -> Result<Mode, StoreError> {
    Mode::from_code(code)
        .ok_or_else(|| StoreError::Corrupt { place: "product.registration", detail: code.to_string() })
}

fn product(row: &Row<'_>) -> Result<Product, StoreError> {
    Ok(Product {
        no: ProductNo(row.int(0)?),
        instance: InstanceNo(row.int(1)?),
        product_key: row.text(2)?,
        name: row.text(3)?,
        secret_sealed: row.blob(4)?,
        node_type: row.int(5)?,
        data_format: row.int(6)?,
        net_type: row.text(7)?,
        commodity_code: row.text(8)?,
        description: row.opt_text(9)?,
        protocol_type: row.opt_text(10)?,
        category_key: row.opt_text(11)?,
        validate_type: row.int(12)?,
        device_count: row.int(13)?,
        created_at: Timestamp(row.int(14)?),
        deleted_at: row.opt_int(15)?.map(Timestamp),
        registration: mode(row.int(16)?)?,
        certified: row.flag(17)?,
    })
}

impl Tx<'_> {
    /// Adds a product; `None` if the instance has one of that name.
    pub fn product_insert(
        &mut self,
        new: &NewProduct,
        now: Timestamp,
    ) -> Result<Option<ProductNo>, StoreError> {
        self.query_one(
            "INSERT INTO product (instance, product_key, name, secret_sealed, node_type, data_format, net_type,
                                  commodity_code, description, protocol_type, category_key, validate_type,
                                  device_count, created_at, certified)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, 0, ?13, ?14)
             ON CONFLICT (instance, name) WHERE deleted_at IS NULL DO NOTHING RETURNING id",
            &[
                new.instance.0.into(),
                (&new.product_key).into(),
                (&new.name).into(),
                Value::Blob(&new.secret_sealed),
                new.node_type.into(),
                new.data_format.into(),
                (&new.net_type).into(),
                (&new.commodity_code).into(),
                new.description.as_ref().into(),
                new.protocol_type.as_ref().into(),
                new.category_key.as_ref().into(),
                new.validate_type.into(),
                now.0.into(),
                new.certified.into(),
            ],
            |row| Ok(ProductNo(row.int(0)?)),
        )
    }

    /// The instance's product with this key.
    pub fn product_find(
        &mut self,
        instance: InstanceNo,
        product_key: &str,
    ) -> Result<Option<Product>, StoreError> {
        self.query_one(
            products!("WHERE product_key = ?1 AND instance = ?2 AND deleted_at IS NULL"),
            &[product_key.into(), instance.0.into()],
            product,
        )
    }

    /// One page of the instance's products, newest first, of one commodity code or of all; and how many there
    /// are. Skips the pages before it.
    pub fn product_list(
        &mut self,
        instance: InstanceNo,
        commodity_code: Option<&str>,
        page: Page,
    ) -> Result<(Vec<Product>, i64), StoreError> {
        let total = self.query_one(
            "SELECT COUNT(*) FROM product
             WHERE instance = ?1 AND deleted_at IS NULL AND commodity_code = COALESCE(?2, commodity_code)",
            &[instance.0.into(), commodity_code.into()],
            |row| row.int(0),
        )?;
        let rows = self.query(
            products!(
                "WHERE instance = ?1 AND deleted_at IS NULL AND commodity_code = COALESCE(?2, commodity_code)
                 ORDER BY id DESC LIMIT ?3 OFFSET ?4"
            ),
            &[instance.0.into(), commodity_code.into(), page.size().into(), page.skip().into()],
            product,
        )?;
        Ok((rows, total.unwrap_or_default()))
    }

    /// The product with this row number, also if it was deleted: batches go on naming theirs.
    pub fn product_load(&mut self, no: ProductNo) -> Result<Option<Product>, StoreError> {
        self.query_one(products!("WHERE id = ?1"), &[no.0.into()], product)
    }

    /// How many products the instance has.
    pub fn product_count(&mut self, instance: InstanceNo) -> Result<i64, StoreError> {
        let count = self.query_one(
            "SELECT COUNT(*) FROM product WHERE instance = ?1 AND deleted_at IS NULL",
            &[instance.0.into()],
            |row| row.int(0),
        )?;
        Ok(count.unwrap_or_default())
    }

    /// Renames a product, and changes its description if one is given; `false` if its instance has another one of
    /// that name.
    pub fn product_update(
        &mut self,
        product: &Product,
        name: &str,
        description: Option<&str>,
    ) -> Result<bool, StoreError> {
        let taken = self.query_one(
            "SELECT 1 FROM product WHERE instance = ?1 AND name = ?2 AND deleted_at IS NULL AND id <> ?3",
            &[product.instance.0.into(), name.into(), product.no.0.into()],
            |_| Ok(()),
        )?;
        if taken.is_some() {
            return Ok(false);
        }
        self.exec(
            "UPDATE product SET name = ?2, description = COALESCE(?3, description) WHERE id = ?1",
            &[product.no.0.into(), name.into(), description.into()],
        )?;
        Ok(true)
    }

    /// Deletes a product, which has no devices: from now on it is found by its row number only, and its secret, its
    /// tags and modules are gone. Its packages are deleted with it, so its batches are stopped.
    pub fn product_delete(&mut self, no: ProductNo, now: Timestamp) -> Result<(), StoreError> {
        let packages = self.query(
            "SELECT id FROM firmware WHERE product = ?1 AND deleted_at IS NULL ORDER BY id",
            &[no.0.into()],
            |row| Ok(FirmwareNo(row.int(0)?)),
        )?;
        for package in packages {
            self.firmware_delete(package, now)?;
        }
        self.exec("DELETE FROM product_tag WHERE product = ?1", &[no.0.into()])?;
        self.exec("DELETE FROM product_module WHERE product = ?1", &[no.0.into()])?;
        self.exec(
            "UPDATE product SET deleted_at = ?2, secret_sealed = ?3 WHERE id = ?1 AND deleted_at IS NULL",
            &[no.0.into(), now.0.into(), Value::Blob(&[])],
        )?;
        Ok(())
    }

    /// One page of the instance's products that have any of these tags (the first ten count), newest first.
    pub fn products_by_tags(
        &mut self,
        instance: InstanceNo,
        tags: &[TagAsked],
        page: Page,
    ) -> Result<Vec<Product>, StoreError> {
        let mut params: Vec<Value<'_>> = vec![instance.0.into()];
        params.extend(tag_params(tags));
        params.extend([Value::from(page.size()), Value::from(page.skip())]);
        self.query(
            products!(
                "WHERE deleted_at IS NULL AND id IN (",
                tagged!("?2", "?3", "?4"),
                tagged!("?5", "?6", "?7"),
                tagged!("?8", "?9", "?10"),
                tagged!("?11", "?12", "?13"),
                tagged!("?14", "?15", "?16"),
                tagged!("?17", "?18", "?19"),
                tagged!("?20", "?21", "?22"),
                tagged!("?23", "?24", "?25"),
                tagged!("?26", "?27", "?28"),
                tagged!("?29", "?30", "?31"),
                "SELECT 0 WHERE 1 = 0) ORDER BY id DESC LIMIT ?32 OFFSET ?33"
            ),
            &params,
            product,
        )
    }
}
