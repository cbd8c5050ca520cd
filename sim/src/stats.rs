//! What worlds saw, counted: how much of everything went wrong, was said, called and looked at.

use crate::invariant::Invariant;
use crate::machine;
use serde_json::{Value, json};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use updraft_core::time::HOUR_MS;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Of {
    /// Things that went wrong, by kind.
    Fault,
    /// Deaths of the server, by moment.
    Crash,
    /// Messages that were sent, by kind.
    Message,
    /// Calls of the API, by operation and outcome.
    Call,
    /// Looks whether something still holds, by invariant.
    Look,
    /// Tasks, by the state at the end.
    Task,
    /// Events of tasks, by state, event and outcome.
    Event,
}

impl Of {
    const ALL: [Self; 7] =
        [Self::Fault, Self::Crash, Self::Message, Self::Call, Self::Look, Self::Task, Self::Event];

    /// The heading of its table, and its key in JSON.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Fault => ("What went wrong", "faults"),
            Self::Crash => ("The server died", "crashes"),
            Self::Message => ("Messages", "messages"),
            Self::Call => ("Calls", "calls"),
            Self::Look => ("Invariants, and looks at them", "looks"),
            Self::Task => ("Tasks at the end", "tasks"),
            Self::Event => ("Events of tasks", "events"),
        }
    }
}

/// The counts of one world, or of many.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Worlds that held.
    pub worlds: u64,
    /// Events of their queues.
    pub steps: u64,
    /// Their time, in milliseconds.
    pub ms: u64,
    counts: BTreeMap<Of, BTreeMap<Cow<'static, str>, u64>>,
}

impl Stats {
    /// Counts one more.
    pub fn count(&mut self, of: Of, name: impl Into<Cow<'static, str>>) {
        self.add(of, name, 1);
    }

    /// Counts some more.
    pub fn add(&mut self, of: Of, name: impl Into<Cow<'static, str>>, n: u64) {
        *self.counts.entry(of).or_default().entry(name.into()).or_default() += n;
    }

    /// Counts looks at an invariant.
    pub(crate) fn looked(&mut self, at: Invariant, times: usize) {
        self.add(Of::Look, at.name(), times as u64);
    }

    /// Adds what other worlds saw.
    pub fn merge(&mut self, other: Self) {
        self.worlds += other.worlds;
        self.steps += other.steps;
        self.ms += other.ms;
        for (of, counts) in other.counts {
            let all = self.counts.entry(of).or_default();
            for (name, n) in counts {
                *all.entry(name).or_default() += n;
            }
        }
    }

    /// How often something was counted.
    pub fn of(&self, of: Of, name: &str) -> u64 {
        self.counts.get(&of).and_then(|counts| counts.get(name)).copied().unwrap_or_default()
    }

    /// How often anything of a kind was counted.
    pub(crate) fn total(&self, of: Of) -> u64 {
        self.counts.get(&of).map_or(0, |counts| counts.values().sum())
    }

    /// What of the table of tasks no world reached, and invariants that none looked at.
    pub fn missed(&self) -> Vec<String> {
        let never = |of, name: &str| self.of(of, name) == 0;
        let cells = machine::cells().into_iter().filter(|cell| never(Of::Event, cell));
        let looks = Invariant::ALL.into_iter().filter(|invariant| never(Of::Look, invariant.name()));
        cells.chain(looks.map(|invariant| format!("a look whether {}", invariant.name()))).collect()
    }

    /// All of it, for programs.
    pub fn json(&self) -> Value {
        let mut all = json!({ "worlds": self.worlds, "steps": self.steps, "simulatedMs": self.ms });
        for of in Of::ALL {
            all[of.names().1] = json!(self.counts.get(&of).cloned().unwrap_or_default());
        }
        all["missed"] = json!(self.missed());
        all
    }
}

/// Tables, as documents have them.
impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days = self.ms as f64 / (24 * HOUR_MS) as f64;
        writeln!(f, "| Lived | |\n|---|---|")?;
        writeln!(f, "| worlds | {} |\n| steps | {} |", grouped(self.worlds), grouped(self.steps))?;
        writeln!(f, "| simulated days | {days:.1} |")?;
        for of in Of::ALL {
            let Some(counts) = self.counts.get(&of) else { continue };
            writeln!(f, "\n| {} | {} |\n|---|---|", of.names().0, grouped(counts.values().sum()))?;
            for (name, n) in counts {
                writeln!(f, "| {name} | {} |", grouped(*n))?;
            }
        }
        let missed = self.missed();
        writeln!(
            f,
            "\nNever reached: {}",
            if missed.is_empty() { "nothing".to_owned() } else { missed.join("; ") }
        )
    }
}

/// A number with commas.
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_two_worlds_add_up() {
        let (mut one, mut two) =
            (Stats { worlds: 1, ..Stats::default() }, Stats { worlds: 1, ..Stats::default() });
        one.count(Of::Fault, "a lie");
        two.add(Of::Fault, "a lie", 1_234);
        two.count(Of::Crash, "out of the blue");
        one.merge(two);
        assert_eq!(
            (one.worlds, one.of(Of::Fault, "a lie"), one.of(Of::Crash, "out of the blue")),
            (2, 1_235, 1)
        );
        assert!(one.to_string().contains("| a lie | 1,235 |"), "{one}");
        assert_eq!(one.json()["faults"]["a lie"], 1_235);
    }

    #[test]
    fn what_no_world_reached_is_told() {
        let all = Stats::default().missed();
        let mut some = Stats::default();
        some.count(Of::Event, "QUEUED: push -> NOTIFIED");
        some.looked(Invariant::Counts, 1);
        assert_eq!(some.missed().len() + 2, all.len());
    }
}
