//! The part of the story that is about gateways.

use super::Story;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use updraft_server::device::link::DeviceEvent;

/// A gateway that is on line gets a device behind it, and loses it again.
pub async fn gateways(story: &mut Story, key: &str) {
    let product = story.call("CreateProduct", &[("ProductName", "gateways"), ("NodeType", "1")]).await;
    let gateways = product.text("ProductKey").to_owned();
    let gateway = [("ProductKey", gateways.as_str()), ("DeviceName", "gateway-1")];
    let id = story.call("RegisterDevice", &gateway).await.text("Data/IotId").to_owned();
    let online = DeviceEvent::Online { session: 100, ip: "192.0.2.8".to_owned() };
    story.device(&id, online).await;
    let report = DeviceEvent::Report { module: "default".to_owned(), version: "1.0.0".to_owned() };
    story.device(&id, report).await;

    let sub = [("ProductKey", key), ("DeviceName", "behind-1")];
    let secret = story.call("RegisterDevice", &sub).await.text("Data/DeviceSecret").to_owned();
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(format!("clientIdcdeviceNamebehind-1productKey{key}timestamp7").as_bytes());
    let sign = hex::encode(mac.finalize().into_bytes());
    let added = [
        ("GwProductKey", gateways.as_str()),
        ("GwDeviceName", "gateway-1"),
        ("TopoAddItem.1.ClientId", "c"),
        ("TopoAddItem.1.DeviceName", "behind-1"),
        ("TopoAddItem.1.ProductKey", key),
        ("TopoAddItem.1.Sign", sign.as_str()),
        ("TopoAddItem.1.SignMethod", "hmacSha256"),
        ("TopoAddItem.1.Timestamp", "7"),
    ];
    story.call("BatchAddThingTopo", &added).await;
    story.call("GetThingTopo", &[gateway[0], gateway[1], ("PageNo", "1"), ("PageSize", "10")]).await;
    story.call("GetGatewayBySubDevice", &sub).await;
    let listed = format!(r#"[{{"productKey":"{key}","deviceName":"behind-1"}}]"#);
    story.call("NotifyAddThingTopo", &[added[0], added[1], ("DeviceListStr", listed.as_str())]).await;
    story.call("RemoveThingTopo", &sub).await;
}
