//! Explanations: each state of a task and each reason to have none, and that they agree with what decides.

use proptest::prelude::*;
use updraft_core::device::DeviceStatus;
use updraft_core::dynamic::{Earlier, Policy, Reported};
use updraft_core::explain::{
    EndedTask, Explanation, Foreseen, Holds, Making, Newcomer, OpenTask, Rule, Seen, Verdict, Wait, ended,
    newcomer, open, since,
};
use updraft_core::history::{Line, What};
use updraft_core::id::{DeviceNo, JobNo, TaskNo};
use updraft_core::job::{Conduct, DynamicMode, JobStatus, TargetSelection};
use updraft_core::target::{Demand, Standing};
use updraft_core::task::{
    Cancel, Condition, Event, Obstacle, Step, Task, TaskStatus, Terms, Way, obstacle, step,
};
use updraft_core::time::Timestamp;

const NOW: Timestamp = Timestamp(1_000_000);
const BORN: Timestamp = Timestamp(900_000);
const TURN_MS: i64 = 60_000;

fn in_ms(ms: i64) -> Timestamp {
    NOW.plus_ms(ms)
}

fn task(status: TaskStatus) -> Task {
    let no = TaskNo { job: JobNo(5), ordinal: 1 };
    Task::new(no, DeviceNo(7), status, Some("1.0".to_owned()), BORN)
}

const TERMS: Terms<'static> = Terms {
    dest_version: "2.0",
    src_versions: &[],
    differential: false,
    need_push: true,
    need_confirm: false,
    timeout_ms: None,
    retry: None,
    planned_at: None,
    finish_at: None,
    finish_grace_ms: 0,
    started: true,
};

const RUNS: Condition = Condition {
    status: JobStatus::InProgress,
    dynamic: false,
    package_deleted: false,
    cancel: Cancel { confirm: false, queued: false, notified: false, in_progress: false },
};

fn seen(status: DeviceStatus, listening: Option<bool>) -> Seen<'static> {
    let reported = Some(Reported { version: "1.0", at: BORN });
    Seen { status, status_at: in_ms(-5_000), created_at: BORN, deleted_at: None, listening, reported }
}

fn listens() -> Seen<'static> {
    seen(DeviceStatus::Online, Some(true))
}

/// Explains as the server does: what the batch is going through decides whether it tells devices.
fn of(
    task: &Task,
    terms: &Terms<'_>,
    condition: Condition,
    others: &[Task],
    device: &Seen<'_>,
) -> Explanation {
    let terms = Terms { started: condition.hindrance(task.status).is_none(), ..*terms };
    let all: Vec<Task> = others.iter().chain([task]).cloned().collect();
    let start = terms.planned_at;
    let of = OpenTask {
        task,
        terms: &terms,
        condition,
        start,
        all: &all,
        turn_ms: TURN_MS,
        slot_is_void: false,
        last: None,
        device,
    };
    open(&of, |no| no.to_string(), NOW)
}

fn plain(task: &Task, device: &Seen<'_>) -> Explanation {
    of(task, &TERMS, RUNS, &[], device)
}

/// What is waited for since when, and what comes next when, in milliseconds from now.
fn shape(explanation: &Explanation) -> (Option<(Wait, i64)>, Foreseen, Option<i64>) {
    let ms = |at: Timestamp| at.since_ms(NOW);
    let waiting = explanation.waiting.map(|waiting| (waiting.wait, ms(waiting.since)));
    (waiting, explanation.next.what, explanation.next.at.map(ms))
}

fn holds(explanation: &Explanation, name: &str) -> Holds {
    explanation.check(name).unwrap_or_else(|| panic!("no {name} in {explanation:?}")).holds
}

const BORN_MS: i64 = -100_000;

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
    assert_eq!(holds(&explanation, "SLOT"), Holds::No);
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

