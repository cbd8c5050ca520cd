//! What is refused before an operation is reached: v1.0 signatures, times, nonces, quotas, and the order of
//! the checks.

use crate::server::{DISABLED, HOST, Key, OTHER_ACCOUNT, RAM_USER, ROOT, START, TestServer, query};
use crate::tree;
use http::{Method, Request};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use updraft_core::time::MINUTE_MS;
use updraft_server::api::params::Params;
use updraft_server::api::quota::OwnQps;
use updraft_server::api::sign::{V1Hash, v1_signature, v1_string_to_sign};
use updraft_store::Location;

const ACTION: &str = "GenerateOTAUploadURL";

type Common = BTreeMap<String, String>;

/// Sends a call after a change to its common parameters; answers status and code.
async fn changed(server: &TestServer, change: impl Fn(&mut Common)) -> (u16, String) {
    let mut params = server.common(ROOT, ACTION, "JSON");
    change(&mut params);
    let answer = server.send_signed(Method::GET, ROOT, params).await;
    (answer.status, answer.code())
}

fn set(params: &mut Common, name: &str, value: &str) {
    params.insert(name.to_owned(), value.to_owned());
}

#[tokio::test]
async fn each_common_parameter_is_checked() {
    let server = TestServer::new().await;
    for (name, value, status, code) in [
        ("Action", None, 400, "MissingAction"),
        ("Action", Some(""), 400, "MissingAction"),
        ("Action", Some("FlyToTheMoon"), 404, "InvalidAction.NotFound"),
        ("Action", Some("generateotauploadurl"), 404, "InvalidAction.NotFound"),
        ("Version", None, 400, "MissingVersion"),
        ("Version", Some("2014-01-01"), 400, "InvalidVersion"),
        ("Format", Some("YAML"), 400, "InvalidParameter.Format"),
        ("AccessKeyId", None, 400, "MissingAccessKeyId"),
        ("AccessKeyId", Some("nobody"), 404, "InvalidAccessKeyId.NotFound"),
        ("AccessKeyId", Some(DISABLED.id), 400, "InvalidAccessKeyId.Inactive"),
        ("SignatureMethod", None, 400, "MissingSignatureMethod"),
        ("SignatureMethod", Some("MD5"), 400, "InvalidSignatureMethod"),
        ("SignatureVersion", None, 400, "MissingSignatureVersion"),
        ("SignatureVersion", Some("2.0"), 400, "InvalidSignatureVersion"),
        ("SignatureNonce", None, 400, "MissingSignatureNonce"),
        ("Timestamp", None, 400, "MissingTimestamp"),
        ("Timestamp", Some("2024-05-20 12:00:00"), 400, "InvalidTimeStamp.Format"),
        ("Timestamp", Some("1716206400"), 400, "InvalidTimeStamp.Format"),
        ("Timestamp", Some("2024-05-20T13:00:00Z"), 400, "InvalidTimeStamp.Expired"),
        ("SecurityToken", Some("token"), 400, "InvalidSecurityToken.Malformed"),
        // Not errors.
        ("SignatureType", Some(""), 200, ""),
        ("SignatureMethod", Some("HMAC-SHA256"), 200, ""),
        ("SignatureNonce", Some("any text & 路"), 200, ""),
    ] {
        let change = |params: &mut Common| match value {
            Some(value) => set(params, name, value),
            None => drop(params.remove(name)),
        };
        let found = changed(&server, change).await;
        // Without a format the answer is XML, so there is nothing more to look at than the code.
        assert_eq!(found, (status, code.to_owned()), "{name} {value:?}");
    }
}

