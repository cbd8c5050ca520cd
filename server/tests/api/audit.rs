//! What the audit log says of calls, by enumeration.

use crate::server::{Key, OTHER_ACCOUNT, RAM_USER, ROOT, TestServer};
use crate::shop::{Shop, changed};
use futures_util::FutureExt as _;
use updraft_server::api::OPERATIONS;
use updraft_server::api::audit::tell_left_out;
use updraft_server::retention::Retention;
use updraft_store::{AuditFilter, AuditLine, Lane};

/// All lines, oldest first.
async fn lines(server: &TestServer) -> Vec<AuditLine> {
    let read = server.app.store.read(|tx| tx.audit_list(&AuditFilter::default(), i64::MAX, 10_000));
    read.await.unwrap().into_iter().rev().map(|(_, line)| line).collect()
}

#[tokio::test]
async fn calls_that_change_something_leave_one_line_and_others_none() {
    let server = TestServer::on_disk().await;
    let shop = Shop::open(&server).await;
    for operation in OPERATIONS {
        let valid = shop.valid(operation.name).await;
        let (known, before) = (lines(&server).await.len(), server.dump());
        server.ok(operation.name, &valid).await;
        let all = lines(&server).await;
        let changes = server.dump() != before;
        assert_eq!(changes, operation.changes, "{} says whether it changes something", operation.name);
        assert_eq!(all.len() - known, usize::from(changes), "{}", operation.name);
        if let [line] = &all[known..] {
            assert_eq!((line.action.as_str(), line.outcome.as_str()), (operation.name, "ok"));
            for (name, value) in &valid {
                let told = ["ProductKey", "FirmwareId", "JobId", "DeviceName"].contains(&name.as_str());
                assert!(!told || line.subject.contains(&format!("{name}={value}")), "{}", line.subject);
            }
        }
    }
}

#[tokio::test]
async fn a_line_says_who_what_where_and_with_which_outcome() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    let known = lines(&server).await.len();
    let answer = server.call_as(RAM_USER, "XML", "CreateProduct", &shop.valid("CreateProduct").await).await;
    let key = answer.body.split("<ProductKey>").nth(1).and_then(|rest| rest.split('<').next()).unwrap();
    let secret = answer.body.split("<ProductSecret>").nth(1).and_then(|rest| rest.split('<').next()).unwrap();
    let refused = [("ProductName", "a b\n"), ("NodeType", "0"), ("IotInstanceId", "iot-1 x")];
    let second = server.call_as(OTHER_ACCOUNT, "JSON", "CreateProduct", &refused).await;
    let all = lines(&server).await;
    let [first, second_line] = &all[known..] else { panic!("{all:?}") };
    let expected = AuditLine {
        at: server.app.now(),
        account: "root".to_owned(),
        instance: String::new(),
        ram_user: Some("operator".to_owned()),
        access_key: Some(RAM_USER.id.to_owned()),
        os_user: None,
        action: "CreateProduct".to_owned(),
        request_id: Some(answer.header("x-acs-request-id").to_owned()),
        outcome: "ok".to_owned(),
        subject: first.subject.clone(),
    };
    assert_eq!(first, &expected);
    assert!(first.subject.contains(&format!("ProductKey={key}")) && !first.subject.contains(secret));
    assert_eq!(second_line.outcome, second.code());
    assert_eq!((second_line.account.as_str(), &second_line.ram_user), ("other", &None));
    assert_eq!(
        (second_line.instance.as_str(), second_line.subject.as_str()),
        ("iot-1_x", "ProductName=a_b_")
    );
}

#[tokio::test]
async fn who_hangs_up_leaves_a_line_all_the_same() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    let valid = shop.valid("CreateProduct").await;
    let known = lines(&server).await.len();
    let hung_up = server.call_as(ROOT, "JSON", "CreateProduct", &valid).now_or_never();
    assert!(hung_up.is_none(), "the call was under way");
    // What a stop waits for.
    server.app.calls.close();
    server.app.calls.wait().await;
    assert_eq!(lines(&server).await.len(), known + 1);
    assert_eq!(lines(&server).await.pop().unwrap().outcome, "ok");
}

