//! Limits per address before the login.

use super::world::*;
use std::sync::atomic::Ordering;
use tokio::net::TcpStream;
use updraft_server::device::connection::Limits;
use updraft_server::gate::{self, Gate};
use updraft_server::net::{Peer, Stream};
use updraft_server::networks::Networks;

const TRY_LATER: [u8; 4] = [0x20, 2, 0, 3];
const BAD: [u8; 4] = [0x20, 2, 0, 4];

async fn world(limits: gate::Limits) -> World {
    World::behind(Gate::new("mqtt", limits), Limits::default(), None).await
}

fn wrong() -> Vec<u8> {
    Connect { password: "00", ..Connect::python() }.bytes()
}

#[tokio::test]
async fn after_failed_logins_an_address_waits_and_the_database_rests() {
    let world = world(gate::Limits { failures: 3, ..gate::Limits::default() }).await;
    // Logins that succeed, and refusals that no password is behind, do not count.
    for _ in 0..5 {
        world.login(&Connect::by_hand()).await;
        let odd = Connect { keepalive: 0, ..Connect::python() };
        assert_eq!(world.refusal(&odd.bytes()).await, [0x20, 2, 0, 2]);
    }
    assert_eq!(world.refusal(&wrong()).await, BAD);
    assert_eq!(world.refusal(&wrong()).await, BAD);
    let unknown = Connect { user: "dev02&a1TestPk001", ..Connect::python() };
    assert_eq!(world.refusal(&unknown.bytes()).await, BAD);
    let looked_up = world.memory.looked_up.load(Ordering::SeqCst);
    for connect in [wrong(), Connect::by_hand().bytes()] {
        assert_eq!(world.refusal(&connect).await, TRY_LATER);
    }
    assert_eq!(world.memory.looked_up.load(Ordering::SeqCst), looked_up);
}

#[tokio::test]
async fn strangers_of_one_address_are_bounded_and_devices_are_not() {
    let world = world(gate::Limits { connections: 2, ..gate::Limits::default() }).await;
    // Who has logged in counts no more.
    let mut devices = Vec::new();
    for _ in 0..4 {
        devices.push(world.login(&Connect::by_hand()).await);
    }
    let (mut first, mut second) = (world.dial().await, world.dial().await);
    // Both are being heard before the third comes: each has sent the first half of its login.
    let (half, rest) = (&Connect::python().bytes()[..9], &Connect::python().bytes()[9..]);
    first.send(half).await;
    second.send(half).await;
    let mut third = world.dial().await;
    assert_eq!(third.rest().await, [0; 0], "cut off without a word");
    first.send(rest).await;
    assert_eq!(first.receive().await, (0x20, vec![0, 0]));
    // The first one has made room.
    world.login(&Connect::javascript().clean()).await;
}

#[tokio::test]
async fn who_is_exempt_may_fail() {
    let exempt = Networks::parse("127.0.0.0/8").unwrap();
    let world = world(gate::Limits { connections: 1, failures: 1, exempt }).await;
    let _strangers = (world.dial().await, world.dial().await);
    for _ in 0..3 {
        assert_eq!(world.refusal(&wrong()).await, BAD);
    }
    world.login(&Connect::python()).await;
}

#[tokio::test]
async fn an_idle_connection_is_small() {
    let world = World::new().await;
    let stream = Stream::Plain(TcpStream::connect(world.address).await.unwrap());
    let peer = Peer { remote: world.address, local: world.address, tls: false };
    let pass = Gate::open().enter(world.address.ip()).unwrap();
    let bytes = size_of_val(&world.endpoint.handle(stream, peer, pass));
    // Its task has less than 200 bytes more. A task is aligned to 128 bytes, for which the allocator takes as many
    // more; its blocks are of 640, 768, 896 and 1,024 bytes.
    assert!(bytes <= 600, "{bytes}: an idle session may cost 2.5 KiB in all (docs/performance.md)");
}

#[tokio::test]
async fn the_longest_payload_is_a_setting() {
    let world = World::with(Limits { payload_bytes: 1_000, ..Limits::default() }, None).await;
    let mut device = world.login(&Connect::python()).await;
    device.send(&publish(INFORM, Some(1), &"x".repeat(1_000))).await;
    assert_eq!(device.receive().await, (0x40, vec![0, 1]));
    // The topic's room is for topics up to 128 bytes, so a longer payload beside a short topic may pass.
    device.send(&publish(INFORM, Some(2), &"x".repeat(1_140))).await;
    assert_eq!(device.rest().await, [0; 0], "cut off");
}
