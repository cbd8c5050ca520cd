//! Two nodes on one database: what one decides reaches devices at the other, nobody is told twice, and one goes on when
//! the other is gone. What is PostgreSQL's alone (locks, wake-ups) has tests elsewhere.

use crate::overwrite::progress;
use crate::rules::{report, tasks};
use crate::server::{ROOT, START, TestServer};
use crate::shop::{Shop, changed, pairs, text, without};
use std::sync::Arc;
use updraft_core::id::DeviceNo;
use updraft_core::task::FailedStep;
use updraft_core::time::MINUTE_MS;
use updraft_server::device::link::{DeviceEvent, Downlink, Happened};
use updraft_server::engine::{self, ingest};
use updraft_server::nodes::{Role, heart, mail};
use updraft_store::{LOGIN_BITS, Lane, Location, StoreError, Trouble, Tx};

/// Two nodes that know of each other. The first one leads.
struct Pair {
    one: TestServer,
    two: TestServer,
}

impl Pair {
    async fn new() -> Self {
        Self::with_roles(Role::All, Role::All).await
    }

    async fn with_roles(one: Role, two: Role) -> Self {
        let shared = |role| {
            move |config: &mut updraft_server::config::Config| {
                config.quota_scale = 0.0;
                config.role = role;
                // The database is in memory all the same; that it is shared follows from these two.
                config.database_url = Some("postgres://nowhere".to_owned());
                config.blobs_url = Some("file:/nowhere".to_owned());
            }
        };
        let one = TestServer::with(Location::Inline, shared(one)).await;
        let two = one.beside_as(shared(two));
        let pair = Self { one, two };
        heart::join(&pair.one.app).await.unwrap();
        heart::join(&pair.two.app).await.unwrap();
        pair.look().await;
        pair
    }

    /// Both look who there is.
    async fn look(&self) {
        let nodes = self.one.app.store.read(|tx| tx.nodes()).await.unwrap();
        self.one.app.nodes.seen(&nodes);
        self.two.app.nodes.seen(&nodes);
    }

    /// Both work until neither has anything to do, and for longer than between two push slots.
    async fn work(&self) {
        for _ in 0..3 {
            self.one.later_ms(7);
            for server in [&self.one, &self.two] {
                while mail::take(&server.app).await.unwrap() {}
                server.engine().await;
            }
        }
    }

    /// Time passes, and both work.
    async fn later(&self, ms: i64) {
        self.one.later_ms(ms);
        self.work().await;
    }
}

/// A batch for these devices; answers its JobId.
async fn batch_of(shop: &Shop<'_>, firmware: &str, names: &[&str], more: &[(&str, &str)]) -> String {
    let mut request = shop.batch_request(firmware, names[0]);
    let rest = names.iter().zip(1..).skip(1);
    request.extend(rest.map(|(name, n)| (format!("TargetDeviceName.{n}"), (*name).to_owned())));
    request.extend(pairs(more));
    text(&shop.server.ok("CreateOTAStaticUpgradeJob", &request).await, "/Data/JobId")
}

/// Confirms the only task of a batch.
async fn confirm(server: &TestServer, job: &str) {
    let listed = server.ok("ListOTATaskByJob", &[("JobId", job)]).await;
    let task = text(&listed, "/Data/SimpleOTATaskInfo/0/TaskId");
    server.ok("ConfirmOTATask", &[("TaskId.1", &task)]).await;
}

/// A device logs in at a node and listens there; answers its number and that of its login.
async fn connect(server: &TestServer, iot_id: &str, login: i64) -> (DeviceNo, i64) {
    let device = server.device_no(iot_id).await;
    let session = (server.app.nodes.me() << LOGIN_BITS) + login;
    server.connected.lock().unwrap().insert(device);
    server.device(iot_id, DeviceEvent::Online { session, ip: "192.0.2.7".to_owned() }).await;
    server.device(iot_id, DeviceEvent::Listening).await;
    (device, session)
}

/// The devices that were pushed to by a node.
fn pushed(server: &TestServer) -> Vec<DeviceNo> {
    let sent = server.sent.lock().unwrap();
    let push = |(device, downlink): &(DeviceNo, Downlink)| {
        matches!(downlink, Downlink::Push { .. }).then_some(*device)
    };
    sent.iter().filter_map(push).collect()
}

async fn is_online(server: &TestServer, device: DeviceNo) -> bool {
    let places = server.app.store.read(move |tx| tx.device_places(&[device])).await.unwrap();
    places[0].online
}

