//! Tags of devices, and questions about many devices.

use crate::server::{START, TestServer};
use crate::shop::{Shop, pairs, text};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use updraft_core::id::InstanceNo;
use updraft_server::device::link::DeviceEvent;
use updraft_store::{Lane, NewDevice, StoreError};

fn props(count: usize, prefix: &str) -> String {
    let all: serde_json::Map<String, Value> =
        (0..count).map(|n| (format!("{prefix}{n}"), Value::from("v"))).collect();
    Value::Object(all).to_string()
}

#[tokio::test]
async fn a_device_has_a_hundred_tags_at_most() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    let id = shop.device("lamp-1").await;
    let save = async |props: &str| {
        server.call("SaveDeviceProp", &[("IotId", id.as_str()), ("Props", props)]).await.1
    };
    assert_eq!(save(&props(99, "a")).await["Success"], true);
    assert_eq!(save(&props(2, "b")).await["Code"], "iot.device.DevicePropertyCountExceeded");
    assert_eq!(save(&props(101, "c")).await["Code"], "iot.device.TooManyDevicePropertiesPerTime");
    assert_eq!(save(&props(1, "b")).await["Success"], true);
    // New values for tags that it has are always welcome.
    assert_eq!(save(&props(99, "a").replace("\"v\"", "\"w\"")).await["Success"], true);
    assert_eq!(save(&props(1, "c")).await["Code"], "iot.device.DevicePropertyCountExceeded");
    server.ok("DeleteDeviceProp", &[("IotId", id.as_str()), ("PropKey", "a0")]).await;
    assert_eq!(save(&props(1, "c")).await["Success"], true);
}

