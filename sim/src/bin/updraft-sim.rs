//! `updraft-sim <seed>`, `updraft-sim --seeds A..B`: lives worlds and says what was wrong.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use updraft_sim::{Campaign, Effort, Failure, Mask, STEPS_DEFAULT, run_without, shrink};

const USAGE: &str =
    "usage: updraft-sim SEED [--transcript] [--without LIST] | --seeds A..B [--jobs N] [--json FILE]
  --steps N       so many steps of trouble in each world
  --whole         does not make worlds small that broke
  --transcript    tells all that happened in a world, not only the end of one that broke
  --without LIST  leaves these happenings out, as a world that was made small says
  --jobs N        so many worlds at a time; as many as there are processors, unless told
  --json FILE     writes what was counted, for programs";

/// So many worlds of a campaign are made small.
const SMALL_MAX: usize = 3;

struct Wanted {
    seeds: std::ops::Range<u64>,
    /// Whether it is one world that somebody wants to see.
    one: bool,
    steps: u64,
    transcript: bool,
    whole: bool,
    without: Mask,
    jobs: usize,
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    let Some(wanted) = parse(std::env::args().skip(1)) else {
        // A closed pipe is no reason to stop: the exit code still tells.
        let _ = writeln!(std::io::stderr(), "{USAGE}");
        return ExitCode::from(2);
    };
    if wanted.one { live_one(&wanted) } else { live_all(&wanted) }
}

fn parse(mut args: impl Iterator<Item = String>) -> Option<Wanted> {
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let mut wanted = Wanted {
        seeds: 0..0,
        one: false,
        steps: STEPS_DEFAULT,
        transcript: false,
        whole: false,
        without: Mask::default(),
        jobs,
        json: None,
    };
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--transcript" => wanted.transcript = true,
            "--whole" => wanted.whole = true,
            "--without" => wanted.without = args.next()?.parse().ok()?,
            "--steps" => wanted.steps = args.next()?.parse().ok()?,
            "--jobs" => wanted.jobs = args.next()?.parse().ok().filter(|jobs| *jobs > 0)?,
            "--json" => wanted.json = Some(args.next()?.into()),
            "--seeds" => {
                let range = args.next()?;
                let (first, end) = range.split_once("..")?;
                wanted.seeds = first.parse().ok()?..end.parse().ok()?;
            }
            seed => {
                let seed: u64 = seed.parse().ok()?;
                (wanted.seeds, wanted.one) = (seed..seed.checked_add(1)?, true);
            }
        }
    }
    (!wanted.seeds.is_empty()).then_some(wanted)
}

fn live_one(wanted: &Wanted) -> ExitCode {
    let mut out = std::io::stdout();
    match run_without(wanted.seeds.start, wanted.steps, &wanted.without, wanted.transcript) {
        Ok((report, transcript)) => {
            let story = if wanted.transcript { transcript } else { String::new() };
            let _ = writeln!(out, "{story}{report}");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            let _ = writeln!(out, "{failure}");
            // Whoever leaves something out has a small one, or knows better.
            if !wanted.whole && wanted.without.is_empty() {
                tell_small(&failure);
            }
            ExitCode::FAILURE
        }
    }
}

/// Makes a world small that broke, and tells what is left of it.
fn tell_small(failure: &Failure) {
    let effort = Effort::default();
    let style = ProgressStyle::with_template("[{elapsed}] {pos}/{len} tries to make it small, {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(u64::from(effort.tries)).with_style(style);
    let small = shrink(failure, effort, &mut |tries, left| {
        bar.set_position(u64::from(tries));
        bar.set_message(format!("{left} happenings are left"));
    });
    bar.finish_and_clear();
    let _ = writeln!(std::io::stdout(), "{small}");
}

fn live_all(wanted: &Wanted) -> ExitCode {
    let style = ProgressStyle::with_template("[{elapsed}] {pos}/{len} worlds, {per_sec}, {eta} to go {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(wanted.seeds.end - wanted.seeds.start).with_style(style);
    let campaign = Campaign { seeds: wanted.seeds.clone(), steps: wanted.steps, jobs: wanted.jobs };
    let mut failed: Vec<Failure> = Vec::new();
    let (stats, broken) = campaign.live(|lived| {
        bar.inc(1);
        if let Err(failure) = lived {
            failed.push(failure.clone());
            bar.set_message(format!("({} broken)", failed.len()));
            bar.suspend(|| {
                let _ = writeln!(std::io::stdout(), "{failure}");
            });
        }
    });
    bar.finish_and_clear();
    for failure in failed.iter().take(if wanted.whole { 0 } else { SMALL_MAX }) {
        tell_small(failure);
    }
    let mut out = std::io::stdout();
    let _ = writeln!(out, "{stats}");
    if let Some(path) = &wanted.json
        && let Err(error) = std::fs::write(path, format!("{:#}\n", stats.json()))
    {
        let _ = writeln!(std::io::stderr(), "{} cannot be written: {error}", path.display());
        return ExitCode::FAILURE;
    }
    if broken.is_empty() {
        return ExitCode::SUCCESS;
    }
    let _ = writeln!(out, "broken seeds: {broken:?}");
    ExitCode::FAILURE
}
