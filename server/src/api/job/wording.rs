//! The two words that the platform's pages spell differently, decided by one table.
//!
//! `ListOTAJobByFirmware` (and its sister by device) say `COMPLETE` and `VERFIY_FIRMWARE`, as their page
//! does; `QueryOTAJob` says `COMPLETED` and `VERIFY_FIRMWARE`. The key `modern_spelling` makes all of them
//! use the second pair.

use updraft_core::job::{JobStatus, JobType};

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

/// `SelectionType` on the wire: every batch of this release is static.
pub const SELECTION_STATIC: &str = "STATIC";

/// `Tags` on the wire: absent when there are none.
pub fn with_tags(
    object: crate::api::answer::Object,
    tags: &[updraft_core::job::Tag],
) -> crate::api::answer::Object {
    use crate::api::answer::{Node, Object};
    if tags.is_empty() {
        return object;
    }
    let items = tags
        .iter()
        .map(|tag| Node::Object(Object::new().text("Key", &tag.key).text("Value", &tag.value)))
        .collect();
    object.list("Tags", "OtaTagDTO", items)
}
