//! ListOTAJobByDevice: the batches of an update package in which a device has a task, newest first.
//!
//! Found by the device's own tasks, of which there are as many as batches it was ever in.

use crate::api::answer::Object;
use crate::api::error::{ApiError, Code};
use crate::api::job::wording::{self, Wording};
use crate::api::{Call, Operation, page};
use updraft_core::limits::JOB_BY_DEVICE_PAGE_SIZE_MAX;

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "ListOTAJobByDevice",
    qps: 10,
    changes: false,
    required: &["FirmwareId", "ProductKey", "DeviceName", "CurrentPage", "PageSize"],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

async fn run(call: Call) -> Result<Object, ApiError> {
    let instance = call.instance;
    let id = call.params.need("FirmwareId")?.to_owned();
    let key = call.params.need("ProductKey")?.to_owned();
    let name = call.params.need("DeviceName")?.to_owned();
    let page = page::need(&call.params, JOB_BY_DEVICE_PAGE_SIZE_MAX)?;
    let (firmware, product, (jobs, total)) = call
        .app
        .store
        .read(move |tx| {
            let firmware =
                tx.firmware_find(instance, &id)?.ok_or_else(|| ApiError::new(Code::FirmwareNotFound))?;
            let product =
                tx.product_find(instance, &key)?.ok_or_else(|| ApiError::new(Code::ProductNotFound))?;
            if product.no != firmware.product {
                return Err(ApiError::new(Code::FirmwareOfOtherProduct));
            }
            let device =
                tx.device_find(product.no, &name)?.ok_or_else(|| ApiError::new(Code::DeviceNotFound))?;
            let jobs = tx.job_list_by_device(firmware.no, device.no, page)?;
            Ok((firmware, product, jobs))
        })
        .await?;
    let wording = Wording::of_lists(call.app.config.modern_spelling);
    let rows = jobs
        .iter()
        .map(|job| wording::row(wording, job, &firmware.firmware_id, &product.product_key))
        .collect();
    Ok(page::fields(Object::new(), page, total).list("Data", "SimpleOTAJobInfo", rows))
}
