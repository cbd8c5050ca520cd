//! Answers: one tree, rendered as JSON or as XML.

use serde::ser::{Serialize, SerializeMap as _, Serializer};
use std::fmt::Write as _;
use updraft_core::time::Timestamp;

/// The format that a caller asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// JSON.
    Json,
    /// XML.
    Xml,
}

impl Format {
    /// The content type.
    pub fn content_type(self) -> &'static str {
        match self {
            // Tea SDKs recognise XML errors only under exactly this type.
            Self::Xml => "text/xml;charset=utf-8",
            Self::Json => "application/json;charset=utf-8",
        }
    }
}

/// A value in an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A boolean.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A text.
    Text(String),
    /// Named fields.
    Object(Object),
    /// A list as the platform nests it: `{"Item": […]}` in JSON, `<Item>…</Item><Item>…</Item>` in XML.
    List(&'static str, Vec<Node>),
    /// A list without a nest: `[…]` in JSON, the element itself repeated in XML.
    Bare(Vec<Node>),
}

/// Named fields, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Object(pub Vec<(&'static str, Node)>);

impl Object {
    /// No fields.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a field.
    #[must_use]
    pub fn with(mut self, name: &'static str, node: Node) -> Self {
        self.0.push((name, node));
        self
    }

    /// Adds a text.
    #[must_use]
    pub fn text(self, name: &'static str, value: impl Into<String>) -> Self {
        self.with(name, Node::Text(value.into()))
    }

    /// Adds a text, unless there is none.
    #[must_use]
    pub fn opt_text(self, name: &'static str, value: Option<impl Into<String>>) -> Self {
        match value {
            Some(value) => self.text(name, value),
            None => self,
        }
    }

    /// Adds an integer.
    #[must_use]
    pub fn int(self, name: &'static str, value: i64) -> Self {
        self.with(name, Node::Int(value))
    }

    /// Adds an integer, unless there is none.
    #[must_use]
    pub fn opt_int(self, name: &'static str, value: Option<i64>) -> Self {
        match value {
            Some(value) => self.int(name, value),
            None => self,
        }
    }

    /// Adds a boolean.
    #[must_use]
    pub fn flag(self, name: &'static str, value: bool) -> Self {
        self.with(name, Node::Bool(value))
    }

    /// Adds a moment as `2019-12-28T02:43:10.000Z`.
    #[must_use]
    pub fn utc(self, name: &'static str, at: Timestamp) -> Self {
        self.text(name, utc(at))
    }

    /// Adds a moment, unless there is none.
    #[must_use]
    pub fn opt_utc(self, name: &'static str, at: Option<Timestamp>) -> Self {
        match at {
            Some(at) => self.utc(name, at),
            None => self,
        }
    }

    /// Adds fields one level down.
    #[must_use]
    pub fn object(self, name: &'static str, object: Object) -> Self {
        self.with(name, Node::Object(object))
    }

    /// Adds a list whose items are called `item`.
    #[must_use]
    pub fn list(self, name: &'static str, item: &'static str, nodes: Vec<Node>) -> Self {
        self.with(name, Node::List(item, nodes))
    }

    /// Renders the answer; `root` is the XML document's element.
    pub fn render(&self, format: Format, root: &str) -> Vec<u8> {
        match format {
            Format::Json => serde_json::to_vec(self).unwrap_or_default(),
            Format::Xml => {
                let mut out = String::with_capacity(1024);
                out.push_str("<?xml version='1.0' encoding='UTF-8'?>");
                element(&mut out, root, |out| self.0.iter().for_each(|(name, node)| xml(out, name, node)));
                out.into_bytes()
            }
        }
    }
}

fn element(out: &mut String, name: &str, inner: impl FnOnce(&mut String)) {
    for part in ["<", name, ">"] {
        out.push_str(part);
    }
    inner(out);
    for part in ["</", name, ">"] {
        out.push_str(part);
    }
}

fn xml(out: &mut String, name: &str, node: &Node) {
    if let Node::Bare(nodes) = node {
        return nodes.iter().for_each(|node| xml(out, name, node));
    }
    element(out, name, |out| match node {
        Node::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Node::Int(value) => {
            let _ = write!(out, "{value}");
        }
        Node::Text(value) => out.push_str(&quick_xml::escape::escape(xml_text(value).as_ref())),
        Node::Object(object) => object.0.iter().for_each(|(name, node)| xml(out, name, node)),
        Node::List(item, nodes) => nodes.iter().for_each(|node| xml(out, item, node)),
        Node::Bare(_) => {}
    });
}

