//! How SQLite goes about statements that it plans badly if it is left alone; only tests are here.
//!
//! It takes ten tasks for what a batch has, and there may be a million: it would rather walk along the batch in the
//! order of its key than look into the index of devices, unless a `+` in front of the batch's column takes that way
//! from it. Of a device it would rather walk along all tasks than take the index that has the open ones alone.

use crate::Database;
use crate::engine::sqlite;

/// The steps of a statement, as SQLite describes them.
fn plan(sql: &str) -> Vec<String> {
    let mut database = Database::Sqlite(sqlite::open_memory().unwrap());
    crate::migrate::prepare(&mut database).unwrap();
    let Database::Sqlite(conn) = &database else { unreachable!("made above") };
    let mut statement = conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
    // An unbound parameter is NULL, which changes no plan.
    statement.raw_query().mapped(|row| row.get(3)).collect::<Result<_, _>>().unwrap()
}

#[test]
fn a_devices_tasks_in_a_batch_are_not_looked_for_among_all_tasks_of_the_batch() {
    for sql in [crate::policy::EARLIER.row, crate::task::BY_DEVICES.row, crate::file::FILE_OF_TASK] {
        let steps = plan(sql);
        assert!(
            steps.iter().any(|step| step.contains("USING INDEX task_device (device=?")),
            "{sql}: {steps:?}"
        );
    }
}

#[test]
fn a_download_by_the_beginning_of_a_key_is_a_range_of_the_index() {
    let steps = plan(crate::file::FILE_BELOW);
    assert!(
        steps.iter().any(|step| step.contains("USING INDEX file_object_key (object_key>? AND object_key<?)")),
        "{steps:?}"
    );
}

#[test]
fn a_devices_open_tasks_are_not_looked_for_among_all_that_it_ever_had() {
    for sql in [
        crate::task::OPEN.row,
        crate::task::LIST_OPEN.sqlite,
        crate::survey::STANDING.row,
        crate::candidate::CANDIDATES_OF.row,
        crate::policy::CANDIDATES.row,
    ] {
        let steps = plan(sql);
        assert!(steps.iter().any(|step| step.contains("INDEX task_open (device=?")), "{sql}: {steps:?}");
    }
}

#[test]
fn what_is_due_at_a_node_is_not_looked_for_among_all_devices() {
    for sql in [crate::task::DUE_OF, crate::task::NEXT_DUE_OF] {
        let steps = plan(sql);
        assert!(
            steps[0].contains("SEARCH t USING INDEX task_due (due_at>? AND due_at<?)"),
            "{sql}: {steps:?}"
        );
        assert!(
            steps.iter().any(|step| step.contains("SEARCH d USING INTEGER PRIMARY KEY")),
            "{sql}: {steps:?}"
        );
    }
}
