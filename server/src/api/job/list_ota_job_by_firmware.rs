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
    let found = call
        .app
        .store
        .glance(move |tx| tx.job_list_by_firmware(instance, &wanted, page))
        .await?
        .ok_or_else(|| ApiError::new(Code::FirmwareNotFound))?;
    let wording = Wording::of_lists(call.app.config.modern_spelling);
    let rows = found.page.iter().map(|job| wording::row(wording, job, &id, &found.product_key)).collect();
    Ok(page::fields(Object::new(), page, found.total).list("Data", "SimpleOTAJobInfo", rows))
}
