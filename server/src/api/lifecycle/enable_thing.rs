//! EnableThing: lets a device connect again that was disabled.

use crate::api::answer::Object;
use crate::api::device::address::Address;
use crate::api::error::ApiError;
use crate::api::{Call, Operation};
use crate::device::gateway::Name;
use crate::engine;
use crate::engine::advance::Effects;
use crate::engine::gateway;
use updraft_core::topo::Change;
use updraft_store::Lane;

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "EnableThing",
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
        let mut effects = Effects::default();
        if tx.device_enable(device.no, now)? {
            let name = Name { product_key: product.product_key, device_name: device.name };
            gateway::tell_of(tx, &mut effects, device.no, Change::Enable, name, now)?;
        }
        Ok::<_, ApiError>(((), effects))
    })
    .await?;
    Ok(Object::new())
}
