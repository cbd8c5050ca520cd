//! A thread that hears when another node has something for this one (PostgreSQL's LISTEN).
//!
//! What it hears carries nothing and may be lost: whoever is woken looks at the rows, and looks now and then anyway.
//!
//! While it waits it sees to it that PostgreSQL notices in time how fast a table has grown.

use crate::engine::postgres_error::error;
use crate::engine::postgres_tls::Target;
use crate::error::StoreError;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::runtime::Builder;
use tokio::sync::Notify;
use tokio_postgres::{AsyncMessage, Client};

/// How often it looks whether it is to end, and whether the connection lives.
const WAIT: Duration = Duration::from_millis(500);

/// The tables that have twice as many rows as PostgreSQL knows of. It looks for itself once a minute; until then it
/// plans for a table that was empty, and takes any index for as good as any other: ten thousand devices were looked for
/// by their names in all devices of the product, each. Below a thousand rows that does not matter.
const GROWN: &str = "
    SELECT format('%I', s.relname) FROM pg_stat_user_tables s JOIN pg_class c ON c.oid = s.relid
    WHERE s.schemaname = current_schema() AND s.n_live_tup >= 1000 AND s.n_live_tup >= 2 * c.reltuples";
/// How often is looked for them: PostgreSQL counts rows once a second.
const GROWN_EVERY: Duration = Duration::from_secs(1);
/// A database that takes longer for that is left alone by a new connection: this one hears nothing meanwhile.
const GROWN_WITHIN: Duration = Duration::from_secs(10);

/// Listens until it is dropped.
pub struct Listener {
    closed: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    pub(crate) fn start(url: String, woken: impl Fn() + Send + 'static) -> Result<Self, StoreError> {
        let cannot = |error| StoreError::Unavailable(format!("cannot listen for other nodes: {error}"));
        let runtime = Builder::new_current_thread().enable_all().build().map_err(cannot)?;
        let closed = Arc::new(AtomicBool::new(false));
        let ending = Arc::clone(&closed);
        let thread = std::thread::Builder::new()
            .name("store-listener".to_owned())
            .spawn(move || {
                while !ending.load(Ordering::Relaxed) {
                    // Whatever it waits for: the end does not.
                    let outcome = runtime.block_on(async {
                        tokio::select! {
                            outcome = listen(&url, &woken) => outcome,
                            () = ended(&ending) => Ok(()),
                        }
                    });
                    if let Err(error) = outcome {
                        tracing::debug!(%error, "the connection that listens for other nodes ended");
                        std::thread::park_timeout(WAIT);
                    }
                    // It may have missed something.
                    woken();
                }
            })
            .map_err(cannot)?;
        Ok(Self { closed, thread: Some(thread) })
    }
}

async fn listen(url: &str, woken: &impl Fn()) -> Result<(), StoreError> {
    let (client, mut connection) = Target::read(url)?.connect().await?;
    let heard = Arc::new(Notify::new());
    let hears = Arc::clone(&heard);
    // Its errors end it, and then the client is closed.
    tokio::spawn(async move {
        while let Some(Ok(message)) = std::future::poll_fn(|cx| connection.poll_message(cx)).await {
            if let AsyncMessage::Notification(_) = message {
                hears.notify_one();
            }
        }
    });
    client.batch_execute("LISTEN updraft").await.map_err(|why| error(&why))?;
    woken();
    let mut looked = Instant::now();
    loop {
        if looked.elapsed() >= GROWN_EVERY {
            tokio::select! {
                noticed = notice_growth(&client) => if let Err(why) = noticed {
                    // It only plans worse then; a connection that is gone shows below.
                    tracing::debug!(error = %error(&why), "PostgreSQL did not look at tables that have grown");
                },
                () = tokio::time::sleep(GROWN_WITHIN) => {
                    return Err(StoreError::Unavailable(format!("it did not answer within {GROWN_WITHIN:?}")));
                }
            }
            looked = Instant::now();
        }
        match tokio::time::timeout(WAIT, heard.notified()).await {
            Ok(()) => woken(),
            Err(_) if client.is_closed() => return Err(StoreError::Unavailable("it is gone".to_owned())),
            Err(_) => {}
        }
    }
}

async fn ended(ending: &AtomicBool) {
    while !ending.load(Ordering::Relaxed) {
        tokio::time::sleep(WAIT).await;
    }
}

/// Lets PostgreSQL look at tables that have grown; it takes a sample, and what is written goes on meanwhile.
async fn notice_growth(client: &Client) -> Result<(), tokio_postgres::Error> {
    for row in client.query(GROWN, &[]).await? {
        let table: String = row.try_get(0)?;
        // Another node may be at it.
        client.batch_execute(&format!("ANALYZE (SKIP_LOCKED) {table}")).await?;
    }
    Ok(())
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}
