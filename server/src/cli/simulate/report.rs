//! What is told of a run in the end: the summary for people, the JSON for programs, and whether all was reached.

use super::live::Second;
use super::options::Given;
use super::outage::Outage;
use super::rollout::{Compared, Rate, State};
use super::{comes_early, live};
use serde_json::{Value, json};
use updraft_server::fleet_io::meters::{Meter, Meters};
use updraft_server::fleet_io::{Member, Snapshot, Talk};

/// A run, as far as it is known.
#[derive(Default)]
pub struct Run {
    /// All devices.
    devices: u64,
    /// Those of the HTTP channel.
    by_http: u64,
    /// Those that connect without delay.
    pub expected_early: u64,
    /// Those whose updates never end.
    pub stubborn: u64,
    /// How long it lasted.
    pub seconds: f64,
    /// The fleet at the end, before it was switched off.
    pub last: Snapshot,
    /// The most devices that were connected at a time.
    pub most_connected: u64,
    /// Whether a signal ended it.
    pub interrupted: bool,
    /// Whether the time ended it before its rollout had.
    pub timed_out: bool,
    /// What went wrong with the rollout.
    pub trouble: Vec<String>,
    /// The rollout.
    pub state: State,
    /// Whether its rate was kept.
    pub rate: Option<Rate>,
    /// What devices and server say of it.
    pub compared: Option<Compared>,
    /// Outages.
    pub outages: Vec<Outage>,
    /// Each second.
    pub series: Vec<live::Second>,
    /// Processor time of this process.
    pub cpu_seconds: f64,
    /// Its most memory.
    pub peak_bytes: u64,
}

impl Run {
    /// A run of these devices; `timed`: their updates have a time limit.
    pub fn of(members: &[Member], timed: bool) -> Self {
        let count = |which: &dyn Fn(&Member) -> bool| members.iter().filter(|m| which(m)).count() as u64;
        Self {
            devices: members.len() as u64,
            by_http: count(&|member| member.talk == Talk::Http),
            expected_early: count(&comes_early),
            stubborn: count(&|member| !member.config.behaviour.ends(timed)),
            ..Self::default()
        }
    }

    /// Why what was asked for was not reached; empty: it was.
    pub fn unreached(&self, rollout: bool) -> Vec<String> {
        let mut reasons = self.trouble.clone();
        let away = self.last.missing;
        // One in a hundred may be on its way at any moment.
        if self.most_connected + self.devices / 100 < self.expected_early {
            reasons
                .push(format!("at most {} of {} devices were connected", self.most_connected, self.devices));
        }
        if too_many_missing(away, self.devices) {
            reasons.push(format!("{away} devices had lost their connection at the end"));
        }
        if rollout {
            if self.interrupted {
                reasons.push("the rollout was interrupted".to_owned());
            }
            if self.timed_out {
                reasons.push("the rollout had not ended when the time was over".to_owned());
            }
            if self.rate.as_ref().is_some_and(|rate| !rate.kept) {
                reasons.push("more pushes arrived in a minute than the batch allows".to_owned());
            }
            match &self.compared {
                Some(compared) if compared.contradictions > 0 => reasons.push(format!(
                    "of {} devices the server says something else than the device",
                    compared.contradictions
                )),
                None if self.trouble.is_empty() => reasons.push("there was no batch yet".to_owned()),
                _ => {}
            }
        }
        reasons
    }

    /// Everything.
    pub fn as_json(&self, given: &Given, meters: &Meters, reasons: &[String]) -> Value {
        let times = Meter::ALL.map(|meter| (meter.name().to_owned(), json!(meters.times(meter))));
        let total = &self.last;
        let rollout = (!self.state.version.is_empty()).then(|| {
            json!({
                "job_id": self.state.job_id,
                "firmware_id": self.state.firmware_id,
                "version": self.state.version,
                "ended": self.state.ended,
                "created_at": self.state.created.map(|at| at.0 as f64 / 1_000.0),
                "rate": self.rate,
                "compared": self.compared,
            })
        });
        json!({
            "scenario": given.as_json(),
            "reached": reasons.is_empty(),
            "unreached": reasons,
            "interrupted": self.interrupted,
            "seconds": self.seconds,
            "devices": {
                "all": self.devices,
                "by_http": self.by_http,
                "connected_most": self.most_connected,
                "connected_at_end": total.connected,
                "missing_at_end": total.missing,
            },
            "totals": {
                "connections": total.connections,
                "connections_failed": total.refused,
                "pushes": total.pushes,
                "reports_acknowledged": total.acknowledged,
                "downloads": total.downloads,
                "bytes_downloaded": total.bytes_downloaded,
                "updates_begun": total.started,
                "updates_done": total.upgraded,
                "updates_failed": total.failed,
            },
            "latency_ms": Value::Object(times.into_iter().collect()),
            "errors": meters.errors(),
            "outages": self.outages,
            "rollout": rollout,
            "generator": {
                "cpu_seconds": self.cpu_seconds,
                "cores": self.cores(),
                "peak_bytes": self.peak_bytes,
                "peak_bytes_per_device": self.peak_bytes / self.devices.max(1),
            },
            "series": self.series,
        })
    }

