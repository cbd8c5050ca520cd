//! ResetThing: lets a device register itself anew that gets its secret by dynamic registration.

use crate::api::answer::Object;
use crate::api::device::address::Address;
use crate::api::error::ApiError;
use crate::api::{Call, Operation};
use crate::engine;
use crate::engine::advance::Effects;
use updraft_core::id;
use updraft_store::Lane;

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "ResetThing",
    qps: 500,
    changes: true,
    required: &[],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

async fn run(call: Call) -> Result<Object, ApiError> {
    let (instance, address, now) = (call.instance, Address::read(&call.params)?, call.app.now());
    engine::write(&call.app, Lane::Interactive, move |tx| {
        let (_, device) = address.find(tx, instance)?;
        let had_token = tx.device_reset(device.no, now)?;
        // Its token is good no more, so it has no business being connected; with a secret it may be.
        let kicked = had_token.then_some(device.no).into_iter().collect();
        Ok::<_, ApiError>(((), Effects { kicked, ..Effects::default() }))
    })
    .await?;
    // The platform names the work; here it is done, and nothing asks for it.
    Ok(Object::new().text("JobId", id::alphanumeric(&call.app.random.bytes::<32>("reset_id"))))
}
