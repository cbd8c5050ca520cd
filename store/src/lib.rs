//! Updraft's memory: all SQL, and no rules.
//!
//! # How it is used
//!
//! [`Store::write`] and [`Store::read`] take plain synchronous closures: loading, deciding (core) and
//! applying are one piece of straight code in one transaction. Closures are `Fn`: a group of writes that a
//! full disk took back is run again, so a closure must not have effects of its own. Effects go into the
//! `after` of [`Store::write_then`], which runs right after the commit, in commit order.
//!
//! # How to add a query
//!
//! Write a method on [`Tx`] in the file of its table, named noun first (`job_find`, `tasks_apply`). One text
//! of SQL serves both engines (`?1` placeholders, 64-bit integers, texts, blobs). Methods on hot paths take
//! and return sets and use a `Hot` statement, which has a second text with `unnest` for PostgreSQL. Then add a
//! case to `tests/suite`: it runs on both engines.

mod access_key;
mod account;
mod apply;
mod audit;
mod backup;
mod browse;
mod candidate;
mod certificate;
mod claim;
mod count;
mod database;
mod device;
mod device_count;
mod device_life;
mod device_tag;
mod engine;
mod error;
mod explain;
mod file;
mod firmware;
mod firmware_end;
mod group;
mod group_dynamic;
mod group_member;
mod health;
mod instance;
mod job;
mod job_list;
mod job_update;
mod job_work;
mod ledger;
mod listen;
mod location;
mod look;
mod migrate;
mod module;
mod node;
#[cfg(test)]
mod plan;
mod policy;
mod product;
mod product_tag;
mod queue;
mod ram_user;
mod registration;
mod review;
mod sound;
mod sts_key;
mod survey;
mod task;
mod task_history;
mod topo;
mod transfer;
mod trouble;
mod tx;
mod value;
mod vital;
mod writer;

pub use access_key::{AccessKey, KeyHolder, ListedKey};
pub use apply::{Apply, ApplyDevice, ApplyName, NewApply};
pub use audit::{AuditFilter, AuditLine, AuditWorth, ScannedLine};
pub use backup::{NamedBlob, snapshot};
pub use browse::{
    BrowseFilter, BrowsedDevice, BrowsedFirmware, BrowsedJob, BrowsedProduct, BrowsedTask, DeviceFilter,
    Place,
};
pub use candidate::Candidate;
pub use certificate::{CertifiedDevice, DeviceAuthority, DeviceCertificate};
pub use claim::{Claim, Sharing};
pub use device::{Device, NewDevice, OnlineDevice};
pub use device_count::{Counted, PieceCounts};
pub use device_life::{DeviceLogin, DeviceToken};
pub use device_tag::{TagAsked, TagPlace, TaggedDevice};
pub use error::StoreError;
pub use explain::{DeviceRefusals, ReportedVersion};
pub use file::{UnusedFile, UploadNoted, UploadedFile};
pub use firmware::{Firmware, FirmwareChanges, FirmwareFile, NewFirmware};
pub use group::{Group, GroupFilter, NewGroup};
pub use group_dynamic::{DeviceChange, GroupRule, GroupWalk};
pub use group_member::{Member, MemberCounts, MemberTraits, Membership};
pub use health::{Health, Integrity, examine, examine_for_start};
pub use instance::Instance;
pub use job::{FirmwareJobs, Job, ListedJob, NewJob, RetryRule};
pub use job_update::{FormerTerms, JobUpdate};
pub use listen::Listener;
pub use location::Location;
pub use look::TaskMark;
pub use module::Module;
pub use node::{DevicePlace, LOGIN_BITS, Mail, Node, node_of};
pub use policy::EarlierTask;
pub use product::{NewProduct, Product};
pub use queue::Lane;
pub use ram_user::RamUser;
pub use registration::{Credentials, Registrant, RegistrantDevice, TokenHolder};
pub use sts_key::{StsHolder, StsKey};
pub use survey::{PastTask, StandingTask};
pub use task::{DueAt, ListedTask, OpenTask, TaskFilter};
pub use task_history::Refusals;
pub use topo::{Gateway, SubDevice};
pub use transfer::{
    Begun, SameTable, TRANSFER_CHUNK_ROWS, TransferError, TransferProgress, Transferred, transfer,
    transfer_verify,
};
pub use trouble::Trouble;
pub use tx::Tx;

