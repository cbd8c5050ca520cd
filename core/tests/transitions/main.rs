//! The whole task machine as one table: every (state, event) pair, compared with a golden file.
//!
//! After a deliberate change run `UPDATE_GOLDEN=1 cargo test -p updraft-core --test transitions` and
//! read the difference.

mod table;

use std::fmt::Write as _;
use updraft_core::id::{DeviceNo, JobNo, TaskNo};
use updraft_core::task::{
    Event, FailedStep, PushNeed, Retry, Step, Task, TaskStatus, Terms, push_need, step,
};
use updraft_core::time::Timestamp;

const NOW: Timestamp = Timestamp(1_000_000);

fn task(status: TaskStatus) -> Task {
    let no = TaskNo { job: JobNo(1), ordinal: 1 };
    Task {
        progress: 10,
        slot_at: (status == TaskStatus::Queued).then_some(NOW),
        timeout_at: (status == TaskStatus::InProgress).then_some(NOW),
        working: status == TaskStatus::InProgress,
        confirmed: status != TaskStatus::Confirm,
        revision: 7,
        ..Task::new(no, DeviceNo(1), status, Some("1.0".to_owned()), Timestamp(0))
    }
}

const PUSHED: Terms<'static> = Terms {
    dest_version: "2.0",
    src_versions: &[],
    differential: false,
    need_push: true,
    need_confirm: false,
    timeout_ms: Some(300_000),
    retry: None,
    planned_at: None,
    finish_at: None,
    finish_grace_ms: 86_400_000,
    started: true,
};

/// How to read the golden file.
const HEAD: &str = "\
# What each event does to a task in each state, at one moment (+0ms).
# The first section has all cells; each other one has a different batch or different tasks, and shows only the cells
# in which it differs from the section that it names.
# \"same\": nothing happens, and nobody is told off. \"refused\": counted, and told in the task's history.
# \"-> STATE\": the task's state, and whatever else of it changes. \"(device listens)\": what a connected device is sent.
# A line that begins with a # says why the cell above it is as it is.
";

/// A sentence about a cell: its section, state and event, how its outcome begins, and why.
struct Surprise<'a>([&'a str; 5]);

impl Surprise<'_> {
    fn is_about(&self, section: &str, cell: &table::Cell) -> bool {
        let [of, status, event, outcome, _] = self.0;
        (of, status, event) == (section, cell.status.name(), cell.event) && cell.outcome.starts_with(outcome)
    }
}

#[test]
fn every_state_and_event_has_the_recorded_outcome() {
    let lines = include_str!("surprises.txt").lines().filter(|line| !line.starts_with('#'));
    let surprise = |line: &'static str| {
        let parts: Vec<&str> = line.split(" | ").collect();
        Surprise(parts.try_into().unwrap_or_else(|_| panic!("not five parts: {line}")))
    };
    let mut surprises: Vec<Surprise<'_>> = lines.map(surprise).collect();
    let sections = table::sections();
    let mut actual = String::from(HEAD);
    for section in &sections {
        let _ = writeln!(actual, "\n{}", table::heading(section));
        let unsaid = surprises.len();
        for cell in table::printed(section, &sections) {
            let _ = writeln!(actual, "{:<12} {:<24} {}", cell.status.name(), cell.event, cell.outcome);
            for said in surprises.extract_if(.., |surprise| surprise.is_about(section.key, &cell)) {
                let _ = writeln!(actual, "{:<12} # {}", "", said.0[4]);
            }
        }
        assert!(surprises.len() < unsaid, "surprises.txt does not say why \"{}\" differs", section.key);
    }
    let stale: Vec<String> = surprises.iter().map(|surprise| surprise.0.join(" | ")).collect();
    assert!(stale.is_empty(), "about no printed cell with this outcome:\n{}", stale.join("\n"));

    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/transitions.golden");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(golden, &actual).unwrap();
    }
    assert_eq!(std::fs::read_to_string(golden).unwrap_or_default(), actual, "see the head of this file");
}

