//! Migrations: numbered, embedded, checksummed, append-only.
//!
//! To add one, put `NNNN_name.sqlite.sql` and `NNNN_name.postgres.sql` into `migrations/` and a line into
//! [`MIGRATIONS`]; never change one that was released. The suite compares the schemas of both engines.
//!
//! Nodes are upgraded one after another, so nodes of the release before run on the new schema for a while: a migration
//! adds, with defaults, and takes no lock for long; what a release uses is removed by a later one at the earliest.

use crate::error::StoreError;
use crate::tx::{Conn, Tx};
use crate::value::Value;
use sha2::{Digest, Sha256};

struct Migration {
    number: i64,
    sqlite: &'static str,
    postgres: &'static str,
}

/// A migration's number and the name of its two files.
macro_rules! migration {
    ($number:literal, $name:literal) => {
        Migration {
            number: $number,
            sqlite: include_str!(concat!("../migrations/", $name, ".sqlite.sql")),
            postgres: include_str!(concat!("../migrations/", $name, ".postgres.sql")),
        }
    };
}

const MIGRATIONS: &[Migration] = &[
    migration!(1, "0001_first_slice"),
    migration!(2, "0002_instances"),
    migration!(3, "0003_batches"),
    migration!(4, "0004_accounts"),
    migration!(5, "0005_files"),
    migration!(6, "0006_control_plane"),
    migration!(7, "0007_device_side"),
    migration!(8, "0008_task_history"),
    migration!(9, "0009_explanations"),
    migration!(10, "0010_nodes"),
];

/// Brings the database to the newest schema, or refuses one that is newer than this binary.
pub(crate) fn migrate(tx: &mut Tx<'_>) -> Result<(), StoreError> {
    refuse_unfinished(tx)?;
    batch(
        tx,
        "CREATE TABLE IF NOT EXISTS migration (number BIGINT NOT NULL PRIMARY KEY, checksum TEXT NOT NULL)",
    )?;
    let applied: Vec<(i64, String)> =
        tx.query("SELECT number, checksum FROM migration ORDER BY number", &[], |row| {
            Ok((row.int(0)?, row.text(1)?))
        })?;
    let known = MIGRATIONS.last().map_or(0, |migration| migration.number);
    if let Some((found, _)) = applied.last().filter(|(found, _)| *found > known) {
        return Err(StoreError::NewerSchema { found: *found, known });
    }
    for migration in MIGRATIONS {
        let sql = match tx.conn {
            Conn::Sqlite(_) => migration.sqlite,
            Conn::Postgres(_) => migration.postgres,
        };
        let checksum = hex::encode(Sha256::digest(sql.as_bytes()));
        match applied.iter().find(|(number, _)| *number == migration.number) {
            Some((_, found)) if *found == checksum => {}
            Some((number, _)) => {
                return Err(StoreError::Corrupt {
                    place: "migration.checksum",
                    detail: format!("migration {number} was applied with another text than this binary has"),
                });
            }
            None => {
                batch(tx, sql)?;
                tx.exec(
                    "INSERT INTO migration (number, checksum) VALUES (?1, ?2)",
                    &[Value::Int(migration.number), Value::Text(&checksum)],
                )?;
            }
        }
    }
    Ok(())
}

/// The number of the newest schema that this binary knows.
pub(crate) fn known() -> i64 {
    MIGRATIONS.last().map_or(0, |migration| migration.number)
}

/// The number of the schema that a database has. A database without this table is none of ours, or one that no
/// server has opened yet: 0.
pub(crate) fn found(tx: &mut Tx<'_>) -> i64 {
    tx.query_one("SELECT COALESCE(MAX(number), 0) FROM migration", &[], |row| row.int(0))
        .unwrap_or_default()
        .unwrap_or_default()
}

/// Refuses a database whose schema is not exactly the newest one that this binary knows.
pub(crate) fn require_newest(tx: &mut Tx<'_>) -> Result<(), StoreError> {
    refuse_unfinished(tx)?;
    let (known, found) = (known(), found(tx));
    match found.cmp(&known) {
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Greater => Err(StoreError::NewerSchema { found, known }),
        std::cmp::Ordering::Less => Err(StoreError::OlderSchema { found, known }),
    }
}

/// Nobody uses a database of which a part may be missing.
fn refuse_unfinished(tx: &mut Tx<'_>) -> Result<(), StoreError> {
    if crate::transfer::is_unfinished(tx)? { Err(StoreError::Unfinished) } else { Ok(()) }
}

fn batch(tx: &mut Tx<'_>, sql: &str) -> Result<(), StoreError> {
    match &mut tx.conn {
        Conn::Sqlite(conn) => crate::engine::sqlite::batch(conn, sql),
        Conn::Postgres(conn) => conn.batch(sql),
    }
}
