//! QuerySuperDeviceGroup: the group that a static group is in; none if it is at the top.

use crate::api::answer::{Node, Object};
use crate::api::error::ApiError;
use crate::api::group::kind;
use crate::api::{Call, Operation};
use updraft_store::Group;

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "QuerySuperDeviceGroup",
    qps: 50,
    changes: false,
    required: &["GroupId"],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

async fn run(call: Call) -> Result<Object, ApiError> {
    let instance = call.instance;
    let id = call.params.need("GroupId")?.to_owned();
    let parent = call
        .app
        .store
        .read(move |tx| {
            let group = kind::find_of_kind(tx, instance, &id, false)?;
            Ok::<_, ApiError>(match group.parent {
                Some(parent) => tx.group_load(parent)?,
                None => None,
            })
        })
        .await?;
    Ok(Object::new().list("Data", "GroupInfo", parent.iter().map(row).collect()))
}

fn row(group: &Group) -> Node {
    Node::Object(
        Object::new()
            .text("GroupId", &group.group_id)
            .text("GroupName", &group.name)
            .opt_text("GroupDesc", group.description.as_deref()),
    )
}
