//! What is printed.

use std::time::{Duration, Instant};

/// A table that is printed as it grows.
pub struct Report {
    began: Instant,
}

#[expect(clippy::print_stdout, reason = "a benchmark's figures are its output")]
fn say(text: &str) {
    println!("{text}");
}

impl Report {
    /// Prints what the figures depend on.
    pub fn begin(arguments: &[String]) -> Self {
        let given: Vec<&str> =
            arguments.iter().map(String::as_str).filter(|argument| *argument != "--bench").collect();
        let given = if given.is_empty() { String::new() } else { format!(" -- {}", given.join(" ")) };
        let cores = std::thread::available_parallelism().map_or(0, std::num::NonZeroUsize::get);
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let cpu = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown");
        say(&format!("command   cargo bench -p updraft-server --bench product{given}"));
        say(&format!("revision  {}", revision()));
        say(&format!("machine   {cores} cores, {}", cpu.trim_start_matches([' ', '\t', ':'])));
        say(&format!("kernel    {}", read("/proc/sys/kernel/osrelease").trim()));
        let load = read("/proc/loadavg");
        say(&format!("load      {} before the run", load.split(' ').next().unwrap_or_default()));
        say("");
        Self { began: Instant::now() }
    }

    /// Prints a remark.
    #[expect(clippy::unused_self, reason = "remarks belong to a report that has begun")]
    pub fn note(&mut self, text: &str) {
        say(&format!("# {text}"));
    }

    /// Prints a heading of rows.
    pub fn part(&mut self, name: &str) {
        self.note(&format!("{name} ({:.0} s so far)", self.began.elapsed().as_secs_f64()));
        say(&format!(
            "| {:<58} | {:>14} | {:<62} |",
            "what", "figure", "baseline of the same run, or remark"
        ));
        say(&format!("|{0:-<60}|{0:-<15}:|{0:-<64}|", ""));
    }

    /// Prints a row.
    #[expect(clippy::unused_self, reason = "rows belong to a report that has begun")]
    pub fn row(&mut self, what: &str, figure: &str, baseline: &str) {
        say(&format!("| {what:<58} | {figure:>14} | {baseline:<62} |"));
    }

    /// Says how long it all took.
    pub fn end(self) {
        say(&format!("\n{:.0} s in all", self.began.elapsed().as_secs_f64()));
    }
}

fn revision() -> String {
    let git = |arguments: &[&str]| {
        let output = std::process::Command::new("git").args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(revision) = git(&["rev-parse", "--short=12", "HEAD"]) else { return "unknown".to_owned() };
    let changed =
        git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|text| !text.is_empty());
    if changed { format!("{revision} with changes") } else { revision }
}

/// A number with its thousands apart.
pub fn number(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A duration in milliseconds.
pub fn millis(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1e3)
}
