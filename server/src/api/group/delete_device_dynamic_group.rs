//! DeleteDeviceDynamicGroup: deletes a dynamic group. Its devices and their tasks stay.

use crate::api::answer::Object;
use crate::api::error::ApiError;
use crate::api::group::kind;
use crate::api::{Call, Operation};
use updraft_store::Lane;

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "DeleteDeviceDynamicGroup",
    qps: 50,
    changes: true,
    required: &["GroupId"],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

async fn run(call: Call) -> Result<Object, ApiError> {
    let (instance, now) = (call.instance, call.app.now());
    let id = call.params.need("GroupId")?.to_owned();
    call.app
        .store
        .write(Lane::Interactive, move |tx| {
            let group = kind::find_of_kind(tx, instance, &id, true)?;
            kind::check_unused(tx, &group)?;
            Ok::<_, ApiError>(tx.group_delete(group.no, now)?)
        })
        .await?;
    // Its members are forgotten by the engine.
    call.app.wake.notify_one();
    Ok(Object::new())
}
