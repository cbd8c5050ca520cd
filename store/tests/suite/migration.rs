//! Migration manners.

use crate::engine::Engine;
use crate::harness::cases;
use crate::help::{NOW, write};
use updraft_store::StoreError;

cases! {
    Engine:
        opening_again_changes_nothing,
        a_newer_schema_is_refused_and_left_alone,
        a_migration_that_was_changed_is_refused,
        a_failed_opening_leaves_nothing;
    // A SQLite file belongs to one server; several may share a PostgreSQL database.
    OnlyPostgres:
        servers_that_start_at_once_migrate_once;
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

fn a_newer_schema_is_refused_and_left_alone(engine: &Engine) {
    drop(engine.open());
    let newest = engine.outside().number("SELECT MAX(number) FROM migration");
    engine.outside().execute("INSERT INTO migration (number, checksum) VALUES (9999, 'of the future')");
    let applied = engine.outside().rows(APPLIED);
    match engine.try_open().map(drop) {
        Err(StoreError::NewerSchema { found: 9999, known }) => assert_eq!(known, newest),
        other => panic!("{other:?}"),
    }
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
    assert_eq!(engine.outside().number("SELECT COUNT(*) FROM migration"), 1);
}
