//! From SQLite to PostgreSQL, with rows in every table: what the schema has is filled from the schema.

use crate::engine::{Engine, Outside};
use crate::harness::cases;
use crate::help::{read, write};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::time::Duration;
use updraft_store::{
    Begun, Location, Store, StoreError, TransferError, Transferred, examine, transfer, transfer_verify,
};

cases! {
    OnlyPostgres:
        every_row_of_every_table_goes_over,
        numbers_go_on_behind_the_largest,
        an_interrupted_transfer_goes_on_where_it_was,
        a_source_that_was_served_in_between_begins_anew,
        a_difference_is_named_and_the_target_not_served,
        a_target_that_is_in_use_is_refused,
        a_row_that_postgres_cannot_hold_is_named;
}

/// Rows of each table, and of a chunk: no multiple of each other.
const ROWS: usize = 23;
const CHUNK: usize = 7;

/// Texts that are easily spoilt on the way; which sort otherwise by another rule than their bytes.
const TEXTS: [&str; 6] = ["a", "Ä€😀", "B", "'\"\\;\t\r\n", "\u{7f}\u{ffff}", "\\N"];

fn every_row_of_every_table_goes_over(target: &Engine) {
    let source = filled();
    let moved = go(&source, target, &mut |_| {}).expect("all goes over");
    assert_eq!(moved.begun, Begun::Fresh);
    let names: Vec<&str> = moved.tables.iter().map(|table| table.name.as_str()).collect();
    assert_eq!(names, tables(&source), "a table was forgotten");
    assert!(names.len() > 25, "{names:?}");
    assert!(moved.tables.iter().all(|table| table.rows == ROWS as u64), "{:?}", moved.tables);
    assert_eq!(moved.copied, (ROWS * names.len()) as u64);

    // Compared by another's eyes.
    for table in &names {
        let sql = |order: &str| format!("SELECT * FROM \"{table}\" ORDER BY {order}");
        let order = key(&source, table).join(", ");
        let (mut here, mut there) = (columns(&source, table), columns(target, table));
        here.sort();
        there.sort();
        assert_eq!(here, there, "{table}");
        let texts: Vec<String> = here
            .iter()
            .filter(|(_, kind)| !kind.starts_with("BLOB"))
            .map(|(name, _)| format!("\"{name}\""))
            .collect();
        let sql = sql(&order).replace('*', &texts.join(", "));
        assert_eq!(source.outside().rows(&sql), target.outside().rows(&sql), "{table}");
    }
    assert_eq!(transfer_verify(&path(&source), &url(target), &mut |_, _, _| {}).expect("same"), moved.tables);
    let again = go(&source, target, &mut |_| {}).expect_err("there is nothing left to do");
    assert!(again.to_string().contains("holds this installation already"), "{again}");
}

fn numbers_go_on_behind_the_largest(target: &Engine) {
    let source = filled();
    go(&source, target, &mut |_| {}).expect("all goes over");
    let identities = target.outside().rows(
        "SELECT c.relname, a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
         WHERE a.attidentity <> '' AND c.relnamespace = 'public'::regnamespace ORDER BY 1",
    );
    assert!(identities.len() > 5, "{identities:?}");
    for identity in &identities {
        let (table, column) = (&identity[0], &identity[1]);
        let sql = format!(
            "SELECT nextval(pg_get_serial_sequence('{table}', '{column}')) - (SELECT MAX({column}) FROM {table})"
        );
        assert_eq!(target.outside().number(&sql), 1, "{table}");
    }
    // Every index is there again, and a server can use it all.
    let indexes = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY indexname";
    let moved = target.outside().rows(indexes);
    assert_eq!(target.outside().number("SELECT COUNT(*) FROM pg_index WHERE NOT indisvalid"), 0);
    target.outside().execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public");
    drop(target.open());
    assert_eq!(target.outside().rows(indexes), moved);
}

