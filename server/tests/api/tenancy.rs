//! Nobody reads or changes what belongs to another account or instance, by enumeration.
//!
//! What is whose is read from the database: a row belongs to an instance if it names it, or something that does.
//! A new table whose rows name neither fails here until it is told whose they are.

use crate::server::{Key, OTHER_ACCOUNT, ROOT, START, TestServer};
use crate::shop::{Pairs, Shop, changed};
use rusqlite::types::Value;
use std::collections::{BTreeMap, BTreeSet};
use updraft_core::id::InstanceNo;
use updraft_server::api::OPERATIONS;
use updraft_server::setup::ROOT_ACCOUNT;
use updraft_store::{Lane, StoreError};

/// Tables that are nobody's: of the installation, or of an account.
const NOBODYS: [&str; 10] = [
    "migration",
    "node",
    "installation",
    "account",
    "instance",
    "access_key",
    "sts_key",
    "ram_user",
    "audit",
    "device_authority",
];
/// Columns that name the owner of a row, the nearest first, with the tables that they point to.
const OWNERS: [(&str, &str); 6] = [
    ("apply", "device_apply"),
    ("product", "product"),
    ("device", "device"),
    ("job", "job"),
    ("firmware", "firmware"),
    ("file", "file"),
];
/// Texts shorter than this are no ids: `iothub`, `default`, versions.
const ID_CHARS_MIN: usize = 8;

type Rows = Vec<BTreeMap<String, Value>>;

fn tables(server: &TestServer) -> BTreeMap<String, Rows> {
    let conn = rusqlite::Connection::open(server.dir.path().join("updraft.db")).unwrap();
    let mut names = conn.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'").unwrap();
    let names: Vec<String> = names.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let rows = |table: &str| -> Rows {
        let mut all = conn.prepare(&format!("SELECT * FROM {table}")).unwrap();
        let columns: Vec<String> = all.column_names().map(str::to_owned).collect();
        let read = |row: &rusqlite::Row<'_>| {
            columns.iter().enumerate().map(|(at, name)| Ok((name.clone(), row.get(at)?))).collect()
        };
        all.query_map([], read).unwrap().map(Result::unwrap).collect()
    };
    let owned = names.into_iter().filter(|name| !NOBODYS.contains(&name.as_str()));
    owned.map(|table| (table.clone(), rows(&table))).collect()
}

fn owner(all: &BTreeMap<String, Rows>, table: &str, row: &BTreeMap<String, Value>) -> Value {
    if let Some(instance) = row.get("instance") {
        return instance.clone();
    }
    for (column, of) in OWNERS {
        if let Some(no) = row.get(column) {
            let found = all[of].iter().find(|row| row.get("id") == Some(no));
            return owner(all, of, found.unwrap_or_else(|| panic!("{table} names no {of}: {row:?}")));
        }
    }
    panic!("whose are the rows of {table}?");
}

/// All rows of an instance.
fn of_instance(server: &TestServer, instance: InstanceNo) -> BTreeSet<String> {
    let all = tables(server);
    let rows = all.iter().flat_map(|(table, rows)| rows.iter().map(move |row| (table, row)));
    rows.filter(|(table, row)| owner(&all, table, row) == Value::Integer(instance.0))
        .map(|(table, row)| format!("{table} {row:?}"))
        .collect()
}

/// All texts that may be ids in rows of this instance, and in no row of another.
fn ids_of(server: &TestServer, instance: InstanceNo) -> BTreeSet<String> {
    let all = tables(server);
    let (mut ids, mut others) = (BTreeSet::new(), BTreeSet::new());
    for (table, rows) in &all {
        for row in rows {
            let own = owner(&all, table, row) == Value::Integer(instance.0);
            let texts = row.values().filter_map(|value| match value {
                Value::Text(text) if text.len() >= ID_CHARS_MIN => Some(text.clone()),
                _ => None,
            });
            if own { ids.extend(texts) } else { others.extend(texts) }
        }
    }
    &ids - &others
}

