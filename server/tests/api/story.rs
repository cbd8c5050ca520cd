//! One story that touches every operation, told twice: in JSON and in XML.
//!
//! Two servers with the same randomness and the same clock must give the same answers, ids included, so the
//! XML document can be compared with the JSON answer as a tree.

use crate::catalogue;
use crate::rules::asked;
use crate::server::{ROOT, TestServer};
use crate::shop::{IMAGE, IMAGE_MD5};
use crate::tree::{self, Field};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use updraft_core::task::FailedStep;
use updraft_core::time::MINUTE_MS;
use updraft_server::api::OPERATIONS;
use updraft_server::device::link::DeviceEvent;
use updraft_store::Location;

#[path = "story_devices.rs"]
mod story_devices;
#[path = "story_dynamic.rs"]
mod story_dynamic;
#[path = "story_group.rs"]
mod story_group;
#[path = "story_lifecycle.rs"]
mod story_lifecycle;
#[path = "story_products.rs"]
mod story_products;
#[path = "story_topology.rs"]
mod story_topology;

/// Fields of the platform that no answer of this release has, and why.
const NEVER_ANSWERED: [(&str, &[&str], &str); 10] = [
    ("RegisterDevice", &["Data.DevEui", "Data.JoinEui"], "LoRa is refused"),
    ("QueryOTAJob", &["Data.GroupId", "Data.GroupName"], "the batches asked for are not of groups"),
    ("QueryOTAJob", &["Data.JobDesc"], "nothing describes a batch"),
    ("QueryProduct", &["Data.CategoryName"], "categories are only known by their keys"),
    ("CreateProductTags", &story_products::REFUSED_TAGS, "only failures have them"),
    ("UpdateProductTags", &story_products::REFUSED_TAGS, "only failures have them"),
    ("BatchCheckDeviceNames", &story_lifecycle::REFUSED_NAMES, "only failures have them"),
    ("QueryPageByApplyId", &["ApplyDeviceList.ApplyDeviceInfo[].DeviceId"], "the page calls it obsolete"),
    ("QueryDevice", &["Data.DeviceInfo[].DeviceId"], "the page calls it obsolete"),
    ("BatchGetDeviceState", &["DeviceStatusList.DeviceStatus[].DeviceId"], "the page calls it obsolete"),
];

/// Fields that only failures have.
const OF_FAILURES: [&str; 2] = ["Code", "ErrorMessage"];

/// An answer of the story.
struct Told {
    action: &'static str,
    tree: Field,
    json: Option<Value>,
}

struct Story {
    server: TestServer,
    format: &'static str,
    told: Vec<Told>,
}

impl Story {
    /// Calls an operation, which must succeed, and notes the answer.
    async fn call(&mut self, action: &'static str, params: &[(&str, &str)]) -> Field {
        self.server.later_ms(1_234);
        let answer = self.server.call_as(ROOT, self.format, action, params).await;
        assert_eq!(answer.status, 200, "{action}: {}", answer.body);
        let (tree, json, kind) = match self.format {
            "JSON" => {
                let json = answer.json();
                let tree = tree::from_json(&format!("{action}Response"), &json);
                (tree, Some(json), "application/json;charset=utf-8")
            }
            _ => (tree::from_xml(&answer.body), None, "text/xml;charset=utf-8"),
        };
        assert_eq!(answer.header("content-type"), kind);
        assert_eq!(answer.header("x-acs-request-id"), tree.text("RequestId"));
        assert_eq!(tree.text("Success"), "true", "{action}: {}", answer.body);
        let mut told = tree.clone();
        // A drawn key is another one in each telling: what is compared is the form.
        if let Some(certificate) = told.fields.iter_mut().find(|field| field.name == "DeviceCertInfo") {
            for pem in &mut certificate.fields {
                pem.text.retain(|letter| letter == '\n' || letter == '-');
            }
        }
        self.told.push(Told { action, tree: told, json });
        tree
    }

    async fn device(&self, iot_id: &str, event: DeviceEvent) {
        self.server.later_ms(1_000);
        self.server.device(iot_id, event).await;
    }
}

fn report(version: &str) -> DeviceEvent {
    DeviceEvent::Report { module: "default".to_owned(), version: version.to_owned() }
}

