//! The real server inside the world: everything but sockets, and able to die.

use crate::Violation;
use crate::api::{self, HOST, Pairs};
use crate::chance::Chance;
use crate::clock::{Died, SimClock};
use crate::link::SimLink;
use crate::storage::Storage;
use crate::turns;
use futures_util::FutureExt as _;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use serde_json::Value;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tokio::runtime::Runtime;
use tokio::sync::{Mutex, mpsc};
use updraft_core::id::InstanceNo;
use updraft_core::time::Timestamp;
use updraft_server::app::App;
use updraft_server::clock::Clock as _;
use updraft_server::config::Config;
use updraft_server::engine::ingest::{Delivery, Ingest, Taker};
use updraft_server::files::Blobs;
use updraft_server::http::{Caller, Http};
use updraft_server::random::Random;
use updraft_server::seal::MasterKey;
use updraft_server::setup;
use updraft_store::{Lane, Location, Store, StoreError, Trouble, Tx};

/// What lives as long as one process of the server.
pub(crate) struct Running {
    pub(crate) app: Arc<App>,
    pub(crate) http: Arc<Http>,
    pub(crate) door: Arc<Ingest>,
    pub(crate) link: Arc<SimLink>,
    pub(crate) taker: Arc<Mutex<Taker>>,
    /// Kept open: the world takes deliveries itself.
    _deliveries: mpsc::Receiver<Delivery>,
}

/// How the server is to die around its next piece of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Death {
    /// After the next work's commits, before their effects, whatever it is.
    AfterCommit,
    /// The same, but it waits for work that has something to send or to take back.
    BeforeEffects,
    /// When it looks at the clock for the n-th time.
    AtClock(u32),
}

/// What became of a piece of work.
pub(crate) struct Worked<T> {
    /// Its outcome; `None` if the server died within.
    pub(crate) value: Option<T>,
    /// Whether the server died within or right after.
    pub(crate) died: bool,
    /// Whether the storage failed within, or may have.
    pub(crate) failed: bool,
}

/// What outlives the server's process: database, files, clock; and the process, if there is one.
pub(crate) struct Server {
    pub(crate) clock: Arc<SimClock>,
    pub(crate) running: Option<Running>,
    pub(crate) instance: InstanceNo,
    /// What is wrong with the storage.
    pub(crate) storage: Storage,
    runtime: Runtime,
    store: Arc<Store>,
    config: Config,
    folder: tempfile::TempDir,
    chance: Chance,
    master: [u8; 32],
}

impl Server {
    /// A new server with an empty database, running; its engine works in chunks of so many rows.
    pub(crate) fn new(seed: u64, start: Timestamp, chunk_rows: u32) -> Result<Self, Violation> {
        let unusable =
            |error: &dyn std::fmt::Display| Violation(format!("the world cannot be made: {error}"));
        let mut chance = Chance::new(seed, "server");
        let folder = in_memory_folder().map_err(|error| unusable(&error))?;
        let mut server = Self {
            clock: Arc::new(SimClock::new(start)),
            running: None,
            instance: InstanceNo(0),
            storage: Storage::default(),
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build()
                .map_err(|error| unusable(&error))?,
            store: Arc::new(Store::open(&Location::Inline)?),
            config: Config {
                data_dir: folder.path().to_owned(),
                quota_scale: 0.0,
                engine_chunk_rows: chunk_rows,
                module_turn_minutes: turns::TURN_MINUTES,
                root_access_key_id: Some(api::KEY_ID.to_owned()),
                root_access_key_secret: Some(api::KEY_SECRET.to_owned()),
                ..Config::default()
            },
            folder,
            master: chance.bytes(),
            chance,
        };
        server.start()?;
        let instance = server.read(|tx| {
            let root = tx.account_find(setup::ROOT_ACCOUNT)?;
            root.map(|root| tx.instance_public(root)).transpose()
        })?;
        server.instance = instance.ok_or_else(|| unusable(&"no root account"))?;
        Ok(server)
    }

