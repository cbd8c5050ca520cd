//! Virtual devices on real sockets: one light task a device, MQTT or the HTTP channel, downloads over HTTP.
//!
//! What a device does is decided in `updraft_fleet`; this module only carries it out. It knows nothing
//! of the server that it talks to, so it works against any.
//!
//! [`Fleet::start`] runs whole devices; [`load`] holds cruder clients for benchmarks.

mod counters;
mod fetch;
mod http;
pub mod load;
pub mod meters;
mod run;
mod target;
#[cfg(test)]
mod tests;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use updraft_core::time::Timestamp;
use updraft_fleet::{Device, DeviceConfig};

use counters::Counters;
pub use counters::Snapshot;
use meters::Meters;
use run::Runner;
pub use target::{Node, Target};
pub use wire::Mqtt;

/// How a fleet is driven.
#[derive(Debug, Clone, Copy)]
pub struct FleetOptions {
    /// Connection attempts a second, of all devices together; 0 for no limit.
    pub connects_per_second: u32,
    /// How many times faster than real the devices' own time runs (waits, backoff, slow downloads).
    pub speed: f64,
    /// Downloads at the same time; the others wait. Each takes a file descriptor and a buffer.
    pub max_downloads: usize,
    /// How long connecting, a write, or the next piece of a download may take.
    pub io_timeout: Duration,
    /// Whether `connects_per_second` is for first connections only: what comes back comes at once.
    pub ramp_only: bool,
    /// Downloads fetch their files in ranges of so many bytes; absent or 0: in one.
    pub range_bytes: Option<u64>,
}

/// A device, and how it talks.
#[derive(Debug, Clone)]
pub struct Member {
    /// The device.
    pub config: DeviceConfig,
    /// What it talks.
    pub talk: Talk,
    /// The node that it tries first.
    pub node: usize,
}

/// What a device talks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Talk {
    /// This version of MQTT.
    Mqtt(Mqtt),
    /// The HTTP channel. The fleet must have been told where that is.
    Http,
}

/// A cut of connections, of all devices or a share.
#[derive(Debug, Clone, Copy, Default)]
struct Storm {
    /// Counts from 1; 0 is none.
    number: u64,
    percent: u64,
}

impl Default for FleetOptions {
    fn default() -> Self {
        Self {
            connects_per_second: 1_000,
            speed: 1.0,
            max_downloads: 1_000,
            io_timeout: Duration::from_secs(30),
            ramp_only: false,
            range_bytes: None,
        }
    }
}

/// What all devices of a fleet share.
struct Shared {
    target: Target,
    /// Where the HTTP channel is.
    http: Option<Target>,
    options: FleetOptions,
    clock: Clock,
    gate: Gate,
    downloads: Semaphore,
    counters: Counters,
    meters: Meters,
}

/// Starts fleets.
#[derive(Debug)]
pub struct Fleet;

impl Fleet {
    /// Switches the devices on. They run until [`FleetHandle::stop`], or until the handle is dropped.
    pub fn start(devices: Vec<DeviceConfig>, mqtt_addr: SocketAddr, options: FleetOptions) -> FleetHandle {
        let member = |config| Member { config, talk: Talk::Mqtt(Mqtt::V3), node: 0 };
        Self::start_with(devices.into_iter().map(member).collect(), mqtt_addr.into(), None, options)
    }

    /// The same for devices that talk one thing or another; `http` is where the HTTP channel is.
    pub fn start_with(
        devices: Vec<Member>,
        target: Target,
        http: Option<Target>,
        options: FleetOptions,
    ) -> FleetHandle {
        let shared = Arc::new(Shared {
            target,
            http,
            options,
            clock: Clock::new(options.speed),
            gate: Gate::new(options.connects_per_second),
            downloads: Semaphore::new(options.max_downloads.clamp(1, Semaphore::MAX_PERMITS)),
            counters: Counters::new(devices.len() as u64),
            meters: Meters::default(),
        });
        let (stop, stopped) = watch::channel(());
        let storms = watch::Sender::new(Storm::default());
        let mut tasks = JoinSet::new();
        for (number, member) in devices.into_iter().enumerate() {
            let runner = Runner::new(number as u64, member, Arc::clone(&shared), storms.subscribe());
            tasks.spawn(run_until(runner, stopped.clone()));
        }
        FleetHandle { shared, stop, storms, tasks }
    }
}