#[test]
fn a_device_that_never_told_its_version_may_tell_it_late() {
    let terms = Terms { timeout_ms: None, ..PUSHED };
    let unknown = Task { src_version: None, ..task(TaskStatus::InProgress) };
    let Ok(Step::Next(told)) = step(&unknown, &terms, &Event::Version("0.9"), NOW) else { panic!() };
    assert_eq!((told.status, told.src_version.as_deref()), (TaskStatus::InProgress, Some("0.9")));
}

#[test]
fn a_timeout_before_its_time_changes_nothing() {
    let running = Task { timeout_at: Some(NOW.plus_ms(1)), ..task(TaskStatus::InProgress) };
    assert_eq!(step(&running, &PUSHED, &Event::Timeout, NOW), Ok(Step::Same));
}

fn after(task: &Task, terms: &Terms<'_>, event: &Event<'_>) -> Task {
    match step(task, terms, event, NOW) {
        Ok(Step::Next(after)) => after,
        other => panic!("{event:?} on {task:?}: {other:?}"),
    }
}

const FAILURE: Event<'static> = Event::Failure { step: FailedStep::Download, desc: "" };

#[test]
fn attempts_are_repeated_as_often_as_asked_and_then_the_task_fails() {
    let terms = Terms { retry: Some(Retry { interval_ms: 60_000, count: 2 }), timeout_ms: None, ..PUSHED };
    let mut task = Task { timeout_at: None, ..task(TaskStatus::InProgress) };
    for attempt in 1..=2 {
        task = after(&task, &terms, &FAILURE);
        assert_eq!((task.status, task.retries), (TaskStatus::InProgress, attempt));
        assert_eq!(task.due_at(), Some(NOW.plus_ms(60_000)));
        assert_eq!(push_need(&task, &terms, NOW), PushNeed::Nothing, "nothing is sent while it waits");
        let early = step(&task, &terms, &Event::RetryDue, NOW);
        assert_eq!(early, Ok(Step::Same));
        task.retry_at = Some(NOW);
        task = after(&task, &terms, &Event::RetryDue);
        assert_eq!(push_need(&task, &terms, NOW), PushNeed::Repeat);
        // What it reports before it begins again is what the last attempt left behind.
        if attempt == 1 {
            task = after(&task, &terms, &Event::Version("left over"));
            assert_eq!(
                (task.status, task.src_version.as_deref()),
                (TaskStatus::InProgress, Some("left over"))
            );
        }
        task = after(&task, &terms, &Event::Progress { percent: attempt, desc: "" });
        // A connection lost in the middle is no failure; the end of the attempt is.
        assert_eq!(step(&task, &terms, &Event::Version("left over"), NOW), Ok(Step::Same));
    }
    let done = after(&task, &terms, &Event::Progress { percent: 100, desc: "" });
    assert_eq!(after(&done, &terms, &Event::Version("left over")).status, TaskStatus::Failed);
    let failed = after(&task, &terms, &Event::Version("rescue"));
    assert_eq!((failed.status, failed.desc.as_str()), (TaskStatus::Failed, "report version is not conform"));
    assert_eq!(failed.due_at(), None);
}

#[test]
fn a_device_that_left_the_source_versions_gets_no_other_attempt() {
    let sources = ["1.0".to_owned()];
    let retry = Some(Retry { interval_ms: 60_000, count: 5 });
    let terms = Terms { retry, src_versions: &sources, timeout_ms: None, ..PUSHED };
    let running = Task { timeout_at: None, ..task(TaskStatus::InProgress) };
    assert_eq!(after(&running, &terms, &Event::Version("rescue")).status, TaskStatus::Failed);
    // It may leave them while it waits, too.
    let waiting = after(&running, &terms, &FAILURE);
    let left = Task { retry_at: Some(NOW), ..after(&waiting, &terms, &Event::Version("rescue")) };
    let failed = after(&left, &terms, &Event::RetryDue);
    assert_eq!((failed.status, failed.due_at()), (TaskStatus::Failed, None));
    let back = after(&left, &terms, &Event::Version("1.0"));
    assert_eq!(after(&back, &terms, &Event::RetryDue).status, TaskStatus::InProgress);
}

