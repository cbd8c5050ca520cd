//! QueryDeviceGroupInfo: everything about one group, and how many of its devices are active and online.
//!
//! DeviceCount is kept with the group. The other two are counted when they are asked for, at the cost of a look at
//! each member, in pieces, so that a large group holds nobody up.

use crate::api::answer::Object;
use crate::api::error::ApiError;
use crate::api::group::kind;
use crate::api::{Call, Operation};
use crate::app::App;
use updraft_core::id::{DeviceNo, GroupNo};
use updraft_store::MemberCounts;

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "QueryDeviceGroupInfo",
    qps: 30,
    changes: false,
    required: &["GroupId"],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

/// Members that one read counts.
const COUNTED_AT_ONCE: i64 = 5_000;

async fn run(call: Call) -> Result<Object, ApiError> {
    let (instance, params) = (call.instance, &call.params);
    let id = params.need("GroupId")?.to_owned();
    let dynamic = kind::read(params.text("GroupType"))?;
    let group = call.app.store.read(move |tx| kind::find_of_kind(tx, instance, &id, dynamic)).await?;
    let counts = count(&call.app, group.no).await?;
    let data = Object::new()
        .text("GroupId", &group.group_id)
        .text("GroupName", &group.name)
        .opt_text("GroupDesc", group.description.as_deref())
        .int("DeviceCount", group.device_count)
        .int("DeviceActive", counts.active)
        .int("DeviceOnline", counts.online)
        .opt_text("DynamicGroupExpression", group.expression.as_deref())
        .utc("UtcCreate", group.created_at);
    Ok(Object::new().object("Data", data))
}

async fn count(app: &App, group: GroupNo) -> Result<MemberCounts, ApiError> {
    let mut all = MemberCounts::default();
    loop {
        let after: DeviceNo = all.last;
        let next = app.store.read(move |tx| tx.group_member_counts(group, after, COUNTED_AT_ONCE)).await?;
        all.devices += next.devices;
        all.active += next.active;
        all.online += next.online;
        if next.devices < COUNTED_AT_ONCE {
            return Ok(all);
        }
        all.last = next.last;
        tokio::task::yield_now().await;
    }
}
