//! CreateDeviceDynamicGroup: makes a group of all devices that an expression is true of, now and later.

use crate::api::answer::Object;
use crate::api::error::{ApiError, Code};
use crate::api::group::kind;
use crate::api::{Call, Operation};
use updraft_core::group::expression::Expression;
use updraft_store::Lane;

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "CreateDeviceDynamicGroup",
    qps: 50,
    changes: true,
    required: &["DynamicGroupExpression", "GroupName"],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

async fn run(call: Call) -> Result<Object, ApiError> {
    let app = &call.app;
    let (new, answer) = kind::draft(&call)?;
    let text = call.params.need("DynamicGroupExpression")?.to_owned();
    let expression = Expression::parse(&text).map_err(|error| {
        ApiError::with(Code::InvalidGroupExpression, format!("DynamicGroupExpression, {error}."))
    })?;
    let (instance, now, max) = (call.instance, app.now(), app.config.dynamic_group_max);
    let answer = answer.text("DynamicGroupExpression", &text).utc("UtcCreate", now);
    app.store
        .write(Lane::Interactive, move |tx| {
            if tx.group_count(instance, true)? >= max {
                return Err(ApiError::with(
                    Code::GroupCountExceeded,
                    format!(
                        "The instance has {max} dynamic groups, as many as it may have (dynamic_group_max)."
                    ),
                ));
            }
            tx.group_insert_dynamic(&new, &text, &expression, now)?
                .ok_or_else(|| ApiError::new(Code::GroupNameExists))
        })
        .await?;
    // The engine looks at the devices that exist.
    app.awaken();
    Ok(Object::new().object("Data", answer))
}