#[tokio::test]
async fn of_several_faults_the_first_in_the_platforms_order_is_answered() {
    let server = TestServer::new().await;
    // Each call has all faults from its place in the list on.
    let faults: [(&str, &str, &str); 6] = [
        ("Action", "FlyToTheMoon", "InvalidAction.NotFound"),
        ("Version", "2014-01-01", "InvalidVersion"),
        ("Format", "YAML", "InvalidParameter.Format"),
        ("AccessKeyId", "nobody", "InvalidAccessKeyId.NotFound"),
        ("Timestamp", "never", "InvalidTimeStamp.Format"),
        ("Signature", "bad", "SignatureDoesNotMatch"),
    ];
    for first in 0..faults.len() {
        let mut params = server.common(ROOT, "QueryOTAJob", "JSON");
        set(&mut params, "Signature", "bad");
        for (name, value, _) in &faults[first..] {
            set(&mut params, name, value);
        }
        let answer = server.send(Request::get(format!("/?{}", query(&params)))).await;
        assert_eq!(answer.code(), faults[first].2);
        // The method comes before all of them.
        let answer = server.send(Request::put(format!("/?{}", query(&params)))).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "UnsupportedHTTPMethod"));
    }
    // After a good signature: nonce, quota, mandatory parameters, instance, types, service.
    let used = server.common(ROOT, "QueryOTAJob", "JSON");
    let answer = server.send_signed(Method::GET, ROOT, used.clone()).await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "MissingJobId"));
    let mut again = used;
    set(&mut again, "IotInstanceId", "iot-1");
    let answer = server.send_signed(Method::GET, ROOT, again).await;
    assert_eq!(answer.code(), "SignatureNonceUsed");
    let both = [("IotInstanceId", "iot-1")];
    assert_eq!(server.call_as(ROOT, "JSON", "QueryOTAJob", &both).await.code(), "MissingJobId");
    let both = [("IotInstanceId", "iot-1"), ("JobId", "j"), ("CancelQueuedTask", "perhaps")];
    let code = server.call_as(ROOT, "JSON", "CancelOTATaskByJob", &both).await.code();
    assert_eq!(code, "iot.system.InstanceNotFound");
    let code = server.call_as(ROOT, "JSON", "CancelOTATaskByJob", &both[1..]).await.code();
    assert_eq!(code, "InvalidCancelQueuedTask");
}

#[tokio::test]
async fn a_gateway_error_has_the_platforms_shape_in_both_formats() {
    let server = TestServer::new().await;
    for format in ["JSON", "XML"] {
        let answer = server.call_as(Key { secret: "wrong", ..ROOT }, format, ACTION, &[("A", "1")]).await;
        assert_eq!(answer.status, 400);
        let tree = if format == "JSON" {
            tree::from_json("Error", &answer.json())
        } else {
            tree::from_xml(&answer.body)
        };
        assert_eq!(tree.name, "Error");
        let names: BTreeSet<&str> = tree.fields.iter().map(|field| field.name.as_str()).collect();
        assert_eq!(names, BTreeSet::from(["RequestId", "HostId", "Code", "Message", "Recommend"]));
        assert_eq!(tree.text("HostId"), HOST);
        assert_eq!(tree.text("Code"), "SignatureDoesNotMatch");
        assert_eq!(tree.text("RequestId"), answer.header("x-acs-request-id"));
        assert_eq!(tree.text("Recommend"), format!("http://{HOST}/errors?q=SignatureDoesNotMatch"));
        let kind = if format == "JSON" { "application/json;charset=utf-8" } else { "text/xml;charset=utf-8" };
        assert_eq!(answer.header("content-type"), kind);
    }
    // The address in Recommend explains the code.
    let page = server.send(Request::get("/errors?q=SignatureDoesNotMatch")).await;
    assert!(page.status == 200 && page.body.starts_with("### SignatureDoesNotMatch\n"), "{}", page.body);
}

#[tokio::test]
async fn a_wrong_signature_is_told_the_string_to_sign_behind_a_colon() {
    let server = TestServer::new().await;
    let mut params = server.common(ROOT, ACTION, "JSON");
    set(&mut params, "FileSuffix", "tar.gz & 路");
    let wanted = v1_string_to_sign("POST", &Params::from_pairs(params.clone()));
    let answer = server.send_signed(Method::POST, Key { secret: "wrong", ..ROOT }, params).await;
    let message = answer.message();
    // As the Python SDK takes it apart.
    assert_eq!(message.split(':').nth(1), Some(wanted.as_str()), "{message}");
    // A stranger is told nothing.
    let answer = server.call_as(Key { id: "nobody", secret: "x" }, "JSON", ACTION, &[("A", "1")]).await;
    assert!(!answer.body.contains("nobody"), "{}", answer.body);
}

