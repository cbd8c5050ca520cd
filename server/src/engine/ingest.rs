//! What devices did, taken in groups: one transaction for all messages that came in while the last one was
//! committed.
//!
//! One queue keeps the order of a device's messages. A message is acknowledged to its device only after its
//! group is durable.

mod taker;

pub use taker::Taker;

use crate::api::device::register_device::SEAL_PURPOSE;
use crate::app::App;
use crate::device::gateway::{Answer, Request};
use crate::device::link::{
    Backend, Block, CertifiedDevice, DeviceEvent, Downlink, Happened, KnownDevice, Named, NoBlock, Package,
    Unavailable, Wanted,
};
use crate::device::register;
use crate::engine;
use crate::engine::advance::{Door, Effects, Unmatched};
use crate::files::block;
use crate::files::pace::Pace;
use crate::nodes::mail;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use updraft_core::device::DEFAULT_MODULE;
use updraft_core::id::{DeviceNo, TaskNo};
use updraft_core::limits::MODULES_PER_DEVICE_MAX;
use updraft_core::task::{Event, TaskStatus};
use updraft_core::time::Timestamp;
use updraft_core::topo::Refused;
use updraft_store::{DeviceChange, DeviceLogin, DevicePlace, Lane, OnlineDevice, StoreError, Tx, node_of};

/// Messages waiting for their group; beyond it connections stop reading.
const QUEUE_MAX: usize = 8_192;
/// Messages of one group.
const GROUP_MAX: usize = 1_000;

/// Events of one connection, and where to say that they are durable.
pub struct Delivery {
    events: Vec<Happened>,
    done: oneshot::Sender<Result<(), Unavailable>>,
}

/// The way from the device endpoint into the engine.
pub struct Ingest {
    app: Arc<App>,
    queue: mpsc::Sender<Delivery>,
}

impl Ingest {
    /// The door for the endpoint, and the queue that [`run`] empties.
    pub fn new(app: Arc<App>) -> (Self, mpsc::Receiver<Delivery>) {
        let (queue, deliveries) = mpsc::channel(QUEUE_MAX);
        (Self { app, queue }, deliveries)
    }
}

impl Backend for Ingest {
    async fn login(&self, product_key: &str, device_name: &str) -> Result<Named, Unavailable> {
        let names = (product_key.to_owned(), device_name.to_owned());
        let found = self
            .app
            .store
            .glance(move |tx| tx.device_login(&names.0, &names.1))
            .await
            .map_err(|error| unavailable(&error))?;
        let (no, sealed, disabled, token, is_gateway, certified) = match found {
            None => return Ok(Named::Unknown),
            Some(DeviceLogin::Deleted) => return Ok(Named::Deleted),
            Some(DeviceLogin::Known {
                device,
                secret_sealed,
                disabled,
                token,
                is_gateway,
                certified,
                ..
            }) => (device, secret_sealed, disabled, token, is_gateway, certified),
        };
        match self.app.master.open(SEAL_PURPOSE, &sealed) {
            Ok(secret) => {
                Ok(Named::Known(KnownDevice { no, secret, token, disabled, is_gateway, certified }))
            }
            Err(error) => {
                tracing::error!(device = no.0, %error, "a device cannot log in");
                Err(Unavailable)
            }
        }
    }

    async fn register(&self, asked: register::Asked) -> Result<register::Given, register::Refusal> {
        register::register(&self.app, asked).await
    }

    async fn certified(&self, serial: &str) -> Result<Option<CertifiedDevice>, Unavailable> {
        let serial = serial.to_owned();
        let found = self.app.store.read(move |tx| tx.device_certified(&serial)).await;
        found.map_err(|error| unavailable(&error))
    }

    async fn happened(&self, events: Vec<Happened>) -> Result<(), Unavailable> {
        let (done, answer) = oneshot::channel();
        self.queue.send(Delivery { events, done }).await.map_err(|_| Unavailable)?;
        answer.await.map_err(|_| Unavailable)?
    }

