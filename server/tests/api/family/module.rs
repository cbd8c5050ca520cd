//! Good and bad calls of this family: module.

use super::{Pairs, Refusals, Shop};
use crate::shop::pairs;

/// What its operations must refuse.
pub const REFUSALS: &[Refusals] = &[
    (
        "CreateOTAModule",
        &[
            ("AliasName", "x*65", "iot.ota.InvalidModuleText"),
            ("Desc", "x*101", "iot.ota.InvalidModuleText"),
            ("ModuleName", "m c u", "iot.ota.InvalidFormattedModuleName"),
            ("ProductKey", "a1Unknown00", "iot.prod.NotExistedProduct"),
        ],
    ),
    (
        "UpdateOTAModule",
        &[
            ("AliasName", "x*65", "iot.ota.InvalidModuleText"),
            ("Desc", "x*101", "iot.ota.InvalidModuleText"),
            ("ModuleName", "unknown", "iot.ota.ModuleNotFound"),
            ("ProductKey", "a1Unknown00", "iot.prod.NotExistedProduct"),
        ],
    ),
    (
        "DeleteOTAModule",
        &[
            ("ModuleName", "unknown", "iot.ota.ModuleNotFound"),
            ("ProductKey", "a1Unknown00", "iot.prod.NotExistedProduct"),
        ],
    ),
    ("ListOTAModuleByProduct", &[("ProductKey", "a1Unknown00", "iot.prod.NotExistedProduct")]),
    (
        "ListOTAModuleVersionsByDevice",
        &[
            ("CurrentPage", "0", "iot.common.InvalidPageParams"),
            ("DeviceName", "unknown", "iot.device.NotExistedDevice"),
            ("IotId", "unknown", "iot.device.NotExistedDevice"),
            ("PageSize", "201", "iot.common.InvalidPageParams"),
            ("ProductKey", "a1Unknown00", "iot.prod.NotExistedProduct"),
        ],
    ),
];

/// A product of its own, since one has only so many modules, and a module's name; answers what makes it.
async fn named(shop: &Shop<'_>) -> Pairs {
    let product = pairs(&[("ProductName", &shop.name("product")), ("NodeType", "0")]);
    let made = shop.server.ok("CreateProduct", &product).await;
    pairs(&[
        ("ProductKey", &crate::shop::text(&made, "/ProductKey")),
        ("ModuleName", &shop.name("module")),
        ("AliasName", &shop.name("alias")),
        ("Desc", &shop.name("what it does")),
    ])
}

/// Parameters with which an operation succeeds, on things made for this call only; `None`: not of this family.
pub async fn valid(shop: &Shop<'_>, action: &str, device: &str) -> Option<Pairs> {
    match action {
        "CreateOTAModule" => Some(named(shop).await),
        "UpdateOTAModule" | "DeleteOTAModule" | "ListOTAModuleByProduct" => {
            let made = named(shop).await;
            shop.server.ok("CreateOTAModule", &made).await;
            Some(match action {
                "UpdateOTAModule" => crate::shop::changed(&made, &[("Desc", &shop.name("more"))]),
                "DeleteOTAModule" => made[..2].to_vec(),
                _ => made[..1].to_vec(),
            })
        }
        "ListOTAModuleVersionsByDevice" => {
            shop.device(device).await;
            let named = [("ProductKey", shop.product_key.as_str()), ("DeviceName", device)];
            Some([pairs(&named), pairs(&[("CurrentPage", "1"), ("PageSize", "10")])].concat())
        }
        _ => None,
    }
}
