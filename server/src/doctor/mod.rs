//! `updraft doctor`: looks at what a server needs and says what is wrong, why it matters and what to do.
//!
//! It changes nothing, and works beside a running server as well as where none has ever run. Each check is a
//! function from the configuration to findings; a check that cannot be made says so instead of failing.

mod blobs;
mod database;
mod machine;
mod network;

use crate::config::Config;
use crate::setup;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::Path;
use std::time::SystemTime;
use updraft_core::time::Timestamp;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Good,
    /// A server runs, but somebody should look at this.
    Warning,
    /// A server does not start, or does not do its work.
    Broken,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Warning => "warning",
            Self::Broken => "broken",
        }
    }
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub check: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What there is.
    pub what: String,
    /// Why it matters; empty if all is well.
    pub why: &'static str,
    /// What to do; empty if all is well.
    pub action: String,
}

impl Finding {
    pub(crate) fn good(check: &'static str, what: impl Into<String>) -> Self {
        Self { check, level: Level::Good, what: what.into(), why: "", action: String::new() }
    }

    pub(crate) fn warning(
        check: &'static str,
        what: impl Into<String>,
        why: &'static str,
        action: impl Into<String>,
    ) -> Self {
        Self { check, level: Level::Warning, what: what.into(), why, action: action.into() }
    }

    pub(crate) fn broken(
        check: &'static str,
        what: impl Into<String>,
        why: &'static str,
        action: impl Into<String>,
    ) -> Self {
        Self { check, level: Level::Broken, what: what.into(), why, action: action.into() }
    }
}

/// What the server of this data folder wrote down when it started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Run {
    /// Its process.
    pub pid: i64,
    /// Where its API is.
    pub api_addr: String,
    /// Where its devices connect.
    pub mqtt_addr: String,
    /// Where they connect by TLS only; empty: nowhere.
    pub mqtt_tls_addr: String,
    /// Where they connect over WebSocket only; empty: nowhere.
    pub mqtt_ws_addr: String,
}

/// What there is to be known before the checks.
pub(crate) struct Patient<'a> {
    pub config: &'a Config,
    /// The server that holds the data folder's lock, if one does. A lock without `run.json`: a default one.
    pub running: Option<Run>,
    pub now: SystemTime,
}

/// All findings.
#[derive(Debug)]
pub struct Report(pub Vec<Finding>);

impl Report {
    /// Looks at everything. Blocks; must not run inside async code.
    pub fn of(config: &Config, now: Timestamp) -> Self {
        let now = crate::serve::moment(now);
        let patient = Patient { config, running: running(&config.data_dir), now };
        let mut findings = vec![Finding::good("configuration", "it can be read")];
        findings.extend(machine::data_folder(&patient));
        findings.extend(machine::secrets(&patient));
        findings.extend(machine::disk(&patient));
        findings.extend(database::database(&patient));
        findings.extend(blobs::blobs(&patient));
        findings.extend(machine::descriptors());
        findings.extend(network::ports(&patient));
        findings.extend(network::certificate(&patient));
        findings.extend(network::public_url(&patient));
        Self(findings)
    }

    /// A configuration that cannot be used: nothing else can be looked at.
    pub fn of_bad_configuration(error: &anyhow::Error) -> Self {
        Self(vec![Finding::broken(
            "configuration",
            format!("{error:#}"),
            "A server with it refuses to start.",
            "Correct the key; `updraft config` lists all of them.",
        )])
    }

    /// Whether anything is broken.
    pub fn is_broken(&self) -> bool {
        self.0.iter().any(|finding| finding.level == Level::Broken)
    }

    /// The report for programs.
    pub fn json(&self) -> Value {
        let findings = self.0.iter().map(|finding| {
            json!({
                "check": finding.check,
                "level": finding.level.word(),
                "what": finding.what,
                "why": finding.why,
                "action": finding.action,
            })
        });
        json!({ "broken": self.is_broken(), "findings": findings.collect::<Vec<_>>() })
    }

    /// The report for people: a line for each finding, with reason and advice under those that need them.
    pub fn table(&self) -> String {
        let width = self.0.iter().map(|finding| finding.check.len()).max().unwrap_or_default();
        let mut out = String::new();
        for finding in &self.0 {
            let _ = writeln!(out, "{:<8} {:<width$}  {}", finding.level.word(), finding.check, finding.what);
            if finding.level != Level::Good {
                let _ = writeln!(out, "{:<8} {:<width$}  why: {}", "", "", finding.why);
                let _ = writeln!(out, "{:<8} {:<width$}  do:  {}", "", "", finding.action);
            }
        }
        let count = |level| self.0.iter().filter(|finding| finding.level == level).count();
        let (broken, warnings) = (count(Level::Broken), count(Level::Warning));
        let _ = write!(out, "\n{} checks: {broken} broken, {warnings} warnings", self.0.len());
        out
    }
}

/// The server that serves a data folder at this moment.
fn running(data_dir: &Path) -> Option<Run> {
    if !setup::is_locked(data_dir) {
        return None;
    }
    let run = std::fs::read_to_string(data_dir.join("run.json")).ok();
    let run: Option<Value> = run.and_then(|text| serde_json::from_str(&text).ok());
    let text = |name: &str| run.as_ref().and_then(|run| run[name].as_str()).unwrap_or_default().to_owned();
    Some(Run {
        pid: run.as_ref().and_then(|run| run["pid"].as_i64()).unwrap_or_default(),
        api_addr: text("api_addr"),
        mqtt_addr: text("mqtt_addr"),
        mqtt_tls_addr: text("mqtt_tls_addr"),
        mqtt_ws_addr: text("mqtt_ws_addr"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_what_is_wrong_why_and_what_to_do() {
        let report = Report(vec![
            Finding::good("disk", "12 GiB are free"),
            Finding::warning("clock", "it is slow", "Calls are refused.", "Run NTP."),
        ]);
        assert!(!report.is_broken(), "a warning breaks nothing");
        let table = report.table();
        for words in ["ok       disk   12 GiB are free\n", "why: Calls are refused.\n", "do:  Run NTP.\n"] {
            assert!(table.contains(words), "{table}");
        }
        assert!(table.ends_with("2 checks: 0 broken, 1 warnings"), "{table}");
        let broken = Report::of_bad_configuration(&anyhow::anyhow!("there is no key `x`"));
        assert!(broken.is_broken());
        assert_eq!(broken.json()["findings"][0]["level"], "broken");
        assert_eq!(broken.json()["broken"], true);
    }

    #[test]
    fn where_no_server_has_ever_run_nothing_is_broken_and_nothing_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config {
            data_dir: dir.path().join("data"),
            api_addr: ([127, 0, 0, 1], 0).into(),
            mqtt_addr: ([127, 0, 0, 1], 0).into(),
            mqtt_tls_addr: Some(([127, 0, 0, 1], 0).into()),
            ..Config::default()
        };
        let report = Report::of(&config, Timestamp(1_800_000_000_000));
        assert!(!report.is_broken(), "{}", report.table());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
