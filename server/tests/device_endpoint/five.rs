//! MQTT 5: its properties, reason codes and aliases.

use super::*;
use updraft_core::limits::MQTT_TOPIC_BYTES_MAX;

/// A CONNACK's properties that are always there: Receive Maximum 256, Maximum QoS 1, Retain Available 0, Maximum
/// Packet Size, Topic Alias Maximum 16, neither Subscription Identifiers nor Shared Subscriptions.
pub const ALWAYS: &[u8] = b"\x21\x01\x00\x24\x01\x25\x00\x27\x00\x04\x04\x89\x22\x00\x10\x29\x00\x2a\x00";

pub fn connack(code: u8, properties: &[u8]) -> (u8, Vec<u8>) {
    (0x20, [&[0, code, properties.len() as u8], properties].concat())
}

pub async fn login(world: &World, connect: &Connect) -> Client<TcpStream> {
    let mut client = world.dial().await;
    client.send(&connect.bytes()).await;
    assert_eq!(client.receive().await, connack(0, ALWAYS));
    client
}

/// A PUBLISH with properties.
fn publish_with(topic: &str, id: Option<u16>, properties: &[u8], payload: &str) -> Vec<u8> {
    let mut body = text(topic);
    body.extend(id.iter().flat_map(|id| id.to_be_bytes()));
    body.push(properties.len() as u8);
    body.extend(properties);
    body.extend(payload.as_bytes());
    packet(if id.is_some() { 0x32 } else { 0x30 }, &body)
}

/// The reason of a DISCONNECT that came last.
pub fn reason(bytes: &[u8]) -> Option<u8> {
    let length = usize::from(*bytes.get(1)?);
    (bytes[0] == 0xe0 && bytes.len() == 2 + length).then(|| bytes[2])
}

/// A message of the server: first byte, topic, id, properties, payload.
fn taken_apart((first, body): (u8, Vec<u8>)) -> (u8, String, Option<u16>, Vec<u8>, String) {
    let length = usize::from(u16::from_be_bytes([body[0], body[1]]));
    let topic = String::from_utf8(body[2..2 + length].to_vec()).unwrap();
    let mut rest = &body[2 + length..];
    let id = (first & 6 != 0).then(|| {
        let id = u16::from_be_bytes([rest[0], rest[1]]);
        rest = &rest[2..];
        id
    });
    let properties = rest[1..=usize::from(rest[0])].to_vec();
    let payload = String::from_utf8(rest[1 + properties.len()..].to_vec()).unwrap();
    (first, topic, id, properties, payload)
}

const REPORT: &str = r#"{"id":1,"params":{"version":"1.0.0"}}"#;

#[tokio::test]
async fn a_device_lives_with_mqtt_5_as_with_3() {
    let world = World::new().await;
    let mut client = login(&world, &Connect::python().five(&[])).await;
    client.send(&publish_with(INFORM, Some(7), &[], REPORT)).await;
    assert_eq!(client.receive().await, (0x40, vec![0, 7, 0, 0]));
    world.memory.wait(DEV01, |events| events.contains(&report("1.0.0"))).await;
    world.sessions.send(DEV01, push(1));
    let message = taken_apart(client.receive().await);
    assert_eq!(message, (0x32, UPGRADE.to_owned(), Some(1), vec![], pushed(1)));
    client.send(&puback(1)).await;
    client.nothing_else().await;
    client.send(&[0xe0, 0]).await;
    assert_eq!(client.rest().await, [0; 0], "who leaves is not sent away");
}

#[tokio::test]
async fn the_welcome_says_what_differs() {
    let world = World::new().await;
    for (keepalive, told) in [(0, 1_200_u16), (5, 30), (65_535, 1_200)] {
        let connect = Connect { keepalive, ..Connect::by_hand().five(&[]) };
        let mut client = world.dial().await;
        client.send(&connect.bytes()).await;
        let (_, answer) = client.receive().await;
        let told = [&[0x13], &told.to_be_bytes()[..]].concat();
        assert!(answer.windows(3).any(|piece| piece == told), "{keepalive}: {answer:x?}");
    }
}

#[tokio::test]
async fn refusals_have_the_reason_codes_of_mqtt_5() {
    let world = World::new().await;
    let base = Connect::python().five(b"\x17\x00");
    let refused = |code: u8| vec![0x20, 3, 0, code, 0];
    for (connect, code) in [
        (Connect { password: "00", ..base.clone() }, 0x86),
        (Connect { user: "dev02&a1TestPk001", ..base.clone() }, 0x86),
        (Connect { user: "nobody", ..base.clone() }, 0x86),
        (Connect { client_id: "x|securemode=9|".to_owned(), ..base.clone() }, 0x85),
        (Connect { client_id: String::new(), ..base.clone() }, 0x85),
        // Enhanced authentication, by method "m".
        (base.clone().five(b"\x17\x00\x15\x00\x01m"), 0x8c),
    ] {
        assert_eq!(world.refusal(&connect.bytes()).await, refused(code), "{}", connect.client_id);
    }
    world.memory.disabled.store(true, Ordering::SeqCst);
    assert_eq!(world.refusal(&base.bytes()).await, refused(0x8a));
    world.memory.deleted.store(true, Ordering::SeqCst);
    assert_eq!(world.refusal(&base.bytes()).await, refused(0x87));
    world.memory.broken.store(true, Ordering::SeqCst);
    assert_eq!(world.refusal(&base.bytes()).await, refused(0x88));
}

