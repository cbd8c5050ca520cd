//! The device endpoint over real connections.

#[path = "device_endpoint/blocks.rs"]
mod blocks;
#[path = "device_endpoint/bytes.rs"]
mod bytes;
#[path = "device_endpoint/five.rs"]
mod five;
#[path = "device_endpoint/gateways.rs"]
mod gateways;
#[path = "device_endpoint/kept.rs"]
mod kept;
#[path = "device_endpoint/limits.rs"]
mod limits;
#[path = "device_endpoint/newcomers.rs"]
mod newcomers;
#[path = "device_endpoint/nonsense.rs"]
mod nonsense;
#[path = "device_endpoint/storm.rs"]
mod storm;
#[path = "device_endpoint/transports.rs"]
mod transports;
#[path = "device_endpoint/world.rs"]
mod world;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use updraft_core::task::FailedStep;
use updraft_server::device::connection::Limits;
use updraft_server::device::link::{Asked, DeviceEvent, Downlink, Question};
use updraft_server::device::session::Sent;
use world::*;

// ---------------------------------------------------------------------------------------- login

#[tokio::test]
async fn all_kinds_of_devices_are_let_in() {
    let world = World::new().await;
    for connect in [Connect::python(), Connect::javascript(), Connect::c(), Connect::by_hand()] {
        let mut client = world.login(&connect).await;
        client.nothing_else().await;
    }
    // MQTT 3.1, persistent, one byte at a time.
    let old = Connect { protocol: "MQIsdp", level: 3, flags: 0xc0, ..Connect::python() };
    let mut client = world.dial().await;
    for byte in old.bytes() {
        client.send(&[byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(client.receive().await, (0x20, vec![0, 0]));
    // What follows the CONNECT at once is not lost.
    let mut eager = world.dial().await;
    eager.send(&[Connect::by_hand().bytes(), PINGREQ.to_vec()].concat()).await;
    assert_eq!(eager.receive().await, (0x20, vec![0, 0]));
    assert_eq!(eager.receive().await, PINGRESP);
}

#[tokio::test]
async fn others_are_refused_with_a_code() {
    let world = World::new().await;
    let base = Connect::python();
    let with_id = |client_id: String| Connect { client_id, ..base.clone() };
    for (connect, code) in [
        (Connect { level: 2, ..base.clone() }, 1),
        // A bridge's way of saying 4.
        (Connect { level: 0x84, ..base.clone() }, 1),
        (Connect { protocol: "MQIsdp", level: 5, ..base.clone() }, 1),
        (Connect { keepalive: 0, ..base.clone() }, 2),
        (Connect { keepalive: 1_201, ..base.clone() }, 2),
        (with_id("x".repeat(65) + "|securemode=3|"), 2),
        (with_id("x|securemode=-2|".to_owned()), 2),
        (with_id("x|authType=id2|".to_owned()), 2),
        (Connect { password: "74e8a4dde7aa5838777acb76190804041702a4f9", ..base.clone() }, 4),
        (Connect { password: "", ..base.clone() }, 4),
        (Connect { user: "dev02&a1TestPk001", ..base.clone() }, 4),
        (Connect { user: "nobody", ..base.clone() }, 4),
    ] {
        assert_eq!(world.refusal(&connect.bytes()).await, [0x20, 2, 0, code], "{}", connect.client_id);
    }
    // Neither user name nor password.
    let anonymous = packet(0x10, &[text("MQTT"), vec![4, 2, 0, 60], text("c|securemode=3|")].concat());
    assert_eq!(world.refusal(&anonymous).await, [0x20, 2, 0, 4]);
    world.memory.broken.store(true, Ordering::SeqCst);
    assert_eq!(world.refusal(&base.bytes()).await, [0x20, 2, 0, 3]);
    assert!(world.sessions.is_empty());
    assert_eq!(world.memory.of(DEV01), []);
}

#[tokio::test]
async fn a_disabled_device_is_told_so_if_it_knows_its_secret() {
    let world = World::new().await;
    world.memory.disabled.store(true, Ordering::SeqCst);
    assert_eq!(world.refusal(&Connect::c().bytes()).await, [0x20, 2, 0, 5]);
    let stranger = Connect { password: "00", ..Connect::c() };
    assert_eq!(world.refusal(&stranger.bytes()).await, [0x20, 2, 0, 4]);
    world.memory.deleted.store(true, Ordering::SeqCst);
    assert_eq!(world.refusal(&Connect::c().bytes()).await, [0x20, 2, 0, 5]);
    assert!(world.memory.of(DEV01).is_empty() && world.sessions.is_empty());
}

#[tokio::test]
async fn a_login_that_is_sent_away_while_it_is_noted_is_no_login() {
    let world = World::new().await;
    *world.memory.bars_logins.lock() = Some(Arc::clone(&world.sessions));
    assert_eq!(world.refusal(&Connect::c().bytes()).await, [0x20, 2, 0, 5]);
    world.memory.wait(DEV01, |events| events.last() == Some(&DeviceEvent::Offline { session: 1 })).await;
    assert!(world.sessions.is_empty());
    *world.memory.bars_logins.lock() = None;
    world.login(&Connect::c()).await;
}

#[tokio::test]
async fn strangers_get_no_answer_to_nonsense() {
    let world = World::new().await;
    let long = Connect { client_id: format!("c|securemode=3,x={}|", "y".repeat(2_100)), ..Connect::python() };
    for bytes in [
        b"POST / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0; 300],
        vec![0xff; 300],
        vec![0x10, 0x80, 0x80, 0x80, 0x80, 0x01],
        // 256 MB announced.
        vec![0x10, 0xff, 0xff, 0xff, 0x7f],
        long.bytes(),
        PINGREQ.to_vec(),
        publish(INFORM, Some(1), r#"{"params":{"version":"1"}}"#),
        packet(0x10, b"\x00\x04HTTP\x04\xc2\x00\x3c\x00\x00"),
        // TLS, which is off here.
        vec![0x16, 3, 1, 0, 200],
    ] {
        assert_eq!(world.refusal(&bytes).await, [0; 0], "{:x?}", &bytes[..bytes.len().min(20)]);
    }
    let limits = Limits { connect_within: Duration::from_millis(20), ..Limits::default() };
    let world = World::with(limits, None).await;
    assert_eq!(world.refusal(&Connect::python().bytes()[..20]).await, [0; 0], "too slow");
}

#[tokio::test]
async fn a_second_login_ends_the_first_connection() {
    let world = World::new().await;
    let mut first = world.login(&Connect::python()).await;
    let mut second = world.login(&Connect::javascript().clean()).await;
    assert_eq!(first.rest().await, [0; 0]);
    second.nothing_else().await;
    second.send(&[0xe0, 0]).await;
    assert_eq!(second.rest().await, [0; 0]);
    let offline = DeviceEvent::Offline { session: 2 };
    let events = world.memory.wait(DEV01, |events| events.contains(&offline)).await;
    assert_eq!(events, [online(1), DeviceEvent::Listening, online(2), offline]);
    assert!(world.sessions.is_empty());
}

#[tokio::test]
async fn a_login_that_cannot_be_noted_is_no_login() {
    let world = World::new().await;
    let mut client = world.dial().await;
    let bytes = Connect::python().bytes();
    client.send(&bytes[..20]).await;
    // The device is found, but its login cannot be made durable: broken in between.
    world.memory.broken.store(true, Ordering::SeqCst);
    client.send(&bytes[20..]).await;
    assert_eq!(client.rest().await, [0x20, 2, 0, 3]);
    assert!(world.sessions.is_empty());
}

// ---------------------------------------------------------------------------------------- uplinks

#[tokio::test]
async fn messages_become_events_and_are_acknowledged_in_order() {
    let world = World::new().await;
    let mut client = world.login(&Connect::javascript().clean()).await;
    let all = [
        publish(INFORM, Some(7), r#"{"id": 1, "params": {"version": "1.0.0"}}"#),
        publish(PROGRESS, None, r#"{"id":2, "params":{"step":"0","desc":""}}"#),
        publish(PROGRESS, Some(9), r#"{"id":2,"params":{"step":-3,"desc":"bad","module":"MCU"}}"#),
        // Someone else's, nonsense, and our own topic that means nothing to the server.
        publish("/ota/device/inform/a1TestPk001/dev02", Some(10), r#"{"params":{"version":"9"}}"#),
        publish(INFORM, Some(11), "no JSON"),
        publish("/sys/a1TestPk001/dev01/thing/event/property/post", Some(12), "{}"),
        publish(GET, Some(13), r#"{"id":"3|x","params":{}}"#),
    ];
    client.send(&all.concat()).await;
    for id in [7, 9, 10, 11, 12, 13] {
        assert_eq!(client.receive().await, (0x40, vec![0, id]));
    }
    client.nothing_else().await;
    let default = || "default".to_owned();
    let expected = [
        online(1),
        report("1.0.0"),
        DeviceEvent::Progress { module: default(), percent: 0, desc: String::new() },
        DeviceEvent::Failure {
            module: "MCU".to_owned(),
            step: FailedStep::Verification,
            desc: "bad".to_owned(),
        },
        DeviceEvent::Pull { module: default(), asked: get(r#""3|x""#) },
    ];
    assert_eq!(world.memory.of(DEV01), expected);
}

#[tokio::test]
async fn nothing_is_acknowledged_that_is_not_durable() {
    let world = World::new().await;
    let mut client = world.login(&Connect::javascript().clean()).await;
    world.memory.broken.store(true, Ordering::SeqCst);
    client.send(&publish(INFORM, Some(1), r#"{"params":{"version":"1"}}"#)).await;
    assert_eq!(client.rest().await, [0; 0]);
}

#[tokio::test]
async fn protocol_errors_end_the_connection() {
    let world = World::new().await;
    let qos2 = packet(0x34, &[text(INFORM), vec![0, 1], b"{}".to_vec()].concat());
    let qos3 = packet(0x36, &[text(INFORM), vec![0, 1], b"{}".to_vec()].concat());
    let no_id = packet(0x32, &[text(INFORM), vec![0, 0], b"{}".to_vec()].concat());
    let too_long = [0x30, 0x80, 0x80, 0x80, 0x01].to_vec();
    let bad_text = packet(0x30, &[vec![0, 2, 0xff, 0xff], b"{}".to_vec()].concat());
    let pubrel = packet(0x62, &[0, 1]);
    let connect = Connect::javascript().clean().bytes();
    let no_filters = packet(0x82, &[0, 1]);
    for bytes in [qos2, qos3, no_id, too_long, bad_text, pubrel, connect, no_filters, vec![0; 2]] {
        let mut client = world.login(&Connect::javascript().clean()).await;
        // What came before is still answered.
        client.send(&[PINGREQ.to_vec(), bytes].concat()).await;
        assert_eq!(client.rest().await, [0xd0, 0]);
    }
}

#[tokio::test]
async fn a_large_message_is_taken_after_the_login() {
    let world = World::new().await;
    let mut client = world.login(&Connect::javascript().clean()).await;
    let payload = format!(r#"{{"params":{{"version":"1","x":"{}"}}}}"#, "y".repeat(250 * 1024));
    client.send(&publish(INFORM, Some(1), &payload)).await;
    assert_eq!(client.receive().await, (0x40, vec![0, 1]));
    assert_eq!(world.memory.of(DEV01)[1..], [report("1")]);
}

#[tokio::test]
async fn messages_beyond_the_rate_are_acknowledged_and_dropped() {
    let limits = Limits { uplinks_per_second: 1, ..Limits::default() };
    let world = World::with(limits, None).await;
    let mut client = world.login(&Connect::javascript().clean()).await;
    let message = |id: u16| publish(INFORM, Some(id), &format!(r#"{{"params":{{"version":"{id}"}}}}"#));
    client.send(&(1..=40).flat_map(message).collect::<Vec<u8>>()).await;
    for id in 1..=40 {
        assert_eq!(client.receive().await, (0x40, vec![0, id]));
    }
    let events = world.memory.of(DEV01);
    assert_eq!(events[1], report("1"));
    assert!(events.len() < 40, "{events:?}");
}

#[tokio::test]
async fn a_panic_leaves_no_ghost() {
    let world = World::new().await;
    let mut client = world.login(&Connect::javascript().clean()).await;
    world.memory.panics.store(true, Ordering::SeqCst);
    client.send(&publish(INFORM, Some(1), r#"{"params":{"version":"1"}}"#)).await;
    assert_eq!(client.rest().await, [0; 0]);
    world.memory.wait(DEV01, |events| events.last() == Some(&DeviceEvent::Offline { session: 1 })).await;
    assert!(world.sessions.is_empty());
}

#[tokio::test]
async fn a_silent_device_is_taken_for_gone() {
    let world = World::new().await;
    let mut client = world.login(&Connect::javascript().clean()).await;
    world.sessions.sweep(Instant::now() + Duration::from_secs(80));
    client.nothing_else().await;
    world.sessions.sweep(Instant::now() + Duration::from_secs(100));
    assert_eq!(client.rest().await, [0; 0]);
    world.memory.wait(DEV01, |events| events.last() == Some(&DeviceEvent::Offline { session: 1 })).await;
}

// ---------------------------------------------------------------------------------------- downlinks

#[tokio::test]
async fn a_push_reaches_a_device_that_never_subscribed_and_comes_once() {
    let world = World::new().await;
    assert_eq!(world.sessions.send(DEV01, push(1)), Sent::Offline);
    let mut client = world.login(&Connect::c()).await;
    assert_eq!(world.memory.of(DEV01), [online(1), DeviceEvent::Listening]);
    assert_eq!(world.sessions.send(DEV01, push(1)), Sent::Queued);
    assert_eq!(client.message().await, (UPGRADE.to_owned(), Some(1), pushed(1)));
    // A subscription on top, and one more.
    client.send(&subscribe(5, &[(UPGRADE, 1), ("/ota/device/+/a1TestPk001/dev01", 0)])).await;
    assert_eq!(client.receive().await, (0x90, vec![0, 5, 1, 0]));
    world.sessions.send(DEV01, push(2));
    assert_eq!(client.message().await, (UPGRADE.to_owned(), Some(2), pushed(2)));
    client.nothing_else().await;
    assert_eq!(world.memory.of(DEV01).len(), 2, "it listened all the time");
}

#[tokio::test]
async fn a_device_that_keeps_its_session_is_taken_to_be_subscribed() {
    let world = World::new().await;
    // The SDK for JavaScript subscribes on its first connection only and relies on the server's memory.
    let mut client = world.login(&Connect::javascript()).await;
    assert_eq!(world.memory.of(DEV01), [online(1), DeviceEvent::Listening]);
    assert_eq!(world.sessions.send(DEV01, push(1)), Sent::Queued);
    assert_eq!(client.message().await.2, pushed(1));
}

#[tokio::test]
async fn a_device_without_automatic_delivery_has_to_subscribe() {
    let world = World::new().await;
    let mut client = world.login(&Connect::javascript().clean()).await;
    assert!(!world.sessions.listening(DEV01));
    assert_eq!(world.sessions.send(DEV01, push(1)), Sent::NotListening);
    let filters = [
        (UPGRADE, 2),
        (GET_REPLY, 0),
        ("/shadow/get/a1TestPk001/dev01", 1),
        ("/sys/a1TestPk001/dev01/rrpc/request/+", 1),
        ("/ota/device/upgrade/a1TestPk001/dev02", 1),
        ("#", 0),
        ("/ota/device/upgrade/+/+", 0),
        ("/a1TestPk001/dev01/#/x", 0),
    ];
    client.send(&subscribe(6, &filters)).await;
    assert_eq!(client.receive().await, (0x90, vec![0, 6, 1, 0, 1, 1, 0x80, 0x80, 0x80, 0x80]));
    assert_eq!(world.memory.of(DEV01), [online(1), DeviceEvent::Listening]);
    assert_eq!(world.sessions.send(DEV01, push(1)), Sent::Queued);
    assert_eq!(client.message().await.2, pushed(1));

    client.send(&unsubscribe(7, UPGRADE)).await;
    assert_eq!(client.receive().await, (0xb0, vec![0, 7]));
    assert_eq!(world.sessions.send(DEV01, push(1)), Sent::NotListening);
    client.send(&subscribe(8, &[(UPGRADE, 1)])).await;
    assert_eq!(client.receive().await, (0x90, vec![0, 8, 1]));
    assert_eq!(world.memory.of(DEV01), [online(1), DeviceEvent::Listening, DeviceEvent::Listening]);
}

fn get(id: &str) -> Asked {
    Asked { by: Question::Get, id: id.to_owned() }
}

/// Link SDKs for C 2.x and 3.x ask and are answered on one topic, which they subscribe to first.
#[tokio::test]
async fn an_old_devices_question_is_answered_on_its_own_topic_and_never_echoed() {
    let world = World::new().await;
    let mut client = world.login(&Connect::javascript().clean()).await;
    client.send(&subscribe(1, &[(REQUEST, 1)])).await;
    assert_eq!(client.receive().await, (0x90, vec![0, 1, 1]));
    client.send(&publish(REQUEST, Some(2), r#"{"id":"0","params":{"version":"1.0.0"}}"#)).await;
    assert_eq!(client.receive().await, (0x40, vec![0, 2]));
    client.nothing_else().await;
    let asked = Asked { by: Question::Request, id: r#""0""#.to_owned() };
    let pull = DeviceEvent::Pull { module: "default".to_owned(), asked: asked.clone() };
    assert_eq!(world.memory.of(DEV01), [online(1), pull]);
    // Nothing to do is not said; an update is told like a push.
    world.sessions.send(DEV01, Downlink::PullReply { asked: asked.clone(), package: None });
    let package = Some((task(1), 1, package()));
    world.sessions.send(DEV01, Downlink::PullReply { asked, package });
    let (topic, _, payload) = client.message().await;
    assert_eq!((topic.as_str(), payload), (REQUEST, pushed(4).replace(r#""id":4"#, r#""id":"0""#)));
    client.nothing_else().await;
}

#[tokio::test]
async fn a_question_is_answered_to_whoever_asks() {
    let world = World::new().await;
    let mut client = world.login(&Connect::javascript().clean()).await;
    let nothing = Downlink::PullReply { asked: get("\"3|x\""), package: None };
    assert_eq!(world.sessions.send(DEV01, nothing), Sent::Queued);
    let answer = r#"{"code":200,"data":{},"id":"3|x","message":"success"}"#.to_owned();
    assert_eq!(client.message().await, (GET_REPLY.to_owned(), None, answer));
    let package = Some((task(1), 1, package()));
    world.sessions.send(DEV01, Downlink::PullReply { asked: get("4"), package });
    let (_, _, payload) = client.message().await;
    assert_eq!(payload, pushed(4).replace(r#""1000""#, "200"));
}

#[tokio::test]
async fn pushes_wait_for_room_and_can_be_withdrawn() {
    let world = World::new().await;
    let mut client = world.login(&Connect::c()).await;
    for ordinal in 1..=12 {
        assert_eq!(world.sessions.send(DEV01, push(ordinal)), Sent::Queued);
    }
    for ordinal in 1..=8 {
        assert_eq!(client.message().await.1, Some(ordinal));
    }
    // The ninth waits for a PUBACK; an answer does not.
    world.sessions.send(DEV01, Downlink::PullReply { asked: get("4"), package: None });
    assert_eq!(client.message().await.0, GET_REPLY);
    client.nothing_else().await;
    world.sessions.withdraw(DEV01, task(10), 2);
    client.send(&puback(3)).await;
    assert_eq!(client.message().await, (UPGRADE.to_owned(), Some(9), pushed(9)));
    client.send(&puback(3)).await;
    client.nothing_else().await;
    client.send(&[puback(1), puback(2)].concat()).await;
    assert_eq!(client.message().await, (UPGRADE.to_owned(), Some(10), pushed(11)));
    assert_eq!(client.message().await, (UPGRADE.to_owned(), Some(11), pushed(12)));
}

#[tokio::test]
async fn kicking_and_stopping_end_connections() {
    let world = World::new().await;
    let mut kicked = world.login(&Connect::c()).await;
    assert!(world.sessions.kick(DEV01));
    assert_eq!(kicked.rest().await, [0; 0]);
    world.memory.wait(DEV01, |events| events.last() == Some(&DeviceEvent::Offline { session: 1 })).await;

    let mut client = world.login(&Connect::c()).await;
    let mut stranger = world.dial().await;
    stranger.send(&Connect::by_hand().bytes()[..1]).await;
    client.nothing_else().await;
    world.stop.send(true).unwrap();
    world.sessions.drain();
    assert_eq!(client.rest().await, [0; 0]);
    assert_eq!(stranger.rest().await, [0; 0]);
    assert_eq!(world.server.await.unwrap(), 0, "all connections have ended");
    assert_eq!(world.memory.of(DEV01).last(), Some(&DeviceEvent::Offline { session: 2 }));
}
