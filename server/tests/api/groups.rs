//! Device groups through the API: who may be in them, what lists show, what is refused.

use crate::server::TestServer;
use crate::shop::{Pairs, Shop, pairs, text};
use serde_json::{Value, json};
use updraft_server::device::link::DeviceEvent;
use updraft_store::Location;

/// A static group; answers its GroupId.
pub async fn group(server: &TestServer, name: &str, parent: &str) -> String {
    let params = [("GroupName", name), ("SuperGroupId", parent)];
    text(&server.ok("CreateDeviceGroup", &params).await, "/Data/GroupId")
}

fn relations(shop: &Shop<'_>, group: &str, devices: &[&str]) -> Pairs {
    let mut params = pairs(&[("GroupId", group)]);
    for (device, n) in devices.iter().zip(1..) {
        params.push((format!("Device.{n}.ProductKey"), shop.product_key.clone()));
        params.push((format!("Device.{n}.DeviceName"), (*device).to_owned()));
    }
    params
}

pub async fn add(shop: &Shop<'_>, group: &str, devices: &[&str]) -> Value {
    let answer = shop.server.ok("BatchAddDeviceGroupRelations", &relations(shop, group, devices)).await;
    json!([
        answer["ValidDeviceCount"],
        answer["SuccessAddedDeviceCount"],
        answer["AlreadyRelatedGroupDeviceCount"],
        answer["ExceedTenGroupDeviceCount"],
    ])
}

async fn refusal(server: &TestServer, action: &str, params: &[(&str, &str)]) -> (String, String) {
    let (_, answer) = server.call(action, params).await;
    assert_eq!(answer["Success"], false, "{action}: {answer}");
    (text(&answer, "/Code"), text(&answer, "/ErrorMessage"))
}

#[tokio::test]
async fn devices_that_cannot_be_added_are_counted_and_not_refused() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    for device in ["lamp-1", "lamp-2"] {
        shop.device(device).await;
    }
    for n in 1..=10 {
        let group = group(&server, &format!("group_{n}"), "").await;
        assert_eq!(add(&shop, &group, &["lamp-1"]).await, json!([1, 1, 0, 0]), "{n}");
        assert_eq!(add(&shop, &group, &["lamp-1"]).await, json!([1, 0, 1, 0]), "{n}");
    }
    let eleventh = group(&server, "group_11", "").await;
    let both = ["lamp-1", "lamp-2", "unknown-1"];
    assert_eq!(add(&shop, &eleventh, &both).await, json!([2, 1, 0, 1]));
    let twice = ["lamp-2", "lamp-2"];
    assert_eq!(add(&shop, &eleventh, &twice).await, json!([1, 0, 1, 0]), "one device named twice is one");
    let params = [("ProductKey", shop.product_key.as_str()), ("DeviceName", "lamp-1")];
    let of = server.ok("QueryDeviceGroupByDevice", &params).await;
    let of = of["GroupInfos"]["GroupInfo"].as_array().unwrap().clone();
    assert_eq!((of.len(), &of[0]["GroupName"]), (10, &json!("group_10")));
    assert!(of.iter().all(|group| group["GroupType"] == "LINK_PLATFORM"), "{of:?}");
}

#[tokio::test]
async fn devices_leave_a_group_and_are_counted() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    for device in ["lamp-1", "lamp-2"] {
        shop.device(device).await;
    }
    let group = group(&server, "lamps", "").await;
    add(&shop, &group, &["lamp-1"]).await;
    let devices = relations(&shop, &group, &["lamp-1", "lamp-2", "unknown-1"]);
    let answer = server.ok("BatchDeleteDeviceGroupRelations", &devices).await;
    let counts = ["ValidDeviceCount", "SuccessDeviceCount", "AlreadyRelatedGroupDeviceCount"];
    assert_eq!(counts.map(|name| answer[name].as_i64().unwrap()), [2, 1, 1]);
    let listed = server.ok("QueryDeviceListByDeviceGroup", &[("GroupId", &group)]).await;
    assert_eq!((&listed["Total"], &listed["PageCount"]), (&json!(0), &json!(0)));
}

#[tokio::test]
async fn a_list_of_devices_has_pages_newest_first_and_the_group_its_counts() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    let mut ids = Vec::new();
    for device in ["lamp-1", "lamp-2", "lamp-3"] {
        ids.push(shop.device(device).await);
    }
    let group = group(&server, "lamps", "").await;
    add(&shop, &group, &["lamp-3", "lamp-1", "lamp-2"]).await;
    let page = |number| {
        let params = pairs(&[("GroupId", &group), ("CurrentPage", number), ("PageSize", "2")]);
        let server = &server;
        async move { server.ok("QueryDeviceListByDeviceGroup", &params).await }
    };
    let (first, second) = (page("1").await, page("2").await);
    let names = |answer: &Value| -> Vec<String> {
        let rows = answer["Data"]["SimpleDeviceInfo"].as_array().unwrap();
        rows.iter().map(|row| text(row, "/DeviceName")).collect()
    };
    assert_eq!(
        (names(&first), names(&second)),
        (vec!["lamp-3".into(), "lamp-2".into()], vec!["lamp-1".into()])
    );
    let paging = json!([first["Total"], first["PageCount"], first["PageSize"], first["Page"]]);
    assert_eq!(paging, json!([3, 2, 2, 1]));

    server.device(&ids[0], DeviceEvent::Online { session: 1, ip: String::new() }).await;
    server.device(&ids[1], DeviceEvent::Online { session: 2, ip: String::new() }).await;
    server.device(&ids[1], DeviceEvent::Offline { session: 2 }).await;
    let info = &server.ok("QueryDeviceGroupInfo", &[("GroupId", &group)]).await["Data"];
    assert_eq!(json!([info["DeviceCount"], info["DeviceActive"], info["DeviceOnline"]]), json!([3, 2, 1]));
}

