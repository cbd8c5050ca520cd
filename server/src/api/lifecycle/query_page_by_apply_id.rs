//! QueryPageByApplyId: lists the devices that a registration in bulk made, with their secrets.

use crate::api::answer::{Node, Object};
use crate::api::device::register_device::SEAL_PURPOSE;
use crate::api::error::{ApiError, Code};
use crate::api::{Call, Operation, page};
use crate::app::App;
use updraft_core::limits::DEVICE_PAGE_SIZE_MAX;
use updraft_store::ApplyDevice;

/// Rows of a page, unless the caller says.
const PAGE_SIZE_DEFAULT: i64 = 10;

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "QueryPageByApplyId",
    qps: 50,
    changes: false,
    required: &["ApplyId"],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

async fn run(call: Call) -> Result<Object, ApiError> {
    let (params, instance) = (&call.params, call.instance);
    let apply_id = params.need_int("ApplyId")?;
    let number = params.int("CurrentPage")?.unwrap_or(1);
    let size = params.int("PageSize")?.unwrap_or(PAGE_SIZE_DEFAULT);
    let page = page::new(number, size, DEVICE_PAGE_SIZE_MAX)?;
    let (total, devices) = call
        .app
        .store
        .read(move |tx| {
            let apply = tx.apply_find(instance, apply_id)?;
            let apply = apply.ok_or_else(|| ApiError::new(Code::ApplyNotFound))?;
            Ok::<_, ApiError>((apply.made, tx.apply_devices(apply.no, page)?))
        })
        .await?;
    let rows = devices.iter().map(|device| row(&call.app, device));
    Ok(Object::new()
        .int("Total", total)
        .int("PageCount", page.count(total))
        .int("PageSize", page.size())
        .int("Page", page.number())
        .list("ApplyDeviceList", "ApplyDeviceInfo", rows.collect::<Result<_, ApiError>>()?))
}

fn row(app: &App, device: &ApplyDevice) -> Result<Node, ApiError> {
    Ok(Node::Object(
        Object::new()
            .text("DeviceName", &device.name)
            .text("DeviceSecret", app.master.open(SEAL_PURPOSE, &device.secret_sealed)?)
            .text("IotId", &device.iot_id),
    ))
}
