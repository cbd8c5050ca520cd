//! Devices that register themselves by MQTT, and those that log in with a token.

use crate::world::*;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use updraft_server::device::connection::Limits;
use updraft_server::device::link::DeviceEvent;
use updraft_server::gate::{self, Gate};

/// As Link SDK for Python sends it: captured.
fn register() -> Connect {
    Connect::new(
        "dev01.a1TestPk001|random=oPSxr2PgOUXWkTj,authType=register,securemode=2,signmethod=hmacsha256|",
        "dev01&a1TestPk001",
        "49effa11ccefde2957e594c961e926617a82281b1dd7d660a0deb78da620406f",
    )
}

fn regnwl() -> Connect {
    Connect::new(
        "dev01.a1TestPk001|random=jJ9773Bsjcnmk85,authType=regnwl,securemode=2,signmethod=hmacsha256,instanceId=iot-abc|",
        "dev01&a1TestPk001",
        "DE45262EBFDB9867150698AA0B6954D6783ED7E329D3A283AA7AACC4DCD528E3",
    )
}

fn connwl(password: &'static str) -> Connect {
    let client_id = "client|authType=connwl,securemode=-2,_ss=1,ext=3,lan=Python,_v=1.2.13|";
    Connect::new(client_id, "dev01&a1TestPk001", password)
}

const SECRET: &str =
    r#"{"productKey":"a1TestPk001","deviceName":"dev01","deviceSecret":"0123456789abcdef0123456789abcdef"}"#;