#[tokio::test]
async fn every_parameter_is_signed_wherever_it_stands() {
    let server = TestServer::new().await;
    let sign = |method: &str, params: &Common| {
        let params = Params::from_pairs(params.clone());
        v1_signature(V1Hash::Sha1, ROOT.secret, &v1_string_to_sign(method, &params))
    };
    let form = "application/x-www-form-urlencoded";
    // All in the query, all in the body, common ones in the query.
    for in_body in [0, 3, 9] {
        let mut params = server.common(ROOT, ACTION, "JSON");
        set(&mut params, "FileSuffix", "zip");
        let signature = sign("POST", &params);
        set(&mut params, "Signature", &signature);
        let split: Vec<_> = params.into_iter().collect();
        let (body, uri) = split.split_at(in_body);
        let part = |pairs: &[(String, String)]| query(&pairs.iter().cloned().collect());
        let request = Request::post(format!("/?{}", part(uri))).header("content-type", form);
        let answer = server.send_with(request, part(body)).await;
        assert_eq!(answer.status, 200, "{in_body}: {}", answer.body);
    }
    // Added, changed or moved to another method after signing.
    let mut params = server.common(ROOT, ACTION, "JSON");
    let signature = sign("GET", &params);
    set(&mut params, "Signature", &signature);
    let uri = format!("/?{}", query(&params));
    let answer = server.send(Request::post(&uri)).await;
    assert_eq!(answer.code(), "SignatureDoesNotMatch");
    let answer = server.send(Request::get(format!("{uri}&FileSuffix=zip"))).await;
    assert_eq!(answer.code(), "SignatureDoesNotMatch");
    let request = Request::get(&uri).header("content-type", form);
    let answer = server.send_with(request, "Action=CreateProduct").await;
    assert_eq!(answer.code(), "SignatureDoesNotMatch");
    assert_eq!(server.send(Request::get(&uri)).await.status, 200, "unchanged it is good");
}

#[tokio::test]
async fn times_may_be_a_quarter_of_an_hour_off_and_the_answer_says_how_far_they_are() {
    let server = TestServer::new().await;
    for (seconds, good) in [(0, true), (900, true), (-900, true), (901, false), (-901, false)] {
        let mut params = server.common(ROOT, ACTION, "JSON");
        let at = updraft_server::api::answer::utc(START.plus_ms(seconds * 1_000));
        set(&mut params, "Timestamp", &format!("{}Z", &at[..19]));
        let answer = server.send_signed(Method::GET, ROOT, params).await;
        let code = if good { "" } else { "InvalidTimeStamp.Expired" };
        assert_eq!(answer.code(), code, "{seconds}");
        if !good {
            let message = answer.message();
            assert!(message.contains("The server's time is 2024-05-20T12:00:00.000Z"), "{message}");
            assert!(message.contains(&format!("{} seconds off", -seconds)), "{message}");
        }
    }
}

#[tokio::test]
async fn a_nonce_is_used_up_by_a_good_signature_only_and_for_its_key_only() {
    let server = TestServer::new().await;
    let with = |key: Key| {
        let mut params = server.common(key, ACTION, "JSON");
        set(&mut params, "SignatureNonce", "once");
        params
    };
    let forged = server.send_signed(Method::GET, Key { secret: "wrong", ..ROOT }, with(ROOT)).await;
    assert_eq!(forged.code(), "SignatureDoesNotMatch");
    assert_eq!(server.send_signed(Method::GET, ROOT, with(ROOT)).await.status, 200);
    let again = server.send_signed(Method::GET, ROOT, with(ROOT)).await;
    assert_eq!((again.status, again.code().as_str()), (400, "SignatureNonceUsed"));
    assert_eq!(server.send_signed(Method::GET, RAM_USER, with(RAM_USER)).await.status, 200);
    // Within the quarter hour also with a fresh time; behind it the old time is refused anyway.
    server.later_ms(14 * MINUTE_MS);
    assert_eq!(server.send_signed(Method::GET, ROOT, with(ROOT)).await.code(), "SignatureNonceUsed");
    server.later_ms(3 * MINUTE_MS);
    assert_eq!(server.send_signed(Method::GET, ROOT, with(ROOT)).await.status, 200);
}

