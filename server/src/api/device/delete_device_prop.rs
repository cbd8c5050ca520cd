//! DeleteDeviceProp: takes a tag from a device. A tag that it does not have is no error, as on the platform.

use crate::api::answer::Object;
use crate::api::device::address::Address;
use crate::api::error::{ApiError, Code};
use crate::api::{Call, Operation};
use updraft_core::text;
use updraft_store::{DeviceChange, Lane};

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "DeleteDeviceProp",
    qps: 500,
    changes: true,
    required: &["PropKey"],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

async fn run(call: Call) -> Result<Object, ApiError> {
    let (instance, address) = (call.instance, Address::read(&call.params)?);
    let key = call.params.need("PropKey")?.to_owned();
    if !text::device_tag_key(&key) {
        return Err(Code::InvalidDevicePropKey.into());
    }
    call.app
        .store
        .write(Lane::Interactive, move |tx| {
            let (_, device) = address.find(tx, instance)?;
            if tx.device_tag_delete(device.no, &key)? {
                tx.reviews_add_for_groups(DeviceChange::Itself, &[device.no])?;
            }
            Ok::<_, ApiError>(())
        })
        .await?;
    Ok(Object::new())
}
