//! From SQLite to PostgreSQL: who may, and when. The rows are the store's.

use crate::config::Config;
use crate::setup;
use anyhow::{Context as _, bail, ensure};
use std::fs::File;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use updraft_store::{
    Claim, Health, Location, SameTable, Sharing, StoreError, TRANSFER_CHUNK_ROWS, TransferProgress,
    Transferred, transfer, transfer_verify,
};

/// Longest look for damage.
const CHECK: Duration = Duration::from_hours(1);

/// What was moved.
pub struct Moved {
    /// Rows and digests.
    pub transferred: Transferred,
    /// The data folder, which stays in use.
    pub data_dir: PathBuf,
    /// The SQLite database, which stays as it is.
    pub database: PathBuf,
    /// How long all of it took.
    pub took: Duration,
    /// How long bringing the rows took.
    pub copy_took: Duration,
}

/// Moves a stopped server's data to the PostgreSQL database `to`.
///
/// # Errors
/// When a server runs on either side, the source is damaged, the target is in use otherwise, or the two differ
/// afterwards. The source is never changed.
pub fn migrate(config: &Config, to: &str, progress: TransferProgress<'_>) -> anyhow::Result<Moved> {
    let began = Instant::now();
    let sides = Sides::claim(config, to, progress)?;
    let copy_began = Instant::now();
    let mut copied = None;
    let mut told = |what: &'static str, done, all| {
        if what != "copy" {
            copied.get_or_insert_with(|| copy_began.elapsed());
        }
        progress(what, done, all);
    };
    let transferred = transfer(&sides.from, to, TRANSFER_CHUNK_ROWS, &mut told)?;
    Ok(Moved {
        transferred,
        data_dir: config.data_dir.clone(),
        database: sides.from,
        took: began.elapsed(),
        copy_took: copied.unwrap_or_else(|| copy_began.elapsed()),
    })
}

/// Compares the two databases.
///
/// # Errors
/// As [`migrate`]; names the first difference.
pub fn verify(config: &Config, to: &str, progress: TransferProgress<'_>) -> anyhow::Result<Vec<SameTable>> {
    let sides = Sides::claim(config, to, progress)?;
    Ok(transfer_verify(&sides.from, to, progress)?)
}

/// Both databases, while nobody else may serve them.
struct Sides {
    from: PathBuf,
    _folder: File,
    _claims: [Claim; 2],
}

impl Sides {
    fn claim(config: &Config, to: &str, progress: TransferProgress<'_>) -> anyhow::Result<Self> {
        let Location::Sqlite(from) = config.database()? else {
            bail!(
                "the data is in PostgreSQL already: `database_url` must name the SQLite database, or be left out"
            );
        };
        let Some(target @ Location::Postgres(_)) = Location::parse(to) else {
            // The text may have a password in it.
            bail!("--to must be a PostgreSQL database: postgres://USER:PASSWORD@HOST/DATABASE");
        };
        ensure!(from.exists(), "there is no database at {}", from.display());
        let folder = setup::lock(&config.data_dir)?;
        let stopped = "stop the server of the SQLite database first";
        Claim::look(&Location::Sqlite(from.clone())).context(stopped)?;
        progress("check", 0, 1);
        let health = setup::look_first(config, CHECK)?;
        let health = health.with_context(|| format!("there is no database at {}", from.display()))?;
        let Health { schema: found, known, oldest_able, .. } = health;
        match found.cmp(&known) {
            std::cmp::Ordering::Less => Err(StoreError::OlderSchema { found, known })?,
            std::cmp::Ordering::Greater if oldest_able > known => {
                Err(StoreError::NewerSchema { found, known, oldest_able })?;
            }
            std::cmp::Ordering::Greater => Err(StoreError::UnknownTables { found, known })?,
            std::cmp::Ordering::Equal => {}
        }
        let source = Claim::take(&Location::Sqlite(from.clone()), Sharing::Alone).context(stopped)?;
        let target = Claim::take(&target, Sharing::Alone).context("cannot use the target database")?;
        Ok(Self { from, _folder: folder, _claims: [source, target] })
    }
}
