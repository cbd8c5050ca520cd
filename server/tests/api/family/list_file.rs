//! Batches by list file, and downloads by MQTT.

use super::{Pairs, Refusals, Shop};

/// What its operations must refuse.
pub const REFUSALS: &[Refusals] = &[
    // The other parameters are those of a batch for a named device, beside which no list may stand.
    (
        "CreateOTAStaticUpgradeJob",
        &[
            ("DnListFileUrl", "http://elsewhere/list/a/b.csv", "iot.ota.InvalidTargetDevices"),
            ("DownloadProtocol", "FTP", "InvalidDownloadProtocol"),
        ],
    ),
    ("CreateOTADynamicUpgradeJob", &[("DownloadProtocol", "FTP", "InvalidDownloadProtocol")]),
    ("CreateOTAVerifyJob", &[("DownloadProtocol", "FTP", "InvalidDownloadProtocol")]),
];

/// Parameters with which an operation succeeds, on things made for this call only; `None`: not of this family.
#[expect(clippy::unused_async, reason = "nothing of this family needs to be made")]
pub async fn valid(_: &Shop<'_>, action: &str, _: &str) -> Option<Pairs> {
    (action == "GenerateDeviceNameListURL").then(Pairs::new)
}
