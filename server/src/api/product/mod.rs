//! Products and their tags.

pub mod create_product;
pub mod create_product_tags;
pub mod delete_product;
pub mod delete_product_tags;
pub mod list_product_by_tags;
pub mod list_product_tags;
pub mod query_product;
pub mod query_product_dynamic_register;
pub mod query_product_list;
pub mod set_product_dynamic_register;
pub mod tags;
pub mod update_product;
pub mod update_product_tags;
