//! ListOTAJobByFirmware, literally against its page.

use crate::rules::asked;
use crate::server::{OTHER_ACCOUNT, ROOT, TestServer};
use crate::shop::{Shop, text};
use crate::tree;
use http::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use updraft_server::device::link::DeviceEvent;

const ACTION: &str = "ListOTAJobByFirmware";

fn page<'a>(firmware: &'a str, number: &'a str, size: &'a str) -> [(&'a str, &'a str); 3] {
    [("FirmwareId", firmware), ("CurrentPage", number), ("PageSize", size)]
}

fn rows(answer: &Value) -> Vec<Value> {
    answer["Data"]["SimpleOTAJobInfo"].as_array().unwrap_or_else(|| panic!("{answer}")).clone()
}

fn fields(row: &Value) -> BTreeSet<String> {
    row.as_object().unwrap().keys().cloned().collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

const ALWAYS: [&str; 10] = [
    "JobId",
    "JobStatus",
    "JobType",
    "FirmwareId",
    "ProductKey",
    "SelectionType",
    "TargetSelection",
    "UtcCreate",
    "UtcModified",
    "UtcStartTime",
];

#[tokio::test]
async fn a_running_batch_without_tags_looks_as_on_the_page() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    shop.device("lamp-1").await;
    let firmware = shop.package().await;
    let job = shop.batch(&firmware, "lamp-1", &[]).await;
    let answer = server.ok(ACTION, &page(&firmware, "1", "10")).await;
    let envelope = ["RequestId", "Success", "Total", "PageCount", "PageSize", "CurrentPage", "Data"];
    assert_eq!(fields(&answer), set(&envelope));
    assert_eq!(fields(&answer["Data"]), set(&["SimpleOTAJobInfo"]));
    assert_eq!(
        json!([answer["Total"], answer["PageCount"], answer["PageSize"], answer["CurrentPage"]]),
        json!([1, 1, 10, 1])
    );
    let start = "2024-05-20T12:00:00.000Z";
    let wanted = json!({
        "JobId": job, "JobStatus": "IN_PROGRESS", "JobType": "UPGRADE_FIRMWARE", "FirmwareId": firmware,
        "ProductKey": shop.product_key, "SelectionType": "STATIC", "TargetSelection": "SPECIFIC",
        "UtcCreate": start, "UtcModified": start, "UtcStartTime": start,
    });
    assert_eq!(rows(&answer), [wanted]);
}

#[tokio::test]
async fn tags_are_wrapped_and_keep_their_order() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    shop.device("lamp-1").await;
    let firmware = shop.package().await;
    let tags =
        [("Tag.1.Key", "key1"), ("Tag.1.Value", "value1"), ("Tag.2.Key", "a.key"), ("Tag.2.Value", "路")];
    shop.batch(&firmware, "lamp-1", &tags).await;
    let answer = server.ok(ACTION, &page(&firmware, "1", "10")).await;
    let row = &rows(&answer)[0];
    let mut names = set(&ALWAYS);
    names.insert("Tags".to_owned());
    assert_eq!(fields(row), names);
    assert_eq!(
        row["Tags"],
        json!({"OtaTagDTO": [{"Key": "key1", "Value": "value1"}, {"Key": "a.key", "Value": "路"}]})
    );
}

/// A package with an ended verification, a completed batch, a cancelled one and a running one.
async fn history(shop: &Shop<'_>) -> String {
    let server = shop.server;
    let report =
        |version: &str| DeviceEvent::Report { module: "default".to_owned(), version: version.to_owned() };
    let devices = [shop.device("lamp-1").await, shop.device("lamp-2").await];
    shop.device("lamp-3").await;
    shop.device("lamp-4").await;
    let firmware = shop.unverified().await;
    shop.verification(&firmware, "lamp-1").await;
    server.later_ms(60_000);
    server.device(&devices[0], report("2.0.0")).await;
    shop.batch(&firmware, "lamp-2", &[]).await;
    server.later_ms(60_000);
    server.device(&devices[1], report("2.0.0")).await;
    let cancelled = shop.batch(&firmware, "lamp-3", &[]).await;
    server.later_ms(60_000);
    server.ok("CancelOTATaskByJob", &[("JobId", cancelled.as_str()), ("CancelQueuedTask", "true")]).await;
    shop.batch(&firmware, "lamp-4", &[]).await;
    firmware
}

fn column(answer: &Value, name: &str) -> Vec<String> {
    rows(answer).iter().map(|row| text(row, &format!("/{name}"))).collect()
}