/// XML 1.0 has no way to write most control characters; they become U+FFFD.
fn xml_text(text: &str) -> std::borrow::Cow<'_, str> {
    let allowed = |c: char| matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..);
    if text.chars().all(allowed) {
        return text.into();
    }
    text.chars().map(|c| if allowed(c) { c } else { '\u{FFFD}' }).collect::<String>().into()
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Int(value) => serializer.serialize_i64(*value),
            Self::Text(value) => serializer.serialize_str(value),
            Self::Object(object) => object.serialize(serializer),
            Self::Bare(nodes) => nodes.serialize(serializer),
            Self::List(item, nodes) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry(item, nodes)?;
                map.end()
            }
        }
    }
}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, node) in &self.0 {
            map.serialize_entry(name, node)?;
        }
        map.end()
    }
}

/// A moment as the `Utc…` fields show it: `2019-12-28T02:43:10.000Z`.
pub fn utc(at: Timestamp) -> String {
    const PRINTER: jiff::fmt::temporal::DateTimePrinter =
        jiff::fmt::temporal::DateTimePrinter::new().precision(Some(3));
    jiff::Timestamp::from_millisecond(at.0)
        .map_or_else(|_| String::new(), |at| PRINTER.timestamp_to_string(&at))
}

/// A moment as the `Gmt…` fields show it: `Wed, 20-Feb-2019 02:16:09 GMT`.
pub fn gmt(at: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(at.0)
        .map_or_else(|_| String::new(), |at| at.strftime("%a, %d-%b-%Y %H:%M:%S GMT").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Object {
        Object::new()
            .flag("Success", true)
            .list("Data", "Item", vec![Node::Object(Object::new().text("Key", "a<b&\"c\"").int("N", -3))])
            .list("Empty", "Item", Vec::new())
            .with("Bare", Node::Bare(vec![Node::Int(1), Node::Object(Object::new().int("N", 2))]))
            .with("Nothing", Node::Bare(Vec::new()))
    }

    #[test]
    fn one_tree_renders_both_ways() {
        let json = String::from_utf8(sample().render(Format::Json, "R")).unwrap();
        assert_eq!(
            json,
            r#"{"Success":true,"Data":{"Item":[{"Key":"a<b&\"c\"","N":-3}]},"Empty":{"Item":[]},"Bare":[1,{"N":2}],"Nothing":[]}"#
        );
        let xml = String::from_utf8(sample().render(Format::Xml, "R")).unwrap();
        assert_eq!(
            xml,
            "<?xml version='1.0' encoding='UTF-8'?><R><Success>true</Success><Data><Item>\
             <Key>a&lt;b&amp;&quot;c&quot;</Key><N>-3</N></Item></Data><Empty></Empty>\
             <Bare>1</Bare><Bare><N>2</N></Bare></R>"
        );
    }

    #[test]
    fn non_ascii_goes_out_raw() {
        let json = Object::new().text("Name", "路灯").render(Format::Json, "R");
        assert_eq!(String::from_utf8(json).unwrap(), r#"{"Name":"路灯"}"#);
    }

    #[test]
    fn times_have_milliseconds() {
        assert_eq!(utc(Timestamp(1_577_500_990_000)), "2019-12-28T02:43:10.000Z");
        assert_eq!(utc(Timestamp(1_577_500_990_007)), "2019-12-28T02:43:10.007Z");
        assert_eq!(gmt(Timestamp(1_550_628_969_000)), "Wed, 20-Feb-2019 02:16:09 GMT");
    }

    proptest! {
        #[test]
        fn any_text_makes_well_formed_xml(text in any::<String>()) {
            let xml = Object::new().text("T", text).render(Format::Xml, "R");
            let mut reader = quick_xml::Reader::from_reader(xml.as_slice());
            let mut buffer = Vec::new();
            loop {
                match reader.read_event_into(&mut buffer) {
                    Ok(quick_xml::events::Event::Eof) => break,
                    Ok(quick_xml::events::Event::Text(text)) => {
                        prop_assert!(text.as_bytes().iter().all(|byte| *byte >= 0x20 || matches!(byte, 9 | 10 | 13)));
                    }
                    Ok(_) => {}
                    Err(error) => prop_assert!(false, "{error}"),
                }
                buffer.clear();
            }
        }
    }
}
