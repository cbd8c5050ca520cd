//! GenerateDeviceNameListURL: a ticket for the form upload of a list of devices.

use crate::api::answer::Object;
use crate::api::error::ApiError;
use crate::api::ticket::{self, Upload};
use crate::api::{Call, Operation};

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "GenerateDeviceNameListURL",
    qps: 10,
    changes: true,
    required: &[],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

async fn run(call: Call) -> Result<Object, ApiError> {
    let upload = Upload {
        // Not `ota`: a list can be no package's file, and no address to download it is ever given.
        folder: "list",
        suffix: "csv",
        bytes_max: call.app.config.list_file_bytes_max,
        id_field: "AccessKeyId",
        address_field: "FileUrl",
    };
    ticket::give(&call, upload).await
}