#[tokio::test]
async fn each_device_is_told_once_and_by_the_node_that_it_is_connected_to() {
    let pair = Pair::new().await;
    let shop = Shop::open(&pair.one).await;
    let (near, far) = (shop.device("near").await, shop.device("distant").await);
    let (near_no, _) = connect(&pair.one, &near, 1).await;
    let (far_no, _) = connect(&pair.two, &far, 1).await;
    let firmware = shop.package().await;
    let job = batch_of(&shop, &firmware, &["near", "distant"], &[]).await;
    pair.work().await;
    assert_eq!(pushed(&pair.one), [near_no]);
    assert_eq!(pushed(&pair.two), [far_no]);
    pair.two.device(&far, progress("default")).await;
    pair.two.device(&far, report("2.0.0")).await;
    pair.one.device(&near, report("2.0.0")).await;
    assert_eq!(tasks(&pair.one, &job).await, ["near SUCCEEDED ", "distant SUCCEEDED "]);
    let shown = pair.two.ok("QueryOTAJob", &[("JobId", &job)]).await;
    assert_eq!(text(&shown, "/Data/JobStatus"), "COMPLETED");
    pair.later(MINUTE_MS).await;
    assert_eq!((pushed(&pair.one).len(), pushed(&pair.two).len()), (1, 1), "nobody is told again");
}

#[tokio::test]
async fn the_pace_of_a_batch_is_one_for_all_nodes() {
    let pair = Pair::new().await;
    let shop = Shop::open(&pair.one).await;
    let names: Vec<String> = (0..30).map(|n| format!("lamp-{n:02}")).collect();
    for (n, name) in names.iter().enumerate() {
        let device = shop.device(name).await;
        connect(if n % 2 == 0 { &pair.one } else { &pair.two }, &device, n as i64).await;
    }
    let firmware = shop.package().await;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    batch_of(&shop, &firmware, &names, &[("MaximumPerMinute", "10")]).await;
    let told = || pushed(&pair.one).len() + pushed(&pair.two).len();
    let mut when = Vec::new();
    for second in 0..200 {
        pair.work().await;
        when.resize(told(), second);
        pair.one.later_ms(1_000);
    }
    assert_eq!(when.len(), 30, "all are told");
    for first in 0..when.len() {
        let minute = when[first..].iter().take_while(|at| **at < when[first] + 60).count();
        assert!(minute <= 10, "{minute} in the minute from second {}", when[first]);
    }
    assert!(!pushed(&pair.one).is_empty() && !pushed(&pair.two).is_empty());
}

#[tokio::test]
async fn who_logs_in_elsewhere_is_logged_out_here_and_the_late_end_of_that_login_counts_for_nothing() {
    let pair = Pair::new().await;
    let shop = Shop::open(&pair.one).await;
    let lamp = shop.device("lamp").await;
    // The elder node counts smaller numbers: the last login counts all the same.
    let (device, first) = connect(&pair.two, &lamp, 1).await;
    let (_, second) = connect(&pair.one, &lamp, 1).await;
    assert!(second < first);
    pair.work().await;
    assert_eq!(*pair.two.ended.lock().unwrap(), [(device, first)]);
    pair.two.connected.lock().unwrap().clear();
    pair.two.device(&lamp, DeviceEvent::Offline { session: first }).await;
    assert!(is_online(&pair.one, device).await);
    pair.one.device(&lamp, DeviceEvent::Offline { session: second }).await;
    assert!(!is_online(&pair.one, device).await);
}

#[tokio::test]
async fn what_a_call_at_one_node_wants_done_to_a_device_is_done_at_the_other() {
    let pair = Pair::new().await;
    let shop = Shop::open(&pair.one).await;
    let lamp = shop.device("lamp").await;
    let (device, _) = connect(&pair.two, &lamp, 1).await;
    let firmware = shop.package().await;
    let job = shop.batch(&firmware, "lamp", &[]).await;
    pair.work().await;
    assert_eq!(pushed(&pair.two), [device]);
    let params = [("JobId", job.as_str()), ("CancelQueuedTask", "true"), ("CancelNotifiedTask", "true")];
    pair.one.ok("CancelOTATaskByJob", &params).await;
    pair.work().await;
    let withdrawn = |server: &TestServer| server.withdrawn.lock().unwrap().len();
    assert_eq!(withdrawn(&pair.two), 1, "what was not written yet must not go out any more");
    pair.one.ok("DisableThing", &[("IotId", lamp.as_str())]).await;
    assert!(pair.two.kicked.lock().unwrap().is_empty());
    pair.work().await;
    assert_eq!(*pair.two.kicked.lock().unwrap(), [device]);
}

