//! Attempts that are repeated, and what is never repeated.

use crate::rules::pull;
use crate::server::TestServer;
use crate::states::Lamp;
use updraft_core::time::{HOUR_MS, MINUTE_MS};

/// Two further attempts, each ten minutes after the last has failed.
const TWICE: [(&str, &str); 2] = [("RetryInterval", "10"), ("RetryCount", "2")];

/// `TWICE` and these.
fn twice<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    TWICE.iter().chain(more).copied().collect()
}

#[tokio::test]
async fn until_the_next_attempt_a_task_looks_as_it_did_and_nothing_is_sent() {
    for state in ["NOTIFIED", "IN_PROGRESS"] {
        let server = TestServer::new().await;
        let lamp = Lamp::open(&server).await;
        lamp.connects().await;
        let job = lamp.batch(&TWICE).await;
        assert_eq!(lamp.told(), (1, 0));
        for attempt in 1..=3 {
            if state == "IN_PROGRESS" {
                lamp.says(5).await;
            }
            lamp.fails(-1, "").await;
            if attempt == 3 {
                break;
            }
            // Told twice, it is one failure.
            lamp.fails(-1, "").await;
            assert_eq!(lamp.task(&job).await, state);
            lamp.pass(10 * MINUTE_MS - 1).await;
            lamp.leaves().await;
            lamp.connects().await;
            lamp.happens(pull()).await;
            assert_eq!(lamp.told(), (0, 0), "neither pushed nor answered before its time");
            lamp.pass(1).await;
            assert_eq!((lamp.told(), lamp.task(&job).await.as_str()), ((1, 0), state));
        }
        assert_eq!(lamp.task(&job).await, "FAILED upgrade failed");
        lamp.pass(HOUR_MS).await;
        assert_eq!(lamp.told(), (0, 0), "two further attempts, and no more");
    }
}

#[tokio::test]
async fn a_time_out_is_not_repeated() {
    let server = TestServer::new().await;
    let lamp = Lamp::open(&server).await;
    lamp.connects().await;
    let job = lamp.batch(&twice(&[("TimeoutInMinutes", "15")])).await;
    lamp.says(5).await;
    lamp.told();
    lamp.pass(15 * MINUTE_MS).await;
    assert_eq!(lamp.task(&job).await, "FAILED timeout");
    lamp.pass(HOUR_MS).await;
    assert_eq!(lamp.told(), (0, 0));
}

#[tokio::test]
async fn the_time_out_goes_on_while_a_task_waits_for_its_next_attempt() {
    let server = TestServer::new().await;
    let lamp = Lamp::open(&server).await;
    lamp.connects().await;
    let job = lamp.batch(&twice(&[("TimeoutInMinutes", "15")])).await;
    lamp.says(5).await;
    lamp.pass(MINUTE_MS).await;
    lamp.fails(-4, "").await;
    lamp.pass(10 * MINUTE_MS).await;
    lamp.says(20).await;
    lamp.pass(4 * MINUTE_MS - 1).await;
    assert_eq!(lamp.task(&job).await, "IN_PROGRESS");
    lamp.pass(1).await;
    assert_eq!(lamp.task(&job).await, "FAILED timeout", "15 minutes after the first progress of all");
}

#[tokio::test]
async fn a_cancellation_is_not_repeated() {
    let server = TestServer::new().await;
    let lamp = Lamp::open(&server).await;
    lamp.connects().await;
    for waiting in [false, true] {
        let job = lamp.batch(&TWICE).await;
        lamp.says(5).await;
        if waiting {
            lamp.fails(-2, "").await;
        }
        lamp.cancel(&job).await;
        lamp.told();
        lamp.pass(HOUR_MS).await;
        assert_eq!((lamp.told(), lamp.task(&job).await.as_str()), ((0, 0), "CANCELED"));
    }
}

#[tokio::test]
async fn no_attempt_is_made_too_late() {
    let server = TestServer::new().await;
    let lamp = Lamp::open(&server).await;
    let job = lamp.batch(&twice(&[("TimeoutInMinutes", "15")])).await;
    lamp.bring("IN_PROGRESS").await;
    lamp.pass(5 * MINUTE_MS).await;
    lamp.fails(-2, "").await;
    assert_eq!(lamp.task(&job).await, "FAILED download failed", "the next one would come with the time-out");

    let finish = server.app.now().plus_ms(HOUR_MS).0.to_string();
    let job = lamp.batch(&twice(&[("ScheduleFinishTime", &finish)])).await;
    lamp.bring("NOTIFIED").await;
    lamp.pass(50 * MINUTE_MS).await;
    lamp.fails(-2, "").await;
    assert_eq!(lamp.task(&job).await, "FAILED download failed", "or with the end of the batch's time");
}

#[tokio::test]
async fn who_left_the_source_versions_gets_no_other_attempt() {
    let server = TestServer::new().await;
    let lamp = Lamp::open(&server).await;
    let sources = [("TargetSelection", "ALL"), ("SrcVersion.1", "1.0.0")];
    let batch = async || {
        let mut request = crate::shop::without(
            &lamp.shop.batch_request(&lamp.shop.package().await, "x"),
            "TargetDeviceName",
        );
        request = crate::shop::changed(&request, &twice(&sources));
        let job = server.ok("CreateOTAStaticUpgradeJob", &request).await;
        server.engine().await;
        crate::shop::text(&job, "/Data/JobId")
    };
    // The failed attempt has left it elsewhere.
    let job = batch().await;
    lamp.bring("IN_PROGRESS").await;
    lamp.runs("0.0.1-rescue").await;
    assert_eq!(lamp.task(&job).await, "FAILED report version is not conform");
    // It goes elsewhere while it waits; who comes back in time has its attempt.
    for (back, expected) in
        [(false, "FAILED the device no longer runs a source version of the batch"), (true, "IN_PROGRESS")]
    {
        lamp.runs("1.0.0").await;
        let job = batch().await;
        lamp.bring("IN_PROGRESS").await;
        lamp.fails(-3, "").await;
        lamp.runs("0.0.1-rescue").await;
        if back {
            lamp.runs("1.0.0").await;
        }
        assert_eq!(lamp.task(&job).await, "IN_PROGRESS");
        lamp.pass(10 * MINUTE_MS).await;
        assert_eq!(lamp.task(&job).await, expected);
    }
}

#[tokio::test]
async fn what_is_put_back_in_line_has_all_its_attempts_and_all_its_time() {
    let server = TestServer::new().await;
    let lamp = Lamp::open(&server).await;
    let job = lamp.batch(&[("RetryInterval", "10"), ("RetryCount", "1"), ("TimeoutInMinutes", "60")]).await;
    for _ in 0..2 {
        lamp.bring("IN_PROGRESS").await;
        lamp.pass(MINUTE_MS).await;
        lamp.fails(-1, "").await;
        assert_eq!(lamp.task(&job).await, "IN_PROGRESS");
        lamp.pass(10 * MINUTE_MS).await;
        lamp.says(5).await;
        lamp.fails(-1, "").await;
        assert_eq!(lamp.task(&job).await, "FAILED upgrade failed");
        lamp.again(&job).await;
        assert_eq!(lamp.task(&job).await, "QUEUED");
    }
    lamp.bring("IN_PROGRESS").await;
    lamp.pass(60 * MINUTE_MS - 1).await;
    assert_eq!(lamp.task(&job).await, "IN_PROGRESS");
    lamp.pass(1).await;
    assert_eq!(lamp.task(&job).await, "FAILED timeout");
}
