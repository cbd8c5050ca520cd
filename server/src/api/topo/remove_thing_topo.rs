//! RemoveThingTopo: takes a device from behind its gateway, or every device from behind a gateway.

use crate::api::answer::Object;
use crate::api::device::address::Address;
use crate::api::error::{ApiError, Code};
use crate::api::{Call, Operation};
use crate::engine;
use crate::engine::gateway;
use updraft_core::page::Page;
use updraft_store::{Lane, SubDevice};

/// More than a gateway can have, whatever the limit was when they came.
const ALL: i64 = 1_000_000;

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "RemoveThingTopo",
    qps: 500,
    changes: true,
    required: &[],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

async fn run(call: Call) -> Result<Object, ApiError> {
    let (instance, address, now) = (call.instance, Address::read(&call.params)?, call.app.now());
    engine::write(&call.app, Lane::Interactive, move |tx| {
        let (product, device) = address.find(tx, instance)?;
        let subs = if product.node_type == 1 {
            let all = Page::new(1, ALL, ALL);
            all.map(|all| tx.topo_list(device.no, all)).transpose()?.unwrap_or_default()
        } else {
            tx.sub_devices_find(instance, &[(&product.product_key, &device.name)])?
        };
        if product.node_type != 1 && subs.iter().all(|sub| sub.gateway.is_none()) {
            return Err(ApiError::with(Code::RemoveTopoFailed, "The device is behind no gateway."));
        }
        let effects = gateway::detach(tx, &subs.iter().collect::<Vec<&SubDevice>>(), now)?;
        Ok(((), effects))
    })
    .await?;
    Ok(Object::new().flag("Data", true))
}
