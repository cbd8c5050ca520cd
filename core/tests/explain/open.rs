//! What open tasks wait for, and since when.

use super::{BORN, BORN_MS, NOW, RUNS, TERMS, TURN_MS, holds, in_ms, listens, of, plain, seen, shape, task};
use updraft_core::device::DeviceStatus;
use updraft_core::explain::{Foreseen, Holds, OpenTask, Seen, Verdict, Wait, open, since};
use updraft_core::history::{Line, What};
use updraft_core::id::{JobNo, TaskNo};
use updraft_core::job::JobStatus;
use updraft_core::pace::SLOT_GRACE_MS;
use updraft_core::task::{Cancel, Condition, Task, TaskStatus, Terms};

#[test]
fn a_queued_task_waits_for_the_device_then_for_its_slot() {
    use DeviceStatus::{Offline, Online, Unactive};
    let queued = task(TaskStatus::Queued);
    let slotted = Task { slot_at: Some(in_ms(30)), ..queued.clone() };
    let away = plain(&queued, &seen(Offline, Some(false)));
    assert_eq!(shape(&away), (Some((Wait::Connection, -5_000)), Foreseen::Nothing, None));
    assert_eq!((away.verdict, holds(&away, "CONNECTION")), (Verdict::Waiting, Holds::No));
    // It had a slot when it went away.
    assert_eq!(shape(&plain(&slotted, &seen(Offline, None))).0, Some((Wait::Connection, -5_000)));
    assert_eq!(shape(&plain(&queued, &seen(Unactive, None))).0.unwrap().0, Wait::Connection);
    // Connected, but it did not subscribe: only the running server knows.
    let deaf = plain(&queued, &seen(Online, Some(false)));
    assert_eq!(shape(&deaf).0.unwrap().0, Wait::Connection);
    assert!(deaf.check("CONNECTION").unwrap().seen.render(|_| String::new()).contains("neither subscribed"));
    assert_eq!(shape(&plain(&queued, &seen(Online, None))).0.unwrap().0, Wait::Connection);
    for knows in [Some(true), None] {
        let waits = plain(&slotted, &seen(Online, knows));
        assert_eq!(shape(&waits), (Some((Wait::Slot, BORN_MS)), Foreseen::Push, Some(30)));
    }
    assert_eq!(shape(&plain(&queued, &listens())), (Some((Wait::Round, BORN_MS)), Foreseen::Look, None));
    // The server was down when its slot came.
    let missed = Task { slot_at: Some(in_ms(-60_000)), ..queued };
    assert_eq!(shape(&plain(&missed, &listens())), (Some((Wait::Slot, BORN_MS)), Foreseen::Look, None));
}

#[test]
fn the_end_of_the_batchs_time_is_foretold_if_it_comes_first() {
    let slotted = Task { slot_at: Some(in_ms(30)), ..task(TaskStatus::Queued) };
    for (finish, next) in [(29, Foreseen::Cancel), (30, Foreseen::Cancel), (31, Foreseen::Push)] {
        let terms = Terms { finish_at: Some(in_ms(finish)), ..TERMS };
        let waits = of(&slotted, &terms, RUNS, &[], &listens());
        assert_eq!((shape(&waits).1, shape(&waits).2), (next, Some(finish.min(30))));
        assert_eq!(waits.ends_by, terms.finish_at);
    }
}

#[test]
fn a_slot_of_a_rate_that_was_changed_is_not_foretold() {
    let slotted = Task { slot_at: Some(in_ms(30)), ..task(TaskStatus::Queued) };
    let of = OpenTask {
        task: &slotted,
        terms: &TERMS,
        condition: RUNS,
        start: None,
        all: std::slice::from_ref(&slotted),
        turn_ms: TURN_MS,
        slot_is_void: true,
        last: None,
        device: &listens(),
    };
    let explanation = open(&of, |no| no.to_string(), NOW);
    assert_eq!(shape(&explanation), (Some((Wait::Slot, BORN_MS)), Foreseen::Look, None));
    let slot = explanation.check("SLOT").unwrap();
    assert_eq!(slot.holds, Holds::No);
    assert!(
        slot.text(|_| String::new()).contains("of a rate that was changed"),
        "not merely that it is too early"
    );
}

