//! Registration of devices in bulk.

use crate::catalogue;
use crate::server::TestServer;
use crate::shop::{Pairs, Shop, pairs, text};
use serde_json::Value;
use std::collections::BTreeSet;
use updraft_server::engine;
use updraft_server::retention::Retention;
use updraft_store::Location;

fn id(answer: &Value) -> String {
    answer["Data"]["ApplyId"]
        .as_i64()
        .unwrap_or_else(|| panic!("there is no ApplyId in {answer}"))
        .to_string()
}

fn named(shop: &Shop<'_>, names: &[&str]) -> Pairs {
    let mut request = pairs(&[("ProductKey", &shop.product_key)]);
    request.extend((1..).zip(names).map(|(n, name)| (format!("DeviceName.{n}"), (*name).to_owned())));
    request
}

impl Shop<'_> {
    async fn check(&self, names: &[&str]) -> String {
        id(&self.server.ok("BatchCheckDeviceNames", &named(self, names)).await)
    }

    fn of(&self, apply: &str) -> Pairs {
        pairs(&[("ProductKey", &self.product_key), ("ApplyId", apply)])
    }

    async fn state(&self, apply: &str) -> Value {
        self.server.ok("QueryBatchRegisterDeviceStatus", &self.of(apply)).await["Data"].clone()
    }

    async fn made(&self, apply: &str, page: &[(&str, &str)]) -> Value {
        let request = [pairs(&[("ApplyId", apply)]), pairs(page)].concat();
        self.server.ok("QueryPageByApplyId", &request).await
    }

    async fn refusal(&self, action: &str, params: &Pairs) -> (String, String) {
        let (status, answer) = self.server.call(action, params).await;
        assert_eq!((status, &answer["Success"]), (200, &Value::Bool(false)), "{answer}");
        (text(&answer, "/Code"), text(&answer, "/ErrorMessage"))
    }
}

/// A server whose engine takes this many rows at a time.
async fn in_chunks(rows: u32, devices_max: i64) -> TestServer {
    TestServer::with(Location::Inline, |config| {
        config.quota_scale = 0.0;
        config.engine_chunk_rows = rows;
        config.devices_per_product_max = devices_max;
    })
    .await
}

#[tokio::test]
async fn names_are_checked_and_then_made_devices() {
    let server = in_chunks(2, 100).await;
    let shop = Shop::open(&server).await;
    let names = ["lamp_1", "lamp_2", "lamp_3", "lamp_4", "lamp_5"];
    let apply = shop.check(&names).await;
    assert_eq!(shop.state(&apply).await, serde_json::json!({"Status": "CHECK"}));
    server.engine().await;
    assert_eq!(shop.state(&apply).await["Status"], "CHECK_SUCCESS");
    assert_eq!(shop.made(&apply, &[]).await["Total"], 0, "a check makes no device");
    let answer = server.ok("BatchRegisterDeviceWithApplyId", &shop.of(&apply)).await;
    assert_eq!(id(&answer), apply);
    assert_eq!(shop.state(&apply).await["Status"], "CREATE");
    engine::turn(&server.app).await.unwrap();
    let some = shop.made(&apply, &[]).await;
    assert_eq!(
        (&some["Total"], &some["ApplyDeviceList"]["ApplyDeviceInfo"][1]["DeviceName"]),
        (&2.into(), &"lamp_2".into())
    );
    server.engine().await;
    assert_eq!(shop.state(&apply).await["Status"], "CREATE_SUCCESS");
    let page = shop.made(&apply, &[("CurrentPage", "2"), ("PageSize", "3")]).await;
    let of_page = ["Total", "PageCount", "PageSize", "Page"].map(|field| page[field].as_i64().unwrap());
    assert_eq!(of_page, [5, 2, 3, 2]);
    let rows = page["ApplyDeviceList"]["ApplyDeviceInfo"].as_array().unwrap();
    assert_eq!(rows.iter().map(|row| text(row, "/DeviceName")).collect::<Vec<_>>(), ["lamp_4", "lamp_5"]);
    // They are devices like any other.
    let detail = server.ok("QueryDeviceDetail", &[("IotId", &text(&rows[0], "/IotId"))]).await;
    assert_eq!(text(&detail, "/Data/DeviceSecret"), text(&rows[0], "/DeviceSecret"));
    let product = server.ok("QueryProduct", &[("ProductKey", &shop.product_key)]).await;
    assert_eq!(product["Data"]["DeviceCount"], 5);
}

