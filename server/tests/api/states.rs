//! Tasks and verifications, state by state, as callers and devices see them.

use crate::overwrite::status;
use crate::rules::{pull, refused, report, tasks};
use crate::server::TestServer;
use crate::shop::{Shop, changed, pairs, text, without};
use std::sync::atomic::Ordering;
use updraft_core::task::FailedStep;
use updraft_core::time::{MINUTE_MS, SECOND_MS};
use updraft_server::device::link::{DeviceEvent, Downlink};

const LAMP: &str = "lamp-1";

/// A device of a product, and what it does.
pub struct Lamp<'a> {
    server: &'a TestServer,
    pub shop: Shop<'a>,
    pub id: String,
    sessions: std::cell::Cell<i64>,
}

impl<'a> Lamp<'a> {
    /// A device that runs 1.0.0 and is not connected.
    pub async fn open(server: &'a TestServer) -> Self {
        let shop = Shop::open(server).await;
        let id = shop.device(LAMP).await;
        let lamp = Self { server, shop, id, sessions: std::cell::Cell::new(0) };
        lamp.runs("1.0.0").await;
        lamp
    }

    pub async fn happens(&self, event: DeviceEvent) {
        self.server.device(&self.id, event).await;
        self.server.engine().await;
    }

    pub async fn runs(&self, version: &str) {
        self.happens(report(version)).await;
    }

    pub async fn says(&self, percent: i64) {
        let (module, desc) = ("default".to_owned(), String::new());
        self.happens(DeviceEvent::Progress { module, percent, desc }).await;
    }

    pub async fn fails(&self, step: i64, desc: &str) {
        let (step, desc) = (FailedStep::from_step(step).unwrap(), desc.to_owned());
        self.happens(DeviceEvent::Failure { module: "default".to_owned(), step, desc }).await;
    }

    /// It logs in anew, and listens.
    pub async fn connects(&self) {
        let session = self.sessions.get() + 1;
        self.sessions.set(session);
        self.server.listening.store(true, Ordering::Relaxed);
        self.happens(DeviceEvent::Online { session, ip: "10.0.0.7".to_owned() }).await;
        self.happens(DeviceEvent::Listening).await;
    }

    pub async fn leaves(&self) {
        self.server.listening.store(false, Ordering::Relaxed);
        self.happens(DeviceEvent::Offline { session: self.sessions.get() }).await;
    }

    /// A batch for it, of a new package; answers its JobId.
    pub async fn batch(&self, more: &[(&str, &str)]) -> String {
        let job = self.shop.batch(&self.shop.package().await, LAMP, more).await;
        self.server.engine().await;
        job
    }

    /// Brings its task of the batch from QUEUED into this state.
    pub async fn bring(&self, state: &str) {
        if matches!(state, "NOTIFIED" | "IN_PROGRESS") {
            self.happens(pull()).await;
        }
        if state == "IN_PROGRESS" {
            self.says(5).await;
        }
    }

    /// `TaskStatus TaskDesc` of its task.
    pub async fn task(&self, job: &str) -> String {
        let listed = tasks(self.server, job).await;
        listed[0].strip_prefix("lamp-1 ").unwrap().trim_end().to_owned()
    }

    pub async fn pass(&self, ms: i64) {
        self.server.later_ms(ms);
        self.server.engine().await;
    }

    /// How often it was told of a package since the last look: by a push, and by an answer.
    pub fn told(&self) -> (usize, usize) {
        let sent = std::mem::take(&mut *self.server.sent.lock().unwrap());
        let count = |wanted: fn(&Downlink) -> bool| sent.iter().filter(|(_, what)| wanted(what)).count();
        let push = count(|what| matches!(what, Downlink::Push { .. }));
        (push, count(|what| matches!(what, Downlink::PullReply { package: Some(_), .. })))
    }

    pub async fn cancel(&self, job: &str) {
        let flags = ["CancelQueuedTask", "CancelNotifiedTask", "CancelInProgressTask"];
        let mut params = vec![("JobId", job)];
        params.extend(flags.map(|flag| (flag, "true")));
        self.server.ok("CancelOTATaskByJob", &params).await;
        self.server.engine().await;
    }