#[test]
fn attempts_without_a_wait_are_still_apart() {
    let terms = Terms { retry: Some(Retry { interval_ms: 0, count: 5 }), timeout_ms: None, ..PUSHED };
    let waiting = after(&task(TaskStatus::Notified), &terms, &FAILURE);
    assert!(waiting.retry_at > Some(NOW));
    assert_eq!(step(&waiting, &terms, &FAILURE, NOW), Ok(Step::Same), "the same failure, told twice");
}

#[test]
fn an_attempt_that_would_come_too_late_is_not_made() {
    let retry = Some(Retry { interval_ms: 60_000, count: 2 });
    let soon = Some(NOW.plus_ms(60_000));
    let terms = Terms { retry, ..PUSHED };
    let timed = Task { timeout_at: soon, ..task(TaskStatus::InProgress) };
    assert_eq!(after(&timed, &terms, &FAILURE).status, TaskStatus::Failed);
    let finishing = Terms { finish_at: soon, ..terms };
    assert_eq!(after(&task(TaskStatus::Notified), &finishing, &FAILURE).status, TaskStatus::Failed);
    assert_eq!(after(&task(TaskStatus::Notified), &terms, &FAILURE).status, TaskStatus::Notified);
}

#[test]
fn a_batch_with_a_finish_time_gives_every_task_a_deadline() {
    let terms = Terms { timeout_ms: None, finish_at: Some(NOW.plus_ms(10)), ..PUSHED };
    let begun = after(&task(TaskStatus::Notified), &terms, &Event::Progress { percent: 0, desc: "" });
    assert_eq!(begun.timeout_at, Some(NOW.plus_ms(10 + terms.finish_grace_ms)));
    let shorter = Terms { timeout_ms: Some(300_000), ..terms };
    let begun = after(&task(TaskStatus::Notified), &shorter, &Event::Progress { percent: 0, desc: "" });
    assert_eq!(begun.timeout_at, Some(NOW.plus_ms(300_000)));
}

#[test]
fn a_planned_batch_reserves_its_slots_beforehand_and_tells_nobody() {
    let queued = Task { slot_at: None, ..task(TaskStatus::Queued) };
    let start = NOW.plus_ms(5_000);
    let planned = Terms { planned_at: Some(start), started: false, ..PUSHED };
    assert_eq!(push_need(&queued, &planned, NOW), PushNeed::Slot(start));
    assert!(step(&queued, &planned, &Event::Push, NOW).is_err());
    assert!(step(&queued, &planned, &Event::Pull, NOW).is_err());
    let confirm = task(TaskStatus::Confirm);
    assert!(step(&confirm, &planned, &Event::Confirm, NOW).is_err(), "confirmation has its time too");
    assert_eq!(push_need(&queued, &PUSHED, NOW), PushNeed::Slot(NOW));
    let over = Terms { finish_at: Some(NOW), ..PUSHED };
    assert_eq!(push_need(&queued, &over, NOW), PushNeed::Nothing);
}

#[test]
fn a_task_that_was_never_confirmed_is_not_put_back_in_line() {
    let terms = Terms { need_confirm: true, ..PUSHED };
    let canceled = Task { confirmed: false, ..task(TaskStatus::Canceled) };
    assert!(step(&canceled, &terms, &Event::Reupgrade(Some("1.0")), NOW).is_err());
    let agreed = Task { confirmed: true, ..canceled };
    assert_eq!(after(&agreed, &terms, &Event::Reupgrade(None)).status, TaskStatus::Queued);
}

