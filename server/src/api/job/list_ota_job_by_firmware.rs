//! ListOTAJobByFirmware: the update batches of an update package, page by page, newest first.
//!
//! Batches are numbered within their package without gaps, so a page is a range of an index: page 1 and
//! page 10,000 cost the same.

use crate::api::answer::Object;
use crate::api::error::{ApiError, Code};
use crate::api::job::wording::{self, Wording};
use crate::api::{Call, Operation, page};
use updraft_core::limits::JOB_PAGE_SIZE_MAX;

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "ListOTAJobByFirmware",
    qps: 10,
    changes: false,
    required: &["FirmwareId", "CurrentPage", "PageSize"],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

async fn run(call: Call) -> Result<Object, ApiError> {
    let instance = call.instance;
    let id = call.params.need("FirmwareId")?.to_owned();
    let page = page::need(&call.params, JOB_PAGE_SIZE_MAX)?;
    let wanted = id.clone();
    let (product_key, total, jobs) = call
        .app
        .store
        .read(move |tx| {
            let (firmware, total, product_key) = tx
                .firmware_batches(instance, &wanted)?
                .ok_or_else(|| ApiError::new(Code::FirmwareNotFound))?;
            let (low, high) = page.newest_first(total);
            Ok::<_, ApiError>((product_key, total, tx.job_list_by_firmware(firmware, low, high)?))
        })
        .await?;
    let wording = Wording::of_lists(call.app.config.modern_spelling);
    let rows = jobs.iter().map(|job| wording::row(wording, job, &id, &product_key)).collect();
    Ok(page::fields(Object::new(), page, total).list("Data", "SimpleOTAJobInfo", rows))
}
