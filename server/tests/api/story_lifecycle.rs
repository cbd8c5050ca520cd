//! The part of the story that is about the life of devices.

use super::Story;

/// What BatchCheckDeviceNames answers about names that it refuses.
pub const REFUSED_NAMES: [&str; 6] = [
    "Data.InvalidDetailList.InvalidDetailList[].DeviceName",
    "Data.InvalidDetailList.InvalidDetailList[].ErrorMsg",
    "Data.InvalidDetailList.InvalidDetailList[].NickName",
    "Data.InvalidDeviceNameList.InvalidDeviceName[]",
    "Data.InvalidDeviceNicknameList.InvalidDeviceNickname[]",
    "Data.RepeatedDeviceNameList.RepeatDevieNameList[]",
];

/// Devices are registered in bulk: with drawn names, with given ones, and with one that is taken.
pub async fn bulk(story: &mut Story, key: &str) {
    let drawn = story.call("BatchRegisterDevice", &[("ProductKey", key), ("Count", "2")]).await;
    let drawn = drawn.text("Data/ApplyId").to_owned();
    story.server.engine().await;
    story.call("QueryPageByApplyId", &[("ApplyId", drawn.as_str())]).await;
    for name in ["bulk-1", "bulk-2"] {
        let names = [
            ("ProductKey", key),
            ("DeviceNameList.1.DeviceName", "bulk-1"),
            ("DeviceNameList.1.DeviceNickname", "路灯一号"),
            ("DeviceNameList.2.DeviceName", name),
        ];
        let names = if name == "bulk-1" { &names[..3] } else { &names[..] };
        let checked = story.call("BatchCheckDeviceNames", names).await;
        let id = checked.text("Data/ApplyId").to_owned();
        let of = [("ProductKey", key), ("ApplyId", id.as_str())];
        if name == "bulk-1" {
            story.call("BatchRegisterDeviceWithApplyId", &of).await;
        }
        story.server.engine().await;
        story.call("QueryBatchRegisterDeviceStatus", &of).await;
    }
}

/// A device is disabled, enabled, reset, and deleted at last.
pub async fn lives(story: &mut Story, key: &str) {
    let device = [("ProductKey", key), ("DeviceName", "lamp-old")];
    story.call("RegisterDevice", &device).await;
    story.call("DisableThing", &device).await;
    story.call("QueryDeviceDetail", &device).await;
    story.call("EnableThing", &device).await;
    story.call("ResetThing", &device).await;
    story.call("DeleteDevice", &device).await;
}
