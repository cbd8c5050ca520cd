//! Migrations: numbered, embedded, checksummed, append-only.
//!
//! To add one, put `NNNN_name.sqlite.sql` and `NNNN_name.postgres.sql` into `migrations/` and a line into
//! [`MIGRATIONS`]; never change one that was released. The suite compares the schemas of both engines.
//!
//! Nodes are upgraded one after another, so nodes of the release before run on the new schema for a while: a migration
//! adds, with defaults, and takes no lock for long; what a release uses is removed by a later one at the earliest.
//! Each migration says the oldest schema whose programs work on the database after it. The database keeps that, so
//! that an older program knows whether it may start, and a newer one whether nodes that serve would fail.

use crate::database::{Database, Kind};
use crate::error::StoreError;
use crate::tx::{Conn, Tx};
use crate::value::Value;
use sha2::{Digest, Sha256};
use std::time::Duration;

/// The newest schema of programs that do not say, as long as they serve, which one they know ([`Claim`]).
///
/// [`Claim`]: crate::Claim
const UNTOLD: i64 = 10;
/// A migration that gets a table no sooner lets everybody go on and tries again: behind one who waits for a whole
/// table all others wait, too. Half of what PostgreSQL takes (`deadlock_timeout`) until it ends a reader instead.
const TABLE_WITHIN: &str = "SET LOCAL lock_timeout = '500ms'";
/// Between two attempts, so that others get their turns.
const PAUSE: Duration = Duration::from_millis(500);
/// For so many attempts, about a minute; a reader of ours is done within half of that.
const ATTEMPTS: usize = 60;

struct Migration {
    number: i64,
    /// The oldest schema whose programs work on the database after this one.
    oldest_able: i64,
    sqlite: &'static str,
    postgres: &'static str,
}

