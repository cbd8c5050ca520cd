//! ResetThing: lets a device register itself anew that gets its secret by dynamic registration.

use crate::api::answer::Object;
use crate::api::device::address::Address;
use crate::api::error::ApiError;
use crate::api::{Call, Operation};
use updraft_core::id;
use updraft_store::Lane;

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "ResetThing",
    qps: 500,
    changes: true,
    required: &[],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

async fn run(call: Call) -> Result<Object, ApiError> {
    let (instance, address) = (call.instance, Address::read(&call.params)?);
    call.app
        .store
        .write(Lane::Interactive, move |tx| {
            let (_, device) = address.find(tx, instance)?;
            tx.device_reset(device.no)?;
            Ok::<_, ApiError>(())
        })
        .await?;
    // The platform names the work; here it is done, and nothing asks for it.
    Ok(Object::new().text("JobId", id::alphanumeric(&call.app.random.bytes::<32>("reset_id"))))
}