#[tokio::test]
async fn states_and_kinds_are_spelt_as_on_this_page_and_not_as_in_query_ota_job() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    let firmware = history(&shop).await;
    let answer = server.ok(ACTION, &page(&firmware, "1", "10")).await;
    assert_eq!(column(&answer, "JobStatus"), ["IN_PROGRESS", "CANCELED", "COMPLETE", "COMPLETE"]);
    let upgrade = "UPGRADE_FIRMWARE";
    assert_eq!(column(&answer, "JobType"), [upgrade, upgrade, upgrade, "VERFIY_FIRMWARE"]);
    let mut modern = Vec::new();
    for job in column(&answer, "JobId") {
        let job = server.ok("QueryOTAJob", &[("JobId", job)]).await;
        modern.push((text(&job, "/Data/JobStatus"), text(&job, "/Data/JobType")));
    }
    assert_eq!(modern[0], ("IN_PROGRESS".to_owned(), upgrade.to_owned()));
    assert_eq!(modern[1], ("CANCELED".to_owned(), upgrade.to_owned()));
    assert_eq!(modern[2], ("COMPLETED".to_owned(), upgrade.to_owned()));
    assert_eq!(modern[3], ("COMPLETED".to_owned(), "VERIFY_FIRMWARE".to_owned()));
}

#[tokio::test]
async fn with_modern_spelling_this_list_says_what_query_ota_job_says() {
    let server = TestServer::with(updraft_store::Location::Inline, |config| {
        config.quota_scale = 0.0;
        config.modern_spelling = true;
    })
    .await;
    let shop = Shop::open(&server).await;
    let firmware = history(&shop).await;
    let answer = server.ok(ACTION, &page(&firmware, "1", "10")).await;
    assert_eq!(column(&answer, "JobStatus"), ["IN_PROGRESS", "CANCELED", "COMPLETED", "COMPLETED"]);
    assert_eq!(column(&answer, "JobType")[3], "VERIFY_FIRMWARE");
}

#[tokio::test]
async fn only_ended_batches_have_an_end() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    let firmware = history(&shop).await;
    let answer = server.ok(ACTION, &page(&firmware, "1", "10")).await;
    let ends: Vec<Option<String>> =
        rows(&answer).iter().map(|row| row["UtcEndTime"].as_str().map(str::to_owned)).collect();
    let minute = |n: u32| Some(format!("2024-05-20T12:0{n}:00.000Z"));
    assert_eq!(ends, [None, minute(3), minute(2), minute(1)]);
    let all = rows(&answer);
    for row in all.iter().filter(|row| row.get("UtcEndTime").is_some()) {
        assert_eq!(row["UtcModified"], row["UtcEndTime"], "the end is a change of the batch");
    }
}

#[tokio::test]
async fn progress_of_a_device_does_not_move_the_batchs_modification_time() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    let device = shop.device("lamp-1").await;
    let firmware = shop.package().await;
    shop.batch(&firmware, "lamp-1", &[]).await;
    server.later_ms(60_000);
    let module = "default".to_owned();
    server.device(&device, DeviceEvent::Pull { module: module.clone(), asked: asked() }).await;
    server.device(&device, DeviceEvent::Progress { module, percent: 50, desc: String::new() }).await;
    let answer = server.ok(ACTION, &page(&firmware, "1", "10")).await;
    assert_eq!(column(&answer, "UtcModified"), ["2024-05-20T12:00:00.000Z"]);
}

#[tokio::test]
async fn pages_part_all_batches_newest_first() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    let firmware = shop.package().await;
    let mut made = Vec::new();
    for number in 0..23 {
        let name = format!("lamp-{number}");
        shop.device(&name).await;
        made.push(shop.batch(&firmware, &name, &[]).await);
    }
    made.reverse();
    for size in [1, 7, 10, 22, 23, 24, 200] {
        let mut found = Vec::new();
        let pages = 23_usize.div_ceil(size);
        for number in 1..=pages {
            let (number, size) = (number.to_string(), size.to_string());
            let answer = server.ok(ACTION, &page(&firmware, &number, &size)).await;
            let said =
                json!([answer["Total"], answer["PageCount"], answer["PageSize"], answer["CurrentPage"]]);
            assert_eq!(said.to_string(), format!("[23,{pages},{size},{number}]"));
            found.extend(column(&answer, "JobId"));
        }
        assert_eq!(found, made, "pages of {size}");
        // Behind the last page there is nothing, and that is no error.
        let (number, size) = ((pages + 1).to_string(), size.to_string());
        let answer = server.ok(ACTION, &page(&firmware, &number, &size)).await;
        assert_eq!((rows(&answer).len(), answer["Total"].as_i64()), (0, Some(23)));
    }
    // Another package's batches are not in the list.
    let answer = server.ok(ACTION, &page(&shop.package().await, "1", "10")).await;
    assert_eq!((rows(&answer).len(), &answer["Total"], &answer["PageCount"]), (0, &json!(0), &json!(0)));
}

