//! Migration manners.

use crate::engine::{Engine, Outside};
use crate::harness::cases;
use crate::help::{NOW, read, write};
use sha2::{Digest, Sha256};
use updraft_core::id::TaskNo;
use updraft_core::job::Schedule;
use updraft_core::time::Timestamp;
use updraft_store::{Claim, Sharing, Store, StoreError};

cases! {
    Engine:
        opening_again_changes_nothing,
        a_database_of_the_first_schema_is_upgraded_with_what_it_holds,
        a_newer_schema_is_refused_and_left_alone,
        a_newer_schema_that_lets_this_program_work_is_worked_on_and_left_alone,
        the_strictest_of_several_newer_migrations_decides,
        a_newer_schema_without_an_older_migration_is_refused,
        a_database_that_says_nothing_of_older_programs_is_upgraded,
        a_migration_that_was_changed_is_refused,
        a_failed_opening_leaves_nothing;
    // A SQLite file belongs to one server; several may share a PostgreSQL database.
    OnlyPostgres:
        servers_that_start_at_once_migrate_once,
        a_schema_changes_under_a_store_that_works,
        a_migration_that_waits_for_a_table_holds_no_writer_up,
        a_schema_is_not_changed_under_nodes_that_cannot_work_on_it;
}

const APPLIED: &str = "SELECT number, checksum FROM migration ORDER BY number";

fn opening_again_changes_nothing(engine: &Engine) {
    let first = engine.open();
    let applied = engine.outside().rows(APPLIED);
    assert_eq!(applied[0][0], "1");
    let second = engine.open();
    drop(first);
    drop(second);
    drop(engine.open());
    assert_eq!(engine.outside().rows(APPLIED), applied);
}

/// What an account of the first schema may have besides a product: a package, a batch, a task that runs, and an
/// upload.
const FIRST_ROWS: &str = "
    INSERT INTO file (id, account, object_key, blob, size, md5, sha256, firmware, created_at)
      VALUES (3, 7, 'ota/a/b.bin', 'blob', 9, 'md5', 'sha256', 4, 1),
             (5, 7, 'ota/a/unused.bin', NULL, NULL, NULL, NULL, NULL, 1);
    INSERT INTO firmware (id, account, product, firmware_id, name, dest_version, module, status, sign_method, sign,
                          size, file, job_count, created_at, modified_at)
      VALUES (4, 7, 1, 'fw', 'package', '2.0', 'default', -1, 0, 'md5', 9, 3, 1, 1, 1);
    INSERT INTO job (id, account, job_id, firmware, ordinal, product, job_type, status, target_selection, need_push,
                     tags, pace_next_us, expanded, expand_after, expand_upto, task_count, cancel_mask, created_at,
                     modified_at, start_at)
      VALUES (6, 7, 'job', 4, 1, 1, 1, 1, 1, 1, '[]', 0, 1, 0, 0, 1, 0, 1, 1, 1);
    INSERT INTO task (job, ordinal, device, status, progress, due_at, revision, created_at, modified_at)
      VALUES (6, 1, 1, 3, 10, 900, 3, 1, 1);
";

/// Makes the first schema, as the first programs did.
fn make_first(engine: &Engine) {
    let schema = match engine.outside() {
        Outside::Sqlite(_) => include_str!("../../migrations/0001_first_slice.sqlite.sql"),
        Outside::Postgres(_) => include_str!("../../migrations/0001_first_slice.postgres.sql"),
    };
    let mut outside = engine.outside();
    outside.execute("CREATE TABLE migration (number BIGINT NOT NULL PRIMARY KEY, checksum TEXT NOT NULL)");
    let checksum = hex::encode(Sha256::digest(schema.as_bytes()));
    outside.execute(&format!("INSERT INTO migration (number, checksum) VALUES (1, '{checksum}')"));
    outside.execute(schema);
}