/// Codes of refusals that say: there is no such thing.
const NOT_FOUND: [&str; 5] =
    ["NotFound", "NotExisted", "InvalidFirmwareUrl", "FirmwareProductMismatch", "AddTopoRelationFailed"];

/// Calls with what is not the caller's: it must not be found, or nothing of it read; and nothing changed.
async fn refused(server: &TestServer, owner: InstanceNo, action: &str, params: &Pairs, codes: &[&str]) {
    let (before, ids) = (of_instance(server, owner), ids_of(server, owner));
    let (status, answer) = server.call(action, params).await;
    assert_eq!(status, 200, "{action}: {answer}");
    assert!(of_instance(server, owner) == before, "{action} with {params:?} changed what is another's");
    let text = answer.to_string();
    let told = ids
        .iter()
        .find(|id| text.contains(*id) && !params.iter().any(|(_, value)| value.contains(id.as_str())));
    assert_eq!(told, None, "{action} with {params:?} tells what is another's: {answer}");
    if answer["Success"] != true {
        let code = answer["Code"].as_str().unwrap_or_default();
        assert!(codes.iter().any(|part| code.contains(part)), "{action} with {params:?}: {answer}");
    }
}

/// Tries every operation as somebody else: with requests that are all the owner's, and with the stranger's own
/// requests in which one parameter is the owner's.
async fn nothing_crosses(stranger: Key, instance: &str) {
    let server = TestServer::on_disk().await;
    let make = server.app.store.write::<_, StoreError, _>(Lane::Interactive, |tx| {
        let root = tx.account_find(ROOT_ACCOUNT)?.unwrap_or_default();
        tx.instance_insert(root, "iot-second", "second", START)?;
        tx.instance_public(root)
    });
    let public = make.await.unwrap();
    let owners = Shop::open_as(&server, "theirs_").await;
    server.act_as(stranger, instance);
    let own = Shop::open_as(&server, "own_").await;
    for operation in OPERATIONS {
        server.act_as(ROOT, "");
        let theirs = owners.valid(operation.name).await;
        server.act_as(stranger, instance);
        let valid = own.valid(operation.name).await;
        refused(&server, public, operation.name, &theirs, &NOT_FOUND).await;
        // The stranger may have made something of that name in the call before.
        let or_made = [&NOT_FOUND[..], &["AlreadyExisted"]].concat();
        for (name, value) in &theirs {
            if valid.iter().any(|(known, mine)| known == name && mine != value) {
                refused(&server, public, operation.name, &changed(&valid, &[(name, value)]), &or_made).await;
            }
        }
        // And what the owner's request named is still the owner's to use.
        server.act_as(ROOT, "");
        server.ok(operation.name, &theirs).await;
    }
}

#[tokio::test]
async fn another_account_reads_and_changes_nothing() {
    nothing_crosses(OTHER_ACCOUNT, "").await;
}

#[tokio::test]
async fn another_instance_of_the_same_account_reads_and_changes_nothing() {
    nothing_crosses(ROOT, "iot-second").await;
}

#[tokio::test]
async fn an_instance_is_its_accounts_only() {
    let server = TestServer::on_disk().await;
    let make = server.app.store.write::<_, StoreError, _>(Lane::Interactive, |tx| {
        let root = tx.account_find(ROOT_ACCOUNT)?.unwrap_or_default();
        tx.instance_insert(root, "iot-second", "second", START)
    });
    assert!(make.await.unwrap().is_some());
    server.act_as(OTHER_ACCOUNT, "");
    let shop = Shop::open(&server).await;
    for operation in OPERATIONS {
        let params = changed(&shop.valid(operation.name).await, &[("IotInstanceId", "iot-second")]);
        let before = server.dump();
        let (_, answer) = server.call(operation.name, &params).await;
        assert_eq!(answer["Code"], "iot.system.InstanceNotFound", "{}", operation.name);
        assert!(server.dump() == before, "{}", operation.name);
    }
}
