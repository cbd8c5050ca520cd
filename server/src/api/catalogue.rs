//! What the platform's operations take and answer: `docs/api/operations.json`, read once.
//!
//! The table of operations says what this release does; the catalogue says what the API looks like. Descriptions,
//! pages and the help of `updraft api` are made of both.

use crate::api::{OPERATIONS, Operation};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// The catalogue.
#[derive(Deserialize)]
pub struct Catalogue {
    /// What parameters mean, by name.
    pub parameters: BTreeMap<String, String>,
    /// Every operation, also those that this release does not serve.
    pub operations: Vec<Entry>,
}

/// An operation.
#[derive(Deserialize)]
pub struct Entry {
    /// The name on the wire.
    pub name: String,
    /// What it does, in a sentence.
    pub about: String,
    /// Whether it is an operation of ours: the platform has none for it, nor have its SDKs.
    #[serde(default)]
    pub ours: bool,
    /// Its own parameters, by name; the common ones are not among them.
    pub request: Vec<Parameter>,
    /// The tree of the answer: types by name; a list has one item.
    pub response: Value,
    /// The answer's own fields that a refusal by the operation may have, too: what was wrong with which item.
    #[serde(default)]
    pub told_in_refusals: Vec<String>,
}

/// A parameter.
#[derive(Deserialize)]
pub struct Parameter {
    /// The name on the wire, without `.N`.
    pub name: String,
    /// `string`, `integer`, `long`, `boolean`, `list<string>` or `list<object>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The types of an item's fields, of a list of objects.
    #[serde(default)]
    pub fields: BTreeMap<String, String>,
    /// Limits in the words of JSON Schema; of a list those of its items too.
    #[serde(default)]
    pub limits: Map<String, Value>,
    /// Limits of an item's fields.
    #[serde(default)]
    pub field_limits: BTreeMap<String, Map<String, Value>>,
    /// What it means in this operation, if that is something of its own.
    about: Option<String>,
}

/// A name on the wire, with the type and the limits of its values.
pub struct Wire<'a> {
    /// Such as `CurrentPage`, `TaskId.1`, `Tag.1.Key`.
    pub name: String,
    /// `string`, `integer`, `long` or `boolean`.
    pub kind: &'a str,
    /// Limits in the words of JSON Schema.
    pub limits: Map<String, Value>,
}

static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| {
    // A fault of the file would be one of the build: the tests read it.
    serde_json::from_str(include_str!("../../../docs/api/operations.json"))
        .unwrap_or_else(|_| Catalogue { parameters: BTreeMap::new(), operations: Vec::new() })
});

/// The catalogue.
pub fn catalogue() -> &'static Catalogue {
    &CATALOGUE
}

/// Every operation that this release serves, by name, with its entry.
pub fn served() -> impl Iterator<Item = (&'static Operation, &'static Entry)> {
    let mut all: Vec<_> =
        OPERATIONS.iter().filter_map(|operation| Some((*operation, find(operation.name)?))).collect();
    all.sort_by_key(|(operation, _)| operation.name);
    all.into_iter()
}

/// The entry of this name.
pub fn find(name: &str) -> Option<&'static Entry> {
    CATALOGUE.operations.iter().find(|entry| entry.name == name)
}

impl Parameter {
    /// What it means.
    pub fn about(&self) -> &str {
        self.about
            .as_deref()
            .or_else(|| CATALOGUE.parameters.get(&self.name).map(String::as_str))
            .unwrap_or_default()
    }

    /// Whether it is a list: `Name.1`, `Name.2`, ….
    pub fn is_list(&self) -> bool {
        self.kind.starts_with("list<")
    }

    /// Most items that it may have, if that is limited.
    pub fn items_max(&self) -> Option<u64> {
        self.limits.get("maxItems").and_then(Value::as_u64)
    }

