//! How writes and reads behave together: groups, rollbacks, lanes, isolation, ends.

use crate::engine::{Engine, Outside};
use crate::harness::cases;
use crate::help::{
    NOW, Queued, block_on, hold, hold_in, queue, read, try_glance, try_read, try_write, write,
};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use updraft_core::id::{AccountNo, DeviceNo, InstanceNo};
use updraft_store::{Lane, Location, Store, StoreError, Trouble, Tx};

cases! {
    Store:
        concurrent_writes_are_all_answered_and_stay,
        a_group_larger_than_the_limit_is_answered_whole,
        a_refused_write_rolls_back_only_itself,
        a_panicking_write_fails_only_itself,
        a_failed_statement_spoils_only_its_write,
        a_swallowed_error_is_never_answered_as_done,
        effects_run_in_commit_order,
        no_effect_runs_for_a_refused_write,
        a_panicking_effect_does_not_take_the_change_back,
        a_caller_that_went_away_does_not_take_the_change_back,
        bulk_writes_yield_to_interactive_ones,
        a_read_sees_only_what_is_committed,
        a_read_sees_one_state,
        a_read_cannot_write,
        a_look_is_a_single_statement_that_reads,
        a_panicking_read_is_refused_and_reading_goes_on,
        closing_finishes_what_is_queued_then_refuses,
        closing_twice_is_harmless;
    Engine:
        an_effect_runs_after_its_change_is_durable,
        a_write_is_durable_when_it_is_answered,
        reopening_finds_everything,
        two_stores_share_one_database;
    OnlyPostgres:
        a_lost_connection_is_replaced,
        a_connection_lost_in_a_write_takes_the_write_back;
    Once:
        a_store_in_memory_works_and_shares_nothing,
        a_failure_at_any_moment_changes_nothing_or_is_none,
        a_refused_commit_and_a_full_disk_change_nothing,
        what_stays_broken_refuses_everything_until_it_is_whole,
        locations_are_read_from_urls;
}

fn ensure(tx: &mut Tx<'_>, name: &str) -> Result<AccountNo, StoreError> {
    tx.account_ensure(name, NOW)
}

/// Fails on both engines: the key is taken.
fn fail(tx: &mut Tx<'_>) -> Result<(), StoreError> {
    tx.file_ticket_insert(InstanceNo(1), "taken", NOW)?;
    tx.file_ticket_insert(InstanceNo(1), "taken", NOW)
}

fn exists(store: &Store, name: &str) -> bool {
    let name = name.to_owned();
    read(store, move |tx| tx.account_find(&name)).is_some()
}

/// Queues a write that the held writer does not start yet.
fn queued<T: Send + 'static>(
    store: &Store,
    run: impl Fn(&mut Tx<'_>) -> Result<T, StoreError> + Send + 'static,
) -> Queued<'_, T> {
    queue(store.write(Lane::Interactive, run)).unwrap_or_else(|_| panic!("the writer is held"))
}

fn queued_ensure<'a>(store: &'a Store, name: &str) -> Queued<'a, AccountNo> {
    let name = name.to_owned();
    queued(store, move |tx| ensure(tx, &name))
}

/// A list that effects write to.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn push(&self, entry: &str) {
        self.0.lock().expect("no panic while locked").push(entry.to_owned());
    }

    fn entries(&self) -> Vec<String> {
        self.0.lock().expect("no panic while locked").clone()
    }
}

/// Queues a write that notes its name in the log once it is committed.
fn queued_logged<'a>(store: &'a Store, lane: Lane, log: &Log, name: &str) -> Queued<'a, AccountNo> {
    let (log, run, noted) = (log.clone(), name.to_owned(), name.to_owned());
    queue(store.write_then(lane, move |tx| ensure(tx, &run), move |_| log.push(&noted)))
        .unwrap_or_else(|_| panic!("the writer is held"))
}

fn concurrent_writes_are_all_answered_and_stay(store: &Store) {
    std::thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || {
                for n in 0..50 {
                    write(store, move |tx| ensure(tx, &format!("{thread}/{n}")));
                }
            });
        }
    });
    for (thread, n) in (0..4).flat_map(|thread| (0..50).map(move |n| (thread, n))) {
        assert!(exists(store, &format!("{thread}/{n}")));
    }
}

