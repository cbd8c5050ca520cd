//! A running server: puts the parts together, opens the ports, and takes it all down again in order.

use crate::api::audit;
use crate::app::App;
use crate::authority::AsksForCertificates;
use crate::certificates::{Certificates, Origin};
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::device::connection::{Endpoint, Limits as DeviceLimits};
use crate::device::gateway::{Batches, subs};
use crate::device::session::{BaseUrl, Keeping, Sessions};
use crate::engine::{self, ingest};
use crate::files::{purge, sweep};
use crate::gate::{Gate, Pass};
use crate::http::{Caller, Http, Known};
use crate::net::{self, Peer, Port, Speaks, Stream};
use crate::nodes::heart;
use crate::ports::{self, DevicePorts, Listeners};
use crate::random::Random;
use crate::retention;
use crate::setup;
use crate::stall::Patient;
use crate::vigil;
use anyhow::Context as _;
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics_exporter_prometheus::PrometheusHandle;
use parking_lot::Mutex;
use serde_json::json;
use std::convert::Infallible;
use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use updraft_core::time::Timestamp;
use updraft_store::{Claim, LOGIN_BITS, Lane, Sharing, Store};

/// How often silent sessions are looked for.
const KEEPALIVE_SWEEP: Duration = Duration::from_secs(5);
/// How often it is asked whether the database is still this server's.
const CLAIM_LOOK: Duration = Duration::from_secs(1);
/// How long the engine and the like get to finish their round at a stop.
const WORKER_STOP: Duration = Duration::from_secs(5);
/// How long a start looks at the database before it opens it: all of a small one, the beginning of a large one.
const LOOK_AT_DATABASE: Duration = Duration::from_millis(500);
/// What hyper buffers of a connection's input and output, at most.
const HTTP_BUFFER_BYTES: usize = 64 * 1024;

/// A server that runs.
pub struct Server {
    /// Where the API is.
    pub api_addr: SocketAddr,
    /// Where devices connect, if they connect to this node.
    pub mqtt_addr: Option<SocketAddr>,
    /// Where devices connect by TLS only.
    pub mqtt_tls_addr: Option<SocketAddr>,
    /// Where devices connect over WebSocket only.
    pub mqtt_ws_addr: Option<SocketAddr>,
    /// Where the root account's key was written, if it was.
    pub root_key_file: Option<PathBuf>,
    /// The certificate that clients must trust, if a local authority made the server's.
    pub ca_file: Option<PathBuf>,
    /// The data folder.
    pub data_dir: PathBuf,
    app: Arc<App>,
    http: Arc<Http>,
    sessions: Arc<Sessions>,
    certificates: Arc<Certificates>,
    stop: watch::Sender<bool>,
    stop_engine: watch::Sender<bool>,
    ports: Vec<JoinHandle<usize>>,
    workers: Vec<JoinHandle<()>>,
    claim: Claim,
    _lock: File,
}

impl Server {
    /// Starts a server. Returns when it serves.
    pub async fn start(mut config: Config, metrics: Option<PrometheusHandle>) -> anyhow::Result<Self> {
        config.data_dir = setup::data_dir(&config)?;
        setup::writable(&config)?;
        let lock = setup::lock(&config.data_dir)?;
        let clock = Arc::new(SystemClock);
        let random = Random::from_system().context("the operating system gives no randomness")?;
        let (claim, store) = open_database(&config).await?;
        let master = setup::master_key(&config, &store, &random).await?;
        let root_key_file = setup::root_account(&config, &store, &master, &random, clock.now()).await?;
        if !config.shares_database() {
            let now = clock.now();
            let offline = store
                .write(Lane::Interactive, move |tx| {
                    tx.reviews_add_online_for_groups()?;
                    tx.devices_all_offline(now)
                })
                .await?;
            tracing::info!(
                devices = offline,
                "devices that were online before the start are offline until they return"
            );
        }
        let blobs = sweep::open(&config, &store).await?;

        let mut listeners = Listeners::open(&config)?;
        let addresses = listeners.addresses()?;
        let metrics_port = listeners.metrics.take();
        let (certificates, ca_file) = certificates(&config, moment(clock.now()))?;

        let base = match config.public_base() {
            Some(url) => BaseUrl::Public(url.to_owned()),
            None => BaseUrl::Connection { port: addresses.api.port() },
        };
        let sessions = Arc::new(Sessions::new(0, base).keeping(keeping(&config)));
        let data_dir = config.data_dir.clone();
        let app = App::new(config, Arc::new(store), clock, random, master, blobs, sessions.clone());
        let me = heart::join(&app).await?;
        // Above every number of an earlier run, and apart from those of other nodes: no run sees a trillion logins.
        app.link.renumber(me << LOGIN_BITS);
        app.authority.load(&app).await.context("cannot read the authority of devices' certificates")?;
        let http = Arc::new(Http { app: Arc::clone(&app), metrics, ready: AtomicBool::new(false) });
        let (stop, stopped) = watch::channel(false);
        let (stop_engine, engine_stopped) = watch::channel(false);
        let mut server = Self {
            api_addr: addresses.api,
            mqtt_addr: addresses.mqtt,
            mqtt_tls_addr: addresses.mqtt_tls,
            mqtt_ws_addr: addresses.mqtt_ws,
            root_key_file,
            ca_file,
            data_dir,
            app,
            http,
            sessions,
            certificates,
            stop,
            stop_engine,
            ports: Vec::new(),
            workers: Vec::new(),
            claim,
            _lock: lock,
        };
        server.open_ports(listeners, &stopped, engine_stopped)?;
        server.watch_certificates(stopped.clone());
        if let Some(port) = metrics_port {
            server.open_metrics(port, stopped);
        }
        server.write_run_file()?;
        server.http.ready.store(true, Ordering::Relaxed);
        Ok(server)
    }

