//! SaveDeviceProp: gives a device tags; those that it has get the new values.

use crate::api::answer::Object;
use crate::api::device::address::Address;
use crate::api::device::tags;
use crate::api::error::{ApiError, Code};
use crate::api::{Call, Operation};
use std::collections::BTreeMap;
use updraft_core::limits::DEVICE_TAGS_MAX;
use updraft_store::{DeviceChange, Lane};

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "SaveDeviceProp",
    qps: 50,
    changes: true,
    required: &["Props"],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

async fn run(call: Call) -> Result<Object, ApiError> {
    let (instance, address) = (call.instance, Address::read(&call.params)?);
    let tags = tags::read_props(call.params.need("Props")?)?;
    call.app
        .store
        .write(Lane::Interactive, move |tx| {
            let (_, device) = address.find(tx, instance)?;
            let had = tx.device_tags(device.no)?;
            let changed: BTreeMap<String, String> =
                tags.iter().filter(|(key, value)| had.get(*key) != Some(*value)).map(owned).collect();
            let added = changed.keys().filter(|key| !had.contains_key(*key)).count();
            if had.len() + added > DEVICE_TAGS_MAX {
                return Err(Code::DeviceTagsExceeded.into());
            }
            if !changed.is_empty() {
                tx.device_tags_put(instance, device.no, &changed)?;
                tx.reviews_add_for_groups(DeviceChange::Itself, &[device.no])?;
            }
            Ok::<_, ApiError>(())
        })
        .await?;
    Ok(Object::new())
}

fn owned((key, value): (&String, &String)) -> (String, String) {
    (key.clone(), value.clone())
}
