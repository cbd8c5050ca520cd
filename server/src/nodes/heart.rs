//! That this node lives, which others do, and what follows when one does not.
//!
//! A node beats once a second. One that has not beaten for the lease, while the others could, is taken out by whoever
//! notices: its devices are offline until they come back, and what was left for it is forgotten. If it was only cut off,
//! it finds at its next beat that it is taken out, lets its devices go and joins anew.

use super::mail;
use crate::app::App;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use updraft_core::id::DeviceNo;
use updraft_core::lookout::Lookout;
use updraft_core::time::SECOND_MS;
use updraft_store::{DeviceChange, LOGIN_BITS, Lane, StoreError};

/// How often a node beats, and looks for mail without being woken.
const BEAT: Duration = Duration::from_secs(1);
/// Who has not looked for so long knows nothing of the others' silence.
const GAP_MS: i64 = 3 * SECOND_MS;
/// Between two wake-ups of the others lies so much, however much happens.
const CALL_PAUSE: Duration = Duration::from_millis(50);
/// Devices that one transaction looks at for lost ones.
const LOST_CHUNK: i64 = 20_000;
/// Nonces that one transaction forgets.
const NONCES_CHUNK: i64 = 5_000;
/// Beats between two looks at the database's clock.
const CLOCK_BEATS: u64 = 30;
/// A look at the nodes that takes longer is one that failed: a database that does not answer must not keep a node from
/// noticing it.
const LOOK_WITHIN: Duration = Duration::from_secs(5);
/// The database's clock is read within this time, or it is not known what it said when.
const CLOCK_WAY_MS: i64 = 200;
/// Clocks that differ more than this are worth a word.
const CLOCK_OFF_MS: i64 = SECOND_MS;

/// A node's heart.
pub struct Heart {
    lookout: Lookout,
    origin: Instant,
    last_beat: Instant,
    beats: u64,
    /// Whether devices may be shown online at a node that is gone.
    strays: Arc<AtomicBool>,
    /// What marks those offline: of a million devices it takes longer than between two beats.
    clearing: Option<JoinHandle<()>>,
}

impl Heart {
    /// One that gives others up after this lease.
    pub fn new(lease_seconds: u32) -> Self {
        let now = Instant::now();
        let lookout = Lookout::new(i64::from(lease_seconds) * SECOND_MS, GAP_MS);
        let strays = Arc::new(AtomicBool::new(true));
        Self { lookout, origin: now, last_beat: now, beats: 0, strays, clearing: None }
    }
}

impl Heart {
    /// Begins to mark the devices of nodes that are gone offline, if there may be some.
    fn clear_strays(&mut self, app: &Arc<App>) {
        if !self.strays.swap(false, Ordering::Relaxed) {
            return;
        }
        let (app, strays) = (Arc::clone(app), Arc::clone(&self.strays));
        self.clearing = Some(tokio::spawn(async move {
            if let Err(error) = lost_offline(&app).await {
                tracing::debug!(%error, "the devices of nodes that are gone are not all marked offline yet");
                strays.store(true, Ordering::Relaxed);
            }
        }));
    }
}

/// Joins the nodes that serve the database; answers this node's number.
pub async fn join(app: &App) -> Result<i64, StoreError> {
    let (roles, shared) = (app.nodes.role().bits(), app.nodes.is_shared());
    let (name, now) = (app.config.node_name(), app.now());
    let joined = app.store.write(Lane::Interactive, move |tx| {
        if !shared {
            tx.nodes_clear()?;
        }
        let me = tx.node_join(&name, roles, env!("CARGO_PKG_VERSION"), now)?;
        Ok::<_, StoreError>((me, tx.nodes()?))
    });
    let (me, nodes) = joined.await?;
    app.nodes.joined(me);
    app.nodes.seen(&nodes);
    Ok(me)
}

/// Leaves the nodes that serve the database, once no device is connected: another one does this one's work at once.
pub async fn leave(app: &App) {
    let me = app.nodes.me();
    match app.store.write(Lane::Interactive, move |tx| tx.node_leave(me)).await {
        Ok(_) => call(app).await,
        Err(error) => tracing::warn!(%error, "this node could not say that it leaves: the others find out"),
    }
}

