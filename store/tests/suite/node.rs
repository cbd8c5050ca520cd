//! Nodes, what they leave for one another, and what they count together.

use crate::engine::Engine;
use crate::harness::cases;
use crate::help::{NOW, block_on, hold, hold_in, read, wait_until, write};
use crate::shop::Shop;
use crate::writer::end_connections;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};
use updraft_core::id::{AccountNo, DeviceNo};
use updraft_core::time::Timestamp;
use updraft_store::{Claim, LOGIN_BITS, Mail, OnlineDevice, Sharing, Store, StoreError, node_of};

cases! {
    Store:
        nodes_have_numbers_that_nobody_had_before,
        a_node_that_was_taken_out_learns_it_by_its_beat,
        a_node_is_given_up_only_if_it_has_not_beaten_meanwhile,
        the_last_login_counts_whichever_node_it_is_at,
        devices_of_nodes_that_are_gone_are_marked_offline,
        mail_is_taken_once_in_order_by_whom_it_is_for,
        a_nonce_is_used_once_until_it_is_forgotten,
        the_moments_of_calls_are_kept_by_account_and_operation;
    OnlyPostgres:
        writes_of_two_nodes_never_overlap,
        a_node_that_stands_still_in_a_write_holds_the_others_up_for_a_moment_only,
        a_node_is_woken_by_another,
        postgres_learns_soon_that_a_table_has_grown,
        a_listener_ends_while_postgres_does_not_answer,
        the_clock_is_the_database_servers,
        the_ledger_waits_for_no_write,
        a_node_beats_while_another_one_writes,
        nodes_share_a_database_and_a_server_alone_does_not,
        a_claim_outlives_its_connection;
}

fn join(store: &Store, name: &'static str) -> i64 {
    write(store, move |tx| tx.node_join(name, 7, "1.2.3", NOW))
}

fn login(node: i64, count: i64) -> i64 {
    (node << LOGIN_BITS) + count
}

fn online(store: &Store, device: DeviceNo, session: i64) {
    let login = OnlineDevice { device, session, ip: "192.0.2.1".to_owned() };
    write(store, move |tx| tx.devices_online(std::slice::from_ref(&login), NOW));
}

/// Whether a device is online, and at which node it was the last time.
fn place(store: &Store, device: DeviceNo) -> (bool, i64) {
    let place = read(store, move |tx| tx.device_places(&[device])).remove(0);
    (place.online, place.node())
}

fn nodes_have_numbers_that_nobody_had_before(store: &Store) {
    let (one, two) = (join(store, "one"), join(store, "two"));
    assert!(one < two);
    let nodes = read(store, |tx| tx.nodes());
    let known: Vec<_> = nodes.iter().map(|node| (node.id, node.name.as_str(), node.roles)).collect();
    assert_eq!(known, [(one, "one", 7), (two, "two", 7)]);
    assert!(nodes.iter().all(|node| node.version == "1.2.3" && node.started_at == NOW && node.beat == 0));
    assert!(write(store, move |tx| tx.node_leave(two)));
    assert!(!write(store, move |tx| tx.node_leave(two)), "it has left");
    assert!(join(store, "two") > two);
    write(store, |tx| tx.nodes_clear());
    assert_eq!(read(store, |tx| tx.nodes()), []);
    assert!(node_of(login(one, 5)) == one && node_of(login(two, (1 << LOGIN_BITS) - 1)) == two);
}

fn a_node_is_given_up_only_if_it_has_not_beaten_meanwhile(store: &Store) {
    let (node, device) = (join(store, "silent"), Shop::open(store).devices(store, 1)[0]);
    write(store, move |tx| tx.mail_post(&[Mail { node, device, body: vec![1] }]));
    assert!(write(store, move |tx| tx.node_beat(node)));
    assert!(!write(store, move |tx| tx.node_give_up(node, 0)), "it beat while that waited for its turn");
    assert!(read(store, move |tx| tx.mail_waits(node)) && read(store, move |tx| tx.node_serves(node)));
    assert!(write(store, move |tx| tx.node_give_up(node, 1)));
    assert!(!read(store, move |tx| tx.mail_waits(node)) && !read(store, move |tx| tx.node_serves(node)));
}

