//! BatchGetDeviceState: which of up to 50 devices are connected, in the order asked for; what is no device is left
//! out.

use crate::api::answer::{Node, Object, utc};
use crate::api::error::{ApiError, Code};
use crate::api::params::Params;
use crate::api::{Call, Operation};
use std::collections::{BTreeSet, HashMap};
use updraft_core::id::InstanceNo;
use updraft_core::limits::DEVICE_STATES_MAX;
use updraft_store::{Device, Tx};

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "BatchGetDeviceState",
    qps: 50,
    changes: false,
    required: &[],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

/// The devices that a caller names. Both given: IotId wins.
enum Wanted {
    IotIds(Vec<String>),
    Names(String, Vec<String>),
}

async fn run(call: Call) -> Result<Object, ApiError> {
    let (instance, wanted) = (call.instance, read(&call.params)?);
    let devices = call.app.store.read(move |tx| find(tx, instance, &wanted)).await?;
    let mut seen = BTreeSet::new();
    let devices = devices.iter().filter(|device| seen.insert(device.no));
    Ok(Object::new().list("DeviceStatusList", "DeviceStatus", devices.map(row).collect()))
}

fn read(params: &Params) -> Result<Wanted, ApiError> {
    let list = |name| -> Result<Vec<String>, ApiError> {
        Ok(params.list(name, DEVICE_STATES_MAX)?.into_iter().map(str::to_owned).collect())
    };
    let ids = list("IotId")?;
    if !ids.is_empty() {
        return Ok(Wanted::IotIds(ids));
    }
    let names = list("DeviceName")?;
    match params.text("ProductKey") {
        Some(key) if !names.is_empty() => Ok(Wanted::Names(key.to_owned(), names)),
        _ => Err(Code::NullDeviceName.into()),
    }
}

fn find(tx: &mut Tx<'_>, instance: InstanceNo, wanted: &Wanted) -> Result<Vec<Device>, ApiError> {
    match wanted {
        Wanted::IotIds(ids) => {
            let mut found = Vec::new();
            for id in ids {
                found.extend(tx.device_find_by_iot_id(instance, id)?);
            }
            Ok(found)
        }
        Wanted::Names(key, names) => {
            let product =
                tx.product_find(instance, key)?.ok_or_else(|| ApiError::new(Code::ProductNotFound))?;
            let found = tx.devices_find(product.no, names)?;
            let mut by_name: HashMap<String, Device> =
                found.into_iter().map(|device| (device.name.clone(), device)).collect();
            Ok(names.iter().filter_map(|name| by_name.remove(name)).collect())
        }
    }
}

fn row(device: &Device) -> Node {
    Node::Object(
        Object::new()
            .text("DeviceName", &device.name)
            .text("IotId", &device.iot_id)
            .text("Status", device.status.name())
            .opt_text("AsAddress", device.ip.as_deref())
            .opt_text("LastOnlineTime", device.online_at.map(utc))
            .int("Timestamp", device.status_at.0),
    )
}
