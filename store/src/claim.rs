//! One server per database: a second one would mark every device offline and run a second engine.

use crate::Location;
use crate::engine::postgres::PgConn;
use crate::error::StoreError;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::JoinHandle;

/// The sole right to serve a database; it ends when this is dropped, or with the process.
pub struct Claim {
    kind: Kind,
}

enum Kind {
    Nothing,
    File { _locked: File },
    Session { release: Option<mpsc::Sender<()>>, thread: Option<JoinHandle<()>> },
}

impl Claim {
    /// Claims a database, or says that another server has it. Blocks.
    pub fn take(location: &Location) -> Result<Self, StoreError> {
        let kind = match location {
            Location::Inline => Kind::Nothing,
            Location::Sqlite(path) => {
                let lock = lock_of(path);
                let file = File::create(&lock).map_err(|error| {
                    StoreError::Unavailable(format!("cannot write {}: {error}", lock.display()))
                })?;
                file.try_lock().map_err(|_| taken())?;
                Kind::File { _locked: file }
            }
            Location::Postgres(url) => session(url.clone())?,
        };
        Ok(Self { kind })
    }
}

impl Claim {
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

/// Holds an advisory lock in a session on a thread of its own: clients must not live inside async code.
fn session(url: String) -> Result<Kind, StoreError> {
    let (release, released) = mpsc::channel::<()>();
    let (report, outcome) = mpsc::channel();
    let thread = std::thread::Builder::new()
        .name("store-claim".to_owned())
        .spawn(move || {
            let claimed = PgConn::connect(&url).and_then(|mut conn| {
                let mut got = false;
                let sql = "SELECT CASE WHEN pg_try_advisory_lock(hashtext('updraft.serve'))
                                       THEN CAST(1 AS BIGINT) ELSE CAST(0 AS BIGINT) END";
                conn.query(sql, &[], &mut |row| {
                    got = row.flag(0)?;
                    Ok(())
                })?;
                if got { Ok(conn) } else { Err(taken()) }
            });
            match claimed {
                Ok(_conn) => {
                    let _ = report.send(Ok(()));
                    // Until the claim is dropped.
                    let _ = released.recv();
                }
                Err(error) => {
                    let _ = report.send(Err(error));
                }
            }
        })
        .map_err(|error| StoreError::Unavailable(format!("cannot start a thread: {error}")))?;
    outcome.recv().map_err(|_| StoreError::Internal("claiming the database panicked".to_owned()))??;
    Ok(Kind::Session { release: Some(release), thread: Some(thread) })
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
