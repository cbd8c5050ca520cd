//! QueryDeviceInfo: a device's names and its secret.

use crate::api::answer::Object;
use crate::api::device::address::Address;
use crate::api::device::register_device::SEAL_PURPOSE;
use crate::api::error::ApiError;
use crate::api::{Call, Operation};

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "QueryDeviceInfo",
    qps: 50,
    changes: false,
    required: &[],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

async fn run(call: Call) -> Result<Object, ApiError> {
    let (instance, address) = (call.instance, Address::read(&call.params)?);
    let (product, device) = call.app.store.read(move |tx| address.find(tx, instance)).await?;
    let data = Object::new()
        .text("ProductKey", &product.product_key)
        .text("DeviceName", &device.name)
        .text("DeviceSecret", call.app.master.open(SEAL_PURPOSE, &device.secret_sealed)?)
        .text("IotId", &device.iot_id)
        .opt_text("Nickname", device.nickname.as_deref());
    Ok(Object::new().object("Data", data))
}
