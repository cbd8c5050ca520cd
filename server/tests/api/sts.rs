//! Temporary keys, in both signature schemes.

use crate::acs3::Call;
use crate::server::{Answer, Key, RAM_USER, ROOT, START, TestServer};
use http::Method;
use updraft_server::api::access::SEAL_PURPOSE;
use updraft_server::api::sts;
use updraft_server::retention::Retention;
use updraft_server::seal::MasterKey;
use updraft_server::setup::ROOT_ACCOUNT;
use updraft_store::{Lane, StoreError, StsKey};

const TEMPORARY: Key = Key { id: "STS.temporary", secret: "temporary-secret" };
const LIVES_MS: i64 = 900_000;
/// Longer than anything looked up is trusted.
const STALE_MS: i64 = 500;
const HOUR_MS: i64 = 3_600_000;

fn token() -> String {
    format!("UPDRAFT{}", "t".repeat(64))
}

fn other_token() -> String {
    format!("UPDRAFT{}", "o".repeat(64))
}

/// Issues [`TEMPORARY`].
async fn issue(server: &TestServer, user: Option<&str>, policy: Option<&str>) {
    let secret_sealed = MasterKey::new(&[7; 32]).unwrap().seal(SEAL_PURPOSE, TEMPORARY.secret).unwrap();
    let key = StsKey {
        id: TEMPORARY.id.to_owned(),
        account: updraft_core::id::AccountNo(0),
        ram_user: user.map(str::to_owned),
        session_name: "ci".to_owned(),
        policy: policy.map(str::to_owned),
        secret_sealed,
        token_hash: sts::hash(&token()),
        created_at: START,
        expires_at: START.plus_ms(LIVES_MS),
    };
    let write = server.app.store.write::<_, StoreError, _>(Lane::Interactive, move |tx| {
        let account = tx.account_find(ROOT_ACCOUNT)?.unwrap_or_default();
        tx.sts_key_insert(&StsKey { account, ..key.clone() })
    });
    write.await.unwrap();
}

/// A signed v1.0 call.
async fn v1(server: &TestServer, key: Key, action: &str, token: Option<&str>) -> Answer {
    let mut params = server.common(key, action, "JSON");
    params.insert("CurrentPage".to_owned(), "1".to_owned());
    params.insert("PageSize".to_owned(), "10".to_owned());
    if let Some(token) = token {
        params.insert("SecurityToken".to_owned(), token.to_owned());
    }
    server.send_signed(Method::POST, key, params).await
}

/// A signed ACS3 call as Tea SDKs make it.
fn acs3(server: &TestServer, key: Key, token: Option<&str>) -> Call {
    let mut call = Call::new(server);
    call.key = key;
    if let Some(token) = token {
        for (name, value) in [("x-acs-accesskey-id", key.id), ("x-acs-security-token", token)] {
            call = call.set(name, value);
            call.signed.push(name.to_owned());
        }
    }
    call
}

#[tokio::test]
async fn a_temporary_key_signs_in_both_schemes_with_its_token_only_and_until_its_end() {
    let server = TestServer::new().await;
    issue(&server, Some("operator"), None).await;
    let (token, other) = (token(), other_token());
    let expected = [
        (TEMPORARY, Some(token.as_str()), 200, ""),
        (TEMPORARY, None, 400, "MissingSecurityToken"),
        (TEMPORARY, Some(&other), 400, "InvalidSecurityToken.MismatchWithAccessKey"),
        (TEMPORARY, Some("token"), 400, "InvalidSecurityToken.Malformed"),
        (ROOT, Some(&token), 400, "InvalidSecurityToken.MismatchWithAccessKey"),
        (Key { id: "STS.nobody", secret: "x" }, Some(&token), 404, "InvalidAccessKeyId.NotFound"),
        (Key { secret: "wrong", ..TEMPORARY }, Some(&token), 400, "SignatureDoesNotMatch"),
    ];
    for (key, token, status, code) in expected {
        let answer = v1(&server, key, "QueryProductList", token).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "v1.0 {} {token:?}", key.id);
        let answer = acs3(&server, key, token).send(&server).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "ACS3 {} {token:?}", key.id);
    }
    server.later_ms(LIVES_MS - 1);
    assert_eq!(v1(&server, TEMPORARY, "QueryProductList", Some(&token)).await.status, 200);
    server.later_ms(1);
    let answer = v1(&server, TEMPORARY, "QueryProductList", Some(&token)).await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "InvalidSecurityToken.Expired"));
    assert!(answer.message().contains("2024-05-20T12:15:00"), "{}", answer.message());
    let answer = acs3(&server, TEMPORARY, Some(&token)).send(&server).await;
    assert_eq!(answer.code(), "InvalidSecurityToken.Expired");
}

