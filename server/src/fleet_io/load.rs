//! Crude clients for benchmarks: many sessions that do one thing each.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use updraft_fleet::login::Login;
use updraft_fleet::message::{self, Topic};
use updraft_fleet::{Identity, Qos};

use super::Target;
use super::wire::{How, Incoming, Wire};

/// Nothing in a benchmark may take longer.
const IO_TIMEOUT: Duration = Duration::from_mins(1);
/// The longest keepalive that the protocol has: idle sessions send nothing meanwhile.
const KEEPALIVE_S: u16 = 1_200;

/// What a load did, and how long its requests took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadReport {
    /// Answered requests.
    pub count: u64,
    /// Clients that ended with an error.
    pub errors: u64,
    /// From the first request to the last answer.
    pub elapsed: Duration,
    /// Half of the requests took at most this long (exact to 3 %).
    pub p50: Duration,
    /// 99 % of the requests took at most this long (exact to 3 %).
    pub p99: Duration,
    /// The longest request (exact to 3 %).
    pub max: Duration,
}

impl LoadReport {
    /// Answered requests per second.
    pub fn per_second(&self) -> f64 {
        self.count as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }
}

/// Durations in microseconds, in buckets that are 3 % wide; shared, since thousands of clients write.
#[derive(Debug)]
struct Histogram {
    buckets: Vec<AtomicU64>,
}

const LINEAR: u64 = 64;
const PER_DOUBLING: u64 = 32;
const BUCKETS: u64 = LINEAR + 34 * PER_DOUBLING;

impl Histogram {
    fn new() -> Self {
        Self { buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect() }
    }

    fn bucket(micros: u64) -> u64 {
        if micros < LINEAR {
            return micros;
        }
        let doubling = u64::from(micros.ilog2());
        let within = (micros >> (doubling - 5)) - PER_DOUBLING;
        (LINEAR + (doubling - 6) * PER_DOUBLING + within).min(BUCKETS - 1)
    }

    /// The largest duration in a bucket.
    fn upper(bucket: u64) -> Duration {
        let Some(above) = bucket.checked_sub(LINEAR) else { return Duration::from_micros(bucket) };
        let (doubling, within) = (above / PER_DOUBLING + 6, above % PER_DOUBLING);
        Duration::from_micros(((PER_DOUBLING + within + 1) << (doubling - 5)) - 1)
    }