#[tokio::test]
async fn random_names_need_no_check() {
    let server = in_chunks(2, 100).await;
    let shop = Shop::open(&server).await;
    let request = pairs(&[("ProductKey", &shop.product_key), ("Count", "3")]);
    let apply = id(&server.ok("BatchRegisterDevice", &request).await);
    assert_eq!(shop.state(&apply).await["Status"], "CREATE");
    let (code, _) = shop.refusal("BatchRegisterDevice", &request).await;
    assert_eq!(code, "iot.device.CreateDeviceTaskIsRunning");
    server.engine().await;
    assert_eq!(shop.state(&apply).await["Status"], "CREATE_SUCCESS");
    let page = shop.made(&apply, &[]).await;
    let names: Vec<_> = page["ApplyDeviceList"]["ApplyDeviceInfo"].as_array().unwrap().iter().collect();
    assert!(names.len() == 3 && names.iter().all(|row| text(row, "/DeviceName").len() == 20), "{page}");
    server.ok("BatchRegisterDevice", &request).await;
}

#[tokio::test]
async fn the_wish_for_devices_may_come_before_the_end_of_the_check() {
    let server = in_chunks(1, 100).await;
    let shop = Shop::open(&server).await;
    let (good, bad) = (shop.check(&["lamp_1", "lamp_2"]).await, shop.check(&["lamp_2", "lamp_3"]).await);
    server.ok("BatchRegisterDeviceWithApplyId", &shop.of(&good)).await;
    assert_eq!(shop.state(&good).await["Status"], "CHECK");
    let (code, _) = shop.refusal("BatchRegisterDeviceWithApplyId", &shop.of(&bad)).await;
    assert_eq!(code, "iot.device.CreateDeviceTaskIsRunning");
    server.engine().await;
    assert_eq!(shop.state(&good).await["Status"], "CREATE_SUCCESS");
    // What was taken meanwhile failed the other check, and a failed check makes nothing.
    assert_eq!(shop.state(&bad).await["Status"], "CHECK_FAILED");
    let (code, message) = shop.refusal("BatchRegisterDeviceWithApplyId", &shop.of(&bad)).await;
    assert!(code == "iot.device.IncorrentDeviceApplyInfo" && message.contains("BatchCheckDeviceNames"));
    let (code, message) = shop.refusal("BatchRegisterDeviceWithApplyId", &shop.of(&good)).await;
    assert!(code == "iot.device.IncorrentDeviceApplyInfo" && message.contains("already"), "{message}");
}

#[tokio::test]
async fn a_failed_check_says_which_names_are_taken() {
    let server = in_chunks(2, 100).await;
    let shop = Shop::open(&server).await;
    shop.device("lamp_2").await;
    let mut request = pairs(&[("ProductKey", &shop.product_key), ("DeviceName.1", "not this one")]);
    for (n, name) in (1..).zip(["lamp_1", "lamp_2", "lamp_3"]) {
        request.push((format!("DeviceNameList.{n}.DeviceName"), name.to_owned()));
        request.push((format!("DeviceNameList.{n}.DeviceNickname"), format!("路灯_{n}")));
    }
    let apply = id(&server.ok("BatchCheckDeviceNames", &request).await);
    server.engine().await;
    let expected = serde_json::json!({
        "Status": "CHECK_FAILED",
        "ValidList": {"Name": ["lamp_1", "lamp_3"]},
        "InvalidList": {"Name": ["lamp_2"]},
        "InvalidDetailList": {"invalidDetailList": [{
            "DeviceName": "lamp_2",
            "NickName": "路灯_2",
            "ErrorMsg": "A device of this name exists in the product already.",
        }]},
    });
    assert_eq!(shop.state(&apply).await, expected);
    // Without the device the same names are good, and their nicknames go with them.
    server.ok("DeleteDevice", &[("ProductKey", shop.product_key.as_str()), ("DeviceName", "lamp_2")]).await;
    let apply = id(&server.ok("BatchCheckDeviceNames", &request).await);
    server.ok("BatchRegisterDeviceWithApplyId", &shop.of(&apply)).await;
    server.engine().await;
    let detail = [("ProductKey", shop.product_key.as_str()), ("DeviceName", "lamp_2")];
    assert_eq!(text(&server.ok("QueryDeviceDetail", &detail).await, "/Data/Nickname"), "路灯_2");
}

