//! The end of a group of either kind: its devices and their tasks stay.

use crate::api::Call;
use crate::api::answer::Object;
use crate::api::error::{ApiError, Code};
use crate::api::group::kind;
use updraft_store::Lane;

/// Deletes the group of the call's GroupId, if it is of this kind, has no groups within it, and no batch takes
/// devices from it.
pub async fn delete(call: &Call, dynamic: bool) -> Result<Object, ApiError> {
    let (instance, now) = (call.instance, call.app.now());
    let id = call.params.need("GroupId")?.to_owned();
    call.app
        .store
        .write(Lane::Interactive, move |tx| {
            let group = kind::find_of_kind(tx, instance, &id, dynamic)?;
            if tx.group_has_subgroups(group.no)? {
                return Err(Code::GroupHasSubgroups.into());
            }
            kind::check_unused(tx, &group)?;
            Ok::<_, ApiError>(tx.group_delete(group.no, now)?)
        })
        .await?;
    // Its members are forgotten by the engine.
    call.app.awaken();
    Ok(Object::new())
}