fn an_interrupted_transfer_goes_on_where_it_was(target: &Engine) {
    let source = filled();
    let before = source.outside().rows("SELECT * FROM device_version ORDER BY 1, 2");
    let mut copied_before = 0;
    let mut runs = 0;
    // Each run is ended a little later.
    let moved = loop {
        let mut calls = 0;
        let ends_at = 1 + runs * 17;
        let ended = catch_unwind(AssertUnwindSafe(|| {
            go(&source, target, &mut |_| {
                calls += 1;
                end_if(calls == ends_at);
            })
        }));
        runs += 1;
        let rows: i64 = tables(&source)
            .iter()
            .map(|table| target.outside().number(&format!("SELECT COUNT(*) FROM \"{table}\"")))
            .sum();
        assert!(rows >= copied_before, "rows were lost: {rows} after {copied_before}");
        if let Ok(moved) = ended {
            break moved.expect("the last run gets to the end");
        }
        assert!(matches!(target.try_open().map(drop), Err(StoreError::Unfinished)));
        assert!(matches!(Store::open_beside(target.location()).map(drop), Err(StoreError::Unfinished)));
        assert!(is_unfinished(target));
        copied_before = rows;
    };
    assert!(runs > 5, "{runs}");
    assert_eq!(moved.begun, Begun::Resumed);
    assert_eq!(moved.copied + copied_before as u64, (ROWS * moved.tables.len()) as u64);
    assert!(!is_unfinished(target));
    drop(target.open());
    assert_eq!(source.outside().rows("SELECT * FROM device_version ORDER BY 1, 2"), before);
}

fn a_source_that_was_served_in_between_begins_anew(target: &Engine) {
    let source = filled();
    interrupt(&source, target, "copy", 60);
    source.outside().execute("UPDATE account SET name = 'renamed' WHERE id = 1");
    let moved = go(&source, target, &mut |_| {}).expect("all goes over");
    assert_eq!((moved.begun, moved.copied), (Begun::Again, (ROWS * moved.tables.len()) as u64));
    // While it runs nobody may write, either.
    target.outside().execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public");
    let mut written = false;
    let refused = go(&source, target, &mut |what| {
        if what == "verify" && !std::mem::replace(&mut written, true) {
            source.outside().execute("UPDATE account SET name = 'once more' WHERE id = 1");
        }
    });
    let refused = refused.expect_err("what was written is missing in the target");
    assert!(refused.to_string().contains("has written to the source"), "{refused}");
    assert!(is_unfinished(target));
}

fn a_difference_is_named_and_the_target_not_served(target: &Engine) {
    let source = filled();
    let tamperings = [
        ("UPDATE task SET progress = 5 WHERE job = 1 AND ordinal = 4", "(job 1, ordinal 4)", "progress"),
        ("UPDATE task SET description = NULL WHERE ordinal = 5", "(job 1, ordinal 5)", "description"),
        ("DELETE FROM task WHERE ordinal = 3", "(job 1, ordinal 3)", "missing in the target"),
        ("DELETE FROM task WHERE ordinal = 22", "(job 7, ordinal 22)", "missing in the target"),
        ("UPDATE task SET job = 0, ordinal = 100 WHERE ordinal = 9", "(job 0, ordinal 100)", "no such row"),
    ];
    for (tampering, key, word) in tamperings {
        interrupt(&source, target, "verify", 1);
        target.outside().execute(tampering);
        let found = transfer_verify(&path(&source), &url(target), &mut |_, _, _| {}).expect_err(tampering);
        match &found {
            TransferError::Different { table, key: found_key, what, .. } => {
                assert_eq!((table.as_str(), found_key.as_str()), ("task", key), "{tampering}");
                assert!(what.contains(word), "{tampering}: {what}");
            }
            other => panic!("{tampering}: {other:?}"),
        }
        assert!(matches!(target.try_open().map(drop), Err(StoreError::Unfinished)), "{tampering}");
    }
    // The next run trusts nothing of it.
    assert_eq!(go(&source, target, &mut |_| {}).expect("all goes over").begun, Begun::Again);
    // A target that is served differs for good reasons: it is said, and it is served further on.
    target.outside().execute("UPDATE task SET progress = 7 WHERE ordinal = 4");
    transfer_verify(&path(&source), &url(target), &mut |_, _, _| {}).expect_err("they differ");
    drop(target.open());
}