    async fn gateway(
        &self,
        gateway: DeviceNo,
        request: Request,
    ) -> Result<Result<Answer, Refused>, Unavailable> {
        engine::gateway::answer(&self.app, gateway, request).await.map_err(|error| unavailable(&error))
    }

    async fn block(&self, device: DeviceNo, wanted: Wanted) -> Result<Block, NoBlock> {
        block::read(&self.app, device, wanted).await
    }

    fn block_pace(&self) -> Option<Pace> {
        self.app.bandwidth.pace()
    }
}

fn unavailable(error: &StoreError) -> Unavailable {
    tracing::error!(%error, "the database did not take what a device sent");
    Unavailable
}

/// Takes deliveries in groups until the endpoint is gone. Once `stopped`, it waits for no database.
pub async fn run(
    app: Arc<App>,
    mut deliveries: mpsc::Receiver<Delivery>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut taker = Taker::new(Arc::clone(&app));
    let mut group = Vec::new();
    loop {
        let next = deliveries.recv_many(&mut group, GROUP_MAX);
        let count = if taker.owes() {
            timeout(Duration::from_millis(engine::FAILED_MS.unsigned_abs()), next).await.ok()
        } else {
            Some(next.await)
        };
        if count == Some(0) {
            return;
        }
        let events: Vec<Happened> = group.iter().flat_map(|delivery| delivery.events.clone()).collect();
        let outcome = taker.take_patiently(events, &mut stopped).await;
        match outcome {
            Err(error) if !error.is_retryable() && group.len() > 1 => {
                // One message that the database cannot stomach must not take its neighbours along.
                tracing::error!(%error, messages = group.len(), "a group failed; each message is taken alone");
                for delivery in group.drain(..) {
                    let alone = taker.take(delivery.events).await.map_err(|error| unavailable(&error));
                    let _ = delivery.done.send(alone);
                }
            }
            outcome => {
                let answer = outcome.map_err(|error| unavailable(&error));
                for delivery in group.drain(..) {
                    // The connection may be gone by now; what it sent stands.
                    let _ = delivery.done.send(answer);
                }
            }
        }
    }
}

/// Takes events in one transaction and performs their effects.
pub async fn take(app: &Arc<App>, events: Vec<Happened>) -> Result<(), StoreError> {
    let shared = Arc::clone(app);
    metrics::counter!("updraft_device_events_total").increment(events.len() as u64);
    engine::write(app, Lane::Interactive, move |tx| {
        let (events, overtaken) = without_overtaken(tx, &shared, &events)?;
        let mut effects = decide(tx, &shared, &events, shared.now())?;
        effects.unmatched.extend(overtaken);
        Ok(((), effects))
    })
    .await
}

/// Leaves out what devices told this node before they logged in at another one, and that waited here for the database
/// meanwhile: what they told there since is newer, and nobody waits for an answer here. Once they have logged in here
/// again, it counts.
fn without_overtaken<'a>(
    tx: &mut Tx<'_>,
    app: &App,
    events: &'a [Happened],
) -> Result<(Cow<'a, [Happened]>, Vec<Unmatched>), StoreError> {
    let told = |happened: &Happened| {
        !matches!(
            happened.event,
            DeviceEvent::Online { .. } | DeviceEvent::Through { .. } | DeviceEvent::Offline { .. }
        )
    };
    let mut telling: BTreeSet<DeviceNo> =
        events.iter().filter(|happened| told(happened)).map(|happened| happened.device).collect();
    for Happened { device, event } in events {
        if let DeviceEvent::Online { .. } = event {
            telling.remove(device);
        }
    }
    if !app.nodes.is_shared() || telling.is_empty() {
        return Ok((Cow::Borrowed(events), Vec::new()));
    }
    let places = mail::places(tx, &telling.into_iter().collect::<Vec<_>>())?;
    let elsewhere = |place: &DevicePlace| place.session > 0 && app.nodes.is_other(place.node());
    let overtaken =
        |happened: &Happened| told(happened) && places.get(&happened.device).is_some_and(elsewhere);
    if !events.iter().any(overtaken) {
        return Ok((Cow::Borrowed(events), Vec::new()));
    }
    let (late, rest): (Vec<Happened>, Vec<Happened>) = events.iter().cloned().partition(overtaken);
    let why = "the device has logged in at another node since";
    Ok((Cow::Owned(rest), late.iter().filter_map(|happened| unheard(happened, why)).collect()))
}

