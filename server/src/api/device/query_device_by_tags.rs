//! QueryDeviceByTags: the instance's devices that have all of up to ten tags, page by page, newest first.

use crate::api::answer::{Node, Object};
use crate::api::device::tags;
use crate::api::error::ApiError;
use crate::api::{Call, Operation, page};
use updraft_core::limits::BY_TAGS_PAGE_SIZE_MAX;
use updraft_store::TaggedDevice;

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "QueryDeviceByTags",
    qps: 5,
    changes: false,
    required: &["Tag"],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

/// Rows per page if the caller does not say.
const PAGE_SIZE_DEFAULT: i64 = 10;

async fn run(call: Call) -> Result<Object, ApiError> {
    let (instance, params) = (call.instance, &call.params);
    let number = params.int("CurrentPage")?.unwrap_or(1);
    let size = params.int("PageSize")?.unwrap_or(PAGE_SIZE_DEFAULT);
    let page = page::new(number, size, BY_TAGS_PAGE_SIZE_MAX)?;
    let asked = tags::read_asked(params, "Tag")?;
    let (devices, total) = call.app.store.read(move |tx| tx.devices_by_tags(instance, &asked, page)).await?;
    Ok(Object::new()
        .int("Total", total)
        .int("PageCount", page.count(total))
        .int("PageSize", page.size())
        .int("Page", page.number())
        .list("Data", "SimpleDeviceInfo", devices.iter().map(row).collect()))
}

fn row(device: &TaggedDevice) -> Node {
    Node::Object(
        Object::new()
            .text("ProductKey", &device.product_key)
            .text("ProductName", &device.product_name)
            .text("DeviceName", &device.name)
            .text("IotId", &device.iot_id),
    )
}
