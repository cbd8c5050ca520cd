//! What policies let RAM users do, by enumeration.

use crate::server::{OTHER_ACCOUNT, RAM_USER, ROOT, TestServer};
use crate::shop::Shop;
use updraft_server::api::OPERATIONS;
use updraft_server::setup::ROOT_ACCOUNT;
use updraft_store::{Lane, StoreError};

/// Longer than anything looked up is trusted.
const STALE_MS: i64 = 500;

/// Gives RAM_USER's user a policy, and lets it act.
async fn put(server: &TestServer, policy: Option<String>) {
    let write = server.app.store.write::<_, StoreError, _>(Lane::Interactive, move |tx| {
        let account = tx.account_find(ROOT_ACCOUNT)?.unwrap_or_default();
        tx.ram_user_policy_set(account, "operator", policy.as_deref())
    });
    assert!(write.await.unwrap());
    server.later_ms(STALE_MS);
}

fn says(effect: &str, action: &str) -> String {
    format!(r#"{{"Effect": "{effect}", "Action": "{action}", "Resource": "*"}}"#)
}

fn policy(statements: &[String]) -> String {
    format!(r#"{{"Version": "1", "Statement": [{}]}}"#, statements.join(","))
}

#[tokio::test]
async fn a_policy_that_allows_one_action_allows_exactly_that_one() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    for allowed in OPERATIONS {
        put(&server, Some(policy(&[says("Allow", &format!("iot:{}", allowed.name))]))).await;
        let valid = shop.valid(allowed.name).await;
        let answer = server.call_as(RAM_USER, "JSON", allowed.name, &valid).await;
        assert_eq!(answer.status, 200, "{}: {}", allowed.name, answer.body);
        assert_eq!(answer.json()["Success"], true, "{}: {}", allowed.name, answer.body);
        for other in OPERATIONS.iter().filter(|other| other.name != allowed.name) {
            let answer = server.call_as::<&str, &str>(RAM_USER, "JSON", other.name, &[]).await;
            assert_eq!((answer.status, answer.code().as_str()), (403, "NoPermission"), "{}", other.name);
            assert!(answer.message().contains(&format!("iot:{}", other.name)), "{}", answer.message());
        }
    }
}

#[tokio::test]
async fn a_deny_wins_and_changes_nothing() {
    let server = TestServer::on_disk().await;
    let shop = Shop::open(&server).await;
    for denied in OPERATIONS {
        put(&server, Some(policy(&[says("Allow", "*"), says("Deny", &format!("iot:{}", denied.name))])))
            .await;
        let valid = shop.valid(denied.name).await;
        let before = server.dump();
        let answer = server.call_as(RAM_USER, "JSON", denied.name, &valid).await;
        assert_eq!((answer.status, answer.code().as_str()), (403, "NoPermission"), "{}", denied.name);
        assert!(server.dump() == before, "{} changed the database", denied.name);
    }
}

#[tokio::test]
async fn without_a_policy_and_with_the_accounts_own_key_everything_is_allowed() {
    let server = TestServer::new().await;
    let action = "QueryProductList";
    let page = [("CurrentPage", "1"), ("PageSize", "1")];
    put(&server, Some(policy(&[says("Deny", "*")]))).await;
    assert_eq!(server.call_as(RAM_USER, "JSON", action, &page).await.status, 403);
    for key in [ROOT, OTHER_ACCOUNT] {
        assert_eq!(server.call_as(key, "JSON", action, &page).await.status, 200);
    }
    put(&server, None).await;
    assert_eq!(server.call_as(RAM_USER, "JSON", action, &page).await.status, 200);
}

#[tokio::test]
async fn a_stored_policy_that_cannot_be_read_allows_nothing() {
    let server = TestServer::new().await;
    put(&server, Some("{}".to_owned())).await;
    let answer = server.call_as::<&str, &str>(RAM_USER, "JSON", "CreateProduct", &[]).await;
    assert_eq!((answer.status, answer.code().as_str()), (500, "InternalError"));
}
