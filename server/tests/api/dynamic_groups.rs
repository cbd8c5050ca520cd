//! Dynamic groups through the API: which devices come and go, how they are listed, what is refused.

use crate::rules::tasks;
use crate::server::{ROOT, START, TestServer};
use crate::shop::{Shop, pairs, text};
use serde_json::{Value, json};
use updraft_server::device::link::DeviceEvent;
use updraft_server::setup::ROOT_ACCOUNT;
use updraft_store::{Lane, Location, StoreError};

/// A dynamic group, before the engine has looked at devices; answers its GroupId.
async fn group(server: &TestServer, name: &str, expression: &str) -> String {
    let params = [("GroupName", name), ("DynamicGroupExpression", expression)];
    text(&server.ok("CreateDeviceDynamicGroup", &params).await, "/Data/GroupId")
}

/// The names of a group's devices, after the engine did its work.
async fn devices(server: &TestServer, group: &str, filter: &[(&str, &str)]) -> Vec<String> {
    server.engine().await;
    names(&list(server, group, filter).await)
}

async fn list(server: &TestServer, group: &str, filter: &[(&str, &str)]) -> Value {
    let mut params = vec![("GroupId", group)];
    params.extend(filter);
    server.ok("QueryDynamicGroupDevices", &params).await
}

fn names(answer: &Value) -> Vec<String> {
    let rows = answer["Data"]["SimpleDeviceInfo"].as_array().unwrap();
    rows.iter().map(|row| text(row, "/DeviceName")).collect()
}

async fn refusal(server: &TestServer, action: &str, params: &[(&str, &str)]) -> (String, String) {
    let (_, answer) = server.call(action, params).await;
    assert_eq!(answer["Success"], false, "{action}: {answer}");
    (text(&answer, "/Code"), text(&answer, "/ErrorMessage"))
}

fn report(module: &str, version: &str) -> DeviceEvent {
    DeviceEvent::Report { module: module.to_owned(), version: version.to_owned() }
}

fn online(session: i64) -> DeviceEvent {
    DeviceEvent::Online { session, ip: String::new() }
}

#[tokio::test]
async fn a_group_finds_the_devices_that_exist_in_pieces_and_those_that_come_later() {
    let server = TestServer::with(Location::Inline, |config| {
        config.quota_scale = 0.0;
        config.engine_chunk_rows = 2;
    })
    .await;
    let shop = Shop::open(&server).await;
    for device in ["lamp-1", "post-1", "lamp-2", "lamp-3", "lamp-4"] {
        shop.device(device).await;
    }
    let lamps = group(&server, "lamps", "name like 'lamp-%' and name != 'lamp-4'").await;
    assert_eq!(list(&server, &lamps, &[]).await["Total"], 0, "nobody has looked yet");
    // A device that comes while the engine is looking is found as well, once.
    updraft_server::engine::turn(&server.app).await.unwrap();
    shop.device("lamp-5").await;
    assert_eq!(devices(&server, &lamps, &[]).await, ["lamp-5", "lamp-3", "lamp-2", "lamp-1"]);
    shop.device("lamp-6").await;
    shop.device("post-2").await;
    assert_eq!(devices(&server, &lamps, &[]).await.len(), 5);
    let info = [("GroupId", lamps.as_str()), ("GroupType", "LINK_PLATFORM_DYNAMIC")];
    let info = &server.ok("QueryDeviceGroupInfo", &info).await["Data"];
    assert_eq!(json!([info["DeviceCount"], info["DeviceActive"], info["DeviceOnline"]]), json!([5, 0, 0]));
    assert_eq!(info["DynamicGroupExpression"], "name like 'lamp-%' and name != 'lamp-4'");
}

#[tokio::test]
async fn devices_come_and_go_with_what_they_report() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    let lamp = shop.device("lamp-1").await;
    shop.device("lamp-2").await;
    let here = group(&server, "here", "status = 'ONLINE'").await;
    let old = group(&server, "old_mcu", "version.mcu < '1.10' and version = '7'").await;
    let both = async || (devices(&server, &here, &[]).await, devices(&server, &old, &[]).await);
    let none: Vec<String> = Vec::new();
    let one = vec!["lamp-1".to_owned()];
    assert_eq!(both().await, (none.clone(), none.clone()));
    server.device(&lamp, online(1)).await;
    server.device(&lamp, report("default", "7")).await;
    assert_eq!(both().await, (one.clone(), none.clone()));
    server.device(&lamp, report("mcu", "1.9")).await;
    assert_eq!(both().await, (one.clone(), one.clone()));
    server.device(&lamp, DeviceEvent::Offline { session: 1 }).await;
    server.device(&lamp, report("mcu", "1.10")).await;
    assert_eq!(both().await, (none.clone(), none));
}