#[tokio::test]
async fn a_quota_is_shared_by_an_account_and_its_ram_users_and_refills_after_a_second() {
    let server = TestServer::with(Location::Inline, |_| {}).await;
    let call = |key: Key| {
        let server = &server;
        async move {
            let list = [("FirmwareId", "f"), ("CurrentPage", "1"), ("PageSize", "10")];
            server.call_as(key, "JSON", "ListOTAJobByFirmware", &list).await
        }
    };
    for turn in 0..10 {
        let key = if turn % 2 == 0 { ROOT } else { RAM_USER };
        assert_eq!(call(key).await.code(), "iot.ota.FirmwareNotFound", "call {turn}");
        server.later_ms(10);
    }
    for key in [ROOT, RAM_USER] {
        let answer = call(key).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "Throttling.User"));
        assert_eq!(answer.header("x-acs-retry-after"), "900");
    }
    // Neither another account nor another operation is affected.
    assert_eq!(call(OTHER_ACCOUNT).await.code(), "iot.ota.FirmwareNotFound");
    assert_eq!(server.call("QueryOTAJob", &[("JobId", "j")]).await.1["Code"], "iot.ota.JobNotFound");
    server.later_ms(899);
    assert_eq!(call(ROOT).await.code(), "Throttling.User");
    server.later_ms(1);
    assert_eq!(call(ROOT).await.code(), "iot.ota.FirmwareNotFound");
    assert_eq!(call(ROOT).await.code(), "Throttling.User", "one call has left the second, not ten");
    // A call that the signature refuses costs nothing.
    server.later_ms(1_000);
    for _ in 0..20 {
        let forged = call(Key { secret: "wrong", ..ROOT }).await;
        assert_eq!(forged.code(), "SignatureDoesNotMatch");
    }
    assert_eq!(call(ROOT).await.code(), "iot.ota.FirmwareNotFound");
}

#[tokio::test]
async fn a_throttled_call_says_when_to_try_again_in_both_formats() {
    let server = TestServer::with(Location::Inline, |config| {
        config.quota_qps = OwnQps::parse("QueryProductList=1,QueryProduct=0").unwrap();
    })
    .await;
    let page = [("CurrentPage", "1"), ("PageSize", "10")];
    server.ok("QueryProductList", &page).await;
    server.later_ms(400);
    let json = server.call_as(ROOT, "JSON", "QueryProductList", &page).await;
    let xml = server.call_as(ROOT, "XML", "QueryProductList", &page).await;
    for answer in [&json, &xml] {
        assert_eq!((answer.status, answer.header("x-acs-retry-after")), (400, "600"));
        assert_eq!(answer.code(), "Throttling.User");
    }
    assert_eq!(tree::from_xml(&xml.body).text("Message"), json.message());
    // A quota of 0 is none.
    for _ in 0..100 {
        let answer = server.call_as(ROOT, "JSON", "QueryProduct", &[("ProductKey", "a1Unknown00")]).await;
        assert_eq!(answer.code(), "iot.prod.NotExistedProduct");
    }
}

#[tokio::test]
async fn the_api_describes_itself_to_whoever_asks() {
    let server = TestServer::new().await;
    let answer = server.send(Request::get("/openapi.json")).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
    assert_eq!(answer.json()["openapi"], "3.1.0");
}

#[tokio::test]
async fn a_full_memory_of_nonces_throttles_and_says_for_how_long() {
    let server = TestServer::with(Location::Inline, |config| config.nonce_max = 2).await;
    for code in ["", "", "Throttling"] {
        let answer = server.call_as(ROOT, "JSON", ACTION, &[("FileSuffix", "zip")]).await;
        assert_eq!(answer.code(), code);
        if !code.is_empty() {
            assert_eq!((answer.status, answer.header("x-acs-retry-after")), (400, "60000"));
        }
    }
}

#[tokio::test]
async fn spoilt_requests_are_refused_in_the_format_that_can_be_made_out() {
    let server = TestServer::new().await;
    let answer = server.send(Request::get("/?Format=JSON&A=1&A=2")).await;
    assert_eq!((answer.status, &answer.json()["Code"]), (400, &json!("InvalidA")));
    let answer = server.send(Request::get("/?Format=JSON&A=%00")).await;
    assert_eq!((answer.status, &answer.json()["Code"]), (400, &json!("InvalidA")));
    let answer = server.send(Request::get("/?A=%ff")).await;
    assert_eq!((answer.status, tree::from_xml(&answer.body).text("Code")), (400, "InvalidA"));
    let answer = server.send(Request::get("/elsewhere")).await;
    assert_eq!((answer.status, tree::from_xml(&answer.body).text("Code")), (404, "InvalidApi.NotFound"));
    let large = vec![b'x'; server.app.config.api_body_bytes_max as usize + 1];
    let answer = server.send_with(Request::post("/"), large).await;
    assert_eq!((answer.status, tree::from_xml(&answer.body).text("Code")), (400, "InvalidParameter.Body"));
}