fn a_group_larger_than_the_limit_is_answered_whole(store: &Store) {
    let held = hold(store);
    let writes: Vec<_> = (0..600).map(|n| queued_ensure(store, &n.to_string())).collect();
    held.release();
    let accounts: Vec<AccountNo> =
        writes.into_iter().map(|write| block_on(write).expect("written")).collect();
    assert!(accounts.is_sorted_by(|a, b| a < b), "written in the order of the queue");
    assert!(exists(store, "0") && exists(store, "255") && exists(store, "256") && exists(store, "599"));
}

fn a_refused_write_rolls_back_only_itself(store: &Store) {
    let held = hold(store);
    let before = queued_ensure(store, "before");
    let refused = queued(store, |tx| {
        ensure(tx, "refused")?;
        Err::<(), _>(StoreError::Conflict("on purpose"))
    });
    let after = queued_ensure(store, "after");
    held.release();
    assert!(block_on(before).is_ok() && block_on(after).is_ok());
    assert!(matches!(block_on(refused), Err(StoreError::Conflict("on purpose"))));
    assert!(exists(store, "before") && exists(store, "after") && !exists(store, "refused"));
}

fn a_panicking_write_fails_only_itself(store: &Store) {
    let panicking = |tx: &mut Tx<'_>| -> Result<(), StoreError> {
        ensure(tx, "panicked")?;
        resume_unwind(Box::new("on purpose"))
    };
    let held = hold(store);
    let before = queued_ensure(store, "before");
    let panicked = queued(store, panicking);
    let after = queued_ensure(store, "after");
    held.release();
    assert!(block_on(before).is_ok() && block_on(after).is_ok());
    let answer = block_on(panicked);
    assert!(matches!(&answer, Err(StoreError::Panicked(text)) if text == "on purpose"), "{answer:?}");

    let alone = try_write(store, panicking);
    assert!(matches!(alone, Err(StoreError::Panicked(_))), "{alone:?}");
    assert!(exists(store, "before") && exists(store, "after") && !exists(store, "panicked"));
    write(store, |tx| ensure(tx, "the writer lives on"));
}

fn a_failed_statement_spoils_only_its_write(store: &Store) {
    let held = hold(store);
    let before = queued_ensure(store, "before");
    let failed = queued(store, |tx| {
        ensure(tx, "failed")?;
        fail(tx)
    });
    let after = queued_ensure(store, "after");
    held.release();
    assert!(block_on(before).is_ok() && block_on(after).is_ok() && block_on(failed).is_err());
    assert!(exists(store, "before") && exists(store, "after") && !exists(store, "failed"));
}

/// PostgreSQL takes a transaction back in which a statement failed, whatever the closure makes of it.
fn a_swallowed_error_is_never_answered_as_done(store: &Store) {
    let swallowing = |name: &'static str| {
        move |tx: &mut Tx<'_>| {
            ensure(tx, name)?;
            assert!(fail(tx).is_err());
            Ok(())
        }
    };
    let alone = try_write(store, swallowing("alone"));
    assert_eq!(alone.is_ok(), exists(store, "alone"), "{alone:?}");

    let held = hold(store);
    let before = queued_ensure(store, "before");
    let grouped = queued(store, swallowing("grouped"));
    // Neither a neighbour that fails nor one that does not even ask takes the blame.
    let failing = queued(store, fail);
    let again = queued(store, swallowing("again"));
    let refusing = queued(store, |_| Err::<(), _>(StoreError::Conflict("on purpose")));
    let after = queued_ensure(store, "after");
    held.release();
    assert!(block_on(before).is_ok() && block_on(after).is_ok());
    for (answer, name) in [(block_on(grouped), "grouped"), (block_on(again), "again")] {
        assert_eq!(answer.is_ok(), exists(store, name), "{name}: {answer:?}");
    }
    assert!(block_on(failing).is_err());
    assert!(matches!(block_on(refusing), Err(StoreError::Conflict("on purpose"))));
    assert!(exists(store, "before") && exists(store, "after"));
}

fn effects_run_in_commit_order(store: &Store) {
    let log = Log::default();
    let held = hold(store);
    let names: Vec<String> = (0..300).map(|n| n.to_string()).collect();
    let writes: Vec<_> =
        names.iter().map(|name| queued_logged(store, Lane::Interactive, &log, name)).collect();
    assert_eq!(log.entries(), [""; 0]);
    held.release();
    // An effect runs before its write is answered.
    for (write, count) in writes.into_iter().zip(1..) {
        block_on(write).expect("written");
        assert!(log.entries().len() >= count);
    }
    assert_eq!(log.entries(), names);
}

