//! QueryProductDynamicRegister (ours): whether devices of a product may register themselves with its secret.

use crate::api::answer::Object;
use crate::api::error::{ApiError, Code};
use crate::api::{Call, Operation};

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "QueryProductDynamicRegister",
    qps: 50,
    changes: false,
    required: &["ProductKey"],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

async fn run(call: Call) -> Result<Object, ApiError> {
    let (instance, key) = (call.instance, call.params.need("ProductKey")?.to_owned());
    let product = call
        .app
        .store
        .read(move |tx| tx.product_find(instance, &key)?.ok_or_else(|| ApiError::new(Code::ProductNotFound)))
        .await?;
    let data = Object::new()
        .text("ProductKey", &product.product_key)
        .text("DynamicRegister", product.registration.name());
    Ok(Object::new().object("Data", data))
}
