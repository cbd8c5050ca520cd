//! Uploaded files: from ticket to package.

use crate::error::StoreError;
use crate::tx::{Column, Hot, Tx};
use crate::value::Value;
use updraft_core::id::{DeviceNo, FileNo, FirmwareNo, InstanceNo, JobNo};
use updraft_core::time::Timestamp;

/// A file whose upload is complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadedFile {
    /// Row number.
    pub no: FileNo,
    /// The key that it was uploaded under.
    pub object_key: String,
    /// Where its bytes are, in the blob store.
    pub blob: String,
    /// Bytes.
    pub size: i64,
    /// Lower-case hex.
    pub md5: String,
    /// Lower-case hex.
    pub sha256: String,
    /// The package that uses it.
    pub firmware: Option<FirmwareNo>,
    /// Since when no package uses it: the end of its upload; `None` once a package does.
    pub unused_since: Option<Timestamp>,
}

/// A ticket or a file that no package has used for long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnusedFile {
    /// Row number.
    pub no: FileNo,
    /// The key of its ticket.
    pub object_key: String,
}

const PURGE: Hot = Hot {
    row: "DELETE FROM file WHERE id = ?1 AND unused_since < ?2 RETURNING blob",
    set: "DELETE FROM file USING unnest($1::bigint[], $2::bigint[]) AS u (id, before)
          WHERE file.id = u.id AND file.unused_since < u.before RETURNING file.blob",
    columns: &[Column::Int, Column::Int],
};

/// What became of a complete upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UploadNoted {
    /// No ticket is open for the key: none was given, or a package uses it. Nothing was noted.
    Refused,
    /// It is the key's first.
    First,
    /// It takes the place of this blob, which belongs to nobody from now on.
    Replaced(String),
}

/// See `plan.rs`, also for the `+`.
pub(crate) const FILE_OF_TASK: &str = "SELECT f.blob, f.size FROM task t JOIN job j ON j.id = t.job
     JOIN firmware w ON w.id = j.firmware AND w.deleted_at IS NULL
     JOIN file f ON f.firmware = w.id AND f.ordinal = ?3
     WHERE t.device = ?1 AND +t.job = ?2 AND t.status IN (2, 3) AND j.download = 1 AND f.blob IS NOT NULL
     LIMIT 1";

pub(crate) const FILE_BELOW: &str =
    "SELECT x.id, x.object_key, x.blob, x.size, x.md5, x.sha256, x.firmware, x.unused_since
     FROM file x LEFT JOIN firmware f ON f.id = x.firmware
     WHERE x.object_key > ?1 AND x.object_key < ?2 AND x.blob IS NOT NULL AND f.deleted_at IS NULL
     ORDER BY x.object_key LIMIT 1";