/// A migration's number, the name of its two files, and the oldest schema whose programs work on the database after
/// it: itself, if that is left out.
macro_rules! migration {
    ($number:literal, $name:literal) => {
        migration!($number, $name, able: $number)
    };
    ($number:literal, $name:literal, able: $oldest:literal) => {
        Migration {
            number: $number,
            oldest_able: $oldest,
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

/// A migration that a database has.
struct Applied {
    number: i64,
    checksum: String,
    oldest_able: i64,
}

/// The schema that a database has.
pub(crate) struct Found {
    /// Its number; 0: no server has opened the database yet, or it is none of ours.
    pub schema: i64,
    /// The oldest schema that a program must know to work on it. What this binary knows counts for nothing here: 0
    /// if it knows all of it.
    pub oldest_able: i64,
}

impl Found {
    /// Whether this binary may work on a database that is not older than it.
    pub fn lets_us_work(&self) -> bool {
        self.oldest_able <= known()
    }

    fn of(applied: &[Applied]) -> Self {
        let newer = applied.iter().filter(|migration| migration.number > known());
        Self {
            schema: applied.iter().map(|migration| migration.number).max().unwrap_or(0),
            oldest_able: newer.map(|migration| migration.oldest_able).max().unwrap_or(0),
        }
    }

    fn require_able(&self) -> Result<(), StoreError> {
        let Self { schema: found, oldest_able } = *self;
        if self.lets_us_work() {
            return Ok(());
        }
        Err(StoreError::NewerSchema { found, known: known(), oldest_able })
    }
}

/// Brings a database to the newest schema, or leaves a newer one as it is if that lets this binary work on it.
pub(crate) fn prepare(database: &mut Database) -> Result<(), StoreError> {
    for attempt in 1.. {
        database.begin(Kind::Write)?;
        match migrate(&mut database.tx()) {
            Ok(()) => break,
            Err(StoreError::Held(why)) if attempt < ATTEMPTS => {
                tracing::warn!(why, "somebody uses a table that the new schema changes; trying again");
                database.roll_back();
                // Nobody tells when a lock of another session goes.
                std::thread::park_timeout(PAUSE);
            }
            Err(error) => return Err(error),
        }
    }
    database.batch("COMMIT")
}

/// The same within a transaction that writes, with one attempt.
pub(crate) fn migrate(tx: &mut Tx<'_>) -> Result<(), StoreError> {
    refuse_unfinished(tx)?;
    let applied = applied(tx)?;
    let found = Found::of(&applied);
    found.require_able()?;
    let mut pending = Vec::new();
    for migration in MIGRATIONS {
        match applied.iter().find(|applied| applied.number == migration.number) {
            None => pending.push(migration),
            Some(applied) if applied.checksum == checksum(tx, migration) => {}
            Some(Applied { number, .. }) => {
                return Err(StoreError::Corrupt {
                    place: "migration.checksum",
                    detail: format!("migration {number} was applied with another text than this binary has"),
                });
            }
        }
    }
    let (known, schema) = (known(), found.schema);
    if schema > known {
        if let Some(missing) = pending.first() {
            return Err(StoreError::Corrupt {
                place: "migration.number",
                detail: format!("schema {schema} is there without migration {}", missing.number),
            });
        }
        tracing::warn!(schema, known, "a newer release has changed the schema, and lets this one go on");
        return Ok(());
    }
    if pending.is_empty() {
        return Ok(());
    }
    refuse_beside_older_nodes(tx, &pending)?;
    if let Conn::Postgres(conn) = &mut tx.conn {
        conn.batch(TABLE_WITHIN)?;
    }
    make_table(tx)?;
    for migration in pending {
        batch(tx, text(tx, migration))?;
        tx.exec(
            "INSERT INTO migration (number, checksum, oldest_able) VALUES (?1, ?2, ?3)",
            &[
                Value::Int(migration.number),
                Value::Text(&checksum(tx, migration)),
                Value::Int(migration.oldest_able),
            ],
        )?;
    }
    if schema > 0 {
        tracing::info!(from = schema, to = known, "the schema was brought up to date");
    }
    Ok(())
}

/// The number of the newest schema that this binary knows.
pub(crate) fn known() -> i64 {
    MIGRATIONS.last().map_or(0, |migration| migration.number)
}

/// The schema that a database has.
pub(crate) fn found(tx: &mut Tx<'_>) -> Result<Found, StoreError> {
    applied(tx).map(|applied| Found::of(&applied))
}

/// Refuses a database whose schema is older than the newest one that this binary knows, or newer and not for it.
pub(crate) fn require_able(tx: &mut Tx<'_>) -> Result<(), StoreError> {
    refuse_unfinished(tx)?;
    let found = found(tx)?;
    if found.schema < known() {
        return Err(StoreError::OlderSchema { found: found.schema, known: known() });
    }
    found.require_able()
}

/// Refuses a database whose schema is not exactly the newest one that this binary knows: for what must know every
/// table.
pub(crate) fn require_newest(tx: &mut Tx<'_>) -> Result<(), StoreError> {
    require_able(tx)?;
    let (found, known) = (found(tx)?.schema, known());
    if found == known { Ok(()) } else { Err(StoreError::UnknownTables { found, known }) }
}

/// Nobody uses a database of which a part may be missing.
fn refuse_unfinished(tx: &mut Tx<'_>) -> Result<(), StoreError> {
    if crate::transfer::is_unfinished(tx)? { Err(StoreError::Unfinished) } else { Ok(()) }
}

/// Refuses to change the schema under nodes that serve now and cannot work on the new one. They tell by a lock which
/// schema they know (`claim.rs`), so one that died is none of them.
fn refuse_beside_older_nodes(tx: &mut Tx<'_>, pending: &[&Migration]) -> Result<(), StoreError> {
    if matches!(tx.conn, Conn::Sqlite(_)) {
        // It is served by one process alone.
        return Ok(());
    }
    let oldest_able = pending.iter().map(|migration| migration.oldest_able).max().unwrap_or(0);
    let older = tx.query(
        "SELECT known FROM (
           SELECT serving.pid, COALESCE(MAX(CAST(knowing.objid AS BIGINT)), ?1) AS known
           FROM pg_locks serving
           LEFT JOIN pg_locks knowing
             ON knowing.pid = serving.pid AND knowing.locktype = 'advisory' AND knowing.objsubid = 2
            AND CAST(knowing.classid AS BIGINT) = CAST(hashtext('updraft.knows') AS BIGINT) & 4294967295
           WHERE serving.locktype = 'advisory' AND serving.objsubid = 1 AND serving.granted
             AND CAST(serving.objid AS BIGINT) = CAST(hashtext('updraft.serve') AS BIGINT) & 4294967295
             AND serving.database = (SELECT oid FROM pg_database WHERE datname = current_database())
           GROUP BY serving.pid) AS nodes
         WHERE known < ?2 ORDER BY known",
        &[UNTOLD.into(), oldest_able.into()],
        |row| row.int(0),
    )?;
    match older.first() {
        None => Ok(()),
        Some(knows) => {
            Err(StoreError::OlderNodes { nodes: older.len(), knows: *knows, schema: known(), oldest_able })
        }
    }
}

/// What was applied, the oldest first.
fn applied(tx: &mut Tx<'_>) -> Result<Vec<Applied>, StoreError> {
    let columns = columns(tx)?;
    let has = |name| columns.iter().any(|column| column == name);
    if !has("number") || !has("checksum") {
        return Ok(Vec::new());
    }
    let sql = if has("oldest_able") {
        "SELECT number, checksum, COALESCE(oldest_able, number) FROM migration ORDER BY number"
    } else {
        "SELECT number, checksum, number FROM migration ORDER BY number"
    };
    tx.query(sql, &[], |row| {
        Ok(Applied { number: row.int(0)?, checksum: row.text(1)?, oldest_able: row.int(2)? })
    })
}

/// The columns of the table of migrations; none: it is not there.
fn columns(tx: &mut Tx<'_>) -> Result<Vec<String>, StoreError> {
    let sql = match tx.conn {
        Conn::Sqlite(_) => "SELECT name FROM pragma_table_info('migration')",
        Conn::Postgres(_) => {
            "SELECT CAST(attname AS TEXT) FROM pg_attribute
             WHERE attrelid = to_regclass('migration') AND attnum > 0 AND NOT attisdropped"
        }
    };
    tx.query(sql, &[], |row| row.text(0))
}

/// Makes the table of migrations, or gives one that an early program made the column that it lacks. A row without a
/// value there lets nobody older work.
fn make_table(tx: &mut Tx<'_>) -> Result<(), StoreError> {
    let columns = columns(tx)?;
    if columns.is_empty() {
        batch(
            tx,
            "CREATE TABLE migration (number BIGINT NOT NULL PRIMARY KEY, checksum TEXT NOT NULL, oldest_able BIGINT)",
        )
    } else if columns.iter().any(|column| column == "oldest_able") {
        Ok(())
    } else {
        batch(tx, "ALTER TABLE migration ADD COLUMN oldest_able BIGINT")
    }
}

fn text(tx: &Tx<'_>, migration: &Migration) -> &'static str {
    match tx.conn {
        Conn::Sqlite(_) => migration.sqlite,
        Conn::Postgres(_) => migration.postgres,
    }
}

fn checksum(tx: &Tx<'_>, migration: &Migration) -> String {
    hex::encode(Sha256::digest(text(tx, migration).as_bytes()))
}

fn batch(tx: &mut Tx<'_>, sql: &str) -> Result<(), StoreError> {
    match &mut tx.conn {
        Conn::Sqlite(conn) => crate::engine::sqlite::batch(conn, sql),
        Conn::Postgres(conn) => conn.batch(sql),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_migration_lets_no_program_work_that_an_earlier_one_shut_out_without_need() {
        for pair in MIGRATIONS.windows(2) {
            assert!(pair[0].number < pair[1].number && pair[0].oldest_able <= pair[1].oldest_able);
        }
        assert!(MIGRATIONS.iter().all(|migration| migration.oldest_able <= migration.number));
    }

    #[test]
    fn the_strictest_of_the_newer_migrations_counts() {
        let applied = |number, oldest_able| Applied { number, checksum: String::new(), oldest_able };
        let (known, next) = (known(), known() + 1);
        let able = |rows: &[Applied]| Found::of(rows).lets_us_work();
        assert!(able(&[applied(known, known)]));
        assert!(able(&[applied(known, known), applied(next, known)]));
        assert!(able(&[applied(next, known - 1), applied(next + 1, known)]));
        assert!(!able(&[applied(next, next), applied(next + 1, known)]));
    }
}
