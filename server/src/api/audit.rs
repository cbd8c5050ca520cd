//! What the audit log says of calls.
//!
//! The door writes a line after an operation has committed and before its answer goes out, in a transaction of
//! its own, which shares its disk flush with whatever else is waiting. A crash between the two leaves a change
//! without a line; nobody has been answered then. Calls that change nothing leave none, nor do calls whose
//! signature is wrong (anybody may send them) or that are beyond the quota (they were not looked at).

use crate::api::Operation;
use crate::api::access::Signer;
use crate::api::answer::{Node, Object};
use crate::api::error::ApiError;
use crate::api::params::Params;
use crate::app::App;
use std::sync::Arc;
use updraft_core::text::clip;
use updraft_store::{AuditLine, Lane};

/// What is told of a call, if its parameters or its answer have it. Nothing else is: no secret can slip in.
const TOLD: [&str; 9] = [
    "ProductKey",
    "ProductName",
    "DeviceName",
    "IotId",
    "FirmwareId",
    "FirmwareName",
    "JobId",
    "ModuleName",
    "TaskId",
];
/// Most characters of one value, and most values of a repeated parameter.
const VALUE_CHARS_MAX: usize = 64;
const VALUES_MAX: usize = 3;
/// Most characters of the whole.
const SUBJECT_CHARS_MAX: usize = 512;

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
    clip(text, VALUE_CHARS_MAX).chars().map(safe).collect()
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
    let mut subject = draft.subject;
    if let Ok(answer) = outcome {
        collect(answer, &mut subject);
    }
    let line = AuditLine {
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
    };
    if let Err(error) = app.store.write(Lane::Interactive, move |tx| tx.audit_insert(&line)).await {
        metrics::counter!("updraft_audit_lost_total").increment(1);
        tracing::error!(operation = operation.name, %error, "a call has no audit line");
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
    clip(&all.join(" "), SUBJECT_CHARS_MAX).to_owned()
}