#[test]
fn a_wait_for_the_turn_ends_with_whatever_ends_it() {
    let retry = Some(Retry { interval_ms: 60_000, count: 2 });
    let terms = Terms { retry, ..PUSHED };
    let until = NOW.plus_ms(700);
    let queued = after(&task(TaskStatus::Queued), &terms, &Event::Hold(until));
    assert_eq!((queued.slot_at, queued.due_at()), (None, Some(until)), "it keeps no slot");
    assert_eq!(step(&queued, &terms, &Event::Hold(until.plus_ms(1)), NOW), Ok(Step::Same), "not prolonged");
    assert_eq!(after(&queued, &terms, &Event::Hold(NOW)).hold_until, Some(NOW));
    let due = Task { hold_until: Some(NOW), ..queued.clone() };
    assert_eq!(after(&due, &terms, &Event::Hold(until)).hold_until, Some(until), "it begins anew");
    assert_eq!(push_need(&queued, &terms, NOW), PushNeed::Slot(NOW), "whoever offers it looks at the turn");
    let slot = after(&queued, &terms, &Event::Slot(NOW));
    assert_eq!((slot.slot_at, slot.hold_until), (Some(NOW), None));
    for told in [Event::Push, Event::Pull] {
        let told = after(&queued, &terms, &told);
        assert_eq!((told.told_at, told.due_at()), (Some(NOW), None));
    }

    let notified = Task { told_at: Some(Timestamp(0)), ..task(TaskStatus::Notified) };
    let held = after(&notified, &terms, &Event::Hold(until));
    assert_eq!((held.status, held.due_at()), (TaskStatus::Notified, Some(until)));
    for (event, told_at) in [
        (Event::SlotLost, Some(Timestamp(0))),
        (Event::Turn, Some(NOW)),
        (Event::Pull, Some(NOW)),
        (Event::Progress { percent: 0, desc: "" }, Some(Timestamp(0))),
        (FAILURE, Some(Timestamp(0))),
        (Event::Version("2.0"), None),
        (Event::Overwritten, None),
    ] {
        let after = after(&held, &terms, &event);
        assert_eq!((after.hold_until, after.told_at), (None, told_at), "{event:?}");
    }
    let working = Task { hold_until: Some(until), timeout_at: None, ..task(TaskStatus::InProgress) };
    let said = Event::Progress { percent: 10, desc: "" };
    assert_eq!(after(&working, &terms, &said).hold_until, None, "it says the same, but works");
}

#[test]
fn long_descriptions_are_clipped() {
    let terms = Terms { timeout_ms: None, ..PUSHED };
    let long = "é".repeat(500);
    let Ok(Step::Next(after)) =
        step(&task(TaskStatus::Notified), &terms, &Event::Progress { percent: 1, desc: &long }, NOW)
    else {
        panic!()
    };
    assert_eq!(after.desc.chars().count(), 128);
}

#[test]
fn a_difference_is_not_left_with_a_device_that_runs_another_version() {
    let sources = ["1.0".to_owned()];
    let whole = Terms { src_versions: &sources, ..PUSHED };
    let difference = Terms { differential: true, ..whole };
    let mut notified = task(TaskStatus::Notified);
    notified.src_version = Some("1.0".to_owned());
    let after = |task: &Task, terms: &Terms<'_>| match step(task, terms, &Event::Version("1.5"), NOW) {
        Ok(Step::Next(task)) => (task.status, task.desc),
        other => panic!("{other:?}"),
    };
    let changed = updraft_core::task::DESC_SOURCE_CHANGED.to_owned();
    assert_eq!(after(&notified, &whole).0, TaskStatus::Notified);
    assert_eq!(after(&notified, &difference), (TaskStatus::Failed, changed.clone()));
    // Between two attempts, and before the device begins the next.
    let waiting = Task { status: TaskStatus::InProgress, retry_at: Some(NOW.plus_ms(9)), ..notified.clone() };
    assert_eq!(after(&waiting, &difference), (TaskStatus::Failed, changed.clone()));
    assert_eq!(after(&Task { retry_at: None, ..waiting }, &difference), (TaskStatus::Failed, changed));
    // Its own versions are as good as ever.
    assert_eq!(step(&notified, &difference, &Event::Version("1.0"), NOW), Ok(Step::Same));
}