    fn open_ports(
        &mut self,
        listeners: Listeners,
        stopped: &watch::Receiver<bool>,
        engine_stopped: watch::Receiver<bool>,
    ) -> anyhow::Result<()> {
        let http_tls = self.certificates.server_config(&[b"http/1.1"])?;
        let asks = AsksForCertificates(Arc::clone(&self.app.authority));
        let mqtt_tls = self.certificates.device_config(Arc::new(asks))?;
        let config = &self.app.config;
        let http = Arc::clone(&self.http);
        let closing = stopped.clone();
        let answer =
            move |stream, peer, pass| serve_http(Arc::clone(&http), stream, peer, pass, closing.clone());
        let gate = Arc::clone(&self.app.gate);
        let port = ports::api(config, http_tls, gate);
        self.ports.push(tokio::spawn(net::serve(listeners.api, port, stopped.clone(), answer)));

        let (door, deliveries) = ingest::Ingest::new(Arc::clone(&self.app));
        let device_limits = DeviceLimits {
            connect_within: Duration::from_secs(config.mqtt_connect_seconds.into()),
            registered_within: Duration::from_secs(config.mqtt_register_seconds.into()),
            register_by_tls_only: config.register_by_tls_only,
            uplinks_per_second: config.mqtt_uplink_per_second,
            payload_bytes: config.mqtt_payload_bytes_max as usize,
            blocks_per_second: config.mqtt_blocks_per_second,
            block_bytes: usize::try_from(config.mqtt_block_bytes_max).unwrap_or(0),
            gateway: gateway_limits(config),
            ..DeviceLimits::default()
        };
        let devices = (listeners.mqtt, listeners.mqtt_tls, listeners.mqtt_ws);
        let DevicePorts { gate, ports } = ports::devices(config, devices, mqtt_tls);
        let sessions = Arc::clone(&self.sessions);
        let endpoint = Arc::new(Endpoint::new(Arc::new(door), sessions, device_limits, gate));
        let talk = move |stream, peer, pass| Arc::clone(&endpoint).handle(stream, peer, pass);
        for (listener, port) in ports {
            self.ports.push(tokio::spawn(net::serve(listener, port, stopped.clone(), talk.clone())));
        }

        self.workers.push(tokio::spawn(ingest::run(Arc::clone(&self.app), deliveries, stopped.clone())));
        let role = self.app.nodes.role();
        if role.is_worker() || role.is_gateway() {
            self.workers.push(tokio::spawn(engine::run(Arc::clone(&self.app), engine_stopped.clone())));
        }
        self.workers.push(tokio::spawn(purge::run(Arc::clone(&self.app), stopped.clone())));
        self.workers.push(tokio::spawn(sweep::run(Arc::clone(&self.app), stopped.clone())));
        self.workers.push(tokio::spawn(retention::run(Arc::clone(&self.app), stopped.clone())));
        if self.app.nodes.is_shared() {
            // As long as the engine: the others must not take a node that still works for dead.
            self.workers.push(tokio::spawn(heart::run(Arc::clone(&self.app), engine_stopped)));
        } else {
            self.workers.push(tokio::spawn(heart::watch_growth(Arc::clone(&self.app), stopped.clone())));
        }
        self.workers.push(tokio::spawn(vigil::run(Arc::clone(&self.app), stopped.clone())));
        let (sessions, stopped) = (Arc::clone(&self.sessions), stopped.clone());
        self.workers.push(tokio::spawn(async move {
            sessions.watch_keepalive(KEEPALIVE_SWEEP, stopped).await;
        }));
        Ok(())
    }

