//! QueryDeviceDetail: everything about one device, named by IotId or by ProductKey and DeviceName.

use crate::api::answer::{Object, gmt};
use crate::api::device::address::Address;
use crate::api::device::register_device::SEAL_PURPOSE;
use crate::api::error::ApiError;
use crate::api::{Call, Operation};
use updraft_core::device::DEFAULT_MODULE;

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "QueryDeviceDetail",
    qps: 50,
    changes: false,
    required: &[],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

/// What `Region` says: a server of one's own is in no region of the platform.
pub const REGION: &str = "local";

async fn run(call: Call) -> Result<Object, ApiError> {
    let instance = call.instance;
    let address = Address::read(&call.params)?;
    let (product, device, version) = call
        .app
        .store
        .read(move |tx| {
            let (product, device) = address.find(tx, instance)?;
            let version = tx.version_find(device.no, DEFAULT_MODULE)?;
            Ok::<_, ApiError>((product, device, version))
        })
        .await?;
    let data = Object::new()
        .text("ProductKey", &product.product_key)
        .text("ProductName", &product.name)
        .text("DeviceName", &device.name)
        .text("DeviceSecret", call.app.master.open(SEAL_PURPOSE, &device.secret_sealed)?)
        .text("IotId", &device.iot_id)
        .opt_text("Nickname", device.nickname.as_deref())
        .text("Status", device.status.name())
        .int("NodeType", product.node_type)
        .opt_text("FirmwareVersion", version)
        .opt_text("IpAddress", device.ip.as_deref())
        .flag("Owner", true)
        .text("Region", REGION)
        .text("GmtCreate", gmt(device.created_at))
        .utc("UtcCreate", device.created_at)
        .opt_text("GmtActive", device.active_at.map(gmt))
        .opt_utc("UtcActive", device.active_at)
        .opt_text("GmtOnline", device.online_at.map(gmt))
        .opt_utc("UtcOnline", device.online_at);
    Ok(Object::new().object("Data", data))
}