#[tokio::test]
async fn devices_come_and_go_with_their_tags_their_disabling_and_their_end() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    let lamp = shop.device("lamp-1").await;
    let north = group(&server, "in_the_north", "tag.site = 'north' and status != 'DISABLE'").await;
    let off = group(&server, "taken_out", "status = 'DISABLE'").await;
    let both = async || [devices(&server, &north, &[]).await.len(), devices(&server, &off, &[]).await.len()];
    assert_eq!(both().await, [0, 0]);
    let tag = |value: &str| pairs(&[("IotId", &lamp), ("Props", &format!("{{\"site\": \"{value}\"}}"))]);
    let device = [("IotId", lamp.as_str())];
    server.ok("SaveDeviceProp", &tag("north")).await;
    assert_eq!(both().await, [1, 0]);
    server.ok("DisableThing", &device).await;
    assert_eq!(both().await, [0, 1]);
    let disabled = list(&server, &off, &[("Status", "DISABLE")]).await;
    assert_eq!(disabled["Data"]["SimpleDeviceInfo"][0]["Status"], "DISABLE");
    server.ok("EnableThing", &device).await;
    assert_eq!(both().await, [1, 0]);
    server.ok("SaveDeviceProp", &tag("south")).await;
    assert_eq!(both().await, [0, 0]);
    server.ok("SaveDeviceProp", &tag("north")).await;
    server.ok("DeleteDeviceProp", &[("IotId", lamp.as_str()), ("PropKey", "site")]).await;
    assert_eq!(both().await, [0, 0]);
    server.ok("SaveDeviceProp", &tag("north")).await;
    assert_eq!(both().await, [1, 0]);
    server.ok("DeleteDevice", &device).await;
    assert_eq!(both().await, [0, 0]);
    // A later group does not find what is gone.
    let gone = group(&server, "gone", "name = 'lamp-1'").await;
    assert_eq!(devices(&server, &gone, &[]).await, Vec::<String>::new());
}

#[tokio::test]
async fn groups_know_their_kind_and_a_device_both() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    shop.device("lamp-1").await;
    let lamps = group(&server, "lamps", "name like 'lamp%'").await;
    server.engine().await;
    let of = [("ProductKey", shop.product_key.as_str()), ("DeviceName", "lamp-1")];
    let of = server.ok("QueryDeviceGroupByDevice", &of).await["GroupInfos"]["GroupInfo"].clone();
    assert_eq!(json!([of[0]["GroupName"], of[0]["GroupType"]]), json!(["lamps", "LINK_PLATFORM_DYNAMIC"]));
    let plain = server.ok("QueryDeviceListByDeviceGroup", &[("GroupId", &lamps)]).await;
    assert_eq!(names(&plain), ["lamp-1"]);
    for (kind, total) in [("LINK_PLATFORM_DYNAMIC", 1), ("LINK_PLATFORM", 0)] {
        assert_eq!(
            server.ok("QueryDeviceGroupList", &[("GroupTypes.1", kind)]).await["Total"],
            total,
            "{kind}"
        );
    }
    let relation = [
        ("GroupId", lamps.as_str()),
        ("Device.1.ProductKey", shop.product_key.as_str()),
        ("Device.1.DeviceName", "lamp-1"),
    ];
    for action in ["BatchAddDeviceGroupRelations", "BatchDeleteDeviceGroupRelations", "DeleteDeviceGroup"] {
        let params = if action == "DeleteDeviceGroup" { &relation[..1] } else { &relation[..] };
        let (code, message) = refusal(&server, action, params).await;
        assert_eq!(code, "iot.group.NotExistedGroup", "{action}");
        assert!(message.contains("dynamic group"), "{action}: {message}");
    }
    let fixed = server.ok("CreateDeviceGroup", &[("GroupName", "fixed")]).await;
    let fixed = [("GroupId", text(&fixed, "/Data/GroupId"))];
    let fixed = [("GroupId", fixed[0].1.as_str())];
    for action in ["DeleteDeviceDynamicGroup", "QueryDynamicGroupDevices"] {
        let (code, message) = refusal(&server, action, &fixed).await;
        assert_eq!(
            (code.as_str(), message.contains("static group")),
            ("iot.group.NotExistedGroup", true),
            "{action}"
        );
    }
    let within = [("GroupName", "within"), ("SuperGroupId", lamps.as_str())];
    assert_eq!(refusal(&server, "CreateDeviceGroup", &within).await.0, "iot.group.NotExistedGroup");
}

