//! Gateways, and devices behind them.

use super::world::*;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::net::TcpStream;
use updraft_core::id::DeviceNo;
use updraft_core::topo::Refusal;
use updraft_server::device::connection::Limits;
use updraft_server::device::gateway::{Batches, Name, Request, subs};
use updraft_server::device::link::{DeviceEvent, Downlink};
use updraft_server::device::session::Sent;

type Gateway = Client<TcpStream>;

const LOGIN: &str = "/ext/session/a1GatewayP1/gw01/combine/login";
const LOGOUT: &str = "/ext/session/a1GatewayP1/gw01/combine/logout";
const BATCH_LOGIN: &str = "/ext/session/a1GatewayP1/gw01/combine/batch_login";
const BATCH_LOGOUT: &str = "/ext/session/a1GatewayP1/gw01/combine/batch_logout";
const ERROR: &str = "/ext/error/a1GatewayP1/gw01";
const SUB01: DeviceNo = DeviceNo(1_001);
const SUB02: DeviceNo = DeviceNo(1_002);

fn entry(name: &str, extra: &str) -> String {
    format!(r#"{{"productKey":"a1SubPk0001","deviceName":"{name}","clientId":"c","sign":"00"{extra}}}"#)
}

fn question(params: &str) -> String {
    format!(r#"{{"id":"1","version":"1.0","params":{params}}}"#)
}

fn said(name: &str) -> String {
    format!(r#"{{"deviceName":"{name}","productKey":"a1SubPk0001"}}"#)
}

/// The answer to a question of the gateway `gw01`.
async fn ask(gateway: &mut Gateway, topic: &str, params: &str) -> String {
    gateway.send(&publish(topic, None, &question(params))).await;
    let (answered, id, payload) = gateway.message().await;
    assert_eq!((answered, id), (format!("{topic}_reply"), None));
    payload
}

fn ok(data: &str) -> String {
    format!(r#"{{"id":"1","code":200,"data":{data},"message":"success"}}"#)
}

fn no(code: i64, data: &str, message: &str) -> String {
    format!(r#"{{"id":"1","code":{code},"data":{data},"message":"{message}"}}"#)
}

fn trouble(id: &str, why: Refusal, name: &str) -> String {
    let message = if why == Refusal::NoSession { "device session error" } else { why.message() };
    format!(r#"{{"id":"{id}","code":{},"data":{},"message":"{message}"}}"#, why.code(), said(name))
}

async fn log_in(gateway: &mut Gateway, name: &str, extra: &str) {
    assert_eq!(ask(gateway, LOGIN, &entry(name, extra)).await, ok(&said(name)));
}

fn numbers(events: &[DeviceEvent]) -> Vec<i64> {
    let number = |event: &DeviceEvent| match event {
        DeviceEvent::Online { session, .. } => Some(*session),
        DeviceEvent::Offline { session } => Some(-session),
        _ => None,
    };
    events.iter().filter_map(number).collect()
}

#[tokio::test]
async fn a_device_logs_in_through_a_gateway_and_out_again() {
    let world = World::new().await;
    let mut gateway = world.login(&Connect::gateway()).await;
    log_in(&mut gateway, "sub01", r#","cleanSession":"false""#).await;
    let came = [
        DeviceEvent::Online { session: 2, ip: "127.0.0.1".to_owned() },
        DeviceEvent::Through { session: 2, gateway: GW01 },
        DeviceEvent::Listening,
    ];
    assert_eq!(world.memory.of(SUB01), came);
    // What it says is its own, whoever sends it.
    gateway
        .send(&publish(
            "/ota/device/inform/a1SubPk0001/sub01",
            Some(7),
            r#"{"id":1,"params":{"version":"1"}}"#,
        ))
        .await;
    assert_eq!(gateway.receive().await, (0x40, vec![0, 7]));
    gateway.send(&publish("/sys/a1SubPk0001/sub01/thing/event/property/post", None, "{}")).await;
    gateway
        .send(&publish("/ota/device/progress/a1SubPk0001/sub01", None, r#"{"params":{"step":"7"}}"#))
        .await;
    gateway.nothing_else().await;
    let said_so = world.memory.of(SUB01);
    let progress = DeviceEvent::Progress { module: "default".to_owned(), percent: 7, desc: String::new() };
    assert_eq!(said_so[3..], [report("1"), progress]);
    assert_eq!(world.memory.of(GW01), [online(1)]);

    assert_eq!(ask(&mut gateway, LOGOUT, &entry("sub01", "")).await, ok(&said("sub01")));
    assert_eq!(world.memory.of(SUB01).last(), Some(&DeviceEvent::Offline { session: 2 }));
    assert_eq!(
        ask(&mut gateway, LOGOUT, &entry("sub01", "")).await,
        no(520, &said("sub01"), "device no session")
    );
    assert_eq!(world.sessions.len(), 1);
}

#[tokio::test]
async fn what_comes_before_the_login_or_for_nobody_is_answered_with_520() {
    let world = World::new().await;
    let mut gateway = world.login(&Connect::gateway()).await;
    for (topic, payload, id) in [
        ("/ota/device/inform/a1SubPk0001/sub01", r#"{"id":"5","params":{"version":"1"}}"#, "5"),
        ("/sys/a1SubPk0001/sub01/thing/file/download", r#"{"id":"6"}"#, "6"),
        ("/sys/a1SubPk0001/sub01/thing/event/property/post", "no json", "1"),
    ] {
        gateway.send(&publish(topic, None, payload)).await;
        assert_eq!(
            gateway.message().await,
            (ERROR.to_owned(), None, trouble(id, Refusal::NoSession, "sub01"))
        );
    }
    gateway.send(&publish("/a1SubPk0001/sub01/user/update", None, "{}")).await;
    gateway.nothing_else().await;
    assert_eq!(world.memory.of(SUB01), []);
    // Who is no gateway is told nothing.
    let mut device = world.login(&Connect::python()).await;
    device.send(&publish("/ota/device/inform/a1SubPk0001/sub01", None, r#"{"id":"5"}"#)).await;
    device
        .send(&publish("/ext/session/a1TestPk001/dev01/combine/login", None, &question(&entry("sub01", ""))))
        .await;
    device.nothing_else().await;
    assert!(world.memory.asked.lock().is_empty());
}

#[tokio::test]
async fn pushes_and_answers_reach_a_device_through_its_gateway() {
    let world = World::new().await;
    let mut gateway = world.login(&Connect::gateway()).await;
    let upgrade = "/ota/device/upgrade/a1SubPk0001/sub01";
    let sub01 = [(upgrade, 1), ("/sys/a1SubPk0001/sub01/thing/config/push", 1)];
    gateway.send(&subscribe(1, &sub01)).await;
    assert_eq!(gateway.receive().await, (0x90, vec![0, 1, 0x80, 0x80]), "not before it is logged in");
    log_in(&mut gateway, "sub01", "").await;
    assert!(!world.sessions.listening(SUB01));
    assert_eq!(world.sessions.send(SUB01, push(1)), Sent::NotListening);
    let get = "/sys/a1SubPk0001/sub01/thing/ota/firmware/get";
    gateway.send(&publish(get, None, r#"{"id":"9","params":{}}"#)).await;
    let asked =
        world.memory.wait(SUB01, |events| matches!(events.last(), Some(DeviceEvent::Pull { .. }))).await;
    let Some(DeviceEvent::Pull { asked, .. }) = asked.last().cloned() else { unreachable!() };
    world.sessions.send(SUB01, Downlink::PullReply { asked, package: None });
    let (topic, _, payload) = gateway.message().await;
    assert_eq!(topic, format!("{get}_reply"));
    assert_eq!(payload, r#"{"code":200,"data":{},"id":"9","message":"success"}"#);

    gateway.send(&subscribe(2, &sub01)).await;
    assert_eq!(gateway.receive().await, (0x90, vec![0, 2, 1, 1]));
    assert_eq!(world.memory.of(SUB01).last(), Some(&DeviceEvent::Listening));
    assert_eq!(world.sessions.send(SUB01, push(1)), Sent::Queued);
    assert_eq!(gateway.message().await, (upgrade.to_owned(), None, pushed(1)));
    gateway.send(&unsubscribe(3, upgrade)).await;
    assert_eq!(gateway.receive().await, (0xb0, vec![0, 3]));
    assert!(!world.sessions.listening(SUB01));
}

#[tokio::test]
async fn the_devices_of_a_gateway_take_turns() {
    let world = World::new().await;
    let mut gateway = world.login(&Connect::gateway()).await;
    for name in ["sub01", "sub02"] {
        log_in(&mut gateway, name, r#","cleanSession":false"#).await;
    }
    for n in 1..=3 {
        world.sessions.send(SUB01, push(n));
    }
    world.sessions.send(SUB02, push(4));
    let mut order = Vec::new();
    for _ in 0..4 {
        order.push(gateway.message().await.2);
    }
    assert_eq!(order, [1, 4, 2, 3].map(pushed));
}

#[tokio::test]
async fn a_gateway_that_leaves_takes_its_devices_along() {
    let world = World::new().await;
    let mut gateway = world.login(&Connect::gateway()).await;
    let list = format!("[{},{}]", entry("sub01", ""), entry("sub02", ""));
    let both = format!("[{},{}]", said("sub01"), said("sub02"));
    assert_eq!(ask(&mut gateway, BATCH_LOGIN, &format!(r#"{{"deviceList":{list}}}"#)).await, ok(&both));
    assert_eq!(world.sessions.len(), 3);
    drop(gateway);
    for (device, session) in [(SUB01, 2), (SUB02, 3), (GW01, 1)] {
        world.memory.wait(device, |events| events.last() == Some(&DeviceEvent::Offline { session })).await;
    }
    assert!(world.sessions.is_empty());

    // And so does one that is taken over: its devices have to log in anew.
    let mut first = world.login(&Connect::gateway()).await;
    log_in(&mut first, "sub01", "").await;
    let mut second = world.login(&Connect::gateway()).await;
    world.memory.wait(SUB01, |events| numbers(events) == [2, -2, 5, -5]).await;
    log_in(&mut second, "sub01", "").await;
    assert_eq!(world.sessions.len(), 2);
    assert_eq!(numbers(&world.memory.of(SUB01)), [2, -2, 5, -5, 7]);
}

#[tokio::test]
async fn a_batch_logs_out_as_a_whole() {
    let world = World::new().await;
    let mut gateway = world.login(&Connect::gateway()).await;
    for name in ["sub01", "sub02"] {
        log_in(&mut gateway, name, "").await;
    }
    let list = |names: &[&str]| {
        format!("[{}]", names.iter().map(|name| entry(name, "")).collect::<Vec<_>>().join(","))
    };
    let missing = format!("[{}]", said("sub03"));
    let refused = ask(&mut gateway, BATCH_LOGOUT, &list(&["sub01", "sub03"])).await;
    assert_eq!(refused, no(520, &missing, "device no session"));
    assert_eq!(world.sessions.len(), 3);
    let both = format!("[{},{}]", said("sub01"), said("sub02"));
    assert_eq!(ask(&mut gateway, BATCH_LOGOUT, &list(&["sub01", "sub02"])).await, ok(&both));
    assert_eq!(world.sessions.len(), 1);
}

#[tokio::test]
async fn a_device_is_where_it_logged_in_last() {
    let world = World::new().await;
    let mut gateway = world.login(&Connect::gateway()).await;
    log_in(&mut gateway, "sub01", "").await;
    // By itself.
    let mut device = world.login(&Connect::sub()).await;
    assert_eq!(gateway.message().await, (ERROR.to_owned(), None, trouble("1", Refusal::Elsewhere, "sub01")));
    assert_eq!(numbers(&world.memory.of(SUB01)), [2, 3]);
    gateway.send(&publish("/ota/device/inform/a1SubPk0001/sub01", None, r#"{"id":"5"}"#)).await;
    assert_eq!(gateway.message().await.2, trouble("5", Refusal::NoSession, "sub01"));
    // Through the gateway again: its own connection ends.
    log_in(&mut gateway, "sub01", "").await;
    assert!(device.rest().await.is_empty());
    // Through another gateway.
    let mut other = world.login(&Connect::other_gateway()).await;
    other
        .send(&publish("/ext/session/a1GatewayP1/gw02/combine/login", None, &question(&entry("sub01", ""))))
        .await;
    assert_eq!(other.message().await.2, ok(&said("sub01")));
    assert_eq!(gateway.message().await, (ERROR.to_owned(), None, trouble("2", Refusal::Elsewhere, "sub01")));
    drop(gateway);
    world.memory.wait(GW01, |events| events.last() == Some(&DeviceEvent::Offline { session: 1 })).await;
    assert_eq!(numbers(&world.memory.of(SUB01)), [2, 3, 4, 6], "it is still on line");
    // Once more through the same gateway: nobody is told.
    other
        .send(&publish("/ext/session/a1GatewayP1/gw02/combine/login", None, &question(&entry("sub01", ""))))
        .await;
    assert_eq!(other.message().await.2, ok(&said("sub01")));
    other.nothing_else().await;
    assert_eq!(numbers(&world.memory.of(SUB01)), [2, 3, 4, 6, 7]);
    assert_eq!(world.sessions.len(), 2);
}

#[tokio::test]
async fn a_gateway_is_told_why_a_device_was_sent_away() {
    let world = World::new().await;
    let mut gateway = world.login(&Connect::gateway()).await;
    log_in(&mut gateway, "sub01", "").await;
    assert!(world.sessions.log_out(SUB01));
    assert_eq!(gateway.message().await, (ERROR.to_owned(), None, trouble("1", Refusal::NoTopology, "sub01")));
    world.memory.wait(SUB01, |events| numbers(events) == [2, -2]).await;
    log_in(&mut gateway, "sub01", "").await;
    world.memory.disabled.store(true, Ordering::SeqCst);
    assert!(world.sessions.kick(SUB01));
    assert_eq!(gateway.message().await.2, trouble("2", Refusal::Forbidden, "sub01"));
    log_in(&mut gateway, "sub01", "").await;
    world.memory.deleted.store(true, Ordering::SeqCst);
    world.sessions.kick(SUB01);
    assert_eq!(gateway.message().await.2, trouble("3", Refusal::Deleted, "sub01"));
    assert_eq!(numbers(&world.memory.of(SUB01)), [2, -2, 3, -3, 4, -4]);
    // A connection of its own is not touched by what becomes of its place behind a gateway.
    world.memory.disabled.store(false, Ordering::SeqCst);
    world.memory.deleted.store(false, Ordering::SeqCst);
    let mut device = world.login(&Connect::sub()).await;
    assert!(!world.sessions.log_out(SUB01));
    device.nothing_else().await;
    assert_eq!(gateway.0.peer_addr().unwrap(), world.address);
    gateway.nothing_else().await;
}

#[tokio::test]
async fn a_login_that_comes_too_late_is_none() {
    let world = World::new().await;
    let mut gateway = world.login(&Connect::gateway()).await;
    log_in(&mut gateway, "sub02", "").await;
    *world.memory.bars_logins.lock() = Some(Arc::clone(&world.sessions));
    let list = format!(r#"{{"deviceList":[{},{}]}}"#, entry("sub01", ""), entry("sub03", ""));
    let both = format!("[{},{}]", said("sub01"), said("sub03"));
    assert_eq!(ask(&mut gateway, BATCH_LOGIN, &list).await, no(6401, &both, "topo relation not exist"));
    *world.memory.bars_logins.lock() = None;
    assert_eq!(numbers(&world.memory.of(SUB01)), [3, -3]);
    gateway.nothing_else().await;
    assert_eq!(world.sessions.len(), 2);
    let unknown = ask(&mut gateway, LOGIN, &entry("nobody", "")).await;
    assert_eq!(unknown, no(6100, &said("nobody"), "device not found"));
}

#[tokio::test]
async fn who_is_taken_from_behind_the_gateway_is_logged_out() {
    let world = World::new().await;
    let mut gateway = world.login(&Connect::gateway()).await;
    for name in ["sub01", "sub02"] {
        log_in(&mut gateway, name, "").await;
    }
    let delete = "/sys/a1GatewayP1/gw01/thing/topo/delete";
    let gone = ask(&mut gateway, delete, &format!("[{}]", entry("sub01", ""))).await;
    assert!(gone.contains(r#""code":200"#), "{gone}");
    world.sessions.log_out(SUB01);
    gateway.nothing_else().await;
    assert_eq!(numbers(&world.memory.of(SUB01)), [2, -2]);
    assert_eq!(world.sessions.len(), 2);
    let names = vec![Name { product_key: "a1SubPk0001".to_owned(), device_name: "sub01".to_owned() }];
    assert_eq!(world.memory.asked.lock().last(), Some(&(GW01, Request::Remove(names))));
}

#[tokio::test]
async fn questions_at_qos_1_are_answered_so() {
    let world = World::new().await;
    let mut gateway = world.login(&Connect::gateway()).await;
    let get = "/sys/a1GatewayP1/gw01/thing/topo/get";
    gateway.send(&publish(get, Some(5), &question("{}"))).await;
    assert_eq!(gateway.receive().await, (0x40, vec![0, 5]));
    let (topic, id, payload) = gateway.message().await;
    assert_eq!((topic, id), (format!("{get}_reply"), Some(1)));
    assert_eq!(
        payload,
        r#"{"id":"1","code":200,"data":[],"message":"success","method":"thing.topo.get","version":"1.0"}"#
    );
    gateway.send(&puback(1)).await;
    // One that cannot be made durable is not acknowledged.
    world.memory.broken.store(true, Ordering::SeqCst);
    gateway.send(&publish(get, Some(6), &question("{}"))).await;
    assert!(gateway.rest().await.is_empty());
}

fn limited(gateway: subs::Limits) -> Limits {
    Limits { uplinks_per_second: 0, gateway, ..Limits::default() }
}

#[tokio::test]
async fn limits_of_a_gateway() {
    let batches = Batches { topo: 1, register: 1, login: 2 };
    let world = World::with(limited(subs::Limits { subs: 3, batches, logins_per_second: 4 }), None).await;
    let mut gateway = world.login(&Connect::gateway()).await;
    let list = |names: &[&str]| {
        format!("[{}]", names.iter().map(|name| entry(name, "")).collect::<Vec<_>>().join(","))
    };
    for (topic, code) in [
        ("/sys/a1GatewayP1/gw01/thing/topo/add", 460),
        ("/sys/a1GatewayP1/gw01/thing/sub/register", 460),
        (BATCH_LOGOUT, 520),
    ] {
        let answer = ask(&mut gateway, topic, &list(&["sub01", "sub02"])).await;
        assert!(answer.contains(&format!(r#""code":{code},"#)), "{answer}");
    }
    let batch = |names: &[&str]| format!(r#"{{"deviceList":{}}}"#, list(names));
    let many = ask(&mut gateway, BATCH_LOGIN, &batch(&["sub01", "sub02", "sub03"])).await;
    assert_eq!(many, no(428, "[]", "too many subdevices under gateway"));
    for names in [["sub01", "sub02"], ["sub01", "sub03"]] {
        assert!(ask(&mut gateway, BATCH_LOGIN, &batch(&names)).await.contains(r#""code":200"#));
    }
    let fast = ask(&mut gateway, LOGIN, &entry("sub01", "")).await;
    assert_eq!(fast, no(429, "{}", "too many requests"));
    let world = World::with(limited(subs::Limits { subs: 1, ..subs::Limits::default() }), None).await;
    let mut gateway = world.login(&Connect::gateway()).await;
    log_in(&mut gateway, "sub01", "").await;
    let full = ask(&mut gateway, LOGIN, &entry("sub02", "")).await;
    assert_eq!(full, no(428, "{}", "too many subdevices under gateway"));
    log_in(&mut gateway, "sub01", "").await;
}

#[tokio::test]
async fn each_device_behind_a_gateway_may_say_as_much_as_one_on_its_own() {
    let world = World::with(Limits { uplinks_per_second: 3, ..Limits::default() }, None).await;
    let mut gateway = world.login(&Connect::gateway()).await;
    for name in ["sub01", "sub02"] {
        log_in(&mut gateway, name, "").await;
    }
    let mut burst = Vec::new();
    for name in ["sub01", "sub02"] {
        let topic = format!("/ota/device/inform/a1SubPk0001/{name}");
        for _ in 0..10 {
            burst.extend(publish(&topic, None, r#"{"id":1,"params":{"version":"1"}}"#));
        }
    }
    gateway.send(&burst).await;
    gateway.nothing_else().await;
    for device in [SUB01, SUB02] {
        let told = world.memory.of(device).iter().filter(|event| **event == report("1")).count();
        assert_eq!(told, 3);
    }
}

#[tokio::test]
async fn blocks_go_to_the_devices_in_turn() {
    let world = World::new().await;
    let mut gateway = world.login(&Connect::gateway()).await;
    for name in ["sub01", "sub02"] {
        log_in(&mut gateway, name, "").await;
    }
    let wanted = |stream: i64| {
        format!(
            r#"{{"id":"{stream}","params":{{"fileInfo":{{"streamId":{stream},"fileId":1}},"fileBlock":{{"size":1,"offset":0}}}}}}"#
        )
    };
    let topic = |name: &str| format!("/sys/a1SubPk0001/{name}/thing/file/download");
    let mut burst = Vec::new();
    for stream in 101..=103 {
        burst.extend(publish(&topic("sub01"), None, &wanted(stream)));
    }
    burst.extend(publish(&topic("sub02"), None, &wanted(201)));
    burst.extend(publish("/sys/a1GatewayP1/gw01/thing/file/download", None, &wanted(301)));
    gateway.send(&burst).await;
    let mut topics = Vec::new();
    for _ in 0..5 {
        topics.push(gateway.message_of_bytes().await.0);
    }
    let reply = |name: &str| format!("/sys/a1SubPk0001/{name}/thing/file/download_reply");
    let own = "/sys/a1GatewayP1/gw01/thing/file/download_reply".to_owned();
    assert_eq!(topics, [reply("sub01"), own, reply("sub02"), reply("sub01"), reply("sub01")]);
    let streams: Vec<i64> = world.memory.blocks.lock().iter().map(|wanted| wanted.stream).collect();
    assert_eq!(streams, [101, 301, 201, 102, 103]);
}

#[tokio::test]
async fn a_logout_comes_after_the_blocks_that_were_asked_for_before_it() {
    let world = World::new().await;
    let mut gateway = world.login(&Connect::gateway()).await;
    log_in(&mut gateway, "sub01", "").await;
    let wanted =
        r#"{"id":"9","params":{"fileInfo":{"streamId":101,"fileId":1},"fileBlock":{"size":1,"offset":0}}}"#;
    let burst = [
        publish("/sys/a1SubPk0001/sub01/thing/file/download", None, wanted),
        publish(LOGOUT, None, &question(&entry("sub01", ""))),
    ];
    gateway.send(&burst.concat()).await;
    assert_eq!(gateway.message_of_bytes().await.0, "/sys/a1SubPk0001/sub01/thing/file/download_reply");
    assert_eq!(gateway.message().await.0, format!("{LOGOUT}_reply"));
}

#[tokio::test]
async fn a_flood_of_questions_is_answered_one_by_one() {
    let world = World::with(limited(subs::Limits::default()), None).await;
    let mut gateway = world.login(&Connect::gateway()).await;
    let name = |n| Name { product_key: "a1SubPk0001".to_owned(), device_name: format!("sub{n:029}") };
    *world.memory.behind.lock() = (0..2_000).map(name).collect();
    let get = "/sys/a1GatewayP1/gw01/thing/topo/get";
    let flood: Vec<u8> = (0..100).flat_map(|_| publish(get, None, &question("{}"))).collect();
    gateway.send(&flood).await;
    // An answer has more than 100 KB, and what is not taken waits: only the system's buffers hold some of them.
    for n in 0..100 {
        let (topic, _, payload) = gateway.message().await;
        assert_eq!(topic, format!("{get}_reply"));
        assert!(payload.len() > 100_000);
        assert!(n > 0 || world.memory.asked.lock().len() < 100, "all were answered before one was taken");
    }
    gateway.nothing_else().await;
}
