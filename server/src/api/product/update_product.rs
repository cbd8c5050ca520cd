//! UpdateProduct: renames a product, and changes its description if one is given.

use crate::api::answer::Object;
use crate::api::error::{ApiError, Code};
use crate::api::product::create_product::description;
use crate::api::{Call, Operation};
use updraft_core::text;
use updraft_store::Lane;

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "UpdateProduct",
    qps: 10,
    changes: true,
    required: &["ProductKey", "ProductName"],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

async fn run(call: Call) -> Result<Object, ApiError> {
    let (instance, params) = (call.instance, &call.params);
    let key = params.need("ProductKey")?.to_owned();
    let name = params.need("ProductName")?.to_owned();
    if !text::product_name(&name) {
        return Err(Code::InvalidProductName.into());
    }
    let description = description(params)?;
    call.app
        .store
        .write(Lane::Interactive, move |tx| {
            let product =
                tx.product_find(instance, &key)?.ok_or_else(|| ApiError::new(Code::ProductNotFound))?;
            if tx.product_update(&product, &name, description.as_deref())? {
                Ok(())
            } else {
                Err(ApiError::new(Code::ProductNameExists))
            }
        })
        .await?;
    Ok(Object::new())
}
