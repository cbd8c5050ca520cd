//! The life of a device.

use super::{Pairs, Refusals, Shop};
use crate::server::START;
use crate::shop::pairs;
use updraft_store::{DeviceLogin, Lane, StoreError};

/// What its operations must refuse.
pub const REFUSALS: &[Refusals] = &[
    ("EnableThing", NO_DEVICE),
    ("DisableThing", NO_DEVICE),
    ("DeleteDevice", NO_DEVICE),
    ("ResetThing", NO_DEVICE),
];

const NO_DEVICE: &[(&str, &str, &str)] = &[
    ("DeviceName", "unknown", "iot.device.NotExistedDevice"),
    ("IotId", "unknown", "iot.device.NotExistedDevice"),
    ("ProductKey", "a1Unknown00", "iot.prod.NotExistedProduct"),
];

/// A device has registered itself.
async fn registered(shop: &Shop<'_>, device: &str) {
    let (key, name) = (shop.product_key.clone(), device.to_owned());
    let noted = shop.server.app.store.write(Lane::Interactive, move |tx| {
        let Some(DeviceLogin::Known { device, .. }) = tx.device_login(&key, &name)? else {
            return Err(StoreError::Internal(format!("there is no {name}")));
        };
        tx.device_registered(device, START)
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
        _ => return None,
    })
}
