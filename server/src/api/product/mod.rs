//! Products.

pub mod create_product;
pub mod query_product;
pub mod query_product_list;
