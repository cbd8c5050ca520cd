//! The part of the story that is about the life of devices.

use super::Story;

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
