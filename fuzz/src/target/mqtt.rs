//! Frames into a device connection: however the stream is cut into pieces, the same comes of it.
//!
//! Behind the endpoint is a memory of events instead of the engine, so that two runs can be compared.

use super::{Target, tokens};
use crate::dice::Dice;
use crate::mqtt::first_packet;
use crate::mutate::mutate;
use crate::{Broken, corpus, guard, mqtt, shown};
use parking_lot::{Condvar, Mutex};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use updraft_core::id::DeviceNo;
use updraft_core::topo::Refused;
use updraft_server::device::connection::{Endpoint, Limits};
use updraft_server::device::gateway::{Answer, Name, Request};
use updraft_server::device::link::{
    Backend, Block, CertifiedDevice, DeviceEvent, Downlink, Happened, KnownDevice, Named, NoBlock,
    Unavailable, Wanted,
};
use updraft_server::device::register::{Asked, Given, Refusal};
use updraft_server::device::session::{BaseUrl, Sent, Sessions};
use updraft_server::gate::Gate;
use updraft_server::net;

const PATIENCE: Duration = Duration::from_secs(20);
/// The device of all connections.
const DEVICE: DeviceNo = DeviceNo(1);
/// What a device that floods the server, or does not read, may cost it.
const GREEDY_MEMORY_MAX: usize = 8 * 1024 * 1024;
/// And how much of it there is.
const GREEDY_BYTES: usize = 64 * 1024 * 1024;
/// When the server takes nothing for so long, it has had enough.
const ENOUGH: Duration = Duration::from_millis(200);
/// Between two pieces the other side gets so long to look at the first.
const PAUSE: Duration = Duration::from_millis(1);

/// A device's client id, user name and password.
const FIELDS: [&str; 3] =
    ["12345|securemode=3,signmethod=hmacmd5,timestamp=789|", "device&pk", "14b198324fe55e1d3c88f2e705e201ee"];

/// What devices did, in the order in which it came.
#[derive(Default)]
struct Memory {
    events: Mutex<Vec<DeviceEvent>>,
    news: Condvar,
}

impl Backend for Memory {
    async fn login(&self, product_key: &str, device_name: &str) -> Result<Named, Unavailable> {
        let secret = match (product_key, device_name) {
            ("a1TestPk001", "dev01") => "0123456789abcdef0123456789abcdef",
            ("pk", "device") => "secret",
            _ => return Ok(Named::Unknown),
        };
        // The other one is a gateway: it may ask for more.
        let (secret, disabled, is_gateway) = (secret.to_owned(), false, product_key == "pk");
        Ok(Named::Known(KnownDevice {
            no: DEVICE,
            secret,
            token: None,
            disabled,
            is_gateway,
            certified: false,
        }))
    }

    /// Whoever is named is behind the gateway.
    async fn gateway(&self, _: DeviceNo, request: Request) -> Result<Result<Answer, Refused>, Unavailable> {
        Ok(Ok(match request {
            Request::Find(claims) => Answer::Found(claims.iter().map(|claim| number(&claim.name)).collect()),
            Request::Add(claims) | Request::ProductRegister(claims) => {
                Answer::Done(claims.into_iter().map(|claim| claim.name).collect())
            }
            Request::Remove(names) | Request::Unregister(names) | Request::Register(names) => {
                Answer::Done(names)
            }
            Request::List => Answer::Done(Vec::new()),
        }))
    }

    /// Whoever names a device is given the same, so that pieces change nothing.
    async fn register(&self, asked: Asked) -> Result<Given, Refusal> {
        match (&*asked.product_key, &*asked.device_name) {
            ("a1TestPk001", "dev01") => Ok(Given::Secret("0123456789abcdef0123456789abcdef".to_owned())),
            _ => Err(Refusal::UnknownProduct),
        }
    }

    async fn certified(&self, _: &str) -> Result<Option<CertifiedDevice>, Unavailable> {
        Ok(None)
    }

    async fn happened(&self, events: Vec<Happened>) -> Result<(), Unavailable> {
        self.events.lock().extend(events.into_iter().map(|happened| happened.event));
        self.news.notify_all();
        Ok(())
    }

