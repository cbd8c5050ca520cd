//! Good and bad calls of this family: group.

use super::{Pairs, Refusals, Shop};
use crate::shop::{pairs, text};

const UNKNOWN: &str = "iot.group.NotExistedGroup";
const PAGES: &str = "iot.common.InvalidPageParams";

/// What its operations must refuse.
pub const REFUSALS: &[Refusals] = &[
    (
        "CreateDeviceGroup",
        &[
            ("GroupDesc", "x*101", "iot.group.LongGroupDesc"),
            ("GroupName", "abc", "iot.group.InvalidFormattedGroupName"),
            ("SuperGroupId", "unknown", UNKNOWN),
        ],
    ),
    (
        "UpdateDeviceGroup",
        &[
            ("GroupDesc", "x*101", "iot.group.LongGroupDesc"),
            ("GroupId", "unknown", UNKNOWN),
            ("GroupType", "SOME", "iot.group.InvalidGroupType"),
        ],
    ),
    ("DeleteDeviceGroup", &[("GroupId", "unknown", UNKNOWN)]),
    (
        "QueryDeviceGroupList",
        &[
            ("CurrentPage", "0", PAGES),
            ("GroupName", "x*31", "iot.group.InvalidFormattedGroupName"),
            ("GroupTypes.1", "SOME", "iot.group.InvalidGroupType"),
            ("PageSize", "201", PAGES),
            ("SuperGroupId", "unknown", UNKNOWN),
        ],
    ),
    (
        "QueryDeviceGroupInfo",
        &[("GroupId", "unknown", UNKNOWN), ("GroupType", "SOME", "iot.group.InvalidGroupType")],
    ),
    (
        "BatchAddDeviceGroupRelations",
        &[("Device.2.ProductKey", "a1Alone0000", "InvalidDevice"), ("GroupId", "unknown", UNKNOWN)],
    ),
    (
        "BatchDeleteDeviceGroupRelations",
        &[("Device.2.DeviceName", "alone", "InvalidDevice"), ("GroupId", "unknown", UNKNOWN)],
    ),
    (
        "QueryDeviceListByDeviceGroup",
        &[("CurrentPage", "0", PAGES), ("GroupId", "unknown", UNKNOWN), ("PageSize", "201", PAGES)],
    ),
    (
        "QueryDeviceGroupByDevice",
        &[
            ("DeviceName", "unknown", "iot.device.NotExistedDevice"),
            ("ProductKey", "a1Unknown00", "iot.prod.NotExistedProduct"),
        ],
    ),
    ("QuerySuperDeviceGroup", &[("GroupId", "unknown", UNKNOWN)]),
    (
        "CreateDeviceDynamicGroup",
        &[
            ("DynamicGroupExpression", "name = ", "iot.group.InvalidDynamicGroupExpression"),
            ("GroupDesc", "x*101", "iot.group.LongGroupDesc"),
            ("GroupName", "abc", "iot.group.InvalidFormattedGroupName"),
        ],
    ),
    ("DeleteDeviceDynamicGroup", &[("GroupId", "unknown", UNKNOWN)]),
    (
        "QueryDynamicGroupDevices",
        &[
            ("CurrentPage", "0", PAGES),
            ("DeviceName", "abc", "iot.device.InvalidFormattedDeviceName"),
            ("FuzzyName", "perhaps", "InvalidFuzzyName"),
            ("GroupId", "unknown", UNKNOWN),
            ("NextToken", "2-a", "InvalidNextToken"),
            ("PageSize", "201", PAGES),
            ("ProductKey", "a1Unknown00", "iot.prod.NotExistedProduct"),
            ("Status", "AWAY", "InvalidStatus"),
        ],
    ),
];

/// A static group with this device in it; answers its GroupId.
async fn group(shop: &Shop<'_>, device: &str) -> String {
    let answer = shop.server.ok("CreateDeviceGroup", &[("GroupName", shop.name("group").as_str())]).await;
    let group = text(&answer, "/Data/GroupId");
    shop.device(device).await;
    shop.server.ok("BatchAddDeviceGroupRelations", &relation(shop, &group, device)).await;
    group
}

fn dynamic_request(shop: &Shop<'_>) -> Pairs {
    let expression = format!("product_key = '{}' and name like 'device%'", shop.product_key);
    pairs(&[("GroupName", &shop.name("group")), ("DynamicGroupExpression", &expression)])
}

/// A dynamic group. As nobody makes its engine look at devices, it has none; answers its GroupId.
async fn dynamic(shop: &Shop<'_>) -> String {
    text(&shop.server.ok("CreateDeviceDynamicGroup", &dynamic_request(shop)).await, "/Data/GroupId")
}

fn relation(shop: &Shop<'_>, group: &str, device: &str) -> Pairs {
    pairs(&[("GroupId", group), ("Device.1.ProductKey", &shop.product_key), ("Device.1.DeviceName", device)])
}

/// Parameters with which an operation succeeds, on things made for this call only; `None`: not of this family.
pub async fn valid(shop: &Shop<'_>, action: &str, device: &str) -> Option<Pairs> {
    Some(match action {
        "CreateDeviceGroup" => pairs(&[
            ("GroupName", &shop.name("group")),
            ("GroupDesc", "described"),
            ("SuperGroupId", &group(shop, device).await),
        ]),
        "UpdateDeviceGroup" => pairs(&[("GroupId", &group(shop, device).await), ("GroupDesc", "described")]),
        "QueryDeviceGroupList" => {
            let parent = group(shop, device).await;
            let within = [("GroupName", shop.name("group")), ("SuperGroupId", parent)];
            let within = within.map(|(name, value)| (name.to_owned(), value)).to_vec();
            shop.server.ok("CreateDeviceGroup", &within).await;
            within
        }
        "DeleteDeviceGroup" | "QueryDeviceGroupInfo" | "QueryDeviceListByDeviceGroup" => {
            pairs(&[("GroupId", &group(shop, device).await)])
        }
        "QuerySuperDeviceGroup" => {
            let parent = group(shop, device).await;
            let within = [("GroupName", shop.name("group")), ("SuperGroupId", parent)];
            let within = within.map(|(name, value)| (name.to_owned(), value)).to_vec();
            pairs(&[("GroupId", &text(&shop.server.ok("CreateDeviceGroup", &within).await, "/Data/GroupId"))])
        }
        "BatchAddDeviceGroupRelations" => {
            let group = group(shop, device).await;
            let second = shop.name("device");
            shop.device(&second).await;
            relation(shop, &group, &second)
        }
        "BatchDeleteDeviceGroupRelations" => relation(shop, &group(shop, device).await, device),
        "QueryDeviceGroupByDevice" => {
            group(shop, device).await;
            pairs(&[("ProductKey", &shop.product_key), ("DeviceName", device)])
        }
        "CreateDeviceDynamicGroup" => dynamic_request(shop),
        "DeleteDeviceDynamicGroup" => pairs(&[("GroupId", &dynamic(shop).await)]),
        "QueryDynamicGroupDevices" => {
            let group = dynamic(shop).await;
            pairs(&[("GroupId", &group), ("ProductKey", &shop.product_key)])
        }
        _ => return None,
    })
}