#[tokio::test]
async fn a_device_is_told_right_after_it_is_let_in() {
    let world = World::new().await;
    let told = [
        ("/ext/register", SECRET),
        (
            "/ext/regnwl",
            r#"{"productKey":"a1TestPk001","deviceName":"dev01","clientId":"client","deviceToken":"token"}"#,
        ),
    ];
    for (connect, (topic, payload)) in [register(), regnwl()].into_iter().zip(told) {
        // The keepalive is not tested here.
        for keepalive in [0, 60, 9_999] {
            let mut client = world.login(&Connect { keepalive, ..connect.clone() }).await;
            assert_eq!(client.message().await, (topic.to_owned(), None, payload.to_owned()));
            // Libraries that subscribe first, or ping, are served; whatever it says is nobody's.
            client.send(&subscribe(7, &[(topic, 1)])).await;
            assert_eq!(client.receive().await, (0x90, vec![0, 7, 1]));
            client.send(&publish(INFORM, Some(8), r#"{"params":{"version":"1"}}"#)).await;
            assert_eq!(client.receive().await, (0x40, vec![0, 8]));
            client.nothing_else().await;
            client.send(&packet(0xe0, &[])).await;
            assert_eq!(client.rest().await, Vec::<u8>::new());
        }
    }
    // What came with the CONNECT in one piece is answered, too.
    let mut eager = world.dial().await;
    eager.send(&[register().bytes(), PINGREQ.to_vec()].concat()).await;
    assert_eq!(eager.receive().await, (0x20, vec![0, 0]));
    assert_eq!(eager.message().await.0, "/ext/register");
    assert_eq!(eager.receive().await, PINGRESP);
    assert!(world.memory.of(DEV01).is_empty(), "it was never online and reported nothing");
    assert!(world.sessions.is_empty());
}

#[tokio::test]
async fn by_mqtt_5_it_is_the_same() {
    let world = World::new().await;
    let mut client = world.dial().await;
    client.send(&register().five(&[]).bytes()).await;
    let (first, body) = client.receive().await;
    assert_eq!((first, &body[..2]), (0x20, &[0, 0][..]));
    let (first, body) = client.receive().await;
    assert_eq!(first, 0x30);
    assert!(String::from_utf8_lossy(&body).ends_with(SECRET), "{body:?}");
    // A wrong signature.
    let wrong = Connect { password: "00", ..register() };
    let refused = world.refusal(&wrong.five(&[]).bytes()).await;
    assert_eq!((refused[0], refused[3]), (0x20, 0x86));
}

#[tokio::test]
async fn the_devices_own_connection_stays() {
    let world = World::new().await;
    let mut own = world.login(&Connect::python()).await;
    world.memory.wait(DEV01, |seen| seen.len() == 2).await;
    let mut newcomer = world.login(&regnwl()).await;
    newcomer.message().await;
    newcomer.send(&packet(0xe0, &[])).await;
    assert_eq!(newcomer.rest().await, Vec::<u8>::new());
    own.nothing_else().await;
    assert_eq!(world.memory.of(DEV01).len(), 2, "its presence is as it was");
    assert_eq!(world.sessions.len(), 1);
}

#[tokio::test]
async fn who_does_not_go_is_sent_away() {
    let limits = Limits { registered_within: Duration::from_millis(300), ..Limits::default() };
    let world = World::with(limits, None).await;
    let began = Instant::now();
    let mut client = world.login(&register()).await;
    client.message().await;
    assert_eq!(client.rest().await, Vec::<u8>::new());
    assert!(began.elapsed() >= Duration::from_millis(300));
}

#[tokio::test]
async fn refusals_have_their_codes() {
    let world = World::new().await;
    let named = |connect: Connect, client_id: &str| Connect { client_id: client_id.to_owned(), ..connect };
    for (connect, code) in [
        (named(register(), "c|authType=register,random=R,securemode=8|"), 2),
        (named(register(), "c|authType=register,random=R,signmethod=md5|"), 2),
        (named(register(), "c|authType=other,securemode=2|"), 2),
        (named(Connect::python(), "c|securemode=-2|"), 2),
        (Connect { user: "dev01", ..register() }, 4),
        (Connect { password: "", ..register() }, 4),
        (Connect { password: "49effa", ..register() }, 4),
        // The secret of the product opens no connection, nor does a token that is not the device's.
        (
            named(register(), "dev01.a1TestPk001|random=oPSxr2PgOUXWkTj,securemode=2,signmethod=hmacsha256|"),
            4,
        ),
        (connwl("toke"), 4),
        (named(connwl("token"), "other|authType=connwl,securemode=-2|"), 4),
    ] {
        assert_eq!(world.refusal(&connect.bytes()).await, [0x20, 2, 0, code], "{}", connect.client_id);
    }
    world.memory.disabled.store(true, Ordering::SeqCst);
    assert_eq!(world.refusal(&regnwl().bytes()).await, [0x20, 2, 0, 5]);
    assert_eq!(world.refusal(&connwl("token").bytes()).await, [0x20, 2, 0, 5]);
    world.memory.broken.store(true, Ordering::SeqCst);
    assert_eq!(world.refusal(&register().bytes()).await, [0x20, 2, 0, 3]);
}

#[tokio::test]
async fn tls_may_be_demanded() {
    let limits = Limits { register_by_tls_only: true, ..Limits::default() };
    let world = World::with(limits, None).await;
    assert_eq!(world.refusal(&register().bytes()).await, [0x20, 2, 0, 2]);
    world.login(&connwl("token")).await.nothing_else().await;
}

#[tokio::test]
async fn guesses_of_a_products_secret_count() {
    let limits = gate::Limits { failures: 2, ..gate::Limits::default() };
    let world = World::behind(Gate::new("test", limits), Limits::default(), None).await;
    let wrong = Connect { password: "00", ..register() };
    for _ in 0..2 {
        assert_eq!(world.refusal(&wrong.bytes()).await, [0x20, 2, 0, 4]);
    }
    assert_eq!(world.refusal(&register().bytes()).await, [0x20, 2, 0, 3]);
}

#[tokio::test]
async fn a_token_is_a_login_like_any_other() {
    let world = World::new().await;
    let mut client = world.login(&connwl("token")).await;
    let seen = world.memory.wait(DEV01, |seen| seen.len() == 2).await;
    assert!(matches!(seen[..], [DeviceEvent::Online { .. }, DeviceEvent::Listening]), "{seen:?}");
    client.nothing_else().await;
    // Its keepalive is tested, as that of others.
    let silent = Connect { keepalive: 0, ..connwl("token") };
    assert_eq!(world.refusal(&silent.bytes()).await, [0x20, 2, 0, 2]);
}