#[tokio::test]
async fn a_group_has_no_devices_of_another_instance() {
    let server = TestServer::new().await;
    let make = server.app.store.write::<_, StoreError, _>(Lane::Interactive, |tx| {
        let root = tx.account_find(ROOT_ACCOUNT)?.unwrap_or_default();
        tx.instance_insert(root, "iot-second", "second", START)
    });
    assert!(make.await.unwrap().is_some());
    let theirs = Shop::open_as(&server, "theirs_").await;
    theirs.device("lamp-1").await;
    server.act_as(ROOT, "iot-second");
    let own = Shop::open_as(&server, "own_").await;
    own.device("lamp-2").await;
    let all = group(&server, "everyone", "name like 'lamp%' or status = 'ONLINE'").await;
    assert_eq!(devices(&server, &all, &[]).await, ["lamp-2"]);
    server.act_as(ROOT, "");
    let lamp = theirs.device("lamp-3").await;
    server.device(&lamp, online(1)).await;
    server.act_as(ROOT, "iot-second");
    assert_eq!(devices(&server, &all, &[]).await, ["lamp-2"]);
}

#[tokio::test]
async fn a_deleted_group_is_forgotten_and_looks_at_nothing() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    shop.device("lamp-1").await;
    let lamps = group(&server, "lamps", "name like 'lamp%'").await;
    server.engine().await;
    server.ok("DeleteDeviceDynamicGroup", &[("GroupId", &lamps)]).await;
    shop.device("lamp-2").await;
    server.engine().await;
    assert_eq!(
        refusal(&server, "QueryDynamicGroupDevices", &[("GroupId", &lamps)]).await.0,
        "iot.group.NotExistedGroup"
    );
    let of = [("ProductKey", shop.product_key.as_str()), ("DeviceName", "lamp-1")];
    assert_eq!(server.ok("QueryDeviceGroupByDevice", &of).await["GroupInfos"]["GroupInfo"], json!([]));
    let again = group(&server, "lamps", "name = 'lamp-2'").await;
    assert_eq!(devices(&server, &again, &[]).await, ["lamp-2"]);
}

#[tokio::test]
async fn a_list_is_filtered_and_goes_on_with_a_token() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    let mut ids = Vec::new();
    for device in ["lamp-1", "lamp-2", "post-1", "lamp-3"] {
        ids.push(shop.device(device).await);
    }
    let second = server.ok("CreateProduct", &[("ProductName", "posts"), ("NodeType", "0")]).await;
    let second = text(&second, "/ProductKey");
    server.ok("RegisterDevice", &[("ProductKey", second.as_str()), ("DeviceName", "lamp-4")]).await;
    let all = group(&server, "everyone", "not name = ''").await;
    server.engine().await;
    server.device(&ids[0], online(1)).await;
    let found = async |filter: &[(&str, &str)]| devices(&server, &all, filter).await;
    assert_eq!(found(&[]).await, ["lamp-4", "lamp-3", "post-1", "lamp-2", "lamp-1"]);
    let first = shop.product_key.as_str();
    assert_eq!(found(&[("ProductKey", first), ("DeviceName", "lamp"), ("FuzzyName", "true")]).await.len(), 3);
    assert_eq!(found(&[("DeviceName", "lamp"), ("FuzzyName", "false")]).await, Vec::<String>::new());
    assert_eq!(found(&[("DeviceName", "post-1")]).await, ["post-1"]);
    assert_eq!(found(&[("Status", "ONLINE")]).await, ["lamp-1"]);
    assert_eq!(found(&[("Status", "UNACTIVE"), ("CurrentPage", "2"), ("PageSize", "3")]).await, ["lamp-2"]);
    for filter in [vec![], vec![("DeviceName", "lamp"), ("FuzzyName", "true")]] {
        let expected = if filter.is_empty() { 5 } else { 4 };
        let (mut seen, mut token) = (Vec::new(), String::new());
        loop {
            let mut params = filter.clone();
            params.extend([("PageSize", "2"), ("NextToken", token.as_str())]);
            let answer = list(&server, &all, &params).await;
            assert_eq!(
                (&answer["Total"], answer["PageCount"].as_i64()),
                (&json!(expected), Some((expected + 1) / 2))
            );
            seen.extend(names(&answer));
            token = text(&answer, "/NextToken");
            if token.is_empty() {
                break;
            }
        }
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), expected as usize, "{filter:?}: {seen:?}");
    }
}

