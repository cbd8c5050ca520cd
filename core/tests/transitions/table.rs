//! The table itself: every state with every event, for every kind of task and batch that makes a difference.

use super::{NOW, PUSHED, task};
use std::fmt::Write as _;
use std::sync::LazyLock;
use updraft_core::task::{
    Cancel, Event, FailedStep, PushNeed, Retry, Step, Task, TaskStatus, Terms, push_need, step,
};
use updraft_core::time::Timestamp;

/// One part of the table.
pub struct Section {
    /// What other sections and sentences call it.
    pub key: &'static str,
    title: &'static str,
    /// A task of the batch in each state.
    make: fn(TaskStatus) -> Task,
    terms: Terms<'static>,
    /// The section that it is compared with: only what differs is printed.
    base: Option<&'static str>,
}

static SOURCES: LazyLock<[String; 2]> = LazyLock::new(|| ["1.0".to_owned(), "1.1".to_owned()]);
static SOURCE: LazyLock<[String; 1]> = LazyLock::new(|| ["1.0".to_owned()]);

const TWICE: Terms<'static> = Terms { retry: Some(Retry { interval_ms: 60_000, count: 2 }), ..PUSHED };
const UNTIMED: Terms<'static> = Terms { timeout_ms: None, ..PUSHED };

fn told(status: TaskStatus) -> bool {
    matches!(status, TaskStatus::Notified | TaskStatus::InProgress)
}

/// Nothing is due: no slot is reserved, and the time-out is far.
fn calm(status: TaskStatus) -> Task {
    let timeout_at = (status == TaskStatus::InProgress).then_some(NOW.plus_ms(200_000));
    Task { slot_at: None, timeout_at, ..task(status) }
}

/// It waits for its turn.
fn held(status: TaskStatus) -> Task {
    let waits = status == TaskStatus::Queued || told(status);
    let told_at = told(status).then_some(Timestamp(0));
    Task { hold_until: waits.then_some(NOW.plus_ms(500)), told_at, ..calm(status) }
}

/// Its device was told in this very moment.
fn just_told(status: TaskStatus) -> Task {
    Task { told_at: told(status).then_some(NOW), ..calm(status) }
}

/// Its device has never told what it runs.
fn unknown(status: TaskStatus) -> Task {
    Task { src_version: None, ..calm(status) }
}

/// Nobody ever agreed.
fn unconfirmed(status: TaskStatus) -> Task {
    Task { confirmed: false, ..task(status) }
}

/// The time-out is as far as the next attempt would be.
fn hurried(status: TaskStatus) -> Task {
    let timeout_at = (status == TaskStatus::InProgress).then_some(NOW.plus_ms(60_000));
    Task { timeout_at, ..calm(status) }
}

/// All attempts that were asked for are used up.
fn spent(status: TaskStatus) -> Task {
    Task { retries: if told(status) { 2 } else { 0 }, ..calm(status) }
}

/// An attempt has failed, and the next one is to come.
fn waiting(status: TaskStatus) -> Task {
    Task { retry_at: told(status).then_some(NOW.plus_ms(1)), ..again(status) }
}

/// An attempt has failed, and the time of the next one has come.
fn due(status: TaskStatus) -> Task {
    Task { retry_at: told(status).then_some(NOW), ..again(status) }
}

/// The same, and the device has told meanwhile that it runs something else.
fn due_elsewhere(status: TaskStatus) -> Task {
    let version = if told(status) { "9.9" } else { "1.0" };
    Task { src_version: Some(version.to_owned()), ..due(status) }
}

/// The device was told of the second attempt and has not begun it.
fn again(status: TaskStatus) -> Task {
    Task { retries: i64::from(told(status)), working: false, ..calm(status) }
}

/// The device has begun the second attempt.
fn again_at_work(status: TaskStatus) -> Task {
    Task { working: status == TaskStatus::InProgress, ..again(status) }
}

/// The device says that the second attempt is all done.
fn again_done(status: TaskStatus) -> Task {
    Task { progress: 100, ..again_at_work(status) }
}

/// The device says that the first attempt is all done.
fn first_done(status: TaskStatus) -> Task {
    Task { progress: 100, ..calm(status) }
}

