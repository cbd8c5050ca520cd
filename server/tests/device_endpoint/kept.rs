//! Sessions that outlive their connections.

use super::five::{ALWAYS, connack, login, reason};
use super::*;

/// A note that is not to get lost.
fn note(payload: &'static str) -> Downlink {
    Downlink::Message { topic: NOTES.to_owned(), payload: payload.into(), kept: true, answer: false }
}

const NOTES: &str = "/ext/error/a1TestPk001/dev01";

/// Waits until the device has left so many times.
async fn left(world: &World, times: usize) {
    let offline = |event: &DeviceEvent| matches!(event, DeviceEvent::Offline { .. });
    world.memory.wait(DEV01, |events| events.iter().filter(|event| offline(event)).count() == times).await;
}

async fn again(world: &World, connect: &Connect) -> Client<TcpStream> {
    let mut client = world.dial().await;
    client.send(&connect.bytes()).await;
    assert_eq!(client.receive().await, (0x20, vec![1, 0]));
    client
}

#[tokio::test]
async fn a_device_that_keeps_its_session_finds_it_again() {
    let world = World::new().await;
    let connect = Connect::javascript();
    let mut client = world.login(&connect).await;
    client.send(&unsubscribe(1, UPGRADE)).await;
    assert_eq!(client.receive().await, (0xb0, vec![0, 1]));
    client.send(&subscribe(2, &[(UPGRADE, 1)])).await;
    assert_eq!(client.receive().await, (0x90, vec![0, 2, 1]));
    world.sessions.send(DEV01, push(1));
    world.sessions.send(DEV01, note("a"));
    assert_eq!(client.message().await, (UPGRADE.to_owned(), Some(1), pushed(1)));
    assert_eq!(client.message().await, (NOTES.to_owned(), Some(2), "a".to_owned()));
    client.send(&[0xe0, 0]).await;
    assert_eq!(client.rest().await, [0; 0]);
    left(&world, 1).await;
    assert!(world.sessions.is_empty(), "it is offline");
    assert_eq!(world.sessions.send(DEV01, note("b")), Sent::Kept);

    let mut client = again(&world, &connect).await;
    // Subscribed, without a word, which the engine is told.
    let listening = |event: &&DeviceEvent| **event == DeviceEvent::Listening;
    world.memory.wait(DEV01, |events| events.iter().filter(listening).count() == 3).await;
    // At QoS 1, again.
    let (first, body) = client.receive().await;
    assert_eq!((first, &body[30..]), (0x3a, &b"\x00\x02a"[..]));
    assert_eq!(client.message().await, (NOTES.to_owned(), Some(3), "b".to_owned()));
    client.nothing_else().await;
    // The push comes when the engine says it again, once.
    assert_eq!(world.sessions.send(DEV01, push(1)), Sent::Queued);
    assert_eq!(world.sessions.send(DEV01, push(1)), Sent::Repeated);
    let (first, body) = client.receive().await;
    assert_eq!((first, &body[2 + UPGRADE.len()..][..2]), (0x3a, &[0, 1][..]));
    client.nothing_else().await;
    for id in 1..=3 {
        client.send(&puback(id)).await;
    }
    client.nothing_else().await;
    // A takeover hands it over, too.
    let mut second = again(&world, &connect).await;
    assert_eq!(client.rest().await, [0; 0]);
    second.nothing_else().await;
    drop(second);
    left(&world, 2).await;
    // And a clean one ends it.
    let mut third = world.login(&connect.clone().clean()).await;
    assert_eq!(world.sessions.send(DEV01, push(1)), Sent::NotListening);
    third.nothing_else().await;
    world.login(&connect).await.nothing_else().await;
}

#[tokio::test]
async fn mqtt_5_says_how_long() {
    let world = World::new().await;
    let (week, hour) = (b"\x11\x00\x09\x3a\x80", b"\x11\x00\x00\x0e\x10");
    let lasting = |properties: &[u8]| {
        let connect = Connect::python().five(properties);
        Connect { flags: connect.flags & !2, ..connect }
    };
    let enter = async |connect: &Connect, present: u8, told: &[u8]| {
        let mut client = world.dial().await;
        client.send(&connect.bytes()).await;
        let (first, mut expected) = connack(0, &[told, ALWAYS].concat());
        expected[0] = present;
        assert_eq!(client.receive().await, (first, expected));
        client
    };
    // Longer than we keep any.
    let mut client = enter(&lasting(b"\x11\xff\xff\xff\xff"), 0, week).await;
    client.send(&[0xe0, 0]).await;
    left(&world, 1).await;
    let mut client = enter(&lasting(hour), 1, b"").await;
    // It changes its mind.
    client.send(&[0xe0, 7, 0, 5, 0x11, 0, 0, 0, 0]).await;
    assert_eq!(client.rest().await, [0; 0]);
    left(&world, 2).await;
    assert_eq!(world.sessions.kept(), 0);
    drop(enter(&lasting(hour), 0, b"").await);
    left(&world, 3).await;
    assert_eq!(world.sessions.kept(), 1, "gone without a word");
    // Clean start, and not to be kept.
    let mut client = login(&world, &Connect::python().five(b"")).await;
    assert_eq!(world.sessions.kept(), 0);
    client.send(&[0xe0, 7, 0, 5, 0x11, 0, 0, 0, 1]).await;
    assert_eq!(reason(&client.rest().await), Some(0x82), "too late to wish it");
}
