//! The loop: take a seed, change it, try it, judge it; stop at the first failure and make it small.

use crate::dice::Dice;
use crate::target::Target;
use crate::{Broken, guard, shown, shrink::shrink};
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// After so many inputs the server is looked at as a whole.
const CHECK_EVERY: u64 = 2_000;
/// One input may raise the process's peak of memory by so much, and no more.
const INPUT_MEMORY_MAX: usize = 32 * 1024 * 1024;
/// Inputs before memory counts: caches fill first.
const WARM_UP: u64 = 300;
/// A failure may be owed to one of so many inputs: some answers come late.
const RECENT: usize = 8;
/// Attempts at making a failing input smaller.
const SHRINK_TRIES: usize = 400;
/// And the time for it: who waits in vain waits long.
const SHRINK_TIME: Duration = Duration::from_mins(1);
/// Most inputs in the corpus.
const CORPUS_MAX: usize = 4_000;

/// How long, and with which seed.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// The time for the target.
    pub time: Duration,
    /// What repeats the inputs.
    pub seed: u64,
}

/// What a run did.
#[derive(Debug, Default)]
pub struct Report {
    /// Inputs tried.
    pub executions: u64,
    /// Seconds that it took.
    pub seconds: u64,
    /// Seeds, with those found on the way.
    pub corpus: usize,
    /// How often each class of outcome came.
    pub classes: BTreeMap<String, u64>,
    /// How often the server was looked at as a whole.
    pub checks: u64,
    /// What the target wants to say at its end.
    pub remarks: Vec<String>,
    /// The failure, if there was one.
    pub failure: Option<Failure>,
}

/// A failing input.
#[derive(Debug)]
pub struct Failure {
    /// What was broken.
    pub broken: Broken,
    /// The input, made small; empty if a look at the whole server failed.
    pub input: Vec<u8>,
    /// Whether the input alone does it again on a new server.
    pub repeats: bool,
    /// Inputs before it.
    pub execution: u64,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "BROKEN after {} inputs: {}", self.execution, self.broken)?;
        writeln!(f, "  input: {}", shown(&self.input))?;
        writeln!(f, "  hex:   {}", hex::encode(&self.input))?;
        let alone =
            if self.repeats { "fails again alone" } else { "does not fail alone: repeat the whole run" };
        write!(f, "  on a new server the input {alone}")
    }
}

/// Tries inputs until the time is over or one fails; `progress` is told of the report now and then.
pub fn run(target: &mut dyn Target, options: Options, mut progress: impl FnMut(&Report)) -> Report {
    guard::watch_panics();
    let mut report = Report::default();
    let mut dice = Dice::new(options.seed);
    let mut corpus = target.seeds();
    let began = Instant::now();
    let mut told = began;
    let mut recent: VecDeque<Vec<u8>> = VecDeque::new();
    let mut seeds = corpus.clone().into_iter();
    while began.elapsed() < options.time {
        // Every seed once as it is, then changed ones.
        let input = seeds.next().unwrap_or_else(|| {
            let (entry, other) = (dice.pick(&corpus).clone(), dice.pick(&corpus).clone());
            target.mutate(&mut dice, &entry, &other)
        });
        report.executions += 1;
        recent.push_front(input.clone());
        recent.truncate(RECENT);
        match attempt(target, &input, report.executions > WARM_UP) {
            Ok(class) => {
                let seen = report.classes.entry(class).or_insert(0);
                *seen += 1;
                if *seen == 1 && corpus.len() < CORPUS_MAX && !corpus.contains(&input) {
                    corpus.push(input);
                }
            }
            Err(broken) => {
                report.failure = Some(explain(target, broken, &recent, report.executions));
                break;
            }
        }
        report.corpus = corpus.len();
        if report.executions.is_multiple_of(CHECK_EVERY)
            && let Some(failure) = look(target, &mut report)
        {
            report.failure = Some(failure);
            break;
        }
        if told.elapsed() >= Duration::from_secs(1) {
            told = Instant::now();
            progress(&report);
        }
    }
    if report.failure.is_none() {
        report.failure = look(target, &mut report);
    }
    report.seconds = began.elapsed().as_secs();
    report.remarks = target.remarks();
    report
}

/// Tries one input and counts what no answer tells.
pub fn attempt(target: &mut dyn Target, input: &[u8], memory: bool) -> Result<String, Broken> {
    let (panics, peak) = (guard::panics(), guard::peak_bytes());
    let outcome = target.attempt(input);
    if guard::panics() > panics {
        return Err(Broken::new("panic", guard::last_panic()));
    }
    let class = outcome?;
    let grown = guard::peak_bytes().saturating_sub(peak);
    if memory && grown > INPUT_MEMORY_MAX {
        let kib = grown / 1024;
        return Err(Broken::new("memory", format!("{} bytes of input took {kib} KiB", input.len())));
    }
    Ok(class)
}

fn look(target: &mut dyn Target, report: &mut Report) -> Option<Failure> {
    report.checks += 1;
    let broken = target.check().err()?;
    Some(Failure { broken, input: Vec::new(), repeats: false, execution: report.executions })
}

/// Finds the input that did it: the last one, or one shortly before whose answer came late.
fn explain(target: &mut dyn Target, broken: Broken, recent: &VecDeque<Vec<u8>>, execution: u64) -> Failure {
    let _ = target.renew();
    // Twice, for the late answers.
    let mut again = |bytes: &[u8]| {
        (0..2).any(|_| attempt(target, bytes, true).is_err_and(|other| other.kind() == broken.kind()))
    };
    let Some(input) = recent.iter().find(|input| again(input)) else {
        let input = recent.front().cloned().unwrap_or_default();
        return Failure { broken, input, repeats: false, execution };
    };
    let began = Instant::now();
    let input = shrink(input, SHRINK_TRIES, |bytes| began.elapsed() < SHRINK_TIME && again(bytes));
    Failure { broken, input, repeats: true, execution }
}
