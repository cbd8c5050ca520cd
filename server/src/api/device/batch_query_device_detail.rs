//! BatchQueryDeviceDetail: details of up to 100 devices of a product, in the order asked for; names that are no
//! device's are left out.

use crate::api::answer::{Node, Object, gmt};
use crate::api::device::query_device_detail::REGION;
use crate::api::device::register_device::SEAL_PURPOSE;
use crate::api::error::{ApiError, Code};
use crate::api::{Call, Operation};
use crate::app::App;
use std::collections::{BTreeSet, HashMap};
use updraft_core::device::DEFAULT_MODULE;
use updraft_core::limits::DEVICE_DETAILS_MAX;
use updraft_store::{Device, Product};

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "BatchQueryDeviceDetail",
    qps: 5,
    changes: false,
    required: &["DeviceName", "ProductKey"],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

async fn run(call: Call) -> Result<Object, ApiError> {
    let (instance, params) = (call.instance, &call.params);
    let key = params.need("ProductKey")?.to_owned();
    let names = params.list("DeviceName", DEVICE_DETAILS_MAX)?;
    let asked: Vec<String> = names.into_iter().map(str::to_owned).collect();
    let names = asked.clone();
    let (product, devices, versions) = call
        .app
        .store
        .read(move |tx| {
            let product =
                tx.product_find(instance, &key)?.ok_or_else(|| ApiError::new(Code::ProductNotFound))?;
            let devices = tx.devices_find(product.no, &names)?;
            let numbers: Vec<_> = devices.iter().map(|device| device.no).collect();
            let candidates = tx.candidates_of(&numbers, DEFAULT_MODULE)?;
            let versions: HashMap<_, _> =
                candidates.into_iter().map(|found| (found.device, found.version)).collect();
            Ok::<_, ApiError>((product, devices, versions))
        })
        .await?;
    let by_name: HashMap<&str, &Device> =
        devices.iter().map(|device| (device.name.as_str(), device)).collect();
    let mut rows = Vec::new();
    let mut seen = BTreeSet::new();
    for name in &asked {
        if let Some(device) = by_name.get(name.as_str()).filter(|device| seen.insert(device.no)) {
            let version = versions.get(&device.no).and_then(Option::as_deref);
            rows.push(row(&call.app, &product, device, version)?);
        }
    }
    Ok(Object::new().list("Data", "Data", rows))
}

fn row(app: &App, product: &Product, device: &Device, version: Option<&str>) -> Result<Node, ApiError> {
    Ok(Node::Object(
        Object::new()
            .text("ProductKey", &product.product_key)
            .text("ProductName", &product.name)
            .text("DeviceName", &device.name)
            .text("DeviceSecret", app.master.open(SEAL_PURPOSE, &device.secret_sealed)?)
            .text("IotId", &device.iot_id)
            .opt_text("Nickname", device.nickname.as_deref())
            .text("Status", device.status.name())
            .int("NodeType", product.node_type)
            .opt_text("FirmwareVersion", version)
            .text("Region", REGION)
            .text("GmtCreate", gmt(device.created_at))
            .utc("UtcCreate", device.created_at)
            .opt_text("GmtActive", device.active_at.map(gmt))
            .opt_utc("UtcActive", device.active_at),
    ))
}
