//! The life of a device.

use super::{Pairs, Refusals, Shop};
use crate::server::START;
use crate::shop::{pairs, text};
use updraft_store::{Credentials, DeviceLogin, Lane, StoreError};

/// What its operations must refuse.
pub const REFUSALS: &[Refusals] = &[
    ("EnableThing", NO_DEVICE),
    ("DisableThing", NO_DEVICE),
    ("DeleteDevice", NO_DEVICE),
    ("ResetThing", NO_DEVICE),
    (
        "BatchCheckDeviceNames",
        &[
            ("DeviceName.1", "abc", "iot.device.InvalidFormattedDeviceName"),
            ("DeviceNameList.1.DeviceName", "abc", "iot.device.InvalidFormattedDeviceName"),
            ("DeviceNameList.1.DeviceNickname", "nameless", "iot.device.InvalidFormattedDeviceName"),
            ("ProductKey", "a1Unknown00", "iot.prod.NotExistedProduct"),
        ],
    ),
    ("BatchRegisterDeviceWithApplyId", NO_APPLY),
    (
        "BatchRegisterDevice",
        &[
            ("Count", "10001", "iot.device.DeviceCountExceeded"),
            ("ProductKey", "a1Unknown00", "iot.prod.NotExistedProduct"),
        ],
    ),
    ("QueryBatchRegisterDeviceStatus", NO_APPLY),
    (
        "QueryPageByApplyId",
        &[
            ("ApplyId", "1", "iot.device.DeviceApplyIsNotFound"),
            ("CurrentPage", "0", "iot.common.InvalidPageParams"),
            ("PageSize", "51", "iot.common.InvalidPageParams"),
        ],
    ),
];

const NO_DEVICE: &[(&str, &str, &str)] = &[
    ("DeviceName", "unknown", "iot.device.NotExistedDevice"),
    ("IotId", "unknown", "iot.device.NotExistedDevice"),
    ("ProductKey", "a1Unknown00", "iot.prod.NotExistedProduct"),
];

const NO_APPLY: &[(&str, &str, &str)] = &[
    ("ApplyId", "1", "iot.device.DeviceApplyIsNotFound"),
    ("ProductKey", "a1Unknown00", "iot.prod.NotExistedProduct"),
];

/// A product of its own: only one registration of a product runs at a time.
async fn product(shop: &Shop<'_>) -> String {
    let params = [("ProductName", shop.name("bulk")), ("NodeType", "0".to_owned())];
    text(&shop.server.ok("CreateProduct", &params).await, "/ProductKey")
}

/// The ApplyId of a call.
async fn apply(shop: &Shop<'_>, action: &str, params: &[(&str, &str)]) -> String {
    shop.server.ok(action, params).await["Data"]["ApplyId"].as_i64().unwrap().to_string()
}

/// A device has registered itself.
async fn registered(shop: &Shop<'_>, device: &str) {
    let (key, name) = (shop.product_key.clone(), device.to_owned());
    let noted = shop.server.app.store.write(Lane::Interactive, move |tx| {
        let Some(DeviceLogin::Known { device, .. }) = tx.device_login(&key, &name)? else {
            return Err(StoreError::Internal(format!("there is no {name}")));
        };
        tx.device_registered(device, &Credentials::default(), START)
    });
    noted.await.unwrap();
}

/// Parameters with which an operation succeeds, on things made for this call only; `None`: not of this family.
pub async fn valid(shop: &Shop<'_>, action: &str, device: &str) -> Option<Pairs> {
    let key = shop.product_key.as_str();
    Some(match action {
        "EnableThing" | "DisableThing" | "DeleteDevice" | "ResetThing" => {
            let id = shop.device(device).await;
            match action {
                "EnableThing" => drop(shop.server.ok("DisableThing", &[("IotId", &id)]).await),
                "ResetThing" => registered(shop, device).await,
                _ => {}
            }
            pairs(&[("ProductKey", key), ("DeviceName", device)])
        }
        "BatchCheckDeviceNames" => pairs(&[("ProductKey", key), ("DeviceName.1", device)]),
        "BatchRegisterDevice" => pairs(&[("ProductKey", &product(shop).await), ("Count", "2")]),
        "BatchRegisterDeviceWithApplyId" | "QueryBatchRegisterDeviceStatus" => {
            let key = product(shop).await;
            let check = [("ProductKey", key.as_str()), ("DeviceName.1", device)];
            let id = apply(shop, "BatchCheckDeviceNames", &check).await;
            pairs(&[("ProductKey", &key), ("ApplyId", &id)])
        }
        "QueryPageByApplyId" => {
            let bulk = [("ProductKey", product(shop).await), ("Count", "2".to_owned())];
            let bulk = bulk.each_ref().map(|(name, value)| (*name, value.as_str()));
            let id = apply(shop, "BatchRegisterDevice", &bulk).await;
            shop.server.engine().await;
            pairs(&[("ApplyId", &id)])
        }
        _ => return None,
    })
}