/// Beats, takes mail and wakes others until `stopped`.
pub async fn run(app: Arc<App>, mut stopped: watch::Receiver<bool>) {
    let woken = Arc::clone(&app.nodes.woken);
    let listening = {
        let (store, woken) = (Arc::clone(&app.store), Arc::clone(&woken));
        tokio::task::spawn_blocking(move || store.listen(move || woken.notify_one())).await
    };
    if let Ok(Err(error)) = &listening {
        tracing::error!(%error, "nobody wakes this node: it looks once a second");
    }
    let mut heart = Heart::new(app.config.node_lease_seconds);
    let mut beats = tokio::time::interval(BEAT);
    beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            stop = stopped.changed() => if stop.is_err() || *stopped.borrow() { break },
            _ = beats.tick() => beat(&app, &mut heart).await,
            () = woken.notified() => app.wake.notify_one(),
            () = app.nodes.calling.notified() => {
                call(&app).await;
                tokio::time::sleep(CALL_PAUSE).await;
            }
        }
        // A database that does not answer must not keep it from the next beat.
        let _ = tokio::time::timeout(LOOK_WITHIN, async { while mail::take(&app).await.unwrap_or(false) {} })
            .await;
    }
    // Its thread waits for a moment at a time.
    let _ = tokio::task::spawn_blocking(move || drop(listening)).await;
}

/// What a node that serves its database alone needs of all this, until `stopped`: somebody who tells PostgreSQL that a
/// table has grown. It knew of none of a million tasks that a batch had just made, and a plan took four times as long.
pub async fn watch_growth(app: Arc<App>, mut stopped: watch::Receiver<bool>) {
    let store = Arc::clone(&app.store);
    let listening = tokio::task::spawn_blocking(move || store.listen(|| ())).await;
    if let Ok(Err(error)) = &listening {
        tracing::error!(%error, "PostgreSQL learns only once a minute that a table has grown");
    }
    // An error says that whoever stops it is gone.
    let _ = stopped.wait_for(|stop| *stop).await;
    let _ = tokio::task::spawn_blocking(move || drop(listening)).await;
}

async fn call(app: &App) {
    // Nothing is lost if it fails: the others look once a second.
    let waking = app.store.ledger::<_, StoreError, _>(|tx| tx.nodes_wake());
    let _ = tokio::time::timeout(LOOK_WITHIN, waking).await;
}

/// One beat, and what follows from what it finds.
async fn beat(app: &Arc<App>, heart: &mut Heart) {
    let looked = tokio::time::timeout(LOOK_WITHIN, look(app, heart))
        .await
        .unwrap_or_else(|_| Err(StoreError::Unavailable("the database does not answer".to_owned())));
    match looked {
        Ok(()) => {
            heart.last_beat = Instant::now();
            heart.beats += 1;
            app.nodes.out_of_touch.store(false, Ordering::Relaxed);
            if app.nodes.cut_off.swap(false, Ordering::Relaxed) {
                tracing::info!("the database is reached again: devices may come back");
            }
        }
        Err(error) => {
            tracing::debug!(%error, "a beat failed");
            let silent = heart.last_beat.elapsed();
            let lease = Duration::from_secs(app.config.node_lease_seconds.into());
            if silent > lease && !app.nodes.out_of_touch.swap(true, Ordering::Relaxed) {
                tracing::error!(%error, seconds = silent.as_secs(), "the database is out of reach");
            }
            let most = Duration::from_secs(app.config.node_cut_off_seconds.into());
            // If the database is away from everybody, nobody is served elsewhere either; nobody here can tell.
            let elsewhere = app.nodes.has_other_gateways() && !most.is_zero();
            if elsewhere && silent > most && !app.nodes.cut_off.swap(true, Ordering::Relaxed) {
                tracing::error!(
                    seconds = silent.as_secs(),
                    "the database cannot be reached (`node_cut_off_seconds`): devices are sent to other nodes"
                );
                app.link.cut_off();
            }
        }
    }
}