    async fn block(&self, _: DeviceNo, wanted: Wanted) -> Result<Block, NoBlock> {
        let bytes = vec![0; usize::try_from(wanted.size.clamp(1, 4_096)).unwrap_or(1)];
        if wanted.stream == 7 {
            Ok(Block { bytes, crc: 0, file_bytes: 4_096 })
        } else {
            Err(NoBlock::NotYours)
        }
    }
}

/// A number that no other device has, nor the gateway.
fn number(name: &Name) -> DeviceNo {
    let mut hasher = DefaultHasher::new();
    (&name.product_key, &name.device_name).hash(&mut hasher);
    DeviceNo((hasher.finish() >> 2) as i64 + 2)
}

/// The target.
pub struct Mqtt {
    _runtime: Runtime,
    _stop: watch::Sender<bool>,
    memory: Arc<Memory>,
    sessions: Arc<Sessions>,
    addr: SocketAddr,
    tokens: Vec<Vec<u8>>,
}

/// What came of a stream.
#[derive(Debug, PartialEq)]
struct Outcome {
    answers: Vec<u8>,
    /// Whether all answers came: after a reset the last ones may be lost.
    whole: bool,
    events: Vec<String>,
}

impl Mqtt {
    pub fn new() -> Result<Self, Broken> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let memory = Arc::new(Memory::default());
        let sessions = Arc::new(Sessions::new(1, BaseUrl::Connection { port: 8080 }));
        let limits = Limits { uplinks_per_second: 0, blocks_per_second: 0, ..Limits::default() };
        let endpoint =
            Arc::new(Endpoint::new(Arc::clone(&memory), Arc::clone(&sessions), limits, Gate::open()));
        let (stop, stopped) = watch::channel(false);
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))?;
        let addr = listener.local_addr()?;
        let handler = move |stream, peer, pass| Arc::clone(&endpoint).handle(stream, peer, pass);
        let port = net::Port::plain(net::Speaks::Mqtt, Gate::open());
        runtime.spawn(net::serve(listener, port, stopped, handler));
        let tokens = tokens(&[
            "/ota/device/inform/a1TestPk001/dev01",
            "/sys/a1TestPk001/dev01/thing/ota/firmware/get",
            "|securemode=3,signmethod=hmacmd5,",
            "_ss=1",
            "timestamp=",
            "MQIsdp",
            r"\x10\x00",
            r"\x30\xff\xff\xff\x7f",
            r"\xc0\x00",
            r"\xe0\x00",
            r"\x82\x80\x80\x80\x80\x01",
            "+/#",
            "$",
            r#"{"productKey":"pk","deviceName":"sub1","sign":"00"}"#,
            r#""deviceList":["#,
            "/combine/login",
            "/combine/batch_login",
            "/combine/logout",
            "/thing/topo/",
            r"\x00\x00",
            // Properties of MQTT 5.
            r"\x23\x00\x01",
            r"\x23\x00\x00",
            r"\x11\xff\xff\xff\xff",
            r"\x0b\x01",
            r"\x21\x00\x01",
            r"\x22\xff\xff",
            r"\x27\x00\x00\x00\x05",
            r"\x1f\x00\x01x",
            r"\x26\x00\x01k\x00\x01v",
            r"\x17\x00",
            r"\xe0\x02\x8e\x00",
            r"\xf0\x00",
            "$share/g/",
        ]);
        Ok(Self { _runtime: runtime, _stop: stop, memory, sessions, addr, tokens })
    }

    /// Sends the bytes cut at these places.
    fn send(&self, bytes: &[u8], cuts: &[usize]) -> Result<Outcome, Broken> {
        // What an earlier connection left behind is another matter.
        self.sessions.kick(DEVICE);
        self.send_again(bytes, cuts)
    }

    /// The same on the session that the last connection left behind.
    fn send_again(&self, bytes: &[u8], cuts: &[usize]) -> Result<Outcome, Broken> {
        self.memory.events.lock().clear();
        let mut stream = TcpStream::connect(self.addr)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let (mut answers, mut whole, mut from) = (Vec::new(), true, 0);
        for (number, cut) in cuts.iter().copied().chain([bytes.len()]).enumerate() {
            whole &= stream.write_all(&bytes[from..cut]).is_ok();
            from = cut;
            // Once is enough to be sure of two readings; the kernel's shortest wait is long.
            if number == 0 && cut < bytes.len() {
                whole &= read(&mut stream, &mut answers, Instant::now() + PAUSE).is_ok();
            }
        }
        let _ = stream.shutdown(Shutdown::Write);
        match read(&mut stream, &mut answers, Instant::now() + PATIENCE) {
            Ok(true) => {}
            Ok(false) => return Err(Broken::new("no end in time", shown(bytes))),
            Err(_) => whole = false,
        }
        Ok(Outcome { answers, whole, events: self.settled()? })
    }

    /// A device that is let in and then reads nothing.
    fn greedy(&self, connect: &[u8]) -> Result<TcpStream, Broken> {
        let mut stream = TcpStream::connect(self.addr)?;
        stream.set_write_timeout(Some(ENOUGH))?;
        stream.write_all(connect)?;
        let mut welcome = [0; 4];
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.read_exact(&mut welcome)?;
        if welcome[0] == 0x20 && welcome[3] == 0 {
            return Ok(stream);
        }
        Err(Broken::new("a valid device is refused", shown(&welcome)))
    }

    /// Devices that send without end, or take nothing, cost no more memory than others.
    fn tempt(&self) -> Result<(), Broken> {
        let fields: Vec<Vec<u8>> = FIELDS.iter().map(|field| field.as_bytes().to_vec()).collect();
        let topic = "/ota/device/inform/pk/device";
        let report = br#"{"params":{"version":"1"}}"#;
        let versions = [
            (mqtt::connect("MQTT", 4, 0xc0, 60, &fields), mqtt::publish(topic, Some(1), report)),
            (
                mqtt::connect5(0xc0, 60, b"\x11\xff\xff\xff\xff", &fields),
                mqtt::publish5(topic, Some(1), &[], report),
            ),
        ];
        for (connect, publish) in versions {
            let before = guard::resident_bytes();
            let mut flood = self.greedy(&connect)?;
            let piece = [publish.as_slice(), &[0xc0, 0]].concat().repeat(1_000);
            let mut sent = 0;
            while sent < GREEDY_BYTES && flood.write_all(&piece).is_ok() {
                sent += piece.len();
                // The memory of events is the fuzzer's own.
                self.memory.events.lock().clear();
            }
            let deaf = self.greedy(&connect)?;
            let mut queued = 0;
            for number in 0..GREEDY_BYTES / 4_096 {
                let message = Downlink::Message {
                    topic: "/ext/error/pk/device".to_owned(),
                    payload: vec![0; 4_096].into(),
                    kept: number % 2 == 0,
                    answer: true,
                };
                queued += usize::from(self.sessions.send(DEVICE, message) == Sent::Queued);
            }
            let grown = guard::resident_bytes().saturating_sub(before);
            drop((flood, deaf));
            if grown > GREEDY_MEMORY_MAX {
                let what = format!("{sent} bytes sent, {queued} messages queued: {} KiB", grown / 1024);
                return Err(Broken::new("a greedy device takes memory", what));
            }
            self.sessions.kick(DEVICE);
        }
        self.gone()
    }

    /// Waits until no device is connected.
    fn gone(&self) -> Result<(), Broken> {
        let deadline = Instant::now() + PATIENCE;
        while !self.sessions.is_empty() {
            let mut events = self.memory.events.lock();
            if self.memory.news.wait_until(&mut events, deadline).timed_out() {
                return Err(Broken::new("a session outlives its connection", String::new()));
            }
        }
        Ok(())
    }

    /// The events, once every login has its end.
    fn settled(&self) -> Result<Vec<String>, Broken> {
        let mut events = self.memory.events.lock();
        loop {
            let count =
                |wanted: fn(&DeviceEvent) -> bool| events.iter().filter(|event| wanted(event)).count();
            let online = count(|event| matches!(event, DeviceEvent::Online { .. }));
            if online == count(|event| matches!(event, DeviceEvent::Offline { .. })) {
                break;
            }
            if self.memory.news.wait_for(&mut events, PATIENCE).timed_out() {
                return Err(Broken::new("a session outlives its connection", format!("{events:?}")));
            }
        }
        let told = |event: &DeviceEvent| match event {
            // Numbers and ports differ from run to run.
            DeviceEvent::Online { .. } => "online".to_owned(),
            DeviceEvent::Through { .. } => "through".to_owned(),
            DeviceEvent::Offline { .. } => "offline".to_owned(),
            other => format!("{other:?}"),
        };
        Ok(events.iter().map(told).collect())
    }
}

