//! The story's part about devices: their tags, and questions about many.

use super::Story;

/// Tags come and go, and the devices are asked for, `lamp-1` among them, which was online.
pub async fn tell(story: &mut Story, key: &str) {
    let lamp = [("ProductKey", key), ("DeviceName", "lamp-1")];
    story.call("QueryDeviceProp", &lamp).await;
    let props = [lamp[0], lamp[1], ("Props", r#"{"colour": "red", "site": "路灯", "floor": 3}"#)];
    story.call("SaveDeviceProp", &props).await;
    story.call("DeleteDeviceProp", &[lamp[0], lamp[1], ("PropKey", "floor")]).await;
    story.call("QueryDeviceProp", &lamp).await;
    let tags = [("Tag.1.TagKey", "colour"), ("Tag.1.TagValue", "red"), ("Tag.2.TagKey", "site")];
    story.call("QueryDeviceByTags", &tags).await;
    story.call("QueryDeviceInfo", &lamp).await;
    let many = [("ProductKey", key), ("DeviceName.1", "lamp-2"), ("DeviceName.2", "lamp-1")];
    story.call("BatchQueryDeviceDetail", &many).await;
    story.call("BatchGetDeviceState", &many).await;
    story.call("QueryDeviceStatistics", &many[..1]).await;
    let certified = [("ProductName", "certified"), ("NodeType", "0"), ("AuthType", "x509")];
    let key = story.call("CreateProduct", &certified).await.text("ProductKey").to_owned();
    let named = [("ProductKey", key.as_str()), ("DeviceName", "lock-1")];
    story.call("RegisterDevice", &named).await;
    story.call("QueryDeviceCert", &named).await;
}
