//! The end of packages: their deletion, and the removal of their files.
//!
//! A deleted package keeps its row, and the rows of its files, for the batches that it had.

use crate::error::StoreError;
use crate::job_work::cancel_encode;
use crate::tx::Tx;
use updraft_core::id::FirmwareNo;
use updraft_core::task::Cancel;
use updraft_core::time::Timestamp;

impl Tx<'_> {
    /// Deletes a package: from now on it is found by its row number only and its name is free. Its batches are
    /// stopped: every open task is to be cancelled, and dynamic ones end and take nobody in any more. `false` if it
    /// was deleted before.
    pub fn firmware_delete(&mut self, no: FirmwareNo, now: Timestamp) -> Result<bool, StoreError> {
        let deleted = self.exec(
            "UPDATE firmware SET deleted_at = ?2, modified_at = ?2, purge = 1 WHERE id = ?1 AND deleted_at IS NULL",
            &[no.0.into(), now.0.into()],
        )?;
        if deleted == 0 {
            return Ok(false);
        }
        let all = cancel_encode(Cancel::ALL);
        self.exec(
            "UPDATE job SET cancel_mask = ?2, modified_at = ?3 WHERE firmware = ?1 AND status < 2",
            &[no.0.into(), all.into(), now.0.into()],
        )?;
        // Tasks of a dynamic batch outlive it.
        self.exec(
            "UPDATE job SET cancel_mask = ?2, modified_at = ?3
             WHERE firmware = ?1 AND dynamic_mode IS NOT NULL
               AND EXISTS (SELECT 1 FROM task t WHERE t.job = job.id AND t.status < 4)",
            &[no.0.into(), all.into(), now.0.into()],
        )?;
        if let Some(running) = self.policy_of_firmware(no)? {
            self.policy_end(&running, now)?;
        }
        Ok(true)
    }

    /// Whether files of deleted packages are still kept.
    pub fn firmware_purge_exists(&mut self) -> Result<bool, StoreError> {
        let found = self.query_one("SELECT 1 FROM firmware WHERE purge <> 0 LIMIT 1", &[], |_| Ok(()))?;
        Ok(found.is_some())
    }

    /// Lets go of the files of up to `limit` deleted packages that no open task refers to any more; answers how
    /// many packages, and their blobs, which belong to nobody from now on.
    pub fn firmwares_purge(&mut self, limit: i64) -> Result<(usize, Vec<String>), StoreError> {
        let packages = self.query(
            "SELECT f.id FROM firmware f
             WHERE f.purge <> 0
               AND NOT EXISTS (SELECT 1 FROM job j WHERE j.firmware = f.id AND j.status < 2)
               AND NOT EXISTS (SELECT 1 FROM job j WHERE j.firmware = f.id AND j.dynamic_mode IS NOT NULL
                                                     AND j.cancel_mask <> 0)
             ORDER BY f.id LIMIT ?1",
            &[limit.into()],
            |row| row.int(0),
        )?;
        let mut blobs = Vec::new();
        for no in &packages {
            blobs.extend(self.query(
                "SELECT blob FROM file WHERE firmware = ?1 AND blob IS NOT NULL ORDER BY ordinal",
                &[(*no).into()],
                |row| row.text(0),
            )?);
            self.exec("UPDATE file SET blob = NULL WHERE firmware = ?1", &[(*no).into()])?;
            self.exec("UPDATE firmware SET purge = 0 WHERE id = ?1", &[(*no).into()])?;
        }
        Ok((packages.len(), blobs))
    }
}
