//! A device is told of one module at a time; whatever ends the first lets the next be told in the same step.

use crate::overwrite::progress;
use crate::rules::{asked, failure, report, tasks};
use crate::server::TestServer;
use crate::shop::{Shop, pairs, text};
use std::sync::atomic::Ordering;
use updraft_core::time::MINUTE_MS;
use updraft_server::device::link::{DeviceEvent, Downlink};

const MULTI: (&str, &str) = ("MultiModuleMode", "true");
const DEVICE: &str = "lamp-1";

/// A listening device with modules, and batches for them.
struct World<'a> {
    server: &'a TestServer,
    shop: Shop<'a>,
    device: String,
}

impl<'a> World<'a> {
    async fn open(server: &'a TestServer) -> Self {
        let shop = Shop::open(server).await;
        for module in ["radio", "sensor"] {
            let params = [("ProductKey", shop.product_key.as_str()), ("ModuleName", module)];
            server.ok("CreateOTAModule", &params).await;
        }
        let device = shop.device(DEVICE).await;
        let world = Self { server, shop, device };
        world.server.device(&world.device, report("1.0.0")).await;
        world.connect(1).await;
        world
    }

    /// The device logs in and listens.
    async fn connect(&self, session: i64) {
        self.server.listening.store(true, Ordering::Relaxed);
        self.happens(DeviceEvent::Online { session, ip: "10.0.0.7".to_owned() }).await;
        self.happens(DeviceEvent::Listening).await;
    }

    /// The device goes away.
    async fn leave(&self, session: i64) {
        self.server.listening.store(false, Ordering::Relaxed);
        self.happens(DeviceEvent::Offline { session }).await;
    }

    async fn happens(&self, event: DeviceEvent) {
        self.server.device(&self.device, event).await;
    }

    async fn package(&self, module: &str) -> String {
        let mut request = self.shop.package_request().await;
        request.extend(pairs(&[("NeedToVerify", "false"), ("ModuleName", module)]));
        text(&self.server.ok("CreateOTAFirmware", &request).await, "/Data/FirmwareId")
    }

    /// A batch for a module of the device, carried out as far as it goes; answers its JobId.
    async fn batch(&self, module: &str, more: &[(&str, &str)]) -> String {
        let package = self.package(module).await;
        let job = self.shop.batch(&package, DEVICE, &[&[MULTI], more].concat()).await;
        self.server.engine().await;
        job
    }

    /// The modules that the device was pushed since the last look, in order.
    fn told(&self) -> Vec<String> {
        let sent = std::mem::take(&mut *self.server.sent.lock().unwrap());
        sent.into_iter()
            .filter_map(|(_, downlink)| match downlink {
                Downlink::Push { package, .. } => Some(package.module.clone()),
                Downlink::PullReply { .. } | Downlink::Message { .. } => None,
            })
            .collect()
    }

    async fn status(&self, job: &str) -> String {
        let listed = tasks(self.server, job).await;
        listed[0].split(' ').nth(1).unwrap().to_owned()
    }

    async fn pass(&self, minutes: i64) {
        self.server.later_ms(minutes * MINUTE_MS);
        self.server.engine().await;
    }

    async fn cancel(&self, job: &str) {
        let flags = ["CancelQueuedTask", "CancelNotifiedTask", "CancelInProgressTask"];
        let mut params = vec![("JobId", job)];
        params.extend(flags.map(|flag| (flag, "true")));
        self.server.ok("CancelOTATaskByJob", &params).await;
    }
}

fn of(module: &str, version: &str) -> DeviceEvent {
    DeviceEvent::Report { module: module.to_owned(), version: version.to_owned() }
}

fn pull(module: &str) -> DeviceEvent {
    DeviceEvent::Pull { module: module.to_owned(), asked: asked() }
}

