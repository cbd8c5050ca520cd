//! DeleteDevice: ends a device for good. Its tasks are cancelled with it, so that no batch waits for it.

use crate::api::answer::Object;
use crate::api::device::address::Address;
use crate::api::error::ApiError;
use crate::api::{Call, Operation};
use crate::device::gateway::Name;
use crate::engine;
use crate::engine::advance::Door;
use crate::engine::gateway;
use std::sync::Arc;
use updraft_core::task::{Cancel, Event};
use updraft_core::topo::Change;
use updraft_store::Lane;

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "DeleteDevice",
    qps: 50,
    changes: true,
    required: &[],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

async fn run(call: Call) -> Result<Object, ApiError> {
    let (instance, address) = (call.instance, Address::read(&call.params)?);
    let app = Arc::clone(&call.app);
    engine::write(&call.app, Lane::Interactive, move |tx| {
        let (product, device) = address.find(tx, instance)?;
        let now = app.now();
        let mut door = Door::open(tx, &app, now);
        door.load_devices(&[device.no])?;
        for task in door.all_tasks_of(device.no) {
            door.apply(task, &Event::Cancel(Cancel::ALL))?;
        }
        let mut effects = door.close()?;
        let name = Name { product_key: product.product_key, device_name: device.name };
        gateway::tell_of(tx, &mut effects, device.no, Change::Delete, name, now)?;
        tx.device_delete(product.no, device.no, now)?;
        effects.kicked.push(device.no);
        Ok::<_, ApiError>(((), effects))
    })
    .await?;
    Ok(Object::new())
}
