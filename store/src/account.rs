//! Accounts, and what names an installation.

use crate::error::StoreError;
use crate::tx::{Conn, Tx};
use crate::value::Value;
use updraft_core::id::AccountNo;
use updraft_core::time::Timestamp;

impl Tx<'_> {
    /// The account with this name, made with its public instance if absent.
    pub fn account_ensure(&mut self, name: &str, now: Timestamp) -> Result<AccountNo, StoreError> {
        match self.account_insert(name, now)? {
            Some(account) => Ok(account),
            None => {
                self.account_find(name)?.ok_or_else(|| StoreError::Internal("an account vanished".to_owned()))
            }
        }
    }

    /// Makes an account with its public instance; `None` if there is one of that name.
    pub fn account_insert(&mut self, name: &str, now: Timestamp) -> Result<Option<AccountNo>, StoreError> {
        let made = self.query_one(
            "INSERT INTO account (name, created_at) VALUES (?1, ?2) ON CONFLICT (name) DO NOTHING RETURNING id",
            &[name.into(), now.0.into()],
            |row| Ok(AccountNo(row.int(0)?)),
        )?;
        let Some(account) = made else { return Ok(None) };
        self.exec(
            "INSERT INTO instance (account, instance_id, name, created_at) VALUES (?1, NULL, '', ?2)",
            &[account.0.into(), now.0.into()],
        )?;
        Ok(Some(account))
    }

    /// Waits until no other command changes accounts, users or keys, and keeps them waiting until this
    /// transaction ends: what it counts and finds stays true. SQLite has one writer at a time anyway.
    pub fn admin_lock(&mut self) -> Result<(), StoreError> {
        if let Conn::Postgres(_) = self.conn {
            self.exec("SELECT pg_advisory_xact_lock(hashtext('updraft.admin'))", &[])?;
        }
        Ok(())
    }

    /// The account with this name.
    pub fn account_find(&mut self, name: &str) -> Result<Option<AccountNo>, StoreError> {
        self.query_one("SELECT id FROM account WHERE name = ?1", &[name.into()], |row| {
            Ok(AccountNo(row.int(0)?))
        })
    }

    /// The name of this installation, sealed with its master key; `None` in a new database.
    pub fn installation_find(&mut self) -> Result<Option<Vec<u8>>, StoreError> {
        self.query_one("SELECT name_sealed FROM installation WHERE id = 0", &[], |row| row.blob(0))
    }

    /// Names this installation, for good.
    pub fn installation_insert(&mut self, name_sealed: &[u8]) -> Result<(), StoreError> {
        self.exec("INSERT INTO installation (id, name_sealed) VALUES (0, ?1)", &[Value::Blob(name_sealed)])?;
        Ok(())
    }

    /// All accounts by age: name, and when it was made.
    pub fn account_list(&mut self) -> Result<Vec<(String, Timestamp)>, StoreError> {
        self.query("SELECT name, created_at FROM account ORDER BY id", &[], |row| {
            Ok((row.text(0)?, Timestamp(row.int(1)?)))
        })
    }
}
