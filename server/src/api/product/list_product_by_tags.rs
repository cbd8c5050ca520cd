//! ListProductByTags: the instance's products that have any of up to ten tags, page by page, newest first.

use crate::api::answer::{Node, Object};
use crate::api::device::tags::read_asked;
use crate::api::error::ApiError;
use crate::api::{Call, Operation, page};
use updraft_core::limits::BY_TAGS_PAGE_SIZE_MAX;
use updraft_store::Product;

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "ListProductByTags",
    qps: 500,
    changes: false,
    required: &["ProductTag"],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

/// Rows per page if the caller does not say.
const PAGE_SIZE_DEFAULT: i64 = 10;

async fn run(call: Call) -> Result<Object, ApiError> {
    let (instance, params) = (call.instance, &call.params);
    let number = params.int("CurrentPage")?.unwrap_or(1);
    let size = params.int("PageSize")?.unwrap_or(PAGE_SIZE_DEFAULT);
    let page = page::new(number, size, BY_TAGS_PAGE_SIZE_MAX)?;
    let asked = read_asked(params, "ProductTag")?;
    let found = call.app.store.read(move |tx| tx.products_by_tags(instance, &asked, page)).await?;
    Ok(Object::new().list("ProductInfos", "ProductInfo", found.iter().map(row).collect()))
}

fn row(product: &Product) -> Node {
    Node::Object(
        Object::new()
            .text("ProductKey", &product.product_key)
            .text("ProductName", &product.name)
            .int("NodeType", product.node_type)
            .opt_text("Description", product.description.as_deref())
            .int("CreateTime", product.created_at.0),
    )
}
