//! Why tasks ended.

use super::{NOW, TERMS, holds, in_ms, listens, task};
use updraft_core::dynamic::Reported;
use updraft_core::explain::{EndedTask, Foreseen, Holds, Seen, Verdict, ended};
use updraft_core::history::{Line, What};
use updraft_core::id::{JobNo, TaskNo};
use updraft_core::task::{Task, TaskStatus};

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
