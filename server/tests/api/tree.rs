//! One shape for both formats, so that an XML answer can be compared with a JSON answer.

use quick_xml::Reader;
use quick_xml::events::Event;
use serde_json::Value;

/// A field: its name, and its text or its fields. A list is its items, one after another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    pub name: String,
    pub text: String,
    pub fields: Vec<Field>,
}

impl Field {
    fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), text: String::new(), fields: Vec::new() }
    }

    /// The first field along a path such as `Data/JobId`.
    pub fn at(&self, path: &str) -> Option<&Self> {
        let (name, rest) = path.split_once('/').unwrap_or((path, ""));
        let found = self.fields.iter().find(|field| field.name == name)?;
        if rest.is_empty() { Some(found) } else { found.at(rest) }
    }

    /// The text at a path.
    pub fn text(&self, path: &str) -> &str {
        &self.at(path).unwrap_or_else(|| panic!("there is no {path} in {self:?}")).text
    }
}

/// A JSON answer under the name that its XML document would have.
pub fn from_json(root: &str, value: &Value) -> Field {
    let mut field = Field::new(root);
    fill(&mut field, value);
    field
}

fn fill(field: &mut Field, value: &Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::Array(items) => {
                        field.fields.extend(items.iter().map(|item| from_json(name, item)));
                    }
                    value => field.fields.push(from_json(name, value)),
                }
            }
        }
        Value::String(text) => field.text.clone_from(text),
        Value::Bool(_) | Value::Number(_) => field.text = value.to_string(),
        Value::Null | Value::Array(_) => panic!("{} must not be {value}", field.name),
    }
    // JSON objects have no order.
    field.fields.sort_by(|one, other| one.name.cmp(&other.name));
}

/// An XML answer: elements without attributes, and texts.
pub fn from_xml(text: &str) -> Field {
    let rest = text.strip_prefix("<?xml version='1.0' encoding='UTF-8'?>").expect("an XML declaration");
    let mut reader = Reader::from_str(rest);
    let mut open = vec![Field::new("")];
    loop {
        match reader.read_event().unwrap_or_else(|error| panic!("{error} in {text}")) {
            Event::Start(start) => {
                assert_eq!(start.attributes().count(), 0, "attributes in {text}");
                open.push(Field::new(start.name().as_ref()));
            }
            Event::End(_) => {
                let mut done = open.pop().unwrap();
                assert!(done.text.is_empty() || done.fields.is_empty(), "text beside elements in {text}");
                done.fields.sort_by(|one, other| one.name.cmp(&other.name));
                open.last_mut().unwrap().fields.push(done);
            }
            Event::Text(piece) => open.last_mut().unwrap().text += &piece,
            Event::GeneralRef(entity) => {
                let escaped = format!("&{};", &*entity);
                open.last_mut().unwrap().text += &quick_xml::escape::unescape(&escaped).unwrap();
            }
            Event::Eof => break,
            other => panic!("{other:?} in {text}"),
        }
    }
    let document = open.pop().unwrap();
    assert!(open.is_empty() && document.text.is_empty() && document.fields.len() == 1, "{text}");
    document.fields.into_iter().next().unwrap()
}