fn no_effect_runs_for_a_refused_write(store: &Store) {
    let log = Log::default();
    let effect = log.clone();
    let refused = block_on(store.write_then(
        Lane::Interactive,
        |_| Err::<(), _>(StoreError::Conflict("on purpose")),
        move |()| effect.push("ran"),
    ));
    assert!(refused.is_err());
    assert_eq!(log.entries(), [""; 0]);
}

fn a_panicking_effect_does_not_take_the_change_back(store: &Store) {
    let answer = block_on(store.write_then(
        Lane::Interactive,
        |tx| ensure(tx, "changed"),
        |_| resume_unwind(Box::new("on purpose")),
    ));
    assert!(answer.is_ok(), "{answer:?}");
    assert!(exists(store, "changed"));
    write(store, |tx| ensure(tx, "the writer lives on"));
}

fn a_caller_that_went_away_does_not_take_the_change_back(store: &Store) {
    let held = hold(store);
    drop(queued_ensure(store, "abandoned"));
    held.release();
    write(store, |tx| ensure(tx, "next"));
    assert!(exists(store, "abandoned"));
}

fn bulk_writes_yield_to_interactive_ones(store: &Store) {
    let log = Log::default();
    let held = hold(store);
    let mut writes = Vec::new();
    for name in ["bulk 1", "bulk 2", "bulk 3"] {
        writes.push(queued_logged(store, Lane::Bulk, &log, name));
    }
    for name in ["first", "second"] {
        writes.push(queued_logged(store, Lane::Interactive, &log, name));
    }
    held.release();
    for write in writes {
        block_on(write).expect("written");
    }
    assert_eq!(log.entries(), ["first", "second", "bulk 1", "bulk 2", "bulk 3"]);
}

fn a_read_sees_only_what_is_committed(store: &Store) {
    let held = hold_in(store, |tx| ensure(tx, "new").map(drop));
    assert!(!exists(store, "new"));
    held.release();
    assert!(exists(store, "new"));
}

fn a_read_sees_one_state(store: &Store) {
    let (go, may_write) = channel();
    let (written, has_written) = channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            may_write.recv().expect("the read asks");
            write(store, |tx| ensure(tx, "new"));
            written.send(()).expect("the read waits");
        });
        let has_written = Mutex::new(has_written);
        let seen = read(store, move |tx| {
            let before = tx.account_find("new")?;
            go.send(()).expect("the writer waits");
            has_written.lock().expect("no panic while locked").recv().expect("the writer answers");
            Ok([before, tx.account_find("new")?])
        });
        assert_eq!(seen, [None, None]);
    });
    assert!(exists(store, "new"));
}

fn a_read_cannot_write(store: &Store) {
    let refused = try_read(store, |tx| ensure(tx, "written by a read"));
    assert!(refused.is_err(), "{refused:?}");
    assert!(!exists(store, "written by a read"));
}

fn a_look_is_a_single_statement_that_reads(store: &Store) {
    let account = write(store, |tx| ensure(tx, "somebody"));
    let found = try_glance(store, |tx| tx.account_find("somebody"));
    assert_eq!(found.expect("one statement"), Some(account));
    let again = try_glance(store, |tx| {
        tx.account_find("somebody")?;
        tx.account_find("somebody")
    });
    assert!(matches!(again, Err(StoreError::Internal(_))), "{again:?}");
    // SQLite would have one for each of them.
    let several = try_glance(store, |tx| tx.devices_deleted(&[DeviceNo(1), DeviceNo(2)]));
    assert!(matches!(several, Err(StoreError::Internal(_))), "{several:?}");
    let refused = try_glance(store, |tx| tx.device_disable(DeviceNo(1), NOW));
    assert!(refused.is_err(), "{refused:?}");
    let panicked = try_glance(store, |_| -> Result<(), StoreError> { resume_unwind(Box::new("on purpose")) });
    assert!(matches!(panicked, Err(StoreError::Panicked(_))), "{panicked:?}");
    assert_eq!(try_glance(store, |tx| tx.account_find("somebody")).expect("looking goes on"), Some(account));
}

fn a_panicking_read_is_refused_and_reading_goes_on(store: &Store) {
    for _ in 0..10 {
        let panicked = try_read(store, |tx| -> Result<(), StoreError> {
            tx.account_find("anybody")?;
            resume_unwind(Box::new("on purpose"))
        });
        assert!(matches!(panicked, Err(StoreError::Panicked(_))), "{panicked:?}");
        assert!(!exists(store, "anybody"));
    }
}

