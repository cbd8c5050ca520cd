//! `updraft-fuzz [TARGET] [--seconds N] [--seed S]`, `updraft-fuzz TARGET --replay HEX`: mutates, tries,
//! judges, and says what broke.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;
use updraft_fuzz::run::{Options, Report, attempt, run};
use updraft_fuzz::{guard, shown, target};

/// Seconds for each target, unless told otherwise.
const SECONDS_DEFAULT: u64 = 60;

struct Wanted {
    targets: Vec<String>,
    seconds: u64,
    seed: u64,
    replay: Option<Vec<u8>>,
}

fn main() -> ExitCode {
    let mut out = std::io::stdout();
    let Some(wanted) = parse(std::env::args().skip(1)) else {
        let names = target::NAMES.join(" | ");
        let _ = writeln!(
            std::io::stderr(),
            "usage: updraft-fuzz [TARGET] [--seconds N] [--seed S]\n       updraft-fuzz TARGET --replay HEX\n\
             targets: {names}"
        );
        return ExitCode::from(2);
    };
    let mut broken = false;
    for name in &wanted.targets {
        // A closed pipe is no reason to stop: the exit code still tells.
        let fine = match &wanted.replay {
            Some(input) => replay(name, input, &mut out),
            None => fuzz(name, &wanted, &mut out),
        };
        broken |= !fine.unwrap_or(true);
    }
    if broken { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn parse(mut args: impl Iterator<Item = String>) -> Option<Wanted> {
    let mut wanted = Wanted { targets: Vec::new(), seconds: SECONDS_DEFAULT, seed: 1, replay: None };
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--seconds" => wanted.seconds = args.next()?.parse().ok()?,
            "--seed" => wanted.seed = args.next()?.parse().ok()?,
            "--replay" => wanted.replay = Some(hex::decode(args.next()?).ok()?),
            name if target::NAMES.contains(&name) => wanted.targets.push(name.to_owned()),
            _ => return None,
        }
    }
    if wanted.targets.is_empty() {
        if wanted.replay.is_some() {
            return None;
        }
        wanted.targets = target::NAMES.map(str::to_owned).to_vec();
    }
    Some(wanted)
}

fn replay(name: &str, input: &[u8], out: &mut impl std::io::Write) -> std::io::Result<bool> {
    guard::watch_panics();
    let mut target = match target::open(name) {
        Ok(Some(target)) => target,
        Ok(None) => return Ok(false),
        Err(broken) => {
            writeln!(out, "{name}: {broken}")?;
            return Ok(false);
        }
    };
    writeln!(out, "{name}: {}", shown(input))?;
    let outcome = attempt(target.as_mut(), input, false).and_then(|class| target.check().map(|()| class));
    match &outcome {
        Ok(class) => writeln!(out, "holds: {class}")?,
        Err(broken) => writeln!(out, "BROKEN: {broken}")?,
    }
    Ok(outcome.is_ok())
}

fn fuzz(name: &str, wanted: &Wanted, out: &mut impl std::io::Write) -> std::io::Result<bool> {
    let mut target = match target::open(name) {
        Ok(Some(target)) => target,
        Ok(None) => return Ok(false),
        Err(broken) => {
            writeln!(out, "{name}: {broken}")?;
            return Ok(false);
        }
    };
    let live = std::io::stderr().is_terminal();
    let options = Options { time: Duration::from_secs(wanted.seconds), seed: wanted.seed };
    let mut last = 0;
    let report = run(target.as_mut(), options, |report| {
        if live {
            let per_second = report.executions - last;
            last = report.executions;
            let (corpus, classes) = (report.corpus, report.classes.len());
            let _ = write!(
                std::io::stderr(),
                "\r{name}: {} inputs, {per_second}/s, corpus {corpus}, outcomes {classes}   ",
                report.executions
            );
        }
    });
    if live {
        let _ = writeln!(std::io::stderr());
    }
    summary(name, wanted, &report, out)?;
    Ok(report.failure.is_none())
}

fn summary(
    name: &str,
    wanted: &Wanted,
    report: &Report,
    out: &mut impl std::io::Write,
) -> std::io::Result<()> {
    writeln!(
        out,
        "{name}: seed {}, {} inputs in {} s, corpus {}, {} classes of outcome, {} checks of the whole, \
         {} MiB resident, peak {} MiB",
        wanted.seed,
        report.executions,
        report.seconds,
        report.corpus,
        report.classes.len(),
        report.checks,
        guard::resident_bytes() >> 20,
        guard::peak_bytes() >> 20,
    )?;
    for remark in &report.remarks {
        writeln!(out, "  {remark}")?;
    }
    if let Some(failure) = &report.failure {
        writeln!(out, "{failure}")?;
        writeln!(out, "  again: cargo xtask fuzz {name} --replay {}", hex::encode(&failure.input))?;
        writeln!(
            out,
            "  or all of it: cargo xtask fuzz {name} --seed {} --seconds {}",
            wanted.seed, wanted.seconds
        )?;
    }
    Ok(())
}