    /// Puts its task back in line.
    pub async fn again(&self, job: &str) {
        let task = self.shop.task(job).await;
        self.server.ok("ReupgradeOTATask", &[("JobId", job), ("TaskId.1", &task)]).await;
        self.server.engine().await;
    }
}

/// `Status` and `VerifyProgress` of a package.
async fn verdict(server: &TestServer, firmware: &str) -> (i64, i64) {
    let answer = server.ok("QueryOTAFirmware", &[("FirmwareId", firmware)]).await;
    let field = |name: &str| answer["FirmwareInfo"][name].as_i64().unwrap();
    (field("Status"), field("VerifyProgress"))
}

#[tokio::test]
async fn a_new_package_is_usable_at_once_or_only_when_it_is_verified() {
    let server = TestServer::on_disk().await;
    let lamp = Lamp::open(&server).await;
    let (exempt, unproven) = (lamp.shop.package().await, lamp.shop.unverified().await);
    assert_eq!(verdict(&server, &exempt).await, (-1, 0));
    assert_eq!(verdict(&server, &unproven).await, (0, 0));
    for (action, more) in [
        ("CreateOTAStaticUpgradeJob", &[("TargetSelection", "ALL")][..]),
        ("CreateOTADynamicUpgradeJob", &[("SrcVersion.1", "1.0.0")]),
    ] {
        let of = |firmware: &str| {
            let base = pairs(&[("FirmwareId", firmware), ("ProductKey", &lamp.shop.product_key)]);
            changed(&base, more)
        };
        refused(&server, action, &of(&unproven), "iot.ota.FirmwareNotVerified").await;
        server.ok(action, &of(&exempt)).await;
    }
}

#[tokio::test]
async fn a_verification_is_decided_with_its_last_test_device() {
    let server = TestServer::on_disk().await;
    let shop = Shop::open(&server).await;
    let mut devices = Vec::new();
    for name in ["lamp-1", "lamp-2", "lamp-3"] {
        devices.push(shop.device(name).await);
    }
    let failure = || DeviceEvent::Failure {
        module: "default".to_owned(),
        step: FailedStep::Flashing,
        desc: String::new(),
    };
    let names = [("TargetDeviceName.2", "lamp-2"), ("TargetDeviceName.3", "lamp-3")];
    // What the devices do one after the other, and what becomes of the package: one failure is enough, whenever it
    // comes, but the others are waited for.
    for (endings, last) in [
        (["fails", "succeeds", "succeeds"], 3),
        (["succeeds", "succeeds", "fails"], 3),
        (["succeeds", "cancelled", "succeeds"], 3),
        (["cancelled", "cancelled", "cancelled"], 3),
        (["succeeds", "succeeds", "succeeds"], 1),
    ] {
        let firmware = shop.unverified().await;
        let verify = without(&shop.batch_request(&firmware, "lamp-1"), "TargetSelection");
        let made = server.ok("CreateOTAVerifyJob", &changed(&verify, &names)).await;
        let job = text(&made, "/Data/JobId");
        for ((device, ending), done) in devices.iter().zip(endings).zip([33, 66, 100]) {
            server.device(device, pull()).await;
            match ending {
                "fails" => server.device(device, failure()).await,
                "succeeds" => server.device(device, report("2.0.0")).await,
                _ => {
                    let cancel = [("JobId", job.as_str()), ("CancelNotifiedTask", "true")];
                    server.ok("CancelOTATaskByJob", &cancel).await;
                }
            }
            server.engine().await;
            let expected = if done == 100 { last } else { 2 };
            assert_eq!(verdict(&server, &firmware).await, (expected, done), "{endings:?}");
        }
        let ended = if endings == ["cancelled"; 3] { "CANCELED" } else { "COMPLETED" };
        assert_eq!(status(&server, &job).await, ended);
        for device in &devices {
            server.device(device, report("1.0.0")).await;
        }
    }
}