async fn look(app: &Arc<App>, heart: &mut Heart) -> Result<(), StoreError> {
    let me = app.nodes.me();
    // Beside the writers: a beat that waited for its turn to write would tell of the others' load, not of this node.
    let (alive, nodes) =
        app.store.ledger(move |tx| Ok::<_, StoreError>((tx.node_beat(me)?, tx.nodes()?))).await?;
    if !alive {
        return rejoin(app).await;
    }
    heart.strays.fetch_or(app.nodes.seen(&nodes) > 0, Ordering::Relaxed);
    let others: Vec<(i64, i64)> =
        nodes.iter().filter(|node| node.id != me).map(|node| (node.id, node.beat)).collect();
    let silent = heart.lookout.look(&others, heart.origin.elapsed().as_millis() as i64);
    for id in silent {
        let Some(node) = nodes.iter().find(|node| node.id == id) else { continue };
        let (name, beat) = (node.name.as_str(), node.beat);
        if app.store.write(Lane::Interactive, move |tx| tx.node_give_up(id, beat)).await? {
            tracing::warn!(
                node = name,
                number = id,
                "a node gave no sign of life (`node_lease_seconds`): its devices are offline until they come back"
            );
            metrics::counter!("updraft_nodes_given_up_total").increment(1);
        }
        heart.strays.store(true, Ordering::Relaxed);
    }
    metrics::gauge!("updraft_nodes").set(nodes.len() as f64);
    if app.nodes.leads() && heart.clearing.as_ref().is_none_or(JoinHandle::is_finished) {
        heart.clear_strays(app);
    }
    if app.nodes.leads() {
        let now = app.now();
        app.store.ledger(move |tx| tx.nonces_forget(now, NONCES_CHUNK)).await?;
    }
    if heart.beats.is_multiple_of(CLOCK_BEATS) {
        compare_clocks(app).await?;
        if !app.nodes.has_worker() {
            tracing::error!("no node carries batches out: one with `role` worker or all is missing");
        }
    }
    Ok(())
}

/// The others had taken this node out: what it thinks of its devices is of before.
async fn rejoin(app: &Arc<App>) -> Result<(), StoreError> {
    tracing::error!(
        "the other nodes had given this one up: its devices are disconnected and may come back to any node"
    );
    let me = join(app).await?;
    // First the numbers: who logs in from now on is this node's.
    app.link.renumber(me << LOGIN_BITS);
    app.link.cut_off();
    Ok(())
}

/// Marks devices offline that are shown online at nodes that are gone.
pub async fn lost_offline(app: &Arc<App>) -> Result<(), StoreError> {
    let largest = app.store.read(|tx| tx.device_largest()).await?;
    let (mut after, mut lost) = (DeviceNo(0), 0);
    while after < largest {
        let upto = DeviceNo(after.0 + LOST_CHUNK);
        let shared = Arc::clone(app);
        lost += app
            .store
            .write(Lane::Bulk, move |tx| {
                let devices = tx.devices_lost_offline(after, upto, shared.now())?;
                tx.reviews_add_for_groups(DeviceChange::Status, &devices)?;
                Ok::<_, StoreError>(devices.len())
            })
            .await?;
        after = upto;
    }
    if lost > 0 {
        tracing::info!(devices = lost, "devices of nodes that are gone are offline until they come back");
        app.awaken();
    }
    Ok(())
}

async fn compare_clocks(app: &App) -> Result<(), StoreError> {
    let before = app.clock.now();
    let Some(theirs) = app.store.read(|tx| tx.clock()).await? else { return Ok(()) };
    let way_ms = app.clock.now().since_ms(before);
    if !(0..=CLOCK_WAY_MS).contains(&way_ms) {
        // A look at a watch that took so long tells nothing.
        return Ok(());
    }
    let off_ms = before.plus_ms(way_ms / 2).since_ms(theirs);
    metrics::gauge!("updraft_clock_off_seconds").set(off_ms as f64 / SECOND_MS as f64);
    app.nodes.clock_is_off(off_ms);
    if off_ms.abs() > CLOCK_OFF_MS {
        tracing::warn!(
            off_ms,
            "this node's clock is not the database server's, by which it goes as long as it runs; use NTP on both"
        );
    }
    Ok(())
}
