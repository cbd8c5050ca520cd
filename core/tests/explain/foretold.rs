//! What is foretold comes true, whatever the task and its batch are.

use super::{NOW, TERMS, in_ms, of, seen, task};
use proptest::prelude::*;
use updraft_core::device::DeviceStatus;
use updraft_core::explain::{Foreseen, Holds};
use updraft_core::job::JobStatus;
use updraft_core::task::{
    Cancel, Condition, Event, Obstacle, Step, Task, TaskStatus, Terms, Way, obstacle, step,
};
use updraft_core::time::Timestamp;

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
        let retries = i64::from(retry.is_some());
        match status {
            TaskStatus::Confirm => base,
            TaskStatus::Queued => {
                Task { slot_at: slot, hold_until: hold.filter(|_| slot.is_none()), ..base }
            }
            TaskStatus::Notified => {
                Task { retry_at: retry, retries, hold_until: hold.filter(|_| retry.is_none()), told_at: Some(in_ms(told)), ..base }
            }
            _ => Task {
                retry_at: retry,
                retries,
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
