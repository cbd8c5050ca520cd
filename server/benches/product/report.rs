//! What is printed, and kept for the page.

use crate::figures::{Figure, Figures, Run};
use std::time::{Duration, Instant};

/// A table that is printed as it grows.
pub struct Report {
    began: Instant,
    /// Engine and part that rows belong to now.
    place: (String, String),
    figures: Figures,
}

/// What a figure should reach.
pub struct Reach {
    text: String,
    ratio: f64,
}

impl Reach {
    /// The figure should be this much or more.
    pub fn at_least(measured: f64, wanted: f64, unit: &str) -> Self {
        Self { text: format!("≥ {}{unit}", number(wanted)), ratio: measured / wanted }
    }

    /// The figure should be this much or less.
    pub fn at_most(measured: f64, wanted: f64, unit: &str) -> Self {
        let digits = if wanted.fract() > 0.0 { format!("{wanted:.1}") } else { number(wanted) };
        Self { text: format!("≤ {digits}{unit}"), ratio: wanted / measured.max(f64::MIN_POSITIVE) }
    }
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
        say(&format!("command   cargo bench -p updraft-server --bench product{given}"));
        say(&format!("revision  {}", revision()));
        say(&format!("machine   {}", machine()));
        say(&format!("load      {} before the run", load()));
        say("");
        Self { began: Instant::now(), place: (String::new(), String::new()), figures: Figures::default() }
    }

    /// Prints a remark.
    #[expect(clippy::unused_self, reason = "remarks belong to a report that has begun")]
    pub fn note(&mut self, text: &str) {
        say(&format!("# {text}"));
    }

    /// Says that what comes belongs to a part of the run on an engine.
    pub fn place(&mut self, engine: &str, part: &str) {
        self.place = (engine.to_owned(), part.to_owned());
        let run = Run { revision: revision(), machine: machine(), load: load(), figures: Vec::new() };
        self.figures.runs.insert(format!("{engine} {part}"), run);
    }

    /// Prints a heading of rows.
    pub fn part(&mut self, name: &str) {
        let engine = &self.place.0;
        say(&format!("\n# {engine}: {name} ({:.0} s so far)", self.began.elapsed().as_secs_f64()));
        say(&format!(
            "| {:<64} | {:>12} | {:>14} | {:>5} | baseline of the same run, or remark",
            "what", "reach", "measured", "ratio"
        ));
        say(&format!("|{0:-<66}|{0:-<13}:|{0:-<15}:|{0:-<6}:|{0:-<40}", ""));
        self.keep(Figure { heading: true, what: name.to_owned(), ..Figure::default() });
    }

    /// Prints a row.
    pub fn row(&mut self, what: &str, figure: &str, baseline: &str) {
        self.print(what, figure, None, baseline);
    }

    /// Prints a row of a figure that should reach something.
    pub fn reach(&mut self, what: &str, figure: &str, reach: &Reach, baseline: &str) {
        self.print(what, figure, Some(reach), baseline);
    }

    fn print(&mut self, what: &str, figure: &str, reach: Option<&Reach>, baseline: &str) {
        let text = reach.map(|reach| reach.text.clone()).unwrap_or_default();
        let ratio = reach.map(|reach| format!("{:.2}", reach.ratio)).unwrap_or_default();
        say(&format!("| {what:<64} | {text:>12} | {figure:>14} | {ratio:>5} | {baseline}"));
        self.keep(Figure {
            heading: false,
            what: what.to_owned(),
            measured: figure.to_owned(),
            reach: text,
            ratio: reach.map(|reach| reach.ratio),
            baseline: baseline.to_owned(),
        });
    }

    fn keep(&mut self, figure: Figure) {
        if let Some(run) = self.figures.runs.get_mut(&format!("{} {}", self.place.0, self.place.1)) {
            run.figures.push(figure);
        }
    }

    /// Keeps what paths cost at several sizes.
    pub fn growth(&mut self, engine: &str, growth: crate::figures::Growth) {
        self.figures.growth.insert(engine.to_owned(), growth);
    }

    /// Says how long it all took; answers the figures.
    pub fn end(self) -> Figures {
        say(&format!("\n{:.0} s in all", self.began.elapsed().as_secs_f64()));
        self.figures
    }
}

/// What the machine is.
pub fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZeroUsize::get);
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let cpu = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown");
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{cores} cores, {}, Linux {}", cpu.trim_start_matches([' ', '\t', ':']), kernel.trim())
}

fn load() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().unwrap_or_default().to_owned()
}

/// The revision that is measured.
pub fn revision() -> String {
    let git = |arguments: &[&str]| {
        let output = std::process::Command::new("git").args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(revision) = git(&["rev-parse", "--short=7", "HEAD"]) else { return "unknown".to_owned() };
    // What the run itself writes is no change of what it measured.
    let changed = git(&["status", "--porcelain", "--untracked-files=no", "--", ":!docs", ":!/docs"])
        .is_some_and(|text| !text.is_empty());
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

/// A duration in milliseconds, or seconds if it is long.
pub fn millis(duration: Duration) -> String {
    if duration >= Duration::from_secs(1) {
        return format!("{:.2} s", duration.as_secs_f64());
    }
    format!("{:.2} ms", duration.as_secs_f64() * 1e3)
}
