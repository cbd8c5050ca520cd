//! The audit log: who changed what, or tried to.

use crate::error::StoreError;
use crate::tx::{Column, Hot, Tx};
use crate::value::{Row, Value};
use updraft_core::time::Timestamp;

/// One line. It holds names, not row numbers: it outlives what it tells of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditLine {
    /// When.
    pub at: Timestamp,
    /// The account that it is about.
    pub account: String,
    /// IotInstanceId; empty: the public instance, or none.
    pub instance: String,
    /// The RAM user that did it; for a command: that it is about.
    pub ram_user: Option<String>,
    /// The access key that signed; for a command: that it is about.
    pub access_key: Option<String>,
    /// Who ran the command, on the system; `None`: a call of the API.
    pub os_user: Option<String>,
    /// The operation (`CreateProduct`) or the command (`ram create-user`).
    pub action: String,
    /// The call's RequestId.
    pub request_id: Option<String>,
    /// `ok`, or the code of the refusal.
    pub outcome: String,
    /// What was made or meant: names and ids, no secrets.
    pub subject: String,
}

/// Which lines are looked for; `None`: any.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditFilter {
    /// From this time on.
    pub since: Option<Timestamp>,
    /// The account's name.
    pub account: Option<String>,
    /// The RAM user's name, or the user of the system, also one that became root by sudo.
    pub user: Option<String>,
    /// The operation or command, exactly.
    pub action: Option<String>,
}

/// What a line is worth when there are too many: refusals go first, commands last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AuditWorth {
    /// A call that was refused or failed.
    Refusal,
    /// A call that changed something.
    Change,
    /// A command.
    Command,
}

/// A line as trimming sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScannedLine {
    /// Its number.
    pub no: i64,
    /// The account that it is about.
    pub account: String,
    /// What it is worth.
    pub worth: AuditWorth,
}

const DELETE: Hot = Hot {
    row: "DELETE FROM audit WHERE id = ?1",
    set: "DELETE FROM audit WHERE id = ANY($1::bigint[])",
    columns: &[Column::Int],
};

fn line(row: &Row<'_>) -> Result<(i64, AuditLine), StoreError> {
    let line = AuditLine {
        at: Timestamp(row.int(1)?),
        account: row.text(2)?,
        instance: row.text(3)?,
        ram_user: row.opt_text(4)?,
        access_key: row.opt_text(5)?,
        os_user: row.opt_text(6)?,
        action: row.text(7)?,
        request_id: row.opt_text(8)?,
        outcome: row.text(9)?,
        subject: row.text(10)?,
    };
    Ok((row.int(0)?, line))
}

impl Tx<'_> {
    /// Adds a line.
    pub fn audit_insert(&mut self, line: &AuditLine) -> Result<(), StoreError> {
        self.exec(
            "INSERT INTO audit (at, account, instance, ram_user, access_key, os_user, action, request_id, outcome,
                                subject)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            &[
                line.at.0.into(),
                (&line.account).into(),
                (&line.instance).into(),
                line.ram_user.as_ref().into(),
                line.access_key.as_ref().into(),
                line.os_user.as_ref().into(),
                (&line.action).into(),
                line.request_id.as_ref().into(),
                (&line.outcome).into(),
                (&line.subject).into(),
            ],
        )?;
        Ok(())
    }

    /// At most `limit` lines with a number below `before`, newest first, each with its number.
    pub fn audit_list(
        &mut self,
        filter: &AuditFilter,
        before: i64,
        limit: i64,
    ) -> Result<Vec<(i64, AuditLine)>, StoreError> {
        // Empty stands for any: no account, user or action has an empty name.
        let user = filter.user.as_deref().unwrap_or_default();
        let by_sudo = ["root", "uid 0"].map(|root| format!("{root} (sudo by {user})"));
        self.query(
            "SELECT id, at, account, instance, ram_user, access_key, os_user, action, request_id, outcome, subject
             FROM audit WHERE id < ?1 AND at >= ?2 AND (?3 = '' OR account = ?3)
               AND (?4 = '' OR ram_user = ?4 OR os_user IN (?4, ?7, ?8)) AND (?5 = '' OR action = ?5)
             ORDER BY id DESC LIMIT ?6",
            &[
                before.into(),
                filter.since.map_or(i64::MIN, |since| since.0).into(),
                filter.account.as_deref().unwrap_or_default().into(),
                user.into(),
                filter.action.as_deref().unwrap_or_default().into(),
                limit.into(),
                (&by_sudo[0]).into(),
                (&by_sudo[1]).into(),
            ],
            line,
        )
    }

    /// Whether one of the `chunk` oldest lines is older than `older_than`.
    pub fn audit_overdue(&mut self, older_than: Timestamp, chunk: i64) -> Result<bool, StoreError> {
        let found = self.query_one(
            "SELECT 1 FROM (SELECT at FROM audit ORDER BY id LIMIT ?2) AS oldest WHERE oldest.at < ?1 LIMIT 1",
            &[older_than.0.into(), chunk.into()],
            |_| Ok(()),
        )?;
        Ok(found.is_some())
    }

    /// Looks at the `chunk` oldest lines and deletes those that are older than `older_than`; answers how many
    /// it deleted.
    pub fn audit_trim(&mut self, older_than: Timestamp, chunk: i64) -> Result<usize, StoreError> {
        self.exec(
            "DELETE FROM audit WHERE id IN (
               SELECT oldest.id FROM (SELECT id, at FROM audit ORDER BY id LIMIT ?2) AS oldest
               WHERE oldest.at < ?1)",
            &[older_than.0.into(), chunk.into()],
        )
    }

    /// The lowest and the highest number; `None`: no lines. There are at most as many lines as numbers.
    pub fn audit_span(&mut self) -> Result<Option<(i64, i64)>, StoreError> {
        let found = self.query_one(
            "SELECT COALESCE((SELECT MIN(id) FROM audit), 0), COALESCE((SELECT MAX(id) FROM audit), 0)",
            &[],
            |row| Ok((row.int(0)?, row.int(1)?)),
        )?;
        Ok(found.filter(|span| *span != (0, 0)))
    }

    /// At most `limit` lines with a number above `after`, oldest first, as far as trimming needs them.
    pub fn audit_scan(&mut self, after: i64, limit: i64) -> Result<Vec<ScannedLine>, StoreError> {
        self.query(
            "SELECT id, account, CAST(CASE WHEN os_user IS NOT NULL THEN 2 WHEN outcome = 'ok' THEN 1 ELSE 0 END
                                      AS BIGINT)
             FROM audit WHERE id > ?1 ORDER BY id LIMIT ?2",
            &[after.into(), limit.into()],
            |row| {
                let worth = match row.int(2)? {
                    0 => AuditWorth::Refusal,
                    1 => AuditWorth::Change,
                    _ => AuditWorth::Command,
                };
                Ok(ScannedLine { no: row.int(0)?, account: row.text(1)?, worth })
            },
        )
    }

    /// Deletes lines by number.
    pub fn audit_delete(&mut self, numbers: &[i64]) -> Result<usize, StoreError> {
        let rows: Vec<Vec<Value<'_>>> = numbers.iter().map(|no| vec![(*no).into()]).collect();
        self.exec_set(&DELETE, &rows)
    }
}