#[test]
fn an_end_is_told_with_its_cause_and_whether_it_can_be_undone() {
    let line = |to, what| Line {
        task: TaskNo { job: JobNo(5), ordinal: 1 },
        revision: 2,
        at: in_ms(-9),
        what,
        from: TaskStatus::Queued,
        to,
        detail: String::new(),
    };
    let explain = |task: &Task, last: Option<&Line>, device: &Seen<'_>| {
        ended(&EndedTask { task, terms: &TERMS, last, device }, NOW)
    };
    let failed = Task { desc: "timeout".to_owned(), ..task(TaskStatus::Failed) };
    let told = explain(&failed, Some(&line(TaskStatus::Failed, What::TimedOut)), &listens());
    let said = told.sentence(|at| at.since_ms(NOW).to_string());
    assert_eq!(said, "The update failed at -9, by the clock: timeout.");
    assert_eq!((told.verdict, holds(&told, "REUPGRADE")), (Verdict::Ended, Holds::Yes));
    assert_eq!((told.waiting, told.next.what), (None, Foreseen::Nothing));
    let canceled = task(TaskStatus::Canceled);
    let told = explain(&canceled, Some(&line(TaskStatus::Canceled, What::Replaced)), &listens());
    assert!(told.sentence(|_| String::new()).contains("by a newer batch"));
    let runs_it = Seen { reported: Some(Reported { version: "2.0", at: NOW }), ..listens() };
    let told = explain(&failed, None, &runs_it);
    assert_eq!(holds(&told, "REUPGRADE"), Holds::No);
    assert!(told.check("REUPGRADE").unwrap().text(|_| String::new()).contains("runs the batch's version"));
    let told = explain(&task(TaskStatus::Succeeded), None, &runs_it);
    assert_eq!((told.verdict, told.check("REUPGRADE")), (Verdict::Updated, None));
}

/// A device without a task of a static batch for all devices, whose tasks are made.
fn stranger<'a>(device: &'a Seen<'a>, src_versions: &'a [String]) -> Newcomer<'a> {
    let demand = Demand {
        job: JobNo(5),
        src_versions,
        dest_version: "2.0",
        module: "default",
        conduct: Conduct::default(),
        unwanted: false,
    };
    Newcomer {
        no: DeviceNo(7),
        device,
        product_key: "a1",
        wanted_product_key: "a1",
        made_at: BORN,
        condition: RUNS,
        demand,
        selection: TargetSelection::All,
        making: Making { selecting: false, done: true, after: DeviceNo(9), upto: DeviceNo(9) },
        chosen: None,
        is_member: false,
        standing: &[],
        rule: None,
    }
}

fn told(of: &Newcomer<'_>) -> Explanation {
    newcomer(of, |no| no.to_string())
}

/// The verdict, and the first predicate that does not hold.
fn first(explanation: &Explanation) -> (Verdict, &str) {
    let no = explanation.checks.iter().find(|check| check.holds == Holds::No);
    (explanation.verdict, no.map_or("", |check| check.name))
}