/// The first schema with an account that owns a product, as that release left it.
fn a_database_of_the_first_schema_is_upgraded_with_what_it_holds(engine: &Engine) {
    make_first(engine);
    let mut outside = engine.outside();
    outside.execute("INSERT INTO account (id, name, created_at) VALUES (7, 'root', 1)");
    let sealed = if matches!(outside, Outside::Sqlite(_)) { "x'00'" } else { "'\\x00'" };
    outside.execute(&format!(
        "INSERT INTO product (account, product_key, name, secret_sealed, node_type, data_format, net_type,
                              commodity_code, device_count, created_at)
         VALUES (7, 'key', 'lamps', {sealed}, 0, 0, 'WIFI', 'iothub', 0, 1)"
    ));
    for (id, user, at) in [("1", "'alice'", 3), ("2", "'alice'", 2), ("3", "NULL", 1)] {
        outside.execute(&format!(
            "INSERT INTO access_key (id, account, ram_user, secret_sealed, enabled, created_at)
             VALUES ('{id}', 7, {user}, {sealed}, 1, {at})"
        ));
    }
    outside.execute(FIRST_ROWS);
    drop(outside);
    let store = engine.open();
    let owner = write(&store, |tx| tx.account_ensure("root", NOW));
    assert_eq!(owner.0, 7);
    let instance = read(&store, move |tx| tx.instance_public(owner));
    let found = read(&store, move |tx| tx.product_find(instance, "key"));
    assert_eq!(found.map(|product| product.name), Some("lamps".to_owned()));
    // The package keeps its file, the batch its task, and the task its time-out.
    let firmware = read(&store, move |tx| tx.firmware_find(instance, "fw")).expect("the package is there");
    let files: Vec<&str> = firmware.files.iter().map(|file| file.object_key.as_str()).collect();
    assert_eq!((files, firmware.job_count), (vec!["ota/a/b.bin"], 1));
    let job = read(&store, move |tx| tx.job_find(instance, "job")).expect("the batch is there");
    assert_eq!((job.schedule, job.need_confirm, job.retry), (Schedule::default(), false, None));
    let no = TaskNo { job: job.no, ordinal: 1 };
    let tasks = write(&store, move |tx| tx.tasks_load(&[no]));
    assert_eq!((tasks[0].timeout_at, tasks[0].working), (Some(Timestamp(900)), true));
    // An upload that no package uses has its end.
    let unused = read(&store, |tx| tx.file_ticket_find("ota/a/unused.bin"));
    assert_eq!(unused, Some(None));
    // Who had keys is a user, without a policy, as old as the first of them.
    let users = read(&store, move |tx| tx.ram_user_list(owner));
    let users: Vec<_> = users.iter().map(|user| (user.name.as_str(), user.keys, &user.policy)).collect();
    assert_eq!(users, [("alice", 2, &None)]);
    // What is made later has numbers of its own.
    let other = write(&store, |tx| tx.account_ensure("other", NOW));
    assert_ne!(read(&store, move |tx| tx.instance_public(other)), instance);
}

