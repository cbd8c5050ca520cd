//! A look at a database from outside.

use crate::engine::Engine;
use crate::harness::cases;
use crate::help::write;
use std::time::Duration;
use updraft_store::{Integrity, Location, examine};

cases! {
    Engine:
        a_look_sees_what_is_there_and_makes_nothing,
        a_newer_schema_is_seen_and_left_alone,
        a_newer_schema_that_lets_this_program_work_is_looked_into;
}

const PATIENCE: Duration = Duration::from_secs(20);

fn a_look_sees_what_is_there_and_makes_nothing(engine: &Engine) {
    let before = examine(engine.location(), PATIENCE).expect("it can be looked at");
    match engine.location() {
        // A PostgreSQL database is there before its first server.
        Location::Postgres(_) => {
            let health = before.expect("the server answers");
            assert_eq!((health.schema, &health.installation), (0, &None));
            assert!(health.postgres_major.is_some_and(|major| major >= 13), "{health:?}");
        }
        location => {
            assert_eq!(before, None);
            assert_eq!(examine(location, PATIENCE).expect("it can be looked at"), None, "no file was made");
        }
    }
    let store = engine.open();
    write(&store, |tx| tx.installation_insert(&[7]));
    for running in [true, false] {
        let health = examine(engine.location(), PATIENCE).expect("it can be looked at").expect("it is there");
        assert_eq!(health.schema, health.known, "{running}");
        assert_eq!(health.installation, Some(vec![7]));
        assert_eq!(health.newest_ms, None, "there is no batch");
        assert!(matches!(health.integrity, Integrity::Sound | Integrity::NotOurs), "{health:?}");
        store.close();
    }
}

fn a_newer_schema_is_seen_and_left_alone(engine: &Engine) {
    drop(engine.open());
    engine.outside().execute("INSERT INTO migration (number, checksum) VALUES (999, '')");
    let health = examine(engine.location(), PATIENCE).expect("it can be looked at").expect("it is there");
    assert!(health.known < 999 && health.is_too_new());
    assert_eq!((health.schema, health.installation), (999, None));
}

fn a_newer_schema_that_lets_this_program_work_is_looked_into(engine: &Engine) {
    write(&engine.open(), |tx| tx.installation_insert(&[7]));
    engine.outside().execute(
        "INSERT INTO migration (number, checksum, oldest_able) SELECT 999, '', MAX(number) FROM migration",
    );
    let health = examine(engine.location(), PATIENCE).expect("it can be looked at").expect("it is there");
    assert!(!health.is_too_new() && health.oldest_able == health.known);
    assert_eq!((health.schema, health.installation), (999, Some(vec![7])));
}