use crate::database::{Database, Kind};
use crate::engine::{postgres::PgConn, sqlite};
use crate::queue::{Queue, Typed};
use crate::trouble::Fuse;
use crate::vital::Vital;
use crate::writer::{Connect, LEDGER, READS, WRITES, Work, run_group};
use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::sync::oneshot;

/// Threads that answer reads on PostgreSQL.
const POSTGRES_READERS: usize = 4;
/// Threads that write the ledger on PostgreSQL; each connects when it first has something to do.
const POSTGRES_LEDGERS: usize = 4;
/// Idle SQLite read connections that are kept.
const SQLITE_READERS_MAX: usize = 8;

/// The database, whichever it is.
pub struct Store {
    mode: Mode,
    vital: Arc<Vital>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

enum Mode {
    /// A file: one writer thread, readers in the caller's thread (a point read takes microseconds).
    Sqlite { path: PathBuf, queue: Arc<Queue>, readers: Mutex<Vec<Database>> },
    /// One connection in memory, used in the caller's thread: for the simulation.
    Inline { database: Mutex<Database>, fuse: Arc<Mutex<Fuse>> },
    /// A server: clients on threads of their own.
    Postgres { url: String, queue: Arc<Queue>, readers: Arc<Queue>, ledger: Arc<Queue> },
}

impl Store {
    /// Opens the database and brings it to the newest schema, unless a newer release did so. Blocks; call it outside async code.
    pub fn open(location: &Location) -> Result<Self, StoreError> {
        Self::open_with(location, migrate::prepare)
    }

    /// Opens a database that a server of this release may serve, for a command beside it: changes no schema.
    /// Blocks.
    pub fn open_beside(location: &Location) -> Result<Self, StoreError> {
        if let Location::Sqlite(path) = location
            && !path.exists()
        {
            return Err(StoreError::Unavailable(format!("there is no database at {}", path.display())));
        }
        Self::open_with(location, require_able)
    }

    fn open_with(location: &Location, prepare: Prepare) -> Result<Self, StoreError> {
        match location {
            Location::Inline => Ok(Self {
                mode: Mode::Inline { database: Mutex::new(inline()?), fuse: Arc::default() },
                vital: Arc::default(),
                threads: Mutex::new(Vec::new()),
            }),
            Location::Sqlite(path) => {
                let writer_path = path.clone();
                let mut first = Database::Sqlite(sqlite::open_writer(path)?);
                prepare(&mut first)?;
                // The writer goes on with it. To close it here would copy all of a killed server's log into the file,
                // for which the start would wait.
                let first = Mutex::new(Some(first));
                let connect: Connect = Arc::new(move || match first.lock().take() {
                    Some(first) => Ok(first),
                    None => Ok(Database::Sqlite(sqlite::open_writer(&writer_path)?)),
                });
                let (queue, vital) = (Arc::new(Queue::default()), Arc::default());
                let writer = spawn("store-writer", &queue, &connect, WRITES, &vital)?;
                Ok(Self {
                    mode: Mode::Sqlite { path: path.clone(), queue, readers: Mutex::new(Vec::new()) },
                    vital,
                    threads: Mutex::new(vec![writer]),
                })
            }
            Location::Postgres(url) => Self::open_postgres(url, prepare),
        }
    }

    fn open_postgres(url: &str, prepare: Prepare) -> Result<Self, StoreError> {
        let (url, again) = (url.to_owned(), url.to_owned());
        let connect: Connect = Arc::new(move || Ok(Database::Postgres(Box::new(PgConn::connect(&again)?))));
        let (first, to_read) = (url.clone(), url.clone());
        let connect_to_read: Connect =
            Arc::new(move || Ok(Database::Postgres(Box::new(PgConn::connect_to_read(&to_read)?))));
        // On a thread of its own: the caller may be inside a runtime.
        std::thread::spawn(move || {
            prepare(&mut Database::Postgres(Box::new(PgConn::connect_for_long(&first)?)))
        })
        .join()
        .map_err(|_| StoreError::Internal("opening the database panicked".to_owned()))??;
        let queue = Arc::new(Queue::default());
        let readers = Arc::new(Queue::default());
        let vital = Arc::default();
        let mut threads = vec![spawn("store-writer", &queue, &connect, WRITES, &vital)?];
        for _ in 0..POSTGRES_READERS {
            threads.push(spawn("store-reader", &readers, &connect_to_read, READS, &vital)?);
        }
        let ledger = Arc::new(Queue::default());
        for _ in 0..POSTGRES_LEDGERS {
            threads.push(spawn("store-ledger", &ledger, &connect, LEDGER, &vital)?);
        }
        Ok(Self { mode: Mode::Postgres { url, queue, readers, ledger }, vital, threads: Mutex::new(threads) })
    }

