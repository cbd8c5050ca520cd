//! GenerateOTAUploadURL: a ticket for one form upload.

use crate::api::answer::Object;
use crate::api::error::ApiError;
use crate::api::ticket::{self, Upload};
use crate::api::{Call, Operation};

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "GenerateOTAUploadURL",
    qps: 10,
    changes: true,
    required: &[],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

/// File suffixes that the page and the platform's console accept.
const SUFFIXES: [&str; 10] = ["bin", "dav", "apk", "tar", "gz", "tar.gz", "zip", "gzip", "tar.xz", "pack"];

async fn run(call: Call) -> Result<Object, ApiError> {
    let suffix = call.params.text("FileSuffix").unwrap_or("bin");
    if !SUFFIXES.contains(&suffix) {
        return Err(ApiError::invalid("FileSuffix", &format!("It must be one of {}.", SUFFIXES.join(", "))));
    }
    let upload = Upload {
        folder: "ota",
        suffix,
        bytes_max: call.app.config.file_bytes_max,
        id_field: "OSSAccessKeyId",
        address_field: "FirmwareUrl",
    };
    ticket::give(&call, upload).await
}
