//! The figures of the last runs, and the page that shows them.
//!
//! `docs/performance/figures.json` has them all; a run replaces those that it measured. The tables of
//! `docs/performance.md` are between marks (`<!-- bench: NAME -->` and `<!-- /bench -->`) and made of that file; the
//! words around them are written by hand.

use crate::plot;
use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Parts of a run in the order of the page.
const PARTS: [&str; 6] = ["api", "devices", "memory", "downloads", "million", "inside"];

/// A row of a table.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Figure {
    /// It is no figure, but the name of those that follow.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub heading: bool,
    pub what: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub measured: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reach: String,
    /// 1 or more: it is reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub baseline: String,
}

/// One part, measured on one engine.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Run {
    pub revision: String,
    pub machine: String,
    /// Of the machine when the part began: the run's own load is in it.
    pub load: String,
    pub figures: Vec<Figure>,
}

/// What paths cost at several sizes, on one engine.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Growth {
    pub revision: String,
    /// How many devices, and batches, there are.
    pub sizes: Vec<usize>,
    pub paths: Vec<Course>,
}

/// One path.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Course {
    pub what: String,
    /// What one of it costs at each size, in microseconds.
    pub micros: Vec<f64>,
}

/// All figures.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Figures {
    /// By engine and part.
    pub runs: BTreeMap<String, Run>,
    /// By engine.
    pub growth: BTreeMap<String, Growth>,
}

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs")
}

impl Figures {
    /// Replaces on the page what was measured.
    pub fn write(self) -> anyhow::Result<()> {
        let folder = docs().join("performance");
        std::fs::create_dir_all(&folder)?;
        let path = folder.join("figures.json");
        let mut all: Self = match std::fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text).context("figures.json cannot be read")?,
            Err(_) => Self::default(),
        };
        all.runs.extend(self.runs);
        all.growth.extend(self.growth);
        std::fs::write(&path, serde_json::to_string_pretty(&all)? + "\n")?;
        for (engine, growth) in &all.growth {
            std::fs::write(folder.join(format!("growth-{engine}.svg")), plot::svg(engine, growth)?)?;
        }
        let page = docs().join("performance.md");
        let mut text = std::fs::read_to_string(&page)?;
        let mut blocks = vec![("goals".to_owned(), all.goals()?)];
        for engine in ["sqlite", "postgres"] {
            blocks.push((engine.to_owned(), all.tables(engine)?));
            blocks.push((format!("growth {engine}"), all.growth_table(engine)?));
        }
        for (name, content) in blocks {
            text = replaced(&text, &name, &content)?;
        }
        Ok(std::fs::write(page, text)?)
    }

    /// The figures that should reach something, of both engines.
    fn goals(&self) -> anyhow::Result<String> {
        let mut out =
            "| What | Reach | SQLite | | PostgreSQL | |\n|---|---:|---:|---:|---:|---:|\n".to_owned();
        for part in PARTS {
            let of = |engine: &str| self.runs.get(&format!("{engine} {part}"));
            let (ours, theirs) = (of("sqlite"), of("postgres"));
            let rows = ours.or(theirs).into_iter().flat_map(|run| &run.figures);
            for row in rows.filter(|row| row.ratio.is_some()) {
                let cell = |run: Option<&Run>| {
                    let same = run.and_then(|run| run.figures.iter().find(|other| other.what == row.what));
                    let Some(same) = same else { return "| ".to_owned() };
                    let ratio = same.ratio.map(ratio).unwrap_or_default();
                    format!("{} | {ratio}", same.measured)
                };
                writeln!(out, "| {} | {} | {} | {} |", row.what, row.reach, cell(ours), cell(theirs))?;
            }
        }
        Ok(out)
    }

    /// All figures of an engine.
    fn tables(&self, engine: &str) -> anyhow::Result<String> {
        let mut out = String::new();
        for part in PARTS {
            let Some(run) = self.runs.get(&format!("{engine} {part}")) else { continue };
            for row in &run.figures {
                if row.heading {
                    writeln!(out, "\n**{}** (revision {}, load {})\n", row.what, run.revision, run.load)?;
                    out += "| What | Reach | Measured | Ratio | Baseline of the same run, or remark |\n";
                    out += "|---|---:|---:|---:|---|\n";
                    continue;
                }
                let ratio = row.ratio.map(ratio).unwrap_or_default();
                writeln!(
                    out,
                    "| {} | {} | {} | {ratio} | {} |",
                    row.what.trim(),
                    row.reach,
                    row.measured,
                    row.baseline
                )?;
            }
        }
        if let Some(run) = self.runs.values().next() {
            out = format!("Machine: {}.\n{out}", run.machine);
        }
        Ok(out)
    }

    fn growth_table(&self, engine: &str) -> anyhow::Result<String> {
        let Some(growth) = self.growth.get(engine) else { return Ok("Not measured yet.\n".to_owned()) };
        let sizes: Vec<String> = growth.sizes.iter().map(|size| plot::size(*size)).collect();
        let mut out = format!("Revision {}; microseconds.\n\n| What | ", growth.revision);
        writeln!(out, "{} | last/first |", sizes.join(" | "))?;
        writeln!(out, "|---|{}", "---:|".repeat(sizes.len() + 1))?;
        for path in &growth.paths {
            let costs: Vec<String> = path.micros.iter().map(|micros| cost(*micros)).collect();
            let first = path.micros.first().copied().unwrap_or(f64::NAN);
            let last = path.micros.last().copied().unwrap_or(f64::NAN);
            writeln!(out, "| {} | {} | {:.2} |", path.what, costs.join(" | "), last / first)?;
        }
        write!(out, "\n![What each path costs, by size](performance/growth-{engine}.svg)\n")?;
        Ok(out)
    }
}

/// A ratio; one that falls short stands out.
fn ratio(ratio: f64) -> String {
    if ratio < 0.995 { format!("**{ratio:.2}**") } else { format!("{ratio:.2}") }
}

/// Microseconds with three digits that mean something.
pub fn cost(micros: f64) -> String {
    match micros {
        micros if micros < 10.0 => format!("{micros:.2}"),
        micros if micros < 100.0 => format!("{micros:.1}"),
        micros => crate::report::number(micros),
    }
}

fn replaced(text: &str, name: &str, content: &str) -> anyhow::Result<String> {
    let mark = format!("<!-- bench: {name} -->\n");
    let begin = text.find(&mark).with_context(|| format!("performance.md has no mark {name}"))? + mark.len();
    let end = text[begin..].find("<!-- /bench -->").context("a mark without an end")? + begin;
    ensure!(!text[begin..end].contains("<!-- bench:"), "the mark {name} has no end");
    Ok(format!("{}\n{}\n\n{}", &text[..begin], content.trim(), &text[end..]))
}
