//! The data folder, its secrets, its disk, and what the process may open.

use super::{Finding, Patient};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Less free space than this is too little for the database alone, whatever is reserved for it.
const DATABASE_BYTES: u64 = 64 * 1024 * 1024;
/// Writes that the disk is tried with.
const SYNCS: usize = 16;
/// A slower disk makes every answer slow.
const SYNC_SLOW: Duration = Duration::from_millis(20);
/// A disk as slow as this serves nobody.
const SYNC_BROKEN: Duration = Duration::from_secs(1);
/// A connection takes a descriptor.
const DESCRIPTORS_LOW: u64 = 10_000;

const FOLDER: &str = "data folder";
const SECRETS: &str = "secrets";
const DISK: &str = "disk";

/// The folder itself, and who serves it.
pub(super) fn data_folder(patient: &Patient<'_>) -> Vec<Finding> {
    let dir = &patient.config.data_dir;
    let shown = dir.display();
    let meta = match std::fs::metadata(dir) {
        Ok(meta) if meta.is_dir() => meta,
        Ok(_) => {
            return vec![Finding::broken(
                FOLDER,
                format!("{shown} is no folder"),
                "Everything that a server knows is kept in it.",
                "Give another --data-dir.",
            )];
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return vec![Finding::good(
                FOLDER,
                format!("{shown} is not there yet; the first start makes it"),
            )];
        }
        Err(error) => {
            return vec![Finding::broken(
                FOLDER,
                format!("{shown} cannot be looked at: {error}"),
                "Everything that a server knows is kept in it.",
                "Run this as the user of the server, or give that user the folder.",
            )];
        }
    };
    let mut findings = Vec::new();
    if meta.mode() & 0o077 != 0 {
        findings.push(Finding::warning(
            FOLDER,
            format!("{shown} is open to other users (mode {:o})", meta.mode() & 0o777),
            "Packages and the database are in it.",
            format!("chmod 700 {shown}"),
        ));
    }
    findings.push(match &patient.running {
        Some(run) => Finding::good(FOLDER, format!("{shown} is served by process {}", run.pid)),
        None => Finding::good(FOLDER, format!("{shown} is there; no server runs on it")),
    });
    findings
}

/// Files that nobody but the owner may read.
pub(super) fn secrets(patient: &Patient<'_>) -> Vec<Finding> {
    let config = patient.config;
    let own = ["master.key", "root-access-key.json", "tls/ca-key.pem", "tls/server-key.pem"];
    let mut paths: Vec<PathBuf> = own.iter().map(|name| config.data_dir.join(name)).collect();
    paths.extend(config.master_key_file.iter().chain(&config.tls_key).cloned());
    let open: Vec<Finding> = paths.iter().filter_map(|path| open_secret(path)).collect();
    if open.is_empty() { vec![Finding::good(SECRETS, "only their owner can read them")] } else { open }
}

fn open_secret(path: &Path) -> Option<Finding> {
    let mode = std::fs::metadata(path).ok()?.permissions().mode();
    let what = format!("{} can be read by other users (mode {:o})", path.display(), mode & 0o777);
    let action = format!("chmod 600 {}; if others have read it, replace it", path.display());
    let why = "Who has it can act as the server or as its owner.";
    match mode {
        mode if mode & 0o007 != 0 => Some(Finding::broken(SECRETS, what, why, action)),
        mode if mode & 0o070 != 0 => Some(Finding::warning(SECRETS, what, why, action)),
        _ => None,
    }
}

/// Free space, and how long the disk takes to make a write durable.
pub(super) fn disk(patient: &Patient<'_>) -> Vec<Finding> {
    let dir = existing(&patient.config.data_dir);
    let reserve = patient.config.disk_reserve_bytes.unsigned_abs();
    vec![space(&dir, reserve), speed(&dir)]
}

/// The folder, or the nearest one above it that is there.
fn existing(dir: &Path) -> PathBuf {
    let above = dir.ancestors().find(|dir| dir.is_dir());
    above.map_or_else(|| PathBuf::from("."), Path::to_owned)
}

fn space(dir: &Path, reserve: u64) -> Finding {
    let why = "On a full disk uploads, reports and calls are refused.";
    let stat = match rustix::fs::statvfs(dir) {
        Ok(stat) => stat,
        Err(error) => {
            let what = format!("the free space of {} cannot be told: {error}", dir.display());
            return Finding::warning(DISK, what, why, "Look at it with `df`.");
        }
    };
    judge_space(stat.f_bavail.saturating_mul(stat.f_frsize), reserve, stat.f_favail, stat.f_files)
}

