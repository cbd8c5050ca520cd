//! Many clients fight over few identities against the whole server: in the end each device has one owner, no
//! session is left over, and presence is right.

use bytes::BytesMut;
use rmqtt_codec::v3::{Codec, Connect, ConnectAckReason, Packet, QoS};
use rusqlite::{Connection, OpenFlags};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::codec::{Decoder as _, Encoder as _};
use updraft_core::id::{self, DeviceNo};
use updraft_fleet::Identity;
use updraft_fleet::login::Login;
use updraft_server::api::device::register_device::SEAL_PURPOSE;
use updraft_server::clock::{Clock as _, SystemClock};
use updraft_server::config::Config;
use updraft_server::random::Random;
use updraft_server::serve::Server;
use updraft_server::setup::{self, ROOT_ACCOUNT};
use updraft_store::{Lane, NewDevice, NewProduct, Store, StoreError};

const IDENTITIES: usize = 100;
const CLIENTS: usize = 1_000;
/// Logins of each client before the last fight.
const ROUNDS: usize = 4;
/// Nothing here takes longer, unless it is broken.
const PATIENCE: Duration = Duration::from_mins(1);
const ONLINE: i64 = 1;
const OFFLINE: i64 = 2;

/// A data folder with devices that never logged in.
async fn seeded(dir: &Path) -> (Config, Vec<Identity>) {
    let config = Config {
        data_dir: dir.to_owned(),
        api_addr: ([127, 0, 0, 1], 0).into(),
        mqtt_addr: ([127, 0, 0, 1], 0).into(),
        root_access_key_id: Some("key".to_owned()),
        root_access_key_secret: Some("secret".to_owned()),
        drain_seconds: 5,
        ..Config::default()
    };
    setup::data_dir(&config).unwrap();
    let (random, now) = (Random::from_seed([7; 32]), SystemClock.now());
    let store = Store::open(&config.database().unwrap()).unwrap();
    let master = setup::master_key(&config, &store, &random).await.unwrap();
    setup::root_account(&config, &store, &master, &random, now).await.unwrap();
    let product_key = id::product_key(&random.bytes("product_key"));
    let identities: Vec<Identity> = (0..IDENTITIES)
        .map(|number| Identity::new(&product_key, format!("dev-{number:03}"), random.secret("device_secret")))
        .collect();
    let rows: Vec<(String, String, Vec<u8>)> = identities
        .iter()
        .map(|identity| {
            let sealed = master.seal(SEAL_PURPOSE, &identity.device_secret).unwrap();
            (identity.device_name.clone(), id::alphanumeric(&random.bytes::<32>("iot_id")), sealed)
        })
        .collect();
    let written = store.write(Lane::Bulk, move |tx| {
        let account = tx.account_ensure(ROOT_ACCOUNT, now)?;
        let instance = tx.instance_public(account)?;
        let product = NewProduct {
            instance,
            product_key: product_key.clone(),
            name: "fought_over".to_owned(),
            secret_sealed: Vec::new(),
            node_type: 0,
            data_format: 0,
            net_type: "WIFI".to_owned(),
            commodity_code: "iothub".to_owned(),
            description: None,
            protocol_type: None,
            category_key: None,
            validate_type: 1,
            certified: false,
        };
        let product = tx.product_insert(&product, now)?.unwrap();
        for (name, iot_id, secret_sealed) in rows.clone() {
            tx.device_insert(&NewDevice { product, name, iot_id, secret_sealed, nickname: None }, now)?;
        }
        Ok::<_, StoreError>(())
    });
    written.await.unwrap();
    store.close();
    (config, identities)
}

/// One login's connection.
struct Client {
    stream: TcpStream,
    codec: Codec,
    inbox: BytesMut,
}

