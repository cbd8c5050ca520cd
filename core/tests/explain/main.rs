//! Explanations: each state of a task and each reason to have none, and that they agree with what decides.

mod ended;
mod foretold;
mod newcomer;
mod open;

use updraft_core::device::DeviceStatus;
use updraft_core::dynamic::Reported;
use updraft_core::explain::{Explanation, Foreseen, Holds, OpenTask, Seen, Wait, open};
use updraft_core::id::{DeviceNo, JobNo, TaskNo};
use updraft_core::job::JobStatus;
use updraft_core::task::{Cancel, Condition, Task, TaskStatus, Terms};
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
