//! RAM users: people and programs that act for an account, each with at most one policy.

use crate::error::StoreError;
use crate::tx::Tx;
use updraft_core::id::AccountNo;
use updraft_core::time::Timestamp;

/// A RAM user as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RamUser {
    /// Its name, unique in the account.
    pub name: String,
    /// Its policy document, as it was given; `None`: it may do everything.
    pub policy: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// How many access keys it has.
    pub keys: i64,
}

/// A query for RAM users, in the order of columns that [`ram_user`] reads.
macro_rules! ram_users {
    ($rest:literal) => {
        concat!(
            "SELECT u.name, u.policy, u.created_at, ",
            "(SELECT COUNT(*) FROM access_key k WHERE k.account = u.account AND k.ram_user = u.name) ",
            "FROM ram_user u ",
            $rest
        )
    };
}

fn ram_user(row: &crate::value::Row<'_>) -> Result<RamUser, StoreError> {
    Ok(RamUser {
        name: row.text(0)?,
        policy: row.opt_text(1)?,
        created_at: Timestamp(row.int(2)?),
        keys: row.int(3)?,
    })
}

impl Tx<'_> {
    /// Makes a RAM user; false if the account has one of that name.
    pub fn ram_user_insert(
        &mut self,
        account: AccountNo,
        name: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let made = self.exec(
            "INSERT INTO ram_user (account, name, policy, created_at) VALUES (?1, ?2, NULL, ?3)
             ON CONFLICT (account, name) DO NOTHING",
            &[account.0.into(), name.into(), now.0.into()],
        )?;
        Ok(made > 0)
    }

    /// The account's RAM user of this name.
    pub fn ram_user_find(&mut self, account: AccountNo, name: &str) -> Result<Option<RamUser>, StoreError> {
        self.query_one(
            ram_users!("WHERE u.account = ?1 AND u.name = ?2"),
            &[account.0.into(), name.into()],
            ram_user,
        )
    }

    /// The account's RAM users, by name.
    pub fn ram_user_list(&mut self, account: AccountNo) -> Result<Vec<RamUser>, StoreError> {
        self.query(ram_users!("WHERE u.account = ?1 ORDER BY u.name"), &[account.0.into()], ram_user)
    }

    /// How many RAM users the account has.
    pub fn ram_user_count(&mut self, account: AccountNo) -> Result<i64, StoreError> {
        let count =
            self.query_one("SELECT COUNT(*) FROM ram_user WHERE account = ?1", &[account.0.into()], |row| {
                row.int(0)
            })?;
        Ok(count.unwrap_or_default())
    }

    /// Sets or (`None`) removes a RAM user's policy; false if there is no such user.
    pub fn ram_user_policy_set(
        &mut self,
        account: AccountNo,
        name: &str,
        policy: Option<&str>,
    ) -> Result<bool, StoreError> {
        let changed = self.exec(
            "UPDATE ram_user SET policy = ?3 WHERE account = ?1 AND name = ?2",
            &[account.0.into(), name.into(), policy.into()],
        )?;
        Ok(changed > 0)
    }

    /// Deletes a RAM user, its policy and all its access keys, temporary ones too; false if there is no such user.
    pub fn ram_user_delete(&mut self, account: AccountNo, name: &str) -> Result<bool, StoreError> {
        self.exec(
            "DELETE FROM access_key WHERE account = ?1 AND ram_user = ?2",
            &[account.0.into(), name.into()],
        )?;
        self.exec(
            "DELETE FROM sts_key WHERE account = ?1 AND ram_user = ?2",
            &[account.0.into(), name.into()],
        )?;
        let gone = self.exec(
            "DELETE FROM ram_user WHERE account = ?1 AND name = ?2",
            &[account.0.into(), name.into()],
        )?;
        Ok(gone > 0)
    }
}