#[tokio::test]
async fn a_confirmation_at_one_node_lets_the_other_tell_its_device() {
    let pair = Pair::new().await;
    let shop = Shop::open(&pair.one).await;
    let lamp = shop.device("lamp").await;
    let (device, _) = connect(&pair.two, &lamp, 1).await;
    let firmware = shop.package().await;
    let job = shop.batch(&firmware, "lamp", &[("NeedConfirm", "true")]).await;
    pair.work().await;
    assert_eq!(tasks(&pair.one, &job).await, ["lamp CONFIRM "]);
    confirm(&pair.one, &job).await;
    pair.work().await;
    assert_eq!((pushed(&pair.one), pushed(&pair.two)), (vec![], vec![device]));
}

#[tokio::test]
async fn the_next_module_is_told_by_the_devices_node_whoever_ends_the_first() {
    let pair = Pair::new().await;
    let shop = Shop::open(&pair.one).await;
    let lamp = shop.device("lamp").await;
    let product = shop.product_key.as_str();
    pair.one.ok("CreateOTAModule", &[("ProductKey", product), ("ModuleName", "mcu")]).await;
    let (device, _) = connect(&pair.two, &lamp, 1).await;
    let whole = shop.package().await;
    let mut request = shop.package_request().await;
    request.extend(pairs(&[("ModuleName", "mcu"), ("NeedToVerify", "false")]));
    let part = text(&pair.one.ok("CreateOTAFirmware", &request).await, "/Data/FirmwareId");
    let first = shop.batch(&whole, "lamp", &[]).await;
    pair.work().await;
    shop.batch(&part, "lamp", &[("MultiModuleMode", "true")]).await;
    pair.work().await;
    assert_eq!(pushed(&pair.two), [device], "the second module waits for its turn");
    pair.one.ok("CancelOTATaskByJob", &[("JobId", first.as_str()), ("CancelNotifiedTask", "true")]).await;
    pair.work().await;
    assert_eq!((pushed(&pair.one), pushed(&pair.two)), (vec![], vec![device, device]));
}

#[tokio::test]
async fn the_leader_sees_to_what_another_node_neglects_and_to_devices_that_are_away() {
    let pair = Pair::new().await;
    let shop = Shop::open(&pair.one).await;
    let lamp = shop.device("lamp").await;
    let (device, session) = connect(&pair.two, &lamp, 1).await;
    let firmware = shop.package().await;
    let job = shop.batch(&firmware, "lamp", &[("TimeoutInMinutes", "1")]).await;
    pair.work().await;
    pair.two.device(&lamp, progress("default")).await;
    // The other node stands still; its device's time is over.
    pair.one.later_ms(MINUTE_MS);
    pair.one.engine().await;
    assert_eq!(tasks(&pair.one, &job).await, ["lamp IN_PROGRESS "]);
    pair.one.later_ms(2_500);
    pair.one.engine().await;
    assert_eq!(tasks(&pair.one, &job).await, ["lamp FAILED timeout"]);

    let away = shop.batch(&shop.package().await, "lamp", &[("TimeoutInMinutes", "1")]).await;
    pair.work().await;
    pair.two.device(&lamp, progress("default")).await;
    pair.two.connected.lock().unwrap().clear();
    pair.two.device(&lamp, DeviceEvent::Offline { session }).await;
    assert!(!is_online(&pair.one, device).await);
    pair.one.later_ms(MINUTE_MS);
    pair.two.engine().await;
    assert_eq!(tasks(&pair.one, &away).await, ["lamp IN_PROGRESS "], "it does not lead");
    pair.one.engine().await;
    assert_eq!(tasks(&pair.one, &away).await, ["lamp FAILED timeout"]);
}

#[tokio::test]
async fn the_devices_of_a_node_that_is_gone_are_offline_and_its_work_goes_on() {
    let pair = Pair::new().await;
    let shop = Shop::open(&pair.two).await;
    let lamp = shop.device("lamp").await;
    let (device, _) = connect(&pair.one, &lamp, 1).await;
    let firmware = shop.package().await;
    let job = shop.batch(&firmware, "lamp", &[]).await;
    pair.two.engine().await;
    assert!(!pair.two.app.nodes.leads());
    // The first node dies, and the second one gives it up.
    let gone = pair.one.app.nodes.me();
    let left = pair.two.app.store.write(Lane::Interactive, move |tx| {
        tx.node_leave(gone)?;
        tx.nodes()
    });
    let left = left.await.unwrap();
    assert_eq!(pair.two.app.nodes.seen(&left), 1);
    assert!(pair.two.app.nodes.leads());
    heart::lost_offline(&pair.two.app).await.unwrap();
    assert!(!is_online(&pair.two, device).await);
    pair.two.engine().await;
    // It comes back to the second one.
    connect(&pair.two, &lamp, 1).await;
    pair.two.later_ms(7);
    pair.two.engine().await;
    assert_eq!(pushed(&pair.two), [device]);
    pair.two.device(&lamp, report("2.0.0")).await;
    assert_eq!(tasks(&pair.two, &job).await, ["lamp SUCCEEDED "]);
}

