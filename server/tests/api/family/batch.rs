//! Good and bad calls of this family: batch.

use super::{Pairs, Refusals, Shop};

/// What its operations must refuse.
pub const REFUSALS: &[Refusals] = &[(
    "CreateOTAStaticUpgradeJob",
    &[
        ("GroupId", "unknown", "iot.ota.InvalidTargetDevices"),
        ("GroupType", "LINK_PLATFORM_DYNAMIC", "iot.group.InvalidGroupType"),
        ("MultiModuleMode", "perhaps", "InvalidMultiModuleMode"),
        ("OverwriteMode", "3", "iot.ota.InvalidOverwriteMode"),
    ],
)];

/// Parameters with which an operation succeeds, on things made for this call only; `None`: not of this family.
#[expect(clippy::unused_async, reason = "nothing of this family needs to be made yet")]
pub async fn valid(shop: &Shop<'_>, action: &str, device: &str) -> Option<Pairs> {
    let _ = (shop, action, device);
    None
}