    fn record(&self, duration: Duration) {
        let bucket = Self::bucket(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
        self.buckets[bucket as usize].fetch_add(1, Relaxed);
    }

    fn report(&self, errors: u64, elapsed: Duration) -> LoadReport {
        let counts: Vec<u64> = self.buckets.iter().map(|bucket| bucket.load(Relaxed)).collect();
        let count: u64 = counts.iter().sum();
        let quantile = |percent: u64| {
            let wanted = (count * percent).div_ceil(100).max(1);
            let mut seen = 0;
            let found = counts.iter().position(|n| {
                seen += n;
                seen >= wanted
            });
            found.map_or(Duration::ZERO, |bucket| Self::upper(bucket as u64))
        };
        LoadReport { count, errors, elapsed, p50: quantile(50), p99: quantile(99), max: quantile(100) }
    }
}

/// What sessions of a benchmark log in with.
fn login() -> Login {
    Login { keepalive_s: KEEPALIVE_S, ..Login::default() }
}

/// Opens a session for every device, `concurrency` at a time.
async fn open_all(
    target: &Target,
    devices: &[Identity],
    concurrency: usize,
) -> io::Result<Vec<(Identity, Wire)>> {
    let next = Arc::new(AtomicU64::new(0));
    let devices: Arc<[Identity]> = devices.into();
    let mut workers = JoinSet::new();
    for _ in 0..concurrency.clamp(1, devices.len().max(1)) {
        let (next, devices, target) = (Arc::clone(&next), Arc::clone(&devices), target.clone());
        workers.spawn(async move {
            let mut opened = Vec::new();
            while let Some(device) = devices.get(next.fetch_add(1, Relaxed) as usize) {
                let wire =
                    Wire::open(&target, How::default(), device.connect_info(&login()), IO_TIMEOUT).await?;
                opened.push((device.clone(), wire));
            }
            io::Result::Ok(opened)
        });
    }
    let mut all = Vec::with_capacity(devices.len());
    while let Some(opened) = workers.join_next().await {
        all.extend(opened.map_err(io::Error::other)??);
    }
    Ok(all)
}

/// Publishes at QoS 1 and waits for the acknowledgement; answers what the server sends meanwhile.
async fn publish_and_wait(wire: &mut Wire, topic: String, payload: Vec<u8>) -> io::Result<()> {
    let wanted = wire.publish(topic, payload, Qos::AtLeastOnce).await?;
    loop {
        match wire.recv().await? {
            Incoming::PubAck(packet_id) if Some(packet_id) == wanted => return Ok(()),
            Incoming::Publish { packet_id, .. } => wire.acknowledge(packet_id).await?,
            _ => {}
        }
    }
}

/// Opens a session for each device; then all of them publish for `duration`, each waiting for one
/// PUBACK before its next message. `message` gets the device and a number that counts from 0.
///
/// Measures from making a message to reading its PUBACK. The time to connect is not part of it.
pub async fn publish_load<F>(
    target: &Target,
    devices: &[Identity],
    duration: Duration,
    message: F,
) -> io::Result<LoadReport>
where
    F: Fn(&Identity, u64) -> (String, Vec<u8>) + Send + Sync + 'static,
{
    let sessions = open_all(target, devices, 128).await?;
    let histogram = Arc::new(Histogram::new());
    let message = Arc::new(message);
    let (begin, begun) = watch::channel(None);
    let start = Instant::now();
    let mut clients = JoinSet::new();
    for (device, mut wire) in sessions {
        let (histogram, message, mut begun) = (Arc::clone(&histogram), Arc::clone(&message), begun.clone());
        clients.spawn(async move {
            let end = begun.wait_for(Option::is_some).await.map_err(io::Error::other)?.unwrap_or(start);
            // One timer for the whole client: one for each message would cost more than the message.
            timeout_at(end + IO_TIMEOUT, async {
                let mut sequence = 0;
                let mut sent = Instant::now();
                while sent < end {
                    let (topic, payload) = message(&device, sequence);
                    publish_and_wait(&mut wire, topic, payload).await?;
                    let answered = Instant::now();
                    histogram.record(answered - sent);
                    sent = answered;
                    sequence += 1;
                }
                io::Result::Ok(())
            })
            .await??;
            // Handed back, so that closing it is not part of the measurement.
            io::Result::Ok(wire)
        });
    }
    let start = Instant::now();
    // Fails only without clients.
    let _ = begin.send(Some(start + duration));
    let (errors, _wires) = join_clients(clients).await;
    Ok(histogram.report(errors, start.elapsed()))
}

/// Connects each device, reports `version`, waits for the PUBACK and disconnects; `concurrency` at a
/// time. Measures from the first SYN to the PUBACK.
pub async fn login_load(
    target: &Target,
    devices: &[Identity],
    version: &str,
    concurrency: usize,
) -> LoadReport {
    let histogram = Arc::new(Histogram::new());
    let next = Arc::new(AtomicU64::new(0));
    let devices: Arc<[Identity]> = devices.into();
    let start = Instant::now();
    let mut clients = JoinSet::new();
    for _ in 0..concurrency.clamp(1, devices.len().max(1)) {
        let (next, devices, histogram) = (Arc::clone(&next), Arc::clone(&devices), Arc::clone(&histogram));
        let (version, target) = (version.to_owned(), target.clone());
        clients.spawn(async move {
            while let Some(device) = devices.get(next.fetch_add(1, Relaxed) as usize) {
                let sent = Instant::now();
                let mut wire =
                    Wire::open(&target, How::default(), device.connect_info(&login()), IO_TIMEOUT).await?;
                let payload = message::inform(1, updraft_core::device::DEFAULT_MODULE, &version);
                let reported = publish_and_wait(&mut wire, Topic::Inform.of(device), payload);
                timeout_at(sent + IO_TIMEOUT, reported).await??;
                histogram.record(sent.elapsed());
                wire.disconnect().await?;
            }
            io::Result::Ok(())
        });
    }
    let (errors, _) = join_clients(clients).await;
    histogram.report(errors, start.elapsed())
}

/// Waits for all clients; tells how many failed, and what the others hand back.
async fn join_clients<T: 'static>(mut clients: JoinSet<io::Result<T>>) -> (u64, Vec<T>) {
    let mut errors = 0;
    let mut values = Vec::with_capacity(clients.len());
    while let Some(ended) = clients.join_next().await {
        match ended.map_err(io::Error::other).and_then(|outcome| outcome) {
            Ok(value) => values.push(value),
            Err(error) => {
                tracing::debug!(%error, "a load client failed");
                errors += 1;
            }
        }
    }
    (errors, values)
}