#[tokio::test]
async fn a_group_with_groups_in_it_is_not_deleted_and_a_deleted_one_leaves_tasks_alone() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    shop.device("lamp-1").await;
    let parent = group(&server, "parent", "").await;
    let child = group(&server, "child", &parent).await;
    add(&shop, &child, &["lamp-1"]).await;
    let job = shop.batch(&shop.package().await, "lamp-1", &[]).await;
    let before = server.ok("ListOTATaskByJob", &[("JobId", &job)]).await["Data"].clone();
    let (code, _) = refusal(&server, "DeleteDeviceGroup", &[("GroupId", &parent)]).await;
    assert_eq!(code, "iot.group.GroupHasSubgroups");
    server.ok("DeleteDeviceGroup", &[("GroupId", &child)]).await;
    server.engine().await;
    server.ok("DeleteDeviceGroup", &[("GroupId", &parent)]).await;
    for gone in [&parent, &child] {
        let (code, _) = refusal(&server, "QueryDeviceGroupInfo", &[("GroupId", gone)]).await;
        assert_eq!(code, "iot.group.NotExistedGroup");
    }
    assert_eq!(server.ok("ListOTATaskByJob", &[("JobId", &job)]).await["Data"], before);
    let params = [("ProductKey", shop.product_key.as_str()), ("DeviceName", "lamp-1")];
    let of = server.ok("QueryDeviceGroupByDevice", &params).await;
    assert_eq!(of["GroupInfos"]["GroupInfo"], json!([]));
    group(&server, "child", "").await;
}

#[tokio::test]
async fn a_name_is_used_once_and_a_parent_is_told() {
    let server = TestServer::new().await;
    let parent = group(&server, "parent", "").await;
    let child = group(&server, "child", &parent).await;
    let again = [("GroupName", "child"), ("SuperGroupId", "")];
    assert_eq!(refusal(&server, "CreateDeviceGroup", &again).await.0, "iot.group.AlreadyExistedGroupName");
    let above = server.ok("QuerySuperDeviceGroup", &[("GroupId", &child)]).await;
    assert_eq!(above["Data"]["GroupInfo"], json!([{ "GroupId": parent, "GroupName": "parent" }]));
    let above = server.ok("QuerySuperDeviceGroup", &[("GroupId", &parent)]).await;
    assert_eq!(above["Data"]["GroupInfo"], json!([]));
}

#[tokio::test]
async fn groups_are_so_many_and_so_deep_as_the_configuration_says() {
    let server = TestServer::with(Location::Inline, |config| {
        config.quota_scale = 0.0;
        (config.group_max, config.group_depth_max) = (3, 2);
    })
    .await;
    let top = group(&server, "top_group", "").await;
    let below = group(&server, "below", &top).await;
    let third = [("GroupName", "third"), ("SuperGroupId", below.as_str())];
    let (code, message) = refusal(&server, "CreateDeviceGroup", &third).await;
    assert_eq!(code, "iot.group.GroupDepthExceedMax");
    assert!(message.contains("2 levels") && message.contains("group_depth_max"), "{message}");
    group(&server, "third", &top).await;
    let (code, message) = refusal(&server, "CreateDeviceGroup", &[("GroupName", "fourth")]).await;
    assert_eq!(code, "iot.group.GroupCountExceedMax");
    assert!(message.contains("3 static groups") && message.contains("group_max"), "{message}");
    server.ok("DeleteDeviceGroup", &[("GroupId", &below)]).await;
    group(&server, "fourth", "").await;
}

#[tokio::test]
async fn more_devices_than_a_call_may_name_are_refused() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    let group = group(&server, "lamps", "").await;
    let names: Vec<String> = (1..=201).map(|n| format!("lamp-{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for action in ["BatchAddDeviceGroupRelations", "BatchDeleteDeviceGroupRelations"] {
        let (status, answer) = server.call(action, &relations(&shop, &group, &names)).await;
        assert_eq!((status, &answer["Code"]), (400, &json!("InvalidDevice")), "{action}");
        let (status, answer) = server.call(action, &[("GroupId", &group)]).await;
        assert_eq!((status, &answer["Code"]), (400, &json!("MissingDevice")), "{action}");
        server.ok(action, &relations(&shop, &group, &names[..200])).await;
    }
}
