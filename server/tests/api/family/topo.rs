//! Gateways and the devices behind them.

use super::{Pairs, Refusals, Shop};
use crate::shop::{pairs, text};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

const NO_DEVICE: &[(&str, &str, &str)] = &[
    ("DeviceName", "unknown", "iot.device.NotExistedDevice"),
    ("IotId", "unknown", "iot.device.NotExistedDevice"),
    ("ProductKey", "a1Unknown00", "iot.prod.NotExistedProduct"),
];

/// What its operations must refuse.
pub const REFUSALS: &[Refusals] = &[
    (
        "GetThingTopo",
        &[
            NO_DEVICE[0],
            NO_DEVICE[1],
            NO_DEVICE[2],
            ("PageNo", "0", "iot.common.InvalidPageParams"),
            ("PageSize", "51", "iot.common.InvalidPageParams"),
        ],
    ),
    ("GetGatewayBySubDevice", NO_DEVICE),
    ("RemoveThingTopo", NO_DEVICE),
    (
        "BatchAddThingTopo",
        &[
            ("GwDeviceName", "unknown", "iot.device.NotExistedDevice"),
            ("GwProductKey", "a1Unknown00", "iot.prod.NotExistedProduct"),
            ("TopoAddItem.1.Sign", "00", "iot.device.AddTopoRelationFailed"),
            ("TopoAddItem.2.ProductKey", "a1Alone0000", "InvalidTopoAddItem"),
        ],
    ),
    (
        "NotifyAddThingTopo",
        &[
            ("DeviceListStr", "[{}]", "InvalidDeviceListStr"),
            ("GwDeviceName", "unknown", "iot.device.NotExistedDevice"),
            ("GwIotId", "unknown", "iot.device.NotExistedDevice"),
            ("GwProductKey", "a1Unknown00", "iot.prod.NotExistedProduct"),
        ],
    ),
];

/// What puts a new device of this name behind a new gateway of the same name.
async fn request(shop: &Shop<'_>, device: &str) -> Pairs {
    let product = [("ProductName", shop.name("gateways")), ("NodeType", "1".to_owned())];
    let gateways = text(&shop.server.ok("CreateProduct", &product).await, "/ProductKey");
    let key = shop.product_key.as_str();
    for key in [gateways.as_str(), key] {
        let named = [("ProductKey", key), ("DeviceName", device)];
        shop.server.ok("RegisterDevice", &named).await;
    }
    let detail = shop.server.ok("QueryDeviceDetail", &[("ProductKey", key), ("DeviceName", device)]).await;
    let secret = text(&detail, "/Data/DeviceSecret");
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(format!("clientIdcdeviceName{device}productKey{key}timestamp7").as_bytes());
    pairs(&[
        ("GwProductKey", &gateways),
        ("GwDeviceName", device),
        ("TopoAddItem.1.ClientId", "c"),
        ("TopoAddItem.1.DeviceName", device),
        ("TopoAddItem.1.ProductKey", key),
        ("TopoAddItem.1.Sign", &hex::encode(mac.finalize().into_bytes())),
        ("TopoAddItem.1.SignMethod", "hmacSha256"),
        ("TopoAddItem.1.Timestamp", "7"),
    ])
}

/// Parameters with which an operation succeeds, on things made for this call only; `None`: not of this family.
pub async fn valid(shop: &Shop<'_>, action: &str, device: &str) -> Option<Pairs> {
    if !REFUSALS.iter().any(|(known, _)| *known == action) {
        return None;
    }
    let request = request(shop, device).await;
    let gateways = request[0].1.clone();
    if action == "BatchAddThingTopo" {
        return Some(request);
    }
    let key = shop.product_key.as_str();
    if action == "NotifyAddThingTopo" {
        let listed = format!(r#"[{{"productKey":"{key}","deviceName":"{device}"}}]"#);
        let named = [("GwProductKey", gateways.as_str()), ("GwDeviceName", device)];
        return Some(pairs(&[named[0], named[1], ("DeviceListStr", &listed)]));
    }
    shop.server.ok("BatchAddThingTopo", &request).await;
    Some(match action {
        "GetThingTopo" => {
            pairs(&[("ProductKey", &gateways), ("DeviceName", device), ("PageNo", "1"), ("PageSize", "10")])
        }
        _ => pairs(&[("ProductKey", key), ("DeviceName", device)]),
    })
}