async fn tell(format: &'static str) -> Vec<Told> {
    let server = TestServer::with(Location::Inline, |config| {
        config.quota_scale = 0.0;
        // Plans say what the caps are.
        config.download_bytes_per_second = 1_000_000;
        config.download_device_bytes_per_second = 100_000;
    })
    .await;
    let mut story = Story { server, format, told: Vec::new() };
    let product = story
        .call(
            "CreateProduct",
            &[
                ("ProductName", "路灯_lamp"),
                ("NodeType", "0"),
                ("AliyunCommodityCode", "iothub_senior"),
                ("DataFormat", "1"),
                ("NetType", "CELLULAR"),
                ("Description", "lamps & <posts> \"in the street\""),
            ],
        )
        .await;
    let key = product.text("ProductKey").to_owned();
    let mut devices = Vec::new();
    for name in ["lamp-1", "lamp-2", "lamp-3"] {
        let params = [("ProductKey", key.as_str()), ("DeviceName", name), ("Nickname", "路灯一号")];
        let device = story.call("RegisterDevice", &params).await;
        devices.push(device.text("Data/IotId").to_owned());
    }
    // Never connected: fewer fields.
    story.call("QueryDeviceDetail", &[("IotId", &devices[0])]).await;
    story.device(&devices[0], DeviceEvent::Online { session: 1, ip: "192.0.2.7".to_owned() }).await;
    story.device(&devices[0], report("1.0.0")).await;
    story.call("QueryDeviceDetail", &[("ProductKey", &key), ("DeviceName", "lamp-1")]).await;
    let package = verified_package(&mut story, &key, &devices[0]).await;
    several_files(&mut story, &key).await;
    modules(&mut story, &key, &devices[1]).await;
    batch(&mut story, &key, &package, &devices[1]).await;
    planned_share(&mut story, &key, &package, &devices[2]).await;
    story_dynamic::dynamic(&mut story, &key, &package, &devices[2]).await;
    story_group::groups(&mut story, &key).await;
    story_devices::tell(&mut story, &key).await;
    story_products::tell(&mut story).await;
    story_lifecycle::lives(&mut story, &key).await;
    story_lifecycle::bulk(&mut story, &key).await;
    story_topology::gateways(&mut story, &key).await;
    story.call("QueryProduct", &[("ProductKey", &key)]).await;
    story.call("QueryProductList", &[("CurrentPage", "1"), ("PageSize", "200")]).await;
    story.call("QueryDevice", &[("ProductKey", &key), ("PageSize", "2")]).await;
    story.told
}

/// A share of the devices is upgraded at a given time, if their users agree; one of them after all.
async fn planned_share(story: &mut Story, key: &str, package: &str, device: &str) {
    story.call("GetDeviceStatus", &[("IotId", device)]).await;
    story.device(device, report("1.0.0")).await;
    let now = story.server.app.now();
    let (start, finish) =
        (now.plus_ms(6 * MINUTE_MS).0.to_string(), now.plus_ms(90 * MINUTE_MS).0.to_string());
    let batch = story
        .call(
            "CreateOTAStaticUpgradeJob",
            &[
                ("FirmwareId", package),
                ("ProductKey", key),
                ("TargetSelection", "GRAY"),
                ("GrayPercent", "33.333"),
                ("SrcVersion.1", "1.0.0"),
                ("SrcVersion.2", "1.1.0"),
                ("ScheduleTime", &start),
                ("ScheduleFinishTime", &finish),
                ("NeedConfirm", "true"),
                ("RetryInterval", "10"),
                ("RetryCount", "2"),
                ("TimeoutInMinutes", "30"),
            ],
        )
        .await;
    let batch = batch.text("Data/JobId").to_owned();
    story.server.engine().await;
    story.call("QueryOTAJob", &[("JobId", &batch)]).await;
    let waiting = [("IotId", device), ("TaskStatus", "CONFIRM")];
    let task = story.call("ListOTAUnfinishedTaskByDevice", &waiting).await;
    let task = task.text("Data/SimpleOTATaskInfo/TaskId").to_owned();
    story.server.later_ms(7 * MINUTE_MS);
    story.server.engine().await;
    story.call("ConfirmOTATask", &[("TaskId.1", &task)]).await;
    let cancel = [("FirmwareId", package), ("ProductKey", key), ("DeviceName.1", "lamp-3")];
    story.call("CancelOTATaskByDevice", &cancel).await;
    story.call("ReupgradeOTATask", &[("JobId", &batch), ("TaskId.1", &task)]).await;
    let mine = [
        ("FirmwareId", package),
        ("ProductKey", key),
        ("DeviceName", "lamp-3"),
        ("CurrentPage", "1"),
        ("PageSize", "100"),
    ];
    story.call("ListOTAJobByDevice", &mine).await;
}