    /// Starts the process, as `serve` does.
    pub(crate) fn start(&mut self) -> Result<(), Violation> {
        let unusable =
            |error: &dyn std::fmt::Display| Violation(format!("the server does not start: {error}"));
        self.clock.light(None);
        let now = self.clock.now();
        let random = Random::from_seed(self.chance.bytes());
        let master = MasterKey::new(&self.master).map_err(|error| unusable(&error))?;
        let root = setup::root_account(&self.config, &self.store, &master, &random, now);
        self.runtime.block_on(root).map_err(|error| unusable(&error))?;
        let starts = self.write(move |tx| {
            tx.devices_all_offline(now)?;
            tx.node_start()
        })?;
        let blobs = Blobs::open(&self.folder.path().join("blobs")).map_err(|error| unusable(&error))?;
        let link = Arc::new(SimLink::new(starts << 40));
        let (store, clock) = (Arc::clone(&self.store), Arc::clone(&self.clock));
        let app = App::new(self.config.clone(), store, clock, random, master, blobs, link.clone());
        let (door, deliveries) = Ingest::new(Arc::clone(&app));
        let taker = Arc::new(Mutex::new(Taker::new(Arc::clone(&app))));
        let http = Http { app: Arc::clone(&app), metrics: None, ready: AtomicBool::new(true) };
        let (http, door) = (Arc::new(http), Arc::new(door));
        self.running = Some(Running { app, http, door, link, taker, _deliveries: deliveries });
        Ok(())
    }

    /// Runs a piece of the server's work to its end, or to the server's.
    pub(crate) fn work<T, F: Future<Output = T>>(
        &mut self,
        death: Option<Death>,
        work: impl FnOnce(&Running) -> F,
    ) -> Result<Worked<T>, Violation> {
        let Some(running) = &self.running else {
            return Ok(Worked { value: None, died: true, failed: false });
        };
        match death {
            Some(Death::BeforeEffects | Death::AfterCommit) => running.link.deafen(true),
            Some(Death::AtClock(after)) => self.clock.light(Some(after)),
            None => {}
        }
        let run = || self.runtime.block_on(AssertUnwindSafe(work(running)).catch_unwind());
        let (outcome, failed) = match self.storage.trouble {
            None => (run(), false),
            Some(trouble) => {
                let (outcome, struck) = self.store.in_trouble(trouble, run)?;
                (outcome, struck || matches!(trouble, Trouble::Full { .. }))
            }
        };
        let killed = self.clock.has_killed();
        self.clock.light(None);
        let (value, died) = match outcome {
            _ if killed => (None, true),
            Ok(value) => {
                let spared = death == Some(Death::BeforeEffects) && !running.link.has_missed();
                running.link.deafen(false);
                (Some(value), death.is_some() && !spared)
            }
            Err(panic) if panic.is::<Died>() => (None, true),
            Err(_) => return Err(Violation("the server panicked".to_owned())),
        };
        if failed && !self.storage.lasting {
            self.storage = Storage::default();
        }
        Ok(Worked { value, died, failed })
    }

    /// Reads the database, beside the server.
    pub(crate) fn read<T: Send + 'static>(
        &self,
        run: impl Fn(&mut Tx<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Violation> {
        Ok(self.runtime.block_on(self.store.read(run))?)
    }

    /// How many rows have been written so far.
    pub(crate) fn rows_written(&self) -> Option<u64> {
        self.store.rows_written()
    }

    fn write<T: Send + 'static>(
        &self,
        run: impl Fn(&mut Tx<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Violation> {
        Ok(self.runtime.block_on(self.store.write(Lane::Interactive, run))?)
    }

    /// A signed call, as a request.
    pub(crate) fn request(&mut self, action: &str, params: &Pairs) -> Request<Full<bytes::Bytes>> {
        api::call(action, params, &mut self.chance, self.clock.peek())
    }
}

/// Answers a request at the server's HTTP door: status, and the body as JSON (null if it is none).
pub(crate) async fn answer(http: Arc<Http>, request: Request<Full<bytes::Bytes>>) -> (u16, Value) {
    let host = HOST.parse().expect("a constant address");
    let caller = Caller { local: host, remote: host, tls: false };
    let reply = http.answer(caller, request).await;
    let status = reply.status().as_u16();
    let body = reply.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

/// A folder for files; in memory, where there is such a place: nobody waits for a disk then.
fn in_memory_folder() -> std::io::Result<tempfile::TempDir> {
    let memory = std::path::Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }
}