#[test]
fn a_static_batch_says_why_it_has_no_task_for_a_device() {
    let sources = ["0.9".to_owned()];
    let device = listens();
    let base = stranger(&device, &[]);
    let product = told(&Newcomer { wanted_product_key: "b2", ..base });
    assert_eq!(first(&product), (Verdict::LeftOut, "PRODUCT"));
    let late = told(&Newcomer { no: DeviceNo(10), ..base });
    assert_eq!(first(&late), (Verdict::LeftOut, "REGISTERED"));
    let group = Newcomer { selection: TargetSelection::Group, ..base };
    assert_eq!(first(&told(&group)), (Verdict::LeftOut, "SELECTION"));
    assert_eq!(first(&told(&Newcomer { is_member: true, ..group })), (Verdict::LeftOut, ""));
    let source = told(&stranger(&device, &sources));
    assert_eq!(first(&source), (Verdict::LeftOut, "SOURCE_VERSION"));
    let said = source.sentence(|_| "T".to_owned());
    assert!(said.contains("As of now") && said.contains("version 1.0"), "{said}");
    let silent = Seen { reported: None, ..device };
    assert_eq!(first(&told(&stranger(&silent, &sources))), (Verdict::LeftOut, "SOURCE_VERSION"));
    let done = Seen { reported: Some(Reported { version: "2.0", at: NOW }), ..device };
    assert_eq!(first(&told(&stranger(&done, &[]))), (Verdict::LeftOut, "DEST_VERSION"));
    let gone = Seen { deleted_at: Some(NOW), ..device };
    assert_eq!(first(&told(&stranger(&gone, &[]))), (Verdict::LeftOut, "DEVICE"));
    let deleted = Condition { package_deleted: true, ..RUNS };
    assert_eq!(first(&told(&Newcomer { condition: deleted, ..base })), (Verdict::LeftOut, "PACKAGE"));
    let named = told(&Newcomer { selection: TargetSelection::Specific, ..base });
    assert_eq!((first(&named), holds(&named, "SELECTION")), ((Verdict::LeftOut, ""), Holds::NotAsked));
    assert!(told(&base).sentence(|_| String::new()).contains("would fit"), "honest about what is not known");
}

#[test]
fn a_batch_whose_tasks_are_being_made_says_what_is_to_come() {
    let device = listens();
    let other = TaskNo { job: JobNo(6), ordinal: 3 };
    let busy = [(other, Standing { job: other.job, module: "default", status: TaskStatus::InProgress })];
    let making = Making { selecting: false, done: false, after: DeviceNo(6), upto: DeviceNo(9) };
    let ahead = Newcomer { making, ..stranger(&device, &[]) };
    let comes = told(&ahead);
    assert_eq!(shape(&comes), (Some((Wait::Making, BORN_MS)), Foreseen::Decision, None));
    assert!(comes.sentence(|_| String::new()).contains("it gets one"));
    let comes = told(&Newcomer { standing: &busy, ..ahead });
    assert!(comes.sentence(|_| String::new()).contains("fails at once"));
    assert_eq!(first(&comes), (Verdict::ToCome, "BUSY"));
    let passed = Making { after: DeviceNo(7), ..making };
    assert_eq!(told(&Newcomer { making: passed, ..ahead }).verdict, Verdict::LeftOut);
    let gray = Newcomer { selection: TargetSelection::Gray, ..ahead };
    let choosing = Newcomer { making: Making { selecting: true, ..making }, ..gray };
    assert_eq!(shape(&told(&choosing)).0, Some((Wait::Choice, BORN_MS)));
    assert_eq!(first(&told(&Newcomer { chosen: Some(false), ..gray })), (Verdict::LeftOut, "SELECTION"));
    assert_eq!(first(&told(&Newcomer { chosen: Some(true), ..gray })), (Verdict::ToCome, ""));
}

/// A device without an open task of a dynamic batch that stands.
fn ruled<'a>(device: &'a Seen<'a>, mode: DynamicMode, earlier: &'a [Earlier]) -> Newcomer<'a> {
    let base = stranger(device, &[]);
    let conduct = Conduct { dynamic: Some(mode), ..Conduct::default() };
    let policy =
        Policy { job: JobNo(5), conduct, since: BORN.plus_ms(1), src_versions: &[], dest_version: "2.0" };
    let rule = Rule {
        policy,
        stands: true,
        follows: Some("five"),
        is_followed: true,
        may_upgrade: true,
        earlier,
        is_noted: false,
    };
    Newcomer { demand: Demand { conduct, ..base.demand }, rule: Some(rule), ..base }
}

