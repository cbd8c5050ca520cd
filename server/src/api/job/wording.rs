//! The two words that the platform's pages spell differently, decided by one table.
//!
//! `ListOTAJobByFirmware` (and its sister by device) say `COMPLETE` and `VERFIY_FIRMWARE`, as their page
//! does; `QueryOTAJob` says `COMPLETED` and `VERIFY_FIRMWARE`. The key `modern_spelling` makes all of them
//! use the second pair. And how a batch looks in lists.

use crate::api::answer::{Node, Object};
use updraft_core::job::{JobStatus, JobType, Tag};
use updraft_store::ListedJob;

/// Which pair an operation uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wording {
    /// `COMPLETE`, `VERFIY_FIRMWARE`.
    Page,
    /// `COMPLETED`, `VERIFY_FIRMWARE`.
    Modern,
}

impl Wording {
    /// The wording of the list operations.
    pub fn of_lists(modern_spelling: bool) -> Self {
        if modern_spelling { Self::Modern } else { Self::Page }
    }

    /// `JobStatus` on the wire.
    pub fn status(self, status: JobStatus) -> &'static str {
        match (status, self) {
            (JobStatus::Planned, _) => "PLANNED",
            (JobStatus::InProgress, _) => "IN_PROGRESS",
            (JobStatus::Completed, Self::Page) => "COMPLETE",
            (JobStatus::Completed, Self::Modern) => "COMPLETED",
            (JobStatus::Canceled, _) => "CANCELED",
        }
    }

    /// `JobType` on the wire.
    pub fn job_type(self, job_type: JobType) -> &'static str {
        match (job_type, self) {
            (JobType::Verify, Self::Page) => "VERFIY_FIRMWARE",
            (JobType::Verify, Self::Modern) => "VERIFY_FIRMWARE",
            (JobType::Upgrade, _) => "UPGRADE_FIRMWARE",
        }
    }
}

/// `SelectionType` on the wire.
pub fn selection_type(dynamic: bool) -> &'static str {
    if dynamic { "DYNAMIC" } else { "STATIC" }
}

/// A batch as the list operations show it.
pub fn row(wording: Wording, job: &ListedJob, firmware_id: &str, product_key: &str) -> Node {
    let row = Object::new()
        .text("JobId", &job.job_id)
        .text("JobStatus", wording.status(job.status))
        .text("JobType", wording.job_type(job.job_type))
        .text("FirmwareId", firmware_id)
        .text("ProductKey", product_key)
        .text("SelectionType", selection_type(job.dynamic))
        .text("TargetSelection", job.target_selection.name())
        .utc("UtcCreate", job.created_at)
        .utc("UtcModified", job.modified_at)
        .opt_utc("UtcStartTime", job.start_at)
        .opt_utc("UtcEndTime", job.end_at);
    Node::Object(with_tags(row, &job.tags))
}

/// `Tags` on the wire: absent when there are none.
pub fn with_tags(object: Object, tags: &[Tag]) -> Object {
    if tags.is_empty() {
        return object;
    }
    let items = tags
        .iter()
        .map(|tag| Node::Object(Object::new().text("Key", &tag.key).text("Value", &tag.value)))
        .collect();
    object.list("Tags", "OtaTagDTO", items)
}
