//! QueryDeviceByTags: the instance's devices that have all of up to ten tags, page by page, newest first.

use crate::api::answer::{Node, Object};
use crate::api::device::tags;
use crate::api::error::ApiError;
use crate::api::{Call, Operation, page};
use crate::app::App;
use std::sync::Arc;
use updraft_core::id::{DeviceNo, InstanceNo};
use updraft_core::limits::BY_TAGS_PAGE_SIZE_MAX;
use updraft_store::{TagAsked, TagPlace, TaggedDevice, Tx};

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

/// Devices with the first tag that are looked at at once; others may read in between.
const LOOKED_AT_AT_ONCE: i64 = 5_000;

async fn run(call: Call) -> Result<Object, ApiError> {
    let (instance, params) = (call.instance, &call.params);
    let number = params.int("CurrentPage")?.unwrap_or(1);
    let size = params.int("PageSize")?.unwrap_or(PAGE_SIZE_DEFAULT);
    let page = page::new(number, size, BY_TAGS_PAGE_SIZE_MAX)?;
    let asked = tags::read_asked(params, "Tag")?;
    let found = find(&call.app, instance, asked).await?;
    let of = |rows: i64| usize::try_from(rows).unwrap_or(usize::MAX);
    let wanted: Vec<DeviceNo> = found.iter().skip(of(page.skip())).take(of(page.size())).copied().collect();
    let devices = call.app.store.read(move |tx| tx.devices_tagged_load(&wanted)).await?;
    let total = found.len() as i64;
    Ok(Object::new()
        .int("Total", total)
        .int("PageCount", page.count(total))
        .int("PageSize", page.size())
        .int("Page", page.number())
        .list("Data", "SimpleDeviceInfo", devices.iter().map(row).collect()))
}

/// All devices with these tags, newest first. A tag may be a whole fleet's, so it goes in pieces.
async fn find(app: &App, instance: InstanceNo, asked: Vec<TagAsked>) -> Result<Vec<DeviceNo>, ApiError> {
    let asked = Arc::new(asked);
    let (mut found, mut after): (Vec<DeviceNo>, Option<TagPlace>) = (Vec::new(), None);
    loop {
        let (tags, place) = (Arc::clone(&asked), after);
        let piece =
            move |tx: &mut Tx<'_>| tx.devices_tagged(instance, &tags, place.as_ref(), LOOKED_AT_AT_ONCE);
        let (devices, next) = app.store.read(piece).await?;
        found.extend(devices);
        if next.is_none() {
            break;
        }
        after = next;
        tokio::task::yield_now().await;
    }
    // One whose tag changed in between may have been met twice.
    found.sort_unstable_by(|one, other| other.cmp(one));
    found.dedup();
    Ok(found)
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
