//! GetThingTopo: one page of the devices behind a gateway.

use crate::api::answer::{Node, Object};
use crate::api::device::address::Address;
use crate::api::error::ApiError;
use crate::api::{Call, Operation, page};
use updraft_core::limits::TOPO_PAGE_SIZE_MAX;

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "GetThingTopo",
    qps: 500,
    changes: false,
    required: &["PageNo", "PageSize"],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

async fn run(call: Call) -> Result<Object, ApiError> {
    let (instance, address) = (call.instance, Address::read(&call.params)?);
    let (number, size) = (call.params.need_int("PageNo")?, call.params.need_int("PageSize")?);
    let page = page::named(number, size, TOPO_PAGE_SIZE_MAX, "PageNo")?;
    let (total, subs) = call
        .app
        .store
        .read(move |tx| {
            let (_, device) = address.find(tx, instance)?;
            let total = tx.gateway_load(device.no)?.map_or(0, |gateway| gateway.subs);
            Ok::<_, ApiError>((total, tx.topo_list(device.no, page)?))
        })
        .await?;
    let items = subs
        .iter()
        .map(|sub| {
            let info = Object::new()
                .text("ProductKey", &sub.product_key)
                .text("DeviceName", &sub.name)
                .text("IotId", &sub.iot_id);
            Node::Object(info)
        })
        .collect();
    let data = page::fields(Object::new(), page, total).list("List", "deviceInfo", items);
    Ok(Object::new().object("Data", data))
}
