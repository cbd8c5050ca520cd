//! SetProductDynamicRegister (ours): whether devices of a product may register themselves with its secret.

use crate::api::answer::Object;
use crate::api::error::{ApiError, Code};
use crate::api::{Call, Operation};
use updraft_core::registration::Mode;
use updraft_store::Lane;

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "SetProductDynamicRegister",
    qps: 10,
    changes: true,
    required: &["ProductKey", "DynamicRegister"],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

async fn run(call: Call) -> Result<Object, ApiError> {
    let (instance, key) = (call.instance, call.params.need("ProductKey")?.to_owned());
    let mode = Mode::from_name(call.params.need("DynamicRegister")?).ok_or_else(|| {
        let names = Mode::ALL.map(Mode::name).join(", ");
        ApiError::invalid("DynamicRegister", &format!("It must be one of {names}."))
    })?;
    call.app
        .store
        .write(Lane::Interactive, move |tx| {
            let product =
                tx.product_find(instance, &key)?.ok_or_else(|| ApiError::new(Code::ProductNotFound))?;
            Ok::<_, ApiError>(tx.product_registration_set(product.no, mode)?)
        })
        .await?;
    Ok(Object::new())
}
