//! UpdateDeviceGroup: changes a group's description. Nothing else of a group can change.

use crate::api::answer::Object;
use crate::api::error::ApiError;
use crate::api::group::kind;
use crate::api::{Call, Operation};
use updraft_store::Lane;

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "UpdateDeviceGroup",
    qps: 50,
    changes: true,
    required: &["GroupId"],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

async fn run(call: Call) -> Result<Object, ApiError> {
    let (instance, params) = (call.instance, &call.params);
    let id = params.need("GroupId")?.to_owned();
    let dynamic = kind::read(params.text("GroupType"))?;
    let description = kind::read_description(params)?;
    call.app
        .store
        .write(Lane::Interactive, move |tx| {
            let group = kind::find_of_kind(tx, instance, &id, dynamic)?;
            if let Some(description) = &description {
                tx.group_describe(group.no, description)?;
            }
            Ok::<_, ApiError>(())
        })
        .await?;
    Ok(Object::new())
}
