//! DeleteDeviceGroup: deletes a static group. Its devices and their tasks stay.

use crate::api::Operation;
use crate::api::group::delete::delete;

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "DeleteDeviceGroup",
    qps: 500,
    changes: true,
    required: &["GroupId"],
    not_served: &[],
    run: |call| Box::pin(async move { delete(&call, false).await }),
};
