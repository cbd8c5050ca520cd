//! A server as a service: what signals and systemd want of it.
//!
//! SIGTERM and Ctrl-C drain and stop, a second one stops at once; SIGHUP looks for new certificates. systemd
//! is told READY, RELOADING and STOPPING, and is greeted as often as its watchdog asks. Without systemd
//! nobody is told.

use crate::serve::Server;
use sd_notify::NotifyState;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The drain is not all of a stop: workers and database end after it.
const STOP_MARGIN_SECONDS: u32 = 30;

/// The signals that a server listens to. Made before the start, so that none of them kills it meanwhile.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    /// Listens. Must run inside a tokio runtime.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for a signal to stop.
    pub async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Runs a started server until a signal stops it.
///
/// # Errors
/// When a second signal cut the stop short.
pub async fn run(server: Server, mut signals: Signals) -> anyhow::Result<()> {
    tell(&[NotifyState::Ready]);
    let mut watchdog = Watchdog::of_systemd();
    loop {
        tokio::select! {
            _ = signals.terminate.recv() => break,
            _ = signals.interrupt.recv() => break,
            _ = signals.hang_up.recv() => {
                let since = NotifyState::monotonic_usec_now().unwrap_or(NotifyState::MonotonicUsec(0));
                tell(&[NotifyState::Reloading, since]);
                server.reload().await;
                tell(&[NotifyState::Ready]);
            }
            () = watchdog.due() => tell(&[NotifyState::Watchdog]),
            () = server.lost_database() => {
                tell(&[NotifyState::Stopping]);
                server.stop().await;
                anyhow::bail!(
                    "another updraft took the database while its server was away: two servers that each think \
                     themselves alone would undo one another's work; stop one of them"
                );
            }
        }
    }
    tracing::info!("draining; a second signal stops at once");
    let extension = server.drain_seconds().saturating_add(STOP_MARGIN_SECONDS).saturating_mul(1_000_000);
    tell(&[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(extension)]);
    let mut stop = std::pin::pin!(server.stop());
    loop {
        tokio::select! {
            () = &mut stop => return Ok(()),
            _ = signals.terminate.recv() => break,
            _ = signals.interrupt.recv() => break,
            _ = signals.hang_up.recv() => {}
            () = watchdog.due() => tell(&[NotifyState::Watchdog]),
        }
    }
    anyhow::bail!("a second signal cut the stop short; nothing that was acknowledged is lost")
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd could not be told");
    }
}

/// The clock of systemd's watchdog. It runs where connections are served, so that it stops when they do.
struct Watchdog(Option<tokio::time::Interval>);

impl Watchdog {
    fn of_systemd() -> Self {
        let every = sd_notify::watchdog_enabled().map(|limit| (limit / 2).max(Duration::from_millis(1)));
        Self(every.map(tokio::time::interval))
    }

    async fn due(&mut self) {
        match &mut self.0 {
            Some(interval) => {
                interval.tick().await;
            }
            None => std::future::pending().await,
        }
    }
}
