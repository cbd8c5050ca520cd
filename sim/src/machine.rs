//! Which cells of core's table of tasks worlds reached: what the one door says of each event, as a trace, against
//! the golden file that has every cell.

use crate::stats::{Of, Stats};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use tracing::field::{Field, Visit};
use tracing::{Dispatch, Event, Metadata, Subscriber, span};
use updraft_core::task::TaskStatus;

/// Where the door says it.
const TARGET: &str = "updraft_server::engine::advance";
/// Every cell, and more about it than is wanted here.
const TABLE: &str = include_str!("../../core/tests/transitions.golden");
/// Events; one whose name another begins with comes after it.
const EVENTS: [&str; 15] = [
    "confirm",
    "slot lost",
    "slot",
    "hold",
    "turn",
    "push",
    "pull",
    "progress",
    "failure",
    "version",
    "timeout",
    "retry due",
    "cancel",
    "overwritten",
    "reupgrade",
];

type Cells = Arc<Mutex<BTreeMap<String, u64>>>;

/// Hears what the door says while it is the thread's subscriber.
#[derive(Clone, Default)]
pub(crate) struct Machine(Cells);

impl Machine {
    /// The subscriber.
    pub(crate) fn dispatch(&self) -> Dispatch {
        Dispatch::new(self.clone())
    }

    /// How often each event was refused for each reason.
    pub(crate) fn refused(&self) -> BTreeMap<String, u64> {
        let mut refused: BTreeMap<String, u64> = BTreeMap::new();
        for (cell, n) in self.0.lock().iter() {
            if let Some((_, event)) = cell.split_once(": ").filter(|(_, event)| event.contains(" refused: "))
            {
                *refused.entry(event.to_owned()).or_default() += n;
            }
        }
        refused
    }

    /// Adds what was heard.
    pub(crate) fn tell(&self, stats: &mut Stats) {
        for (cell, n) in std::mem::take(&mut *self.0.lock()) {
            stats.add(Of::Event, cell, n);
        }
    }
}

impl Subscriber for Machine {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == TARGET && *metadata.level() == tracing::Level::TRACE && metadata.is_event()
    }

    fn event(&self, event: &Event<'_>) {
        let mut heard = Heard::default();
        event.record(&mut heard);
        let Heard { status, event, outcome } = heard;
        *self.0.lock().entry(format!("{status}: {event} {outcome}")).or_default() += 1;
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[derive(Default)]
struct Heard {
    status: String,
    event: String,
    outcome: String,
}

impl Visit for Heard {
    fn record_str(&mut self, field: &Field, value: &str) {
        let place = match field.name() {
            "status" => &mut self.status,
            "event" => &mut self.event,
            "outcome" => &mut self.outcome,
            _ => return,
        };
        value.clone_into(place);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

/// Every cell of the table, as it is counted when it is reached.
pub(crate) fn cells() -> BTreeSet<String> {
    TABLE.lines().filter_map(cell).collect()
}

/// The cell of a line such as `QUEUED       push                     -> NOTIFIED slot=none told=+0ms`.
fn cell(line: &str) -> Option<String> {
    let (status, rest) =
        line.split_once(' ').filter(|(status, _)| TaskStatus::from_name(status).is_some())?;
    let rest = rest.trim_start();
    let event = EVENTS.into_iter().find(|event| rest.starts_with(event))?;
    let outcome = if let Some((_, after)) = rest.split_once("-> ") {
        format!("-> {}", after.split(' ').next().unwrap_or_default())
    } else if let Some((_, why)) = rest.split_once("refused: ") {
        format!("refused: {}", why.split("  ").next().unwrap_or_default())
    } else {
        "same".to_owned()
    };
    Some(format!("{status}: {event} {outcome}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_read_from_the_golden_file() {
        let cells = cells();
        for cell in [
            "QUEUED: push -> NOTIFIED",
            "QUEUED: slot lost -> QUEUED",
            "FAILED: retry due same",
            "SUCCEEDED: reupgrade refused: the task has succeeded",
        ] {
            assert!(cells.contains(cell), "{cell} is not among {cells:#?}");
        }
    }

    #[test]
    fn each_state_has_each_event() {
        let cells = cells();
        for status in TaskStatus::ALL.map(TaskStatus::name) {
            for event in EVENTS {
                let cell = format!("{status}: {event} ");
                assert!(cells.iter().any(|found| found.starts_with(&cell)), "{cell}");
            }
        }
    }
}
