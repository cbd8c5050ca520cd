//! CancelOTATaskByDevice: ends the unfinished tasks that devices have in the batches of a package, or in one of
//! them.

use crate::api::answer::Object;
use crate::api::error::{ApiError, Code};
use crate::api::job::request::{device_names, target_devices};
use crate::api::{Call, Operation};
use crate::engine;
use crate::engine::advance::Door;
use std::sync::Arc;
use updraft_core::id::DeviceNo;
use updraft_core::limits::CANCEL_DEVICES_MAX;
use updraft_core::task::{Cancel, Event};
use updraft_store::Lane;

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "CancelOTATaskByDevice",
    qps: 10,
    changes: true,
    required: &["FirmwareId", "ProductKey", "DeviceName"],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

async fn run(call: Call) -> Result<Object, ApiError> {
    let params = &call.params;
    let firmware_id = params.need("FirmwareId")?.to_owned();
    let product_key = params.need("ProductKey")?.to_owned();
    let job_id = params.text("JobId").map(str::to_owned);
    let names = device_names(params, "DeviceName", CANCEL_DEVICES_MAX)?;
    if names.is_empty() {
        return Err(ApiError::missing("DeviceName.1"));
    }
    let (instance, app) = (call.instance, Arc::clone(&call.app));
    engine::write(&call.app, Lane::Interactive, move |tx| {
        let firmware =
            tx.firmware_find(instance, &firmware_id)?.ok_or_else(|| ApiError::new(Code::FirmwareNotFound))?;
        let product =
            tx.product_find(instance, &product_key)?.ok_or_else(|| ApiError::new(Code::ProductNotFound))?;
        if product.no != firmware.product {
            return Err(ApiError::new(Code::FirmwareOfOtherProduct));
        }
        let job = match &job_id {
            None => None,
            Some(id) => {
                let job = tx.job_find(instance, id)?.filter(|job| job.firmware == firmware.no);
                Some(job.ok_or_else(|| ApiError::new(Code::JobNotFound))?.no)
            }
        };
        if tx.job_unexpanded_exists(firmware.no, job)? {
            // A task that does not exist yet would be missed, and its device told after all.
            return Err(ApiError::with(
                Code::TaskStatusForbids,
                "The tasks of a job of this firmware are still being made; try again in a moment.",
            ));
        }
        let devices: Vec<DeviceNo> =
            target_devices(tx, &firmware, &names)?.iter().map(|device| device.no).collect();
        let mut door = Door::open(tx, &app, app.now());
        door.load_devices(&devices)?;
        for task in door.tasks_of_firmware(firmware.no, job) {
            door.apply(task, &Event::Cancel(Cancel::ALL))?;
        }
        Ok::<_, ApiError>(((), door.close()?))
    })
    .await?;
    Ok(Object::new())
}
