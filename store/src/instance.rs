//! Instances: worlds of their own within an account.

use crate::error::StoreError;
use crate::tx::Tx;
use updraft_core::id::{AccountNo, InstanceNo};
use updraft_core::time::Timestamp;

/// An instance as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Row number.
    pub no: InstanceNo,
    /// IotInstanceId; `None`: the account's public instance.
    pub instance_id: Option<String>,
    /// Its name; empty for the public one.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
}

impl Tx<'_> {
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

    /// The account's instances, the public one first, then by age.
    pub fn instance_list(&mut self, account: AccountNo) -> Result<Vec<Instance>, StoreError> {
        self.query(
            "SELECT id, instance_id, name, created_at FROM instance WHERE account = ?1 ORDER BY id",
            &[account.0.into()],
            |row| {
                Ok(Instance {
                    no: InstanceNo(row.int(0)?),
                    instance_id: row.opt_text(1)?,
                    name: row.text(2)?,
                    created_at: Timestamp(row.int(3)?),
                })
            },
        )
    }
}