#[test]
fn a_dynamic_batch_says_why_it_does_not_take_a_device_in() {
    use DynamicMode::{Later, NowAndLater};
    let device = listens();
    let with = |change: &dyn Fn(&mut Rule<'_>)| {
        let mut of = ruled(&device, NowAndLater, &[]);
        change(of.rule.as_mut().unwrap());
        told(&of)
    };
    let noted = with(&|rule| rule.is_noted = true);
    assert_eq!(shape(&noted), (Some((Wait::Round, BORN_MS)), Foreseen::Decision, None));
    assert_eq!(first(&with(&|rule| rule.stands = false)), (Verdict::LeftOut, "RULE"));
    let other = with(&|rule| {
        rule.is_followed = false;
        rule.follows = Some("six");
    });
    assert_eq!(first(&other), (Verdict::LeftOut, "NEWEST"));
    assert!(other.sentence(|_| String::new()).contains("six"));
    let unready = with(&|rule| rule.may_upgrade = false);
    assert_eq!(shape(&unready).0, Some((Wait::Verification, BORN_MS)));
    let later = told(&ruled(&device, Later, &[]));
    assert_eq!((first(&later).1, shape(&later).0), ("REPORT", Some((Wait::Report, BORN_MS))));

    let had = |status, count| vec![Earlier { status, changed_at: in_ms(-50) }; count];
    let once = had(TaskStatus::Failed, 1);
    let again = told(&ruled(&device, NowAndLater, &once));
    assert_eq!(shape(&again).0, Some((Wait::Report, -50)), "it has reported nothing since");
    let canceled = had(TaskStatus::Canceled, 1);
    assert_eq!(first(&told(&ruled(&device, NowAndLater, &canceled))), (Verdict::LeftOut, "AGAIN"));
    let fresh = Seen { reported: Some(Reported { version: "1.0", at: NOW }), ..device };
    let ten = had(TaskStatus::Failed, 10);
    let often = told(&ruled(&fresh, NowAndLater, &ten));
    assert_eq!(first(&often), (Verdict::LeftOut, "AGAIN"));
    assert!(often.sentence(|_| String::new()).contains("10 tasks"));
    let other = TaskNo { job: JobNo(4), ordinal: 3 };
    let standing = [(other, Standing { job: other.job, module: "radio", status: TaskStatus::Queued })];
    let busy = told(&Newcomer { standing: &standing, ..ruled(&device, NowAndLater, &[]) });
    assert_eq!((first(&busy).1, shape(&busy).0), ("BUSY", Some((Wait::Free, BORN_MS))));
}

fn moment(range: std::ops::Range<i64>) -> impl Strategy<Value = Option<Timestamp>> {
    prop::option::of(range.prop_map(in_ms))
}

prop_compose! {
    /// Any open task, with the deadlines that its state may have.
    fn any_open()(
        at in 0_usize..4, slot in moment(1..900), hold in moment(1..900), retry in moment(1..900),
        timeout in moment(1..900), working in any::<bool>(), told in -900_i64..0,
    ) -> Task {
        let status = TaskStatus::ALL[at];
        let base = task(status);
        match status {
            TaskStatus::Confirm => base,
            TaskStatus::Queued => {
                Task { slot_at: slot, hold_until: hold.filter(|_| slot.is_none()), ..base }
            }
            TaskStatus::Notified => {
                Task { retry_at: retry, hold_until: hold.filter(|_| retry.is_none()), told_at: Some(in_ms(told)), ..base }
            }
            _ => Task {
                retry_at: retry,
                timeout_at: timeout,
                working: working && retry.is_none(),
                told_at: Some(in_ms(told)),
                ..base
            },
        }
    }
}

prop_compose! {
    fn any_condition()(
        planned in any::<bool>(), dynamic in any::<bool>(), package_deleted in any::<bool>(), mask in 0_u8..16,
        calm in any::<bool>(),
    ) -> Condition {
        let of = |bit: u8| !calm && mask & bit != 0;
        let cancel = Cancel { confirm: of(1), queued: of(2), notified: of(4), in_progress: of(8) };
        let status = if planned && !dynamic { JobStatus::Planned } else { JobStatus::InProgress };
        Condition { status, dynamic, package_deleted: package_deleted && !calm, cancel }
    }
}

