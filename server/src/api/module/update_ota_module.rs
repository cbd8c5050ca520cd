//! UpdateOTAModule: changes what people call a module, and its description. What is not given stays.

use crate::api::answer::Object;
use crate::api::error::{ApiError, Code};
use crate::api::module::request::ModuleRequest;
use crate::api::{Call, Operation};
use updraft_store::Lane;

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "UpdateOTAModule",
    qps: 10,
    changes: true,
    required: &["ProductKey", "ModuleName"],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

async fn run(call: Call) -> Result<Object, ApiError> {
    let request = ModuleRequest::read(&call.params)?;
    let (instance, now) = (call.instance, call.app.now());
    call.app
        .store
        .write(Lane::Interactive, move |tx| {
            let product = request.product(tx, instance)?;
            request.not_default()?;
            let (alias, description) = (request.alias.as_deref(), request.description.as_deref());
            if tx.module_update(product, &request.name, alias, description, now)? {
                Ok(())
            } else {
                Err(ApiError::new(Code::ModuleNotFound))
            }
        })
        .await?;
    Ok(Object::new())
}
