//! EnableThing: lets a device connect again that was disabled.

use crate::api::answer::Object;
use crate::api::device::address::Address;
use crate::api::error::ApiError;
use crate::api::{Call, Operation};
use updraft_store::Lane;

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "EnableThing",
    qps: 500,
    changes: true,
    required: &[],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

async fn run(call: Call) -> Result<Object, ApiError> {
    let (instance, address, now) = (call.instance, Address::read(&call.params)?, call.app.now());
    call.app
        .store
        .write(Lane::Interactive, move |tx| {
            let (_, device) = address.find(tx, instance)?;
            tx.device_enable(device.no, now)?;
            Ok::<_, ApiError>(())
        })
        .await?;
    Ok(Object::new())
}