/// Reads until the end of the stream (true) or of the time (false).
fn read(stream: &mut TcpStream, into: &mut Vec<u8>, deadline: Instant) -> std::io::Result<bool> {
    let mut piece = [0; 4_096];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut piece) {
            Ok(0) => return Ok(true),
            Ok(count) => into.extend_from_slice(&piece[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
    }
}

impl Target for Mqtt {
    fn seeds(&self) -> Vec<Vec<u8>> {
        let text = include_str!("../../corpus/mqtt.txt");
        corpus::blocks(text).iter().map(|lines| corpus::packets(lines)).collect()
    }

    fn mutate(&self, dice: &mut Dice, entry: &[u8], other: &[u8]) -> Vec<u8> {
        // Mostly the CONNECT stays good, else little would get past it.
        let connect = first_packet(entry).map_or(0, |(_, length)| length).min(entry.len());
        if dice.once_in(4) {
            return mutate(dice, entry, other, &self.tokens);
        }
        let mut bytes = entry[..connect].to_vec();
        bytes.extend(mutate(dice, &entry[connect..], other, &self.tokens));
        bytes
    }

    fn attempt(&mut self, input: &[u8]) -> Result<String, Broken> {
        let once = self.send(input, &[])?;
        // The same input is cut at the same places.
        let sum = input.iter().fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
        let mut dice = Dice::new(sum);
        let mut cuts: Vec<usize> = (0..=dice.below(4)).map(|_| dice.below(input.len() + 1)).collect();
        cuts.sort_unstable();
        let pieces = self.send(input, &cuts)?;
        if once.events != pieces.events {
            let (a, b) = (once.events.join(" "), pieces.events.join(" "));
            return Err(Broken::new("the cuts change what happened", format!("{cuts:?}: {a} / {b}")));
        }
        let same = match (once.whole, pieces.whole) {
            (true, true) => once.answers == pieces.answers,
            (_, false) => once.answers.starts_with(&pieces.answers) || !once.whole,
            (false, true) => pieces.answers.starts_with(&once.answers),
        };
        if !same {
            let (a, b) = (shown(&once.answers), shown(&pieces.answers));
            return Err(Broken::new("the cuts change the answers", format!("{cuts:?}: {a} / {b}")));
        }
        if dice.once_in(4) {
            self.send_again(input, &cuts)?;
        }
        // What looks like a browser is answered as one.
        if once.answers.starts_with(b"HTTP/1.1 400 ") {
            return Ok("http".to_owned());
        }
        let (mut rest, mut kinds) = (&once.answers[..], std::collections::BTreeSet::new());
        while let Some(((first, body), length)) = first_packet(rest) {
            kinds.insert(if first == 0x20 { format!("connack {body:?}") } else { format!("{first:x}") });
            rest = &rest[length..];
        }
        if once.whole && !rest.is_empty() {
            return Err(Broken::new("an answer is no packet", shown(rest)));
        }
        let events: std::collections::BTreeSet<&str> =
            once.events.iter().filter_map(|event| event.split([' ', '{']).next()).collect();
        Ok(format!("{kinds:?} {events:?}"))
    }

    fn check(&mut self) -> Result<(), Broken> {
        let valid = self.seeds().swap_remove(0);
        let outcome = self.send(&valid, &[])?;
        if outcome.answers.starts_with(&[0x20, 2, 0, 0]) && outcome.events.len() > 2 {
            return self.tempt();
        }
        Err(Broken::new("a valid device is refused", format!("{outcome:?}")))
    }

    fn renew(&mut self) -> Result<(), Broken> {
        *self = Self::new()?;
        Ok(())
    }
}