fn closing_finishes_what_is_queued_then_refuses(store: &Store) {
    let held = hold(store);
    let mut writes: Vec<_> = (0..20).map(|n| queued_ensure(store, &n.to_string())).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| store.close());
        // Writes are taken until the store is closed, whenever that happens.
        let refused = loop {
            match queue(store.write(Lane::Interactive, |tx| ensure(tx, "late"))) {
                Ok(write) => writes.push(write),
                Err(answer) => break answer,
            }
            std::thread::yield_now();
        };
        assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
        held.release();
        for write in writes {
            block_on(write).expect("what was queued is written");
        }
    });
    let refused = try_write(store, |tx| ensure(tx, "later"));
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    let refused = try_read(store, |tx| tx.account_find("0"));
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
}

fn closing_twice_is_harmless(store: &Store) {
    store.close();
    store.close();
}

fn durable(outside: &mut Outside, name: &str) -> bool {
    outside.number(&format!("SELECT COUNT(*) FROM account WHERE name = '{name}'")) == 1
}

fn an_effect_runs_after_its_change_is_durable(engine: &Engine) {
    let store = engine.open();
    let seen = Arc::new(Mutex::new(None));
    let (note, outside) = (Arc::clone(&seen), Mutex::new(engine.outside()));
    let answer = block_on(store.write_then(
        Lane::Interactive,
        |tx| ensure(tx, "new"),
        move |_| {
            let durable = durable(&mut outside.lock().expect("no panic while locked"), "new");
            *note.lock().expect("no panic while locked") = Some(durable);
        },
    ));
    answer.expect("written");
    assert_eq!(*seen.lock().expect("no panic while locked"), Some(true));
}

fn a_write_is_durable_when_it_is_answered(engine: &Engine) {
    let store = engine.open();
    let mut outside = engine.outside();
    let held = hold(&store);
    let writes: Vec<_> = (0..5).map(|n| (n, queued_ensure(&store, &n.to_string()))).collect();
    held.release();
    for (n, write) in writes {
        block_on(write).expect("written");
        assert!(durable(&mut outside, &n.to_string()));
    }
}

fn reopening_finds_everything(engine: &Engine) {
    let store = engine.open();
    let account = write(&store, |tx| ensure(tx, "kept"));
    drop(store);
    let store = engine.open();
    assert_eq!(read(&store, |tx| tx.account_find("kept")), Some(account));
    // Numbers go on where they were.
    assert!(write(&store, |tx| ensure(tx, "next")) > account);
}

fn two_stores_share_one_database(engine: &Engine) {
    let stores = [engine.open(), engine.open()];
    std::thread::scope(|scope| {
        for (store, at) in stores.iter().zip(0..) {
            scope.spawn(move || {
                for n in 0..20 {
                    write(store, move |tx| ensure(tx, &format!("{at}/{n}")));
                }
            });
        }
    });
    for store in &stores {
        assert!(
            exists(store, "0/0") && exists(store, "0/19") && exists(store, "1/0") && exists(store, "1/19")
        );
    }
}

/// Ends every connection of the database but our own, and waits until they are gone.
pub fn end_connections(outside: &mut Outside) {
    let ended = outside.rows(
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid()",
    );
    assert!(!ended.is_empty() && ended.iter().all(|row| row[0] == "t"), "{ended:?}");
}

