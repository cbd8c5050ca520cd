//! `updraft-sim <seed>`, `updraft-sim --seeds A..B`: lives worlds and says what was wrong.
//! `--steps N`: so much trouble; `--transcript`: tells all that happened.

use std::io::Write as _;
use std::process::ExitCode;
use updraft_sim::{STEPS_DEFAULT, run_kept};

struct Wanted {
    seeds: std::ops::Range<u64>,
    steps: u64,
    transcript: bool,
}

fn main() -> ExitCode {
    if let Some(wanted) = parse(std::env::args().skip(1)) {
        return live(&wanted);
    }
    // A closed pipe is no reason to stop: the exit code still tells.
    let _ = writeln!(std::io::stderr(), "usage: updraft-sim SEED | --seeds A..B  [--steps N] [--transcript]");
    ExitCode::from(2)
}

fn parse(mut args: impl Iterator<Item = String>) -> Option<Wanted> {
    let (mut seeds, mut steps, mut transcript) = (None, STEPS_DEFAULT, false);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--transcript" => transcript = true,
            "--steps" => steps = args.next()?.parse().ok()?,
            "--seeds" => {
                let range = args.next()?;
                let (first, end) = range.split_once("..")?;
                seeds = Some(first.parse().ok()?..end.parse().ok()?);
            }
            seed => {
                let seed: u64 = seed.parse().ok()?;
                seeds = Some(seed..seed.checked_add(1)?);
            }
        }
    }
    Some(Wanted { seeds: seeds?, steps, transcript })
}

fn live(wanted: &Wanted) -> ExitCode {
    let mut out = std::io::stdout();
    let mut broken = Vec::new();
    for seed in wanted.seeds.clone() {
        // A closed pipe is no reason to stop: the exit code still tells.
        let _ = match run_kept(seed, wanted.steps, wanted.transcript) {
            Ok((report, transcript)) if wanted.transcript => writeln!(out, "{transcript}{report}"),
            Ok((report, _)) => writeln!(out, "{report}"),
            Err(failure) => {
                broken.push(seed);
                writeln!(out, "{failure}")
            }
        };
    }
    if broken.is_empty() {
        return ExitCode::SUCCESS;
    }
    let _ = writeln!(out, "broken seeds: {broken:?}");
    ExitCode::FAILURE
}
