//! Products.

pub mod create_product;
