//! The database, the master key that belongs to it, and the clock, which its rows are compared with.

use super::{Finding, Patient};
use crate::seal::MasterKey;
use crate::setup::INSTALLATION_PURPOSE;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use updraft_store::{Health, Integrity, examine};

/// The longest that the file is looked at.
const PATIENCE: Duration = Duration::from_secs(10);
/// The oldest PostgreSQL that is tested.
const POSTGRES_MIN: i64 = 15;
/// No build of this program is older: the beginning of 2026.
const CLOCK_MIN_SECONDS: u64 = 1_767_225_600;
/// Nobody lives to see it: the beginning of 2100.
const CLOCK_MAX_SECONDS: u64 = 4_102_444_800;
/// Rows may be a little ahead of a clock that is set in between.
const CLOCK_TOLERANCE: Duration = Duration::from_mins(1);

const DATABASE: &str = "database";
const KEY: &str = "master key";
const CLOCK: &str = "clock";

/// Database, master key, clock.
pub(super) fn database(patient: &Patient<'_>) -> Vec<Finding> {
    let location = match patient.config.database() {
        Ok(location) => location,
        Err(error) => {
            return vec![Finding::broken(
                DATABASE,
                error.to_string(),
                "A server with it refuses to start.",
                "Correct `database_url`.",
            )];
        }
    };
    let health = match examine(&location, PATIENCE) {
        Ok(health) => health,
        Err(error) => {
            let unreachable = Finding::broken(
                DATABASE,
                format!("it does not open: {error}"),
                "A server cannot start or answer without it.",
                "Look whether it is there, whether it runs, and whether this user may use it.",
            );
            return vec![unreachable, clock(patient, None)];
        }
    };
    let Some(health) = health else {
        let fresh = Finding::good(DATABASE, "it is not there yet; the first start makes it");
        return vec![fresh, lone_key(patient), clock(patient, None)];
    };
    vec![judge(&health), key(patient, &health), clock(patient, health.newest_ms)]
}

fn judge(health: &Health) -> Finding {
    let Health { engine, schema, known, .. } = health;
    if let Integrity::Damaged(words) = &health.integrity {
        return Finding::broken(
            DATABASE,
            format!("the file is damaged: {words}"),
            "What is in the damaged part is lost, and answers may be wrong.",
            "Stop the server, keep a copy of the file, and restore the last backup.",
        );
    }
    if let Some(major) = health.postgres_major
        && major < POSTGRES_MIN
    {
        return Finding::broken(
            DATABASE,
            format!("{engine} is older than {POSTGRES_MIN}"),
            "Updraft is not tested with it.",
            "Upgrade the database server.",
        );
    }
    if health.is_too_new() {
        return Finding::broken(
            DATABASE,
            format!(
                "its schema is {schema}, which needs a program that knows {}, and this one knows {known}",
                health.oldest_able
            ),
            "A newer release has used it; this one refuses to.",
            "Run the newer release again, or restore a backup made before the upgrade.",
        );
    }
    if health.unfinished {
        return Finding::broken(
            DATABASE,
            format!("{engine} holds a migration that has not ended"),
            "Rows may be missing; a server refuses to serve it.",
            "Run `updraft migrate` again, or serve the SQLite database as before.",
        );
    }
    match &health.integrity {
        _ if *schema == 0 => Finding::good(DATABASE, format!("{engine}; empty, the first start fills it")),
        _ if schema < known => {
            Finding::good(DATABASE, format!("{engine}, schema {schema}; the next start brings it to {known}"))
        }
        _ if schema > known => Finding::warning(
            DATABASE,
            format!(
                "{engine}, schema {schema} of a newer release; this program knows {known}, and may serve it"
            ),
            "An upgrade has not ended, or was taken back.",
            "Bring all nodes to the newer release.",
        ),
        Integrity::Unfinished => Finding::warning(
            DATABASE,
            format!("{engine}, schema {schema}; it opens, but is too large to be looked at as a whole here"),
            "Damage in the rest would go unseen.",
            "Run `PRAGMA quick_check` on a copy, at night.",
        ),
        _ => Finding::good(DATABASE, format!("{engine}, schema {schema}; sound")),
    }
}

/// A key beside no database: kept for one that is missing.
fn lone_key(patient: &Patient<'_>) -> Finding {
    if patient.config.data_dir.join("installation").exists() {
        return Finding::broken(
            KEY,
            "this data folder has belonged to a database, and there is none",
            "A server refuses to start, so that nothing is overwritten.",
            "Restore the database, or give the right --database-url.",
        );
    }
    match &patient.config.master_key_file {
        Some(path) => match MasterKey::load(path, false, &[0; 32]) {
            Ok(_) => Finding::good(KEY, format!("{} can be read", path.display())),
            Err(error) => unreadable(path, &error),
        },
        None => Finding::good(KEY, "it is not there yet; the first start makes it"),
    }
}

