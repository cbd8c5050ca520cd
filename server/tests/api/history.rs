//! What is remembered of tasks.

use crate::server::TestServer;
use crate::shop::{Shop, text};
use serde_json::Value;
use updraft_core::task::FailedStep;
use updraft_server::device::link::{Asked, DeviceEvent, Question};
use updraft_server::retention::Retention;

fn pull() -> DeviceEvent {
    let asked = Asked { by: Question::Get, id: "1".to_owned() };
    DeviceEvent::Pull { module: "default".to_owned(), asked }
}

fn progress(percent: i64) -> DeviceEvent {
    DeviceEvent::Progress { module: "default".to_owned(), percent, desc: "writing".to_owned() }
}

fn failure() -> DeviceEvent {
    let (step, desc) = (FailedStep::Flashing, "bad block".to_owned());
    DeviceEvent::Failure { module: "default".to_owned(), step, desc }
}

fn report(version: &str) -> DeviceEvent {
    DeviceEvent::Report { module: "default".to_owned(), version: version.to_owned() }
}

async fn history(server: &TestServer, task: &str) -> Value {
    server.ok("ListOTATaskHistory", &[("TaskId", task), ("PageSize", "100")]).await["Data"].clone()
}

/// Its lines as `EVENT CAUSE FROM>TO DETAIL`.
fn lines(history: &Value) -> Vec<String> {
    let of = |line: &Value, name: &str| line[name].as_str().unwrap().to_owned();
    let one = |line: &Value| {
        let [event, cause, from, to, detail] =
            ["Event", "Cause", "FromStatus", "ToStatus", "Detail"].map(|name| of(line, name));
        format!("{event} {cause} {from}>{to} {detail}").trim_end().to_owned()
    };
    history["Events"]["TaskEvent"].as_array().unwrap().iter().map(one).collect()
}

#[tokio::test]
async fn a_tasks_life_is_told_with_its_causes_and_what_was_refused() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    let device = shop.device("lamp_1").await;
    server.device(&device, report("1.0.0")).await;
    let package = shop.package().await;
    let job = shop.batch(&package, "lamp_1", &[("NeedConfirm", "true")]).await;
    let task = shop.task(&job).await;
    assert_eq!(lines(&history(&server, &task).await), [""; 0]);
    // Twice too early, then as it should be.
    server.device(&device, failure()).await;
    server.later_ms(1_000);
    server.device(&device, failure()).await;
    server.later_ms(1_000);
    let confirmed = server.app.now();
    server.ok("ConfirmOTATask", &[("TaskId.1", &task)]).await;
    server.device(&device, pull()).await;
    for percent in [0, 10, 50, 100] {
        server.device(&device, progress(percent)).await;
    }
    server.device(&device, failure()).await;
    server.ok("ReupgradeOTATask", &[("JobId", &job), ("TaskId.1", &task)]).await;
    server
        .ok(
            "CancelOTATaskByJob",
            &[("JobId", job.as_str()), ("CancelQueuedTask", "true"), ("CancelUnconfirmedTask", "true")],
        )
        .await;
    server.engine().await;

    let told = history(&server, &task).await;
    assert_eq!(text(&told, "/TaskStatus"), "CANCELED");
    assert_eq!(text(&told, "/DeviceName"), "lamp_1");
    let wanted = [
        "CONFIRMED OPERATOR CONFIRM>QUEUED",
        "PULLED DEVICE QUEUED>NOTIFIED",
        "PROGRESS DEVICE NOTIFIED>IN_PROGRESS 0 %; writing",
        "FAILURE DEVICE IN_PROGRESS>FAILED flashing failed: bad block",
        "REUPGRADE OPERATOR FAILED>QUEUED",
        "CANCEL OPERATOR QUEUED>CANCELED",
    ];
    assert_eq!(lines(&told), wanted);
    assert_eq!(text(&told, "/Events/TaskEvent/0/UtcTime"), updraft_server::api::answer::utc(confirmed));
    let refused = &told["Refusals"]["TaskRefusal"][0];
    assert_eq!(
        (text(refused, "/Event"), text(refused, "/Reason"), refused["Count"].as_i64().unwrap()),
        ("failure".to_owned(), "the device has not been given the package".to_owned(), 2)
    );
    assert!(text(refused, "/UtcFirst") < text(refused, "/UtcLast"));
}

#[tokio::test]
async fn the_end_of_a_batchs_time_and_a_newer_batch_are_named_as_causes() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    shop.device("lamp_1").await;
    let first = shop.batch(&shop.package().await, "lamp_1", &[]).await;
    let task = shop.task(&first).await;
    shop.batch(&shop.package().await, "lamp_1", &[("OverwriteMode", "2")]).await;
    assert_eq!(lines(&history(&server, &task).await), ["REPLACED BATCH QUEUED>CANCELED"]);
}

#[tokio::test]
async fn histories_are_forgotten_by_age() {
    let server = TestServer::with(updraft_store::Location::Inline, |config| {
        config.quota_scale = 0.0;
        config.history_days = 1;
    })
    .await;
    let shop = Shop::open(&server).await;
    let device = shop.device("lamp_1").await;
    let task = shop.task(&shop.batch(&shop.package().await, "lamp_1", &[]).await).await;
    server.device(&device, pull()).await;
    server.later_ms(24 * 3_600_000);
    Retention::default().forget(&server.app).await.unwrap();
    assert_eq!(lines(&history(&server, &task).await).len(), 1, "a day is not too old");
    server.later_ms(1);
    Retention::default().forget(&server.app).await.unwrap();
    assert_eq!(lines(&history(&server, &task).await), [""; 0]);
}
