//! Tests that go through every operation and every parameter.

use crate::catalogue;
use crate::family::{self, Refusals};
use crate::server::{ROOT, TestServer};
use crate::shop::{Shop, changed, without};
use std::collections::BTreeSet;
use updraft_server::api::OPERATIONS;

/// Parameters that the platform's metadata calls optional and we do not.
const REQUIRED_BY_US: [(&str, &str, &str); 1] =
    [("CreateOTAFirmware", "ProductKey", "every later call needs it, and a package is for one product")];

/// Parameters that are accepted and do nothing.
const IGNORED: [(&str, &str, &str); 2] = [
    ("CreateProduct", "ResourceGroupId", "the platform's own pages say that it has no effect on products"),
    ("QueryProductList", "ResourceGroupId", "products are in no group, so there is nothing to filter by"),
];

const REFUSALS: &[Refusals] = &[
    (
        "CreateProduct",
        &[
            ("ProductName", "abc", "iot.prod.InvalidFormattedProductName"),
            ("NodeType", "2", "iot.prod.InvalidNodeType"),
            ("AliyunCommodityCode", "iothub", "iot.prod.InvalidAliyunCommodityCode"),
            ("DataFormat", "2", "InvalidDataFormat"),
            ("NetType", "ZIGBEE", "InvalidNetType"),
            ("AuthType", "id2", "InvalidAuthType"),
            ("Description", "x*101", "iot.prod.LongProductDesc"),
        ],
    ),
    (
        "RegisterDevice",
        &[
            ("ProductKey", "a1Unknown00", "iot.prod.NotExistedProduct"),
            ("DeviceName", "abc", "iot.device.InvalidFormattedDeviceName"),
            ("Nickname", "abc", "iot.device.InvalidFormattedNickname"),
        ],
    ),
    (
        "QueryDeviceDetail",
        &[
            ("IotId", "unknown", "iot.device.NotExistedDevice"),
            ("ProductKey", "a1Unknown00", "iot.prod.NotExistedProduct"),
            ("DeviceName", "unknown", "iot.device.NotExistedDevice"),
        ],
    ),
    ("QueryProduct", &[("ProductKey", "a1Unknown00", "iot.prod.NotExistedProduct")]),
    (
        "QueryProductList",
        &[
            ("AliyunCommodityCode", "iothub_junior", "iot.prod.InvalidAliyunCommodityCode"),
            ("CurrentPage", "0", "iot.common.InvalidPageParams"),
            ("PageSize", "201", "iot.common.InvalidPageParams"),
        ],
    ),
    (
        "QueryDevice",
        &[
            ("CurrentPage", "1001", "iot.common.InvalidPageParams"),
            ("NextToken", "2-a", "InvalidNextToken"),
            ("PageSize", "51", "iot.common.InvalidPageParams"),
            ("ProductKey", "a1Unknown00", "iot.prod.NotExistedProduct"),
        ],
    ),
    (
        "GetDeviceStatus",
        &[
            ("IotId", "unknown", "iot.device.NotExistedDevice"),
            ("ProductKey", "a1Unknown00", "iot.prod.NotExistedProduct"),
            ("DeviceName", "unknown", "iot.device.NotExistedDevice"),
        ],
    ),
    (
        "ListOTAJobByDevice",
        &[
            ("CurrentPage", "0", "iot.common.InvalidPageParams"),
            ("DeviceName", "unknown", "iot.device.NotExistedDevice"),
            ("FirmwareId", "unknown", "iot.ota.FirmwareNotFound"),
            ("PageSize", "101", "iot.common.InvalidPageParams"),
            ("ProductKey", "a1Unknown00", "iot.prod.NotExistedProduct"),
        ],
    ),
    (
        "ListOTAUnfinishedTaskByDevice",
        &[
            ("DeviceName", "unknown", "iot.device.NotExistedDevice"),
            ("IotId", "unknown", "iot.device.NotExistedDevice"),
            ("ModuleName", "a b", "InvalidModuleName"),
            ("ProductKey", "a1Unknown00", "iot.prod.NotExistedProduct"),
            ("TaskStatus", "SUCCEEDED", "iot.ota.InvalidTaskStatus"),
            ("TaskStatusList.1", "FAILED", "iot.ota.InvalidTaskStatus"),
        ],
    ),
    ("ConfirmOTATask", &[("TaskId.1", "unknown", "iot.ota.TaskNotFound")]),
    (
        "ReupgradeOTATask",
        &[("JobId", "unknown", "iot.ota.JobNotFound"), ("TaskId.1", "unknown", "iot.ota.TaskNotFound")],
    ),
    (
        "CancelOTATaskByDevice",
        &[
            ("DeviceName.1", "unknown", "iot.ota.TargetDeviceNotFound"),
            ("FirmwareId", "unknown", "iot.ota.FirmwareNotFound"),
            ("JobId", "unknown", "iot.ota.JobNotFound"),
            ("ProductKey", "a1Unknown00", "iot.prod.NotExistedProduct"),
        ],
    ),
    ("GenerateOTAUploadURL", &[("FileSuffix", "exe", "InvalidFileSuffix")]),
    (
        "CreateOTAFirmware",
        &[
            ("DestVersion", "2 0", "iot.ota.InvalidFormattedVersion"),
            ("FirmwareDesc", "x*101", "iot.ota.LongFirmwareText"),
            ("FirmwareName", "_package", "iot.ota.InvalidFormattedFirmwareName"),
            ("FirmwareSign", "00", "iot.ota.FirmwareFileMismatch"),
            ("FirmwareSize", "1", "iot.ota.FirmwareFileMismatch"),
            ("FirmwareUrl", "http://elsewhere.example.com/ota/a/b.bin", "iot.ota.InvalidFirmwareUrl"),
            ("ModuleName", "mcu", "iot.ota.ModuleNotFound"),
            ("MultiFiles.1.Name", "beside FirmwareUrl", "iot.ota.InvalidMultiFiles"),
            ("NeedToVerify", "perhaps", "InvalidNeedToVerify"),
            ("ProductKey", "a1Unknown00", "iot.prod.NotExistedProduct"),
            ("SignMethod", "SHA1", "iot.ota.InvalidSignMethod"),
            ("Udi", "x*4097", "iot.ota.LongFirmwareText"),
        ],
    ),
    ("QueryOTAFirmware", &[("FirmwareId", "unknown", "iot.ota.FirmwareNotFound")]),
    (
        "ListOTAFirmware",
        &[
            ("CurrentPage", "0", "iot.common.InvalidPageParams"),
            ("DestVersion", "2 0", "iot.ota.InvalidFormattedVersion"),
            ("PageSize", "101", "iot.common.InvalidPageParams"),
            ("ProductKey", "a1Unknown00", "iot.prod.NotExistedProduct"),
        ],
    ),
    (
        "CreateOTAVerifyJob",
        &[
            ("FirmwareId", "unknown", "iot.ota.FirmwareNotFound"),
            ("NeedConfirm", "perhaps", "InvalidNeedConfirm"),
            ("NeedPush", "perhaps", "InvalidNeedPush"),
            ("ProductKey", "a1Unknown00", "iot.prod.NotExistedProduct"),
            ("Tag.1.Key", "alone", "iot.ota.InvalidTag"),
            ("TargetDeviceName.1", "unknown", "iot.ota.TargetDeviceNotFound"),
            ("TimeoutInMinutes", "0", "iot.ota.InvalidJobLimit"),
        ],
    ),
    (
        "CreateOTAStaticUpgradeJob",
        &[
            ("FirmwareId", "unknown", "iot.ota.FirmwareNotFound"),
            ("GrayPercent", "50", "iot.ota.InvalidGrayPercent"),
            ("MaximumPerMinute", "9", "iot.ota.InvalidJobLimit"),
            ("NeedConfirm", "perhaps", "InvalidNeedConfirm"),
            ("RetryCount", "2", "iot.ota.InvalidRetry"),
            ("RetryInterval", "10", "iot.ota.InvalidRetry"),
            ("ScheduleFinishTime", "1", "iot.ota.InvalidSchedule"),
            ("ScheduleTime", "1", "iot.ota.InvalidSchedule"),
            ("SrcVersion.1", "1.0", "iot.ota.InvalidSrcVersion"),
            ("NeedPush", "perhaps", "InvalidNeedPush"),
            ("ProductKey", "a1Unknown00", "iot.prod.NotExistedProduct"),
            ("Tag.1.Value", "alone", "iot.ota.InvalidTag"),
            ("TargetDeviceName.1", "unknown", "iot.ota.TargetDeviceNotFound"),
            ("TargetSelection", "SOME", "InvalidTargetSelection"),
            ("TimeoutInMinutes", "1441", "iot.ota.InvalidJobLimit"),
        ],
    ),
    ("QueryOTAJob", &[("JobId", "unknown", "iot.ota.JobNotFound")]),
    (
        "ListOTAJobByFirmware",
        &[
            ("CurrentPage", "0", "iot.common.InvalidPageParams"),
            ("FirmwareId", "unknown", "iot.ota.FirmwareNotFound"),
            ("PageSize", "201", "iot.common.InvalidPageParams"),
        ],
    ),
    (
        "ListOTATaskByJob",
        &[
            ("CurrentPage", "0", "iot.common.InvalidPageParams"),
            ("DeviceNames.2", "device", "InvalidDeviceNames"),
            ("JobId", "unknown", "iot.ota.JobNotFound"),
            ("PageSize", "101", "iot.common.InvalidPageParams"),
            ("TaskStatus", "DONE", "iot.ota.InvalidTaskStatus"),
        ],
    ),
    (
        "ListOTATaskHistory",
        &[
            ("CurrentPage", "0", "iot.common.InvalidPageParams"),
            ("PageSize", "101", "iot.common.InvalidPageParams"),
            ("TaskId", "unknown", "iot.ota.TaskNotFound"),
        ],
    ),
    (
        "ExplainOTATask",
        &[
            ("DeviceName", "unknown", "iot.device.NotExistedDevice"),
            ("IotId", "unknown", "iot.device.NotExistedDevice"),
            ("JobId", "unknown", "iot.ota.JobNotFound"),
            ("ProductKey", "a1Unknown00", "iot.prod.NotExistedProduct"),
        ],
    ),
    (
        "CancelOTATaskByJob",
        &[
            ("CancelInProgressTask", "perhaps", "InvalidCancelInProgressTask"),
            ("CancelNotifiedTask", "perhaps", "InvalidCancelNotifiedTask"),
            ("CancelQueuedTask", "perhaps", "InvalidCancelQueuedTask"),
            ("CancelScheduledTask", "perhaps", "InvalidCancelScheduledTask"),
            ("CancelUnconfirmedTask", "perhaps", "InvalidCancelUnconfirmedTask"),
            ("JobId", "unknown", "iot.ota.JobNotFound"),
        ],
    ),
];

