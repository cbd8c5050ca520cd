//! What a simulation shows while it runs, and what it keeps of each second.

use super::rollout::State;
use crate::cli::complain;
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use serde::Serialize;
use std::fmt::Write as _;
use std::time::Duration;
use updraft_server::fleet_io::Snapshot;

/// Seconds between two lines where there is no terminal.
const LINE_EVERY: u64 = 5;

/// One second of the run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Second {
    /// When it ended, in seconds after the start.
    pub at: f64,
    /// Devices with a connection, at its end.
    pub connected: u64,
    /// Devices that lost their connection and have no other yet, at its end.
    pub missing: u64,
    /// Connections made in it.
    pub connects: u64,
    /// Connections in it that could not be made or were refused.
    pub refused: u64,
    /// Pushes that arrived in it.
    pub pushes: u64,
    /// Messages of devices that were acknowledged in it.
    pub reports: u64,
    /// Files downloaded whole in it.
    pub downloads: u64,
    /// Bytes of packages that arrived in it.
    pub bytes: u64,
    /// Updates that devices gave up in it.
    pub failed: u64,
}

impl Second {
    /// What happened between two looks, of which the second was `at` seconds after the start.
    pub fn between(before: &Snapshot, after: &Snapshot, at: f64) -> Self {
        Self {
            at: (at * 1_000.0).round() / 1_000.0,
            connected: after.connected,
            missing: after.missing,
            connects: after.connections - before.connections,
            refused: after.refused - before.refused,
            pushes: after.pushes - before.pushes,
            reports: after.acknowledged - before.acknowledged,
            downloads: after.downloads - before.downloads,
            bytes: after.bytes_downloaded - before.bytes_downloaded,
            failed: after.failed - before.failed,
        }
    }
}

/// The live view: one changing line on a terminal, else a line every few seconds. All of it goes to stderr.
pub struct Live {
    bar: ProgressBar,
    seconds: u64,
}

impl Live {
    /// On this process's terminal, if there is one.
    pub fn new() -> Self {
        let style = ProgressStyle::with_template("{spinner} {elapsed_precise}  {msg}");
        let bar =
            ProgressBar::new_spinner().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.enable_steady_tick(Duration::from_millis(250));
        Self { bar, seconds: 0 }
    }

    /// A line that stays.
    pub fn say(&self, line: &str) {
        self.bar.suspend(|| complain(line));
    }

    /// Shows a second.
    pub fn show(&mut self, devices: u64, second: &Second, state: &State) {
        self.seconds += 1;
        let line = line(devices, second, state);
        if !self.bar.is_hidden() {
            self.bar.set_message(line);
        } else if self.seconds.is_multiple_of(LINE_EVERY) {
            complain(&format!("{:>5.0} s  {line}", second.at));
        }
    }

    /// Takes the changing line away.
    pub fn end(&self) {
        self.bar.finish_and_clear();
    }
}

fn line(devices: u64, second: &Second, state: &State) -> String {
    let mut line = format!(
        "{}/{devices} connected (+{}/s)  {} reports/s  {} pushes/s  {} downloads/s, {}/s",
        second.connected,
        second.connects,
        second.reports,
        second.pushes,
        second.downloads,
        HumanBytes(second.bytes)
    );
    for (count, what) in [(second.refused, "refused"), (second.missing, "missing"), (second.failed, "failed")]
    {
        if count > 0 {
            // Writing to a String cannot fail.
            let _ = write!(line, "  {count} {what}");
        }
    }
    for (status, count) in state.tasks.iter().filter(|(_, count)| **count > 0) {
        let _ = write!(line, "  {status} {count}");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_is_the_difference_of_two_looks() {
        let before = Snapshot { connections: 5, acknowledged: 10, pushes: 1, ..Snapshot::default() };
        let after =
            Snapshot { connected: 7, connections: 9, acknowledged: 30, pushes: 4, missing: 2, ..before };
        let second = Second::between(&before, &after, 1.00049);
        assert_eq!((second.at, second.connects, second.reports, second.pushes), (1.0, 4, 20, 3));
        let state = State { tasks: [("FAILED", 0), ("SUCCEEDED", 3)].into(), ..State::default() };
        assert_eq!(
            line(9, &second, &state),
            "7/9 connected (+4/s)  20 reports/s  3 pushes/s  0 downloads/s, 0 B/s  2 missing  SUCCEEDED 3"
        );
    }
}