proptest! {
    // States that are rare among all that can be drawn, and cheap to look at.
    #![proptest_config(ProptestConfig::with_cases(4_096))]

    /// What is foretold is what the table of events does then.
    #[test]
    fn an_explanation_keeps_its_word(
        task in any_open(), condition in any_condition(), need_push in any::<bool>(),
        finish in moment(-500..2_000), hears in any::<bool>(),
    ) {
        let planned = condition.status == JobStatus::Planned;
        let terms = Terms {
            need_push,
            need_confirm: task.status == TaskStatus::Confirm,
            finish_at: finish,
            planned_at: planned.then(|| in_ms(10)),
            started: condition.hindrance(task.status).is_none(),
            ..TERMS
        };
        let device = seen(if hears { DeviceStatus::Online } else { DeviceStatus::Offline }, Some(hears));
        let told = of(&task, &terms, condition, &[], &device);
        prop_assert!(told.waiting.is_some(), "an open task waits for something");
        let at = told.next.at.unwrap_or(NOW);
        let after = |event| match step(&task, &terms, &event, at) {
            Ok(Step::Next(after)) => Some(after),
            _ => None,
        };
        match told.next.what {
            Foreseen::Push => {
                prop_assert!(hears);
                prop_assert_eq!(after(Event::Push).map(|task| task.status), Some(TaskStatus::Notified));
            }
            Foreseen::Retry => prop_assert_eq!(after(Event::RetryDue).map(|task| task.retry_at), Some(None)),
            Foreseen::TimeOut => {
                prop_assert_eq!(after(Event::Timeout).map(|task| task.status), Some(TaskStatus::Failed));
            }
            Foreseen::Cancel => prop_assert!(
                condition.cancel.reaches(task.status)
                    || condition.package_deleted
                    || finish.is_some_and(|finish| finish <= at)
            ),
            Foreseen::Start => prop_assert!(planned),
            Foreseen::Look | Foreseen::Decision => {}
            Foreseen::Nothing => {
                // What is due only finds that the device is away, or ends its wait for a turn.
                let due = task.due_at().is_some() && hears && task.hold_until.is_none();
                prop_assert!(!due || !need_push, "{:?}", told);
                prop_assert!(!planned && !condition.package_deleted && !condition.cancel.reaches(task.status));
            }
        }
        // Whether it may be told now is answered as the door answers.
        let decisive = ["BATCH", "SCHEDULE", "CONFIRMATION", "NEED_PUSH", "RETRY"];
        let no = told.checks.iter().any(|check| decisive.contains(&check.name) && check.holds == Holds::No);
        match obstacle(&task, &terms, Way::Push, NOW) {
            None => {
                // A task that was told is told again whatever the batch asks for now.
                let told_before = task.status != TaskStatus::Queued;
                prop_assert!(!no || told_before, "{:?}", told);
            }
            Some(Obstacle::Ended) => prop_assert!(false, "it is open"),
            Some(obstacle) => prop_assert!(no, "{:?} but {:?}", obstacle, told),
        }
    }
}

#[test]
fn what_is_said_of_the_next_task_adds_what_was_not_said_and_says_what_is_waited_for_now() {
    let device = listens();
    let next = told(&stranger(&device, &[]));
    let ended = of(&task(TaskStatus::Failed), &TERMS, RUNS, &[], &device);
    let (before, summary) = (ended.checks.len(), ended.summary.clone());
    assert_eq!(holds(&next, "CONNECTION"), Holds::NotAsked, "that is asked once there is a task");
    let known: Vec<&str> = ended.checks.iter().map(|check| check.name).collect();
    let new = next.checks.iter().filter(|check| !known.contains(&check.name)).count();
    assert!(new > 0 && new < next.checks.len(), "{known:?}");
    let both = ended.then(next.clone());
    assert_eq!(both.checks.len(), before + new);
    assert_eq!((both.waiting, both.next), (next.waiting, next.next));
    assert_eq!(both.summary, summary.and(". The next one: ").join(next.summary));
}
