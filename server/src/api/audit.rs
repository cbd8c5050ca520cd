//! What the audit log says of calls.
//!
//! The door writes a line after an operation has committed and before its answer goes out, in a transaction of
//! its own, which shares its disk flush with whatever else is waiting. A crash between the two leaves a change
//! without a line; nobody has been answered then. Calls that change nothing leave none, nor do calls whose
//! signature is wrong (anybody may send them), whose key is disabled, or that are beyond the quota (they were
//! not looked at). Of refused calls only so many a minute and access key have a line of their own; one more
//! says how many had not.

use crate::api::Operation;
use crate::api::access::Signer;
use crate::api::answer::{Node, Object};
use crate::api::error::ApiError;
use crate::api::params::Params;
use crate::app::App;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use updraft_core::time::{MINUTE_MS, Timestamp};
use updraft_store::{AuditLine, Lane, Tx};

/// What is told of a call, if its parameters or its answer have it. Nothing else is: no secret can slip in.
const TOLD: [&str; 12] = [
    "ProductKey",
    "ProductName",
    "DeviceName",
    "IotId",
    "FirmwareId",
    "FirmwareName",
    "JobId",
    "ModuleName",
    "TaskId",
    "GroupId",
    "GroupName",
    "ApplyId",
];
/// Most bytes of one value, and most values of a repeated parameter.
const VALUE_BYTES_MAX: usize = 128;
const VALUES_MAX: usize = 3;
/// Most bytes of the whole.
const SUBJECT_BYTES_MAX: usize = 512;
/// Most refused calls of one access key that have a line of their own in a minute.
const REFUSALS_PER_MINUTE: u32 = 60;
/// Most access keys whose refused calls are counted at a time; those of further keys have no line.
const REFUSED_KEYS_MAX: usize = 10_000;
/// How long a line that could not be written waits for the next try, in milliseconds, as long as the fault
/// may pass: a database that restarts, a disk that is full.
const RETRY_MS: [u64; 4] = [50, 200, 750, 2_000];