#[tokio::test]
async fn explanations_do_not_tell_which_devices_there_are_and_may_be_unwanted() {
    let world = World::new().await;
    let stranger = Connect { user: "dev02&a1TestPk001", ..Connect::python() }.five(&[]);
    let told = b"\x1f\x00\x26the user name or the password is wrong".as_slice();
    let explained = [&[0x20, 44, 0, 0x86, 41], told].concat();
    assert_eq!(told.len(), 41);
    assert_eq!(world.refusal(&stranger.bytes()).await, explained);
    let thief = Connect { password: "00", ..Connect::python() }.five(&[]);
    assert_eq!(world.refusal(&thief.bytes()).await, explained);
    for unwanted in [b"\x17\x00".as_slice(), b"\x27\x00\x00\x00\x20"] {
        assert_eq!(world.refusal(&thief.clone().five(unwanted).bytes()).await, [0x20, 3, 0, 0x86, 0]);
    }
    // A version to come.
    let answer = world.refusal(&Connect { level: 6, ..Connect::python() }.bytes()).await;
    assert_eq!(answer[..4], [0x20, answer.len() as u8 - 2, 0, 0x84]);
}

#[tokio::test]
async fn subscriptions_are_answered_one_by_one() {
    let world = World::new().await;
    let mut client = login(&world, &Connect::by_hand().five(&[])).await;
    let subscribe = |id: u8, properties: &[u8], filters: &[(&str, u8)]| {
        let mut body = vec![0, id, properties.len() as u8];
        body.extend(properties);
        for (filter, options) in filters {
            body.extend(text(filter));
            body.push(*options);
        }
        packet(0x82, &body)
    };
    let filters = [
        ("/ota/device/upgrade/pk/device", 0x01),
        // No local, retain as published, never retained ones, QoS 2.
        ("/pk/device/user/get", 0x2e),
        ("/sys/pk/device/#", 0x00),
        ("/ota/device/upgrade/pk/other", 0x01),
        ("$share/g//ota/device/upgrade/pk/device", 0x01),
        ("/ota/#/pk/device", 0x01),
    ];
    client.send(&subscribe(3, &[], &filters)).await;
    assert_eq!(client.receive().await, (0x90, vec![0, 3, 0, 1, 1, 0, 0x87, 0x9e, 0x8f]));
    client.send(&subscribe(4, &[0x0b, 5], &filters[..1])).await;
    assert_eq!(client.receive().await, (0x90, vec![0, 4, 0, 0xa1]));
    let mut body = vec![0, 5, 0];
    for filter in
        ["/sys/pk/device/#", "/sys/pk/device/#", "/pk/device/user/get", "/ota/device/upgrade/pk/other"]
    {
        body.extend(text(filter));
    }
    client.send(&packet(0xa2, &body)).await;
    assert_eq!(client.receive().await, (0xb0, vec![0, 5, 0, 0, 0x11, 0, 0x11]));
}

#[tokio::test]
async fn what_is_dropped_is_acknowledged_with_a_reason() {
    let world = World::with(Limits { uplinks_per_second: 4, ..Limits::default() }, None).await;
    let mut client = login(&world, &Connect::python().five(&[])).await;
    let topics = [
        ("/pk/other/user/x", "", 0x87),
        ("/a1TestPk001/dev01/user/x", "", 0x10),
        (INFORM, "nonsense", 0x99),
        (DOWNLOAD, "nonsense", 0x99),
        // Four were messages.
        (INFORM, REPORT, 0x97),
        (DOWNLOAD, "nonsense", 0x97),
    ];
    let messages = topics.iter().map(|(topic, payload, _)| publish_with(topic, Some(1), &[], payload));
    client.send(&messages.collect::<Vec<_>>().concat()).await;
    for (topic, payload, reason) in topics {
        assert_eq!(client.receive().await, (0x40, vec![0, 1, reason, 0]), "{topic} {payload}");
    }
}

