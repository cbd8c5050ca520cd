//! Tags of devices, and questions about devices.

use super::{Pairs, Refusals, Shop};
use crate::shop::pairs;

/// What its operations must refuse.
pub const REFUSALS: &[Refusals] = &[
    (
        "QueryDeviceInfo",
        &[
            ("IotId", "unknown", "iot.device.NotExistedDevice"),
            ("ProductKey", "a1Unknown00", "iot.prod.NotExistedProduct"),
            ("DeviceName", "unknown", "iot.device.NotExistedDevice"),
        ],
    ),
    (
        "QueryDeviceCert",
        &[
            ("ProductKey", "a1Unknown00", "iot.prod.NotExistedProduct"),
            ("DeviceName", "unknown", "iot.device.NotExistedDevice"),
        ],
    ),
    (
        "BatchQueryDeviceDetail",
        &[
            ("ProductKey", "a1Unknown00", "iot.prod.NotExistedProduct"),
            ("DeviceName.3", "gap", "InvalidDeviceName"),
        ],
    ),
    (
        "BatchGetDeviceState",
        &[
            ("IotId.2", "gap", "InvalidIotId"),
            ("ProductKey", "a1Unknown00", "iot.prod.NotExistedProduct"),
            ("DeviceName.3", "gap", "InvalidDeviceName"),
        ],
    ),
    (
        "SaveDeviceProp",
        &[
            ("IotId", "unknown", "iot.device.NotExistedDevice"),
            ("ProductKey", "a1Unknown00", "iot.prod.NotExistedProduct"),
            ("DeviceName", "unknown", "iot.device.NotExistedDevice"),
            ("Props", "red", "iot.device.InvalidFormattedDevicePropertiesString"),
            ("Props", "{}", "iot.device.NoneDeviceProperties"),
            ("Props", r#"{"a b": "c"}"#, "iot.device.InvalidFormattedDevicePropertyKey"),
            ("Props", r#"{"abc": "c"}"#, "iot.device.InvalidFormattedDevicePropertyKey"),
            ("Props", r#"{"a": "b c"}"#, "iot.device.InvalidFormattedDevicePropertyValue"),
            ("Props", "x*5121", "iot.device.LongDevicePropertiesString"),
        ],
    ),
    (
        "QueryDeviceProp",
        &[
            ("IotId", "unknown", "iot.device.NotExistedDevice"),
            ("ProductKey", "a1Unknown00", "iot.prod.NotExistedProduct"),
            ("DeviceName", "unknown", "iot.device.NotExistedDevice"),
        ],
    ),
    (
        "DeleteDeviceProp",
        &[
            ("IotId", "unknown", "iot.device.NotExistedDevice"),
            ("ProductKey", "a1Unknown00", "iot.prod.NotExistedProduct"),
            ("DeviceName", "unknown", "iot.device.NotExistedDevice"),
            ("PropKey", "a b", "iot.device.InvalidFormattedDevicePropertyKey"),
        ],
    ),
    (
        "QueryDeviceStatistics",
        &[
            ("GroupId", "unknown", "iot.group.NotExistedGroup"),
            ("ProductKey", "a1Unknown00", "iot.prod.NotExistedProduct"),
        ],
    ),
    (
        "QueryDeviceByTags",
        &[
            ("CurrentPage", "0", "iot.common.InvalidPageParams"),
            ("PageSize", "51", "iot.common.InvalidPageParams"),
            ("Tag.2.TagValue", "without a key", "MissingTag"),
            ("Tag.11.TagKey", "gap", "InvalidTag"),
        ],
    ),
];

/// Parameters with which an operation succeeds, on things made for this call only; `None`: not of this family.
pub async fn valid(shop: &Shop<'_>, action: &str, device: &str) -> Option<Pairs> {
    let named = pairs(&[("ProductKey", &shop.product_key), ("DeviceName", device)]);
    Some(match action {
        "QueryDeviceInfo" | "QueryDeviceProp" => {
            shop.device(device).await;
            named
        }
        "QueryDeviceCert" => {
            let name = shop.name("certified");
            let product = [("ProductName", name.as_str()), ("NodeType", "0"), ("AuthType", "x509")];
            let made = shop.server.ok("CreateProduct", &product).await;
            let key = crate::shop::text(&made, "/ProductKey");
            let named = pairs(&[("ProductKey", &key), ("DeviceName", device)]);
            shop.server.ok("RegisterDevice", &named).await;
            named
        }
        "QueryDeviceStatistics" => {
            shop.device(device).await;
            pairs(&[("ProductKey", &shop.product_key)])
        }
        "BatchQueryDeviceDetail" | "BatchGetDeviceState" => {
            shop.device(device).await;
            pairs(&[("ProductKey", &shop.product_key), ("DeviceName.1", device)])
        }
        "SaveDeviceProp" => {
            shop.device(device).await;
            [named, pairs(&[("Props", r#"{"colour": "red"}"#)])].concat()
        }
        "DeleteDeviceProp" => {
            shop.device(device).await;
            let tagged = [named.clone(), pairs(&[("Props", r#"{"colour": "red"}"#)])].concat();
            shop.server.ok("SaveDeviceProp", &tagged).await;
            [named, pairs(&[("PropKey", "colour")])].concat()
        }
        "QueryDeviceByTags" => {
            shop.device(device).await;
            let value = shop.name("value");
            let props = format!(r#"{{"colour": "{value}"}}"#);
            shop.server.ok("SaveDeviceProp", &[named, pairs(&[("Props", &props)])].concat()).await;
            pairs(&[("Tag.1.TagKey", "colour"), ("Tag.1.TagValue", &value)])
        }
        _ => return None,
    })
}
