//! Watches whether the database takes writes, and learns by itself when it does again.
//!
//! A full disk, one that turned read-only or a database server that is away is noticed by whoever writes. `/readyz`
//! says so, and a load balancer that looks there sends nobody any more: so nobody would write and find that all is
//! well. This does.

use crate::app::App;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use updraft_store::StoreError;

/// How often it is looked.
const LOOK: Duration = Duration::from_secs(1);

/// Watches until `stopped`.
pub async fn run(app: Arc<App>, mut stopped: watch::Receiver<bool>) {
    loop {
        look(&app).await;
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            _ = stopped.wait_for(|stop| *stop) => return,
        }
    }
}

/// One look: tries a write if the last one failed.
async fn look(app: &App) {
    let writable = match app.store.trouble() {
        None => true,
        Some(StoreError::Damaged(_)) => false,
        Some(_) => app.store.probe().await.is_ok(),
    };
    metrics::gauge!("updraft_database_writable").set(f64::from(u8::from(writable)));
}

/// Why the server is not ready, if the database is the reason.
pub fn why_not_ready(app: &App) -> Option<String> {
    let trouble = app.store.trouble()?;
    let advice = match trouble {
        StoreError::Damaged(_) => "stop the server and restore the last backup",
        StoreError::Full(_) => "make room, and it goes on by itself",
        _ => "it goes on by itself when that ends",
    };
    Some(format!("not ready: {trouble}; {advice}\n"))
}
