//! `docs/api/`: a page for each operation, an index, and the OpenAPI document, made of the table of operations, the
//! catalogue, the refusals that the tests try, and answers of a running server.
//!
//! The clock stands and chance repeats, so a page changes only when the API does.

use crate::enumeration::refused_values;
use crate::server::{HOST, ROOT, TestServer};
use crate::shop::{Pairs, Shop};
use http::Method;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;
use updraft_server::api::catalogue::{self, Entry, Parameter};
use updraft_server::api::error::Code;
use updraft_server::api::params::Params;
use updraft_server::api::sign::{V1Hash, v1_signature, v1_string_to_sign};
use updraft_server::api::{Operation, openapi};
use updraft_server::pretty;

const RENEW: &str = "cargo xtask describe";

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/api")
}

/// A call and its answer, as they went over the wire.
struct Example {
    params: Pairs,
    request: String,
    answer: String,
}

/// Calls an operation on a server of its own, so that no other call shows in the answer.
async fn example(action: &str, format: &str) -> Example {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    let params = shop.valid(action).await;
    let mut all: BTreeMap<String, String> = server.common(ROOT, action, format);
    all.extend(params.iter().cloned());
    let to_sign = v1_string_to_sign("POST", &Params::from_pairs(all.clone()));
    let signature = v1_signature(V1Hash::Sha1, ROOT.secret, &to_sign);
    let answer = server.send_signed(Method::POST, ROOT, all.clone()).await;
    assert_eq!(answer.status, 200, "{action}: {}", answer.body);
    assert!(answer.body.contains(if format == "JSON" { "\"Success\":true" } else { "<Success>true" }));
    all.insert("Signature".to_owned(), signature);
    let lines: Vec<String> = all.iter().map(|(name, value)| format!("{name}={}", escaped(value))).collect();
    let request = format!(
        "POST / HTTP/1.1\nHost: {HOST}\nContent-Type: application/x-www-form-urlencoded\n\n{}\n",
        lines.join("&\n")
    );
    Example { params, request, answer: without_drawn_keys(&answer.body) }
}

/// Leaves out what is within PEM texts: keys are drawn by a library that takes no dice of ours.
fn without_drawn_keys(answer: &str) -> String {
    let mut parts = answer.split("-----");
    let mut out = parts.next().unwrap_or_default().to_owned();
    let mut within = false;
    for part in parts {
        if part.starts_with("BEGIN ") || part.starts_with("END ") {
            within = part.starts_with("BEGIN ");
            let _ = write!(out, "-----{part}-----");
        } else if within {
            out.push('…');
        } else {
            out.push_str(part);
        }
    }
    out
}