#[tokio::test]
async fn whatever_ends_the_first_lets_the_next_be_told() {
    for ending in
        ["succeeded", "failed", "cancelled by job", "cancelled by device", "timed out", "replaced", "retry"]
    {
        let server = TestServer::on_disk().await;
        let world = World::open(&server).await;
        let retry: &[_] = &[("RetryInterval", "10"), ("RetryCount", "1")];
        let more: &[_] = match ending {
            "retry" => retry,
            "timed out" => &[("TimeoutInMinutes", "5")],
            _ => &[],
        };
        let first = world.batch("default", more).await;
        assert_eq!(world.told(), ["default"]);
        let second = world.batch("radio", &[]).await;
        assert_eq!((world.told(), world.status(&second).await.as_str()), (vec![], "QUEUED"), "{ending}");
        world.pass(1).await;
        assert_eq!(world.told(), Vec::<String>::new(), "{ending}");
        match ending {
            "succeeded" => world.happens(report("2.0.0")).await,
            "failed" | "retry" => world.happens(failure()).await,
            "cancelled by job" => world.cancel(&first).await,
            "cancelled by device" => {
                let job = server.ok("QueryOTAJob", &[("JobId", first.as_str())]).await;
                let of = [
                    ("FirmwareId", text(&job, "/Data/FirmwareId")),
                    ("ProductKey", world.shop.product_key.clone()),
                    ("DeviceName.1", DEVICE.to_owned()),
                ];
                server.ok("CancelOTATaskByDevice", &of.map(|(name, value)| (name.to_owned(), value))).await;
            }
            "timed out" => {
                world.happens(progress("default")).await;
                assert_eq!(world.told(), Vec::<String>::new());
                world.pass(5).await;
            }
            _ => {
                // Its successor comes after the one that has waited longer.
                world.batch("default", &[]).await;
            }
        }
        assert_eq!(world.told(), ["radio"], "{ending}");
        assert_eq!(world.status(&second).await, "NOTIFIED", "{ending}");
        world.pass(10).await;
        assert_eq!(world.told(), Vec::<String>::new(), "another attempt waits for its turn, too: {ending}");
        world.happens(of("radio", "2.0.0")).await;
        let last: &[&str] = if matches!(ending, "retry" | "replaced") { &["default"] } else { &[] };
        assert_eq!(world.told(), last, "{ending}");
    }
}

#[tokio::test]
async fn a_device_that_never_answers_is_told_of_its_other_modules_after_an_hour() {
    let server = TestServer::on_disk().await;
    let world = World::open(&server).await;
    world.batch("default", &[]).await;
    world.pass(10).await;
    world.batch("radio", &[]).await;
    world.batch("sensor", &[]).await;
    assert_eq!(world.told(), ["default"]);
    world.pass(49).await;
    assert_eq!(world.told(), Vec::<String>::new());
    world.pass(1).await;
    assert_eq!(world.told(), ["radio"], "the oldest batch first, and the next waits for this one now");
    world.pass(59).await;
    assert_eq!(world.told(), Vec::<String>::new());
    world.pass(1).await;
    assert_eq!(world.told(), ["sensor"]);
    world.pass(600).await;
    assert_eq!(world.told(), Vec::<String>::new(), "nothing is repeated on one connection");
}

#[tokio::test]
async fn who_comes_back_is_told_of_what_it_works_on_and_of_nothing_else() {
    let server = TestServer::on_disk().await;
    let world = World::open(&server).await;
    let first = world.batch("default", &[]).await;
    world.batch("radio", &[]).await;
    world.happens(progress("default")).await;
    assert_eq!(world.told(), ["default"]);
    for session in 2..4 {
        world.leave(session - 1).await;
        world.pass(90).await;
        world.connect(session).await;
        world.pass(0).await;
        assert_eq!(world.told(), ["default"], "however long it takes");
    }
    world.cancel(&first).await;
    assert_eq!(world.told(), ["radio"]);
}

#[tokio::test]
async fn a_device_that_comes_for_moments_and_never_answers_hears_of_each_module_in_turn() {
    let server = TestServer::on_disk().await;
    let world = World::open(&server).await;
    world.batch("default", &[]).await;
    world.batch("radio", &[]).await;
    world.batch("sensor", &[]).await;
    let mut told = world.told();
    for session in 2..7 {
        world.leave(session - 1).await;
        world.pass(120).await;
        world.connect(session).await;
        told.extend(world.told());
    }
    assert_eq!(told, ["default", "radio", "sensor", "default", "radio", "sensor"]);
}

