//! DeleteOTAFirmware: deletes a package and stops its batches.
//!
//! From its commit on nobody is told of the package. The engine cancels what is open, chunk by chunk, and the
//! files go when nothing refers to them any more; the batches and their tasks stay to be read.

use crate::api::answer::Object;
use crate::api::error::{ApiError, Code};
use crate::api::{Call, Operation};
use std::sync::Arc;
use updraft_store::{Lane, Tx};

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "DeleteOTAFirmware",
    qps: 10,
    changes: true,
    required: &["FirmwareId"],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

async fn run(call: Call) -> Result<Object, ApiError> {
    let id = call.params.need("FirmwareId")?.to_owned();
    let (instance, now) = (call.instance, call.app.now());
    let delete = move |tx: &mut Tx<'_>| {
        let missing = || ApiError::new(Code::FirmwareNotFound);
        let firmware = tx.firmware_find(instance, &id)?.ok_or_else(missing)?;
        if tx.firmware_delete(firmware.no, now)? { Ok(()) } else { Err(missing()) }
    };
    let wake = Arc::clone(&call.app);
    // Also if the caller is gone by then: the engine has work.
    let begin = move |(): &()| wake.awaken();
    call.app.store.write_then(Lane::Interactive, delete, begin).await?;
    Ok(Object::new())
}
