//! Who may serve a database: one server alone, or several nodes that share it.
//!
//! A server that serves alone marks every device offline when it starts and keeps files in a folder of its own: beside
//! it there must be no other. Nodes of one installation share a PostgreSQL database; beside them there must be no
//! server that thinks itself alone.

use crate::engine::postgres::PgConn;
use crate::error::StoreError;
use crate::{Location, migrate};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often a session that holds a claim is looked after.
const LOOK: Duration = Duration::from_secs(1);

/// The right to serve a database; it ends when this is dropped, or with the process.
pub struct Claim {
    kind: Kind,
    lost: Arc<AtomicBool>,
}

/// Whom a claim keeps out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Everybody.
    Alone,
    /// Only who wants to serve alone.
    WithNodes,
}

enum Kind {
    Nothing,
    File { _locked: File },
    Session { release: Option<mpsc::Sender<()>>, thread: Option<JoinHandle<()>> },
}

impl Claim {
    /// Claims a database, or says that another server has it. Blocks.
    ///
    /// # Errors
    /// SQLite is served by one process alone.
    pub fn take(location: &Location, sharing: Sharing) -> Result<Self, StoreError> {
        let lost = Arc::new(AtomicBool::new(false));
        let kind = match location {
            Location::Inline => Kind::Nothing,
            Location::Sqlite(_) if sharing == Sharing::WithNodes => {
                let words = "several nodes need a PostgreSQL database: SQLite is served by one process";
                return Err(StoreError::Unavailable(words.to_owned()));
            }
            Location::Sqlite(path) => {
                let lock = lock_of(path);
                let file = File::create(&lock).map_err(|error| {
                    StoreError::Unavailable(format!("cannot write {}: {error}", lock.display()))
                })?;
                file.try_lock().map_err(|_| taken())?;
                Kind::File { _locked: file }
            }
            Location::Postgres(url) => session(url.clone(), sharing, Arc::clone(&lost))?,
        };
        Ok(Self { kind, lost })
    }

    /// Whether another server took the database while the database server was away, so that this one must end.
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    /// What [`Claim::is_lost`] asks, for whoever watches.
    pub fn watch(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.lost)
    }

    /// Says that another server has a database, where that is known without opening it. Claims nothing.
    pub fn look(location: &Location) -> Result<(), StoreError> {
        match location {
            Location::Sqlite(path) if Self::is_taken(path) => Err(taken()),
            Location::Sqlite(_) | Location::Postgres(_) | Location::Inline => Ok(()),
        }
    }

    /// Whether somebody serves the database in this file. The lock is tried for an instant and let go again.
    pub(crate) fn is_taken(path: &Path) -> bool {
        File::open(lock_of(path))
            .is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }
}

fn lock_of(path: &Path) -> PathBuf {
    let mut lock = path.as_os_str().to_owned();
    lock.push(".lock");
    PathBuf::from(lock)
}

fn taken() -> StoreError {
    StoreError::Unavailable("another updraft serves this database; stop it first".to_owned())
}

fn shared_out() -> StoreError {
    StoreError::Unavailable(
        "another updraft serves this database and keeps its files to itself, or would have to: nodes that share a \
         database share their files, too (`blobs_url`); stop it first, or give both of them the same `blobs_url`"
            .to_owned(),
    )
}

/// Holds an advisory lock in a session on a thread of its own: clients must not live inside async code. The lock goes
/// when the database server does, so it is taken again then, or found to be somebody else's.
fn session(url: String, sharing: Sharing, lost: Arc<AtomicBool>) -> Result<Kind, StoreError> {
    let (release, released) = mpsc::channel::<()>();
    let (report, outcome) = mpsc::channel();
    let thread = std::thread::Builder::new()
        .name("store-claim".to_owned())
        .spawn(move || {
            let mut conn = match lock(&url, sharing) {
                Ok(Some(conn)) => conn,
                refused => {
                    let _ = report.send(refused.and(Err(refusal(sharing))));
                    return;
                }
            };
            let _ = report.send(Ok(()));
            while released.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                if conn.batch("").is_ok() {
                    continue;
                }
                match lock(&url, sharing) {
                    Ok(Some(again)) => conn = again,
                    Ok(None) => {
                        lost.store(true, Ordering::Relaxed);
                        return;
                    }
                    // The server is away; nobody else has the database either.
                    Err(error) => tracing::debug!(%error, "the claim to the database cannot be renewed yet"),
                }
            }
        })
        .map_err(|error| StoreError::Unavailable(format!("cannot start a thread: {error}")))?;
    outcome.recv().map_err(|_| StoreError::Internal("claiming the database panicked".to_owned()))??;
    Ok(Kind::Session { release: Some(release), thread: Some(thread) })
}

fn refusal(sharing: Sharing) -> StoreError {
    match sharing {
        Sharing::Alone => taken(),
        Sharing::WithNodes => shared_out(),
    }
}

/// A session with the lock, which also says which schema this program knows; `None`: somebody has it.
fn lock(url: &str, sharing: Sharing) -> Result<Option<PgConn>, StoreError> {
    let sql = match sharing {
        Sharing::Alone => {
            "SELECT CASE WHEN pg_try_advisory_lock(hashtext('updraft.serve'))
                         THEN CAST(1 AS BIGINT) ELSE CAST(0 AS BIGINT) END"
        }
        Sharing::WithNodes => {
            "SELECT CASE WHEN pg_try_advisory_lock_shared(hashtext('updraft.serve'))
                         THEN CAST(1 AS BIGINT) ELSE CAST(0 AS BIGINT) END"
        }
    };
    let mut conn = PgConn::connect(url)?;
    let mut got = false;
    conn.query(sql, &[], &mut |row| {
        got = row.flag(0)?;
        Ok(())
    })?;
    if !got {
        return Ok(None);
    }
    // So that whoever would change the schema learns who could not work on another one; nobody is kept out by it.
    let knows = migrate::known();
    conn.batch(&format!("SELECT pg_advisory_lock_shared(hashtext('updraft.knows'), {knows})"))?;
    Ok(Some(conn))
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Kind::Session { release, thread } = &mut self.kind {
            drop(release.take());
            if let Some(thread) = thread.take() {
                let _ = thread.join();
            }
        }
    }
}