/// All sections, each after the one that it is compared with.
#[expect(clippy::too_many_lines, reason = "a table: one line of it each")]
pub fn sections() -> Vec<Section> {
    let section = |key, base, title, make: fn(TaskStatus) -> Task, terms| Section {
        key,
        title,
        make,
        terms,
        base: (base != key).then_some(base),
    };
    let sources = Terms { src_versions: &*SOURCES, ..PUSHED };
    let difference = Terms { src_versions: &*SOURCE, differential: true, ..PUSHED };
    let start = NOW.plus_ms(5_000);
    let planned = Terms { started: false, planned_at: Some(start), ..PUSHED };
    let finishing = |ms| Some(NOW.plus_ms(ms));
    let untimed = Terms { timeout_ms: None, ..PUSHED };
    vec![
        section(
            "pushed",
            "pushed",
            "a pushed batch with a time-out of 5 minutes; a slot and a time-out are due",
            task,
            PUSHED,
        ),
        section("pulled", "pushed", "with NeedPush=false", task, Terms { need_push: false, ..PUSHED }),
        section("planned", "pushed", "before its ScheduleTime", task, planned),
        section("untimed", "pushed", "without a time-out", task, UNTIMED),
        section(
            "finishing",
            "untimed",
            "without a time-out, a second before its ScheduleFinishTime",
            task,
            Terms { finish_at: finishing(1_000), ..untimed },
        ),
        section(
            "finished",
            "untimed",
            "without a time-out, a second after its ScheduleFinishTime",
            task,
            Terms { finish_at: finishing(-1_000), ..untimed },
        ),
        section(
            "consent",
            "pushed",
            "with NeedConfirm, and nobody ever agreed",
            unconfirmed,
            Terms { need_confirm: true, ..PUSHED },
        ),
        section("sources", "pushed", "from the source versions 1.0 and 1.1", task, sources),
        section("difference", "sources", "of a differential package from 1.0", task, difference),
        section("calm", "pushed", "no slot is reserved and no time-out is due", calm, PUSHED),
        section(
            "paused",
            "calm",
            "while a cancellation is carried out",
            calm,
            Terms { started: false, ..PUSHED },
        ),
        section("unknown", "calm", "the device never told a version", unknown, PUSHED),
        section("held", "calm", "the task waits for its turn", held, PUSHED),
        section("told", "calm", "the device was told in this moment", just_told, PUSHED),
        section("retry", "calm", "two retries after a minute", calm, TWICE),
        section(
            "retry finishing",
            "retry",
            "two retries, and ScheduleFinishTime in a minute",
            calm,
            Terms { finish_at: finishing(60_000), ..TWICE },
        ),
        section("retry hurried", "retry", "two retries, and the time-out in a minute", hurried, TWICE),
        section("retry spent", "retry", "two retries, both used up", spent, TWICE),
        section(
            "retry sources",
            "retry",
            "two retries, from the source versions 1.0 and 1.1",
            calm,
            Terms { src_versions: &*SOURCES, ..TWICE },
        ),
        section("waiting", "retry", "two retries, the second attempt is to come", waiting, TWICE),
        section(
            "waiting difference",
            "waiting",
            "the same of a differential package from 1.0",
            waiting,
            Terms { retry: TWICE.retry, ..difference },
        ),
        section("due", "waiting", "two retries, the second attempt is due", due, TWICE),
        section(
            "due elsewhere",
            "due",
            "the same from 1.0 and 1.1, and the device runs 9.9 by now",
            due_elsewhere,
            Terms { src_versions: &*SOURCES, ..TWICE },
        ),
        section("again", "retry", "two retries, told of the second attempt", again, TWICE),
        section(
            "again difference",
            "again",
            "the same of a differential package from 1.0",
            again,
            Terms { retry: TWICE.retry, ..difference },
        ),
        section("again at work", "again", "two retries, at work on the second attempt", again_at_work, TWICE),
        section(
            "again done",
            "again at work",
            "two retries, the second attempt says 100 %",
            again_done,
            TWICE,
        ),
        section("first done", "again done", "two retries, the first attempt says 100 %", first_done, TWICE),
    ]
}

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
        ("cancel all", Event::Cancel(Cancel::ALL)),
        ("cancel unbegun", Event::Cancel(Cancel::UNBEGUN)),
        ("cancel none", Event::Cancel(Cancel::default())),
        ("overwritten", Event::Overwritten),
        ("reupgrade from source", Event::Reupgrade(Some("1.0"))),
        ("reupgrade from target", Event::Reupgrade(Some("2.0"))),
        ("reupgrade from other", Event::Reupgrade(Some("9.9"))),
        ("reupgrade from unknown", Event::Reupgrade(None)),
    ]
}

