//! BatchDeleteDeviceGroupRelations: takes devices out of a static group. Their tasks stay.

use crate::api::answer::Object;
use crate::api::error::ApiError;
use crate::api::group::{kind, relations};
use crate::api::{Call, Operation};
use updraft_core::id::DeviceNo;
use updraft_store::Lane;

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "BatchDeleteDeviceGroupRelations",
    qps: 50,
    changes: true,
    required: &["GroupId"],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

async fn run(call: Call) -> Result<Object, ApiError> {
    let instance = call.instance;
    let id = call.params.need("GroupId")?.to_owned();
    let named = relations::read(&call.params)?;
    let (valid, members, removed) = call
        .app
        .store
        .write(Lane::Interactive, move |tx| {
            let group = kind::find_of_kind(tx, instance, &id, false)?;
            let found = relations::find(tx, instance, &named)?;
            let members: Vec<DeviceNo> = found
                .iter()
                .filter(|(_, of)| of.iter().any(|of| of.group == group.no))
                .map(|(device, _)| *device)
                .collect();
            let removed = tx.group_members_remove(group.no, &members)?;
            Ok::<_, ApiError>((found.len() as i64, members.len() as i64, removed))
        })
        .await?;
    Ok(Object::new()
        .int("ValidDeviceCount", valid)
        .int("SuccessDeviceCount", removed)
        .int("AlreadyRelatedGroupDeviceCount", members))
}
