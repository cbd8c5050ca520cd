//! Good and bad calls of this family: package.

use super::{Pairs, Refusals, Shop};
use crate::shop::pairs;

/// What its operations must refuse.
pub const REFUSALS: &[Refusals] = &[
    (
        "CreateOTAFirmware",
        &[("SrcVersion", "1 0", "iot.ota.InvalidFormattedVersion"), ("Type", "2", "InvalidType")],
    ),
    ("DeleteOTAFirmware", &[("FirmwareId", "unknown", "iot.ota.FirmwareNotFound")]),
    (
        "ModifyOTAFirmware",
        &[
            ("FirmwareDesc", "x*101", "iot.ota.LongFirmwareText"),
            ("FirmwareId", "unknown", "iot.ota.FirmwareNotFound"),
            ("FirmwareName", "_package", "iot.ota.InvalidFormattedFirmwareName"),
            ("FirmwareUdi", "x*4097", "iot.ota.LongFirmwareText"),
            ("ProductKey", "a1Unknown00", "iot.prod.NotExistedProduct"),
        ],
    ),
];

/// Parameters with which an operation succeeds, on things made for this call only; `None`: not of this family.
pub async fn valid(shop: &Shop<'_>, action: &str, device: &str) -> Option<Pairs> {
    let _ = device;
    match action {
        "ModifyOTAFirmware" => Some(pairs(&[
            ("FirmwareId", &shop.unverified().await),
            ("ProductKey", &shop.product_key),
            ("FirmwareName", &shop.name("package")),
            ("FirmwareDesc", &shop.name("description")),
            ("FirmwareUdi", &shop.name("information")),
        ])),
        "DeleteOTAFirmware" => Some(pairs(&[("FirmwareId", &shop.unverified().await)])),
        _ => None,
    }
}