fn a_newer_schema_is_refused_and_left_alone(engine: &Engine) {
    drop(engine.open());
    let newest = engine.outside().number("SELECT MAX(number) FROM migration");
    engine.outside().execute("INSERT INTO migration (number, checksum) VALUES (9999, 'of the future')");
    let applied = engine.outside().rows(APPLIED);
    let beside = || Store::open_beside(engine.location()).map(drop);
    for refused in [engine.try_open().map(drop), beside()] {
        match refused {
            Err(StoreError::NewerSchema { found: 9999, known, oldest_able: 9999 }) => {
                assert_eq!(known, newest);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(engine.outside().rows(APPLIED), applied);
}

/// Adds a migration of a release to come, which lets programs work that know the schema `oldest_able`.
fn add(engine: &Engine, number: i64, oldest_able: i64) {
    engine.outside().execute(&format!(
        "INSERT INTO migration (number, checksum, oldest_able) VALUES ({number}, 'of the future', {oldest_able})"
    ));
}

fn newest(engine: &Engine) -> i64 {
    engine.outside().number("SELECT MAX(number) FROM migration")
}

fn a_newer_schema_that_lets_this_program_work_is_worked_on_and_left_alone(engine: &Engine) {
    drop(engine.open());
    let newest = newest(engine);
    // What a later release adds is nothing to this one.
    engine.outside().execute("ALTER TABLE account ADD COLUMN of_the_future INTEGER NOT NULL DEFAULT 7");
    add(engine, newest + 1, newest);
    let applied = engine.outside().rows(APPLIED);
    let store = engine.open();
    let owner = write(&store, |tx| tx.account_ensure("owner", NOW));
    drop(store);
    let beside = Store::open_beside(engine.location()).expect("a command may work, too");
    assert_eq!(write(&beside, |tx| tx.account_ensure("owner", NOW)), owner);
    assert_eq!(engine.outside().number("SELECT of_the_future FROM account WHERE name = 'owner'"), 7);
    assert_eq!(engine.outside().rows(APPLIED), applied);
}

fn the_strictest_of_several_newer_migrations_decides(engine: &Engine) {
    drop(engine.open());
    let newest = newest(engine);
    add(engine, newest + 1, newest + 1);
    add(engine, newest + 2, newest);
    let refused = engine.try_open().map(drop).expect_err("the first of them shuts this program out");
    let said = refused.to_string();
    for told in [newest, newest + 1, newest + 2] {
        assert!(said.contains(&told.to_string()), "{said}");
    }
    assert!(said.contains("start the newer release, or restore"), "{said}");
}

fn a_newer_schema_without_an_older_migration_is_refused(engine: &Engine) {
    drop(engine.open());
    let newest = newest(engine);
    add(engine, newest + 1, newest);
    engine.outside().execute("DELETE FROM migration WHERE number = 2");
    let refused = engine.try_open().map(drop);
    assert!(matches!(refused, Err(StoreError::Corrupt { place: "migration.number", .. })), "{refused:?}");
}

/// Early programs kept no more than number and text of a migration; a newer one says which programs may work.
fn a_database_that_says_nothing_of_older_programs_is_upgraded(engine: &Engine) {
    make_first(engine);
    drop(engine.open());
    let said = engine.outside().rows("SELECT number, oldest_able FROM migration ORDER BY number");
    assert_eq!(said[0], ["1", "NULL"]);
    assert!(said.len() > 1 && said[1..].iter().all(|row| row[1] != "NULL"), "{said:?}");
    // An early program has nothing to do there and opens it as before.
    engine.outside().execute("ALTER TABLE migration DROP COLUMN oldest_able");
    let applied = engine.outside().rows(APPLIED);
    drop(engine.open());
    assert_eq!(engine.outside().rows(APPLIED), applied);
}

fn a_migration_that_was_changed_is_refused(engine: &Engine) {
    drop(engine.open());
    let applied = engine.outside().rows(APPLIED);
    engine.outside().execute("UPDATE migration SET checksum = 'of another text' WHERE number = 1");
    let refused = engine.try_open().map(drop);
    assert!(matches!(refused, Err(StoreError::Corrupt { place: "migration.checksum", .. })), "{refused:?}");
    // With the right one it opens again.
    engine
        .outside()
        .execute(&format!("UPDATE migration SET checksum = '{}' WHERE number = 1", applied[0][1]));
    drop(engine.open());
}

/// A migration that cannot run to its end is taken back whole, and succeeds once the obstacle is gone.
fn a_failed_opening_leaves_nothing(engine: &Engine) {
    engine.outside().execute("CREATE TABLE task (obstacle BIGINT)");
    let refused = engine.try_open().map(drop);
    assert!(matches!(refused, Err(StoreError::Internal(_))), "{refused:?}");
    engine.outside().execute("DROP TABLE task");
    let store = engine.open();
    write(&store, |tx| tx.account_ensure("owner", NOW));
}

fn servers_that_start_at_once_migrate_once(engine: &Engine) {
    std::thread::scope(|scope| {
        let opening: Vec<_> = (0..4).map(|_| scope.spawn(|| engine.try_open().map(drop))).collect();
        for opened in opening {
            opened.join().expect("opening does not panic").expect("the store opens");
        }
    });
    assert_eq!(engine.outside().number("SELECT MAX(number) - COUNT(*) FROM migration"), 0);
}

/// Statements that were prepared before a column was added go on.
fn a_schema_changes_under_a_store_that_works(engine: &Engine) {
    let store = engine.open();
    let newest = newest(engine);
    let work = || {
        let owner = write(&store, |tx| tx.account_ensure("owner", NOW));
        read(&store, move |tx| tx.instance_public(owner))
    };
    let instance = work();
    let mut outside = engine.outside();
    outside.execute("ALTER TABLE account ADD COLUMN of_the_future INTEGER NOT NULL DEFAULT 7");
    outside.execute("ALTER TABLE instance ADD COLUMN of_the_future TEXT");
    add(engine, newest + 1, newest);
    assert_eq!(work(), instance);
    let other = write(&store, |tx| tx.account_ensure("other", NOW));
    assert_ne!(read(&store, move |tx| tx.instance_public(other)), instance);
}

/// A dump, say, that reads every table for an hour.
fn a_migration_that_waits_for_a_table_holds_no_writer_up(engine: &Engine) {
    make_first(engine);
    let (mut dump, mut writer) = (engine.outside(), engine.outside());
    dump.execute("BEGIN; LOCK TABLE product IN ACCESS SHARE MODE");
    std::thread::scope(|scope| {
        let opening = scope.spawn(|| engine.try_open().map(drop));
        let waits = "SELECT COUNT(*) FROM pg_locks WHERE relation = 'product'::regclass AND NOT granted";
        while writer.number(waits) == 0 {
            assert!(!opening.is_finished(), "{:?}", opening.join());
        }
        // The migration has the turn to write, and lets it go long before the dump ends.
        writer.execute("SET lock_timeout = '20s'; SELECT pg_advisory_lock(hashtext('updraft.write'))");
        writer.rows("SELECT product_key FROM product");
        writer.execute("SELECT pg_advisory_unlock(hashtext('updraft.write'))");
        assert_eq!(newest(engine), 1, "nothing of it is left");
        dump.execute("COMMIT");
        opening.join().expect("opening does not panic").expect("it succeeds once the table is free");
    });
    assert!(newest(engine) > 1);
}

fn a_schema_is_not_changed_under_nodes_that_cannot_work_on_it(engine: &Engine) {
    make_first(engine);
    let serve = "SELECT pg_advisory_lock_shared(hashtext('updraft.serve'))";
    let mut node = engine.outside();
    node.execute(&format!("{serve}; SELECT pg_advisory_lock_shared(hashtext('updraft.knows'), 3)"));
    match engine.try_open().map(drop) {
        Err(StoreError::OlderNodes { nodes: 1, knows: 3, schema, oldest_able }) => {
            assert!(oldest_able > 3 && schema >= oldest_able);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(newest(engine), 1);
    // One that knows enough is in nobody's way, and a node says by its claim what it knows.
    let _able = Claim::take(engine.location(), Sharing::WithNodes).expect("nodes share it");
    assert!(engine.try_open().is_err());
    drop(node);
    let gone = "SELECT COUNT(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2 AND objid = 3";
    while engine.outside().number(gone) > 0 {}
    drop(engine.open());
    let known = newest(engine);
    let told = "SELECT MAX(CAST(objid AS BIGINT)) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2";
    assert_eq!(engine.outside().number(told), known);
}
