//! ListProductTags: a product's tags, by key.

use crate::api::answer::Object;
use crate::api::error::{ApiError, Code};
use crate::api::product::tags;
use crate::api::{Call, Operation};

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "ListProductTags",
    qps: 500,
    changes: false,
    required: &["ProductKey"],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

async fn run(call: Call) -> Result<Object, ApiError> {
    let instance = call.instance;
    let key = call.params.need("ProductKey")?.to_owned();
    let all = call
        .app
        .store
        .read(move |tx| {
            let product =
                tx.product_find(instance, &key)?.ok_or_else(|| ApiError::new(Code::ProductNotFound))?;
            Ok::<_, ApiError>(tx.product_tags(product.no)?)
        })
        .await?;
    Ok(Object::new().list("Data", "ProductTag", all.iter().map(tags::row).collect()))
}
