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
    dynamic(story, key).await;
}

/// A dynamic group finds its devices.
async fn dynamic(story: &mut Story, key: &str) {
    let meters = [("ProductName", "meters_in_groups"), ("NodeType", "0"), ("CategoryKey", "WaterMeter")];
    let meters = story.call("CreateProduct", &meters).await.text("ProductKey").to_owned();
    story.call("RegisterDevice", &[("ProductKey", &meters), ("DeviceName", "meter-1")]).await;
    let expression = format!("product_key in ('{key}', '{meters}') and not name like \"<none>%\"");
    let request = [
        ("GroupName", "dynamic_路灯"),
        ("GroupDesc", "all < lamps"),
        ("DynamicGroupExpression", expression.as_str()),
    ];
    let group = story.call("CreateDeviceDynamicGroup", &request).await.text("Data/GroupId").to_owned();
    story.server.engine().await;
    let of = [("GroupId", group.as_str()), ("GroupType", "LINK_PLATFORM_DYNAMIC")];
    story.call("QueryDeviceGroupInfo", &of).await;
    story.call("QueryDynamicGroupDevices", &[("GroupId", &group), ("PageSize", "2")]).await;
    let online = [("GroupId", group.as_str()), ("Status", "ONLINE"), ("ProductKey", key)];
    story.call("QueryDynamicGroupDevices", &online).await;
    story.call("DeleteDeviceDynamicGroup", &[("GroupId", &group)]).await;
}