fn a_node_that_was_taken_out_learns_it_by_its_beat(store: &Store) {
    let node = join(store, "one");
    assert!(write(store, move |tx| tx.node_beat(node)));
    assert!(write(store, move |tx| tx.node_beat(node)));
    assert_eq!(read(store, |tx| tx.nodes())[0].beat, 2);
    write(store, move |tx| tx.node_leave(node));
    assert!(!write(store, move |tx| tx.node_beat(node)));
}

fn the_last_login_counts_whichever_node_it_is_at(store: &Store) {
    let device = Shop::open(store).devices(store, 1)[0];
    online(store, device, login(2, 9));
    online(store, device, login(1, 1));
    assert_eq!(place(store, device), (true, 1), "the elder node counts smaller numbers");
    online(store, device, login(1, 0));
    let session = read(store, move |tx| tx.device_places(&[device]))[0].session;
    assert_eq!(session, login(1, 1), "of one node the larger number is the later login");
    write(store, move |tx| tx.devices_offline(&[(device, login(2, 9))], NOW));
    assert_eq!(place(store, device), (true, 1), "the end of a login elsewhere");
    write(store, move |tx| tx.devices_offline(&[(device, login(1, 1))], NOW));
    assert_eq!(place(store, device), (false, 1));
}

fn devices_of_nodes_that_are_gone_are_marked_offline(store: &Store) {
    let devices = Shop::open(store).devices(store, 5);
    let (lives, gone) = (join(store, "lives"), join(store, "gone"));
    for (device, node) in devices.iter().zip([lives, gone, gone, lives]) {
        online(store, *device, login(node, 1));
    }
    let counts = read(store, |tx| tx.nodes_devices());
    assert_eq!(counts.into_iter().collect::<Vec<_>>(), [(lives, 2), (gone, 2)], "one is not online");
    let last = *devices.last().expect("five");
    assert_eq!(read(store, |tx| tx.device_largest()), last);
    let lost = move |tx: &mut updraft_store::Tx<'_>| tx.devices_lost_offline(DeviceNo(0), last, NOW);
    assert_eq!(write(store, lost), []);
    write(store, move |tx| tx.node_leave(gone));
    let second = devices[1];
    assert_eq!(write(store, move |tx| tx.devices_lost_offline(DeviceNo(0), second, NOW)), [second]);
    assert_eq!(write(store, lost), [devices[2]]);
    let shown: Vec<bool> = devices.iter().map(|device| place(store, *device).0).collect();
    assert_eq!(shown, [true, false, false, true, false]);
}

fn mail_is_taken_once_in_order_by_whom_it_is_for(store: &Store) {
    let (one, two) = (join(store, "one"), join(store, "two"));
    let mail = |node, device, body: &str| Mail { node, device: DeviceNo(device), body: body.into() };
    let nobody = two + 1;
    let mails =
        [mail(one, 5, "a"), mail(two, 6, "b"), mail(one, 4, "c"), mail(nobody, 4, "x"), mail(one, 5, "d")];
    write(store, move |tx| tx.mail_post(&mails));
    assert!(read(store, move |tx| tx.mail_waits(one)) && !read(store, move |tx| tx.mail_waits(nobody)));
    let taken = |limit| write(store, move |tx| tx.mail_take(one, limit));
    assert_eq!(taken(2), [(DeviceNo(5), b"a".to_vec()), (DeviceNo(4), b"c".to_vec())]);
    assert_eq!(taken(2), [(DeviceNo(5), b"d".to_vec())]);
    assert_eq!(taken(2), []);
    assert!(read(store, move |tx| tx.mail_waits(two)));
    write(store, move |tx| tx.node_leave(two));
    assert!(!read(store, move |tx| tx.mail_waits(two)), "who leaves leaves nothing behind");
}

