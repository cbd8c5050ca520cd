//! Access keys: what signs API calls.

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

/// A key with what a call needs to know of its holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyHolder {
    /// The key.
    pub key: AccessKey,
    /// The account's name.
    pub account_name: String,
    /// The account's public instance.
    pub public: InstanceNo,
    /// The RAM user's policy document; `None`: the holder may do everything.
    pub policy: Option<String>,
}

/// A key as it is listed: without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedKey {
    /// AccessKeyId.
    pub id: String,
    /// The RAM user that holds it; `None`: the account itself.
    pub ram_user: Option<String>,
    /// Whether it may sign.
    pub enabled: bool,
    /// When it was made.
    pub created_at: Timestamp,
}

impl Tx<'_> {
    /// Adds a key, or replaces secret and switch of the one with its id. A RAM user must be there already: a
    /// key whose user is not is no key to [`Tx::access_key_holder`].
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

    /// The key with this id, and its holder. A key whose RAM user is gone is not found: without the user's row
    /// nobody knows what it may do.
    pub fn access_key_holder(&mut self, id: &str) -> Result<Option<KeyHolder>, StoreError> {
        self.query_one(
            "SELECT k.id, k.account, k.ram_user, k.secret_sealed, k.enabled, a.name, i.id, u.policy
             FROM access_key k JOIN account a ON a.id = k.account
             JOIN instance i ON i.account = k.account AND i.instance_id IS NULL
             LEFT JOIN ram_user u ON u.account = k.account AND u.name = k.ram_user
             WHERE k.id = ?1 AND (k.ram_user IS NULL OR u.name IS NOT NULL)",
            &[id.into()],
            |row| {
                Ok(KeyHolder {
                    key: AccessKey {
                        id: row.text(0)?,
                        account: AccountNo(row.int(1)?),
                        ram_user: row.opt_text(2)?,
                        secret_sealed: row.blob(3)?,
                        enabled: row.flag(4)?,
                    },
                    account_name: row.text(5)?,
                    public: InstanceNo(row.int(6)?),
                    policy: row.opt_text(7)?,
                })
            },
        )
    }

    /// All keys of an account, its own first, then by user and age.
    pub fn access_key_list(&mut self, account: AccountNo) -> Result<Vec<ListedKey>, StoreError> {
        self.query(
            "SELECT id, ram_user, enabled, created_at FROM access_key WHERE account = ?1
             ORDER BY COALESCE(ram_user, ''), created_at, id",
            &[account.0.into()],
            |row| {
                Ok(ListedKey {
                    id: row.text(0)?,
                    ram_user: row.opt_text(1)?,
                    enabled: row.flag(2)?,
                    created_at: Timestamp(row.int(3)?),
                })
            },
        )
    }

    /// How many keys a RAM user, or (`None`) the account itself, has; and how many of them may sign.
    pub fn access_key_count(
        &mut self,
        account: AccountNo,
        ram_user: Option<&str>,
    ) -> Result<(i64, i64), StoreError> {
        // COALESCE: `IS NOT DISTINCT FROM` is spelt differently by the engines; no user has an empty name.
        let found = self.query_one(
            "SELECT COUNT(*), COALESCE(CAST(SUM(enabled) AS BIGINT), 0) FROM access_key
             WHERE account = ?1 AND COALESCE(ram_user, '') = ?2",
            &[account.0.into(), ram_user.unwrap_or_default().into()],
            |row| Ok((row.int(0)?, row.int(1)?)),
        )?;
        Ok(found.unwrap_or_default())
    }

    /// Switches a key on or off.
    pub fn access_key_switch(&mut self, id: &str, enabled: bool) -> Result<(), StoreError> {
        self.exec("UPDATE access_key SET enabled = ?2 WHERE id = ?1", &[id.into(), enabled.into()])?;
        Ok(())
    }

    /// Deletes a key.
    pub fn access_key_delete(&mut self, id: &str) -> Result<(), StoreError> {
        self.exec("DELETE FROM access_key WHERE id = ?1", &[id.into()])?;
        Ok(())
    }
}