    /// Looks for new certificates from time to time.
    fn watch_certificates(&mut self, mut stopped: watch::Receiver<bool>) {
        let every = Duration::from_secs(self.app.config.tls_reload_seconds.into());
        if every.is_zero() {
            return;
        }
        let (app, certificates) = (Arc::clone(&self.app), Arc::clone(&self.certificates));
        self.workers.push(tokio::spawn(async move {
            let mut looks = tokio::time::interval(every);
            let stop = async move { stopped.wait_for(|stop| *stop).await.map(|_| ()) };
            let mut stop = std::pin::pin!(stop);
            loop {
                tokio::select! {
                    _ = &mut stop => return,
                    _ = looks.tick() => look(&app, &certificates, false).await,
                }
            }
        }));
    }

    /// Looks for new certificates now; the log says what came of it.
    pub async fn reload(&self) {
        look(&self.app, &self.certificates, true).await;
    }

    /// Returns when another server has taken the database: this one must end.
    pub async fn lost_database(&self) {
        let lost = self.claim.watch();
        let mut looks = tokio::time::interval(CLAIM_LOOK);
        while !lost.load(Ordering::Relaxed) {
            looks.tick().await;
        }
    }

    /// How many devices are connected.
    pub fn devices_connected(&self) -> usize {
        self.sessions.len()
    }

    /// How long a stop may take until connections have ended, in seconds.
    pub fn drain_seconds(&self) -> u32 {
        let config = &self.app.config;
        config.drain_delay_seconds.saturating_add(config.drain_seconds)
    }

    /// `/metrics` on an address of its own, and nothing else.
    fn open_metrics(&mut self, port: TcpListener, stopped: watch::Receiver<bool>) {
        let http = Arc::clone(&self.http);
        let patience = Duration::from_secs(self.app.config.http_seconds.into());
        let answer = move |stream, _, pass| {
            let http = Arc::clone(&http);
            let service = hyper::service::service_fn(move |request: ::http::Request<_>| {
                let http = Arc::clone(&http);
                async move {
                    let _: hyper::body::Incoming = request.into_body();
                    Ok::<_, Infallible>(http.metrics())
                }
            });
            async move {
                let connection = hyper::server::conn::http1::Builder::new()
                    .keep_alive(false)
                    .timer(TokioTimer::new())
                    .header_read_timeout(patience)
                    .serve_connection(TokioIo::new(Patient::new(stream, patience)), service);
                let _pass: Pass = pass;
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "a metrics connection ended");
                }
            }
        };
        let what = Port::plain(Speaks::Anything, Gate::open());
        self.ports.push(tokio::spawn(net::serve(port, what, stopped, answer)));
    }

    /// Where commands and tests find this server.
    fn write_run_file(&self) -> anyhow::Result<()> {
        let run = json!({
            "pid": std::process::id(),
            "api_addr": self.api_addr.to_string(),
            "mqtt_addr": self.mqtt_addr,
            "mqtt_tls_addr": self.mqtt_tls_addr,
            "mqtt_ws_addr": self.mqtt_ws_addr,
            "ca_file": self.ca_file,
        });
        let path = self.data_dir.join("run.json");
        let fresh = self.data_dir.join("run.json.new");
        std::fs::write(&fresh, run.to_string())
            .and_then(|()| std::fs::rename(&fresh, &path))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Drains and stops: no new work, then what is in progress, then the engine, then the database.
    pub async fn stop(self) {
        self.http.ready.store(false, Ordering::Relaxed);
        let delay = self.app.config.drain_delay_seconds;
        if delay > 0 {
            tracing::info!(seconds = delay, "not ready any more; serving until load balancers know");
            tokio::time::sleep(Duration::from_secs(delay.into())).await;
        }
        let _ = std::fs::remove_file(self.data_dir.join("run.json"));
        let _ = self.stop.send(true);
        self.sessions.drain();
        for port in self.ports {
            match port.await {
                Ok(0) => {}
                Ok(open) => tracing::warn!(connections = open, "connections did not end in time"),
                Err(error) => tracing::error!(%error, "a port had failed"),
            }
        }
        // Callers that hung up, or did not wait: what their calls changed gets its audit line.
        self.app.calls.close();
        if tokio::time::timeout(WORKER_STOP, self.app.calls.wait()).await.is_err() {
            tracing::warn!(calls = self.app.calls.len(), "calls did not end in time");
        }
        audit::tell_left_out(&self.app, true).await;
        let _ = self.stop_engine.send(true);
        self.app.wake.notify_one();
        for worker in self.workers {
            let abort = worker.abort_handle();
            match tokio::time::timeout(WORKER_STOP, worker).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(%error, "a worker had failed"),
                // What it had not committed was not acknowledged to anybody.
                Err(_) => abort.abort(),
            }
        }
        heart::leave(&self.app).await;
        let (app, claim) = (Arc::clone(&self.app), self.claim);
        let _ = tokio::task::spawn_blocking(move || {
            app.store.close();
            drop(claim);
        })
        .await;
    }
}