fn a_nonce_is_used_once_until_it_is_forgotten(store: &Store) {
    let take =
        |hash, expires| block_on(store.ledger(move |tx| tx.nonce_use(hash, expires))).expect("it works");
    assert!(take(-7, NOW) && !take(-7, NOW.plus_ms(1)) && take(i64::MAX, NOW.plus_ms(5)));
    let forget = |at| {
        let forgotten = store.ledger::<_, StoreError, _>(move |tx| tx.nonces_forget(at, 10));
        block_on(forgotten).expect("it works")
    };
    assert_eq!((forget(NOW), forget(NOW.plus_ms(1))), (0, 1));
    assert!(take(-7, NOW) && !take(i64::MAX, NOW));
}

fn the_moments_of_calls_are_kept_by_account_and_operation(store: &Store) {
    let note = |account, operation: &'static str, at: i64| {
        let noted = store.ledger(move |tx| {
            let mut moments = tx.call_window(AccountNo(account), operation)?;
            moments.push(Timestamp(at));
            tx.call_window_set(AccountNo(account), operation, moments.iter().copied())?;
            Ok::<_, StoreError>(moments)
        });
        block_on(noted).expect("it works")
    };
    assert_eq!(note(1, "A", 10), [Timestamp(10)]);
    assert_eq!(note(1, "A", -1), [Timestamp(10), Timestamp(-1)]);
    assert_eq!(note(2, "A", 3), [Timestamp(3)]);
    assert_eq!(note(1, "B", 4), [Timestamp(4)]);
}

/// Two nodes add to a number that each reads first: were they to write at a time, some of it would be lost.
fn writes_of_two_nodes_never_overlap(engine: &Engine) {
    let (one, two) = (engine.open(), engine.open());
    let node = join(&one, "counted");
    let count = |store: &Store| {
        for _ in 0..100 {
            write(store, move |tx| {
                let known = tx.nodes()?.iter().find(|other| other.id == node).map_or(0, |found| found.beat);
                tx.node_beat(node)?;
                let now = tx.nodes()?.iter().find(|other| other.id == node).map_or(0, |found| found.beat);
                assert_eq!(now, known + 1, "somebody wrote in between");
                Ok(())
            });
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| count(&one));
        scope.spawn(|| count(&two));
    });
    assert_eq!(read(&one, |tx| tx.nodes())[0].beat, 200);
}

/// The test waits for the five seconds that a transaction may stand still.
fn a_node_that_stands_still_in_a_write_holds_the_others_up_for_a_moment_only(engine: &Engine) {
    let (one, two) = (engine.open(), engine.open());
    let node = join(&one, "stopped");
    let stopped = hold_in(&one, move |tx| tx.node_beat(node).map(drop));
    assert!(write(&two, move |tx| tx.node_beat(node)), "the other one writes");
    assert!(matches!(stopped.fails(), StoreError::Unavailable(_)));
    assert_eq!(read(&one, |tx| tx.nodes())[0].beat, 1, "nothing is left of what stood still");
    assert!(write(&one, move |tx| tx.node_beat(node)), "and it goes on");
}

fn a_node_is_woken_by_another(engine: &Engine) {
    let (one, two) = (engine.open(), engine.open());
    let (woken, wakes) = channel();
    let listener = one
        .listen(move || woken.send(()).unwrap_or_default())
        .expect("it listens")
        .expect("PostgreSQL wakes");
    wakes.recv_timeout(Duration::from_secs(30)).expect("it says that it listens");
    block_on(two.ledger(|tx| tx.nodes_wake())).expect("it works");
    wakes.recv_timeout(Duration::from_secs(30)).expect("it is woken");
    drop(listener);
}

fn postgres_learns_soon_that_a_table_has_grown(engine: &Engine) {
    let (store, mut outside) = (engine.open(), engine.outside());
    outside.execute("ALTER TABLE device SET (autovacuum_enabled = false)");
    let listener = store.listen(|| {}).expect("it listens");
    Shop::open(&store).devices(&store, 2_000);
    let begun = Instant::now();
    let known = "SELECT CAST(reltuples AS BIGINT) FROM pg_class WHERE relname = 'device'";
    while outside.number(known) < 2_000 {
        assert!(begun.elapsed() < Duration::from_secs(30), "it plans for an empty table");
        // What a session wrote is counted when it ends a transaction.
        write(&store, |tx| tx.account_ensure("owner", NOW));
    }
    drop(listener);
}