/// What a call is about, taken before the operation consumes its parameters.
pub(super) struct Draft {
    instance: String,
    subject: Vec<(&'static str, String)>,
}

/// Notes what a call is about.
pub(super) fn draft(params: &Params) -> Draft {
    let mut subject = Vec::new();
    for name in TOLD.into_iter().chain(["TargetDeviceName"]) {
        if let Some(value) = params.text(name) {
            subject.push((name, plain(value)));
        }
        for at in 1..=VALUES_MAX {
            if let Some(value) = params.text(&format!("{name}.{at}")) {
                subject.push((name, plain(value)));
            }
        }
    }
    Draft { instance: params.text("IotInstanceId").map(plain).unwrap_or_default(), subject }
}

/// A caller's text, so that it can neither look like another part of the line nor steer a terminal.
fn plain(text: &str) -> String {
    let safe = |c: char| if c.is_control() || c.is_whitespace() || c == '=' { '_' } else { c };
    clip_bytes(text, VALUE_BYTES_MAX).chars().map(safe).collect()
}

/// The longest prefix of at most `max` bytes.
fn clip_bytes(text: &str, max: usize) -> &str {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Writes the line of a call, durably. That it cannot be written is logged and counted, and the caller is told
/// the truth about the change all the same.
pub(super) async fn write(
    app: &App,
    operation: &'static Operation,
    signer: &Arc<Signer>,
    request_id: &str,
    draft: Draft,
    outcome: &Result<Object, ApiError>,
) {
    let mut lines = Vec::new();
    if outcome.is_err() {
        let (told, ended) = app.refused_calls.take(signer, app.now());
        lines.extend(ended);
        if !told {
            metrics::counter!("updraft_audit_left_out_total").increment(1);
            return insert(app, lines).await;
        }
    }
    let mut subject = draft.subject;
    if let Ok(answer) = outcome {
        collect(answer, &mut subject);
    }
    lines.push(AuditLine {
        at: app.now(),
        account: signer.account_name.clone(),
        instance: draft.instance,
        ram_user: signer.ram_user.clone(),
        access_key: Some(signer.key_id.clone()),
        os_user: None,
        action: operation.name.to_owned(),
        request_id: Some(request_id.to_owned()),
        outcome: outcome.as_ref().err().map_or_else(|| "ok".to_owned(), |error| error.code.to_string()),
        subject: join(&subject),
    });
    insert(app, lines).await;
}

/// Writes how many refused calls had no line in minutes that are over, or (`all`) so far.
pub async fn tell_left_out(app: &App, all: bool) {
    let lines = app.refused_calls.ended(app.now(), all);
    insert(app, lines).await;
}

async fn insert(app: &App, lines: Vec<AuditLine>) {
    if lines.is_empty() {
        return;
    }
    let lines = Arc::new(lines);
    let mut pauses = RETRY_MS.into_iter();
    loop {
        let wanted = Arc::clone(&lines);
        let write = move |tx: &mut Tx<'_>| wanted.iter().try_for_each(|line| tx.audit_insert(line));
        let Err(error) = app.store.write(Lane::Interactive, write).await else { return };
        if error.is_retryable()
            && let Some(pause) = pauses.next()
        {
            tokio::time::sleep(Duration::from_millis(pause)).await;
            continue;
        }
        metrics::counter!("updraft_audit_lost_total").increment(lines.len() as u64);
        for line in lines.iter() {
            tracing::error!(operation = line.action, key = line.access_key, %error, "an audit line is lost");
        }
        return;
    }
}

/// The refused calls of the last minute, by access key: a caller whose calls are refused must not push out
/// what others did.
#[derive(Default)]
pub struct RefusedCalls {
    keys: Mutex<HashMap<String, Refused>>,
}

/// Refused calls of one key in a minute that began with the first of them.
struct Refused {
    since: Timestamp,
    told: u32,
    left_out: u64,
    account: String,
    ram_user: Option<String>,
}

impl RefusedCalls {
    /// Notes a refused call: whether it gets a line, and what there is to say of the minute that it ends.
    fn take(&self, signer: &Signer, now: Timestamp) -> (bool, Option<AuditLine>) {
        let mut keys = self.keys.lock();
        if let Some(refused) = keys.get_mut(&signer.key_id)
            && !refused.is_over(now)
        {
            let told = refused.told < REFUSALS_PER_MINUTE;
            refused.told += u32::from(told);
            refused.left_out += u64::from(!told);
            return (told, None);
        }
        let ended = keys.remove(&signer.key_id).and_then(|refused| refused.line(&signer.key_id, now));
        if keys.len() >= REFUSED_KEYS_MAX {
            keys.retain(|_, refused| refused.left_out > 0 || !refused.is_over(now));
        }
        if keys.len() >= REFUSED_KEYS_MAX {
            return (false, ended);
        }
        let (account, ram_user) = (signer.account_name.clone(), signer.ram_user.clone());
        let first = Refused { since: now, told: 1, left_out: 0, account, ram_user };
        keys.insert(signer.key_id.clone(), first);
        (true, ended)
    }

    /// Takes out what is over, or (`all`) everything: what there is to say of it.
    fn ended(&self, now: Timestamp, all: bool) -> Vec<AuditLine> {
        let mut lines = Vec::new();
        self.keys.lock().retain(|key, refused| {
            let over = all || refused.is_over(now);
            if over {
                lines.extend(refused.line(key, now));
            }
            !over
        });
        lines
    }
}

impl Refused {
    fn is_over(&self, now: Timestamp) -> bool {
        !(0..MINUTE_MS).contains(&now.since_ms(self.since))
    }

    /// How many had no line, if any.
    fn line(&self, key: &str, now: Timestamp) -> Option<AuditLine> {
        (self.left_out > 0).then(|| AuditLine {
            at: now,
            account: self.account.clone(),
            ram_user: self.ram_user.clone(),
            access_key: Some(key.to_owned()),
            action: "(refused calls)".to_owned(),
            outcome: "LeftOut".to_owned(),
            subject: format!("Count={}", self.left_out),
            ..AuditLine::default()
        })
    }
}

/// What the answer tells of what was made.
fn collect(answer: &Object, subject: &mut Vec<(&'static str, String)>) {
    for (name, node) in &answer.0 {
        match node {
            Node::Text(value) => {
                if let Some(name) = TOLD.iter().find(|told| *told == name)
                    && !subject.iter().any(|(known, told)| known == name && told == value)
                {
                    subject.push((name, value.clone()));
                }
            }
            Node::Object(inner) => collect(inner, subject),
            _ => {}
        }
    }
}

fn join(subject: &[(&'static str, String)]) -> String {
    let all: Vec<String> = subject.iter().map(|(name, value)| format!("{name}={value}")).collect();
    clip_bytes(&all.join(" "), SUBJECT_BYTES_MAX).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_clipped_in_bytes_between_characters() {
        assert_eq!((clip_bytes("路路", 5), clip_bytes("路路", 6), clip_bytes("ab", 1)), ("路", "路路", "a"));
        assert_eq!(join(&[("JobId", "路".repeat(400))]).len(), 510);
    }
}