impl Client {
    async fn dial(mqtt: SocketAddr, identity: &Identity) -> Self {
        let mut stream = TcpStream::connect(mqtt).await.unwrap();
        let info = identity.connect_info(&Login::default());
        let connect = Connect {
            clean_session: true,
            keep_alive: 300,
            client_id: info.client_id.into(),
            username: Some(info.username.into()),
            password: Some(info.password.into()),
            ..Connect::default()
        };
        let mut codec = Codec::new(0);
        let mut bytes = BytesMut::new();
        codec.encode(connect.into(), &mut bytes).unwrap();
        stream.write_all(&bytes).await.unwrap();
        Self { stream, codec, inbox: BytesMut::new() }
    }

    /// Whether it was let in. A login that was overtaken on its way may be ended without a word.
    async fn welcomed(&mut self) -> bool {
        match self.next().await {
            Some(Packet::ConnectAck(ack)) => {
                assert_eq!(ack.return_code, ConnectAckReason::ConnectionAccepted);
                true
            }
            None => false,
            other => panic!("no CONNACK: {other:?}"),
        }
    }

    /// The next packet; `None` at the end of the connection.
    async fn next(&mut self) -> Option<Packet> {
        loop {
            if let Some((packet, _)) = self.codec.decode(&mut self.inbox).unwrap() {
                return Some(packet);
            }
            if self.stream.read_buf(&mut self.inbox).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    /// Asks whether there is an update, and waits for the answer: it goes to the device's owner.
    async fn is_owner(&mut self, identity: &Identity) -> bool {
        let topic = updraft_fleet::message::Topic::Get.of(identity);
        let publish = rmqtt_codec::types::Publish {
            dup: false,
            retain: false,
            qos: QoS::AtMostOnce,
            topic: topic.into(),
            packet_id: None,
            payload: updraft_fleet::message::get(1, "default").into(),
            properties: None,
        };
        let mut bytes = BytesMut::new();
        self.codec.encode(publish.into(), &mut bytes).unwrap();
        self.stream.write_all(&bytes).await.unwrap();
        let reply = updraft_fleet::message::Topic::GetReply.of(identity);
        matches!(self.next().await, Some(Packet::Publish(publish)) if &*publish.topic == reply.as_str())
    }
}

/// What all clients share.
#[derive(Default)]
struct Fight {
    /// Clients that lost their device.
    lost: AtomicUsize,
    news: Notify,
}

/// Logs in again and again, each time with other manners.
async fn skirmish(mqtt: SocketAddr, number: usize, identity: Identity) {
    for round in 0..ROUNDS {
        let mut client = Client::dial(mqtt, &identity).await;
        match (number + round) % 4 {
            // Says no more before it hears whether it was let in, and waits until the server has noticed.
            0 => {
                let _ = client.stream.shutdown().await;
                while client.next().await.is_some() {}
            }
            // Says goodbye.
            1 if client.welcomed().await => {
                let _ = client.stream.write_all(&[0xe0, 0]).await;
            }
            // Gone without a word.
            2 => drop(client.welcomed().await),
            // Stays until somebody else takes its place, but not for ever: it may be the last one.
            _ => {
                let taken = async { while client.next().await.is_some() {} };
                drop(timeout(Duration::from_millis(300), taken).await);
            }
        }
    }
}

/// Logs in once, and stays until it loses its device.
async fn fight(mqtt: SocketAddr, identity: Identity, fight: Arc<Fight>) -> Option<Client> {
    let mut last = Client::dial(mqtt, &identity).await;
    if last.welcomed().await && is_left_alone(&mut last, &fight).await {
        return Some(last);
    }
    fight.lost.fetch_add(1, Ordering::SeqCst);
    fight.news.notify_waiters();
    None
}

/// Waits until this client loses its connection, or all those who must lose theirs have.
async fn is_left_alone(client: &mut Client, fight: &Fight) -> bool {
    loop {
        let news = fight.news.notified();
        if fight.lost.load(Ordering::SeqCst) == CLIENTS - IDENTITIES {
            fight.news.notify_waiters();
            return true;
        }
        tokio::select! {
            packet = client.next() => match packet {
                Some(packet) => panic!("nobody was to be told anything: {packet:?}"),
                None => return false,
            },
            () = news => {}
        }
    }
}

/// Waits until the server has this many sessions.
async fn wait_for_sessions(server: &Server, count: usize) {
    let waited = timeout(PATIENCE, async {
        while server.devices_connected() != count {
            sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(waited.await.is_ok(), "{} sessions", server.devices_connected());
}

/// Waits until the database shows this many devices with the status.
async fn wait_for_status(eye: &Connection, status: i64, count: usize) {
    let shown = || -> usize {
        let count = "SELECT COUNT(*) FROM device WHERE status = ?1";
        eye.query_row(count, [status], |row| row.get::<_, i64>(0)).unwrap() as usize
    };
    let waited = timeout(PATIENCE, async {
        while shown() != count {
            // The database tells nobody when it changes.
            sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(waited.await.is_ok(), "{} devices have status {status}", shown());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_clients_fight_over_a_hundred_devices() {
    let dir = TempDir::new().unwrap();
    let (config, identities) = seeded(&dir.path().join("data")).await;
    let server = Server::start(config, None).await.unwrap();
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let eye = Connection::open_with_flags(dir.path().join("data/updraft.db"), flags).unwrap();

    let mqtt = server.mqtt_addr.expect("devices connect to it");
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        clients.spawn(skirmish(mqtt, number, identities[number % IDENTITIES].clone()));
    }
    assert!(timeout(PATIENCE, clients.join_all()).await.is_ok(), "a client hangs");
    // Whoever was on its way in is out again before the last fight.
    wait_for_status(&eye, ONLINE, 0).await;
    wait_for_sessions(&server, 0).await;

    let shared = Arc::new(Fight::default());
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let (place, shared) = (number % IDENTITIES, Arc::clone(&shared));
        let identity = identities[place].clone();
        clients.spawn(async move { (place, fight(mqtt, identity, shared).await) });
    }
    let mut owners: Vec<Option<Client>> = (0..IDENTITIES).map(|_| None).collect();
    let ended = timeout(PATIENCE, async {
        while let Some(ended) = clients.join_next().await {
            let (place, survivor) = ended.unwrap();
            if let Some(survivor) = survivor {
                assert!(owners[place].replace(survivor).is_none(), "{place} has two owners");
            }
        }
    });
    let in_time = ended.await.is_ok();
    assert!(in_time, "{} clients lost their device", shared.lost.load(Ordering::SeqCst));
    for (owner, identity) in owners.iter_mut().zip(&identities) {
        let owner = owner.as_mut().expect("a device without an owner");
        assert!(timeout(PATIENCE, owner.is_owner(identity)).await.unwrap(), "{identity:?}");
    }
    assert_eq!(server.devices_connected(), IDENTITIES);
    wait_for_status(&eye, ONLINE, IDENTITIES).await;
    // The session of the last login is the one that the database shows.
    let logins = "SELECT MIN(online_at >= active_at), MIN(ip), MAX(ip), COUNT(DISTINCT session) FROM device";
    let seen: (i64, String, String, i64) =
        eye.query_row(logins, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))).unwrap();
    assert_eq!(seen, (1, "127.0.0.1".to_owned(), "127.0.0.1".to_owned(), IDENTITIES as i64));

    // Half of them go; the others stay what they are.
    owners.truncate(IDENTITIES / 2);
    wait_for_status(&eye, OFFLINE, IDENTITIES / 2).await;
    assert_eq!(server.devices_connected(), IDENTITIES / 2);
    let last: i64 = eye.query_row("SELECT MAX(id) FROM device", [], |row| row.get(0)).unwrap();
    let first = DeviceNo(last - IDENTITIES as i64 + 1);
    let online: i64 =
        eye.query_row("SELECT MAX(id) FROM device WHERE status = 1", [], |row| row.get(0)).unwrap();
    assert_eq!(online, first.0 + IDENTITIES as i64 / 2 - 1);
    drop(owners);
    wait_for_status(&eye, OFFLINE, IDENTITIES).await;
    assert_eq!(server.devices_connected(), 0);
    server.stop().await;
}
