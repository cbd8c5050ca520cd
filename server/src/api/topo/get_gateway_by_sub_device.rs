//! GetGatewayBySubDevice: the gateway that a device is behind.

use crate::api::answer::{Object, gmt};
use crate::api::device::address::Address;
use crate::api::device::query_device_detail::REGION;
use crate::api::device::register_device::SEAL_PURPOSE;
use crate::api::error::{ApiError, Code};
use crate::api::{Call, Operation};
use updraft_core::device::DEFAULT_MODULE;

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "GetGatewayBySubDevice",
    qps: 50,
    changes: false,
    required: &[],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

async fn run(call: Call) -> Result<Object, ApiError> {
    let (instance, address) = (call.instance, Address::read(&call.params)?);
    let (product, device, version) = call
        .app
        .store
        .read(move |tx| {
            let (_, sub) = address.find(tx, instance)?;
            let none = || ApiError::with(Code::QueryTopoFailed, "The device is behind no gateway.");
            let gateway = tx.topo_gateway(sub.no)?.ok_or_else(none)?;
            let known = tx.gateway_load(gateway)?.ok_or_else(none)?;
            let (product, device) = Address::Names(known.product_key, known.name).find(tx, instance)?;
            let version = tx.version_find(device.no, DEFAULT_MODULE)?;
            Ok::<_, ApiError>((product, device, version))
        })
        .await?;
    let data = Object::new()
        .text("ProductKey", &product.product_key)
        .text("ProductName", &product.name)
        .text("DeviceName", &device.name)
        .text("DeviceSecret", call.app.master.open(SEAL_PURPOSE, &device.secret_sealed)?)
        .text("iotId", &device.iot_id)
        .text("Status", device.status.name())
        .text("NodeType", product.node_type.to_string())
        .opt_text("FirmwareVersion", version)
        .opt_text("IpAddress", device.ip.as_deref())
        .text("region", REGION)
        .text("GmtCreate", gmt(device.created_at))
        .utc("UtcCreate", device.created_at)
        .opt_text("GmtActive", device.active_at.map(gmt))
        .opt_utc("UtcActive", device.active_at)
        .opt_text("GmtOnline", device.online_at.map(gmt))
        .opt_utc("UtcOnline", device.online_at);
    Ok(Object::new().object("Data", data))
}
