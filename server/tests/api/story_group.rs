//! The part of the story that is about device groups.

use super::Story;

/// A group within a group; a device joins and leaves.
pub async fn groups(story: &mut Story, key: &str) {
    let first = [("GroupName", "路灯_groups"), ("GroupDesc", "lamps & <posts>")];
    let parent = story.call("CreateDeviceGroup", &first).await.text("Data/GroupId").to_owned();
    let second =
        [("GroupName", "one_street"), ("GroupDesc", "in the north"), ("SuperGroupId", parent.as_str())];
    let child = story.call("CreateDeviceGroup", &second).await.text("Data/GroupId").to_owned();
    let devices = [
        ("GroupId", child.as_str()),
        ("Device.1.ProductKey", key),
        ("Device.1.DeviceName", "lamp-1"),
        ("Device.2.ProductKey", key),
        ("Device.2.DeviceName", "lamp-2"),
    ];
    story.call("BatchAddDeviceGroupRelations", &devices).await;
    story.call("QueryDeviceGroupInfo", &[("GroupId", &child)]).await;
    story.call("QueryDeviceListByDeviceGroup", &[("GroupId", &child)]).await;
    story.call("QueryDeviceGroupByDevice", &[("ProductKey", key), ("DeviceName", "lamp-1")]).await;
    story.call("QuerySuperDeviceGroup", &[("GroupId", &child)]).await;
    story.call("QueryDeviceGroupList", &[("SuperGroupId", &parent)]).await;
    story.call("BatchDeleteDeviceGroupRelations", &devices).await;
    story.call("UpdateDeviceGroup", &[("GroupId", &parent), ("GroupDesc", "changed")]).await;
    story.call("DeleteDeviceGroup", &[("GroupId", &child)]).await;
}
