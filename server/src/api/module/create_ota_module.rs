//! CreateOTAModule: gives a product's devices another part with versions of its own.

use crate::api::answer::Object;
use crate::api::error::{ApiError, Code};
use crate::api::module::request::ModuleRequest;
use crate::api::{Call, Operation};
use updraft_core::device::DEFAULT_MODULE;
use updraft_store::Lane;

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "CreateOTAModule",
    qps: 10,
    changes: true,
    required: &["ProductKey", "ModuleName"],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

async fn run(call: Call) -> Result<Object, ApiError> {
    let request = ModuleRequest::read(&call.params)?;
    let (instance, now, max) = (call.instance, call.app.now(), call.app.config.module_max);
    call.app
        .store
        .write(Lane::Interactive, move |tx| {
            let product = request.product(tx, instance)?;
            let modules = tx.modules(product)?;
            let taken = |name: &str| name.eq_ignore_ascii_case(&request.name);
            if taken(DEFAULT_MODULE) || modules.iter().any(|module| taken(&module.name)) {
                return Err(Code::ModuleExists.into());
            }
            if modules.len() as i64 >= max {
                return Err(ApiError::with(
                    Code::ModuleCountExceeded,
                    format!(
                        "The product has {max} modules besides default, as many as it may have (module_max)."
                    ),
                ));
            }
            let (alias, description) = (request.alias.as_deref(), request.description.as_deref());
            if tx.module_insert(product, &request.name, alias, description, now)? {
                Ok(())
            } else {
                Err(ApiError::new(Code::ModuleExists))
            }
        })
        .await?;
    Ok(Object::new())
}
