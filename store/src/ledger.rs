//! What several nodes must count together at once: the calls of an account, and nonces. Their beats (`node.rs`) are
//! written the same way: who waits to write lives all the same.
//!
//! These rows are written beside the one writer and without a wait for the disk: a database server that crashes may
//! forget the last half second of them.

use crate::error::StoreError;
use crate::tx::{Column, Hot, Tx};
use crate::value::Value;
use updraft_core::id::AccountNo;
use updraft_core::time::Timestamp;

const WINDOW: Hot = Hot {
    row: "SELECT taken FROM call_window WHERE account = ?1 AND operation = ?2",
    set: "SELECT w.taken FROM call_window w JOIN unnest($1::bigint[], $2::text[]) AS n(account, operation)
            ON w.account = n.account AND w.operation = n.operation FOR UPDATE OF w",
    columns: &[Column::Int, Column::Text],
};

impl Tx<'_> {
    /// Uses a nonce; `false`: it was used before.
    pub fn nonce_use(&mut self, hash: i64, expires: Timestamp) -> Result<bool, StoreError> {
        let used = self.exec(
            "INSERT INTO call_nonce (hash, expires_at) VALUES (?1, ?2) ON CONFLICT (hash) DO NOTHING",
            &[hash.into(), expires.0.into()],
        )?;
        Ok(used == 1)
    }

    /// Forgets up to `limit` nonces that expired before `now`; answers how many.
    pub fn nonces_forget(&mut self, now: Timestamp, limit: i64) -> Result<usize, StoreError> {
        self.exec(
            "DELETE FROM call_nonce WHERE hash IN
               (SELECT hash FROM call_nonce WHERE expires_at < ?1 ORDER BY expires_at LIMIT ?2)",
            &[now.0.into(), limit.into()],
        )
    }

    /// The moments of an account's last calls of an operation, oldest first. Until the transaction ends nobody else
    /// gets them.
    pub fn call_window(&mut self, account: AccountNo, operation: &str) -> Result<Vec<Timestamp>, StoreError> {
        self.exec(
            "INSERT INTO call_window (account, operation, taken) VALUES (?1, ?2, ?3)
             ON CONFLICT (account, operation) DO NOTHING",
            &[account.0.into(), operation.into(), Value::Blob(&[])],
        )?;
        let key = vec![vec![account.0.into(), operation.into()]];
        let taken = self.query_set(&WINDOW, &key, |row| row.blob(0))?.pop().unwrap_or_default();
        let (moments, _) = taken.as_chunks::<8>();
        Ok(moments.iter().map(|bytes| Timestamp(i64::from_le_bytes(*bytes))).collect())
    }

    /// Writes the moments of an account's last calls of an operation.
    pub fn call_window_set(
        &mut self,
        account: AccountNo,
        operation: &str,
        taken: impl Iterator<Item = Timestamp>,
    ) -> Result<(), StoreError> {
        let taken: Vec<u8> = taken.flat_map(|moment| moment.0.to_le_bytes()).collect();
        self.exec(
            "UPDATE call_window SET taken = ?3 WHERE account = ?1 AND operation = ?2",
            &[account.0.into(), operation.into(), taken.as_slice().into()],
        )
        .map(drop)
    }
}