/// What became of what a device said over HTTP.
pub enum Spoken {
    /// It may not speak: it is disabled or deleted.
    Barred,
    /// It is taken.
    Taken,
    /// It was a question: there is a package, or nothing to do.
    Answered(Option<Arc<Package>>),
}

/// Takes what a device says that waits for its answer itself: by the same rules, but the answer does not go down its
/// connection.
pub async fn speak(app: &Arc<App>, happened: Happened) -> Result<Spoken, StoreError> {
    let shared = Arc::clone(app);
    metrics::counter!("updraft_device_events_total").increment(1);
    engine::write(app, Lane::Interactive, move |tx| {
        let mut effects = decide(tx, &shared, std::slice::from_ref(&happened), shared.now())?;
        let barred = effects.kicked.contains(&happened.device);
        let mut spoken = if barred { Spoken::Barred } else { Spoken::Taken };
        effects.downlinks.retain(|(_, downlink)| match downlink {
            Downlink::PullReply { package, .. } => {
                spoken = Spoken::Answered(package.as_ref().map(|(_, _, package)| Arc::clone(package)));
                false
            }
            _ => true,
        });
        Ok((spoken, effects))
    })
    .await
}

/// Notes that a device logged in without a connection.
pub async fn visit(app: &Arc<App>, device: DeviceNo, ip: String) -> Result<(), StoreError> {
    let shared = Arc::clone(app);
    app.store
        .write(Lane::Interactive, move |tx| {
            if tx.device_visited(device, &ip, shared.now())? {
                tx.reviews_add_for_groups(DeviceChange::Status, &[device])?;
            }
            Ok(())
        })
        .await
}

/// Devices, modules and the versions that they run.
type Reports = Vec<(DeviceNo, String, String)>;

/// Takes what devices did that may be connected. A login can race with the end of its device, or of its place behind a
/// gateway: the database decides, here, and who comes too late is sent away. Their `Offline` counts, if they were ever
/// online.
fn decide(tx: &mut Tx<'_>, app: &App, events: &[Happened], now: Timestamp) -> Result<Effects, StoreError> {
    let mut devices: Vec<DeviceNo> = events.iter().map(|happened| happened.device).collect();
    devices.sort_unstable();
    devices.dedup();
    let barred: BTreeSet<DeviceNo> = tx.devices_barred(&devices)?.into_iter().collect();
    let strays = strays(tx, events)?;
    if barred.is_empty() && strays.is_empty() {
        return decide_allowed(tx, app, events, now);
    }
    let allowed = |happened: &&Happened| match happened.event {
        DeviceEvent::Offline { .. } => true,
        // A stray's other connection, if it has one, is no business of its gateway's.
        DeviceEvent::Online { session, .. } if strays.contains(&(happened.device, session)) => false,
        _ => !barred.contains(&happened.device),
    };
    let allowed: Vec<Happened> = events.iter().filter(allowed).cloned().collect();
    let mut effects = decide_allowed(tx, app, &allowed, now)?;
    effects.unmatched.extend(
        events
            .iter()
            .filter(|happened| barred.contains(&happened.device))
            .filter_map(|happened| unheard(happened, "the device is disabled or deleted")),
    );
    effects.kicked.extend(barred);
    effects.logged_out.extend(strays.into_iter().map(|(device, _)| device));
    Ok(effects)
}

