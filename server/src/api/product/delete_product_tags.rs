//! DeleteProductTags: takes tags from a product. Tags that it does not have are no error, as of devices.

use crate::api::answer::Object;
use crate::api::error::{ApiError, Code};
use crate::api::{Call, Operation};
use updraft_core::limits::PRODUCT_TAGS_PER_CALL_MAX;
use updraft_core::text;
use updraft_store::Lane;

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "DeleteProductTags",
    qps: 500,
    changes: true,
    required: &["ProductKey", "ProductTagKey"],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

async fn run(call: Call) -> Result<Object, ApiError> {
    let (instance, params) = (call.instance, &call.params);
    let key = params.need("ProductKey")?.to_owned();
    let keys = params.list("ProductTagKey", PRODUCT_TAGS_PER_CALL_MAX)?;
    if !keys.iter().all(|key| text::product_tag_key(key)) {
        return Err(Code::InvalidProductTag.into());
    }
    let keys: Vec<String> = keys.into_iter().map(str::to_owned).collect();
    call.app
        .store
        .write(Lane::Interactive, move |tx| {
            let product =
                tx.product_find(instance, &key)?.ok_or_else(|| ApiError::new(Code::ProductNotFound))?;
            Ok::<_, ApiError>(tx.product_tags_delete(product.no, &keys)?)
        })
        .await?;
    Ok(Object::new())
}