#[tokio::test]
async fn an_expression_is_refused_with_the_place_and_groups_beyond_the_bound() {
    let server = TestServer::with(Location::Inline, |config| {
        config.quota_scale = 0.0;
        config.dynamic_group_max = 1;
    })
    .await;
    let wrong = [("GroupName", "lamps"), ("DynamicGroupExpression", "name = 'x' and colour = 'red'")];
    let (code, message) = refusal(&server, "CreateDeviceDynamicGroup", &wrong).await;
    assert_eq!(code, "iot.group.InvalidDynamicGroupExpression");
    assert!(message.contains("at character 16: expected a condition on product_key"), "{message}");
    let long = format!("name = '{}'", "x".repeat(1_016));
    let long = [("GroupName", "lamps"), ("DynamicGroupExpression", long.as_str())];
    let (code, message) = refusal(&server, "CreateDeviceDynamicGroup", &long).await;
    assert_eq!(code, "iot.group.InvalidDynamicGroupExpression");
    assert!(message.contains("at most 1024 characters"), "{message}");
    let lamps = group(&server, "lamps", "name like 'lamp%'").await;
    let more = [("GroupName", "more"), ("DynamicGroupExpression", "name like 'lamp%'")];
    let (code, message) = refusal(&server, "CreateDeviceDynamicGroup", &more).await;
    assert_eq!(code, "iot.group.GroupCountExceedMax");
    assert!(message.contains("1 dynamic groups") && message.contains("dynamic_group_max"), "{message}");
    server.ok("CreateDeviceGroup", &pairs(&[("GroupName", "static")])).await;
    server.ok("DeleteDeviceDynamicGroup", &[("GroupId", &lamps)]).await;
    let taken = [("GroupName", "static"), ("DynamicGroupExpression", "name like 'lamp%'")];
    assert_eq!(
        refusal(&server, "CreateDeviceDynamicGroup", &taken).await.0,
        "iot.group.AlreadyExistedGroupName"
    );
    group(&server, "more", "name like 'lamp%'").await;
}

#[tokio::test]
async fn a_dynamic_batch_follows_a_group_which_it_keeps_from_deletion() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    let mut ids = Vec::new();
    for device in ["lamp-1", "lamp-2", "lamp-3"] {
        ids.push(shop.device(device).await);
    }
    let tag = async |id: &str, value: &str| {
        let props = format!("{{\"site\": \"{value}\"}}");
        server.ok("SaveDeviceProp", &[("IotId", id), ("Props", props.as_str())]).await;
        server.engine().await;
    };
    tag(&ids[0], "north").await;
    let north = group(&server, "in_the_north", "tag.site = 'north'").await;
    // The engine has not looked at devices when the batch begins.
    let firmware = shop.package().await;
    let request = [
        ("FirmwareId", firmware.as_str()),
        ("ProductKey", shop.product_key.as_str()),
        ("GroupId", north.as_str()),
        ("GroupType", "LINK_PLATFORM_DYNAMIC"),
    ];
    let job = text(&server.ok("CreateOTADynamicUpgradeJob", &request).await, "/Data/JobId");
    server.engine().await;
    assert_eq!(tasks(&server, &job).await, ["lamp-1 QUEUED "]);
    tag(&ids[1], "north").await;
    assert_eq!(tasks(&server, &job).await, ["lamp-1 QUEUED ", "lamp-2 QUEUED "]);
    let of = [("GroupId", north.as_str())];
    let (code, message) = refusal(&server, "DeleteDeviceDynamicGroup", &of).await;
    assert_eq!((code.as_str(), message.contains(&job)), ("iot.group.GroupInUse", true), "{message}");
    // Who leaves the group keeps its task.
    tag(&ids[1], "south").await;
    assert_eq!(devices(&server, &north, &[]).await, ["lamp-1"]);
    assert_eq!(tasks(&server, &job).await, ["lamp-1 QUEUED ", "lamp-2 QUEUED "]);
    server.ok("CancelOTAStrategyByJob", &[("JobId", &job)]).await;
    tag(&ids[2], "north").await;
    server.ok("DeleteDeviceDynamicGroup", &of).await;
    server.engine().await;
    assert_eq!(tasks(&server, &job).await, ["lamp-1 QUEUED ", "lamp-2 QUEUED "]);
}

#[tokio::test]
async fn devices_registered_in_bulk_come_into_their_groups() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    let lamps = group(&server, "lamps", "name like 'lamp%'").await;
    let names = [
        ("ProductKey", shop.product_key.as_str()),
        ("DeviceName.1", "lamp_1"),
        ("DeviceName.2", "other"),
        ("DeviceName.3", "lamp_2"),
    ];
    let checked = server.ok("BatchCheckDeviceNames", &names).await;
    let apply = checked["Data"]["ApplyId"].as_i64().unwrap().to_string();
    let wanted = [("ProductKey", shop.product_key.as_str()), ("ApplyId", &apply)];
    server.ok("BatchRegisterDeviceWithApplyId", &wanted).await;
    assert_eq!(devices(&server, &lamps, &[]).await, ["lamp_2", "lamp_1"]);
}