/// Something about an update that a device says and that does not count.
fn unheard(happened: &Happened, why: &'static str) -> Option<Unmatched> {
    let (event, module) = match &happened.event {
        DeviceEvent::Report { module, version } => (Event::Version(version), module),
        DeviceEvent::Progress { module, percent, desc } => {
            (Event::Progress { percent: *percent, desc }, module)
        }
        DeviceEvent::Failure { module, step, desc } => (Event::Failure { step: *step, desc }, module),
        DeviceEvent::Pull { module, .. } => (Event::Pull, module),
        DeviceEvent::Online { .. }
        | DeviceEvent::Through { .. }
        | DeviceEvent::Listening
        | DeviceEvent::Offline { .. } => return None,
    };
    Some(Unmatched {
        device: happened.device,
        event: event.name(),
        why,
        module: module.clone(),
        remember: false,
    })
}

/// The logins through gateways that the devices are not behind.
fn strays(tx: &mut Tx<'_>, events: &[Happened]) -> Result<BTreeSet<(DeviceNo, i64)>, StoreError> {
    let mut logins = BTreeSet::new();
    let mut pairs = Vec::new();
    for Happened { device, event } in events {
        if let DeviceEvent::Through { session, gateway } = event {
            logins.insert((*device, *session));
            pairs.push((*device, *gateway));
        }
    }
    if pairs.is_empty() {
        return Ok(logins);
    }
    let strays = tx.topo_strays(&pairs)?;
    logins.retain(|(device, _)| strays.contains(device));
    Ok(logins)
}

fn decide_allowed(
    tx: &mut Tx<'_>,
    app: &App,
    events: &[Happened],
    now: Timestamp,
) -> Result<Effects, StoreError> {
    let taken_over = presence(tx, app, events, now)?;
    // `default` beside as many as a product may have.
    let modules_max = app.config.module_max.saturating_add(1).max(MODULES_PER_DEVICE_MAX);
    let (reports, surplus) = reports(tx, events, modules_max)?;
    tx.versions_put(&reports, now)?;
    let reporting: Vec<DeviceNo> = reports.iter().map(|(device, ..)| *device).collect();
    let noted = tx.reviews_add_for_policies(&reporting)?;
    tx.reviews_add_for_groups(DeviceChange::Version, &reporting)?;
    let mut devices: Vec<DeviceNo> = events
        .iter()
        .filter(|happened| {
            !matches!(
                happened.event,
                DeviceEvent::Online { .. } | DeviceEvent::Through { .. } | DeviceEvent::Offline { .. }
            )
        })
        .map(|happened| happened.device)
        .collect();
    devices.sort_unstable();
    devices.dedup();
    let mut door = Door::open(tx, app, now);
    door.load_devices(&devices)?;
    for said in surplus {
        door.note(said);
    }
    for happened in events {
        one(&mut door, happened)?;
    }
    let mut effects = door.close()?;
    effects.wake |= noted;
    effects.mailed |= taken_over;
    Ok(effects)
}

/// Writes who came and went. Of several logins of a device only the last one counts. Answers whether another node is to
/// end a login.
fn presence(tx: &mut Tx<'_>, app: &App, events: &[Happened], now: Timestamp) -> Result<bool, StoreError> {
    let mut online: BTreeMap<DeviceNo, OnlineDevice> = BTreeMap::new();
    let mut offline = Vec::new();
    for Happened { device, event } in events {
        match event {
            // Its node was given up meanwhile, and has ended the connection since.
            DeviceEvent::Online { session, .. } if app.nodes.is_past(node_of(*session)) => {}
            DeviceEvent::Online { session, ip } => {
                let newer = online.get(device).is_none_or(|known| known.session < *session);
                if newer {
                    let login = OnlineDevice { device: *device, session: *session, ip: ip.clone() };
                    online.insert(*device, login);
                }
            }
            DeviceEvent::Offline { session } => offline.push((*device, *session)),
            _ => {}
        }
    }
    let changed: Vec<DeviceNo> =
        online.keys().copied().chain(offline.iter().map(|(device, _)| *device)).collect();
    let arrived: Vec<DeviceNo> = online.keys().copied().collect();
    let taken_over = mail::take_over(tx, app, &arrived)?;
    tx.devices_online(&online.into_values().collect::<Vec<_>>(), now)?;
    tx.devices_offline(&offline, now)?;
    tx.reviews_add_for_groups(DeviceChange::Status, &changed)?;
    Ok(taken_over)
}

