//! CreateProduct: makes a product.

use crate::api::answer::Object;
use crate::api::error::{ApiError, Code};
use crate::api::params::Params;
use crate::api::{Call, Operation};
use updraft_core::limits::{CATEGORY_KEY_CHARS_MAX, PRODUCT_DESC_CHARS_MAX};
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
    not_served: &[("Id2", Some("false")), ("JoinPermissionId", None)],
    run: |call| Box::pin(run(call)),
};

/// With secrets, and with certificates.
const AUTH_TYPES: [&str; 2] = ["secret", "x509"];
const NET_TYPES: [&str; 5] = ["WIFI", "CELLULAR", "ETHERNET", "LORA", "OTHER"];
const PROTOCOL_TYPES: [&str; 5] = ["modbus", "opc-ua", "customize", "ble", "zigbee"];

/// What the caller says of the product.
struct Wanted {
    name: String,
    node_type: i64,
    data_format: i64,
    net_type: &'static str,
    commodity_code: &'static str,
    description: Option<String>,
    protocol_type: Option<&'static str>,
    category_key: Option<String>,
    validate_type: i64,
    certified: bool,
}

async fn run(call: Call) -> Result<Object, ApiError> {
    let wanted = read(&call.params)?;
    let app = &call.app;
    let secret = app.random.secret("product_secret");
    let new = NewProduct {
        instance: call.instance,
        product_key: id::product_key(&app.random.bytes("product_key")),
        name: wanted.name,
        secret_sealed: app.master.seal(SEAL_PURPOSE, &secret)?,
        node_type: wanted.node_type,
        data_format: wanted.data_format,
        net_type: wanted.net_type.to_owned(),
        commodity_code: wanted.commodity_code.to_owned(),
        description: wanted.description,
        protocol_type: wanted.protocol_type.map(str::to_owned),
        category_key: wanted.category_key,
        validate_type: wanted.validate_type,
        certified: wanted.certified,
    };
    if new.certified {
        // Now, so that the first device that connects is asked for its certificate.
        let made = app.authority.ensure(app).await;
        made.map_err(|error| ApiError::new(Code::SystemException).because(format!("{error:#}")))?;
    }
    let (now, max) = (app.now(), app.config.product_max);
    let stored = new.clone();
    app.store
        .write(Lane::Interactive, move |tx| {
            if tx.product_count(stored.instance)? >= max {
                return Err(ApiError::with(
                    Code::ProductCountExceeded,
                    format!("The instance has {max} products, as many as it may have (product_max)."),
                ));
            }
            tx.product_insert(&stored, now)?.ok_or_else(|| ApiError::new(Code::ProductNameExists))
        })
        .await?;
    let data = Object::new()
        .text("ProductKey", &new.product_key)
        .text("ProductName", &new.name)
        .text("ProductSecret", secret)
        .text("AliyunCommodityCode", &new.commodity_code)
        .int("NodeType", new.node_type)
        .int("DataFormat", new.data_format)
        .opt_text("Description", new.description.as_deref())
        .opt_text("ProtocolType", new.protocol_type.as_deref())
        .text("AuthType", auth_type(new.certified))
        .flag("Id2", false);
    Ok(Object::new().text("ProductKey", &new.product_key).object("Data", data))
}

fn read(params: &Params) -> Result<Wanted, ApiError> {
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
    let validate_type = params.int("ValidateType")?.unwrap_or(1);
    if !(1..=2).contains(&validate_type) {
        return Err(ApiError::invalid("ValidateType", "It must be 1 (weak) or 2 (none)."));
    }
    // What is published at once is a data model, of which this server has none: read, and without effect.
    params.flag("PublishAuto")?;
    let category_key = params.text("CategoryKey").map(str::to_owned);
    if category_key.as_deref().is_some_and(|key| !category(key)) {
        return Err(Code::InvalidCategoryKey.into());
    }
    let net_type = one_of(params, "NetType", &NET_TYPES)?.unwrap_or("WIFI");
    let certified = one_of(params, "AuthType", &AUTH_TYPES)? == Some(AUTH_TYPES[1]);
    if certified && net_type == "LORA" {
        return Err(ApiError::invalid("AuthType", "It cannot be x509 with NetType LORA."));
    }
    Ok(Wanted {
        name: name.to_owned(),
        node_type,
        data_format,
        net_type,
        commodity_code,
        description: description(params)?,
        protocol_type: one_of(params, "ProtocolType", &PROTOCOL_TYPES)?,
        category_key,
        validate_type,
        certified,
    })
}

/// How devices of a product log in, in the API's words.
pub fn auth_type(certified: bool) -> &'static str {
    AUTH_TYPES[usize::from(certified)]
}

fn category(key: &str) -> bool {
    text::at_most(key, CATEGORY_KEY_CHARS_MAX) && !key.chars().any(char::is_control)
}

/// Reads `Description`, which a product may have.
pub fn description(params: &Params) -> Result<Option<String>, ApiError> {
    let description = params.text("Description");
    if description.is_some_and(|text| !text::at_most(text, PRODUCT_DESC_CHARS_MAX)) {
        return Err(Code::LongProductDesc.into());
    }
    Ok(description.map(str::to_owned))
}

fn one_of(params: &Params, name: &str, all: &[&'static str]) -> Result<Option<&'static str>, ApiError> {
    let Some(given) = params.text(name) else { return Ok(None) };
    let known = all.iter().find(|known| **known == given);
    known.map_or_else(
        || Err(ApiError::invalid(name, &format!("It must be one of {}.", all.join(", ")))),
        |known| Ok(Some(*known)),
    )
}
