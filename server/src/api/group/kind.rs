//! Static and dynamic groups: how callers name them, and how answers show them.

use crate::api::Call;
use crate::api::answer::{Node, Object};
use crate::api::error::{ApiError, Code};
use crate::api::params::Params;
use updraft_core::id::{self, InstanceNo};
use updraft_core::limits::GROUP_DESC_CHARS_MAX;
use updraft_core::text;
use updraft_store::{Group, NewGroup, Tx};

/// GroupType of static groups.
pub const STATIC: &str = "LINK_PLATFORM";
/// GroupType of dynamic groups.
pub const DYNAMIC: &str = "LINK_PLATFORM_DYNAMIC";

/// Reads a group type; absent: static.
pub fn read(given: Option<&str>) -> Result<bool, ApiError> {
    match given {
        None | Some(STATIC) => Ok(false),
        Some(DYNAMIC) => Ok(true),
        Some(_) => Err(Code::InvalidGroupType.into()),
    }
}

/// A new group at the top, with the name and description that the call gives it, and what the answer says of it.
pub fn draft(call: &Call) -> Result<(NewGroup, Object), ApiError> {
    let name = call.params.need("GroupName")?;
    if !text::group_name(name) {
        return Err(Code::InvalidGroupName.into());
    }
    let new = NewGroup {
        instance: call.instance,
        group_id: id::group_id(&call.app.random.bytes("group_id")),
        name: name.to_owned(),
        description: read_description(&call.params)?,
        parent: None,
    };
    let answer = Object::new()
        .text("GroupId", &new.group_id)
        .text("GroupName", &new.name)
        .opt_text("GroupDesc", new.description.as_deref());
    Ok((new, answer))
}

/// The description, if there is one.
pub fn read_description(params: &Params) -> Result<Option<String>, ApiError> {
    let description = params.text("GroupDesc");
    if description.is_some_and(|text| !text::at_most(text, GROUP_DESC_CHARS_MAX)) {
        return Err(Code::LongGroupDesc.into());
    }
    Ok(description.map(str::to_owned))
}

/// The instance's group with this id, of either kind.
pub fn find(tx: &mut Tx<'_>, instance: InstanceNo, group_id: &str) -> Result<Group, ApiError> {
    tx.group_find(instance, group_id)?.ok_or_else(|| Code::GroupNotFound.into())
}

/// The instance's group with this id, if it is of this kind.
pub fn find_of_kind(
    tx: &mut Tx<'_>,
    instance: InstanceNo,
    group_id: &str,
    dynamic: bool,
) -> Result<Group, ApiError> {
    let group = find(tx, instance, group_id)?;
    match (group.expression.is_some(), dynamic) {
        (true, false) => Err(ApiError::with(
            Code::GroupNotFound,
            "There is no static group of this GroupId: it is a dynamic group's, whose devices follow from its \
             expression.",
        )),
        (false, true) => Err(ApiError::with(
            Code::GroupNotFound,
            "There is no dynamic group of this GroupId: it is a static group's.",
        )),
        _ => Ok(group),
    }
}

/// Refuses the deletion of a group that a batch still takes devices from.
pub fn check_unused(tx: &mut Tx<'_>, group: &Group) -> Result<(), ApiError> {
    match tx.group_user(group.no)? {
        None => Ok(()),
        Some(job_id) => Err(ApiError::with(
            Code::GroupInUse,
            format!(
                "The job {job_id} still takes devices from this group. End a dynamic job's strategy first; a static \
                 job lets go as soon as its tasks are made."
            ),
        )),
    }
}

/// A group as lists show it.
pub fn row(group: &Group) -> Node {
    let kind = if group.expression.is_some() { DYNAMIC } else { STATIC };
    Node::Object(
        Object::new()
            .text("GroupId", &group.group_id)
            .text("GroupName", &group.name)
            .opt_text("GroupDesc", group.description.as_deref())
            .text("GroupType", kind)
            .utc("UtcCreate", group.created_at),
    )
}