    /// How many processors' time it took while it ran.
    fn cores(&self) -> f64 {
        (self.cpu_seconds / self.seconds.max(0.001) * 1_000.0).round() / 1_000.0
    }

    /// What people read.
    pub fn summary(&self, meters: &Meters, reasons: &[String]) -> String {
        let mut lines = vec![self.totals()];
        lines.extend(times(meters));
        lines.extend(meters.errors().into_iter().map(|(what, count)| format!("{count} times: {what}")));
        lines.extend(self.outages.iter().map(outage));
        lines.extend(self.compared.iter().flat_map(|compared| self.batch(compared)));
        lines.extend(self.rate.as_ref().map(|rate| {
            format!("MaximumPerMinute {}: {} in the fullest minute", rate.asked, rate.most_in_a_minute)
        }));
        lines.push(format!(
            "this process took {:.1} s of processor time ({} processors), {} MiB at most",
            self.cpu_seconds,
            self.cores(),
            self.peak_bytes >> 20
        ));
        lines.extend(reasons.iter().map(|reason| format!("not reached: {reason}")));
        if reasons.is_empty() {
            lines.push("reached".to_owned());
        }
        lines.join("\n")
    }

    fn totals(&self) -> String {
        let total = &self.last;
        let most = |value: fn(&Second) -> u64| self.series.iter().map(value).max().unwrap_or_default();
        format!(
            "{} devices, {} by HTTP, for {:.1} s: {} connections ({} failed, most in a second {}), {} pushes, {} \
             reports (most in a second {}), {} downloads ({} MB)",
            self.devices,
            self.by_http,
            self.seconds,
            total.connections,
            total.refused,
            most(|second| second.connects),
            total.pushes,
            total.acknowledged,
            most(|second| second.reports),
            total.downloads,
            total.bytes_downloaded / 1_000_000,
        )
    }

    fn batch(&self, compared: &Compared) -> Vec<String> {
        let tasks: Vec<String> =
            compared.tasks.iter().map(|(status, count)| format!("{status} {count}")).collect();
        let mut lines = vec![format!(
            "batch {}: {}; {} devices run {}; {} pushes came again after a reconnection, {} on the same one; {} \
             contradictions",
            self.state.job_id,
            tasks.join(", "),
            compared.running,
            self.state.version,
            compared.pushed_after_return,
            compared.pushed_again,
            compared.contradictions
        )];
        lines.extend(compared.told.iter().take(5).map(|told| format!("  {told}")));
        lines
    }
}

/// Whether more of these devices have lost their connection than are on their way at any moment: one in a hundred.
pub fn too_many_missing(missing: u64, devices: u64) -> bool {
    missing * 100 > devices
}

fn times(meters: &Meters) -> Vec<String> {
    let head = ["", "count", "p50", "p90", "p99", "p99.9", "max"];
    let row = |cells: [String; 7]| {
        let [name, numbers @ ..] = cells;
        numbers.iter().fold(format!("{name:<12}"), |line, number| format!("{line} {number:>9}"))
    };
    let mut lines = vec![row(head.map(str::to_owned)) + "  (ms)"];
    for meter in Meter::ALL {
        let t = meters.times(meter);
        if t.count > 0 {
            let [p50, p90, p99, p999, max] =
                [t.p50, t.p90, t.p99, t.p999, t.max].map(|ms| format!("{ms:.1}"));
            lines.push(row([meter.name().to_owned(), t.count.to_string(), p50, p90, p99, p999, max]));
        }
    }
    lines
}

fn outage(outage: &Outage) -> String {
    let after = |seconds: Option<f64>| seconds.map_or("not".to_owned(), |s| format!("after {s:.1} s"));
    format!(
        "{} at {:.1} s: {} devices lost, half of them back {}, 99 % {}",
        if outage.storm { "storm" } else { "outage" },
        outage.at,
        outage.lost,
        after(outage.half_back),
        after(outage.back)
    )
}