    /// The names that item `index` of it has on the wire; of what is no list, its one name.
    pub fn wire(&self, index: u64) -> Vec<Wire<'_>> {
        if !self.is_list() {
            return vec![Wire { name: self.name.clone(), kind: &self.kind, limits: self.limits.clone() }];
        }
        if self.fields.is_empty() {
            let of_items = |(name, _): &(&String, &Value)| !name.ends_with("Items");
            let limits = self.limits.iter().filter(of_items);
            let limits = limits.map(|(name, value)| (name.clone(), value.clone())).collect();
            return vec![Wire { name: format!("{}.{index}", self.name), kind: "string", limits }];
        }
        let wire = |(field, kind): (&String, &'static str)| Wire {
            name: format!("{}.{index}.{field}", self.name),
            kind,
            limits: self.field_limits.get(field).cloned().unwrap_or_default(),
        };
        self.fields.iter().map(|(field, kind)| wire((field, plain_kind(kind)))).collect()
    }
}

fn plain_kind(kind: &str) -> &'static str {
    match kind {
        "integer" => "integer",
        "long" => "long",
        "boolean" => "boolean",
        _ => "string",
    }
}

/// Limits as people read them: `1 to 100`, `one of 1, 2, 5`, `at most 64 characters`.
pub fn in_words(limits: &Map<String, Value>) -> String {
    let number = |name: &str| limits.get(name).map(Value::to_string);
    let shown = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut said = Vec::new();
    if let Some(values) = limits.get("enum").and_then(Value::as_array) {
        said.push(values.iter().map(|value| format!("`{}`", shown(value))).collect::<Vec<_>>().join(", "));
    }
    for (least, most, unit) in [
        ("minimum", "maximum", ""),
        ("minLength", "maxLength", " characters"),
        ("minItems", "maxItems", " items"),
    ] {
        match (number(least), number(most)) {
            (Some(least), Some(most)) => said.push(format!("{least} to {most}{unit}")),
            (Some(least), None) => said.push(format!("{least} or more{unit}")),
            (None, Some(most)) => said.push(format!("at most {most}{unit}")),
            (None, None) => {}
        }
    }
    if limits.get("uniqueItems").is_some() {
        said.push("each once".to_owned());
    }
    if let Some(pattern) = limits.get("pattern").and_then(Value::as_str) {
        said.push(format!("`{pattern}`"));
    }
    if let Some(default) = limits.get("default") {
        said.push(format!("default `{}`", shown(default)));
    }
    said.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalogue_reads_and_describes_every_parameter_and_every_served_operation() {
        assert_eq!(served().count(), OPERATIONS.len(), "docs/api/operations.json lacks an operation");
        for entry in &catalogue().operations {
            assert!(!entry.about.is_empty(), "{}", entry.name);
            for parameter in &entry.request {
                assert!(!parameter.about().is_empty(), "{} {}", entry.name, parameter.name);
                assert!(!parameter.wire(1).is_empty(), "{} {}", entry.name, parameter.name);
            }
        }
    }

    #[test]
    fn lists_have_numbered_names_and_limits_read_as_words() {
        let entry = find("CreateOTAStaticUpgradeJob").unwrap();
        let of = |name: &str| entry.request.iter().find(|parameter| parameter.name == name).unwrap();
        let names = |name: &str| of(name).wire(2).into_iter().map(|wire| wire.name).collect::<Vec<_>>();
        assert_eq!(names("TargetSelection"), ["TargetSelection"]);
        assert_eq!(names("SrcVersion"), ["SrcVersion.2"]);
        assert_eq!(names("Tag"), ["Tag.2.Key", "Tag.2.Value"]);
        assert!(of("TargetDeviceName").wire(1)[0].limits.is_empty(), "how many is not a limit of one");
        assert_eq!(in_words(&of("TargetDeviceName").limits), "at most 200 items; each once");
        assert_eq!(in_words(&of("MaximumPerMinute").limits), "10 to 10000; default `10000`");
        assert_eq!(in_words(&of("RetryCount").limits), "`1`, `2`, `5`");
    }
}
