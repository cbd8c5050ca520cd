//! QueryDeviceGroupByDevice: the groups that a device is in, static and dynamic, newest first.

use crate::api::answer::Object;
use crate::api::device::address::Address;
use crate::api::error::ApiError;
use crate::api::group::kind;
use crate::api::{Call, Operation};

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "QueryDeviceGroupByDevice",
    qps: 50,
    changes: false,
    required: &["ProductKey", "DeviceName"],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

async fn run(call: Call) -> Result<Object, ApiError> {
    let instance = call.instance;
    let (key, name) = (call.params.need("ProductKey")?, call.params.need("DeviceName")?);
    let address = Address::Names(key.to_owned(), name.to_owned());
    let groups = call
        .app
        .store
        .read(move |tx| {
            let (_, device) = address.find(tx, instance)?;
            Ok::<_, ApiError>(tx.groups_of_device(device.no)?)
        })
        .await?;
    Ok(Object::new().list("GroupInfos", "GroupInfo", groups.iter().map(kind::row).collect()))
}