#[test]
fn a_slot_is_foretold_while_it_may_still_be_used() {
    for (slot, next) in [
        (0, (Foreseen::Push, Some(0))),
        (-SLOT_GRACE_MS, (Foreseen::Push, Some(-SLOT_GRACE_MS))),
        (-SLOT_GRACE_MS - 1, (Foreseen::Look, None)),
    ] {
        let slotted = Task { slot_at: Some(in_ms(slot)), ..task(TaskStatus::Queued) };
        let waits = plain(&slotted, &listens());
        assert_eq!((shape(&waits).1, shape(&waits).2), next, "{slot}");
        assert_eq!(holds(&waits, "SLOT"), Holds::from(next.0 == Foreseen::Push));
    }
}

#[test]
fn slots_concern_whoever_is_still_to_be_pushed() {
    let asked = Terms { need_push: false, ..TERMS };
    for (status, terms, expected) in [
        (TaskStatus::Queued, TERMS, true),
        (TaskStatus::Queued, asked, false),
        (TaskStatus::Notified, TERMS, false),
        (TaskStatus::InProgress, TERMS, false),
    ] {
        let waits = of(&task(status), &terms, RUNS, &[], &listens());
        assert_eq!(waits.check("SLOT").is_some(), expected, "{status:?}");
    }
}

#[test]
fn a_task_that_is_not_to_be_pushed_waits_for_the_device_to_ask() {
    let terms = Terms { need_push: false, finish_at: Some(in_ms(900)), ..TERMS };
    let asked = of(&task(TaskStatus::Queued), &terms, RUNS, &[], &listens());
    assert_eq!(shape(&asked), (Some((Wait::Question, BORN_MS)), Foreseen::Cancel, Some(900)));
    assert_eq!((holds(&asked, "NEED_PUSH"), asked.ends_by), (Holds::No, Some(in_ms(900))));
}

#[test]
fn a_task_waits_for_consent_once_the_batch_is_within_its_time() {
    let confirm = task(TaskStatus::Confirm);
    let terms = Terms { need_confirm: true, ..TERMS };
    let waits = of(&confirm, &terms, RUNS, &[], &listens());
    assert_eq!(shape(&waits), (Some((Wait::Consent, BORN_MS)), Foreseen::Nothing, None));
    assert_eq!((holds(&waits, "CONFIRMATION"), waits.ends_by), (Holds::No, None));
    let planned = Condition { status: JobStatus::Planned, ..RUNS };
    let terms = Terms { planned_at: Some(in_ms(50)), ..terms };
    let waits = of(&confirm, &terms, planned, &[], &listens());
    assert_eq!(shape(&waits), (Some((Wait::Start, BORN_MS)), Foreseen::Start, Some(50)));
    let over = Terms { finish_at: Some(in_ms(-1)), need_confirm: true, ..TERMS };
    assert_eq!(shape(&of(&confirm, &over, RUNS, &[], &listens())).0.unwrap().0, Wait::Cancellation);
}

#[test]
fn a_planned_batch_is_waited_for_whoever_listens() {
    let planned = Condition { status: JobStatus::Planned, ..RUNS };
    let terms = Terms { planned_at: Some(in_ms(50)), ..TERMS };
    let slotted = Task { slot_at: Some(in_ms(60)), ..task(TaskStatus::Queued) };
    for device in [listens(), seen(DeviceStatus::Offline, Some(false))] {
        let waits = of(&slotted, &terms, planned, &[], &device);
        assert_eq!(shape(&waits), (Some((Wait::Start, BORN_MS)), Foreseen::Start, Some(50)));
        assert_eq!(holds(&waits, "BATCH"), Holds::No);
    }
}

#[test]
fn a_cancellation_is_waited_for_by_those_that_it_reaches_and_by_those_that_it_holds_up() {
    let queued = task(TaskStatus::Queued);
    let reached = Condition { cancel: Cancel::UNBEGUN, ..RUNS };
    let waits = of(&queued, &TERMS, reached, &[], &listens());
    assert_eq!(shape(&waits), (Some((Wait::Cancellation, BORN_MS)), Foreseen::Cancel, None));
    let others = Condition { cancel: Cancel { notified: true, ..Cancel::default() }, ..RUNS };
    let waits = of(&queued, &TERMS, others, &[], &listens());
    assert_eq!(shape(&waits), (Some((Wait::OthersCancellation, BORN_MS)), Foreseen::Look, None));
    let deleted = Condition { package_deleted: true, ..RUNS };
    let waits = of(&queued, &TERMS, deleted, &[], &listens());
    assert_eq!((shape(&waits).0.unwrap().0, holds(&waits, "PACKAGE")), (Wait::Cancellation, Holds::No));
    let over = Terms { finish_at: Some(NOW), ..TERMS };
    let waits = of(&queued, &over, RUNS, &[], &listens());
    assert_eq!((shape(&waits).0.unwrap().0, holds(&waits, "SCHEDULE")), (Wait::Cancellation, Holds::No));
}