/// A part of the devices gets a package that is a difference.
async fn modules(story: &mut Story, key: &str, device: &str) {
    let module = [("ProductKey", key), ("ModuleName", "MCU"), ("AliasName", "微控制器"), ("Desc", "<a> & b")];
    story.call("CreateOTAModule", &module).await;
    story.call("UpdateOTAModule", &[module[0], module[1], ("Desc", "c")]).await;
    story.call("ListOTAModuleByProduct", &module[..1]).await;
    let report = DeviceEvent::Report { module: "MCU".to_owned(), version: "1.0".to_owned() };
    story.device(device, report).await;
    let page = [("IotId", device), ("CurrentPage", "1"), ("PageSize", "200")];
    story.call("ListOTAModuleVersionsByDevice", &page).await;
    let ticket = story.call("GenerateOTAUploadURL", &[]).await;
    story.server.upload(|field| ticket.text(&format!("Data/{field}")).to_owned(), IMAGE).await;
    let package = [
        ("ProductKey", key),
        ("FirmwareName", "difference"),
        ("DestVersion", "1.1"),
        ("FirmwareUrl", ticket.text("Data/FirmwareUrl")),
        ("ModuleName", "MCU"),
        ("Type", "1"),
        ("SrcVersion", "1.0"),
    ];
    let package = story.call("CreateOTAFirmware", &package).await;
    let id = package.text("Data/FirmwareId");
    story.call("QueryOTAFirmware", &[("FirmwareId", id)]).await;
    story.call("ListOTAFirmware", &[("CurrentPage", "1"), ("PageSize", "10")]).await;
    let changes =
        [("FirmwareId", id), ("ProductKey", key), ("FirmwareName", "renamed"), ("FirmwareUdi", "{}")];
    story.call("ModifyOTAFirmware", &changes).await;
    story.call("DeleteOTAFirmware", &[("FirmwareId", id)]).await;
    let another = [("ProductKey", key), ("ModuleName", "radio")];
    story.call("CreateOTAModule", &another).await;
    story.call("DeleteOTAModule", &another).await;
}

/// A package of two files.
async fn several_files(story: &mut Story, key: &str) {
    let mut urls = Vec::new();
    for _ in 0..2 {
        let ticket = story.call("GenerateOTAUploadURL", &[]).await;
        story.server.upload(|field| ticket.text(&format!("Data/{field}")).to_owned(), IMAGE).await;
        urls.push(ticket.text("Data/FirmwareUrl").to_owned());
    }
    let package = story
        .call(
            "CreateOTAFirmware",
            &[
                ("ProductKey", key),
                ("FirmwareName", "several"),
                ("DestVersion", "2.0.0"),
                ("MultiFiles.1.Name", "<kernel> & 核"),
                ("MultiFiles.1.Url", &urls[1]),
                ("MultiFiles.1.Size", "14"),
                ("MultiFiles.2.Name", "data"),
                ("MultiFiles.2.Url", &urls[0]),
                ("MultiFiles.2.FileMd5", IMAGE_MD5),
                ("MultiFiles.2.SignValue", IMAGE_MD5),
            ],
        )
        .await;
    story.call("QueryOTAFirmware", &[("FirmwareId", package.text("Data/FirmwareId"))]).await;
    story.call("ListOTAFirmware", &[("CurrentPage", "1"), ("PageSize", "10")]).await;
}

/// A package comes and proves itself; answers its FirmwareId.
async fn verified_package(story: &mut Story, key: &str, device: &str) -> String {
    story.call("GenerateDeviceNameListURL", &[]).await;
    let ticket = story.call("GenerateOTAUploadURL", &[("FileSuffix", "tar.gz")]).await;
    story.server.upload(|field| ticket.text(&format!("Data/{field}")).to_owned(), IMAGE).await;
    let package = story
        .call(
            "CreateOTAFirmware",
            &[
                ("ProductKey", key),
                ("FirmwareName", "ファーム_(2)"),
                ("FirmwareDesc", "a > b"),
                ("DestVersion", "2.0.0"),
                ("FirmwareUrl", ticket.text("Data/FirmwareUrl")),
                ("SignMethod", "SHA256"),
                ("Udi", "{\"for\":\"lamps\"}"),
            ],
        )
        .await;
    let package = package.text("Data/FirmwareId").to_owned();
    let list = [("FirmwareId", package.as_str()), ("CurrentPage", "1"), ("PageSize", "10")];
    story.call("QueryOTAFirmware", &[("FirmwareId", &package)]).await;
    story.call("ListOTAJobByFirmware", &list).await;

    let verification = [
        ("FirmwareId", package.as_str()),
        ("ProductKey", key),
        ("TargetDeviceName.1", "lamp-1"),
        ("TimeoutInMinutes", "60"),
    ];
    let verification = story.call("CreateOTAVerifyJob", &verification).await;
    story.call("ListOTAJobByFirmware", &list).await;
    story.call("QueryOTAJob", &[("JobId", verification.text("Data/JobId"))]).await;
    story.device(device, report("2.0.0")).await;
    story.call("QueryOTAFirmware", &[("FirmwareId", &package)]).await;
    package
}

