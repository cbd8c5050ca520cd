//! Where the parts meet.

use crate::api::access::{AccessKeys, Instances};
use crate::api::audit::RefusedCalls;
use crate::api::device::query_device_statistics::SharedCounts;
use crate::api::nonce::Nonces;
use crate::api::quota::Quotas;
use crate::authority::Authority;
use crate::channel::pace::Paces;
use crate::channel::token::Tokens;
use crate::clock::Clock;
use crate::config::Config;
use crate::device::link::DeviceLink;
use crate::files::Blobs;
use crate::files::address::Addresses;
use crate::files::pace::Bandwidth;
use crate::gate::{Gate, Limits};
use crate::nodes::Nodes;
use crate::random::Random;
use crate::seal::MasterKey;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;
use updraft_core::id::{AccountNo, DeviceNo, TaskNo};
use updraft_core::time::Timestamp;
use updraft_store::Store;

/// Everything that operations, the engine and the device endpoint share.
pub struct App {
    /// The configuration.
    pub config: Config,
    /// The database. Shared, so that a simulated server can die while its database stays.
    pub store: Arc<Store>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Identifiers and secrets.
    pub random: Random,
    /// Seals secrets.
    pub master: MasterKey,
    /// What gives devices their certificates.
    pub authority: Arc<Authority>,
    /// Signs and checks upload and download addresses.
    pub addresses: Addresses,
    /// Tokens of devices that speak by HTTP.
    pub tokens: Tokens,
    /// How many messages they have sent in this second.
    pub paces: Paces,
    /// What downloads share.
    pub bandwidth: Bandwidth,
    /// Uploaded bytes.
    pub blobs: Blobs,
    /// Access keys looked up lately.
    pub access_keys: AccessKeys,
    /// Instances that calls have named.
    pub instances: Instances,
    /// Calls that were refused lately.
    pub refused_calls: RefusedCalls,
    /// Calls that change something and are in progress: a stop waits for them.
    pub calls: TaskTracker,
    /// Nonces used lately.
    pub nonces: Nonces,
    /// Calls of the last second.
    pub quotas: Quotas,
    /// The limits per address of the API's port.
    pub gate: Arc<Gate>,
    /// The way to connected devices.
    pub link: Arc<dyn DeviceLink>,
    /// Refused events that the log knows already, by task and kind.
    pub refusals_told: Mutex<BTreeSet<(TaskNo, &'static str)>>,
    /// Devices of which nobody knows whether they are to be told of a package: the commit's answer was lost.
    pub untold: Mutex<BTreeSet<DeviceNo>>,
    /// Keys that are being uploaded to, or purged, at this moment.
    pub busy_keys: Mutex<BTreeSet<String>>,
    /// Accounts of which a plan is being made.
    pub planning: Mutex<BTreeSet<AccountNo>>,
    /// Counts of devices that calls wait for.
    pub device_counts: SharedCounts,
    /// This node, and the others that serve the database.
    pub nodes: Nodes,
    /// Wakes this node's engine ([`App::awaken`] wakes all). It carries no data and may be lost: the engine looks at the rows.
    pub wake: Notify,
    /// The latest moment that the engine has seen: by it shows that the clock was set back.
    pub latest_ms: AtomicI64,
}

impl App {
    /// Puts an application together on an open store.
    pub fn new(
        config: Config,
        store: Arc<Store>,
        clock: Arc<dyn Clock>,
        random: Random,
        master: MasterKey,
        blobs: Blobs,
        link: Arc<dyn DeviceLink>,
    ) -> Arc<Self> {
        Arc::new(Self {
            addresses: Addresses::new(&master, &config),
            tokens: Tokens::new(&master, config.http_token_seconds),
            paces: Paces::default(),
            bandwidth: Bandwidth::new(&config),
            access_keys: AccessKeys::default(),
            instances: Instances::default(),
            refused_calls: RefusedCalls::default(),
            calls: TaskTracker::new(),
            nonces: Nonces::new(config.nonce_max),
            quotas: Quotas::new(config.quota_scale, config.quota_qps.clone()),
            gate: Gate::new(
                "api",
                Limits {
                    connections: config.api_connections_per_address,
                    failures: config.api_failures_per_minute,
                    exempt: config.limit_exempt.clone(),
                },
            ),
            refusals_told: Mutex::default(),
            untold: Mutex::default(),
            busy_keys: Mutex::default(),
            planning: Mutex::default(),
            device_counts: SharedCounts::default(),
            nodes: Nodes::new(config.role, config.shares_database()),
            wake: Notify::new(),
            latest_ms: AtomicI64::new(0),
            config,
            store,
            clock,
            random,
            master,
            authority: Arc::default(),
            blobs,
            link,
        })
    }

    /// Wakes the engine, on whichever node it is.
    pub fn awaken(&self) {
        self.wake.notify_one();
        self.nodes.call_others();
    }

    /// The current moment.
    pub fn now(&self) -> Timestamp {
        self.clock.now().plus_ms(self.nodes.clock_correction_ms())
    }
}
