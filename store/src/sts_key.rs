//! Temporary keys: access keys that expire, and that sign only together with their token.

use crate::error::StoreError;
use crate::tx::Tx;
use crate::value::Value;
use updraft_core::id::{AccountNo, InstanceNo};
use updraft_core::time::Timestamp;

/// A temporary key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StsKey {
    /// AccessKeyId.
    pub id: String,
    /// The account that it acts for.
    pub account: AccountNo,
    /// The RAM user that it acts as; `None`: the account itself.
    pub ram_user: Option<String>,
    /// What its holder is called.
    pub session_name: String,
    /// The session's policy document; `None`: it may do what its user may.
    pub policy: Option<String>,
    /// The secret, sealed with the master key.
    pub secret_sealed: Vec<u8>,
    /// The hash of its SecurityToken.
    pub token_hash: Vec<u8>,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it signs nothing.
    pub expires_at: Timestamp,
}

/// A temporary key with what a call needs to know of its holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StsHolder {
    /// The key.
    pub key: StsKey,
    /// The account's name.
    pub account_name: String,
    /// The account's public instance.
    pub public: InstanceNo,
    /// The RAM user's policy document; `None`: the user may do everything.
    pub user_policy: Option<String>,
}

impl Tx<'_> {
    /// Adds a temporary key. A RAM user must be there already: a key whose user is not is no key to
    /// [`Tx::sts_key_holder`].
    pub fn sts_key_insert(&mut self, key: &StsKey) -> Result<(), StoreError> {
        self.exec(
            "INSERT INTO sts_key (id, account, ram_user, session_name, policy, secret_sealed, token_hash,
                                  created_at, expires_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            &[
                (&key.id).into(),
                key.account.0.into(),
                key.ram_user.as_ref().into(),
                (&key.session_name).into(),
                key.policy.as_ref().into(),
                Value::Blob(&key.secret_sealed),
                Value::Blob(&key.token_hash),
                key.created_at.0.into(),
                key.expires_at.0.into(),
            ],
        )?;
        Ok(())
    }

    /// The temporary key with this id, and its holder; expired ones too, until they are deleted. A key whose
    /// RAM user is gone is not found.
    pub fn sts_key_holder(&mut self, id: &str) -> Result<Option<StsHolder>, StoreError> {
        self.query_one(
            "SELECT k.id, k.account, k.ram_user, k.session_name, k.policy, k.secret_sealed, k.token_hash,
                    k.created_at, k.expires_at, a.name, i.id, u.policy
             FROM sts_key k JOIN account a ON a.id = k.account
             JOIN instance i ON i.account = k.account AND i.instance_id IS NULL
             LEFT JOIN ram_user u ON u.account = k.account AND u.name = k.ram_user
             WHERE k.id = ?1 AND (k.ram_user IS NULL OR u.name IS NOT NULL)",
            &[id.into()],
            |row| {
                Ok(StsHolder {
                    key: StsKey {
                        id: row.text(0)?,
                        account: AccountNo(row.int(1)?),
                        ram_user: row.opt_text(2)?,
                        session_name: row.text(3)?,
                        policy: row.opt_text(4)?,
                        secret_sealed: row.blob(5)?,
                        token_hash: row.blob(6)?,
                        created_at: Timestamp(row.int(7)?),
                        expires_at: Timestamp(row.int(8)?),
                    },
                    account_name: row.text(9)?,
                    public: InstanceNo(row.int(10)?),
                    user_policy: row.opt_text(11)?,
                })
            },
        )
    }

    /// How many temporary keys of a RAM user, or (`None`) of the account itself, have not expired.
    pub fn sts_key_count(
        &mut self,
        account: AccountNo,
        ram_user: Option<&str>,
        now: Timestamp,
    ) -> Result<i64, StoreError> {
        let count = match ram_user {
            Some(user) => self.query_one(
                "SELECT COUNT(*) FROM sts_key WHERE account = ?1 AND ram_user = ?2 AND expires_at > ?3",
                &[account.0.into(), user.into(), now.0.into()],
                |row| row.int(0),
            )?,
            None => self.query_one(
                "SELECT COUNT(*) FROM sts_key WHERE account = ?1 AND ram_user IS NULL AND expires_at > ?2",
                &[account.0.into(), now.0.into()],
                |row| row.int(0),
            )?,
        };
        Ok(count.unwrap_or_default())
    }

    /// Deletes all temporary keys of a RAM user, or (`None`) of the account itself; answers how many had not
    /// expired.
    pub fn sts_keys_revoke(
        &mut self,
        account: AccountNo,
        ram_user: Option<&str>,
        now: Timestamp,
    ) -> Result<i64, StoreError> {
        let working = self.sts_key_count(account, ram_user, now)?;
        match ram_user {
            Some(user) => self.exec(
                "DELETE FROM sts_key WHERE account = ?1 AND ram_user = ?2",
                &[account.0.into(), user.into()],
            )?,
            None => {
                self.exec("DELETE FROM sts_key WHERE account = ?1 AND ram_user IS NULL", &[account.0.into()])?
            }
        };
        Ok(working)
    }

    /// Whether a temporary key expired before this moment.
    pub fn sts_keys_overdue(&mut self, expired_before: Timestamp) -> Result<bool, StoreError> {
        let found = self.query_one(
            "SELECT 1 FROM sts_key WHERE expires_at < ?1 LIMIT 1",
            &[expired_before.0.into()],
            |_| Ok(()),
        )?;
        Ok(found.is_some())
    }

    /// Deletes temporary keys that expired before this moment, at most so many, the oldest first; answers how
    /// many.
    pub fn sts_keys_trim(&mut self, expired_before: Timestamp, max: i64) -> Result<usize, StoreError> {
        self.exec(
            "DELETE FROM sts_key WHERE id IN
               (SELECT id FROM sts_key WHERE expires_at < ?1 ORDER BY expires_at, id LIMIT ?2)",
            &[expired_before.0.into(), max.into()],
        )
    }
}
