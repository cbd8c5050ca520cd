//! The history of tasks.

use crate::harness::cases;
use crate::help::{NOW, read, write};
use updraft_core::history::{Line, What};
use updraft_core::id::{JobNo, TaskNo};
use updraft_core::page::Page;
use updraft_core::task::TaskStatus;
use updraft_core::time::Timestamp;
use updraft_store::{Refusals, Store};

cases! {
    Store:
        lines_come_back_in_order_by_pages,
        refusals_add_up_by_task_event_and_reason,
        what_is_too_old_or_too_much_goes_oldest_first;
}

const TASK: TaskNo = TaskNo { job: JobNo(7), ordinal: 3 };

fn line(task: TaskNo, revision: i64, at: i64, detail: &str) -> Line {
    let (from, to) = (TaskStatus::Queued, TaskStatus::Notified);
    Line { task, revision, at: Timestamp(at), what: What::Pushed, from, to, detail: detail.to_owned() }
}

fn refusal(task: TaskNo, why: &str, count: i64, at: i64) -> Refusals {
    let (event, why, at) = ("push".to_owned(), why.to_owned(), Timestamp(at));
    Refusals { task, event, why, count, first_at: at, last_at: at }
}

fn lines(store: &Store, task: TaskNo) -> Vec<Line> {
    read(store, move |tx| tx.task_history(task, Page::new(1, 100, 100).unwrap()))
}

fn lines_come_back_in_order_by_pages(store: &Store) {
    let other = TaskNo { ordinal: 4, ..TASK };
    // The clock may go back; the order is that in which things happened.
    let mine: Vec<Line> = (1..=5).map(|n| line(TASK, n, 100 - n, if n == 2 { "said" } else { "" })).collect();
    let mut all = mine.clone();
    all.insert(2, line(other, 1, 1, ""));
    write(store, move |tx| tx.task_history_add(&all));
    assert_eq!(lines(store, TASK), mine);
    assert_eq!(read(store, |tx| tx.task_history_count(TASK)), 5);
    let page = |number| read(store, move |tx| tx.task_history(TASK, Page::new(number, 2, 100).unwrap()));
    assert_eq!(page(2), mine[2..4]);
    assert_eq!(page(3), mine[4..]);
    assert_eq!(lines(store, TaskNo { job: JobNo(8), ..TASK }), []);
    // PostgreSQL is given many at a time in another way.
    let long = TaskNo { ordinal: 5, ..TASK };
    let many: Vec<Line> = (1..=150).map(|n| line(long, n, n, if n % 2 == 0 { "said" } else { "" })).collect();
    let all = many.clone();
    write(store, move |tx| tx.task_history_add(&all));
    let page = |number| read(store, move |tx| tx.task_history(long, Page::new(number, 100, 100).unwrap()));
    assert_eq!([page(1), page(2)].concat(), many);
}

fn refusals_add_up_by_task_event_and_reason(store: &Store) {
    let other = TaskNo { ordinal: 4, ..TASK };
    write(store, move |tx| {
        tx.task_refusals_add(&[
            refusal(TASK, "a", 2, 10),
            refusal(TASK, "b", 1, 11),
            refusal(other, "a", 9, 12),
        ])
    });
    write(store, |tx| tx.task_refusals_add(&[refusal(TASK, "a", 3, 20)]));
    let wanted =
        [Refusals { first_at: Timestamp(10), ..refusal(TASK, "a", 5, 20) }, refusal(TASK, "b", 1, 11)];
    assert_eq!(read(store, |tx| tx.task_refusals(TASK)), wanted);
}

fn what_is_too_old_or_too_much_goes_oldest_first(store: &Store) {
    let all: Vec<Line> = (1..=6).map(|n| line(TASK, n, NOW.0 + n, "")).collect();
    write(store, move |tx| {
        tx.task_history_add(&all)?;
        tx.task_refusals_add(&[refusal(TASK, "old", 1, NOW.0), refusal(TASK, "new", 1, NOW.0 + 9)])
    });
    let kept = || lines(store, TASK).iter().map(|line| line.revision).collect::<Vec<_>>();
    let overdue = |at: i64, max| read(store, move |tx| tx.task_history_overdue(Timestamp(at), max));
    let trim = |at: i64, max, chunk| write(store, move |tx| tx.task_history_trim(Timestamp(at), max, chunk));
    assert!(!overdue(NOW.0, 6));
    assert_eq!(trim(NOW.0, 6, 100), 0);
    assert!(overdue(NOW.0 + 3, 6), "by age");
    assert_eq!(trim(NOW.0 + 3, 6, 1), 2, "a line and a refusal at a time");
    assert_eq!(trim(NOW.0 + 3, 6, 100), 1);
    assert_eq!(kept(), [3, 4, 5, 6]);
    assert!(!overdue(NOW.0 + 3, 4));
    assert!(overdue(NOW.0 + 3, 3), "by number");
    assert_eq!(trim(NOW.0, 3, 100), 1);
    assert_eq!(kept(), [4, 5, 6]);
    assert_eq!(read(store, |tx| tx.task_refusals(TASK)).len(), 1);
}