/// Looks at the database, claims it and opens it.
async fn open_database(config: &Config) -> anyhow::Result<(Claim, Store)> {
    let (config, location) = (config.clone(), config.database()?);
    let open = move || {
        // Whoever is served already is neither damaged nor without its key.
        Claim::look(&location)?;
        setup::look_before_start(&config, LOOK_AT_DATABASE)?;
        let sharing = if config.shares_database() { Sharing::WithNodes } else { Sharing::Alone };
        let claim = Claim::take(&location, sharing)?;
        let store = Store::open(&location)?;
        anyhow::Ok((claim, store))
    };
    tokio::task::spawn_blocking(open).await?.context("cannot open the database")
}

fn certificates(config: &Config, now: SystemTime) -> anyhow::Result<(Arc<Certificates>, Option<PathBuf>)> {
    let origin = if let (Some(cert), Some(key)) = (&config.tls_cert, &config.tls_key) {
        Origin::Given { cert: cert.clone(), key: key.clone() }
    } else {
        let mut names = Vec::new();
        let more = [config.mqtt_tls_addr, config.mqtt_ws_addr].into_iter().flatten();
        for addr in [config.api_addr, config.mqtt_addr].into_iter().chain(more) {
            if !addr.ip().is_unspecified() {
                names.push(addr.ip().to_string());
            }
        }
        names.extend(config.public_base().and_then(host_of));
        Origin::Local { dir: config.data_dir.join("tls"), names }
    };
    let ca_file = origin.ca_file();
    Ok((Certificates::open(origin, now)?, ca_file))
}

/// One look for new certificates, off the runtime: it reads files.
async fn look(app: &Arc<App>, certificates: &Arc<Certificates>, asked: bool) {
    let (app, certificates) = (Arc::clone(app), Arc::clone(certificates));
    let looked = tokio::task::spawn_blocking(move || certificates.look(moment(app.now()), asked));
    if let Err(error) = looked.await {
        tracing::error!(%error, "looking for a new certificate failed");
    }
}

/// A moment as the system's clock tells it.
pub(crate) fn moment(now: Timestamp) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(now.0.unsigned_abs())
}

/// The host in a base address, without port.
fn host_of(base: &str) -> Option<String> {
    let uri: ::http::Uri = base.parse().ok()?;
    uri.host().map(|host| host.trim_matches(['[', ']']).to_owned())
}

/// How sessions of devices are kept.
fn keeping(config: &Config) -> Keeping {
    Keeping { seconds: config.mqtt_session_seconds, sessions: config.mqtt_kept_sessions_max as usize }
}

async fn serve_http(
    http: Arc<Http>,
    stream: Stream,
    peer: Peer,
    pass: Pass,
    mut closing: watch::Receiver<bool>,
) {
    let caller = Caller { local: peer.local, remote: peer.remote, tls: peer.tls };
    let stream = Patient::new(stream, Duration::from_secs(http.app.config.http_write_seconds.into()));
    let patience = Duration::from_secs(http.app.config.http_seconds.into());
    // A connection counts against its address until a call or an address of a download was signed well: many
    // devices behind one address may download for hours.
    let pass = Mutex::new(Some(pass));
    let pass = Arc::new(pass);
    let service = hyper::service::service_fn(move |request| {
        let (http, pass) = (Arc::clone(&http), Arc::clone(&pass));
        async move {
            let mut reply = http.answer(caller, request).await;
            // Else a client that keeps its connection would send its next call just when the node ends.
            if !http.ready.load(Ordering::Relaxed) {
                let close = ::http::HeaderValue::from_static("close");
                reply.headers_mut().insert(::http::header::CONNECTION, close);
            }
            if reply.extensions().get::<Known>().is_some() {
                pass.lock().take();
            }
            Ok::<_, Infallible>(reply)
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        // C SDKs look for `Content-Length` in exactly this spelling.
        .title_case_headers(true)
        // What a slow client has not taken yet is held in here.
        .max_buf_size(HTTP_BUFFER_BYTES)
        .timer(TokioTimer::new())
        .header_read_timeout(patience)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let stopping = async move { closing.wait_for(|stop| *stop).await.map(|_| ()) };
    let outcome = tokio::select! {
        // A request that has come is answered, also if the stop comes at the same moment.
        biased;
        outcome = connection.as_mut() => outcome,
        _ = stopping => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(peer = %peer.remote, %error, "a connection ended");
    }
}

fn gateway_limits(config: &Config) -> subs::Limits {
    subs::Limits {
        subs: usize::try_from(config.gateway_subs_max).unwrap_or(0),
        batches: Batches {
            topo: config.gateway_topo_batch_max as usize,
            register: config.gateway_register_batch_max as usize,
            login: config.gateway_login_batch_max as usize,
        },
        logins_per_second: config.gateway_logins_per_second,
    }
}
