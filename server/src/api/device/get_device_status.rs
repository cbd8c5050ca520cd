//! GetDeviceStatus: whether a device is connected, and since when it is as it is.

use crate::api::answer::Object;
use crate::api::device::address::Address;
use crate::api::error::ApiError;
use crate::api::{Call, Operation};

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "GetDeviceStatus",
    qps: 500,
    changes: false,
    required: &[],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

async fn run(call: Call) -> Result<Object, ApiError> {
    let (instance, address) = (call.instance, Address::read(&call.params)?);
    let (_, device) = call.app.store.read(move |tx| address.find(tx, instance)).await?;
    let data = Object::new().text("Status", device.status.name()).int("Timestamp", device.status_at.0);
    Ok(Object::new().object("Data", data))
}