#[tokio::test]
async fn reconnects_within_a_turn_repeat_it_and_do_not_prolong_it() {
    let server = TestServer::on_disk().await;
    let world = World::open(&server).await;
    world.batch("default", &[]).await;
    world.batch("radio", &[]).await;
    assert_eq!(world.told(), ["default"]);
    for session in 2..4 {
        world.leave(session - 1).await;
        world.pass(20).await;
        world.connect(session).await;
        assert_eq!(world.told(), ["default"]);
    }
    world.pass(20).await;
    assert_eq!(world.told(), ["radio"], "an hour after it was first told");
}

#[tokio::test]
async fn who_asks_is_answered_whoever_has_the_turn() {
    let server = TestServer::on_disk().await;
    let world = World::open(&server).await;
    let first = world.batch("default", &[]).await;
    let second = world.batch("radio", &[]).await;
    world.told();
    world.happens(pull("radio")).await;
    assert_eq!(world.status(&second).await, "NOTIFIED", "the device decides");
    // It works on what it asked for: that is repeated when it comes back, and the other waits.
    world.happens(progress("radio")).await;
    world.leave(1).await;
    world.connect(2).await;
    assert_eq!(world.told(), ["radio"]);
    world.happens(of("radio", "2.0.0")).await;
    assert_eq!(world.told(), ["default"]);
    assert_eq!(world.status(&first).await, "NOTIFIED");
}

#[tokio::test]
async fn what_a_device_asks_for_again_has_its_turn_again() {
    let server = TestServer::on_disk().await;
    let world = World::open(&server).await;
    world.batch("default", &[]).await;
    world.batch("radio", &[]).await;
    world.pass(60).await;
    assert_eq!(world.told(), ["default", "radio"]);
    world.pass(70).await;
    world.happens(pull("radio")).await;
    world.leave(1).await;
    world.connect(2).await;
    assert_eq!(world.told(), ["radio"]);
    world.pass(60).await;
    assert_eq!(world.told(), ["default"], "and then the other");
}

#[tokio::test]
async fn a_task_that_waits_for_its_turn_takes_no_slot_and_gets_one_when_it_comes() {
    let server = TestServer::on_disk().await;
    let world = World::open(&server).await;
    let first = world.batch("default", &[]).await;
    let package = world.package("radio").await;
    let mut request = world.shop.batch_request(&package, DEVICE);
    request.extend(pairs(&[MULTI, ("MaximumPerMinute", "10"), ("TargetDeviceName.2", "lamp-2")]));
    let other = world.shop.device("lamp-2").await;
    server.device(&other, DeviceEvent::Online { session: 9, ip: "10.0.0.8".to_owned() }).await;
    text(&server.ok("CreateOTAStaticUpgradeJob", &request).await, "/Data/JobId");
    server.engine().await;
    server.later_ms(6_100);
    server.engine().await;
    assert_eq!(world.told(), ["default", "radio"], "the second device has its slot");
    // Six seconds later the next slot is free again.
    world.cancel(&first).await;
    server.engine().await;
    assert_eq!(world.told(), Vec::<String>::new());
    server.later_ms(6_100);
    server.engine().await;
    assert_eq!(world.told(), ["radio"]);
}

#[tokio::test]
async fn a_device_that_was_away_when_its_turn_came_is_told_when_it_is_back() {
    let server = TestServer::on_disk().await;
    let world = World::open(&server).await;
    let first = world.batch("default", &[]).await;
    world.batch("radio", &[]).await;
    assert_eq!(world.told(), ["default"]);
    world.leave(1).await;
    world.cancel(&first).await;
    world.pass(120).await;
    assert_eq!(world.told(), Vec::<String>::new());
    world.connect(2).await;
    world.pass(0).await;
    assert_eq!(world.told(), ["radio"]);
}