#[tokio::test]
async fn a_tag_of_a_whole_fleet_is_searched_in_pieces() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    // The smallest number and the largest value.
    let id = shop.device("lamp-1").await;
    server.ok("SaveDeviceProp", &[("IotId", id.as_str()), ("Props", r#"{"site": "z"}"#)]).await;
    let key = shop.product_key.clone();
    let fleet = server.app.store.write(Lane::Bulk, move |tx| {
        let product = tx.product_find(InstanceNo(1), &key)?.expect("it was made");
        let device = |n: usize| NewDevice {
            product: product.no,
            name: format!("fleet-{n}"),
            iot_id: format!("fleet-{n}"),
            secret_sealed: Vec::new(),
            nickname: None,
        };
        let new: Vec<NewDevice> = (2..=10_002).map(device).collect();
        let tags = BTreeMap::from([("site".to_owned(), "hall".to_owned())]);
        for (_, device) in tx.devices_insert(product.no, &new, START)? {
            tx.device_tags_put(product.instance, device, &tags)?;
        }
        Ok::<_, StoreError>(())
    });
    fleet.await.unwrap();
    let page = async |number: &str, tag: &[(&str, &str)]| {
        let request = [tag, &[("CurrentPage", number), ("PageSize", "50")]].concat();
        let answer = server.ok("QueryDeviceByTags", &request).await;
        let rows = answer["Data"]["SimpleDeviceInfo"].as_array().unwrap().clone();
        let names = rows.iter().map(|row| text(row, "/DeviceName")).collect::<Vec<_>>();
        (answer["Total"].as_i64().unwrap(), names.first().cloned(), names.last().cloned())
    };
    let named = |name: &str| Some(name.to_owned());
    let any = [("Tag.1.TagKey", "site")];
    assert_eq!(page("1", &any).await, (10_002, named("fleet-10002"), named("fleet-9953")));
    assert_eq!(page("201", &any).await, (10_002, named("fleet-2"), named("lamp-1")));
    let hall = [any[0], ("Tag.1.TagValue", "hall")];
    assert_eq!(page("200", &hall).await, (10_001, named("fleet-52"), named("fleet-3")));
    assert_eq!(page("202", &hall).await, (10_001, None, None));
}

#[tokio::test]
async fn tags_are_answered_as_json_and_found() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    let (first, second) = (shop.device("lamp-1").await, shop.device("lamp-2").await);
    for (id, props) in
        [(&first, r#"{"site": "北-1", "floor": 3}"#), (&second, r#"{"site": "北-1", "lit": true}"#)]
    {
        server.ok("SaveDeviceProp", &[("IotId", id.as_str()), ("Props", props)]).await;
    }
    let answer = server.ok("QueryDeviceProp", &[("IotId", &first)]).await;
    let tags: Value = serde_json::from_str(&text(&answer, "/Props")).unwrap();
    assert_eq!(tags, json!({"site": "北-1", "floor": "3"}));
    let found = async |tags: &[(&str, &str)]| {
        let answer = server.ok("QueryDeviceByTags", tags).await;
        let devices = answer["Data"]["SimpleDeviceInfo"].as_array().unwrap().clone();
        assert_eq!(answer["Total"], devices.len());
        devices.iter().map(|device| text(device, "/DeviceName")).collect::<Vec<_>>().join(" ")
    };
    let site = [("Tag.1.TagKey", "site"), ("Tag.1.TagValue", "北-1")];
    assert_eq!(found(&site).await, "lamp-2 lamp-1");
    assert_eq!(
        found(&[site[0], site[1], ("Tag.2.TagKey", "floor"), ("Tag.2.TagValue", "3")]).await,
        "lamp-1"
    );
    assert_eq!(found(&[site[0], site[1], ("Tag.2.TagKey", "floor"), ("Tag.2.TagValue", "4")]).await, "");
    assert_eq!(found(&[("Tag.1.TagKey", "lit")]).await, "lamp-2");
    // Deleting what is not there is no error.
    for _ in 0..2 {
        server.ok("DeleteDeviceProp", &[("IotId", second.as_str()), ("PropKey", "lit")]).await;
    }
    assert_eq!(found(&[("Tag.1.TagKey", "lit")]).await, "");
}

#[tokio::test]
async fn details_and_states_of_many_come_in_the_order_asked_for_without_strangers() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    let (first, second) = (shop.device("lamp-1").await, shop.device("lamp-2").await);
    server.device(&first, DeviceEvent::Online { session: 1, ip: "192.0.2.7".to_owned() }).await;
    let asked = pairs(&[
        ("ProductKey", &shop.product_key),
        ("DeviceName.1", "lamp-2"),
        ("DeviceName.2", "nobody"),
        ("DeviceName.3", "lamp-1"),
        ("DeviceName.4", "lamp-2"),
    ]);
    let details = server.ok("BatchQueryDeviceDetail", &asked).await;
    let states = server.ok("BatchGetDeviceState", &asked).await;
    for list in [&details["Data"]["Data"], &states["DeviceStatusList"]["DeviceStatus"]] {
        let names: Vec<String> =
            list.as_array().unwrap().iter().map(|device| text(device, "/DeviceName")).collect();
        assert_eq!(names, ["lamp-2", "lamp-1"]);
        assert_eq!((&list[0]["Status"], &list[1]["Status"]), (&json!("UNACTIVE"), &json!("ONLINE")));
    }
    // IotId wins over names.
    let by_id = [pairs(&[("IotId.1", &first), ("IotId.2", "nobody"), ("IotId.3", &first)]), asked].concat();
    let states = server.ok("BatchGetDeviceState", &by_id).await;
    assert_eq!(states["DeviceStatusList"]["DeviceStatus"].as_array().unwrap().len(), 1);
    assert_eq!(text(&states, "/DeviceStatusList/DeviceStatus/0/AsAddress"), "192.0.2.7");
    let nothing = server.call("BatchGetDeviceState", &[("ProductKey", &shop.product_key)]).await;
    assert_eq!(nothing.1["Code"], "iot.device.NullDeviceName");
    let details = server.ok("QueryDeviceInfo", &[("IotId", &second)]).await;
    assert_eq!(text(&details, "/Data/ProductKey"), shop.product_key);
}

#[tokio::test]
async fn more_devices_than_one_call_may_name_are_refused() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    let many = |name: &str, count: usize| {
        let mut asked = pairs(&[("ProductKey", &shop.product_key)]);
        asked.extend((1..=count).map(|n| (format!("{name}.{n}"), format!("device-{n}"))));
        asked
    };
    for (action, name, max) in [
        ("BatchQueryDeviceDetail", "DeviceName", 100),
        ("BatchGetDeviceState", "DeviceName", 50),
        ("BatchGetDeviceState", "IotId", 50),
    ] {
        server.ok(action, &many(name, max)).await;
        let (status, answer) = server.call(action, &many(name, max + 1)).await;
        assert_eq!((status, text(&answer, "/Code")), (400, format!("Invalid{name}")), "{action}");
    }
    let tags =
        |count: usize| (1..=count).map(|n| (format!("Tag.{n}.TagKey"), format!("k{n}"))).collect::<Vec<_>>();
    server.ok("QueryDeviceByTags", &tags(10)).await;
    assert_eq!(server.call("QueryDeviceByTags", &tags(11)).await.1["Code"], "InvalidTag");
}

#[tokio::test]
async fn devices_are_counted_by_product_by_group_by_both_and_all() {
    let server = TestServer::new().await;
    let (shop, other) = (Shop::open(&server).await, Shop::open_as(&server, "other_").await);
    let first = shop.device("lamp-1").await;
    let second = shop.device("lamp-2").await;
    let theirs = other.device("theirs").await;
    other.device("never").await;
    for id in [&first, &second, &theirs] {
        server.device(id, DeviceEvent::Online { session: 1, ip: "192.0.2.7".to_owned() }).await;
    }
    server.device(&second, DeviceEvent::Offline { session: 1 }).await;
    let group = server.ok("CreateDeviceGroup", &[("GroupName", "cellar")]).await;
    let group = text(&group, "/Data/GroupId");
    let members = pairs(&[
        ("GroupId", &group),
        ("Device.1.ProductKey", &shop.product_key),
        ("Device.1.DeviceName", "lamp-2"),
        ("Device.2.ProductKey", &other.product_key),
        ("Device.2.DeviceName", "theirs"),
    ]);
    server.ok("BatchAddDeviceGroupRelations", &members).await;
    let counts = async |asked: &[(&str, &str)]| {
        let all = server.ok("QueryDeviceStatistics", asked).await;
        ["deviceCount", "activeCount", "onlineCount"].map(|name| all["Data"][name].as_i64().unwrap())
    };
    let (of_shop, of_group) = (("ProductKey", &*shop.product_key), ("GroupId", &*group));
    assert_eq!(counts(&[]).await, [4, 3, 2]);
    assert_eq!(counts(&[of_shop]).await, [2, 2, 1]);
    assert_eq!(counts(&[("ProductKey", &other.product_key)]).await, [2, 1, 1]);
    assert_eq!(counts(&[of_group]).await, [2, 2, 1]);
    assert_eq!(counts(&[of_group, of_shop]).await, [1, 1, 0]);
}
