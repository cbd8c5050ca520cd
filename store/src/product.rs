//! Products.

use crate::error::StoreError;
use crate::tx::Tx;
use crate::value::{Row, Value};
use updraft_core::id::{InstanceNo, ProductNo};
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
    /// 0 device, 1 gateway.
    pub node_type: i64,
    /// When it was made.
    pub created_at: Timestamp,
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
        node_type: row.int(4)?,
        created_at: Timestamp(row.int(5)?),
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
            "SELECT id, instance, product_key, name, node_type, created_at FROM product
             WHERE product_key = ?1 AND instance = ?2",
            &[product_key.into(), instance.0.into()],
            product,
        )
    }

    /// The product with this row number.
    pub fn product_load(&mut self, no: ProductNo) -> Result<Option<Product>, StoreError> {
        self.query_one(
            "SELECT id, instance, product_key, name, node_type, created_at FROM product WHERE id = ?1",
            &[no.0.into()],
            product,
        )
    }
}
