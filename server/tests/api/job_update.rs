//! UpdateOTAJob: what may be changed of which batches, and from when on it holds.

use crate::dynamic::{dynamic, running, tell};
use crate::overwrite::{progress, status};
use crate::rules::{failure, pull, refused, tasks};
use crate::server::TestServer;
use crate::shop::{Pairs, Shop, changed, pairs, text};
use serde_json::json;
use updraft_core::limits::JOB_TERMS_MAX;

const UPDATE: &str = "UpdateOTAJob";

/// What changes nothing of a batch but its rate.
fn request(job: &str, kind: &str, selection: &str) -> Pairs {
    pairs(&[
        ("JobId", job),
        ("MaximumPerMinute", "60"),
        ("UpgradeType", kind),
        ("TargetSelection", selection),
    ])
}

#[tokio::test]
async fn a_dynamic_batch_may_be_changed_in_everything() {
    let server = TestServer::on_disk().await;
    let shop = Shop::open(&server).await;
    let batch = dynamic(&shop, &shop.package().await, &[]).await;
    let changes = [
        ("TimeoutInMinutes", "30"),
        ("SrcVersionList.1", "1.1.0"),
        ("SrcVersionList.2", "1.2.0"),
        ("Tags.1.Key", "k"),
        ("Tags.1.Value", "v"),
    ];
    server.later_ms(1_000);
    server.ok(UPDATE, &changed(&request(&batch, "DYNAMIC", "ALL"), &changes)).await;
    let answer = server.ok("QueryOTAJob", &[("JobId", &batch)]).await;
    let data = &answer["Data"];
    assert_eq!((&data["MaximumPerMinute"], &data["TimeoutInMinutes"]), (&json!(60), &json!(30)));
    assert_eq!(data["SrcVersions"]["SrcVersion"], json!(["1.1.0", "1.2.0"]));
    assert_eq!(data["Tags"]["OtaTagDTO"], json!([{ "Key": "k", "Value": "v" }]));
    assert_ne!(data["UtcModified"], data["UtcCreate"]);
    // What is left out stays.
    server.ok(UPDATE, &changed(&request(&batch, "DYNAMIC", "ALL"), &[("MaximumPerMinute", "70")])).await;
    let after = server.ok("QueryOTAJob", &[("JobId", &batch)]).await;
    assert_eq!(after["Data"]["MaximumPerMinute"], 70);
    for field in ["TimeoutInMinutes", "SrcVersions", "Tags"] {
        assert_eq!(after["Data"][field], data[field]);
    }
}

#[tokio::test]
async fn other_source_versions_take_in_whom_they_fit_and_no_longer_the_others() {
    let server = TestServer::on_disk().await;
    let shop = Shop::open(&server).await;
    running(&shop, "lamp-1", "1.0.0").await;
    running(&shop, "lamp-2", "1.1.0").await;
    let older = dynamic(&shop, &shop.package().await, &[("SrcVersion.2", "0.9.0")]).await;
    let batch = dynamic(&shop, &shop.package().await, &[("SrcVersion.1", "0.9.0")]).await;
    let third = running(&shop, "lamp-3", "0.9.0").await;
    assert_eq!(tasks(&server, &batch).await, ["lamp-3 QUEUED "]);
    server.ok(UPDATE, &changed(&request(&batch, "DYNAMIC", "ALL"), &[("SrcVersionList.1", "1.1.0")])).await;
    server.engine().await;
    assert_eq!(tasks(&server, &batch).await, ["lamp-3 QUEUED ", "lamp-2 QUEUED "]);
    assert_eq!(tasks(&server, &older).await, ["lamp-1 QUEUED "]);
    // The task that there was goes on by its own versions; its next one is the older batch's.
    server.device(&third, pull()).await;
    server.device(&third, failure()).await;
    assert!(tasks(&server, &batch).await[0].starts_with("lamp-3 FAILED"));
    tell(&server, &third, "0.9.0").await;
    assert_eq!(tasks(&server, &batch).await.len(), 2);
    assert_eq!(tasks(&server, &older).await, ["lamp-1 QUEUED ", "lamp-3 QUEUED "]);
}

