//! `updraft audit`: who changed what, or tried to.

use crate::cli::account::{form, json_arg};
use crate::cli::out::{Out, Row};
use crate::cli::{Beside, account_filter_arg, admin, now, owned, text, text_arg};
use anyhow::Context as _;
use clap::{ArgMatches, Command};
use serde_json::json;
use updraft_core::time::{HOUR_MS, MINUTE_MS, SECOND_MS, Timestamp};
use updraft_server::api::answer::utc;
use updraft_store::{AuditFilter, AuditLine};

/// Lines read at once.
const PAGE_ROWS: i64 = 1_000;

/// `updraft audit`.
pub fn command() -> Command {
    admin(
        "audit",
        "Shows the audit log, newest first: every command that changed something, and every call of the API that \
         did or was refused it, by whom, and with what outcome. Not in it: calls and commands that only read, \
         refused commands, calls with an unknown or disabled key, a wrong signature, time or nonce, or beyond \
         the quota; of more than 60 refused calls of a key in a minute only the number; uploads, downloads and \
         devices. Works beside a running server",
    )
    .arg(text_arg("since", "TIME", "Only from then on: 30m, 2h, 7d ago, or 2024-05-20T12:00:00Z"))
    .arg(account_filter_arg())
    .arg(text_arg("user", "NAME", "Only of this RAM user, or this user of the system, also by sudo"))
    .arg(text_arg("action", "NAME", "Only this operation (CreateProduct) or command (\"ram create-user\")"))
    .arg(
        text_arg("limit", "N", "At most so many lines; 0: all")
            .value_parser(clap::value_parser!(u32))
            .default_value("100"),
    )
    .arg(json_arg())
}

/// Runs it.
pub fn run(args: &ArgMatches) -> anyhow::Result<()> {
    let beside = Beside::open(args)?;
    let filter = AuditFilter {
        since: text(args, "since").map(|since| moment(since, now())).transpose()?,
        account: owned(args, "account"),
        user: owned(args, "user"),
        action: owned(args, "action"),
    };
    let limit = args.get_one::<u32>("limit").copied().unwrap_or_default();
    let mut left = if limit == 0 { i64::MAX } else { i64::from(limit) };
    let mut out = Out::new(form(args));
    let mut before = i64::MAX;
    while left > 0 {
        let wanted = filter.clone();
        let lines = beside.read(move |tx| Ok(tx.audit_list(&wanted, before, PAGE_ROWS.min(left))?))?;
        let rows: Vec<Row> = lines.iter().map(|(_, line)| row(line)).collect();
        out.page(&rows)?;
        left -= lines.len() as i64;
        match lines.last() {
            Some((no, _)) if lines.len() as i64 == PAGE_ROWS => before = *no,
            _ => break,
        }
    }
    Ok(())
}

fn row(line: &AuditLine) -> Row {
    vec![
        ("Utc", json!(utc(line.at))),
        ("Account", json!(line.account)),
        ("RamUser", json!(line.ram_user)),
        ("AccessKeyId", json!(line.access_key)),
        ("OsUser", json!(line.os_user)),
        ("Action", json!(line.action)),
        ("Outcome", json!(line.outcome)),
        ("IotInstanceId", json!(line.instance)),
        ("Subject", json!(line.subject)),
        ("RequestId", json!(line.request_id)),
    ]
}

/// A moment: so long ago, or a date.
fn moment(text: &str, now: Timestamp) -> anyhow::Result<Timestamp> {
    let ago = |unit: char, ms: i64| {
        let count: i64 = text.strip_suffix(unit)?.parse().ok()?;
        (count >= 0).then(|| Timestamp(now.0.saturating_sub(count.saturating_mul(ms))))
    };
    let units = [('s', SECOND_MS), ('m', MINUTE_MS), ('h', HOUR_MS), ('d', 24 * HOUR_MS)];
    units
        .into_iter()
        .find_map(|(unit, ms)| ago(unit, ms))
        .or_else(|| Some(Timestamp(text.parse::<jiff::Timestamp>().ok()?.as_millisecond())))
        .with_context(|| format!("`{text}` is no time: give 30m, 2h, 7d or 2024-05-20T12:00:00Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_ages_or_dates() {
        let now = Timestamp(10 * 24 * HOUR_MS);
        assert_eq!(moment("2h", now).unwrap(), Timestamp(now.0 - 2 * HOUR_MS));
        assert_eq!(moment("7d", now).unwrap(), Timestamp(3 * 24 * HOUR_MS));
        assert_eq!(moment("1970-01-01T00:00:01Z", now).unwrap(), Timestamp(1_000));
        for bad in ["", "h", "2 h", "-2h", "2w", "yesterday", "2024-05-20"] {
            assert!(moment(bad, now).is_err(), "{bad}");
        }
    }
}
