//! QueryDeviceProp: a device's tags, as a JSON text.

use crate::api::answer::Object;
use crate::api::device::address::Address;
use crate::api::error::{ApiError, Code};
use crate::api::{Call, Operation};

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "QueryDeviceProp",
    qps: 500,
    changes: false,
    required: &[],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

async fn run(call: Call) -> Result<Object, ApiError> {
    let (instance, address) = (call.instance, Address::read(&call.params)?);
    let tags = call
        .app
        .store
        .read(move |tx| {
            let (_, device) = address.find(tx, instance)?;
            Ok::<_, ApiError>(tx.device_tags(device.no)?)
        })
        .await?;
    let props = serde_json::to_string(&tags)
        .map_err(|error| ApiError::new(Code::SystemException).because(error.to_string()))?;
    Ok(Object::new().text("Props", props))
}
