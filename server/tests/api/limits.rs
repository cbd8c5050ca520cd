//! Every limit that the description states refuses: the catalogue's limits are tried just beyond, one by one, on
//! calls that are good but for them.

use crate::server::{ROOT, TestServer};
use crate::shop::{Pairs, Shop, changed};
use serde_json::Value;
use std::collections::BTreeSet;
use updraft_server::api::catalogue::{self, Parameter, Wire};

/// Values just beyond the limits of one value, with the limit's name.
fn beyond(wire: &Wire<'_>) -> Vec<(&'static str, String)> {
    let mut bad = Vec::new();
    match wire.kind {
        "integer" | "long" => bad.extend([("type", "1.5".to_owned()), ("type", "9".repeat(20))]),
        "boolean" => bad.push(("type", "perhaps".to_owned())),
        _ => {}
    }
    let number = |name: &str| wire.limits.get(name).and_then(Value::as_i64);
    let length = |name: &str| number(name).and_then(|length| usize::try_from(length).ok());
    bad.extend(number("minimum").map(|least| ("minimum", (least - 1).to_string())));
    bad.extend(number("maximum").map(|most| ("maximum", (most + 1).to_string())));
    bad.extend(length("maxLength").map(|most| ("maxLength", "x".repeat(most + 1))));
    // An empty value is an absent one.
    bad.extend(
        length("minLength").filter(|least| *least > 1).map(|least| ("minLength", "x".repeat(least - 1))),
    );
    bad.extend(wire.limits.get("pattern").map(|_| ("pattern", "a b".to_owned())));
    if let Some(values) = wire.limits.get("enum").and_then(Value::as_array) {
        let highest = values.iter().filter_map(Value::as_i64).max();
        bad.push(("enum", highest.map_or_else(|| "ANOTHER".to_owned(), |highest| (highest + 1).to_string())));
    }
    bad
}

/// Any value of a type.
fn some(kind: &str) -> &'static str {
    if kind == "string" { "item" } else { "1" }
}

/// Lists just beyond the limits of a list, with the limit's name; items are made like the first of `valid`.
fn lists_beyond(parameter: &Parameter, valid: &Pairs) -> Vec<(&'static str, Pairs)> {
    let item = |index: u64, distinct: bool| -> Pairs {
        let first = parameter.wire(1).into_iter().map(|wire| wire.name);
        let like =
            |name: &String| valid.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        let value = |name: String| like(&name).unwrap_or_else(|| "item".to_owned());
        let tail = if distinct && index > 1 { index.to_string() } else { String::new() };
        let names = parameter.wire(index).into_iter().map(|wire| wire.name);
        names.zip(first).map(|(name, first)| (name, value(first) + &tail)).collect()
    };
    let mut bad = Vec::new();
    if let Some(most) = parameter.items_max() {
        bad.push(("maxItems", (1..=most + 1).flat_map(|index| item(index, true)).collect()));
    }
    if parameter.limits.contains_key("uniqueItems") {
        bad.push(("uniqueItems", (1..=2).flat_map(|index| item(index, false)).collect()));
    }
    bad
}

/// Other parameters without which a limit is not looked at, because the parameter is refused before; "" takes one out.
const BESIDE: &[(&str, &[(&str, &str)])] = &[
    ("GrayPercent", &[("TargetSelection", "GRAY"), ("TargetDeviceName.1", "")]),
    ("RetryCount", &[("RetryInterval", "0")]),
    ("RetryInterval", &[("RetryCount", "1")]),
    ("MultiFiles", &[("FirmwareUrl", "")]),
    ("SrcVersion", &[("TargetSelection", "ALL"), ("TargetDeviceName.1", "")]),
];

