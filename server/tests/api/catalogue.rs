//! `docs/api/operations.json`: what the platform's operations take and answer.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

static CATALOGUE: LazyLock<Value> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../../docs/api/operations.json")).expect("the catalogue is JSON")
});

/// A request parameter.
#[derive(Debug)]
pub struct Parameter {
    pub name: &'static str,
    pub kind: &'static str,
    pub required: bool,
    pub repeated: bool,
    fields: Vec<&'static str>,
}

impl Parameter {
    /// The name of a first value on the wire.
    pub fn wire(&self) -> String {
        match (self.repeated, self.fields.first()) {
            (false, _) => self.name.to_owned(),
            (true, None) => format!("{}.1", self.name),
            (true, Some(field)) => format!("{}.1.{field}", self.name),
        }
    }
}

/// An operation.
pub struct Entry {
    entry: &'static Value,
}

/// The names of all operations in the catalogue.
pub fn names() -> BTreeSet<&'static str> {
    operations().map(|entry| text(entry, "name")).collect()
}

/// The operation of this name.
pub fn find(name: &str) -> Entry {
    let entry = operations().find(|entry| entry["name"] == name);
    Entry { entry: entry.unwrap_or_else(|| panic!("docs/api/operations.json has no {name}")) }
}

fn operations() -> impl Iterator<Item = &'static Value> {
    CATALOGUE["operations"].as_array().into_iter().flatten()
}

fn text(value: &'static Value, name: &str) -> &'static str {
    value[name].as_str().unwrap_or_else(|| panic!("{name} is no text in {value}"))
}

impl Entry {
    pub fn qps(&self) -> u64 {
        self.entry["qps"].as_u64().expect("qps is a number")
    }

    pub fn xml_root(&self) -> &'static str {
        text(self.entry, "xml_root")
    }

    /// The parameters, with all that is said of them.
    pub fn request_as_written(&self) -> &'static Value {
        &self.entry["request"]
    }

    pub fn request(&self) -> Vec<Parameter> {
        let all = self.entry["request"].as_array().expect("request is a list");
        all.iter()
            .map(|parameter| Parameter {
                name: text(parameter, "name"),
                kind: text(parameter, "type"),
                required: parameter["required"] == true,
                repeated: parameter["repeated"] == true,
                fields: parameter["fields"]
                    .as_object()
                    .map_or_else(Vec::new, |fields| fields.keys().map(String::as_str).collect()),
            })
            .collect()
    }

    /// The tree of the answer: types by name; lists have one item.
    pub fn response(&self) -> &'static Value {
        &self.entry["response"]
    }

    /// Lists by their path, and whether they are wrapped in an object of their own.
    pub fn lists(&self) -> BTreeMap<&'static str, &'static str> {
        let all = self.entry["lists"].as_array().expect("lists is a list");
        all.iter().map(|list| (text(list, "path"), text(list, "shape"))).collect()
    }

    /// Checks an answer against the tree: each of its fields must be there, with its type. Notes the paths of
    /// the fields that it has, such as `Data.SimpleOTAJobInfo[].JobId`.
    pub fn check(&self, answer: &Value, seen: &mut BTreeSet<String>) {
        conform(answer, self.response(), "", seen);
    }

    /// The paths of all fields that the tree has; of lists and objects only their fields.
    pub fn fields(&self) -> BTreeSet<String> {
        let mut all = BTreeSet::new();
        leaves(self.response(), "", &mut all);
        all
    }
}

fn below(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn conform(found: &Value, wanted: &Value, path: &str, seen: &mut BTreeSet<String>) {
    let fits = match wanted {
        Value::Object(types) => {
            let fields = found.as_object().unwrap_or_else(|| panic!("{path} must be an object: {found}"));
            for (name, value) in fields {
                let path = below(path, name);
                let kind =
                    types.get(name).unwrap_or_else(|| panic!("the platform's answer has no field {path}"));
                conform(value, kind, &path, seen);
            }
            true
        }
        Value::Array(item) => {
            let items = found.as_array().unwrap_or_else(|| panic!("{path} must be a list: {found}"));
            for value in items {
                conform(value, &item[0], &format!("{path}[]"), seen);
            }
            true
        }
        kind => {
            seen.insert(path.to_owned());
            match kind.as_str() {
                Some("string") => found.is_string(),
                Some("boolean") => found.is_boolean(),
                Some("integer" | "long") => found.is_i64(),
                other => panic!("{path} has the unknown type {other:?}"),
            }
        }
    };
    assert!(fits, "{path} must be {wanted}: {found}");
}

fn leaves(tree: &Value, path: &str, all: &mut BTreeSet<String>) {
    match tree {
        Value::Object(fields) => {
            for (name, tree) in fields {
                leaves(tree, &below(path, name), all);
            }
        }
        Value::Array(item) => leaves(&item[0], &format!("{path}[]"), all),
        _ => {
            all.insert(path.to_owned());
        }
    }
}

#[test]
fn the_lists_are_where_the_tree_has_them() {
    for name in names() {
        let entry = find(name);
        let mut in_tree = BTreeMap::new();
        lists(entry.response(), "", &mut in_tree);
        let stated: BTreeMap<String, String> =
            entry.lists().iter().map(|(path, shape)| ((*path).to_owned(), (*shape).to_owned())).collect();
        assert_eq!(in_tree, stated, "{name}");
    }
}

/// A list is wrapped if it is the only field of its object.
fn lists(tree: &Value, path: &str, all: &mut BTreeMap<String, String>) {
    match tree {
        Value::Object(fields) => {
            for (name, tree) in fields {
                let path = below(path, name);
                if tree.is_array() {
                    let shape = if fields.len() == 1 { "wrapped" } else { "bare" };
                    all.insert(format!("{path}[]"), shape.to_owned());
                }
                lists(tree, &path, all);
            }
        }
        Value::Array(item) => lists(&item[0], &format!("{path}[]"), all),
        _ => {}
    }
}