#[tokio::test]
async fn the_token_must_be_signed() {
    let server = TestServer::new().await;
    issue(&server, None, None).await;
    let token = token();
    for bare in ["x-acs-security-token", "x-acs-accesskey-id"] {
        let mut call = acs3(&server, TEMPORARY, Some(&token));
        call.signed.retain(|name| name != bare);
        let answer = call.send(&server).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "IncompleteSignature"), "{bare}");
        assert!(answer.message().contains(bare), "{}", answer.body);
    }
    let call = acs3(&server, TEMPORARY, Some(&token)).set("x-acs-accesskey-id", "another");
    assert_eq!(call.send(&server).await.code(), "IncompleteSignature", "two keys in one call");
    let call = acs3(&server, TEMPORARY, Some(&other_token()));
    let authorization = call.authorization();
    let answer = call.set("x-acs-security-token", &token).send_as(&server, &authorization).await;
    assert_eq!(answer.code(), "SignatureDoesNotMatch", "a token put in after signing");
}

#[tokio::test]
async fn what_a_temporary_key_may_do_needs_its_users_and_its_sessions_policy() {
    let server = TestServer::new().await;
    let allow = |action: &str| format!(r#"{{"Statement": [{{"Effect": "Allow", "Action": {action}}}]}}"#);
    let session = allow(r#"["iot:QueryProductList", "iot:ListOTAFirmware"]"#);
    issue(&server, Some("operator"), Some(&session)).await;
    let token = token();
    let asked = async |action| v1(&server, TEMPORARY, action, Some(&token)).await;
    assert_eq!(asked("QueryProductList").await.status, 200);
    let answer = asked("CreateProduct").await;
    assert_eq!((answer.status, answer.code().as_str()), (403, "NoPermission"));
    assert!(answer.message().contains("session policy") && answer.message().contains("iot:CreateProduct"));

    let write = server.app.store.write::<_, StoreError, _>(Lane::Interactive, move |tx| {
        let account = tx.account_find(ROOT_ACCOUNT)?.unwrap_or_default();
        let policy =
            r#"{"Statement": [{"Effect": "Allow", "Action": ["iot:CreateProduct", "iot:ListOTAFirmware"]}]}"#;
        tx.ram_user_policy_set(account, "operator", Some(policy))
    });
    assert!(write.await.unwrap());
    server.later_ms(STALE_MS);
    assert_eq!(asked("ListOTAFirmware").await.status, 200, "both allow it");
    for (action, named) in [("QueryProductList", "RAM user operator"), ("CreateProduct", "session policy")] {
        let answer = asked(action).await;
        assert_eq!((answer.status, answer.code().as_str()), (403, "NoPermission"), "{action}");
        assert!(answer.message().contains(named), "{}", answer.message());
    }
}

#[tokio::test]
async fn a_users_end_ends_its_temporary_keys_and_its_lasting_keys_do_not_matter() {
    let server = TestServer::new().await;
    issue(&server, Some("operator"), None).await;
    let token = token();
    let change = async |delete: bool| {
        let write = server.app.store.write::<_, StoreError, _>(Lane::Interactive, move |tx| {
            let account = tx.account_find(ROOT_ACCOUNT)?.unwrap_or_default();
            if delete {
                tx.ram_user_delete(account, "operator").map(|_| ())
            } else {
                tx.access_key_switch(RAM_USER.id, false)
            }
        });
        write.await.unwrap();
        server.later_ms(STALE_MS);
        v1(&server, TEMPORARY, "QueryProductList", Some(&token)).await
    };
    assert_eq!(change(false).await.status, 200);
    assert_eq!(change(true).await.code(), "InvalidAccessKeyId.NotFound");
}

#[tokio::test]
async fn expired_keys_say_so_for_a_day_and_are_forgotten_then() {
    let server = TestServer::new().await;
    issue(&server, None, None).await;
    let token = token();
    let after = async |ms| {
        server.later_ms(ms);
        Retention::default().forget(&server.app).await.unwrap();
        v1(&server, TEMPORARY, "QueryProductList", Some(&token)).await.code()
    };
    assert_eq!(after(LIVES_MS + 24 * HOUR_MS).await, "InvalidSecurityToken.Expired");
    assert_eq!(after(STALE_MS).await, "InvalidAccessKeyId.NotFound");
}

#[tokio::test]
async fn the_audit_log_says_which_temporary_key_changed_something() {
    let server = TestServer::new().await;
    issue(&server, Some("operator"), None).await;
    let mut params = server.common(TEMPORARY, "CreateProduct", "JSON");
    for (name, value) in [("SecurityToken", token().as_str()), ("ProductName", "lamps"), ("NodeType", "0")] {
        params.insert(name.to_owned(), value.to_owned());
    }
    assert_eq!(server.send_signed(Method::POST, TEMPORARY, params).await.status, 200);
    let lines = server
        .app
        .store
        .read(|tx| tx.audit_list(&updraft_store::AuditFilter::default(), i64::MAX, 10))
        .await
        .unwrap();
    assert_eq!(lines[0].1.ram_user.as_deref(), Some("operator"));
    assert_eq!(lines[0].1.access_key.as_deref(), Some(TEMPORARY.id));
    assert!(!format!("{lines:?}").contains(&token()));
}
