//! The lines that changes of tasks leave.

use updraft_core::history::{Cause, Line, What, line};
use updraft_core::id::{DeviceNo, JobNo, TaskNo};
use updraft_core::task::{Cancel, Event, FailedStep, Step, Task, TaskStatus, Terms, step};
use updraft_core::time::Timestamp;

const NOW: Timestamp = Timestamp(1_000);

fn task(status: TaskStatus) -> Task {
    let no = TaskNo { job: JobNo(1), ordinal: 2 };
    let working = status == TaskStatus::InProgress;
    Task { working, ..Task::new(no, DeviceNo(3), status, Some("1".to_owned()), Timestamp(0)) }
}

fn terms() -> Terms<'static> {
    Terms {
        dest_version: "2",
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
    }
}

fn after(before: &Task, event: &Event<'_>) -> Option<Line> {
    match step(before, &terms(), event, NOW).unwrap() {
        Step::Next(after) => line(before, &after, event, false, NOW),
        Step::Same => None,
    }
}

#[test]
fn each_change_of_a_state_leaves_a_line_that_says_who_and_why() {
    use TaskStatus::{Canceled, Confirm, Failed, InProgress, Notified, Queued, Succeeded};
    let working = |percent| Event::Progress { percent, desc: "writing" };
    let failure = Event::Failure { step: FailedStep::Flashing, desc: "bad block" };
    for (status, event, what, cause, to, detail) in [
        (Confirm, Event::Confirm, What::Confirmed, Cause::Operator, Queued, ""),
        (Queued, Event::Push, What::Pushed, Cause::Timer, Notified, ""),
        (Queued, Event::Pull, What::Pulled, Cause::Device, Notified, ""),
        (Notified, working(5), What::Progressed, Cause::Device, InProgress, "5 %; writing"),
        (InProgress, failure, What::Failed, Cause::Device, Failed, "flashing failed: bad block"),
        (InProgress, Event::Version("2"), What::Reported, Cause::Device, Succeeded, "2"),
        (
            InProgress,
            Event::Version("3"),
            What::Reported,
            Cause::Device,
            Failed,
            "3; report version is not conform",
        ),
        (Queued, Event::Cancel(Cancel::ALL), What::Canceled, Cause::Operator, Canceled, ""),
        (Queued, Event::Overwritten, What::Replaced, Cause::Batch, Canceled, ""),
        (Failed, Event::Reupgrade(None), What::Reupgraded, Cause::Operator, Queued, ""),
    ] {
        let found = after(&task(status), &event).unwrap_or_else(|| panic!("{event:?} left no line"));
        assert_eq!((found.what, found.what.cause(), found.from, found.to), (what, cause, status, to));
        assert_eq!((found.detail.as_str(), found.at, found.revision), (detail, NOW, 2), "{event:?}");
    }
}

#[test]
fn what_changes_no_state_leaves_none_but_for_attempts() {
    let queued = task(TaskStatus::Queued);
    assert_eq!(after(&queued, &Event::Slot(Timestamp(9))), None);
    let working = task(TaskStatus::InProgress);
    assert_eq!(after(&working, &Event::Progress { percent: 50, desc: "" }), None);
    let waiting = Task { retry_at: Some(NOW), desc: "download failed".to_owned(), ..working.clone() };
    let failure = Event::Failure { step: FailedStep::Download, desc: "" };
    let line_of = |before, after, event| line(before, after, event, false, NOW).unwrap();
    let failed = line_of(&working, &waiting, &failure);
    assert_eq!((failed.to, failed.detail.as_str()), (TaskStatus::InProgress, "download failed"));
    assert_eq!(line_of(&waiting, &working, &Event::RetryDue).what, What::Retried);
}

#[test]
fn the_end_of_a_batchs_time_is_not_an_operators() {
    let (queued, cancel) = (task(TaskStatus::Queued), Event::Cancel(Cancel::UNBEGUN));
    let canceled = task(TaskStatus::Canceled);
    let line = line(&queued, &canceled, &cancel, true, NOW).unwrap();
    assert_eq!((line.what, line.what.cause()), (What::Finished, Cause::Timer));
}

#[test]
fn kinds_come_back_from_their_numbers_and_have_names_of_their_own() {
    let names: std::collections::BTreeSet<&str> = What::ALL.iter().map(|what| what.name()).collect();
    assert_eq!(names.len(), What::ALL.len());
    for what in What::ALL {
        assert_eq!(What::from_code(what.code()), Some(what));
    }
    assert_eq!(What::from_code(99), None);
}