fn unreadable(path: &Path, error: &anyhow::Error) -> Finding {
    Finding::broken(
        KEY,
        format!("{error:#}"),
        "Without it no stored secret can be read: no key signs, no device logs in.",
        format!("Restore {} from its copy.", path.display()),
    )
}

/// Whether the master key opens what the database sealed with it.
fn key(patient: &Patient<'_>, health: &Health) -> Finding {
    let Some(sealed) = &health.installation else {
        return Finding::good(KEY, "the database has nothing that this program could open with it yet");
    };
    let own = patient.config.data_dir.join("master.key");
    let path = patient.config.master_key_file.as_ref().unwrap_or(&own);
    let name = match MasterKey::load(path, false, &[0; 32]) {
        Err(error) => return unreadable(path, &error),
        Ok(master) => master.open(INSTALLATION_PURPOSE, sealed),
    };
    let folder = std::fs::read_to_string(patient.config.data_dir.join("installation")).ok();
    match (name, folder) {
        (Err(_), _) => Finding::broken(
            KEY,
            format!("{} is not the key of this database", path.display()),
            "Without it no stored secret can be read: no key signs, no device logs in.",
            "Restore the right key, or give the right --database-url.",
        ),
        (Ok(name), Some(folder)) if folder != name => Finding::broken(
            KEY,
            "the data folder belongs to another database",
            "A server refuses to start: packages and rows would not fit.",
            "Give the right --data-dir or --database-url.",
        ),
        (Ok(_), _) => Finding::good(KEY, "it belongs to the database; keep a copy elsewhere"),
    }
}

/// Whether the clock can be right.
fn clock(patient: &Patient<'_>, newest_ms: Option<i64>) -> Finding {
    let started =
        std::fs::metadata(patient.config.data_dir.join("run.json")).and_then(|file| file.modified());
    let row = newest_ms.map(|ms| UNIX_EPOCH + Duration::from_millis(ms.unsigned_abs()));
    judge_clock(patient.now, started.ok().max(row))
}

fn judge_clock(now: SystemTime, newest: Option<SystemTime>) -> Finding {
    let why = "Signatures and download addresses are refused when the clock is wrong, and deadlines come at a \
               wrong time.";
    let action = "Set the clock, and keep it right with NTP (chrony, systemd-timesyncd).";
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    if !(CLOCK_MIN_SECONDS..CLOCK_MAX_SECONDS).contains(&since) {
        let what = format!("it says {since} seconds since 1970, which cannot be");
        return Finding::broken(CLOCK, what, why, action);
    }
    if let Some(ahead) = newest.and_then(|newest| newest.duration_since(now).ok())
        && ahead > CLOCK_TOLERANCE
    {
        let what = format!("it is {} seconds behind what a server has already written", ahead.as_secs());
        return Finding::broken(CLOCK, what, why, action);
    }
    Finding::good(CLOCK, "it is plausible")
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn clocks_are_judged() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let now = at(1_800_000_000);
        for (now, newest, level) in [
            (now, None, Level::Good),
            (now, Some(at(1_799_999_999)), Level::Good),
            (now, Some(at(1_800_000_030)), Level::Good),
            (now, Some(at(1_800_003_600)), Level::Broken),
            (at(0), None, Level::Broken),
            (at(5_000_000_000), None, Level::Broken),
        ] {
            assert_eq!(judge_clock(now, newest).level, level, "{now:?} {newest:?}");
        }
    }

    #[test]
    fn databases_are_judged() {
        let sound = Health {
            engine: "SQLite 3".to_owned(),
            postgres_major: None,
            schema: 3,
            known: 3,
            oldest_able: 0,
            installation: None,
            newest_ms: None,
            unfinished: false,
            integrity: Integrity::Sound,
        };
        let old =
            |major| Health { postgres_major: Some(major), integrity: Integrity::NotOurs, ..sound.clone() };
        for (health, level, word) in [
            (sound.clone(), Level::Good, "sound"),
            (Health { schema: 2, ..sound.clone() }, Level::Good, "next start"),
            (Health { schema: 0, ..sound.clone() }, Level::Good, "empty"),
            (
                Health { schema: 5, oldest_able: 3, ..sound.clone() },
                Level::Warning,
                "schema 5 of a newer release",
            ),
            (Health { schema: 5, oldest_able: 4, ..sound.clone() }, Level::Broken, "knows 4"),
            (Health { integrity: Integrity::Unfinished, ..sound.clone() }, Level::Warning, "too large"),
            (
                Health { integrity: Integrity::Damaged("row 7".to_owned()), ..sound.clone() },
                Level::Broken,
                "row 7",
            ),
            (Health { unfinished: true, ..old(15) }, Level::Broken, "has not ended"),
            (old(15), Level::Good, "sound"),
            (old(14), Level::Broken, "older than 15"),
        ] {
            let finding = judge(&health);
            assert_eq!(finding.level, level, "{finding:?}");
            assert!(finding.what.contains(word), "{finding:?}");
        }
    }
}
