//! The registry: takeovers, ends, and what outlives a connection.

use super::super::link::{Asked, Question};
use super::super::mailbox::tests::{push, task};
use super::*;

const DEVICE: DeviceNo = DeviceNo(7);

fn registry() -> Sessions {
    Sessions::new(100, BaseUrl::Connection { port: 8080 })
}

/// A login of MQTT 3.1.1 with the clean flag.
fn clean() -> NewSession<'static> {
    NewSession {
        device: DEVICE,
        owner: Owner { product_key: "pk", device_name: "dev1" },
        local: "[::1]:1883".parse().unwrap(),
        keepalive: 60,
        auto_subscribe: true,
        window: 8,
        clean_start: true,
        keep_seconds: 0,
        remembers: false,
        is_gateway: false,
    }
}

fn login(sessions: &Sessions) -> Arc<Session> {
    sessions.insert(clean(), Instant::now()).unwrap().0
}

/// A login whose session is to be kept so long; whether it has its earlier one.
fn keeping(sessions: &Sessions, keep_seconds: u32, now: Instant) -> (Arc<Session>, bool) {
    let new = NewSession { keep_seconds, clean_start: false, auto_subscribe: false, ..clean() };
    sessions.insert(new, now).unwrap()
}

fn note(payload: &'static str) -> Downlink {
    let topic = "/sys/pk/dev1/thing/ota/firmware/get_reply".to_owned();
    Downlink::Message { topic, payload: payload.into(), kept: true, answer: true }
}

/// What goes out now: packet id, whether again, and the payload of what is no push.
fn outgoing(session: &Session) -> Vec<(u16, bool, String)> {
    std::iter::from_fn(|| session.next())
        .map(|sending| {
            let payload = match sending.message {
                Downlink::Message { payload, .. } => String::from_utf8(payload.to_vec()).unwrap(),
                _ => String::new(),
            };
            (sending.id.map_or(0, NonZeroU16::get), sending.again, payload)
        })
        .collect()
}

#[test]
fn a_second_login_takes_over() {
    let sessions = registry();
    let first = login(&sessions);
    let second = login(&sessions);
    assert!(second.number > first.number);
    assert_eq!((first.ending(), second.ending()), (Some(Ending::TakenOver), None));
    assert!(!sessions.remove(&first, Instant::now()), "its place is taken");
    assert_eq!(sessions.len(), 1);
    assert!(sessions.remove(&second, Instant::now()));
    assert!(!sessions.remove(&second, Instant::now()));
    assert!(sessions.is_empty());
}

#[test]
fn silence_kicks_and_draining_end_sessions() {
    let sessions = registry();
    let start = Instant::now();
    let session = login(&sessions);
    sessions.sweep(start + Duration::from_secs(90));
    assert_eq!(session.ending(), None);
    sessions.heard(&session, start + Duration::from_mins(1));
    sessions.sweep(start + Duration::from_secs(149));
    assert_eq!(session.ending(), None);
    sessions.sweep(start + Duration::from_secs(152));
    assert_eq!(session.ending(), Some(Ending::Silent));
    assert!(!sessions.listening(DEVICE));
    let asked = Asked { by: Question::Get, id: String::new() };
    let nothing = Downlink::PullReply { asked, package: None };
    assert_eq!(sessions.send(DEVICE, nothing), Sent::Offline);

    let session = login(&sessions);
    assert!(sessions.kick(DEVICE));
    assert!(!sessions.kick(DeviceNo(8)));
    assert_eq!(session.ending(), Some(Ending::Kicked));
    let session = login(&sessions);
    sessions.drain();
    assert_eq!(session.ending(), Some(Ending::Shutdown));
    assert!(sessions.insert(clean(), start).is_none());
}

#[test]
fn addresses_of_downloads() {
    let sessions = registry();
    assert_eq!(sessions.base_url(&login(&sessions)), "http://[::1]:8080");
    let sessions = Sessions::new(0, BaseUrl::Public("https://ota.example.com".to_owned()));
    assert_eq!(sessions.base_url(&login(&sessions)), "https://ota.example.com");
}

#[test]
fn an_idle_session_is_small() {
    // With the counters of its Arc it takes one block of 256 bytes from the allocator; a byte more, 320.
    let bytes = size_of::<Session>();
    assert!(bytes <= 240, "{bytes}: an idle session may cost 2.5 KiB in all (docs/performance.md)");
}

const UPGRADE: &str = "/ota/device/upgrade/pk/dev1";