/// A cell of a section: where the task stands, what happens, and what comes of it.
pub struct Cell {
    pub status: TaskStatus,
    pub event: &'static str,
    pub outcome: String,
}

fn cells(section: &Section) -> Vec<Cell> {
    let mut cells = Vec::new();
    for status in TaskStatus::ALL {
        let before = (section.make)(status);
        let sent = match push_need(&before, &section.terms, NOW) {
            PushNeed::Nothing => "sent nothing".to_owned(),
            PushNeed::Slot(at) => format!("given a slot from +{}ms on", at.since_ms(NOW)),
            PushNeed::WaitForSlot => "sent at its slot".to_owned(),
            PushNeed::Repeat => "sent again at once".to_owned(),
        };
        cells.push(Cell { status, event: "(device listens)", outcome: sent });
        for (name, event) in events() {
            assert!(is_listed(&event));
            let outcome = match step(&before, &section.terms, &event, NOW) {
                Ok(Step::Same) => "same".to_owned(),
                Err(refused) => format!("refused: {}", refused.why),
                Ok(Step::Next(after)) => change(&before, &after, &event),
            };
            cells.push(Cell { status, event: name, outcome });
        }
    }
    cells
}

/// What a section prints: all its cells, or those that differ from its base's.
pub fn printed(section: &Section, all: &[Section]) -> Vec<Cell> {
    let base = section.base.map(|key| {
        let base = all.iter().find(|other| other.key == key);
        cells(base.unwrap_or_else(|| panic!("{} is compared with {key}, which is missing", section.key)))
    });
    let same = |at: usize, cell: &Cell| base.as_ref().is_some_and(|base| base[at].outcome == cell.outcome);
    cells(section)
        .into_iter()
        .enumerate()
        .filter(|(at, cell)| !same(*at, cell))
        .map(|(_, cell)| cell)
        .collect()
}

pub fn heading(section: &Section) -> String {
    match section.base {
        None => format!("== {}: {}", section.key, section.title),
        Some(base) => format!("== {}: {}. Differs from \"{base}\" in", section.key, section.title),
    }
}

fn change(before: &Task, after: &Task, event: &Event<'_>) -> String {
    assert_eq!(after.revision, before.revision + 1, "every change counts");
    assert_eq!(after.modified_at, NOW);
    let reopened = matches!(event, Event::Reupgrade(_)) && after.status == TaskStatus::Queued;
    assert!(before.status.is_open() || reopened, "a final state is left by a reupgrade only");
    assert!(after.slot_at.is_none() || after.status == TaskStatus::Queued && after.hold_until.is_none());
    assert!(after.hold_until.is_none() || after.status.is_open() && after.retry_at.is_none());
    assert!(after.timeout_at.is_none() || after.status == TaskStatus::InProgress);
    assert!(after.retry_at.is_none() || told(after.status));
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
    for (name, before, after) in
        [("progress", before.progress, after.progress), ("retries", before.retries, after.retries)]
    {
        if after != before {
            let _ = write!(text, " {name}={after}");
        }
    }
    for (name, before, after) in
        [("working", before.working, after.working), ("confirmed", before.confirmed, after.confirmed)]
    {
        if after != before {
            let _ = write!(text, " {name}={after}");
        }
    }
    if after.desc != before.desc {
        let _ = write!(text, " desc={:?}", after.desc);
    }
    if after.src_version != before.src_version {
        let _ = write!(text, " source={:?}", after.src_version.as_deref().unwrap_or_default());
    }
    text
}
