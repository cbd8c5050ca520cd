//! CreateProduct: makes a product.

use crate::api::answer::Object;
use crate::api::error::{ApiError, Code};
use crate::api::{Call, Operation};
use updraft_core::limits::PRODUCT_DESC_CHARS_MAX;
use updraft_core::{id, text};
use updraft_store::{Lane, NewProduct};

/// The purpose under which product secrets are sealed.
pub const SEAL_PURPOSE: &str = "product";

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "CreateProduct",
    qps: 50,
    changes: true,
    required: &["ProductName", "NodeType"],
    not_served: &[
        ("AuthType", Some("secret")),
        ("CategoryKey", None),
        ("Id2", Some("false")),
        ("JoinPermissionId", None),
        ("ProtocolType", None),
        ("PublishAuto", Some("true")),
        ("ValidateType", Some("1")),
    ],
    run: |call| Box::pin(run(call)),
};

async fn run(call: Call) -> Result<Object, ApiError> {
    let params = &call.params;
    let name = params.need("ProductName")?;
    if !text::product_name(name) {
        return Err(Code::InvalidProductName.into());
    }
    let node_type = params.need_int("NodeType")?;
    if !(0..=1).contains(&node_type) {
        return Err(Code::InvalidNodeType.into());
    }
    let commodity_code = match params.text("AliyunCommodityCode") {
        None => "iothub",
        Some("iothub_senior") => "iothub_senior",
        Some(_) => return Err(Code::InvalidCommodityCode.into()),
    };
    let data_format = params.int("DataFormat")?.unwrap_or(0);
    if !(0..=1).contains(&data_format) {
        return Err(ApiError::invalid("DataFormat", "It must be 0 (custom) or 1 (Alink)."));
    }
    let net_type = params.text("NetType").unwrap_or("WIFI");
    if !["WIFI", "CELLULAR", "ETHERNET", "LORA", "OTHER"].contains(&net_type) {
        return Err(ApiError::invalid("NetType", "It must be WIFI, CELLULAR, ETHERNET, LORA or OTHER."));
    }
    let description = params.text("Description").map(str::to_owned);
    if description.as_deref().is_some_and(|text| !text::at_most(text, PRODUCT_DESC_CHARS_MAX)) {
        return Err(Code::LongProductDesc.into());
    }
    let app = &call.app;
    let secret = app.random.secret("product_secret");
    let new = NewProduct {
        instance: call.instance,
        product_key: id::product_key(&app.random.bytes("product_key")),
        name: name.to_owned(),
        secret_sealed: app.master.seal(SEAL_PURPOSE, &secret)?,
        node_type,
        data_format,
        net_type: net_type.to_owned(),
        commodity_code: commodity_code.to_owned(),
        description,
    };
    let now = app.now();
    let stored = new.clone();
    app.store
        .write(Lane::Interactive, move |tx| {
            tx.product_insert(&stored, now)?.ok_or_else(|| ApiError::new(Code::ProductNameExists))
        })
        .await?;
    let data = Object::new()
        .text("ProductKey", &new.product_key)
        .text("ProductName", &new.name)
        .text("ProductSecret", secret)
        .text("AliyunCommodityCode", &new.commodity_code)
        .int("NodeType", node_type)
        .int("DataFormat", data_format)
        .opt_text("Description", new.description.as_deref())
        .text("AuthType", "secret")
        .flag("Id2", false);
    Ok(Object::new().text("ProductKey", &new.product_key).object("Data", data))
}
