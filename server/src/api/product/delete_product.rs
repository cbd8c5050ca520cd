//! DeleteProduct: deletes a product without devices, and its packages, modules and tags with it.
//!
//! Batches are stopped as by DeleteOTAFirmware, and stay to be read. The key is never given again.

use crate::api::answer::Object;
use crate::api::error::{ApiError, Code};
use crate::api::lifecycle::apply;
use crate::api::{Call, Operation};
use std::sync::Arc;
use updraft_store::{Lane, Tx};

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "DeleteProduct",
    qps: 500,
    changes: true,
    required: &["ProductKey"],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

async fn run(call: Call) -> Result<Object, ApiError> {
    let key = call.params.need("ProductKey")?.to_owned();
    let (instance, now) = (call.instance, call.app.now());
    let delete = move |tx: &mut Tx<'_>| {
        let product = tx.product_find(instance, &key)?.ok_or_else(|| ApiError::new(Code::ProductNotFound))?;
        if product.device_count > 0 {
            return Err(ApiError::with(
                Code::ProductHasDevices,
                format!("The product has {} devices: delete them before the product.", product.device_count),
            ));
        }
        apply::refuse_running(tx, &product)?;
        Ok(tx.product_delete(product.no, now)?)
    };
    let wake = Arc::clone(&call.app);
    // Also if the caller is gone by then: the engine has work.
    let begin = move |(): &()| wake.awaken();
    call.app.store.write_then(Lane::Interactive, delete, begin).await?;
    Ok(Object::new())
}