#[tokio::test]
async fn another_time_out_is_for_further_tasks() {
    let server = TestServer::on_disk().await;
    let shop = Shop::open(&server).await;
    let first = running(&shop, "lamp-1", "1.0.0").await;
    let batch = dynamic(&shop, &shop.package().await, &[("TimeoutInMinutes", "10")]).await;
    let update = |minutes| changed(&request(&batch, "DYNAMIC", "ALL"), &[("TimeoutInMinutes", minutes)]);
    server.ok(UPDATE, &update("60")).await;
    let second = running(&shop, "lamp-2", "1.0.0").await;
    for device in [&first, &second] {
        server.device(device, pull()).await;
        server.device(device, progress("default")).await;
    }
    server.later_ms(11 * 60_000);
    server.engine().await;
    assert_eq!(tasks(&server, &batch).await, ["lamp-1 FAILED timeout", "lamp-2 IN_PROGRESS "]);
    let list = server.ok("ListOTATaskByJob", &[("JobId", &batch)]).await;
    let timeout = |at: usize| text(&list, &format!("/Data/SimpleOTATaskInfo/{at}/Timeout"));
    assert_eq!((timeout(0), timeout(1)), ("10".to_owned(), "60".to_owned()));
}

#[tokio::test]
async fn changes_for_further_tasks_are_bounded() {
    let server = TestServer::on_disk().await;
    let shop = Shop::open(&server).await;
    let batch = dynamic(&shop, &shop.package().await, &[]).await;
    let update = |minutes: usize| {
        changed(&request(&batch, "DYNAMIC", "ALL"), &[("TimeoutInMinutes", minutes.to_string().as_str())])
    };
    // Without a task in between there is nothing to remember.
    for minutes in [2, 3] {
        server.ok(UPDATE, &update(minutes)).await;
    }
    for made in 0..JOB_TERMS_MAX {
        running(&shop, &format!("lamp-{made:03}"), "1.0.0").await;
        server.ok(UPDATE, &update(made + 4)).await;
    }
    running(&shop, "lamp-last", "1.0.0").await;
    refused(&server, UPDATE, &update(1_000), "iot.ota.InvalidJobUpdate").await;
    server.ok(UPDATE, &update(JOB_TERMS_MAX + 3)).await;
}

#[tokio::test]
async fn only_a_running_upgrade_can_be_changed_and_only_where_it_may() {
    let server = TestServer::on_disk().await;
    let shop = Shop::open(&server).await;
    running(&shop, "lamp-1", "1.0.0").await;
    let fixed = shop.batch(&shop.package().await, "lamp-1", &[("TimeoutInMinutes", "10")]).await;
    let good = request(&fixed, "STATIC", "SPECIFIC");
    for (change, code) in [
        (("UpgradeType", "DYNAMIC"), "iot.ota.InvalidJobUpdate"),
        (("TargetSelection", "ALL"), "iot.ota.InvalidJobUpdate"),
        (("TimeoutInMinutes", "20"), "iot.ota.InvalidJobUpdate"),
        (("SrcVersionList.1", "1.0.0"), "iot.ota.InvalidJobUpdate"),
    ] {
        refused(&server, UPDATE, &changed(&good, &[change]), code).await;
    }
    server.ok(UPDATE, &changed(&good, &[("TimeoutInMinutes", "10")])).await;
    server.ok("CancelOTATaskByJob", &[("JobId", fixed.as_str()), ("CancelQueuedTask", "true")]).await;
    assert_eq!(status(&server, &fixed).await, "CANCELED");
    refused(&server, UPDATE, &good, "iot.ota.JobStatusForbids").await;
    let proof = shop.verification(&shop.unverified().await, "lamp-1").await;
    refused(&server, UPDATE, &request(&proof, "STATIC", "SPECIFIC"), "iot.ota.JobStatusForbids").await;
    let retry = [("RetryInterval", "30"), ("RetryCount", "1"), ("TimeoutInMinutes", "60")];
    let rule = dynamic(&shop, &shop.package().await, &retry).await;
    let good = request(&rule, "DYNAMIC", "ALL");
    refused(&server, UPDATE, &changed(&good, &[("TimeoutInMinutes", "30")]), "iot.ota.InvalidRetry").await;
    refused(&server, UPDATE, &changed(&good, &[("SrcVersionList.1", "2.0.0")]), "iot.ota.InvalidSrcVersion")
        .await;
    server.ok("CancelOTAStrategyByJob", &[("JobId", &rule)]).await;
    refused(&server, UPDATE, &good, "iot.ota.JobStatusForbids").await;
}
