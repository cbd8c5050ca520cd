//! How PostgreSQL goes about statements that it planned badly once: what it says of its plans when it is asked to.

use crate::engine::Engine;
use crate::harness::cases;
use crate::help::{NOW, read, wait_until};
use crate::private_postgres::socket_of;
use crate::shop::Shop;
use updraft_store::{DueAt, Location, Store};

cases! {
    OnlyPostgres: what_is_due_at_a_node_is_not_looked_for_among_all_devices;
}

/// Lets PostgreSQL log each plan of the sessions that are opened from now on.
fn tell_plans(engine: &Engine) {
    for setting in ["session_preload_libraries = auto_explain", "auto_explain.log_min_duration = 0"] {
        engine.outside().execute(&format!(
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET {setting}', current_database()); END $$"
        ));
    }
}

/// The plan that it told of a statement with these words; it may do so after it has answered.
fn told(engine: &Engine, words: &str) -> String {
    let Location::Postgres(url) = engine.location() else { unreachable!("the cases are PostgreSQL's") };
    let log = socket_of(url).with_file_name("server.log");
    let mut plan = None;
    wait_until(|| {
        let said = std::fs::read_to_string(&log).unwrap();
        let mut entries = said.split("\tQuery Text: ").skip(1).filter_map(whole);
        plan = entries.find(|entry| entry.contains(words)).map(str::to_owned);
        plan.is_some()
    });
    plan.expect("it was told")
}

/// An entry of the log without what comes after it; none if it is still being written.
fn whole(entry: &str) -> Option<&str> {
    // Its lines begin with a tab.
    let (end, _) = entry.match_indices('\n').find(|(at, _)| !entry[at + 1..].starts_with('\t'))?;
    Some(&entry[..end])
}

/// All devices are connected, half of them to each of two nodes, and few tasks are due.
fn what_is_due_at_a_node_is_not_looked_for_among_all_devices(engine: &Engine) {
    let store = engine.open();
    let shop = Shop::open(&store);
    let (job, _) = shop.batch(&store, 1_000);
    // As after a batch of which most are told by now: PostgreSQL believes that all is due.
    engine.outside().execute(&format!(
        "UPDATE device SET status = 1, session = ((1 + id % 2) << 40) + id;
         UPDATE task SET due_at = {now} - ordinal WHERE job = {job};
         ANALYZE;
         UPDATE task SET due_at = NULL WHERE job = {job} AND ordinal > 10;",
        now = NOW.0,
    ));
    drop(store);
    tell_plans(engine);
    let store = Store::open(engine.location()).unwrap();
    let mine = DueAt { node: 1, neglected: None };
    let due = read(&store, move |tx| tx.tasks_due_of(&mine, NOW, 100));
    assert_eq!(due.len(), 5, "every second of ten");
    let next = read(&store, move |tx| tx.task_next_due_of(&mine, NOW)).unwrap();
    assert!([9, 10].contains(&(NOW.0 - next.0)), "{next:?}");
    for words in ["SELECT t.job, t.ordinal FROM task t", "SELECT t.due_at FROM task t"] {
        let plan = told(engine, words);
        assert!(plan.contains("using task_due on task t") || plan.contains("Scan on task_due"), "{plan}");
        assert!(plan.contains("using device_pkey on device d"), "{plan}");
    }
}