#[tokio::test]
async fn a_verification_that_ran_out_of_time_has_failed_and_may_succeed_with_another_try() {
    let server = TestServer::on_disk().await;
    let lamp = Lamp::open(&server).await;
    let firmware = lamp.shop.unverified().await;
    let verify = without(&lamp.shop.batch_request(&firmware, LAMP), "TargetSelection");
    let verify = changed(&verify, &[("TimeoutInMinutes", "5"), ("NeedConfirm", "true")]);
    let job = text(&server.ok("CreateOTAVerifyJob", &verify).await, "/Data/JobId");
    assert_eq!(lamp.task(&job).await, "CONFIRM", "a verification may ask for consent, too");
    server.ok("ConfirmOTATask", &[("TaskId.1", &lamp.shop.task(&job).await)]).await;
    lamp.bring("IN_PROGRESS").await;
    lamp.pass(5 * MINUTE_MS).await;
    assert_eq!(lamp.task(&job).await, "FAILED timeout");
    assert_eq!(verdict(&server, &firmware).await, (3, 100));
    lamp.again(&job).await;
    assert_eq!((lamp.task(&job).await.as_str(), verdict(&server, &firmware).await), ("QUEUED", (2, 0)));
    lamp.runs("2.0.0").await;
    assert_eq!(verdict(&server, &firmware).await, (1, 100));
}

#[tokio::test]
async fn only_the_reported_version_decides() {
    for state in ["CONFIRM", "QUEUED", "NOTIFIED", "IN_PROGRESS"] {
        let server = TestServer::new().await;
        let lamp = Lamp::open(&server).await;
        let confirm = if state == "CONFIRM" { "true" } else { "false" };
        let job = lamp.batch(&[("NeedConfirm", confirm)]).await;
        lamp.bring(state).await;
        assert_eq!(lamp.task(&job).await, state);
        if state == "IN_PROGRESS" {
            lamp.says(100).await;
            assert_eq!(lamp.task(&job).await, state, "all done is not success");
        } else {
            // Before it begins, whatever it runs is what it comes from.
            lamp.runs("0.9.9").await;
            assert_eq!(lamp.task(&job).await, state);
            let list = server.ok("ListOTATaskByJob", &[("JobId", &job)]).await;
            assert_eq!(text(&list, "/Data/SimpleOTATaskInfo/0/SrcVersion"), "0.9.9");
        }
        lamp.runs(if state == "IN_PROGRESS" { "1.0.0" } else { "0.9.9" }).await;
        assert_eq!(lamp.task(&job).await, state, "what it ran before is neutral");
        lamp.runs("2.0.0").await;
        assert_eq!(lamp.task(&job).await, "SUCCEEDED");
        assert_eq!(status(&server, &job).await, "COMPLETED");
        // What it does later is its own news.
        lamp.runs("1.0.0").await;
        assert_eq!(lamp.task(&job).await, "SUCCEEDED");
        let detail = server.ok("QueryDeviceDetail", &[("IotId", &lamp.id)]).await;
        assert_eq!(text(&detail, "/Data/FirmwareVersion"), "1.0.0");
    }
}

#[tokio::test]
async fn a_version_that_is_neither_fails_what_is_in_progress() {
    let server = TestServer::new().await;
    let lamp = Lamp::open(&server).await;
    let job = lamp.batch(&[]).await;
    lamp.bring("IN_PROGRESS").await;
    lamp.runs("0.0.1-rescue").await;
    assert_eq!(lamp.task(&job).await, "FAILED report version is not conform");
    // Of a device that never told a version, the first one tells where it came from.
    let silent = lamp.shop.device("lamp-2").await;
    let job = lamp.shop.batch(&lamp.shop.package().await, "lamp-2", &[]).await;
    let (module, desc) = ("default".to_owned(), String::new());
    for event in [pull(), DeviceEvent::Progress { module, percent: 5, desc }, report("0.7")] {
        server.device(&silent, event).await;
    }
    assert_eq!(tasks(&server, &job).await, ["lamp-2 IN_PROGRESS "]);
    server.device(&silent, report("0.8")).await;
    assert_eq!(tasks(&server, &job).await, ["lamp-2 FAILED report version is not conform"]);
}

