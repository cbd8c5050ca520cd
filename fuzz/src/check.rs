//! What the database and the folder of files must hold, whatever was sent.

use crate::Broken;
use md5::{Digest as _, Md5};
use rusqlite::Connection;
use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::Path;
use updraft_server::files::blobs::Folder;

/// Queries that must find nothing: what it would mean, and the rows that break it.
const MUST_BE_EMPTY: &[(&str, &str)] = &[
    (
        "counts differ from rows",
        "SELECT * FROM (SELECT job, status, SUM(n) FROM job_count GROUP BY job, status HAVING SUM(n) <> 0
         EXCEPT SELECT job, status, COUNT(*) FROM task GROUP BY job, status)",
    ),
    (
        "rows differ from counts",
        "SELECT * FROM (SELECT job, status, COUNT(*) FROM task GROUP BY job, status
         EXCEPT SELECT job, status, SUM(n) FROM job_count GROUP BY job, status)",
    ),
    (
        "a batch counts its tasks wrongly",
        "SELECT id, task_count, 0 FROM job
         WHERE task_count <> (SELECT COUNT(*) FROM task WHERE task.job = job.id)",
    ),
    (
        "an ended batch has tasks that wait",
        "SELECT job.id, task.ordinal, task.status FROM job JOIN task ON task.job = job.id
         WHERE job.end_at IS NOT NULL AND job.status >= 2 AND task.status < 3",
    ),
    (
        "a package counts its batches wrongly",
        "SELECT id, job_count, 0 FROM firmware
         WHERE job_count <> (SELECT COUNT(*) FROM job WHERE job.firmware = firmware.id)",
    ),
    (
        "a product counts its devices wrongly",
        "SELECT id, device_count, 0 FROM product
         WHERE device_count <> (SELECT COUNT(*) FROM device WHERE device.product = product.id AND deleted_at IS NULL)",
    ),
    (
        "a group counts its devices wrongly",
        "SELECT id, device_count, 0 FROM device_group WHERE deleted_at IS NULL
         AND device_count <> (SELECT COUNT(*) FROM group_member m WHERE m.device_group = device_group.id)",
    ),
    (
        "a deleted device is in a group",
        "SELECT m.device, m.device_group, 0 FROM group_member m JOIN device ON device.id = m.device
         WHERE device.deleted_at IS NOT NULL",
    ),
    (
        "a device has two open tasks for a module",
        "SELECT task.device, COUNT(*), 0 FROM task
         JOIN job ON job.id = task.job JOIN firmware ON firmware.id = job.firmware
         WHERE task.status < 4 GROUP BY task.device, firmware.module HAVING COUNT(*) > 1",
    ),
];

/// Checks the database as it is at this moment.
pub fn database(eye: &Connection) -> Result<(), Broken> {
    let unreadable = |error: rusqlite::Error| Broken::new("the database cannot be read", error);
    for (meaning, sql) in MUST_BE_EMPTY {
        let mut statement = eye.prepare(sql).map_err(unreadable)?;
        let row = |row: &rusqlite::Row<'_>| {
            Ok(format!("{:?} {:?} {:?}", row.get_ref(0)?, row.get_ref(1)?, row.get_ref(2)?))
        };
        let mut found = statement.query_map([], row).map_err(unreadable)?;
        if let Some(row) = found.next() {
            return Err(Broken::new(meaning, row.map_err(unreadable)?));
        }
    }
    let verdict: String = eye.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(unreadable)?;
    if verdict == "ok" { Ok(()) } else { Err(Broken::new("the database is damaged", verdict)) }
}

/// Checks that every uploaded file is there with its size and digest, and that no other is.
pub fn blobs(eye: &Connection, folder: &Path) -> Result<(), Broken> {
    let unreadable = |error: rusqlite::Error| Broken::new("the database cannot be read", error);
    let mut statement =
        eye.prepare("SELECT blob, size, md5 FROM file WHERE blob IS NOT NULL").map_err(unreadable)?;
    let row = |row: &rusqlite::Row<'_>| {
        Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?, row.get::<_, String>(2)?))
    };
    let kept = Folder::own(folder)?;
    let mut known = BTreeSet::new();
    for file in statement.query_map([], row).map_err(unreadable)? {
        let (name, size, md5) = file.map_err(unreadable)?;
        let mut bytes = Vec::new();
        kept.read(&name, size)
            .and_then(|mut file| file.read_to_end(&mut bytes))
            .map_err(|error| Broken::new("a file is gone", format!("{name}: {error}")))?;
        if bytes.len() as i64 != size || hex::encode(Md5::digest(&bytes)) != md5 {
            return Err(Broken::new("a file is not what was uploaded", name));
        }
        known.insert(name);
    }
    match kept.names()?.into_iter().find(|name| !known.contains(name)) {
        Some(name) => Err(Broken::new("a file belongs to nobody", name)),
        None => Ok(()),
    }
}