#[tokio::test]
async fn page_sizes_go_from_1_to_200() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    let firmware = shop.package().await;
    for (number, size, good) in [
        ("1", "1", true),
        ("1", "200", true),
        ("9223372036854775807", "1", true),
        ("1", "201", false),
        ("1", "0", false),
        ("1", "-1", false),
        ("0", "10", false),
        ("-1", "10", false),
        ("9223372036854775807", "200", false),
    ] {
        let answer = server.call_as(ROOT, "JSON", ACTION, &page(&firmware, number, size)).await;
        let code = if good { "" } else { "iot.common.InvalidPageParams" };
        assert_eq!((answer.status, answer.code().as_str()), (200, code), "{number} {size}");
    }
    for (number, size, code) in [("x", "10", "InvalidCurrentPage"), ("1", "1.5", "InvalidPageSize")] {
        let answer = server.call_as(ROOT, "JSON", ACTION, &page(&firmware, number, size)).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, code));
    }
}

#[tokio::test]
async fn the_format_is_json_or_xml_in_any_case_and_xml_if_absent() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    let firmware = history(&shop).await;
    let (json, xml) = ("application/json;charset=utf-8", "text/xml;charset=utf-8");
    let mut trees = Vec::new();
    for (format, kind) in [
        (Some("JSON"), json),
        (Some("json"), json),
        (Some("XML"), xml),
        (Some("xml"), xml),
        (Some(""), xml),
        (None, xml),
    ] {
        for method in [Method::GET, Method::POST] {
            let mut params = server.common(ROOT, ACTION, format.unwrap_or_default());
            if format.is_none() {
                params.remove("Format");
            }
            for (name, value) in page(&firmware, "1", "3") {
                params.insert(name.to_owned(), value.to_owned());
            }
            let answer = server.send_signed(method, ROOT, params).await;
            assert_eq!((answer.status, answer.header("content-type")), (200, kind), "{format:?}");
            let root = format!("{ACTION}Response");
            let mut tree = if kind == json {
                tree::from_json(&root, &answer.json())
            } else {
                tree::from_xml(&answer.body)
            };
            tree.fields.retain(|field| field.name != "RequestId");
            trees.push(tree);
        }
    }
    assert!(trees.windows(2).all(|pair| pair[0] == pair[1]), "{trees:#?}");
}

#[tokio::test]
async fn the_xml_document_is_the_pages_with_a_list_of_plain_elements() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    let firmware = shop.package().await;
    let (status, xml) = server.call_xml(ACTION, &page(&firmware, "1", "10")).await;
    let (_, id) = xml.split_once("<RequestId>").unwrap();
    let id = &id[..36];
    assert_eq!(status, 200);
    assert_eq!(
        xml,
        format!(
            "<?xml version='1.0' encoding='UTF-8'?><ListOTAJobByFirmwareResponse><RequestId>{id}</RequestId>\
             <Success>true</Success><Total>0</Total><PageCount>0</PageCount><PageSize>10</PageSize>\
             <CurrentPage>1</CurrentPage><Data></Data></ListOTAJobByFirmwareResponse>"
        )
    );
}

#[tokio::test]
async fn an_unknown_package_another_accounts_package_and_an_instance_are_refused() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    let firmware = shop.package().await;
    let (status, answer) = server.call(ACTION, &page("unknown", "1", "10")).await;
    let id = answer["RequestId"].clone();
    let wanted = json!({
        "RequestId": id, "Success": false, "Code": "iot.ota.FirmwareNotFound",
        "ErrorMessage": "The specified firmware does not exist.",
    });
    assert_eq!((status, answer), (200, wanted));
    let answer = server.call_as(OTHER_ACCOUNT, "JSON", ACTION, &page(&firmware, "1", "10")).await;
    assert_eq!(answer.code(), "iot.ota.FirmwareNotFound", "no word about what others have");
    let mut params = page(&firmware, "1", "10").to_vec();
    params.push(("IotInstanceId", "iot-cn-0pp1n8t0001"));
    let answer = server.call_as(ROOT, "JSON", ACTION, &params).await;
    assert_eq!((answer.status, answer.code().as_str()), (200, "iot.system.InstanceNotFound"));
    let (_, xml) = server.call_xml(ACTION, &page("unknown", "1", "10")).await;
    let tree = tree::from_xml(&xml);
    assert_eq!(tree.name, "ListOTAJobByFirmwareResponse", "a business error has the operation's root");
    assert_eq!((tree.text("Success"), tree.text("Code")), ("false", "iot.ota.FirmwareNotFound"));
}