async fn run_until(mut runner: Runner, mut stopped: watch::Receiver<()>) -> Device {
    tokio::select! {
        _ = stopped.changed() => {}
        () = runner.run() => {}
    }
    runner.switch_off().await
}

/// A running fleet.
pub struct FleetHandle {
    shared: Arc<Shared>,
    stop: watch::Sender<()>,
    storms: watch::Sender<Storm>,
    tasks: JoinSet<Device>,
}

impl FleetHandle {
    /// What the fleet is doing now.
    pub fn snapshot(&self) -> Snapshot {
        self.shared.counters.snapshot()
    }

    /// How long things took, and what went wrong.
    pub fn meters(&self) -> &Meters {
        &self.shared.meters
    }

    /// The most devices that were missing at a time since the last call: who looks now and then would not see devices
    /// that are back in an instant.
    pub fn missing_most(&self) -> u64 {
        self.shared.counters.missing_most()
    }

    /// The devices' time.
    pub fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    /// Cuts the connections of so many percent of the devices, chosen by their seeds; they come back at once.
    pub fn storm(&self, percent: u64) {
        self.storms.send_modify(|storm| *storm = Storm { number: storm.number + 1, percent });
    }

    /// Waits until the fleet looks like this.
    pub async fn wait_until(&self, mut reached: impl FnMut(&Snapshot) -> bool) -> Snapshot {
        loop {
            let changed = self.shared.counters.changed();
            let snapshot = self.snapshot();
            if reached(&snapshot) {
                return snapshot;
            }
            changed.await;
        }
    }

    /// Switches all devices off; they say goodbye to the server first.
    pub async fn stop(mut self) -> Snapshot {
        self.switch_off().await;
        self.snapshot()
    }

    /// The same for a fleet that is still asked; the devices as they are then, in no order.
    pub async fn switch_off(&mut self) -> Vec<Device> {
        // Fails only if every device has ended already.
        let _ = self.stop.send(());
        let mut devices = Vec::with_capacity(self.tasks.len());
        while let Some(ended) = self.tasks.join_next().await {
            match ended {
                Ok(device) => devices.push(device),
                Err(error) => {
                    self.shared.meters.failed("device", "its task ended badly");
                    tracing::debug!(%error, "a device's task ended badly");
                }
            }
        }
        devices
    }
}

/// The devices' time: it starts at zero and may run faster than the real one.
#[derive(Debug)]
struct Clock {
    start: Instant,
    speed: f64,
}

impl Clock {
    fn new(speed: f64) -> Self {
        Self { start: Instant::now(), speed: if speed.is_finite() && speed > 0.0 { speed } else { 1.0 } }
    }

    fn now(&self) -> Timestamp {
        Timestamp((self.start.elapsed().as_secs_f64() * 1_000.0 * self.speed) as i64)
    }

    /// The first instant at which [`Clock::now`] has reached `at`.
    fn instant(&self, at: Timestamp) -> Instant {
        // A year is as good as never, and any instant can take it.
        let seconds = (at.0.max(0) as f64 / 1_000.0 / self.speed).min(31_536_000.0);
        self.start + Duration::from_secs_f64(seconds) + Duration::from_millis(1)
    }
}

/// Lets connection attempts through one by one, so that a fleet does not arrive in one instant.
#[derive(Debug)]
struct Gate {
    interval: Duration,
    next: parking_lot::Mutex<Instant>,
}

impl Gate {
    fn new(per_second: u32) -> Self {
        let interval = Duration::from_secs(1).checked_div(per_second).unwrap_or(Duration::ZERO);
        Self { interval, next: parking_lot::Mutex::new(Instant::now()) }
    }

    async fn pass(&self) {
        let slot = {
            let mut next = self.next.lock();
            let slot = (*next).max(Instant::now());
            *next = slot + self.interval;
            slot
        };
        if !self.interval.is_zero() {
            sleep_until(slot).await;
        }
    }
}
