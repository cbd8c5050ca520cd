//! A fleet that comes back all at once.

use super::world::*;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use updraft_server::device::connection::Limits;
use updraft_server::gate::Gate;
use updraft_server::net::{Port, Speaks};
use updraft_server::turnstile::Turnstile;

async fn world(per_second: u32, wait: Duration) -> World {
    let turnstile = Turnstile::new(per_second, wait);
    World::at(Port { turnstile, ..Port::plain(Speaks::Mqtt, Gate::open()) }, Limits::default()).await
}

/// A login from its connection to the answer; `None`: it was turned away.
async fn login(address: std::net::SocketAddr, connect: Arc<Vec<u8>>) -> Option<Instant> {
    let mut client = Client(TcpStream::connect(address).await.ok()?);
    tokio::io::AsyncWriteExt::write_all(&mut client.0, &connect).await.ok()?;
    let mut answer = [0; 4];
    client.0.read_exact(&mut answer).await.ok()?;
    assert_eq!(answer, [0x20, 2, 0, 0]);
    Some(Instant::now())
}

async fn storm(world: &World, devices: usize) -> Vec<Instant> {
    let connect = Arc::new(Connect::by_hand().bytes());
    let logins: Vec<_> =
        (0..devices).map(|_| tokio::spawn(login(world.address, Arc::clone(&connect)))).collect();
    let mut moments = Vec::new();
    for login in logins {
        moments.extend(login.await.unwrap());
    }
    moments.sort();
    moments
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_are_served_and_no_second_has_more_than_the_rate() {
    let _ = rlimit::increase_nofile_limit(16_384);
    const RATE: usize = 1_000;
    let world = world(RATE as u32, Duration::from_secs(30)).await;
    let began = Instant::now();
    let moments = storm(&world, 3_000).await;
    assert_eq!(moments.len(), 3_000, "all of them, at the first attempt");
    // What is seen here is the answer, which comes a little after the admission; the rule itself is tested exactly.
    let tolerated = RATE + RATE / 5;
    let crowded = moments.windows(tolerated).any(|w| w[tolerated - 1] - w[0] < Duration::from_secs(1));
    assert!(!crowded, "more than the rate in one second");
    assert!(moments[2_999] - began >= Duration::from_secs(2), "{:?}", moments[2_999] - began);
    // When it is over, nobody waits.
    let calm = Instant::now();
    world.login(&Connect::python()).await;
    assert!(calm.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn who_would_wait_too_long_is_closed_at_once_and_comes_again() {
    let world = world(10, Duration::from_secs(1)).await;
    let mut connects: Vec<_> = Vec::new();
    for _ in 0..12 {
        let mut client = world.dial().await;
        client.send(&Connect::by_hand().bytes()).await;
        connects.push(client);
    }
    let (mut served, mut away) = (0, 0);
    for client in &mut connects {
        let mut answer = [0; 4];
        match client.0.read_exact(&mut answer).await {
            Ok(_) => served += 1,
            Err(_) => away += 1,
        }
    }
    // One at once, and a second's worth of places.
    assert!(served >= 11 && away <= 1 && served + away == 12, "{served} served, {away} turned away");
    world.login(&Connect::python()).await;
}

#[tokio::test]
async fn nonsense_and_silence_take_nobodys_turn() {
    let world = world(1, Duration::from_mins(10)).await;
    let _silent: Vec<_> = futures_util::future::join_all((0..50).map(|_| world.dial())).await;
    for _ in 0..50 {
        assert_eq!(world.refusal(b"\x00 nonsense").await, [0; 0]);
    }
    let began = Instant::now();
    world.login(&Connect::python()).await;
    assert!(began.elapsed() < Duration::from_secs(20), "it had the first turn");
}

#[tokio::test]
async fn who_has_hung_up_takes_nobodys_turn() {
    let world = world(1, Duration::from_mins(10)).await;
    // The first one is let in at once, so that all others have to wait.
    world.login(&Connect::by_hand()).await;
    for _ in 0..40 {
        let mut client = world.dial().await;
        client.send(&Connect::by_hand().bytes()).await;
        drop(client);
    }
    let began = Instant::now();
    world.login(&Connect::python()).await;
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_stop_does_not_wait_for_those_who_wait() {
    let world = world(1, Duration::from_mins(10)).await;
    world.login(&Connect::by_hand()).await;
    let mut waiting = world.dial().await;
    waiting.send(&Connect::python().bytes()).await;
    world.sessions.drain();
    world.stop.send(true).unwrap();
    assert_eq!(waiting.rest().await, [0; 0]);
    assert_eq!(world.server.await.unwrap(), 0);
}
