//! Tags of products.

use crate::error::StoreError;
use crate::tx::{Column, Hot, Tx};
use crate::value::Value;
use std::collections::BTreeMap;
use updraft_core::id::{InstanceNo, ProductNo};

const PUT: Hot = Hot {
    row: "INSERT INTO product_tag (instance, product, tag_key, tag_value) VALUES (?1, ?2, ?3, ?4)
          ON CONFLICT (product, tag_key) DO UPDATE SET tag_value = excluded.tag_value",
    set: "INSERT INTO product_tag (instance, product, tag_key, tag_value)
          SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[])
          ON CONFLICT (product, tag_key) DO UPDATE SET tag_value = excluded.tag_value",
    columns: &[Column::Int, Column::Int, Column::Text, Column::Text],
};

const DELETE: Hot = Hot {
    row: "DELETE FROM product_tag WHERE product = ?1 AND tag_key = ?2",
    set: "DELETE FROM product_tag t USING unnest($1::bigint[], $2::text[]) AS n(product, tag_key)
          WHERE t.product = n.product AND t.tag_key = n.tag_key",
    columns: &[Column::Int, Column::Text],
};

impl Tx<'_> {
    /// A product's tags, by key.
    pub fn product_tags(&mut self, product: ProductNo) -> Result<BTreeMap<String, String>, StoreError> {
        let all = self.query(
            "SELECT tag_key, tag_value FROM product_tag WHERE product = ?1 ORDER BY tag_key",
            &[product.0.into()],
            |row| Ok((row.text(0)?, row.text(1)?)),
        )?;
        Ok(all.into_iter().collect())
    }

    /// Gives a product of the instance these tags; a tag that it has gets the new value.
    pub fn product_tags_put(
        &mut self,
        instance: InstanceNo,
        product: ProductNo,
        tags: &BTreeMap<String, String>,
    ) -> Result<(), StoreError> {
        let rows: Vec<Vec<Value<'_>>> = tags
            .iter()
            .map(|(key, value)| vec![instance.0.into(), product.0.into(), key.into(), value.into()])
            .collect();
        self.exec_set(&PUT, &rows)?;
        Ok(())
    }

    /// Takes tags from a product; keys that it does not have are left out.
    pub fn product_tags_delete(&mut self, product: ProductNo, keys: &[String]) -> Result<(), StoreError> {
        let rows: Vec<Vec<Value<'_>>> = keys.iter().map(|key| vec![product.0.into(), key.into()]).collect();
        self.exec_set(&DELETE, &rows)?;
        Ok(())
    }
}