#[tokio::test]
async fn a_name_taken_after_the_check_fails_alone() {
    let server = in_chunks(1, 100).await;
    let shop = Shop::open(&server).await;
    let apply = shop.check(&["lamp_1", "lamp_2", "lamp_3"]).await;
    server.engine().await;
    shop.device("lamp_2").await;
    server.ok("BatchRegisterDeviceWithApplyId", &shop.of(&apply)).await;
    server.engine().await;
    let state = shop.state(&apply).await;
    assert_eq!(state["Status"], "CREATE_FAILED");
    assert_eq!(state["ValidList"]["Name"], serde_json::json!(["lamp_1", "lamp_3"]));
    assert_eq!(state["InvalidList"]["Name"], serde_json::json!(["lamp_2"]));
    assert_eq!(shop.made(&apply, &[]).await["Total"], 2);
}

#[tokio::test]
async fn names_that_break_the_rules_are_listed_at_once() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    let mut request = pairs(&[("ProductKey", &shop.product_key)]);
    let items = [("lamp_1", ""), ("l 2", ""), ("lamp_3", "x"), ("lamp_1", "路灯_1")];
    for (n, (name, nickname)) in (1..).zip(items) {
        request.push((format!("DeviceNameList.{n}.DeviceName"), name.to_owned()));
        request.push((format!("DeviceNameList.{n}.DeviceNickname"), nickname.to_owned()));
    }
    let (status, answer) = server.call("BatchCheckDeviceNames", &request).await;
    assert_eq!((status, &answer["Success"]), (200, &Value::Bool(false)));
    assert_eq!(answer["Code"], "iot.device.InvalidFormattedDeviceName");
    let data = &answer["Data"];
    assert_eq!(data["InvalidDeviceNameList"]["InvalidDeviceName"], serde_json::json!(["l 2"]));
    assert_eq!(data["InvalidDeviceNicknameList"]["InvalidDeviceNickname"], serde_json::json!(["x"]));
    assert_eq!(data["RepeatedDeviceNameList"]["RepeatDevieNameList"], serde_json::json!(["lamp_1"]));
    let details = data["InvalidDetailList"]["InvalidDetailList"].as_array().unwrap();
    assert_eq!(
        details.iter().map(|detail| text(detail, "/DeviceName")).collect::<Vec<_>>(),
        ["l 2", "lamp_3", "lamp_1"]
    );
    assert_eq!((details[0].get("NickName"), text(&details[2], "/NickName")), (None, "路灯_1".to_owned()));
    assert!(text(&details[1], "/ErrorMsg").starts_with("Nickname"));
    catalogue::find("BatchCheckDeviceNames").check(&answer, &mut BTreeSet::new());
    let (_, xml) = server.call_xml("BatchCheckDeviceNames", &request).await;
    let list =
        "<RepeatedDeviceNameList><RepeatDevieNameList>lamp_1</RepeatDevieNameList></RepeatedDeviceNameList>";
    assert!(xml.contains(list), "{xml}");
    let repeated = named(&shop, &["lamp_1", "lamp_1"]);
    assert_eq!(shop.refusal("BatchCheckDeviceNames", &repeated).await.0, "iot.device.RepeatedDeviceName");
    let nothing = named(&shop, &[]);
    assert_eq!(shop.refusal("BatchCheckDeviceNames", &nothing).await.0, "iot.device.NoneDeviceNameElement");
}

#[tokio::test]
async fn ten_thousand_names_with_long_nicknames_are_one_call() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    let nickname = "路".repeat(32);
    let request = |count: usize| {
        let mut request = pairs(&[("ProductKey", &shop.product_key)]);
        for n in 1..=count {
            request.push((format!("DeviceNameList.{n}.DeviceName"), format!("lamp_{n:027}")));
            request.push((format!("DeviceNameList.{n}.DeviceNickname"), nickname.clone()));
        }
        request
    };
    let apply = id(&server.ok("BatchCheckDeviceNames", &request(10_000)).await);
    server.ok("BatchRegisterDeviceWithApplyId", &shop.of(&apply)).await;
    server.engine().await;
    assert_eq!(shop.state(&apply).await["Status"], "CREATE_SUCCESS");
    assert_eq!(shop.made(&apply, &[("CurrentPage", "200"), ("PageSize", "50")]).await["Total"], 10_000);
    let (code, message) = shop.refusal("BatchCheckDeviceNames", &request(10_001)).await;
    assert!(code == "iot.device.DeviceCountExceeded" && message.contains("10000"), "{message}");
}