impl Tx<'_> {
    /// Notes that an upload ticket for this key was given to the instance.
    pub fn file_ticket_insert(
        &mut self,
        instance: InstanceNo,
        object_key: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.exec(
            "INSERT INTO file (instance, object_key, created_at, unused_since) VALUES (?1, ?2, ?3, ?3)",
            &[instance.0.into(), object_key.into(), now.0.into()],
        )?;
        Ok(())
    }

    /// Whether a ticket was given for this key, and whether a package uses it already.
    pub fn file_ticket_find(&mut self, object_key: &str) -> Result<Option<Option<FirmwareNo>>, StoreError> {
        self.query_one("SELECT firmware FROM file WHERE object_key = ?1", &[object_key.into()], |row| {
            Ok(row.opt_int(0)?.map(FirmwareNo))
        })
    }

    /// Notes a complete upload, unless a package uses the key already.
    pub fn file_uploaded(
        &mut self,
        object_key: &str,
        blob: &str,
        size: i64,
        md5: &str,
        sha256: &str,
        now: Timestamp,
    ) -> Result<UploadNoted, StoreError> {
        let before = self.query_one(
            "SELECT blob FROM file WHERE object_key = ?1 AND firmware IS NULL",
            &[object_key.into()],
            |row| row.opt_text(0),
        )?;
        let Some(replaced) = before else { return Ok(UploadNoted::Refused) };
        let noted = self.exec(
            "UPDATE file SET blob = ?2, size = ?3, md5 = ?4, sha256 = ?5, unused_since = ?6
             WHERE object_key = ?1 AND firmware IS NULL",
            &[object_key.into(), blob.into(), size.into(), md5.into(), sha256.into(), now.0.into()],
        )?;
        if noted == 0 {
            return Ok(UploadNoted::Refused);
        }
        Ok(replaced.map_or(UploadNoted::First, UploadNoted::Replaced))
    }

    /// The instance's uploaded file with this key.
    pub fn file_find(
        &mut self,
        instance: InstanceNo,
        object_key: &str,
    ) -> Result<Option<UploadedFile>, StoreError> {
        self.query_one(
            "SELECT id, object_key, blob, size, md5, sha256, firmware, unused_since FROM file
             WHERE object_key = ?1 AND instance = ?2 AND blob IS NOT NULL",
            &[object_key.into(), instance.0.into()],
            uploaded,
        )
    }

    /// Blob and size of the file at a place, from 1, of a batch's package, if the batch is for downloads by MQTT and
    /// the device was told of its task in it, which has not ended. A point look-up.
    pub fn file_of_task(
        &mut self,
        device: DeviceNo,
        job: JobNo,
        place: i64,
    ) -> Result<Option<(String, i64)>, StoreError> {
        self.query_one(
            FILE_OF_TASK,
            &[device.0.into(), job.0.into(), place.saturating_sub(1).into()],
            |row| Ok((row.text(0)?, row.int(1)?)),
        )
    }

    /// The uploaded file with this key, whoever owns it: for downloads, whose URL is signed. That of a deleted package
    /// is gone from the moment of its deletion.
    pub fn file_find_any(&mut self, object_key: &str) -> Result<Option<UploadedFile>, StoreError> {
        self.query_one(
            "SELECT x.id, x.object_key, x.blob, x.size, x.md5, x.sha256, x.firmware, x.unused_since
             FROM file x LEFT JOIN firmware f ON f.id = x.firmware
             WHERE x.object_key = ?1 AND x.blob IS NOT NULL AND f.deleted_at IS NULL",
            &[object_key.into()],
            uploaded,
        )
    }

    /// The same for the only file whose key begins so, up to and with the last `/` of `head`.
    pub fn file_find_below(&mut self, head: &str) -> Result<Option<UploadedFile>, StoreError> {
        // `0` comes right after `/`: a range of the index.
        let upto = format!("{}0", head.strip_suffix('/').unwrap_or(head));
        self.query_one(FILE_BELOW, &[head.into(), (&upto).into()], uploaded)
    }

    /// Tickets and files that no package uses since a moment before `before`, at most `limit`, oldest first.
    pub fn files_unused(&mut self, before: Timestamp, limit: i64) -> Result<Vec<UnusedFile>, StoreError> {
        self.query(
            "SELECT id, object_key FROM file WHERE unused_since < ?1 ORDER BY unused_since, id LIMIT ?2",
            &[before.0.into(), limit.into()],
            |row| Ok(UnusedFile { no: FileNo(row.int(0)?), object_key: row.text(1)? }),
        )
    }

    /// Forgets those of these files that no package uses since a moment before `before`; answers how many, and
    /// their blobs, which belong to nobody from now on.
    pub fn files_purge(
        &mut self,
        files: &[FileNo],
        before: Timestamp,
    ) -> Result<(usize, Vec<String>), StoreError> {
        let rows: Vec<Vec<Value<'_>>> =
            files.iter().map(|file| vec![file.0.into(), before.0.into()]).collect();
        let blobs = self.query_set(&PURGE, &rows, |row| row.opt_text(0))?;
        Ok((blobs.len(), blobs.into_iter().flatten().collect()))
    }

    /// Whether this blob belongs to a file: what does not may be swept after a crash.
    pub fn file_blob_exists(&mut self, blob: &str) -> Result<bool, StoreError> {
        Ok(self.query_one("SELECT 1 FROM file WHERE blob = ?1", &[blob.into()], |_| Ok(()))?.is_some())
    }
}

fn uploaded(row: &crate::value::Row<'_>) -> Result<UploadedFile, StoreError> {
    Ok(UploadedFile {
        no: FileNo(row.int(0)?),
        object_key: row.text(1)?,
        blob: row.text(2)?,
        size: row.int(3)?,
        md5: row.text(4)?,
        sha256: row.text(5)?,
        firmware: row.opt_int(6)?.map(FirmwareNo),
        unused_since: row.opt_int(7)?.map(Timestamp),
    })
}