#[tokio::test]
async fn a_login_that_is_left_over_at_one_node_keeps_no_push_from_the_node_that_has_the_device() {
    let pair = Pair::new().await;
    let shop = Shop::open(&pair.one).await;
    let lamp = shop.device("lamp").await;
    let firmware = shop.package().await;
    let job = shop.batch(&firmware, "lamp", &[("NeedConfirm", "true")]).await;
    pair.work().await;
    // Its first connection is dead, and nobody has noticed: it is told of its end when its node takes its mail.
    connect(&pair.one, &lamp, 1).await;
    let (device, _) = connect(&pair.two, &lamp, 1).await;
    let knows_it_listens = async |server: &TestServer| {
        let told = server.ok("ExplainOTATask", &[("JobId", job.as_str()), ("IotId", lamp.as_str())]).await;
        told.to_string().contains("the device listens")
    };
    assert!(!knows_it_listens(&pair.one).await && knows_it_listens(&pair.two).await);
    confirm(&pair.one, &job).await;
    pair.work().await;
    assert_eq!((pushed(&pair.one), pushed(&pair.two)), (vec![], vec![device]));
}

#[tokio::test]
async fn a_node_that_was_given_up_changes_nothing_of_its_devices_until_it_joins_anew() {
    let pair = Pair::new().await;
    let shop = Shop::open(&pair.one).await;
    let (lamp, late) = (shop.device("lamp").await, shop.device("late").await);
    connect(&pair.two, &lamp, 1).await;
    let gone = pair.two.app.nodes.me();
    pair.one.app.store.write(Lane::Interactive, move |tx| tx.node_leave(gone)).await.unwrap();
    heart::lost_offline(&pair.one.app).await.unwrap();
    // It stood still, and goes on where it was: with devices that logged in before.
    let device = pair.two.device_no(&late).await;
    let session = (gone << LOGIN_BITS) + 2;
    let online = DeviceEvent::Online { session, ip: "192.0.2.7".to_owned() };
    let online = vec![Happened { device, event: online }];
    let refused = ingest::take(&pair.two.app, online.clone()).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    assert!(!is_online(&pair.one, device).await, "nobody would ever mark it offline");
    heart::join(&pair.two.app).await.unwrap();
    ingest::take(&pair.two.app, online).await.unwrap();
    assert!(!is_online(&pair.one, device).await, "that login is one of before");
    connect(&pair.two, &late, 3).await;
    assert!(is_online(&pair.one, device).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_told_what_the_database_has_though_its_answer_was_lost() {
    let pair = Pair::new().await;
    let shop = Shop::open(&pair.one).await;
    let lamp = shop.device("lamp").await;
    let (device, _) = connect(&pair.two, &lamp, 1).await;
    let firmware = shop.package().await;
    let job = shop.batch(&firmware, "lamp", &[]).await;
    pair.one.engine().await;
    pair.one.later_ms(7);
    let (app, store) = (Arc::clone(&pair.two.app), Arc::clone(&pair.two.app.store));
    let (turned, lost) = tokio::task::block_in_place(|| {
        let turn = || tokio::runtime::Handle::current().block_on(engine::turn(&app));
        store.in_trouble(Trouble::Unanswered { after: 0 }, turn).unwrap()
    });
    assert!(lost && turned.is_err());
    assert_eq!(tasks(&pair.one, &job).await, ["lamp NOTIFIED "]);
    assert_eq!(pushed(&pair.two), [], "the push went with the answer");
    pair.work().await;
    assert_eq!(pushed(&pair.two), [device]);
    pair.later(MINUTE_MS).await;
    assert_eq!(pushed(&pair.two), [device], "once");
}

#[tokio::test]
async fn a_node_without_the_role_serves_no_calls_and_one_that_only_has_devices_makes_no_tasks() {
    let pair = Pair::with_roles(Role::All, Role::Gateway).await;
    let answer = pair.two.call_as(ROOT, "JSON", "QueryProduct", &[("ProductKey", "a1")]).await;
    assert_eq!((answer.status, answer.code().as_str()), (404, "InvalidApi.NotFound"), "{}", answer.body);
    let shop = Shop::open(&pair.one).await;
    shop.device("lamp").await;
    let firmware = shop.package().await;
    let all = without(&shop.batch_request(&firmware, "nobody"), "TargetDeviceName");
    let all = changed(&all, &[("TargetSelection", "ALL")]);
    let job = text(&pair.one.ok("CreateOTAStaticUpgradeJob", &all).await, "/Data/JobId");
    pair.two.engine().await;
    assert_eq!(tasks(&pair.one, &job).await, [""; 0]);
    pair.one.engine().await;
    assert_eq!(tasks(&pair.one, &job).await, ["lamp QUEUED "]);
}

#[tokio::test]
async fn all_nodes_go_by_the_database_servers_clock() {
    let pair = Pair::new().await;
    // A clock that lags by three seconds would find no slot due before the leader has given it away.
    pair.two.app.nodes.clock_is_off(-3_000);
    assert_eq!(pair.two.app.now(), pair.two.app.clock.now().plus_ms(3_000));
    assert_eq!(pair.one.app.now(), pair.one.app.clock.now());
}

#[tokio::test]
async fn calls_and_nonces_count_for_all_nodes_together() {
    let mut pair = Pair::new().await;
    let own = |config: &mut updraft_server::config::Config| {
        config.quota_scale = 1.0;
        config.database_url = Some("postgres://nowhere".to_owned());
        config.blobs_url = Some("file:/nowhere".to_owned());
    };
    (pair.one, pair.two) = (pair.one.beside_as(own), pair.two.beside_as(own));
    let calls = async |server: &TestServer| {
        let answer = server
            .call_as(
                ROOT,
                "JSON",
                "ListOTAJobByFirmware",
                &[("FirmwareId", "f"), ("CurrentPage", "1"), ("PageSize", "10")],
            )
            .await;
        answer.code()
    };
    for call in 0..10 {
        let code = calls(if call % 2 == 0 { &pair.one } else { &pair.two }).await;
        assert_ne!(code, "Throttling.User", "call {call}");
    }
    assert_eq!(calls(&pair.one).await, "Throttling.User");
    assert_eq!(calls(&pair.two).await, "Throttling.User");
    pair.one.later_ms(1_000);
    assert_ne!(calls(&pair.two).await, "Throttling.User");

    let mut call = pair.one.common(ROOT, "QueryProduct", "JSON");
    call.insert("ProductKey".to_owned(), "a1".to_owned());
    let first = pair.one.send_signed(http::Method::POST, ROOT, call.clone()).await;
    assert_ne!(first.code(), "SignatureNonceUsed");
    let again = pair.two.send_signed(http::Method::POST, ROOT, call).await;
    assert_eq!(again.code(), "SignatureNonceUsed");
    let later = START.plus_ms(60 * MINUTE_MS);
    let forgotten = pair.one.app.store.ledger::<_, StoreError, _>(move |tx| tx.nonces_forget(later, 100));
    assert!(forgotten.await.unwrap() > 0);
}

#[tokio::test]
async fn what_waited_at_one_node_undoes_nothing_that_came_to_another_since() {
    let pair = Pair::new().await;
    let shop = Shop::open(&pair.one).await;
    let lamp = shop.device("lamp").await;
    let (device, _) = connect(&pair.one, &lamp, 1).await;
    pair.one.device(&lamp, report("1.0.0")).await;
    let firmware = shop.package().await;
    let job = batch_of(&shop, &firmware, &["lamp"], &[]).await;
    pair.work().await;
    connect(&pair.two, &lamp, 1).await;
    pair.two.device(&lamp, progress("default")).await;
    let desc = "the download failed".to_owned();
    let failure = DeviceEvent::Failure { module: "default".to_owned(), step: FailedStep::Download, desc };
    pair.one.device(&lamp, failure).await;
    pair.two.device(&lamp, report("2.0.0")).await;
    pair.one.device(&lamp, report("1.0.0")).await;
    assert_eq!(tasks(&pair.one, &job).await, ["lamp SUCCEEDED "]);
    let version = move |tx: &mut Tx<'_>| tx.version_find(device, "default");
    assert_eq!(pair.two.app.store.read(version).await.unwrap().as_deref(), Some("2.0.0"));
    connect(&pair.one, &lamp, 2).await;
    pair.one.device(&lamp, report("3.0.0")).await;
    let known = pair.two.app.store.read(version).await.unwrap();
    assert_eq!(known.as_deref(), Some("3.0.0"), "the device is here again");
}