fn judge_space(free: u64, reserve: u64, free_inodes: u64, inodes: u64) -> Finding {
    let why = "On a full disk uploads, reports and calls are refused.";
    let what = format!("{} MiB are free", free / (1024 * 1024));
    // Some file systems have no table of files, and say 0 of 0.
    if inodes > 0 && free_inodes < 1_000 {
        let what = format!("{free_inodes} more files can be made");
        return Finding::broken(DISK, what, why, "Remove files, or move the data folder.");
    }
    if free < reserve.max(DATABASE_BYTES) {
        let action = "Make room: uploads leave `disk_reserve_bytes` to the database, and are refused now.";
        return Finding::broken(DISK, what, why, action);
    }
    if free < reserve.max(DATABASE_BYTES).saturating_mul(4) {
        return Finding::warning(DISK, what, why, "Make room before the next packages come.");
    }
    Finding::good(DISK, what)
}

fn speed(dir: &Path) -> Finding {
    // The file never has a name, so nothing is left behind.
    match syncs(dir) {
        Ok(median) => judge_speed(median),
        Err(error) => Finding::broken(
            DISK,
            format!("nothing can be written to {}: {error}", dir.display()),
            "Everything that a server knows is kept there.",
            "Run this as the user of the server; look whether the disk is mounted for writing.",
        ),
    }
}

fn syncs(dir: &Path) -> io::Result<Duration> {
    let mut file: File = tempfile::tempfile_in(dir)?;
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let began = Instant::now();
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
        times.push(began.elapsed());
    }
    times.sort_unstable();
    Ok(times[SYNCS / 2])
}

fn judge_speed(median: Duration) -> Finding {
    let what = format!("a durable write takes {:.1} ms", median.as_secs_f64() * 1_000.0);
    let why = "Each answer to a change waits for one.";
    let action = "Put the data folder on a local SSD, and not on a network share.";
    match median {
        median if median >= SYNC_BROKEN => Finding::broken(DISK, what, why, action),
        median if median >= SYNC_SLOW => Finding::warning(DISK, what, why, action),
        _ => Finding::good(DISK, what),
    }
}

/// How many connections and files the process may have.
pub(super) fn descriptors() -> Vec<Finding> {
    const CHECK: &str = "descriptors";
    let Ok((_, hard)) = rlimit::getrlimit(rlimit::Resource::NOFILE) else { return Vec::new() };
    let what = format!("{hard} connections and files at most");
    vec![if hard < DESCRIPTORS_LOW {
        Finding::warning(
            CHECK,
            what,
            "Each connected device takes one; further ones are not let in.",
            "Raise the hard limit: LimitNOFILE= in the systemd unit, or `ulimit -Hn`.",
        )
    } else {
        Finding::good(CHECK, what)
    }]
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn space_and_speed_are_judged() {
        const GIB: u64 = 1024 * 1024 * 1024;
        assert_eq!(judge_space(9 * GIB, GIB, 1 << 20, 1 << 21).level, Level::Good);
        assert_eq!(judge_space(9 * GIB, GIB, 0, 0).level, Level::Good, "no table of files");
        assert_eq!(judge_space(2 * GIB, GIB, 1 << 20, 1 << 21).level, Level::Warning);
        assert_eq!(judge_space(GIB - 1, GIB, 1 << 20, 1 << 21).level, Level::Broken);
        assert_eq!(
            judge_space(9 * GIB, 10 * GIB, 1 << 20, 1 << 21).level,
            Level::Broken,
            "the reserve is set"
        );
        assert_eq!(judge_space(GIB, 0, 1 << 20, 1 << 21).level, Level::Good, "no reserve on a small device");
        assert_eq!(judge_space(1 << 20, 0, 1 << 20, 1 << 21).level, Level::Broken);
        assert_eq!(judge_space(9 * GIB, GIB, 3, 1 << 21).level, Level::Broken);
        assert_eq!(judge_speed(Duration::from_millis(2)).level, Level::Good);
        assert_eq!(judge_speed(Duration::from_millis(20)).level, Level::Warning);
        assert_eq!(judge_speed(Duration::from_secs(2)).level, Level::Broken);
    }

    #[test]
    fn a_secret_that_others_can_read_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("master.key");
        assert_eq!(open_secret(&path), None, "it need not be there");
        crate::seal::write_private(&path, b"x").unwrap();
        assert_eq!(open_secret(&path), None);
        for (mode, level) in [(0o640, Level::Warning), (0o644, Level::Broken)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let finding = open_secret(&path).unwrap();
            assert_eq!(finding.level, level);
            assert!(finding.what.contains("master.key") && finding.action.contains("chmod 600"));
        }
    }
}