#[tokio::test]
async fn each_negative_step_fails_the_task_in_its_own_words() {
    for state in ["NOTIFIED", "IN_PROGRESS"] {
        let server = TestServer::new().await;
        let lamp = Lamp::open(&server).await;
        for (step, words) in [
            (-1, "upgrade failed"),
            (-2, "download failed"),
            (-3, "verification failed"),
            (-4, "flashing failed"),
        ] {
            let job = lamp.batch(&[]).await;
            lamp.bring(state).await;
            lamp.fails(step, "why").await;
            assert_eq!(lamp.task(&job).await, format!("FAILED {words}: why"), "{state}");
            let job = lamp.batch(&[]).await;
            lamp.bring(state).await;
            lamp.fails(step, "").await;
            assert_eq!(lamp.task(&job).await, format!("FAILED {words}"));
        }
    }
}

#[tokio::test]
async fn the_time_out_runs_from_the_first_progress_and_a_repeated_push_does_not_prolong_it() {
    let server = TestServer::new().await;
    let lamp = Lamp::open(&server).await;
    lamp.connects().await;
    let job = lamp.batch(&[("TimeoutInMinutes", "5")]).await;
    assert_eq!((lamp.told(), lamp.task(&job).await.as_str()), ((1, 0), "NOTIFIED"));
    // A device that never answers has no time-out.
    lamp.pass(60 * MINUTE_MS).await;
    assert_eq!(lamp.task(&job).await, "NOTIFIED");
    // Step 0 is progress.
    lamp.says(0).await;
    assert_eq!(lamp.task(&job).await, "IN_PROGRESS");
    lamp.pass(4 * MINUTE_MS).await;
    lamp.leaves().await;
    lamp.connects().await;
    assert_eq!(lamp.told(), (1, 0), "it is told again after it came back");
    lamp.happens(pull()).await;
    assert_eq!(lamp.told(), (0, 1));
    lamp.says(50).await;
    lamp.pass(MINUTE_MS - 1).await;
    assert_eq!(lamp.task(&job).await, "IN_PROGRESS");
    lamp.pass(1).await;
    assert_eq!(lamp.task(&job).await, "FAILED timeout");
    assert_eq!(status(&server, &job).await, "COMPLETED");
}

#[tokio::test]
async fn who_is_away_is_told_once_when_it_is_back() {
    let server = TestServer::new().await;
    let lamp = Lamp::open(&server).await;
    let job = lamp.batch(&[]).await;
    lamp.pass(24 * 60 * MINUTE_MS).await;
    assert_eq!((lamp.told(), lamp.task(&job).await.as_str()), ((0, 0), "QUEUED"));
    lamp.connects().await;
    assert_eq!((lamp.told(), lamp.task(&job).await.as_str()), ((1, 0), "NOTIFIED"));
    lamp.pass(60 * MINUTE_MS).await;
    assert_eq!(lamp.told(), (0, 0), "once for each time that it comes back");
    lamp.leaves().await;
    lamp.connects().await;
    assert_eq!(lamp.told(), (1, 0));
    // Once it is not due any more, nothing comes.
    lamp.cancel(&job).await;
    lamp.leaves().await;
    lamp.connects().await;
    assert_eq!(lamp.told(), (0, 0));
}

#[tokio::test]
async fn who_is_not_pushed_has_to_ask_and_who_is_pushed_may() {
    let server = TestServer::new().await;
    let lamp = Lamp::open(&server).await;
    lamp.connects().await;
    let job = lamp.batch(&[("NeedPush", "false")]).await;
    lamp.pass(60 * MINUTE_MS).await;
    lamp.leaves().await;
    lamp.connects().await;
    assert_eq!((lamp.told(), lamp.task(&job).await.as_str()), ((0, 0), "QUEUED"));
    lamp.happens(pull()).await;
    assert_eq!((lamp.told(), lamp.task(&job).await.as_str()), ((0, 1), "NOTIFIED"));
    lamp.leaves().await;
    lamp.connects().await;
    assert_eq!(lamp.told(), (0, 0), "nor is it told again unasked");
    lamp.cancel(&job).await;
    lamp.leaves().await;
    let job = lamp.batch(&[]).await;
    lamp.happens(pull()).await;
    assert_eq!((lamp.told(), lamp.task(&job).await.as_str()), ((0, 1), "NOTIFIED"));
}