/// Calls until it works; before that, only the lost connections' worth of refusals is in order.
fn works_after<T>(refusals_max: usize, call: impl Fn() -> Result<T, StoreError>) -> T {
    for _ in 0..refusals_max {
        match call() {
            Ok(answer) => return answer,
            Err(StoreError::Unavailable(_)) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
    call().expect("the lost connections are replaced")
}

fn a_lost_connection_is_replaced(engine: &Engine) {
    let store = engine.open();
    let mut outside = engine.outside();
    for round in ["1", "2"] {
        write(&store, move |tx| ensure(tx, "before"));
        end_connections(&mut outside);
        works_after(1, || try_write(&store, move |tx| ensure(tx, round)));
        // Each of the four readers may find its connection lost.
        works_after(4, || try_read(&store, move |tx| tx.account_find(round)))
            .expect("what was answered is there");
    }
}

fn a_connection_lost_in_a_write_takes_the_write_back(engine: &Engine) {
    let store = engine.open();
    let outside = Mutex::new(engine.outside());
    let refused = try_write(&store, move |tx| {
        ensure(tx, "lost")?;
        end_connections(&mut outside.lock().expect("no panic while locked"));
        ensure(tx, "never")
    });
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    write(&store, |tx| ensure(tx, "next"));
    assert!(!durable(&mut engine.outside(), "lost"));
}

fn a_store_in_memory_works_and_shares_nothing() {
    let open = || Store::open(&Location::Inline).expect("memory opens");
    let (first, second) = (open(), open());
    write(&first, |tx| ensure(tx, "mine"));
    assert!(exists(&first, "mine") && !exists(&second, "mine"));

    let log = Log::default();
    let effect = log.clone();
    block_on(first.write_then(Lane::Bulk, |tx| ensure(tx, "more"), move |_| effect.push("ran")))
        .expect("written");
    assert_eq!(log.entries(), ["ran"]);

    let refused = try_write(&first, |tx| {
        ensure(tx, "refused")?;
        Err::<(), _>(StoreError::Conflict("on purpose"))
    });
    assert!(refused.is_err() && !exists(&first, "refused"));
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        try_read(&first, |_| -> Result<(), StoreError> { resume_unwind(Box::new("on purpose")) })
    }));
    assert!(matches!(panicked, Ok(Err(StoreError::Panicked(_)))));
    assert!(exists(&first, "more"));
}

/// Two rows that belong together.
fn ensure_both(tx: &mut Tx<'_>, name: &str) -> Result<(), StoreError> {
    ensure(tx, name)?;
    ensure(tx, &format!("{name}'s twin")).map(drop)
}

fn a_failure_at_any_moment_changes_nothing_or_is_none() {
    let store = Store::open(&Location::Inline).expect("memory opens");
    let mut failed = 0;
    for after in 0.. {
        let name = format!("after {after}");
        let given = name.clone();
        let write = || try_write(&store, move |tx| ensure_both(tx, &given));
        let (outcome, struck) =
            store.in_trouble(Trouble::Interrupt { after, stays: false }, write).expect("it is in memory");
        let stored = (exists(&store, &name), exists(&store, &format!("{name}'s twin")));
        assert_eq!(stored, (outcome.is_ok(), outcome.is_ok()), "{outcome:?}");
        assert!(outcome.is_ok() || struck && outcome.is_err_and(|error| error.is_retryable()));
        if !struck {
            break;
        }
        failed += 1;
    }
    assert!(failed > 10, "{failed}");
}

fn a_refused_commit_and_a_full_disk_change_nothing() {
    let store = Store::open(&Location::Inline).expect("memory opens");
    let commit =
        store.in_trouble(Trouble::Commit { after: 0 }, || try_write(&store, |tx| ensure_both(tx, "a")));
    let (outcome, struck) = commit.expect("it is in memory");
    assert!(struck && matches!(outcome, Err(StoreError::Unavailable(_))), "{outcome:?}");
    let fill =
        || (0..10_000).find_map(|n| try_write(&store, move |tx| ensure_both(tx, &n.to_string())).err());
    let (full, _) = store.in_trouble(Trouble::Full { pages: 3 }, fill).expect("it is in memory");
    assert!(matches!(full, Some(StoreError::Full(_))), "{full:?}");
    assert!(!exists(&store, "a"));
    write(&store, |tx| ensure_both(tx, "a"));
    assert!(exists(&store, "a"));
}

fn what_stays_broken_refuses_everything_until_it_is_whole() {
    let store = Store::open(&Location::Inline).expect("memory opens");
    let work = || {
        let write = try_write(&store, |tx| ensure_both(tx, "a"));
        let read = try_read(&store, |tx| tx.account_find("a"));
        (write.is_err_and(|error| error.is_retryable()), read.is_err_and(|error| error.is_retryable()))
    };
    let broken = store.in_trouble(Trouble::Interrupt { after: 0, stays: true }, work);
    assert_eq!(broken.expect("it is in memory"), ((true, true), true));
    write(&store, |tx| ensure_both(tx, "a"));
    assert!(exists(&store, "a"));
}

fn locations_are_read_from_urls() {
    let sqlite = Location::Sqlite("data/updraft.db".into());
    assert_eq!(Location::parse("sqlite:data/updraft.db"), Some(sqlite));
    for url in ["postgres://u@h/db", "postgresql://u@h/db"] {
        assert_eq!(Location::parse(url), Some(Location::Postgres(url.to_owned())));
    }
    for url in ["", "sqlite:", "mysql://h/db", "data/updraft.db"] {
        assert_eq!(Location::parse(url), None, "{url}");
    }
}