fn a_listener_ends_while_postgres_does_not_answer(engine: &Engine) {
    let (store, mut outside) = (engine.open(), engine.outside());
    let listener = store.listen(|| {}).expect("it listens");
    // Whoever asks for tables waits.
    outside.execute("BEGIN; LOCK TABLE pg_class IN ACCESS EXCLUSIVE MODE");
    let begun = Instant::now();
    while outside.number("SELECT count(*) FROM pg_locks WHERE NOT granted") == 0 {
        assert!(begun.elapsed() < Duration::from_secs(30), "the listener asks for nothing");
    }
    let (told, ended) = channel();
    let ending = std::thread::spawn(move || {
        drop(listener);
        told.send(()).unwrap_or_default();
    });
    let outcome = ended.recv_timeout(Duration::from_secs(8));
    outside.execute("ROLLBACK");
    ending.join().expect("it ends at the latest now");
    outcome.expect("it does not wait for the answer");
}

fn a_node_beats_while_another_one_writes(engine: &Engine) {
    let (one, two) = (engine.open(), engine.open());
    let node = join(&two, "waits");
    let held = hold(&one);
    assert!(block_on(two.ledger(move |tx| tx.node_beat(node))).expect("it beats"));
    held.release();
}

fn the_clock_is_the_database_servers(engine: &Engine) {
    let (store, mut outside) = (engine.open(), engine.outside());
    let now = "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)";
    let before = outside.number(now);
    let told = read(&store, |tx| tx.clock()).expect("PostgreSQL has one").0;
    let after = outside.number(now);
    assert!(before <= told && told <= after, "{before} {told} {after}");
}

fn the_ledger_waits_for_no_write(engine: &Engine) {
    let store = engine.open();
    let held = hold(&store);
    assert!(block_on(store.ledger(|tx| tx.nonce_use(1, NOW))).expect("it works"));
    held.release();
}

fn nodes_share_a_database_and_a_server_alone_does_not(engine: &Engine) {
    let location = engine.location();
    let node = Claim::take(location, Sharing::WithNodes).expect("it is free");
    let other = Claim::take(location, Sharing::WithNodes).expect("nodes share it");
    let refused = Claim::take(location, Sharing::Alone).err().expect("it is shared").to_string();
    assert!(refused.contains("another updraft"), "{refused}");
    drop((node, other));
    let alone = Claim::take(location, Sharing::Alone).expect("nobody has it");
    let refused = Claim::take(location, Sharing::WithNodes).err().expect("it is taken").to_string();
    assert!(refused.contains("blobs_url"), "{refused}");
    drop(alone);
}

/// The lock of a session goes with its connection: it is taken again, or found to be somebody else's.
fn a_claim_outlives_its_connection(engine: &Engine) {
    let claim = Claim::take(engine.location(), Sharing::Alone).expect("it is free");
    let mut outside = engine.outside();
    let locks = "SELECT COUNT(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
                 WHERE d.datname = current_database() AND l.locktype = 'advisory' AND l.granted AND l.objsubid = 1";
    end_connections(&mut outside);
    wait_until(|| outside.number(locks) == 1);
    assert!(!claim.is_lost());
    // It renews its claim once a second, and this one waits for it already.
    let mut greedy = engine.outside();
    std::thread::scope(|scope| {
        let taken = scope.spawn(|| greedy.execute("SELECT pg_advisory_lock(hashtext('updraft.serve'))"));
        let waits = "SELECT COUNT(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
        wait_until(|| outside.number(waits) == 1);
        outside.execute(
            "SELECT pg_terminate_backend(l.pid) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
             WHERE d.datname = current_database() AND l.locktype = 'advisory' AND l.granted",
        );
        taken.join().expect("it gets the lock");
    });
    wait_until(|| claim.is_lost());
}
