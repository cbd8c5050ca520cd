//! DisableThing: keeps a device from connecting. Its data and tasks stay; its connection ends.

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
    name: "DisableThing",
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
        let news = tx.device_disable(device.no, now)?;
        // Also if it was disabled before: whoever asks again wants to be sure.
        let mut effects = Effects { kicked: vec![device.no], ..Effects::default() };
        if news {
            let name = Name { product_key: product.product_key, device_name: device.name };
            gateway::tell_of(tx, &mut effects, device.no, Change::Disable, name, now)?;
        }
        Ok::<_, ApiError>(((), effects))
    })
    .await?;
    Ok(Object::new())
}