#[tokio::test]
async fn questions_take_none_of_the_rate_and_later_pushes_neither() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    let mut devices = Vec::new();
    for number in 10..25 {
        devices.push(shop.device(&format!("lamp-{number}")).await);
    }
    server.listening.store(true, Ordering::Relaxed);
    for device in &devices {
        server.device(device, DeviceEvent::Online { session: 1, ip: "10.0.0.7".to_owned() }).await;
        server.device(device, DeviceEvent::Listening).await;
    }
    let all = changed(
        &without(&shop.batch_request(&shop.package().await, "x"), "TargetDeviceName"),
        &[("TargetSelection", "ALL"), ("MaximumPerMinute", "10")],
    );
    let job = text(&server.ok("CreateOTAStaticUpgradeJob", &all).await, "/Data/JobId");
    server.engine().await;
    // The last three ask; the others wait for their slots.
    for device in &devices[12..] {
        server.device(device, pull()).await;
    }
    let told = async || tasks(&server, &job).await.iter().filter(|task| task.contains("NOTIFIED")).count();
    assert_eq!(told().await, 4, "one at once, and three that asked");
    // In one of these minutes ten are pushed, spaced evenly; that the others asked changes nothing.
    for _ in 0..59 {
        server.later_ms(SECOND_MS);
        server.engine().await;
    }
    assert_eq!(told().await, 13);
    for _ in 0..15 {
        server.later_ms(SECOND_MS);
        server.engine().await;
    }
    assert_eq!(told().await, 15);
}

#[tokio::test]
async fn what_waits_for_its_hour_follows_what_its_device_reports() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    let mut devices = Vec::new();
    for name in ["lamp-1", "lamp-2", "lamp-3"] {
        let device = shop.device(name).await;
        server.device(&device, report("1.0.0")).await;
        devices.push(device);
    }
    let start = server.app.now().plus_ms(60 * MINUTE_MS).0.to_string();
    let all = changed(
        &without(&shop.batch_request(&shop.package().await, "x"), "TargetDeviceName"),
        &[("TargetSelection", "ALL"), ("SrcVersion.1", "1.0.0"), ("ScheduleTime", &start)],
    );
    let job = text(&server.ok("CreateOTAStaticUpgradeJob", &all).await, "/Data/JobId");
    server.engine().await;
    // Who is registered now is not in it, and who left its versions is not told at its hour.
    let late = shop.device("lamp-4").await;
    server.device(&late, report("1.0.0")).await;
    server.device(&devices[0], report("2.0.0")).await;
    server.device(&devices[1], report("1.5.0")).await;
    server.later_ms(60 * MINUTE_MS);
    server.engine().await;
    assert_eq!(
        tasks(&server, &job).await,
        [
            "lamp-1 SUCCEEDED ",
            "lamp-2 FAILED the device no longer runs a source version of the batch",
            "lamp-3 QUEUED ",
        ]
    );
    assert_eq!(status(&server, &job).await, "IN_PROGRESS");
}

#[tokio::test]
async fn a_batch_whose_hours_passed_while_the_server_was_down_tells_nobody() {
    let server = TestServer::new().await;
    let lamp = Lamp::open(&server).await;
    lamp.connects().await;
    let at = |minutes: i64| server.app.now().plus_ms(minutes * MINUTE_MS).0.to_string();
    let job = lamp.batch(&[("ScheduleTime", &at(10)), ("ScheduleFinishTime", &at(80))]).await;
    lamp.pass(90 * MINUTE_MS).await;
    assert_eq!((lamp.told(), lamp.task(&job).await.as_str()), ((0, 0), "CANCELED"));
    assert_eq!(status(&server, &job).await, "COMPLETED");
}
