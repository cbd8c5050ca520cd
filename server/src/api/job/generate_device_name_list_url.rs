//! GenerateDeviceNameListURL: a ticket for the form upload of a list of devices.

use crate::api::answer::Object;
use crate::api::error::{ApiError, Code};
use crate::api::{Call, Operation};
use crate::files::reserve;
use updraft_core::id;
use updraft_store::Lane;

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
    let app = &call.app;
    reserve::room_for(app, 0).map_err(|why| ApiError::with(Code::InsufficientStorage, why.to_string()))?;
    // Not below `ota/`: a list can be no package's file, and no address to download it is ever given.
    let object_key = format!(
        "list/{}/{}.csv",
        hex::encode(app.random.bytes::<16>("object_key")),
        id::alphanumeric(&app.random.bytes::<20>("object_key")),
    );
    let (instance, now, stored) = (call.instance, app.now(), object_key.clone());
    app.store
        .write(Lane::Interactive, move |tx| {
            tx.file_ticket_insert(instance, &stored, now).map_err(ApiError::from)
        })
        .await?;
    let ticket = app.addresses.upload_ticket(&object_key, app.config.list_file_bytes_max, now);
    let data = Object::new()
        .text("Key", &object_key)
        .text("Host", &call.base)
        .text("Policy", ticket.policy)
        .text("AccessKeyId", ticket.access_key_id)
        .text("Signature", ticket.signature)
        .text("FileUrl", format!("{}/{object_key}", call.base))
        .text("ObjectStorage", "OSS")
        .utc("UtcCreate", now);
    Ok(Object::new().object("Data", data))
}
