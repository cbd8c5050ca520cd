//! BatchAddDeviceGroupRelations: adds devices to a static group. Who cannot be added is counted, not refused.

use crate::api::answer::Object;
use crate::api::error::ApiError;
use crate::api::group::{kind, relations};
use crate::api::{Call, Operation};
use updraft_core::group::{Admission, admit};
use updraft_store::Lane;

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "BatchAddDeviceGroupRelations",
    qps: 500,
    changes: true,
    required: &["GroupId"],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

async fn run(call: Call) -> Result<Object, ApiError> {
    let instance = call.instance;
    let id = call.params.need("GroupId")?.to_owned();
    let named = relations::read(&call.params)?;
    let (valid, added, already, exceeding) = call
        .app
        .store
        .write(Lane::Interactive, move |tx| {
            let group = kind::find_of_kind(tx, instance, &id, false)?;
            let found = relations::find(tx, instance, &named)?;
            let (mut new, mut already, mut exceeding) = (Vec::new(), 0, 0);
            for (device, of) in &found {
                let is_member = of.iter().any(|of| of.group == group.no);
                match admit(is_member, of.iter().filter(|of| !of.dynamic).count()) {
                    Admission::Add => new.push(*device),
                    Admission::Already => already += 1,
                    Admission::Exceeds => exceeding += 1,
                }
            }
            let added = tx.group_members_add(group.no, &new)?;
            Ok::<_, ApiError>((found.len() as i64, added, already, exceeding))
        })
        .await?;
    // A dynamic batch may ask for the group.
    call.app.awaken();
    Ok(Object::new()
        .int("ValidDeviceCount", valid)
        .int("SuccessAddedDeviceCount", added)
        .int("AlreadyRelatedGroupDeviceCount", already)
        .int("ExceedTenGroupDeviceCount", exceeding))
}
