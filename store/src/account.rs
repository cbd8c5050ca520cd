//! Accounts, their instances and their access keys.

use crate::error::StoreError;
use crate::tx::Tx;
use crate::value::Value;
use updraft_core::id::{AccountNo, InstanceNo};
use updraft_core::time::Timestamp;

/// A key that signs API calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessKey {
    /// AccessKeyId.
    pub id: String,
    /// The account that it acts for.
    pub account: AccountNo,
    /// The RAM user that holds it; `None`: the account itself.
    pub ram_user: Option<String>,
    /// The secret, sealed with the master key.
    pub secret_sealed: Vec<u8>,
    /// Whether it may sign.
    pub enabled: bool,
}

impl Tx<'_> {
    /// The account with this name, made with its public instance if absent.
    pub fn account_ensure(&mut self, name: &str, now: Timestamp) -> Result<AccountNo, StoreError> {
        let made = self.query_one(
            "INSERT INTO account (name, created_at) VALUES (?1, ?2) ON CONFLICT (name) DO NOTHING RETURNING id",
            &[name.into(), now.0.into()],
            |row| Ok(AccountNo(row.int(0)?)),
        )?;
        let Some(account) = made else {
            return self
                .account_find(name)?
                .ok_or_else(|| StoreError::Internal("an account vanished".to_owned()));
        };
        self.exec(
            "INSERT INTO instance (account, instance_id, name, created_at) VALUES (?1, NULL, '', ?2)",
            &[account.0.into(), now.0.into()],
        )?;
        Ok(account)
    }

    /// The account's public instance, which needs no id.
    pub fn instance_public(&mut self, account: AccountNo) -> Result<InstanceNo, StoreError> {
        self.query_one(
            "SELECT id FROM instance WHERE account = ?1 AND instance_id IS NULL",
            &[account.0.into()],
            |row| Ok(InstanceNo(row.int(0)?)),
        )?
        .ok_or_else(|| StoreError::Corrupt {
            place: "instance",
            detail: format!("account {account} has no public one"),
        })
    }

    /// The account's instance with this IotInstanceId.
    pub fn instance_find(
        &mut self,
        account: AccountNo,
        instance_id: &str,
    ) -> Result<Option<InstanceNo>, StoreError> {
        self.query_one(
            "SELECT id FROM instance WHERE instance_id = ?1 AND account = ?2",
            &[instance_id.into(), account.0.into()],
            |row| Ok(InstanceNo(row.int(0)?)),
        )
    }

    /// Makes an instance; `None` if the account has one of that name.
    pub fn instance_insert(
        &mut self,
        account: AccountNo,
        instance_id: &str,
        name: &str,
        now: Timestamp,
    ) -> Result<Option<InstanceNo>, StoreError> {
        self.query_one(
            "INSERT INTO instance (account, instance_id, name, created_at) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (account, name) DO NOTHING RETURNING id",
            &[account.0.into(), instance_id.into(), name.into(), now.0.into()],
            |row| Ok(InstanceNo(row.int(0)?)),
        )
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

    /// Adds a key, or replaces the secret of the one with its id.
    pub fn access_key_put(&mut self, key: &AccessKey, now: Timestamp) -> Result<(), StoreError> {
        self.exec(
            "INSERT INTO access_key (id, account, ram_user, secret_sealed, enabled, created_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (id) DO UPDATE SET secret_sealed = excluded.secret_sealed, enabled = excluded.enabled",
            &[
                (&key.id).into(),
                key.account.0.into(),
                key.ram_user.as_ref().into(),
                Value::Blob(&key.secret_sealed),
                key.enabled.into(),
                now.0.into(),
            ],
        )?;
        Ok(())
    }

    /// The key with this id.
    pub fn access_key_find(&mut self, id: &str) -> Result<Option<AccessKey>, StoreError> {
        self.query_one(
            "SELECT id, account, ram_user, secret_sealed, enabled FROM access_key WHERE id = ?1",
            &[id.into()],
            |row| {
                Ok(AccessKey {
                    id: row.text(0)?,
                    account: AccountNo(row.int(1)?),
                    ram_user: row.opt_text(2)?,
                    secret_sealed: row.blob(3)?,
                    enabled: row.flag(4)?,
                })
            },
        )
    }

    /// Whether the account itself (not a RAM user) has a key.
    pub fn access_key_root_exists(&mut self, account: AccountNo) -> Result<bool, StoreError> {
        let found = self.query_one(
            "SELECT 1 FROM access_key WHERE account = ?1 AND ram_user IS NULL LIMIT 1",
            &[account.0.into()],
            |_| Ok(()),
        )?;
        Ok(found.is_some())
    }
}