/// A batch in which one device fails and the other is cancelled.
async fn batch(story: &mut Story, key: &str, package: &str, device: &str) {
    let request = [
        ("FirmwareId", package),
        ("ProductKey", key),
        ("TargetSelection", "ALL"),
        ("MaximumPerMinute", "600"),
        ("TimeoutInMinutes", "30"),
        ("Tag.1.Key", "campaign"),
        ("Tag.1.Value", "<spring> & 春"),
        ("Tag.2.Key", "region.1"),
        ("Tag.2.Value", " spaces at both ends "),
    ];
    story.call("PlanOTAJob", &request).await;
    let batch = story.call("CreateOTAStaticUpgradeJob", &request).await;
    let batch = batch.text("Data/JobId").to_owned();
    story.server.engine().await;
    let failure = DeviceEvent::Failure {
        module: "default".to_owned(),
        step: FailedStep::Verification,
        desc: "crc & co".to_owned(),
    };
    // Before it was told there is nothing that could have failed.
    story.device(device, failure.clone()).await;
    story.device(device, DeviceEvent::Pull { module: "default".to_owned(), asked: asked() }).await;
    let progress = |module: &str| {
        let (module, desc) = (module.to_owned(), String::new());
        DeviceEvent::Progress { module, percent: 10, desc }
    };
    // Of a module without a task.
    story.device(device, progress("radio")).await;
    story.device(device, progress("default")).await;
    story.call("ExplainOTATask", &[("IotId", device), ("JobId", &batch)]).await;
    story.device(device, failure).await;
    let failed = story.call("ListOTATaskByJob", &[("JobId", &batch), ("TaskStatus", "FAILED")]).await;
    let failed = failed.text("Data/SimpleOTATaskInfo/TaskId").to_owned();
    story.call("ListOTATaskHistory", &[("TaskId", &failed)]).await;
    story.call("CancelOTATaskByJob", &[("JobId", &batch), ("CancelQueuedTask", "true")]).await;
    story.call("ListOTATaskByJob", &[("JobId", &batch)]).await;
    story.call("QueryOTAJob", &[("JobId", &batch)]).await;
    let list = [("FirmwareId", package), ("CurrentPage", "1"), ("PageSize", "10")];
    story.call("ListOTAJobByFirmware", &list).await;
    // Now there is a past, and somebody to be told at once.
    story.device(device, DeviceEvent::Online { session: 2, ip: "192.0.2.8".to_owned() }).await;
    story.call("PlanOTAJob", &request).await;
}

#[tokio::test]
async fn every_operation_answers_what_the_platform_answers_in_json_and_the_same_in_xml() {
    let (in_json, in_xml) = (tell("JSON").await, tell("XML").await);
    let mut seen: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (json, xml) in in_json.iter().zip(&in_xml) {
        assert_eq!(json.action, xml.action);
        assert_eq!(json.tree, xml.tree);
        let answer = json.json.as_ref().unwrap();
        catalogue::find(json.action).check(answer, seen.entry(json.action).or_default());
        well_formed(answer, json.action);
    }
    assert_eq!(in_json.len(), in_xml.len());

    let told: BTreeSet<&str> = seen.keys().copied().collect();
    let served: BTreeSet<&str> = OPERATIONS.iter().map(|operation| operation.name).collect();
    assert_eq!(told, served, "an operation is missing from the story");
    for (action, seen) in &seen {
        let excused: BTreeSet<&str> = NEVER_ANSWERED
            .iter()
            .filter(|(excused, ..)| excused == action)
            .flat_map(|(_, fields, _)| fields.iter().copied())
            .chain(OF_FAILURES)
            .collect();
        for field in catalogue::find(action).fields() {
            assert_eq!(
                seen.contains(&field),
                !excused.contains(field.as_str()),
                "{action}: {field} must be in an answer of the story or be excused, and not both"
            );
        }
    }
}

/// Values whose names promise a form.
fn well_formed(value: &Value, name: &str) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| well_formed(value, name)),
        Value::Array(items) => items.iter().for_each(|item| well_formed(item, name)),
        Value::String(text) if name.starts_with("Utc") => {
            let at: jiff::Timestamp = text.parse().unwrap();
            let again = at.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string();
            assert_eq!((text, text.len()), (&again, 24), "{name}");
        }
        Value::String(text) if name.starts_with("Gmt") => {
            let again = jiff::fmt::strtime::parse("%a, %d-%b-%Y %H:%M:%S GMT", text).unwrap();
            assert!(again.to_datetime().is_ok(), "{name} {text}");
        }
        Value::String(text) if name == "RequestId" => {
            let uuid = text.split('-').map(str::len).eq([8, 4, 4, 4, 12]);
            assert!(uuid && *text == text.to_uppercase(), "{text}");
        }
        _ => {}
    }
}