#[tokio::test]
async fn the_device_may_use_aliases() {
    let world = World::new().await;
    let mut client = login(&world, &Connect::python().five(&[])).await;
    // Retain, and all properties of a message, are ignored.
    let rich = b"\x23\x00\x10\x01\x01\x02\x00\x00\x00\x09\x03\x00\x01t\x08\x00\x01r\x09\x00\x01c\x26\x00\x01k\x00\x01v";
    let mut first = publish_with(INFORM, Some(1), rich, REPORT);
    first[0] |= 1;
    client.send(&first).await;
    assert_eq!(client.receive().await, (0x40, vec![0, 1, 0, 0]));
    client.send(&publish_with("", Some(2), b"\x23\x00\x10", r#"{"params":{"version":"2"}}"#)).await;
    assert_eq!(client.receive().await, (0x40, vec![0, 2, 0, 0]));
    world.memory.wait(DEV01, |events| events.contains(&report("2"))).await;
    let long = "x".repeat(MQTT_TOPIC_BYTES_MAX + 1);
    for (topic, properties, expected) in [
        ("", b"\x23\x00\x01".as_slice(), 0x82),
        ("", b"", 0x82),
        (INFORM, b"\x23\x00\x11", 0x94),
        (&long, b"\x23\x00\x01", 0x90),
        (INFORM, b"\x23\x00\x00", 0x81),
    ] {
        let mut client = login(&world, &Connect::python().five(&[])).await;
        client.send(&publish_with(topic, None, properties, REPORT)).await;
        assert_eq!(reason(&client.rest().await), Some(expected), "{properties:x?}");
    }
}

#[tokio::test]
async fn the_device_takes_aliases_few_messages_and_short_ones() {
    let world = World::new().await;
    // Topic Alias Maximum 1, Receive Maximum 2.
    let mut client = login(&world, &Connect::python().five(b"\x22\x00\x01\x21\x00\x02")).await;
    for ordinal in 1..=3 {
        assert_eq!(world.sessions.send(DEV01, push(ordinal)), Sent::Queued);
    }
    let alias = vec![0x23, 0, 1];
    let first = taken_apart(client.receive().await);
    assert_eq!(first, (0x32, UPGRADE.to_owned(), Some(1), alias.clone(), pushed(1)));
    let second = taken_apart(client.receive().await);
    assert_eq!(second, (0x32, String::new(), Some(2), alias.clone(), pushed(2)));
    // Others have no alias, and pass what waits.
    let asked = Asked { by: Question::Get, id: String::new() };
    world.sessions.send(DEV01, Downlink::PullReply { asked, package: None });
    let reply = taken_apart(client.receive().await);
    assert_eq!((reply.0, reply.1.as_str(), &reply.3), (0x30, GET_REPLY, &vec![]));
    client.nothing_else().await;
    client.send(&puback(2)).await;
    assert_eq!(taken_apart(client.receive().await), (0x32, String::new(), Some(3), alias, pushed(3)));

    // Maximum Packet Size 200: what is larger is not sent, and takes no place in the window.
    let mut client = login(&world, &Connect::python().five(b"\x27\x00\x00\x00\xc8\x21\x00\x01")).await;
    world.sessions.send(DEV01, push(1));
    let small = Downlink::Message {
        topic: "/ext/error/a1TestPk001/dev01".to_owned(),
        payload: "small".into(),
        kept: true,
        answer: false,
    };
    world.sessions.send(DEV01, small);
    let message = taken_apart(client.receive().await);
    assert_eq!((message.1.as_str(), message.4.as_str()), ("/ext/error/a1TestPk001/dev01", "small"));
}

#[tokio::test]
async fn whoever_is_sent_away_is_told_why() {
    let world = World::new().await;
    let connect = Connect::python().five(&[]);
    let mut first = login(&world, &connect).await;
    let mut second = login(&world, &connect).await;
    assert_eq!(reason(&first.rest().await), Some(0x8e));
    world.sessions.kick(DEV01);
    assert_eq!(reason(&second.rest().await), Some(0x98));
    let mut client = login(&world, &connect).await;
    world.sessions.sweep(Instant::now() + Duration::from_secs(95));
    assert_eq!(reason(&client.rest().await), Some(0x8d));
    let long = [&[0x30][..], &[0xff, 0xff, 0xff, 0x7f]].concat();
    for (bytes, expected) in [
        (packet(0x34, &[&text(INFORM)[..], &[0, 1, 0]].concat()), 0x9b),
        (connect.bytes(), 0x82),
        (packet(0xf0, &[0x18, 0]), 0x82),
        (PINGRESP.0.to_be_bytes().into_iter().chain([0]).collect(), 0x82),
        (vec![0x00, 0], 0x81),
        (long, 0x95),
    ] {
        let mut client = login(&world, &connect).await;
        client.send(&bytes).await;
        assert_eq!(reason(&client.rest().await), Some(expected), "{bytes:x?}");
    }
    for (properties, words) in [
        (b"".as_slice(), &b"\x25\x1f\x00\x22the device was disabled or deleted"[..]),
        (b"\x17\x00", b"\x00"),
        (b"\x27\x00\x00\x00\x20", b"\x00"),
    ] {
        let mut client = login(&world, &Connect::python().five(properties)).await;
        world.sessions.kick(DEV01);
        let told = [&[0xe0, words.len() as u8 + 1, 0x98], words].concat();
        assert_eq!(client.rest().await, told);
    }
    let mut client = login(&world, &connect).await;
    world.sessions.drain();
    assert_eq!(reason(&client.rest().await), Some(0x8b));
}