/// The version reports to remember, and those that are not: a device may invent only so many module names.
fn reports(
    tx: &mut Tx<'_>,
    events: &[Happened],
    modules_max: i64,
) -> Result<(Reports, Vec<Unmatched>), StoreError> {
    let (mut reports, mut surplus) = (Vec::new(), Vec::new());
    let mut new_modules: BTreeSet<(DeviceNo, &str)> = BTreeSet::new();
    for Happened { device, event } in events {
        let DeviceEvent::Report { module, version } = event else { continue };
        if module != DEFAULT_MODULE && tx.version_find(*device, module)?.is_none() {
            new_modules.insert((*device, module));
            let new = new_modules.range((*device, "")..).take_while(|(of, _)| of == device).count();
            if tx.version_count(*device)? + new as i64 > modules_max {
                new_modules.remove(&(*device, module.as_str()));
                surplus.push(Unmatched {
                    device: *device,
                    event: Event::Version(version).name(),
                    why: "the device has reported as many modules as it may",
                    module: module.clone(),
                    remember: true,
                });
                continue;
            }
        }
        reports.push((*device, module.clone(), version.clone()));
    }
    Ok((reports, surplus))
}

fn one(door: &mut Door<'_, '_>, happened: &Happened) -> Result<(), StoreError> {
    let device = happened.device;
    match &happened.event {
        DeviceEvent::Online { .. } | DeviceEvent::Through { .. } | DeviceEvent::Offline { .. } => Ok(()),
        DeviceEvent::Listening => door.offer_all(device),
        DeviceEvent::Report { module, version } => {
            for task in door.tasks_of(device, module) {
                door.apply(task, &Event::Version(version))?;
            }
            Ok(())
        }
        DeviceEvent::Progress { module, percent, desc } => {
            let event = Event::Progress { percent: *percent, desc };
            about_current(door, device, module, &event)
        }
        DeviceEvent::Failure { module, step, desc } => {
            let event = Event::Failure { step: *step, desc };
            about_current(door, device, module, &event)
        }
        DeviceEvent::Pull { module, asked } => door.answer_pull(device, module, asked),
    }
}

fn about_current(
    door: &mut Door<'_, '_>,
    device: DeviceNo,
    module: &str,
    event: &Event<'_>,
) -> Result<(), StoreError> {
    let Some(task) = current(door, device, module) else {
        door.in_vain(device, event, module, true);
        return Ok(());
    };
    door.apply(task, event).map(|_| ())
}

/// The task that a progress message belongs to: it carries no version, so it is the one that the device was
/// told of, else the oldest open one. Without one the message is ignored, as the platform does.
fn current(door: &Door<'_, '_>, device: DeviceNo, module: &str) -> Option<TaskNo> {
    let open: Vec<TaskNo> = door
        .tasks_of(device, module)
        .into_iter()
        .filter(|task| door.status(*task).is_some_and(TaskStatus::is_open))
        .collect();
    let told =
        |task: &&TaskNo| matches!(door.status(**task), Some(TaskStatus::Notified | TaskStatus::InProgress));
    open.iter().find(told).or_else(|| open.first()).copied()
}
