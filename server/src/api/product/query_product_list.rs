//! QueryProductList: the products of an instance, page by page, newest first. The paging is inside of `Data`.

use crate::api::answer::{Node, Object};
use crate::api::error::{ApiError, Code};
use crate::api::product::create_product::auth_type;
use crate::api::{Call, Operation, page};
use updraft_core::limits::PRODUCT_PAGE_SIZE_MAX;
use updraft_store::Product;

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "QueryProductList",
    qps: 50,
    changes: false,
    required: &["CurrentPage", "PageSize"],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

async fn run(call: Call) -> Result<Object, ApiError> {
    let instance = call.instance;
    let page = page::need(&call.params, PRODUCT_PAGE_SIZE_MAX)?;
    page::throttle_deep(&call, "QueryProductList, far pages", page)?;
    let code = match call.params.text("AliyunCommodityCode") {
        found @ (None | Some("iothub_senior" | "iothub")) => found.map(str::to_owned),
        Some(_) => {
            return Err(ApiError::with(
                Code::InvalidCommodityCode,
                "AliyunCommodityCode must be iothub_senior, iothub or absent.",
            ));
        }
    };
    let (products, total) =
        call.app.store.read(move |tx| tx.product_list(instance, code.as_deref(), page)).await?;
    let rows = products.iter().map(row).collect();
    let data = page::fields(Object::new(), page, total).list("List", "ProductInfo", rows);
    Ok(Object::new().object("Data", data))
}

fn row(product: &Product) -> Node {
    Node::Object(
        Object::new()
            .text("ProductKey", &product.product_key)
            .text("ProductName", &product.name)
            .int("NodeType", product.node_type)
            .int("DataFormat", product.data_format)
            .opt_text("Description", product.description.as_deref())
            .int("DeviceCount", product.device_count)
            .int("GmtCreate", product.created_at.0)
            .text("AuthType", auth_type(product.certified)),
    )
}