#[tokio::test]
async fn who_is_not_known_leaves_no_line() {
    let server = TestServer::new().await;
    for key in [Key { secret: "wrong", ..ROOT }, Key { id: "nobody", secret: "x" }] {
        server.call_as(key, "JSON", "CreateProduct", &[("ProductName", "lamps"), ("NodeType", "0")]).await;
    }
    assert_eq!(lines(&server).await, []);
}

#[tokio::test]
async fn a_call_beyond_the_quota_leaves_no_line() {
    let server = TestServer::with(updraft_store::Location::Inline, |_| {}).await;
    for _ in 0..20 {
        server.call("GenerateOTAUploadURL", &[("FileSuffix", "bin")]).await;
    }
    assert!(lines(&server).await.len() < 20 && !lines(&server).await.is_empty());
}

#[tokio::test]
async fn old_lines_are_forgotten_and_so_are_too_many() {
    let server = TestServer::with(updraft_store::Location::Inline, |config| {
        config.quota_scale = 0.0;
        config.audit_days = 1;
        config.audit_rows_max = 3;
    })
    .await;
    let shop = Shop::open(&server).await;
    for _ in 0..5 {
        server.ok("CreateProduct", &changed(&shop.valid("CreateProduct").await, &[])).await;
    }
    let mut retention = Retention::default();
    retention.forget(&server.app).await.unwrap();
    assert_eq!(lines(&server).await.len(), 3);
    server.later_ms(24 * 3_600_000);
    retention.forget(&server.app).await.unwrap();
    assert_eq!(lines(&server).await.len(), 3, "a day is not too old");
    server.later_ms(1);
    retention.forget(&server.app).await.unwrap();
    assert_eq!(lines(&server).await, []);
    let line = AuditLine::default();
    server.app.store.write(Lane::Bulk, move |tx| tx.audit_insert(&line)).await.unwrap();
}

#[tokio::test]
async fn who_is_refused_again_and_again_does_not_fill_the_log() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    let known = lines(&server).await.len();
    for _ in 0..65 {
        server.call_as(RAM_USER, "JSON", "CreateProduct", &[("ProductName", "x"), ("NodeType", "0")]).await;
    }
    assert_eq!(lines(&server).await.len() - known, 60);
    server.ok("CreateProduct", &shop.valid("CreateProduct").await).await;
    server.call_as(OTHER_ACCOUNT, "JSON", "CreateProduct", &[("ProductName", "x"), ("NodeType", "0")]).await;
    assert_eq!(lines(&server).await.len() - known, 62, "neither changes nor others are left out");
    server.later_ms(60_000);
    tell_left_out(&server.app, false).await;
    tell_left_out(&server.app, true).await;
    let all = lines(&server).await;
    assert_eq!(all.len() - known, 63, "{all:?}");
    let told = all.last().unwrap();
    assert_eq!((told.outcome.as_str(), told.subject.as_str()), ("LeftOut", "Count=5"));
    assert_eq!((told.ram_user.as_deref(), told.access_key.as_deref()), (Some("operator"), Some(RAM_USER.id)));
}

#[tokio::test]
async fn refusals_go_before_changes_and_commands() {
    let server = TestServer::with(updraft_store::Location::Inline, |config| config.audit_rows_max = 3).await;
    for (outcome, os_user) in [("ok", Some("alice")), ("ok", None), ("no", None), ("no", None), ("no", None)]
    {
        let os_user = os_user.map(str::to_owned);
        let line =
            AuditLine { outcome: outcome.to_owned(), os_user, at: server.app.now(), ..AuditLine::default() };
        server.app.store.write(Lane::Bulk, move |tx| tx.audit_insert(&line)).await.unwrap();
    }
    Retention::default().forget(&server.app).await.unwrap();
    let left: Vec<String> = lines(&server).await.into_iter().map(|line| line.outcome).collect();
    assert_eq!(left, ["ok", "ok", "no"]);
}