/// Operations that take what another one takes, and refuse what it refuses.
const ALIKE: [(&str, &str); 1] = [("PlanOTAJob", "CreateOTAStaticUpgradeJob")];

/// A call that must be refused: operation, parameter, value, code.
pub type RefusedValue = (&'static str, &'static str, String, &'static str);

/// Every such call.
pub fn refused_values() -> impl Iterator<Item = RefusedValue> {
    let written = |value: &str| match value.strip_prefix("x*") {
        Some(count) => "x".repeat(count.parse().unwrap()),
        None => value.to_owned(),
    };
    let all = family::REFUSALS.iter().copied().flatten().chain(REFUSALS);
    all.flat_map(move |(action, rows)| {
        let alike = ALIKE.iter().filter(|(_, of)| of == action).map(|(alike, _)| *alike);
        let actions: Vec<_> = std::iter::once(*action).chain(alike).collect();
        actions.into_iter().flat_map(move |action| {
            rows.iter().map(move |(name, value, code)| (action, *name, written(value), *code))
        })
    })
}

fn names_of(rows: &[(&'static str, &'static str, &'static str)], action: &str) -> BTreeSet<&'static str> {
    rows.iter().filter(|row| row.0 == action).map(|row| row.1).collect()
}

#[test]
fn the_catalogue_holds_exactly_the_operations_that_are_served() {
    let served: BTreeSet<&str> = OPERATIONS.iter().map(|operation| operation.name).collect();
    assert_eq!(served, catalogue::names());
}

#[test]
fn quotas_and_document_roots_are_the_platforms() {
    for operation in OPERATIONS {
        let entry = catalogue::find(operation.name);
        assert_eq!(u64::from(operation.qps), entry.qps(), "{}", operation.name);
        assert_eq!(entry.xml_root(), format!("{}Response", operation.name));
    }
}

#[test]
fn operations_that_are_alike_take_the_same_parameters() {
    for (alike, of) in ALIKE {
        let written = |name| catalogue::find(name).request_as_written();
        assert_eq!(written(alike), written(of), "{alike}");
    }
}

#[test]
fn required_parameters_are_the_platforms_but_for_listed_exceptions() {
    for operation in OPERATIONS {
        let request = catalogue::find(operation.name).request();
        let mut wanted: BTreeSet<&str> =
            request.iter().filter(|parameter| parameter.required).map(|parameter| parameter.name).collect();
        wanted.extend(names_of(&REQUIRED_BY_US, operation.name));
        let required: BTreeSet<&str> = operation.required.iter().copied().collect();
        assert_eq!(required, wanted, "{}", operation.name);
    }
}

#[test]
fn every_parameter_is_read_or_refused_or_a_listed_exception() {
    for operation in OPERATIONS {
        let read: BTreeSet<&str> = refused_values()
            .filter(|row| row.0 == operation.name)
            .map(|row| row.1.split('.').next().unwrap())
            .collect();
        let refused: BTreeSet<&str> = operation.not_served.iter().map(|(name, _)| *name).collect();
        let ignored = names_of(&IGNORED, operation.name);
        assert!(read.is_disjoint(&refused) && read.is_disjoint(&ignored) && refused.is_disjoint(&ignored));
        // IotInstanceId is the door's: it has a test of its own.
        let known: BTreeSet<&str> = read.iter().chain(&refused).chain(&ignored).copied().collect();
        let request = catalogue::find(operation.name).request();
        let wanted: BTreeSet<&str> =
            request.iter().map(|parameter| parameter.name).filter(|name| *name != "IotInstanceId").collect();
        assert_eq!(known, wanted, "{}", operation.name);
    }
}

#[tokio::test]
async fn a_bad_value_of_any_parameter_is_refused_and_changes_nothing() {
    let server = TestServer::on_disk().await;
    let shop = Shop::open(&server).await;
    for operation in OPERATIONS {
        let valid = shop.valid(operation.name).await;
        let before = server.dump();
        for (action, name, value, code) in refused_values() {
            if action != operation.name {
                continue;
            }
            let params = changed(&valid, &[(name, &value)]);
            let answer = server.call_as(ROOT, "JSON", action, &params).await;
            assert_eq!(answer.code(), code, "{action} with {name}={value}: {}", answer.body);
            assert_eq!(answer.status, if code.starts_with("iot.") { 200 } else { 400 }, "{action} {name}");
            assert!(server.dump() == before, "{action} with {name}={value} changed the database");
        }
        // Without the bad value it was good.
        server.ok(operation.name, &valid).await;
    }
}

#[tokio::test]
async fn a_call_without_a_required_parameter_is_refused_by_its_name_and_changes_nothing() {
    let server = TestServer::on_disk().await;
    let shop = Shop::open(&server).await;
    for operation in OPERATIONS {
        let valid = shop.valid(operation.name).await;
        let before = server.dump();
        for name in operation.required {
            let answer = server.call_as(ROOT, "JSON", operation.name, &without(&valid, name)).await;
            assert_eq!((answer.status, answer.code()), (400, format!("Missing{name}")), "{}", operation.name);
            assert_eq!(answer.message(), format!("{name} is mandatory for this action."));
            // An empty value is none.
            let empty = changed(&without(&valid, name), &[(name, "")]);
            let answer = server.call_as(ROOT, "JSON", operation.name, &empty).await;
            assert_eq!(answer.code(), format!("Missing{name}"), "{}", operation.name);
        }
        assert!(server.dump() == before, "{} changed the database", operation.name);
    }
}

#[tokio::test]
async fn a_parameter_that_is_not_served_is_refused_by_name_except_with_its_harmless_value() {
    let server = TestServer::on_disk().await;
    let shop = Shop::open(&server).await;
    for operation in OPERATIONS {
        let request = catalogue::find(operation.name).request();
        let valid = shop.valid(operation.name).await;
        for (name, harmless) in operation.not_served {
            let parameter = request.iter().find(|parameter| parameter.name == *name).unwrap();
            let before = server.dump();
            let params = changed(&valid, &[(&parameter.wire(), "another")]);
            let answer = server.call_as(ROOT, "JSON", operation.name, &params).await;
            let code = "iot.common.ParameterNotSupported";
            assert_eq!((answer.status, answer.code().as_str()), (200, code), "{} {name}", operation.name);
            assert!(answer.message().starts_with(&format!("{name} is not supported")), "{}", answer.body);
            assert!(server.dump() == before, "{} with {name} changed the database", operation.name);
            if let Some(harmless) = harmless {
                let fresh = shop.valid(operation.name).await;
                server.ok(operation.name, &changed(&fresh, &[(name, harmless)])).await;
            }
        }
    }
}

#[tokio::test]
async fn an_unknown_instance_is_not_found_and_an_empty_one_is_the_public_one() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    for operation in OPERATIONS {
        let params = changed(&shop.valid(operation.name).await, &[("IotInstanceId", "iot-cn-1")]);
        let answer = server.call_as(ROOT, "JSON", operation.name, &params).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.code(), "iot.system.InstanceNotFound", "{}", operation.name);
        let params = changed(&shop.valid(operation.name).await, &[("IotInstanceId", "")]);
        server.ok(operation.name, &params).await;
    }
}

#[tokio::test]
async fn what_the_platform_ignores_is_ignored() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    for (action, name, _) in IGNORED {
        server.ok(action, &changed(&shop.valid(action).await, &[(name, "rg-1")])).await;
    }
    // No parameter of the platform: SDKs add some of their own.
    let params =
        changed(&shop.valid("CreateProduct").await, &[("RegionId", "cn-shanghai"), ("Colour", "red")]);
    server.ok("CreateProduct", &params).await;
}

#[test]
fn whole_numbers_and_flags_are_read_as_such() {
    // A parameter that is a number or a flag in the catalogue must have its bad value or its refusal above;
    // this guards the catalogue itself.
    for name in catalogue::names() {
        for parameter in catalogue::find(name).request() {
            let known = ["string", "integer", "long", "boolean", "list<string>", "list<object>"];
            assert!(known.contains(&parameter.kind), "{name} {parameter:?}");
            assert_eq!(parameter.kind.starts_with("list<"), parameter.repeated, "{name} {parameter:?}");
        }
    }
}
