//! UpdateProductTags: changes tags that a product has: all of the call, or none.

use crate::api::answer::Object;
use crate::api::error::{ApiError, Code};
use crate::api::product::tags;
use crate::api::{Call, Operation};
use updraft_store::Lane;

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "UpdateProductTags",
    qps: 500,
    changes: true,
    required: &["ProductKey", "ProductTag"],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

async fn run(call: Call) -> Result<Object, ApiError> {
    let (instance, params) = (call.instance, &call.params);
    let key = params.need("ProductKey")?.to_owned();
    let changed = tags::read(params)?;
    call.app
        .store
        .write(Lane::Interactive, move |tx| {
            let product =
                tx.product_find(instance, &key)?.ok_or_else(|| ApiError::new(Code::ProductNotFound))?;
            let had = tx.product_tags(product.no)?;
            let unknown = changed.iter().filter(|(key, _)| !had.contains_key(*key));
            tags::refuse(Code::ProductTagNotFound, unknown)?;
            Ok::<_, ApiError>(tx.product_tags_put(instance, product.no, &changed)?)
        })
        .await?;
    Ok(Object::new())
}