#[test]
fn a_kept_session_has_its_subscriptions_and_what_was_not_acknowledged() {
    let (sessions, now) = (registry(), Instant::now());
    let (first, present) = keeping(&sessions, 60, now);
    assert!(!present);
    first.subscribe(UPGRADE);
    for message in [push(1, 1), note("a"), note("b"), push(2, 1)] {
        assert_eq!(sessions.send(DEVICE, message), Sent::Queued);
    }
    let none = String::new();
    let sent = [(1, false, none.clone()), (2, false, "a".to_owned()), (3, false, "b".to_owned())];
    assert_eq!(outgoing(&first)[..3], sent);
    first.arrived(NonZeroU16::new(2).unwrap());
    assert_eq!(sessions.send(DEVICE, push(3, 1)), Sent::Queued);
    first.end(Ending::Silent);
    assert!(sessions.remove(&first, now));
    assert_eq!((sessions.len(), sessions.kept(), sessions.listening(DEVICE)), (0, 1, false));
    assert_eq!(sessions.send(DEVICE, push(4, 1)), Sent::Offline, "the engine says it again");
    assert_eq!(sessions.send(DEVICE, note("c")), Sent::Kept);
    sessions.withdraw(DEVICE, task(2), 2);

    let (second, present) = keeping(&sessions, 60, now);
    assert!(present && second.listening() && sessions.kept() == 0);
    // The engine says again what is left to say.
    assert_eq!(sessions.send(DEVICE, push(1, 1)), Sent::Queued);
    assert_eq!(sessions.send(DEVICE, push(2, 2)), Sent::Queued);
    let sent =
        [(3, true, "b".to_owned()), (5, false, "c".to_owned()), (1, true, none.clone()), (6, false, none)];
    assert_eq!(outgoing(&second), sent);
    second.unsubscribe(UPGRADE);
    // A takeover finds it so.
    let (third, present) = keeping(&sessions, 60, now);
    assert!(present && !third.listening());
    assert_eq!(outgoing(&second), [], "the old connection has lost it");
    assert_eq!(outgoing(&third), [(3, true, "b".to_owned()), (5, true, "c".to_owned())]);
}

#[test]
fn a_session_is_kept_only_as_long_as_it_may() {
    let (sessions, start) = (registry().keeping(Keeping { seconds: 100, sessions: 2 }), Instant::now());
    let at = |seconds| start + Duration::from_secs(seconds);
    let go = |keep_seconds: u32, now| {
        let (session, _) = keeping(&sessions, keep_seconds, now);
        sessions.remove(&session, now);
        sessions.kept()
    };
    assert_eq!((go(0, start), go(60, start), go(u32::MAX, start)), (0, 1, 1));
    sessions.sweep(at(99));
    assert_eq!(sessions.kept(), 1);
    sessions.sweep(at(101));
    assert_eq!(sessions.kept(), 0);
    go(50, start);
    assert!(!keeping(&sessions, 50, at(51)).1, "before the sweep, too");

    // A clean start forgets.
    go(50, start);
    login(&sessions);
    assert_eq!(sessions.kept(), 0);
    assert!(!keeping(&sessions, 50, start).1, "the clean one was not to be kept");
    // Who is sent away has nothing left, wherever it is.
    sessions.kick(DEVICE);
    assert!(!keeping(&sessions, 50, start).1);
    go(50, start);
    sessions.kick(DEVICE);
    assert!(!keeping(&sessions, 50, start).1);
    // The end of a session may change, but it cannot begin to be kept.
    let (session, _) = keeping(&sessions, 50, start);
    assert!(session.keep_for(0) && !session.keep_for(1));
    sessions.remove(&session, start);
    assert_eq!(sessions.kept(), 0);
}

#[test]
fn kept_sessions_are_bounded_and_so_is_each() {
    let (sessions, start) = (registry().keeping(Keeping { seconds: 100, sessions: 2 }), Instant::now());
    let leave = |device: i64, keep_seconds| {
        let new = NewSession { device: DeviceNo(device), keep_seconds, clean_start: false, ..clean() };
        let (session, _) = sessions.insert(new, start).unwrap();
        sessions.remove(&session, start);
    };
    for (device, seconds) in [(1, 90), (2, 50), (3, 70)] {
        leave(device, seconds);
    }
    let kept = |device| sessions.send(DeviceNo(device), note("x")) == Sent::Kept;
    assert_eq!([1, 2, 3].map(kept), [true, false, true]);
    let large = || Downlink::Message {
        topic: "/t".to_owned(),
        payload: vec![0; KEPT_BYTES_MAX].into(),
        kept: true,
        answer: true,
    };
    assert_eq!(sessions.send(DeviceNo(1), large()), Sent::Kept);
    assert_eq!(sessions.send(DeviceNo(1), note("x")), Sent::Full);
    let last = (0..100).map(|_| sessions.send(DeviceNo(3), note("x"))).find(|sent| *sent != Sent::Kept);
    assert_eq!(last, Some(Sent::Full));
}

#[test]
fn a_device_that_relies_on_lost_memory_counts_as_subscribed() {
    let (sessions, now) = (registry(), Instant::now());
    let new = || NewSession {
        keep_seconds: 60,
        clean_start: false,
        auto_subscribe: false,
        remembers: true,
        ..clean()
    };
    let (session, _) = sessions.insert(new(), now).unwrap();
    assert!(session.listening());
    session.unsubscribe(UPGRADE);
    sessions.remove(&session, now);
    assert!(!sessions.insert(new(), now).unwrap().0.listening(), "its memory is not lost");
}
