//! ListOTAFirmware: the packages of an instance, page by page, newest first.

use crate::api::answer::{Node, Object};
use crate::api::error::{ApiError, Code};
use crate::api::{Call, Operation, page};
use std::collections::BTreeMap;
use updraft_core::limits::FIRMWARE_PAGE_SIZE_MAX;
use updraft_core::text;
use updraft_store::{Firmware, Product};

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "ListOTAFirmware",
    qps: 10,
    changes: false,
    required: &["CurrentPage", "PageSize"],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

async fn run(call: Call) -> Result<Object, ApiError> {
    let instance = call.instance;
    let page = page::need(&call.params, FIRMWARE_PAGE_SIZE_MAX)?;
    let product_key = call.params.text("ProductKey").map(str::to_owned);
    let version = call.params.text("DestVersion").map(str::to_owned);
    if version.as_ref().is_some_and(|version| !text::version(version)) {
        return Err(Code::InvalidVersionText.into());
    }
    let (packages, products, total) = call
        .app
        .store
        .read(move |tx| {
            let product = match &product_key {
                None => None,
                Some(key) => {
                    let found = tx.product_find(instance, key)?;
                    Some(found.ok_or_else(|| ApiError::new(Code::ProductNotFound))?.no)
                }
            };
            let (packages, total) = tx.firmware_list(instance, product, version.as_deref(), page)?;
            let mut products = BTreeMap::new();
            for package in &packages {
                if !products.contains_key(&package.product)
                    && let Some(product) = tx.product_load(package.product)?
                {
                    products.insert(product.no, product);
                }
            }
            Ok::<_, ApiError>((packages, products, total))
        })
        .await?;
    let rows = packages
        .iter()
        .filter_map(|package| products.get(&package.product).map(|product| row(package, product)))
        .collect();
    let answer = page::fields(Object::new(), page, total);
    Ok(answer.list("FirmwareInfo", "SimpleFirmwareInfo", rows))
}

fn row(package: &Firmware, product: &Product) -> Node {
    Node::Object(
        Object::new()
            .text("FirmwareId", &package.firmware_id)
            .text("FirmwareName", &package.name)
            .opt_text("FirmwareDesc", package.description.as_deref())
            .text("DestVersion", &package.dest_version)
            .text("ModuleName", &package.module)
            .text("ProductKey", &product.product_key)
            .text("ProductName", &product.name)
            .int("Type", package.kind.code())
            .opt_text("SrcVersion", package.differs_from())
            .int("Status", package.status.code())
            .text("SignMethod", package.sign_method.name())
            // Several files have a digest each, and none in common.
            .opt_text("FirmwareSign", package.sign())
            .int("FirmwareSize", package.size)
            .utc("UtcCreate", package.created_at)
            .utc("UtcModified", package.modified_at),
    )
}
