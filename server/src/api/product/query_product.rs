//! QueryProduct: everything about one product.

use crate::api::answer::Object;
use crate::api::error::{ApiError, Code};
use crate::api::product::create_product::SEAL_PURPOSE;
use crate::api::product::create_product::auth_type;
use crate::api::{Call, Operation};

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "QueryProduct",
    qps: 50,
    changes: false,
    required: &["ProductKey"],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

/// A product may be used as soon as it exists; it never has to be published.
const PRODUCT_STATUS: &str = "DEVELOPMENT_STATUS";

async fn run(call: Call) -> Result<Object, ApiError> {
    let instance = call.instance;
    let key = call.params.need("ProductKey")?.to_owned();
    let product = call
        .app
        .store
        .read(move |tx| tx.product_find(instance, &key)?.ok_or_else(|| ApiError::new(Code::ProductNotFound)))
        .await?;
    let data = Object::new()
        .text("ProductKey", &product.product_key)
        .text("ProductName", &product.name)
        .text("ProductSecret", call.app.master.open(SEAL_PURPOSE, &product.secret_sealed)?)
        .int("NodeType", product.node_type)
        .int("DataFormat", product.data_format)
        .opt_text("Description", product.description.as_deref())
        .int("DeviceCount", product.device_count)
        .int("GmtCreate", product.created_at.0)
        .text("AliyunCommodityCode", &product.commodity_code)
        .text("AuthType", auth_type(product.certified))
        .opt_text("CategoryKey", product.category_key.as_deref())
        .flag("Id2", false)
        .int("NetType", net_type(&product.net_type))
        .flag("Owner", true)
        .text("ProductStatus", PRODUCT_STATUS)
        .opt_text("ProtocolType", product.protocol_type.as_deref())
        .int("ValidateType", product.validate_type);
    Ok(Object::new().object("Data", data))
}

/// The number that this operation has for a NetType of CreateProduct.
fn net_type(name: &str) -> i64 {
    match name {
        "WIFI" => 3,
        "CELLULAR" => 6,
        "ETHERNET" => 7,
        _ => 8,
    }
}
