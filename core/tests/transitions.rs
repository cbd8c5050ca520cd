//! The whole task machine as one table: every (state, event) pair, compared with a golden file.
//!
//! After a deliberate change run `UPDATE_GOLDEN=1 cargo test -p updraft-core --test transitions` and
//! read the difference.

use std::fmt::Write as _;
use updraft_core::id::{DeviceNo, JobNo, TaskNo};
use updraft_core::task::{
    Cancel, Event, FailedStep, PushNeed, Retry, Step, Task, TaskStatus, Terms, push_need, step,
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

/// A task whose attempt has failed and that waits for the next one; its time has come.
fn waiting(status: TaskStatus) -> Task {
    let told = matches!(status, TaskStatus::Notified | TaskStatus::InProgress);
    let timeout_at = (status == TaskStatus::InProgress).then_some(NOW.plus_ms(600_000));
    Task {
        retry_at: told.then_some(NOW),
        retries: i64::from(told),
        working: false,
        timeout_at,
        ..task(status)
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

/// Fails to compile when `Event` grows: then `events` below needs a row for the new one.
fn is_listed(event: &Event<'_>) -> bool {
    match event {
        Event::Confirm
        | Event::Slot(_)
        | Event::SlotLost
        | Event::Hold(_)
        | Event::Turn
        | Event::Push
        | Event::Pull
        | Event::Progress { .. }
        | Event::Failure { .. }
        | Event::Version(_)
        | Event::Timeout
        | Event::RetryDue
        | Event::Cancel(_)
        | Event::Overwritten
        | Event::Reupgrade(_) => events().iter().any(|(_, listed)| listed.name() == event.name()),
    }
}

fn events() -> Vec<(&'static str, Event<'static>)> {
    let all = Cancel { confirm: true, queued: true, notified: true, in_progress: true };
    vec![
        ("confirm", Event::Confirm),
        ("slot", Event::Slot(Timestamp(1_000_500))),
        ("slot lost", Event::SlotLost),
        ("hold", Event::Hold(Timestamp(1_000_700))),
        ("turn", Event::Turn),
        ("push", Event::Push),
        ("pull", Event::Pull),
        ("progress 10 (as before)", Event::Progress { percent: 10, desc: "" }),
        ("progress 50", Event::Progress { percent: 50, desc: "half" }),
        ("failure -2", Event::Failure { step: FailedStep::Download, desc: "no route" }),
        ("version = target", Event::Version("2.0")),
        ("version = source", Event::Version("1.0")),
        ("version = other", Event::Version("9.9")),
        ("timeout", Event::Timeout),
        ("retry due", Event::RetryDue),
        ("cancel all", Event::Cancel(all)),
        ("cancel none", Event::Cancel(Cancel::default())),
        ("overwritten", Event::Overwritten),
        ("reupgrade from source", Event::Reupgrade(Some("1.0"))),
        ("reupgrade from target", Event::Reupgrade(Some("2.0"))),
        ("reupgrade from other", Event::Reupgrade(Some("9.9"))),
    ]
}

fn table(terms: &Terms<'_>) -> String {
    table_of(task, terms)
}

fn table_of(make: fn(TaskStatus) -> Task, terms: &Terms<'_>) -> String {
    let mut out = String::new();
    for status in TaskStatus::ALL {
        for (name, event) in events() {
            assert!(is_listed(&event));
            let before = make(status);
            let outcome = match step(&before, terms, &event, NOW) {
                Ok(Step::Same) => "same".to_owned(),
                Err(refused) => format!("refused: {}", refused.why),
                Ok(Step::Next(after)) => change(&before, &after, &event),
            };
            let _ = writeln!(out, "{:<12} {name:<24} {outcome}", status.name());
        }
    }
    out
}

fn change(before: &Task, after: &Task, event: &Event<'_>) -> String {
    assert_eq!(after.revision, before.revision + 1, "every change counts");
    assert_eq!(after.modified_at, NOW);
    let reopened = matches!(event, Event::Reupgrade(_)) && after.status == TaskStatus::Queued;
    assert!(before.status.is_open() || reopened, "a final state is left by a reupgrade only");
    assert!(after.slot_at.is_none() || after.status == TaskStatus::Queued && after.hold_until.is_none());
    assert!(after.hold_until.is_none() || after.status.is_open() && after.retry_at.is_none());
    assert!(after.timeout_at.is_none() || after.status == TaskStatus::InProgress);
    assert!(
        after.retry_at.is_none() || matches!(after.status, TaskStatus::Notified | TaskStatus::InProgress)
    );
    let mut text = format!("-> {}", after.status.name());
    let times = [
        ("slot", before.slot_at, after.slot_at),
        ("retry", before.retry_at, after.retry_at),
        ("timeout", before.timeout_at, after.timeout_at),
        ("hold", before.hold_until, after.hold_until),
        ("told", before.told_at, after.told_at),
    ];
    for (name, _, at) in times.into_iter().filter(|(_, before, after)| before != after) {
        let at = at.map_or("none".to_owned(), |at| format!("+{}ms", at.since_ms(NOW)));
        let _ = write!(text, " {name}={at}");
    }
    if after.progress != before.progress {
        let _ = write!(text, " progress={}", after.progress);
    }
    if after.retries != before.retries {
        let _ = write!(text, " retries={}", after.retries);
    }
    if after.desc != before.desc {
        let _ = write!(text, " desc={:?}", after.desc);
    }
    if after.src_version != before.src_version {
        let _ = write!(text, " source={:?}", after.src_version.as_deref().unwrap_or_default());
    }
    text
}

#[test]
fn every_state_and_event_has_the_recorded_outcome() {
    let push = PUSHED;
    let sources = ["1.0".to_owned(), "1.1".to_owned()];
    let retry = Some(Retry { interval_ms: 60_000, count: 2 });
    let mut actual = String::from("# pushed batch, 5 minutes time-out\n");
    actual += &table(&push);
    actual += "\n# the same with NeedPush=false: only what differs\n";
    actual += &difference(&table(&push), &table(&Terms { need_push: false, ..push }));
    actual += "\n# the same before its start: only what differs\n";
    actual += &difference(&table(&push), &table(&Terms { started: false, ..push }));
    actual += "\n# the same without time-out: only what differs\n";
    actual += &difference(&table(&push), &table(&Terms { timeout_ms: None, ..push }));
    actual += "\n# the same from the source versions 1.0 and 1.1: only what differs\n";
    actual += &difference(&table(&push), &table(&Terms { src_versions: &sources, ..push }));
    actual += "\n# the same after its finish time: only what differs\n";
    let finish_at = Some(NOW.plus_ms(-1_000));
    actual += &difference(&table(&push), &table(&Terms { finish_at, ..push }));
    actual += "\n# the same with two retries after a minute: only what differs\n";
    actual += &difference(&table(&push), &table(&Terms { retry, ..push }));
    actual += "\n# with retries, of tasks that wait for their second attempt, whose time has come: only what differs\n";
    actual += &difference(&table(&push), &table_of(waiting, &Terms { retry, ..push }));

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
