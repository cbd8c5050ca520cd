//! DeleteOTAModule: deletes a module that no package is for.

use crate::api::answer::Object;
use crate::api::error::{ApiError, Code};
use crate::api::module::request::ModuleRequest;
use crate::api::{Call, Operation};
use updraft_store::Lane;

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "DeleteOTAModule",
    qps: 10,
    changes: true,
    required: &["ProductKey", "ModuleName"],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

async fn run(call: Call) -> Result<Object, ApiError> {
    let request = ModuleRequest::read(&call.params)?;
    let instance = call.instance;
    call.app
        .store
        .write(Lane::Interactive, move |tx| {
            let product = request.product(tx, instance)?;
            request.not_default()?;
            if tx.firmware_of_module_exists(product, &request.name)? {
                return Err(Code::ModuleInUse.into());
            }
            if tx.module_delete(product, &request.name)? {
                Ok(())
            } else {
                Err(ApiError::new(Code::ModuleNotFound))
            }
        })
        .await?;
    Ok(Object::new())
}
