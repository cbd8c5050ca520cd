//! A copy of a SQLite database that is in use: one moment of it, whoever writes meanwhile.

use crate::engine::sqlite;
use crate::error::StoreError;
use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};
use std::path::Path;

/// Pages that are copied between two words about the progress: a few megabytes. One in the test, which writes between.
const STEP_PAGES: i32 = if cfg!(test) { 1 } else { 2_048 };

/// A blob that a database names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedBlob {
    /// Its name in the blob store.
    pub name: String,
    /// Bytes.
    pub size: i64,
    /// Lower-case hex, as it was when it was uploaded.
    pub sha256: String,
}

/// Copies the database at `from` to `to`, which must not exist, and answers the blobs that the copy names.
/// Writers go on meanwhile; what they do after the beginning is not in the copy. `progress` hears pages: done, of all.
///
/// # Errors
/// When one of them cannot be read or written; `to` is of no use then.
pub fn snapshot(
    from: &Path,
    to: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Vec<NamedBlob>, StoreError> {
    let source = sqlite::open_reader(from)?;
    // Holds the moment: without it a write between two steps would have the copy begin again, for ever on a busy server.
    source.execute_batch("BEGIN").map_err(sqlite::error)?;
    source.query_row("SELECT COUNT(*) FROM migration", [], |_| Ok(())).map_err(sqlite::error)?;
    let mut target = Connection::open(to).map_err(sqlite::error)?;
    {
        let backup = Backup::new(&source, &mut target).map_err(sqlite::error)?;
        loop {
            let step = backup.step(STEP_PAGES).map_err(sqlite::error)?;
            let seen = backup.progress();
            let pages = |count: i32| u64::from(count.unsigned_abs());
            progress(pages(seen.pagecount - seen.remaining), pages(seen.pagecount));
            match step {
                StepResult::Done => break,
                StepResult::More => {}
                _ => {
                    return Err(StoreError::Unavailable(
                        "the database is locked by another program".to_owned(),
                    ));
                }
            }
        }
    }
    let blobs = named_blobs(&target)?;
    target.close().map_err(|(_, error)| sqlite::error(error))?;
    Ok(blobs)
}

fn named_blobs(conn: &Connection) -> Result<Vec<NamedBlob>, StoreError> {
    let sql = "SELECT blob, size, sha256 FROM file WHERE blob IS NOT NULL ORDER BY blob";
    let mut statement = conn.prepare(sql).map_err(sqlite::error)?;
    let rows = statement
        .query_map([], |row| Ok(NamedBlob { name: row.get(0)?, size: row.get(1)?, sha256: row.get(2)? }))
        .map_err(sqlite::error)?;
    rows.collect::<Result<_, _>>().map_err(sqlite::error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Location, Store};

    #[test]
    fn writes_between_the_steps_are_not_in_the_copy_and_do_not_hold_it_up() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("updraft.db"), dir.path().join("copy.db"));
        let store = Store::open(&Location::Sqlite(from.clone())).unwrap();
        let writer = sqlite::open_writer(&from).unwrap();
        let (mut steps, mut last) = (0, 0);
        let blobs = snapshot(&from, &to, &mut |done, all| {
            assert!(done > last && done <= all, "it began again");
            (last, steps) = (done, steps + 1);
            let sql = "INSERT INTO file (instance, object_key, blob, size, sha256, created_at)
                       VALUES (1, ?1, ?1, 1, '', 0)";
            writer.execute(sql, [format!("blob-{steps}")]).unwrap();
        });
        assert_eq!(blobs.unwrap(), []);
        assert!(steps > 10, "{steps}");
        store.close();
    }
}