/// A call with some changes, among others that they need.
fn call(parameter: &Parameter, valid: &Pairs, changes: &[(String, String)]) -> Pairs {
    let beside =
        BESIDE.iter().find(|(name, _)| *name == parameter.name).map_or(&[][..], |(_, beside)| beside);
    let base = changed(valid, beside);
    let base: Pairs = base.into_iter().filter(|(_, value)| !value.is_empty()).collect();
    // An object's other fields, so that it is whole.
    let named = |name: &String| base.iter().chain(changes).any(|(known, _)| known == name);
    let fields = parameter.wire(1).into_iter().filter(|wire| parameter.is_list() && !named(&wire.name));
    let fields: Vec<(String, &str)> = fields.map(|wire| (wire.name, some(wire.kind))).collect();
    let mut all: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    all.extend(changes.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    changed(&base, &all)
}

fn calls_beyond(parameter: &Parameter, valid: &Pairs) -> Vec<(&'static str, Pairs)> {
    let one = parameter.wire(1).into_iter().flat_map(|wire| {
        let bad = beyond(&wire);
        bad.into_iter().map(move |(limit, value)| (limit, vec![(wire.name.clone(), value)]))
    });
    let changes = one.chain(lists_beyond(parameter, valid));
    changes.map(|(limit, changes)| (limit, call(parameter, valid, &changes))).collect()
}

/// Values at the limits of one value: each must be good.
fn at(wire: &Wire<'_>) -> Vec<String> {
    let limit = |name: &str| wire.limits.get(name);
    let shown = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut good: Vec<String> =
        ["minimum", "maximum", "default"].into_iter().filter_map(limit).map(shown).collect();
    good.extend(limit("enum").and_then(Value::as_array).into_iter().flatten().map(shown));
    let longest = limit("maxLength").and_then(Value::as_u64).and_then(|length| usize::try_from(length).ok());
    good.extend(longest.map(|length| "x".repeat(length)));
    good
}

/// Refusals at a limit, although the value is within it.
const MORE_TO_IT: [(&str, &str, &str); 7] = [
    ("CreateDeviceDynamicGroup", "DynamicGroupExpression", "it must be an expression"),
    ("CreateOTAFirmware", "ModuleName", "it must exist"),
    ("CreateOTAFirmware", "FirmwareSize", "it must be that of the file"),
    ("CreateOTAStaticUpgradeJob", "ScheduleTime", "it must lie ahead"),
    ("CreateOTAStaticUpgradeJob", "ScheduleFinishTime", "it must lie ahead"),
    ("PlanOTAJob", "ScheduleTime", "it must lie ahead"),
    ("PlanOTAJob", "ScheduleFinishTime", "it must lie ahead"),
];

#[tokio::test]
async fn what_is_just_beyond_a_described_limit_is_refused_and_changes_nothing() {
    let server = TestServer::on_disk().await;
    let shop = Shop::open(&server).await;
    let mut wrong = Vec::new();
    for (operation, entry) in catalogue::served() {
        let valid = shop.valid(operation.name).await;
        let before = server.dump();
        for parameter in &entry.request {
            for (limit, params) in calls_beyond(parameter, &valid) {
                let code = server.call_as(ROOT, "JSON", operation.name, &params).await.code();
                // A module that is named wrongly does not exist.
                let other = code.contains("NotFound") || code.contains("NotExisted");
                if code.is_empty() || (other && parameter.name != "ModuleName") {
                    wrong.push(format!("{} {}, {limit}: {code}", operation.name, parameter.name));
                }
            }
        }
        if server.dump() != before {
            wrong.push(format!("{} changed the database", operation.name));
        }
    }
    assert!(
        wrong.is_empty(),
        "limits of docs/api/operations.json that refuse nothing:\n{}",
        wrong.join("\n")
    );
}

#[tokio::test]
async fn what_is_at_a_described_limit_is_not_refused_for_it() {
    let server = TestServer::with(updraft_store::Location::Inline, |config| {
        config.quota_scale = 0.0;
        // Each try makes one.
        config.dynamic_group_max = 1_000;
    })
    .await;
    let shop = Shop::open(&server).await;
    let mut wrong = Vec::new();
    for (operation, entry) in catalogue::served() {
        let excused = |name: &str| {
            let not_served = operation.not_served.iter().any(|(known, _)| *known == name);
            not_served || MORE_TO_IT.iter().any(|row| (row.0, row.1) == (operation.name, name))
        };
        for parameter in entry.request.iter().filter(|parameter| !excused(&parameter.name)) {
            for wire in parameter.wire(1) {
                let mut refusals = BTreeSet::new();
                for (_, value) in beyond(&wire) {
                    let valid = shop.valid(operation.name).await;
                    let params = call(parameter, &valid, &[(wire.name.clone(), value)]);
                    refusals.insert(server.call_as(ROOT, "JSON", operation.name, &params).await.code());
                }
                for value in at(&wire) {
                    let valid = shop.valid(operation.name).await;
                    let params = call(parameter, &valid, &[(wire.name.clone(), value.clone())]);
                    let answer = server.call_as(ROOT, "JSON", operation.name, &params).await;
                    if !answer.code().is_empty() && refusals.contains(&answer.code()) {
                        wrong.push(format!("{} {}={value}: {}", operation.name, wire.name, answer.body));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "values within the limits of docs/api/operations.json:\n{}", wrong.join("\n"));
}