#[tokio::test]
async fn a_product_has_at_most_so_many_devices() {
    let server = in_chunks(1, 4).await;
    let shop = Shop::open(&server).await;
    let apply = shop.check(&["lamp_1", "lamp_2", "lamp_3"]).await;
    server.ok("BatchRegisterDeviceWithApplyId", &shop.of(&apply)).await;
    // Others come in between.
    shop.device("lamp_4").await;
    shop.device("lamp_5").await;
    server.engine().await;
    let state = shop.state(&apply).await;
    assert_eq!(
        (&state["Status"], &state["InvalidList"]["Name"]),
        (&"CREATE_FAILED".into(), &serde_json::json!(["lamp_3"]))
    );
    assert_eq!(
        state["InvalidDetailList"]["invalidDetailList"][0]["ErrorMsg"],
        "The product has as many devices as it may have."
    );
    let register = pairs(&[("ProductKey", &shop.product_key), ("DeviceName", "lamp_6")]);
    let bulk = pairs(&[("ProductKey", &shop.product_key), ("Count", "1")]);
    let checked = shop.check(&["lamp_6"]).await;
    let full = [
        ("RegisterDevice", register),
        ("BatchRegisterDevice", bulk),
        ("BatchRegisterDeviceWithApplyId", shop.of(&checked)),
    ];
    for (action, request) in full {
        let (code, message) = shop.refusal(action, &request).await;
        assert_eq!(code, "iot.prod.DeviceCountExceedMax", "{action}");
        assert!(message.contains("devices_per_product_max") && message.contains('4'), "{message}");
    }
}

#[tokio::test]
async fn registrations_are_forgotten_after_their_time_and_devices_are_not() {
    let server = in_chunks(100, 100).await;
    let shop = Shop::open(&server).await;
    let apply = id(&server
        .ok("BatchRegisterDevice", &pairs(&[("ProductKey", &shop.product_key), ("Count", "2")]))
        .await);
    server.engine().await;
    let day_ms = 24 * 3_600 * 1_000;
    server.later_ms(server.app.config.device_apply_days * day_ms);
    while Retention::default().forget(&server.app).await.unwrap() {}
    assert_eq!(shop.made(&apply, &[]).await["Total"], 2, "not a moment too early");
    server.later_ms(1);
    while Retention::default().forget(&server.app).await.unwrap() {}
    let (code, _) = shop.refusal("QueryPageByApplyId", &pairs(&[("ApplyId", &apply)])).await;
    assert_eq!(code, "iot.device.DeviceApplyIsNotFound");
    assert_eq!(server.ok("QueryDevice", &[("ProductKey", &shop.product_key)]).await["Total"], 2);
}

#[tokio::test]
async fn failed_checks_do_not_pile_up_whatever_was_wished() {
    let server = TestServer::with(Location::Inline, |config| {
        config.quota_scale = 0.0;
        config.device_checks_max = 2;
    })
    .await;
    let shop = Shop::open(&server).await;
    shop.device("lamp_1").await;
    let mut failed = Vec::new();
    for _ in 0..4 {
        let apply = shop.check(&["lamp_1"]).await;
        server.ok("BatchRegisterDeviceWithApplyId", &shop.of(&apply)).await;
        server.engine().await;
        assert_eq!(shop.state(&apply).await["Status"], "CHECK_FAILED");
        failed.push(apply);
    }
    for (apply, kept) in failed.iter().zip([false, false, true, true]) {
        let (_, answer) = server.call("QueryPageByApplyId", &pairs(&[("ApplyId", apply)])).await;
        assert_eq!(answer["Success"], kept, "{answer}");
    }
}

#[tokio::test]
async fn another_products_registration_is_not_found() {
    let server = TestServer::new().await;
    let (shop, other) = (Shop::open(&server).await, Shop::open_as(&server, "other_").await);
    let apply = shop.check(&["lamp_1"]).await;
    for action in ["BatchRegisterDeviceWithApplyId", "QueryBatchRegisterDeviceStatus"] {
        let (code, _) = other.refusal(action, &other.of(&apply)).await;
        assert_eq!(code, "iot.device.DeviceApplyIsNotFound", "{action}");
    }
}

#[tokio::test]
async fn a_product_is_not_deleted_while_its_devices_are_being_made() {
    let server = in_chunks(100, 100).await;
    let shop = Shop::open(&server).await;
    let apply = shop.check(&["lamp_1"]).await;
    server.ok("BatchRegisterDeviceWithApplyId", &shop.of(&apply)).await;
    let product = pairs(&[("ProductKey", &shop.product_key)]);
    let (code, _) = shop.refusal("DeleteProduct", &product).await;
    assert_eq!(code, "iot.device.CreateDeviceTaskIsRunning");
}
