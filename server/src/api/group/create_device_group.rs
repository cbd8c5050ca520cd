//! CreateDeviceGroup: makes a static group, at the top or within another.

use crate::api::answer::Object;
use crate::api::error::{ApiError, Code};
use crate::api::group::kind;
use crate::api::{Call, Operation};
use updraft_store::Lane;

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "CreateDeviceGroup",
    qps: 500,
    changes: true,
    required: &["GroupName"],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

async fn run(call: Call) -> Result<Object, ApiError> {
    let app = &call.app;
    let (new, answer) = kind::draft(&call)?;
    let parent = call.params.text("SuperGroupId").map(str::to_owned);
    let (instance, now) = (call.instance, app.now());
    let (max, depth_max) = (app.config.group_max, app.config.group_depth_max);
    let answer = answer.utc("UtcCreate", now);
    app.store
        .write(Lane::Interactive, move |tx| {
            let mut new = new.clone();
            if let Some(parent) = &parent {
                let parent = kind::find_of_kind(tx, instance, parent, false)?;
                // Levels count from 1, the depth of a row from 0.
                if parent.depth + 2 > depth_max {
                    return Err(ApiError::with(
                        Code::GroupDepthExceeded,
                        format!("Groups may be {depth_max} levels deep at most (group_depth_max)."),
                    ));
                }
                new.parent = Some((parent.no, parent.depth + 1));
            }
            if tx.group_count(instance, false)? >= max {
                return Err(ApiError::with(
                    Code::GroupCountExceeded,
                    format!("The instance has {max} static groups, as many as it may have (group_max)."),
                ));
            }
            tx.group_insert(&new, now)?.ok_or_else(|| ApiError::new(Code::GroupNameExists))
        })
        .await?;
    Ok(Object::new().object("Data", answer))
}