    /// Why nothing can be written, as far as writes of before tell; `None`: nothing is known to be wrong. Damage
    /// stays until the end, the rest until [`Store::probe`] succeeds.
    pub fn trouble(&self) -> Option<StoreError> {
        self.vital.trouble()
    }

    /// Writes a little, and reads, to learn whether that is possible again.
    ///
    /// # Errors
    /// When it is not.
    pub async fn probe(&self) -> Result<(), StoreError> {
        self.write(Lane::Interactive, |tx| tx.node_probe()).await?;
        if let Mode::Postgres { .. } = self.mode {
            // Readers have connections of their own, and may be shut out while the writer still has one.
            self.read(|tx| tx.installation_find()).await?;
        }
        self.vital.recovered();
        Ok(())
    }

    /// Runs `run` in a transaction and returns its answer once it is durable.
    pub async fn write<T, E, F>(&self, lane: Lane, run: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: Fn(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
    {
        self.write_then(lane, run, |_: &T| {}).await
    }

    /// Like [`Store::write`]; `after` runs right after the commit, before the answer, in commit order.
    pub async fn write_then<T, E, F, A>(&self, lane: Lane, run: F, after: A) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: Fn(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
        A: FnOnce(&T) + Send + 'static,
    {
        if let Some(damage) = self.vital.damage() {
            return Err(E::from(damage));
        }
        let (reply, answer) = oneshot::channel();
        let job: Box<dyn queue::Job> =
            Box::new(Typed { run, glance: false, after: Some(after), outcome: None, reply });
        match &self.mode {
            Mode::Inline { database, fuse } => {
                fuse.lock().begin();
                self.run_here(&mut database.lock(), WRITES, job, || fuse.lock().loses_answer());
            }
            Mode::Sqlite { queue, .. } | Mode::Postgres { queue, .. } => {
                queue.push(lane, job).map_err(|_| E::from(closed()))?;
            }
        }
        answer.await.map_err(|_| E::from(closed()))?
    }

    /// Runs `run` in a transaction beside the one writer: for rows of which nobody but `ledger.rs` knows. On PostgreSQL
    /// its answer comes before the disk has them.
    pub async fn ledger<T, E, F>(&self, run: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: Fn(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
    {
        let Mode::Postgres { ledger, .. } = &self.mode else {
            return self.write(Lane::Interactive, run).await;
        };
        let (reply, answer) = oneshot::channel();
        let job: Box<dyn queue::Job> =
            Box::new(Typed { run, glance: false, after: None::<fn(&T)>, outcome: None, reply });
        ledger.push(Lane::Interactive, job).map_err(|_| E::from(closed()))?;
        answer.await.map_err(|_| E::from(closed()))?
    }

    /// Calls `woken` whenever a node has called [`Tx::nodes_wake`], and now and then without a reason; until it is
    /// dropped, PostgreSQL also learns within seconds that a table has grown. `None`: this database needs neither.
    pub fn listen(&self, woken: impl Fn() + Send + 'static) -> Result<Option<Listener>, StoreError> {
        match &self.mode {
            Mode::Postgres { url, .. } => Listener::start(url.clone(), woken).map(Some),
            Mode::Sqlite { .. } | Mode::Inline { .. } => Ok(None),
        }
    }

    /// Runs `run` on one consistent state of the database.
    pub async fn read<T, E, F>(&self, run: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: Fn(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
    {
        self.read_as(run, false).await
    }

    /// Like [`Store::read`], for a single statement: it is consistent by itself, and PostgreSQL answers it in one round
    /// trip instead of two. A second statement fails.
    pub async fn glance<T, E, F>(&self, run: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: Fn(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
    {
        self.read_as(run, true).await
    }

    async fn read_as<T, E, F>(&self, run: F, glance: bool) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: Fn(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job: Box<dyn queue::Job> =
            Box::new(Typed { run, glance, after: None::<fn(&T)>, outcome: None, reply });
        match &self.mode {
            Mode::Inline { database, fuse } => {
                fuse.lock().begin();
                self.run_here(&mut database.lock(), READS, job, || false);
            }
            Mode::Sqlite { path, queue, readers } => {
                if queue.is_closed() {
                    return Err(E::from(closed()));
                }
                let idle = readers.lock().pop();
                let mut database = match idle {
                    Some(database) => database,
                    None => Database::Sqlite(sqlite::open_reader(path)?),
                };
                self.run_here(&mut database, READS, job, || false);
                let mut readers = readers.lock();
                // A reader that could not end its transaction is dropped, not kept.
                if !database.in_transaction() && readers.len() < SQLITE_READERS_MAX {
                    readers.push(database);
                }
            }
            Mode::Postgres { readers, .. } => {
                readers.push(Lane::Interactive, job).map_err(|_| E::from(closed()))?;
            }
        }
        answer.await.map_err(|_| E::from(closed()))?
    }

    /// Runs one job in the caller's thread and answers it, unless the answer is lost.
    fn run_here(
        &self,
        database: &mut Database,
        work: Work,
        job: Box<dyn queue::Job>,
        lost: impl FnOnce() -> bool,
    ) {
        let mut group = [job];
        if let Some(error) = run_group(database, work.kind, &mut group) {
            (work.note)(&self.vital, &error);
        }
        let [mut job] = group;
        if lost() {
            job.fail(StoreError::Unavailable("the answer was lost".to_owned()));
        }
        job.answer();
    }

    /// How many rows have been written since this database in memory was opened: between two equal answers nothing
    /// has changed. `None` of any other database.
    pub fn rows_written(&self) -> Option<u64> {
        match &self.mode {
            Mode::Inline { database, .. } => match &*database.lock() {
                Database::Sqlite(conn) => Some(conn.total_changes()),
                Database::Postgres(_) => None,
            },
            Mode::Sqlite { .. } | Mode::Postgres { .. } => None,
        }
    }

    /// Lets queued writes finish and closes the database. Blocks.
    pub fn close(&self) {
        match &self.mode {
            Mode::Inline { .. } => {}
            Mode::Sqlite { queue, readers, .. } => {
                // The last one to go copies the log into the file and removes it, which a reader cannot.
                readers.lock().clear();
                queue.close();
            }
            Mode::Postgres { queue, readers, ledger, .. } => {
                queue.close();
                readers.close();
                ledger.close();
            }
        }
        for thread in self.threads.lock().drain(..) {
            if thread.join().is_err() {
                tracing::error!("a store thread had panicked");
            }
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.close();
    }
}

fn closed() -> StoreError {
    StoreError::Unavailable("the store is closed".to_owned())
}

/// A new database in memory. All of a process are copies of a first one: its migrations take longer than a thousand
/// steps of a simulated world.
fn inline() -> Result<Database, StoreError> {
    static FIRST: Mutex<Option<rusqlite::Connection>> = Mutex::new(None);
    let mut first = FIRST.lock();
    let made = if let Some(made) = first.take() {
        made
    } else {
        let mut database = Database::Sqlite(sqlite::open_memory()?);
        migrate::prepare(&mut database)?;
        match database {
            Database::Sqlite(made) => made,
            Database::Postgres(_) => return Err(closed()),
        }
    };
    let mut conn = sqlite::open_memory()?;
    sqlite::copy(first.insert(made), &mut conn)?;
    Ok(Database::Sqlite(conn))
}

/// What is done with a database before it is used.
type Prepare = fn(&mut Database) -> Result<(), StoreError>;

fn require_able(database: &mut Database) -> Result<(), StoreError> {
    database.begin(Kind::Read)?;
    migrate::require_able(&mut database.tx())?;
    database.batch("COMMIT")
}

fn spawn(
    name: &str,
    queue: &Arc<Queue>,
    connect: &Connect,
    work: Work,
    vital: &Arc<Vital>,
) -> Result<JoinHandle<()>, StoreError> {
    let (queue, connect, vital) = (Arc::clone(queue), Arc::clone(connect), Arc::clone(vital));
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || work.run(&queue, &connect, &vital))
        .map_err(|error| StoreError::Unavailable(format!("cannot start a thread: {error}")))
}
