//! Products.

use crate::error::StoreError;
use crate::tx::Tx;
use crate::value::{Row, Value};
use updraft_core::id::{InstanceNo, ProductNo};
use updraft_core::page::Page;
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
    /// How many devices it has.
    pub device_count: i64,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A query for products, in the order of columns that [`product`] reads.
macro_rules! products {
    ($rest:literal) => {
        concat!(
            "SELECT id, instance, product_key, name, secret_sealed, node_type, data_format, net_type, ",
            "commodity_code, description, device_count, created_at FROM product ",
            $rest
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
        device_count: row.int(10)?,
        created_at: Timestamp(row.int(11)?),
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
                                  commodity_code, description, device_count, created_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 0, ?10)
             ON CONFLICT (instance, name) DO NOTHING RETURNING id",
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
                now.0.into(),
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
            products!("WHERE product_key = ?1 AND instance = ?2"),
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
            "SELECT COUNT(*) FROM product WHERE instance = ?1 AND commodity_code = COALESCE(?2, commodity_code)",
            &[instance.0.into(), commodity_code.into()],
            |row| row.int(0),
        )?;
        let rows = self.query(
            products!(
                "WHERE instance = ?1 AND commodity_code = COALESCE(?2, commodity_code)
                 ORDER BY id DESC LIMIT ?3 OFFSET ?4"
            ),
            &[instance.0.into(), commodity_code.into(), page.size().into(), page.skip().into()],
            product,
        )?;
        Ok((rows, total.unwrap_or_default()))
    }

    /// The product with this row number.
    pub fn product_load(&mut self, no: ProductNo) -> Result<Option<Product>, StoreError> {
        self.query_one(products!("WHERE id = ?1"), &[no.0.into()], product)
    }
}