/// Sessions that do nothing; they end when this is dropped.
///
/// They send no PINGREQ, so they last one keepalive (20 minutes) at least.
#[derive(Debug)]
pub struct IdleSessions {
    wires: Vec<Wire>,
}

impl IdleSessions {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.wires.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.wires.is_empty()
    }
}

/// Opens a session for each device and waits until all are accepted.
pub async fn idle_sessions(target: &Target, devices: &[Identity]) -> io::Result<IdleSessions> {
    let opened = open_all(target, devices, 128).await?;
    Ok(IdleSessions { wires: opened.into_iter().map(|(_, wire)| wire).collect() })
}

/// Sessions that acknowledge and count what they are sent; they end when this is dropped.
#[derive(Debug)]
pub struct Listeners {
    received: Arc<Received>,
    _tasks: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Received {
    messages: AtomicU64,
    changed: Notify,
}

impl Listeners {
    /// Messages so far.
    pub fn received(&self) -> u64 {
        self.received.messages.load(Relaxed)
    }

    /// Waits until there are `messages`.
    pub async fn wait_for(&self, messages: u64) {
        loop {
            let changed = self.received.changed.notified();
            if self.received() >= messages {
                return;
            }
            changed.await;
        }
    }
}

/// Opens a session for each device that reports `version` and then listens; returns when all have
/// reported. For measuring how fast a server pushes. A plain broker wants `subscribe`.
pub async fn listeners(
    target: &Target,
    devices: &[Identity],
    version: &str,
    subscribe: bool,
) -> io::Result<Listeners> {
    let received = Arc::new(Received::default());
    let mut tasks = JoinSet::new();
    for (device, mut wire) in open_all(target, devices, 128).await? {
        if subscribe {
            wire.subscribe(vec![Topic::Upgrade.of(&device)]).await?;
        }
        let payload = message::inform(1, updraft_core::device::DEFAULT_MODULE, version);
        publish_and_wait(&mut wire, Topic::Inform.of(&device), payload).await?;
        let received = Arc::clone(&received);
        tasks.spawn(async move {
            // Ends with the connection.
            while let Ok(incoming) = wire.recv().await {
                if let Incoming::Publish { packet_id, .. } = incoming {
                    received.messages.fetch_add(1, Relaxed);
                    received.changed.notify_waiters();
                    if wire.acknowledge(packet_id).await.is_err() {
                        return;
                    }
                }
            }
        });
    }
    Ok(Listeners { received, _tasks: tasks })
}

/// Publishes `payload` to every device's push topic from one connection, as a back end would through a plain
/// broker: all at once, then the acknowledgements are waited for.
pub async fn push_by_broker(
    target: &Target,
    publisher: &Identity,
    devices: &[Identity],
    payload: &[u8],
) -> io::Result<()> {
    let mut wire = Wire::open(target, How::default(), publisher.connect_info(&login()), IO_TIMEOUT).await?;
    let mut open = 0;
    for device in devices {
        wire.publish(Topic::Upgrade.of(device), payload.to_vec(), Qos::AtLeastOnce).await?;
        open += 1;
        // Neither side may run out of room for what the other has not read.
        while open >= 1_000 {
            open -= usize::from(matches!(wire.recv().await?, Incoming::PubAck(_)));
        }
    }
    while open > 0 {
        open -= usize::from(matches!(wire.recv().await?, Incoming::PubAck(_)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_in_order_and_three_percent_wide() {
        let mut last = 0;
        for micros in (0..100_000).chain([1 << 30, 1 << 39, u64::MAX]) {
            let bucket = Histogram::bucket(micros);
            assert!(bucket >= last && bucket < BUCKETS, "{micros}");
            last = bucket;
            if micros < 1 << 39 {
                let upper = Histogram::upper(bucket).as_micros() as u64;
                assert!(upper >= micros && upper <= micros + micros / 32, "{micros} {upper}");
            }
        }
    }

    #[test]
    fn quantiles_are_read_off() {
        let histogram = Histogram::new();
        for millis in 1..=100 {
            histogram.record(Duration::from_millis(millis));
        }
        let report = histogram.report(0, Duration::from_secs(2));
        let near = |got: Duration, wanted: u64| {
            let got = got.as_micros() as u64;
            assert!((wanted * 1_000..=wanted * 1_032).contains(&got), "{got} {wanted}");
        };
        near(report.p50, 50);
        near(report.p99, 99);
        near(report.max, 100);
        assert!((report.per_second() - 50.0).abs() < 1e-9);
        assert_eq!(Histogram::new().report(0, Duration::ZERO).max, Duration::ZERO);
    }
}
