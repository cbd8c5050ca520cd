//! A broken world made small: what can be left out while the same thing stays broken is left out (delta debugging).

use crate::mask::Happening;
use crate::{Failure, Violation, run_without};
use std::fmt;
use std::time::{Duration, Instant};

/// How much may be tried.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Worlds.
    pub tries: u32,
    /// Time.
    pub time: Duration,
}

/// A broken world made small.
#[derive(Debug, Clone)]
pub struct Shrunk {
    /// The small one, with its whole transcript.
    pub failure: Box<Failure>,
    /// Happenings before and after.
    pub happenings: (usize, usize),
    /// Lines of the transcript before and after.
    pub lines: (u64, u64),
    /// Worlds that were tried.
    pub tries: u32,
}

impl fmt::Display for Shrunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ((had, has), (long, short)) = (self.happenings, self.lines);
        writeln!(
            f,
            "made small in {} tries: {had} happenings are {has}, {long} lines are {short}\n\n{}",
            self.tries, self.failure
        )
    }
}

/// The search: what it has, and what it may still do.
struct Search<'a> {
    best: Box<Failure>,
    kind: String,
    tries: u32,
    effort: Effort,
    began: Instant,
    progress: &'a mut dyn FnMut(u32, usize),
}

/// Makes a broken world small; tells `progress` of each try and how many happenings are left.
pub fn shrink(failure: &Failure, effort: Effort, progress: &mut dyn FnMut(u32, usize)) -> Shrunk {
    let mut search = Search {
        best: Box::new(failure.clone()),
        kind: kind(&failure.violation),
        tries: 0,
        effort,
        began: Instant::now(),
        progress,
    };
    search.by_kinds();
    search.by_chunks();
    let Search { best, tries, .. } = search;
    // Once more, for the whole story.
    let told = run_without(best.seed, best.steps, &best.without, true);
    let small = told.err().unwrap_or(best);
    Shrunk {
        happenings: (failure.had.len(), small.had.len()),
        lines: (failure.lines, small.lines),
        tries,
        failure: small,
    }
}

impl Search<'_> {
    /// Whole kinds first.
    fn by_kinds(&mut self) {
        let mut kinds: Vec<_> = self.best.had.iter().map(|happening| happening.kind).collect();
        kinds.dedup();
        for kind in kinds {
            let all: Vec<Happening> =
                self.best.had.iter().filter(|happening| happening.kind == kind).copied().collect();
            self.does_without(&all);
        }
    }

    /// Then halves, quarters, and so on, down to single happenings, until none of them can be spared.
    fn by_chunks(&mut self) {
        let mut size = self.best.had.len().div_ceil(2).max(1);
        loop {
            let (mut at, mut spared) = (0, false);
            while at < self.best.had.len() {
                let end = (at + size).min(self.best.had.len());
                let chunk = self.best.had[at..end].to_vec();
                if self.does_without(&chunk) {
                    spared = true;
                } else if self.is_over() {
                    return;
                } else {
                    at += size;
                }
            }
            if size == 1 && !spared {
                return;
            }
            size = (size / 2).max(1);
        }
    }

    fn is_over(&self) -> bool {
        self.tries >= self.effort.tries || self.began.elapsed() >= self.effort.time
    }

    /// Tries without these; if the same is broken still, that is the world to go on with.
    fn does_without(&mut self, these: &[Happening]) -> bool {
        if these.is_empty() || self.is_over() {
            return false;
        }
        self.tries += 1;
        (self.progress)(self.tries, self.best.had.len());
        let without = self.best.without.and(these);
        match run_without(self.best.seed, self.best.steps, &without, false) {
            // What comes instead of what was left out must not make it longer.
            Err(found) if kind(&found.violation) == self.kind && found.had.len() < self.best.had.len() => {
                self.best = found;
                true
            }
            _ => false,
        }
    }
}

/// What kind of violation it is: its words, without names, numbers and what is quoted.
fn kind(violation: &Violation) -> String {
    let plain = |word: &&str| !word.is_empty() && word.chars().all(|letter| letter.is_ascii_lowercase());
    let trimmed = violation.0.split_whitespace().map(|word| word.trim_end_matches([':', ',', ';']));
    trimmed.filter(plain).take(6).collect::<Vec<_>>().join(" ")
}

impl Default for Effort {
    fn default() -> Self {
        Self { tries: 400, time: Duration::from_mins(2) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::PLANTED;
    use crate::run;

    #[test]
    fn the_kind_of_a_violation_is_in_its_words() {
        let kind_of = |text: &str| kind(&Violation(text.to_owned()));
        let one = kind_of("task 3/5 went back from InProgress to Queued");
        assert_eq!(one, kind_of("task 12/1 went back from Notified to Queued"));
        assert_ne!(one, kind_of("task 12/1 changed its device"));
    }

    #[test]
    fn a_long_story_is_told_short() {
        PLANTED.set(true);
        let failure = run(1_000, 5_000).expect_err("some task fails, and none may");
        let effort = Effort { tries: 60, time: Duration::from_mins(10) };
        let small = shrink(&failure, effort, &mut |_, _| {});
        assert_eq!(kind(&small.failure.violation), kind(&failure.violation));
        assert!(small.happenings.1 * 3 < small.happenings.0, "{:?}", small.happenings);
        assert!(small.lines.1 * 2 < small.lines.0, "{:?}", small.lines);
        // It breaks again, with the mask as it is printed.
        let mask: crate::mask::Mask = small.failure.without.to_string().parse().expect("a mask");
        let again = run_without(failure.seed, failure.steps, &mask, true).expect_err("it breaks again");
        PLANTED.set(false);
        assert_eq!((&again.violation, &again.tail), (&small.failure.violation, &small.failure.tail));
    }
}