fn a_target_that_is_in_use_is_refused(target: &Engine) {
    let source = filled();
    let refusal = |word: &str| {
        let refused = go(&source, target, &mut |_| panic!("it began")).expect_err(word);
        assert!(refused.to_string().contains(word), "{refused}");
    };
    target.outside().execute("CREATE TABLE recipes (cake TEXT)");
    refusal("it has a table `recipes`");
    target.outside().execute("DROP TABLE recipes");
    let store = target.open();
    refusal("belongs to another installation");
    write(&store, |tx| tx.installation_insert(b"another"));
    drop(store);
    refusal("belongs to another installation");
    assert_eq!(read(&target.open(), |tx| tx.installation_find()), Some(b"another".to_vec()));
    // Half of another installation is none of ours to go on with.
    target.outside().execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public");
    let other = filled();
    other.outside().execute("UPDATE installation SET name_sealed = x'07' WHERE id = 0");
    interrupt(&other, target, "copy", 20);
    refusal("unfinished migration of another installation");
    let early =
        transfer_verify(&path(&other), &url(target), &mut |_, _, _| {}).expect_err("not all is there");
    assert!(early.to_string().contains("not every row"), "{early}");
}

fn a_row_that_postgres_cannot_hold_is_named(target: &Engine) {
    let spoilt = [("'a' || char(0) || 'b'", "U+0000"), ("CAST(x'c328' AS TEXT)", "not UTF-8")];
    for (text, word) in spoilt {
        let source = filled();
        source.outside().execute(&format!("UPDATE device SET nickname = {text} WHERE id = 17"));
        target.outside().execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public");
        match go(&source, target, &mut |_| {}).expect_err(word) {
            TransferError::Row { table, key, why } => {
                assert_eq!((table.as_str(), key.as_str()), ("device", "(id 17)"));
                assert!(why.contains(word) && why.contains("nickname"), "{why}");
            }
            other => panic!("{other:?}"),
        }
        assert!(is_unfinished(target));
        // Put right, it goes over.
        source.outside().execute("UPDATE device SET nickname = 'right' WHERE id = 17");
        go(&source, target, &mut |_| {}).expect("all goes over");
    }
    // A source that no server has used has nothing.
    let unused = Engine::sqlite();
    drop(unused.open());
    target.outside().execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public");
    let refused = go(&unused, target, &mut |_| {}).expect_err("there is nothing");
    assert!(refused.to_string().contains("nothing to move"), "{refused}");
}

fn go(source: &Engine, target: &Engine, hear: &mut dyn FnMut(&str)) -> Result<Transferred, TransferError> {
    transfer(&path(source), &url(target), CHUNK, &mut |what, done, all| {
        assert!(done <= all, "{what}: {done} of {all}");
        hear(what);
    })
}

/// Ends what is under way as nothing in it expects; says nothing, unlike a panic.
fn end_if(now: bool) {
    if now {
        resume_unwind(Box::new("ended by the case"));
    }
}

/// Runs a transfer until its `nth` word about `phase`, and ends it there.
fn interrupt(source: &Engine, target: &Engine, phase: &str, nth: usize) {
    let mut heard = 0;
    let ended = catch_unwind(AssertUnwindSafe(|| {
        go(source, target, &mut |what| {
            heard += usize::from(what == phase);
            end_if(heard == nth);
        })
    }));
    assert!(ended.is_err(), "it got to its end");
}

fn is_unfinished(target: &Engine) -> bool {
    let health = examine(target.location(), Duration::from_secs(20)).expect("it can be looked at");
    health.expect("it is there").unfinished
}

fn path(source: &Engine) -> PathBuf {
    match source.location() {
        Location::Sqlite(path) => path.clone(),
        other => unreachable!("the source is a file: {other:?}"),
    }
}