fn escaped(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

fn cell(text: &str) -> String {
    let text = text.replace('|', "\\|");
    if text.is_empty() { "–".to_owned() } else { text }
}

fn parameter_row(operation: &Operation, parameter: &Parameter) -> String {
    let name = if parameter.is_list() {
        let wire =
            parameter.wire(1).into_iter().map(|wire| format!("`{}`", wire.name.replacen(".1", ".N", 1)));
        wire.collect::<Vec<_>>().join("<br>")
    } else {
        format!("`{}`", parameter.name)
    };
    let not_served = operation.not_served.iter().find(|(name, _)| *name == parameter.name);
    let (limits, about) = match not_served {
        Some((_, Some(harmless))) => {
            (format!("`{harmless}`"), "Other values are not served by this release.".to_owned())
        }
        Some((_, None)) => (String::new(), "Not served by this release: refused.".to_owned()),
        None => {
            let of_fields = parameter.field_limits.iter();
            let of_fields =
                of_fields.map(|(field, limits)| format!("{field}: {}", catalogue::in_words(limits)));
            let all = [catalogue::in_words(&parameter.limits)].into_iter().chain(of_fields);
            let all: Vec<String> = all.filter(|said| !said.is_empty()).collect();
            (all.join("<br>"), parameter.about().to_owned())
        }
    };
    let kind = parameter.kind.trim_start_matches("list<").trim_end_matches('>');
    let kind = if kind == "object" { "string" } else { kind };
    let required = if operation.required.contains(&parameter.name.as_str()) { "yes" } else { "" };
    let cells = [name, kind.to_owned(), required.to_owned(), cell(&limits), cell(&about)];
    format!("| {} |\n", cells.join(" | "))
}

fn fields(tree: &Value, path: &str, out: &mut String) {
    match tree {
        Value::Object(all) => {
            for (name, tree) in all.iter().filter(|(name, _)| !(path.is_empty() && is_common(name))) {
                fields(tree, &if path.is_empty() { name.clone() } else { format!("{path}.{name}") }, out);
            }
        }
        Value::Array(items) => fields(&items[0], &format!("{path}[]"), out),
        kind => {
            let _ = writeln!(out, "| `{path}` | {} |", kind.as_str().unwrap_or_default());
        }
    }
}

fn is_common(name: &str) -> bool {
    ["RequestId", "Success", "Code", "ErrorMessage"].contains(&name)
}

fn errors(operation: &Operation) -> String {
    let mut by_code: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for name in operation.required {
        by_code.entry(format!("Missing{name}")).or_default().insert((*name).to_owned());
    }
    for (_, name, _, code) in refused_values().filter(|row| row.0 == operation.name) {
        let name = name.split('.').next().unwrap_or_default();
        by_code.entry(code.to_owned()).or_default().insert(name.to_owned());
    }
    let mut out = String::new();
    for (code, names) in by_code {
        let known = Code::ALL.iter().find(|known| known.wire() == code);
        let (anchor, text) = match known {
            Some(known) => (code.clone(), known.text()),
            None if code.starts_with("Missing") => ("Missing{Parameter}".to_owned(), "It is mandatory."),
            None => ("Invalid{Parameter}".to_owned(), "Its value has a wrong type or form."),
        };
        let anchor: String =
            anchor.to_lowercase().chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
        let names: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
        let _ =
            writeln!(out, "| [`{code}`](../errors.md#{anchor}) | {} | {} |", names.join(", "), cell(text));
    }
    out
}

async fn page(operation: &Operation, entry: &Entry) -> String {
    let name = operation.name;
    let (json, xml) = (example(name, "JSON").await, example(name, "XML").await);
    let rows: String = entry.request.iter().map(|parameter| parameter_row(operation, parameter)).collect();
    let mut of_answer = String::new();
    fields(&entry.response, "", &mut of_answer);
    let of_answer = if of_answer.is_empty() {
        "It has only `RequestId` and `Success`.\n".to_owned()
    } else {
        format!(
            "Besides `RequestId` and `Success`; a field without a value is left out.\n\n| Field | Type |\n|---|---|\n{of_answer}"
        )
    };
    let refused = errors(operation);
    let refused = if refused.is_empty() {
        "Only [those of every operation](README.md#errors).\n".to_owned()
    } else {
        format!(
            "Besides [those of every operation](README.md#errors).\n\n| Code | For | Meaning |\n|---|---|---|\n{refused}"
        )
    };
    let args: Vec<String> = json.params.iter().map(|(name, value)| format!(" {name}='{value}'")).collect();
    let changes = if operation.changes {
        "It changes something, so each call leaves a line in the audit log.\n"
    } else {
        ""
    };
    let ours = if entry.ours {
        "It is an operation of Updraft: the platform has none for it, nor have its SDKs. Call it with `updraft api`, or signed \
         like any other.\n"
    } else {
        ""
    };
    format!(
        "# {name}\n\n{}\n{ours}At most {} calls a second of an account and its RAM users together.\n{changes}\n\
         ## Parameters\n\n| Name | Type | Required | Limits | Meaning |\n|---|---|---|---|---|\n{rows}\n\
         ## Answer\n\n{of_answer}\n## Errors\n\n{refused}\n\
         ## Example\n\n```\nupdraft api {name}{}\n```\n\nOn the wire, signed with version 1.0:\n\n\
         ```\n{}```\n\nThe answer in JSON:\n\n```json\n{}\n```\n\nThe answer in XML:\n\n```xml\n{}\n```\n",
        entry.about,
        operation.qps,
        args.concat(),
        json.request,
        pretty::json(&json.answer),
        pretty::xml(&xml.answer),
    )
}

fn index() -> String {
    let mut out = format!(
        "# The API, operation by operation\n\n\
         These pages are made by `{RENEW}`, their examples by a running server.\n\
         [openapi.json](openapi.json) is the same as an OpenAPI 3.1 document; a server answers it at `/openapi.json`.\n\
         [operations.json](operations.json) is what both are made of, besides the code.\n\
         [The compatibility page](../compatibility.md) tells of decisions where the platform's pages are silent.\n\
         Operations marked as ours are Updraft's: the platform's console does what they do.\n\n\
         ## Errors\n\n\
         Every operation may be refused before it runs (HTTP 4xx or 5xx: signature, time, nonce, quota, permission, a \
         missing or malformed parameter), and answers `iot.system.InstanceNotFound` for an unknown `IotInstanceId` and \
         `iot.common.ParameterNotSupported` for a parameter that this release does not serve.\n\
         [errors.md](../errors.md) has a section for each code.\n\n\
         ## Operations\n\n| Operation | What it does | Calls a second |\n|---|---|---|\n"
    );
    for (operation, entry) in catalogue::served() {
        let name = operation.name;
        let ours = if entry.ours { " Ours." } else { "" };
        let _ = writeln!(out, "| [{name}]({name}.md) | {}{ours} | {} |", cell(&entry.about), operation.qps);
    }
    out
}

/// Every generated file by its name.
async fn description() -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    all.insert("README.md".to_owned(), index());
    all.insert("openapi.json".to_owned(), openapi::text().to_owned());
    for (operation, entry) in catalogue::served() {
        all.insert(format!("{}.md", operation.name), page(operation, entry).await);
    }
    all
}

/// The pages and documents that the folder holds, by name.
fn committed() -> BTreeMap<String, String> {
    let files = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let generated = files.filter(|path| {
        let name = path.file_name().unwrap().to_string_lossy();
        name.ends_with(".md") || name == "openapi.json"
    });
    generated
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read_to_string(path).unwrap())
        })
        .collect()
}

#[tokio::test]
async fn the_description_is_fresh() {
    let made = description().await;
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        for name in committed().keys().filter(|name| !made.contains_key(*name)) {
            std::fs::remove_file(folder().join(name)).unwrap();
        }
        for (name, text) in &made {
            std::fs::write(folder().join(name), text).unwrap();
        }
        return;
    }
    // Until everything in the catalogue is served, the pages are renewed together and not with every operation.
    if catalogue::served().count() < catalogue::catalogue().operations.len() {
        return;
    }
    let found = committed();
    let names: BTreeSet<&String> = made.keys().chain(found.keys()).collect();
    let stale: Vec<_> = names.into_iter().filter(|name| made.get(*name) != found.get(*name)).collect();
    assert!(stale.is_empty(), "docs/api is stale, in {stale:?}: renew it with `{RENEW}` and commit it");
}