#[test]
fn a_task_waits_for_its_turn_and_says_whose_it_is() {
    let other = |status, working| Task {
        no: TaskNo { job: JobNo(4), ordinal: 2 },
        told_at: Some(in_ms(-10_000)),
        working,
        ..task(status)
    };
    let queued = Task { hold_until: Some(in_ms(50_000)), ..task(TaskStatus::Queued) };
    let waits = of(&queued, &TERMS, RUNS, &[other(TaskStatus::Notified, false)], &listens());
    assert_eq!(shape(&waits), (Some((Wait::Turn, BORN_MS)), Foreseen::Look, Some(50_000)));
    let turn = waits.check("TURN").unwrap();
    assert!(turn.text(|at| at.0.to_string()).contains("4/2, whose turn lasts until 1050000"), "{turn:?}");
    assert_eq!(turn.holds, Holds::No);
    let waits = of(&queued, &TERMS, RUNS, &[other(TaskStatus::InProgress, true)], &listens());
    assert!(waits.check("TURN").unwrap().seen.render(|_| String::new()).contains("works on"));
}

#[test]
fn a_task_of_which_the_device_was_told_waits_for_another_turn_while_that_can_come() {
    let other = |told_ms, working| Task {
        no: TaskNo { job: JobNo(4), ordinal: 2 },
        told_at: Some(in_ms(told_ms)),
        working,
        ..task(if working { TaskStatus::InProgress } else { TaskStatus::Notified })
    };
    let told = Task { told_at: Some(in_ms(-20_000)), ..task(TaskStatus::Notified) };
    let held = Task { hold_until: Some(in_ms(50_000)), ..told.clone() };
    let works = Task { status: TaskStatus::InProgress, working: true, ..held.clone() };
    let away = seen(DeviceStatus::Offline, Some(false));
    let turn = (Some((Wait::Turn, -20_000)), Foreseen::Look, Some(50_000));
    let of = |task: &Task, others: &[Task], device: &Seen<'_>| shape(&of(task, &TERMS, RUNS, others, device));
    let newer = [other(-10_000, false)];
    assert_eq!(of(&held, &newer, &listens()), turn);
    assert_eq!(of(&works, &[other(-10_000, true)], &listens()), turn);
    // Who is away is given no turn, nor is one waited for that no other task has.
    let answer = (Some((Wait::Answer, -20_000)), Foreseen::Nothing, None);
    assert_eq!(of(&held, &newer, &away), answer);
    assert_eq!(of(&held, &[], &listens()), answer);
    assert_eq!(of(&told, &newer, &listens()), answer);
    let version = (Some((Wait::Version, -20_000)), Foreseen::Nothing, None);
    assert_eq!(of(&works, &[other(-10_000, true)], &away), version);
}

#[test]
fn the_end_of_a_wait_for_a_turn_is_foretold_whether_or_not_the_device_listens() {
    // The other task has ended, and who explains is not the running server.
    let queued = Task { hold_until: Some(in_ms(50_000)), ..task(TaskStatus::Queued) };
    for listening in [Some(true), None] {
        let waits = plain(&queued, &seen(DeviceStatus::Online, listening));
        assert_eq!(shape(&waits), (Some((Wait::Round, BORN_MS)), Foreseen::Look, Some(50_000)));
    }
}