fn url(target: &Engine) -> String {
    match target.location() {
        Location::Postgres(url) => url.clone(),
        other => unreachable!("the target is PostgreSQL: {other:?}"),
    }
}

/// A database of which every table has rows.
fn filled() -> Engine<'static> {
    let source = Engine::sqlite();
    drop(source.open());
    let mut outside = source.outside();
    outside.execute("BEGIN");
    let mut dice = 7;
    for table in tables(&source) {
        let columns = columns(&source, &table);
        let (key, names) = (key(&source, &table), names(&columns));
        for row in 0..ROWS {
            let values: Vec<String> =
                columns.iter().map(|(name, kind)| value(&mut dice, row, name, kind, &key)).collect();
            outside.execute(&format!("INSERT INTO \"{table}\" ({names}) VALUES ({})", values.join(", ")));
        }
    }
    outside.execute("COMMIT");
    source
}

/// A value that no other row has in the same column, NULL apart: some of them are unique.
fn value(dice: &mut u64, row: usize, name: &str, kind: &str, key: &[String]) -> String {
    *dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    let drawn = (*dice >> 33) as usize;
    let place = key.iter().position(|column| column == name);
    let text = TEXTS[drawn % TEXTS.len()];
    match (kind.trim_end_matches(" NULL"), place) {
        ("INTEGER", Some(0)) if key.len() > 1 => (row / 3).to_string(),
        ("INTEGER", Some(_)) => row.to_string(),
        _ if kind.ends_with(" NULL") && drawn.is_multiple_of(3) => "NULL".to_owned(),
        ("INTEGER", None) => match row {
            3 => i64::MAX.to_string(),
            4 => format!("{} - 1", i64::MIN + 1),
            _ => (drawn * 100 + row).to_string(),
        },
        ("TEXT", _) if row == 1 => "''".to_owned(),
        ("TEXT", _) if row == 2 => format!("'{}'", "long ".repeat(2_000)),
        ("TEXT", _) => format!("'{}{row}'", text.replace('\'', "''")),
        ("BLOB", _) if row == 1 => "x''".to_owned(),
        ("BLOB", _) => format!("x'{row:02x}00ff{drawn:08x}'"),
        (other, _) => panic!("a type that the cases do not know: {other}"),
    }
}

fn names(columns: &[(String, String)]) -> String {
    let names: Vec<String> = columns.iter().map(|(name, _)| format!("\"{name}\"")).collect();
    names.join(", ")
}

/// All tables but the one that each engine has of its own.
fn tables(source: &Engine) -> Vec<String> {
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name <> 'migration'
                 AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name";
    source.outside().rows(sql).into_iter().map(|row| row[0].clone()).collect()
}

/// Names and types of a table's columns; ` NULL` behind the type: may be absent.
fn columns(engine: &Engine, table: &str) -> Vec<(String, String)> {
    let mut outside = engine.outside();
    let sql = match outside {
        Outside::Sqlite(_) => {
            "SELECT name, type || CASE WHEN \"notnull\" = 0 AND pk = 0 THEN ' NULL' ELSE '' END
             FROM pragma_table_info('TABLE') ORDER BY cid"
        }
        Outside::Postgres(_) => {
            "SELECT column_name, CASE data_type WHEN 'bigint' THEN 'INTEGER' WHEN 'bytea' THEN 'BLOB' ELSE 'TEXT' END
                      || CASE is_nullable WHEN 'YES' THEN ' NULL' ELSE '' END
             FROM information_schema.columns WHERE table_name = 'TABLE' AND table_schema = 'public'"
        }
    };
    let rows = outside.rows(&sql.replace("TABLE", table));
    rows.into_iter().map(|row| (row[0].clone(), row[1].clone())).collect()
}

/// The columns of a table's primary key, in their order.
fn key(source: &Engine, table: &str) -> Vec<String> {
    let sql = format!("SELECT name FROM pragma_table_info('{table}') WHERE pk > 0 ORDER BY pk");
    source.outside().rows(&sql).into_iter().map(|row| row[0].clone()).collect()
}
