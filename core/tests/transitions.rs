//! The whole task machine as one table: every (state, event) pair, compared with a golden file.
//!
//! After a deliberate change run `UPDATE_GOLDEN=1 cargo test -p updraft-core --test transitions` and
//! read the difference.

use std::fmt::Write as _;
use updraft_core::id::{DeviceNo, JobNo, TaskNo};
use updraft_core::task::{Cancel, Event, FailedStep, Step, Task, TaskStatus, Terms, step};
use updraft_core::time::Timestamp;

const NOW: Timestamp = Timestamp(1_000_000);

fn task(status: TaskStatus) -> Task {
    Task {
        no: TaskNo { job: JobNo(1), ordinal: 1 },
        device: DeviceNo(1),
        status,
        src_version: Some("1.0".to_owned()),
        progress: 10,
        desc: String::new(),
        due_at: matches!(status, TaskStatus::Queued | TaskStatus::InProgress).then_some(NOW),
        revision: 7,
        created_at: Timestamp(0),
        modified_at: Timestamp(0),
    }
}

/// Fails to compile when `Event` grows: then `events` below needs a row for the new one.
fn is_listed(event: &Event<'_>) -> bool {
    match event {
        Event::Confirm
        | Event::Slot(_)
        | Event::SlotLost
        | Event::Push
        | Event::Pull
        | Event::Progress { .. }
        | Event::Failure { .. }
        | Event::Version(_)
        | Event::Timeout
        | Event::Cancel(_) => events().iter().any(|(_, listed)| listed.name() == event.name()),
    }
}

fn events() -> Vec<(&'static str, Event<'static>)> {
    let all = Cancel { confirm: true, queued: true, notified: true, in_progress: true };
    vec![
        ("confirm", Event::Confirm),
        ("slot", Event::Slot(Timestamp(1_000_500))),
        ("slot lost", Event::SlotLost),
        ("push", Event::Push),
        ("pull", Event::Pull),
        ("progress 10 (as before)", Event::Progress { percent: 10, desc: "" }),
        ("progress 50", Event::Progress { percent: 50, desc: "half" }),
        ("failure -2", Event::Failure { step: FailedStep::Download, desc: "no route" }),
        ("version = target", Event::Version("2.0")),
        ("version = source", Event::Version("1.0")),
        ("version = other", Event::Version("9.9")),
        ("timeout", Event::Timeout),
        ("cancel all", Event::Cancel(all)),
        ("cancel none", Event::Cancel(Cancel::default())),
    ]
}

fn table(terms: &Terms<'_>) -> String {
    let mut out = String::new();
    for status in TaskStatus::ALL {
        for (name, event) in events() {
            assert!(is_listed(&event));
            let before = task(status);
            let outcome = match step(&before, terms, &event, NOW) {
                Ok(Step::Same) => "same".to_owned(),
                Err(refused) => format!("refused: {}", refused.why),
                Ok(Step::Next(after)) => {
                    assert_eq!(after.revision, before.revision + 1, "every change counts");
                    assert_eq!(after.modified_at, NOW);
                    assert!(before.status.is_open(), "a final state is never left");
                    let mut text = format!("-> {}", after.status.name());
                    if after.due_at != before.due_at {
                        let due = after.due_at.map(|due| due.since_ms(NOW));
                        let _ =
                            write!(text, " due={}", due.map_or("none".to_owned(), |ms| format!("+{ms}ms")));
                    }
                    if after.progress != before.progress {
                        let _ = write!(text, " progress={}", after.progress);
                    }
                    if after.desc != before.desc {
                        let _ = write!(text, " desc={:?}", after.desc);
                    }
                    if after.src_version != before.src_version {
                        let _ = write!(text, " source={:?}", after.src_version.unwrap());
                    }
                    text
                }
            };
            let _ = writeln!(out, "{:<12} {name:<24} {outcome}", status.name());
        }
    }
    out
}

#[test]
fn every_state_and_event_has_the_recorded_outcome() {
    let push = Terms { dest_version: "2.0", need_push: true, timeout_ms: Some(300_000), started: true };
    let mut actual = String::from("# pushed batch, 5 minutes time-out\n");
    actual += &table(&push);
    actual += "\n# the same with NeedPush=false: only what differs\n";
    actual += &difference(&table(&push), &table(&Terms { need_push: false, ..push }));
    actual += "\n# the same before its start: only what differs\n";
    actual += &difference(&table(&push), &table(&Terms { started: false, ..push }));
    actual += "\n# the same without time-out: only what differs\n";
    actual += &difference(&table(&push), &table(&Terms { timeout_ms: None, ..push }));

    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/transitions.golden");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(golden, &actual).unwrap();
    }
    assert_eq!(std::fs::read_to_string(golden).unwrap_or_default(), actual, "see the head of this file");
}

fn difference(base: &str, other: &str) -> String {
    base.lines().zip(other.lines()).filter(|(a, b)| a != b).fold(String::new(), |mut out, (_, line)| {
        let _ = writeln!(out, "{line}");
        out
    })
}

#[test]
fn a_device_that_never_told_its_version_may_tell_it_late() {
    let terms = Terms { dest_version: "2.0", need_push: true, timeout_ms: None, started: true };
    let unknown = Task { src_version: None, ..task(TaskStatus::InProgress) };
    let Ok(Step::Next(told)) = step(&unknown, &terms, &Event::Version("0.9"), NOW) else { panic!() };
    assert_eq!((told.status, told.src_version.as_deref()), (TaskStatus::InProgress, Some("0.9")));
}

#[test]
fn a_timeout_before_its_time_changes_nothing() {
    let terms = Terms { dest_version: "2.0", need_push: true, timeout_ms: Some(300_000), started: true };
    let running = Task { due_at: Some(NOW.plus_ms(1)), ..task(TaskStatus::InProgress) };
    assert_eq!(step(&running, &terms, &Event::Timeout, NOW), Ok(Step::Same));
}

#[test]
fn long_descriptions_are_clipped() {
    let terms = Terms { dest_version: "2.0", need_push: true, timeout_ms: None, started: true };
    let long = "é".repeat(500);
    let Ok(Step::Next(after)) =
        step(&task(TaskStatus::Notified), &terms, &Event::Progress { percent: 1, desc: &long }, NOW)
    else {
        panic!()
    };
    assert_eq!(after.desc.chars().count(), 128);
}
