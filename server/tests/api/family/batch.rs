//! Good and bad calls of this family: batch.

use super::{Pairs, Refusals, Shop};
use crate::shop::{pairs, text};

const LIMIT: &str = "iot.ota.InvalidJobLimit";

/// What its operations must refuse.
pub const REFUSALS: &[Refusals] = &[
    (
        "CreateOTAStaticUpgradeJob",
        &[
            ("GroupId", "unknown", "iot.ota.InvalidTargetDevices"),
            ("GroupType", "LINK_PLATFORM_DYNAMIC", "iot.group.InvalidGroupType"),
            ("MultiModuleMode", "perhaps", "InvalidMultiModuleMode"),
            ("OverwriteMode", "3", "iot.ota.InvalidOverwriteMode"),
        ],
    ),
    (
        "CreateOTADynamicUpgradeJob",
        &[
            ("DynamicMode", "3", "InvalidDynamicMode"),
            ("FirmwareId", "unknown", "iot.ota.FirmwareNotFound"),
            ("GroupId", "unknown", "iot.ota.InvalidDynamicTargets"),
            ("GroupType", "LINK_PLATFORM", "iot.group.InvalidGroupType"),
            ("MaximumPerMinute", "9", LIMIT),
            ("MultiModuleMode", "perhaps", "InvalidMultiModuleMode"),
            ("NeedConfirm", "perhaps", "InvalidNeedConfirm"),
            ("NeedPush", "perhaps", "InvalidNeedPush"),
            ("OverwriteMode", "3", "iot.ota.InvalidOverwriteMode"),
            ("ProductKey", "a1Unknown00", "iot.prod.NotExistedProduct"),
            ("RetryCount", "2", "iot.ota.InvalidRetry"),
            ("RetryInterval", "10", "iot.ota.InvalidRetry"),
            ("SrcVersion.1", "2.0.0", "iot.ota.InvalidSrcVersion"),
            ("Tag.1.Key", "alone", "iot.ota.InvalidTag"),
            ("TimeoutInMinutes", "0", LIMIT),
        ],
    ),
    (
        "UpdateOTAJob",
        &[
            ("JobId", "unknown", "iot.ota.JobNotFound"),
            ("MaximumPerMinute", "10001", LIMIT),
            ("SrcVersionList.1", "2.0.0", "iot.ota.InvalidSrcVersion"),
            ("Tags.1.Value", "alone", "iot.ota.InvalidTag"),
            ("TargetSelection", "SPECIFIC", "iot.ota.InvalidJobUpdate"),
            ("TimeoutInMinutes", "1441", LIMIT),
            ("UpgradeType", "STATIC", "iot.ota.InvalidJobUpdate"),
        ],
    ),
    ("CancelOTAStrategyByJob", &[("JobId", "unknown", "iot.ota.JobNotFound")]),
];

/// What makes a dynamic batch of a new package.
async fn dynamic(shop: &Shop<'_>) -> Pairs {
    let package = shop.package().await;
    pairs(&[("FirmwareId", &package), ("ProductKey", &shop.product_key), ("SrcVersion.1", "1.0.0")])
}

/// A dynamic batch; answers its JobId.
async fn made(shop: &Shop<'_>) -> String {
    text(&shop.server.ok("CreateOTADynamicUpgradeJob", &dynamic(shop).await).await, "/Data/JobId")
}

/// Parameters with which an operation succeeds, on things made for this call only; `None`: not of this family.
pub async fn valid(shop: &Shop<'_>, action: &str, _device: &str) -> Option<Pairs> {
    Some(match action {
        "CreateOTADynamicUpgradeJob" => dynamic(shop).await,
        "CancelOTAStrategyByJob" => pairs(&[("JobId", &made(shop).await)]),
        "UpdateOTAJob" => pairs(&[
            ("JobId", &made(shop).await),
            ("MaximumPerMinute", "20"),
            ("TargetSelection", "ALL"),
            ("UpgradeType", "DYNAMIC"),
        ]),
        _ => return None,
    })
}