#[test]
fn whoever_has_begun_may_go_on_after_the_batchs_time_until_its_own_is_over() {
    let works = |timeout| Task {
        told_at: Some(in_ms(-700)),
        working: true,
        timeout_at: Some(in_ms(timeout)),
        ..task(TaskStatus::InProgress)
    };
    for finish in [-1, 300] {
        let terms = Terms { finish_at: Some(in_ms(finish)), ..TERMS };
        let waits = of(&works(800), &terms, RUNS, &[], &listens());
        assert_eq!(shape(&waits), (Some((Wait::Version, -700)), Foreseen::TimeOut, Some(800)));
        assert_eq!(waits.ends_by, Some(in_ms(800)));
        let schedule = waits.check("SCHEDULE").unwrap();
        assert_eq!(schedule.holds, Holds::Yes);
        assert!(schedule.text(|_| String::new()).contains("ends nothing that has begun"), "{schedule:?}");
    }
    for (timeout, left) in [(1, Holds::Yes), (0, Holds::No), (-1, Holds::No)] {
        assert_eq!(holds(&plain(&works(timeout), &listens()), "TIMEOUT"), left, "{timeout}");
    }
    // Who has not begun reads when that is too late.
    let terms = Terms { finish_at: Some(in_ms(300)), ..TERMS };
    let waits = of(&task(TaskStatus::Notified), &terms, RUNS, &[], &listens());
    let schedule = waits.check("SCHEDULE").unwrap().text(|at| at.since_ms(NOW).to_string());
    assert_eq!(schedule, "The batch tells devices until 300.");
}

#[test]
fn failed_attempts_are_told_after_the_next_one_has_begun() {
    let works = Task { working: true, ..task(TaskStatus::InProgress) };
    assert_eq!(plain(&works, &listens()).check("RETRY"), None, "none has failed");
    let again = plain(&Task { retries: 2, ..works }, &listens());
    let retry = again.check("RETRY").unwrap();
    assert_eq!(
        (retry.holds, retry.text(|_| String::new())),
        (Holds::Yes, "2 of the attempts failed.".to_owned())
    );
}

#[test]
fn a_device_that_was_told_owes_a_word_and_then_the_version() {
    let told = Task { told_at: Some(in_ms(-700)), ..task(TaskStatus::Notified) };
    let waits = plain(&told, &seen(DeviceStatus::Offline, Some(false)));
    assert_eq!(shape(&waits), (Some((Wait::Answer, -700)), Foreseen::Nothing, None));
    assert_eq!(waits.verdict, Verdict::UnderWay);
    let works = Task { working: true, progress: 40, timeout_at: Some(in_ms(800)), ..told.clone() };
    let works = Task { status: TaskStatus::InProgress, ..works };
    let waits = plain(&works, &listens());
    assert_eq!(shape(&waits), (Some((Wait::Version, -700)), Foreseen::TimeOut, Some(800)));
    assert_eq!(waits.ends_by, Some(in_ms(800)));
    assert!(waits.sentence(|_| String::new()).contains("40 %"));
    let for_ever = Task { timeout_at: None, ..works.clone() };
    let waits = plain(&for_ever, &listens());
    assert_eq!((shape(&waits).1, waits.ends_by), (Foreseen::Nothing, None));
    assert!(waits.check("TIMEOUT").unwrap().text(|_| String::new()).contains("for ever"));
    let again = Task { retry_at: Some(in_ms(300)), retries: 1, desc: "crc".to_owned(), ..works };
    let waits = plain(&again, &listens());
    assert_eq!(shape(&waits), (Some((Wait::Retry, -700)), Foreseen::Retry, Some(300)));
    assert!(waits.check("RETRY").unwrap().text(|_| String::new()).contains("crc"));
}

#[test]
fn a_sentence_begins_with_how_far_the_device_has_come() {
    for (status, begins) in [
        (TaskStatus::Confirm, "The device has not been told of the package; the task waits since "),
        (TaskStatus::Queued, "The device has not been told of the package; the task waits since "),
        (TaskStatus::Notified, "The device was told of the package; the task waits since "),
        (TaskStatus::InProgress, "The device reported 0 %; the task waits since "),
    ] {
        let said = plain(&task(status), &listens()).sentence(|_| String::new());
        assert!(said.starts_with(begins), "{said}");
    }
}

#[test]
fn since_when_is_told_by_the_history_or_by_the_task_itself() {
    let line = |to, ms| Line {
        task: TaskNo { job: JobNo(5), ordinal: 1 },
        revision: 2,
        at: in_ms(ms),
        what: What::Confirmed,
        from: TaskStatus::Confirm,
        to,
        detail: String::new(),
    };
    let queued = task(TaskStatus::Queued);
    assert_eq!(since(&queued, Some(&line(TaskStatus::Queued, -9))), in_ms(-9));
    assert_eq!(since(&queued, None), BORN);
    // Forgotten lines leave an older one of another state.
    let told = Task { told_at: Some(in_ms(-3)), ..task(TaskStatus::Notified) };
    assert_eq!(since(&told, Some(&line(TaskStatus::Queued, -9))), in_ms(-3));
}
