//! The expression of a dynamic group: which devices are in it.
//!
//! ```text
//! expression  = conjunction { "or" conjunction }
//! conjunction = term { "and" term }
//! term        = "not" term | "(" expression ")" | condition
//! condition   = field ( "=" | "!=" | "<>" | "<" | "<=" | ">" | ">=" ) text
//!             | field [ "not" ] "in" "(" text { "," text } ")"
//!             | field [ "not" ] "like" text
//!             | "tag.tag_name" "=" text [ "and" condition of "tag.tag_value" ]
//!             | "ota_module.name" "=" text [ "and" condition of "ota_module.version" ]
//! field       = "product_key" | "name" | "device_name" | "status" | "version" | "version." module
//!             | "tag." key | "tag." text
//! text        = '…' | "…", with a quote inside of it doubled
//! ```
//!
//! What a device does not have equals nothing: `=`, `in`, `like` and the orders are false for it, and `!=`,
//! `not in` and `not like`, which say the opposite, are true.

use crate::device::DEFAULT_MODULE;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

pub use super::parse::Unreadable;

/// What is known of a device.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// The key of its product.
    pub product_key: String,
    /// Its name.
    pub name: String,
    /// The name of its status: one of [`STATUSES`].
    pub status: &'static str,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// The versions that it last reported, by module.
    pub versions: BTreeMap<String, String>,
}

/// What `status` may be compared with.
pub const STATUSES: [&str; 4] = ["ONLINE", "OFFLINE", "UNACTIVE", "DISABLE"];

/// A device's property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    /// `product_key`
    ProductKey,
    /// `name`, `device_name`
    Name,
    /// `status`
    Status,
    /// `version.MODULE`; without a module: that of `default`.
    Version(String),
    /// `tag.KEY`
    Tag(String),
}

/// What is asked of a property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Test {
    /// That it is this text.
    Equal(String),
    /// That it is less than this text, as [`order`] has it.
    Less(String),
    /// That it is more than this text.
    More(String),
    /// That it is one of these texts.
    In(Vec<String>),
    /// That it looks like this: `%` stands for any characters, also none.
    Like(String),
    /// That the device has it.
    Present,
}

/// An expression that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expression {
    /// All of these, two at least.
    All(Vec<Expression>),
    /// Any of these, two at least.
    Any(Vec<Expression>),
    /// Not this.
    Not(Box<Expression>),
    /// A condition.
    Is(Field, Test),
    /// The opposite of a condition, written with its own operator: `!=`, `<=`, `>=`, `not in`, `not like`. For
    /// `<=` and `>=` the device must have the property all the same.
    IsNot(Field, Test),
}

impl Expression {
    /// Reads an expression; an error says where, and what was expected there.
    pub fn parse(text: &str) -> Result<Self, Unreadable> {
        super::parse::parse(text)
    }

    /// Whether a device is in the group.
    pub fn matches(&self, facts: &Facts) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.matches(facts)),
            Self::Any(parts) => parts.iter().any(|part| part.matches(facts)),
            Self::Not(part) => !part.matches(facts),
            Self::Is(field, test) => field.of(facts).is_some_and(|value| test.holds(value)),
            Self::IsNot(field, test) => match field.of(facts) {
                Some(value) => !test.holds(value),
                None => !matches!(test, Test::Less(_) | Test::More(_)),
            },
        }
    }

    /// Whether a device's presence matters.
    pub fn asks_status(&self) -> bool {
        self.any_field(&|field| *field == Field::Status)
    }

    /// Whether a device's versions matter.
    pub fn asks_version(&self) -> bool {
        self.any_field(&|field| matches!(field, Field::Version(_)))
    }

    fn any_field(&self, is_it: &impl Fn(&Field) -> bool) -> bool {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().any(|part| part.any_field(is_it)),
            Self::Not(part) => part.any_field(is_it),
            Self::Is(field, _) | Self::IsNot(field, _) => is_it(field),
        }
    }
}

impl Field {
    fn of<'a>(&self, facts: &'a Facts) -> Option<&'a str> {
        match self {
            Self::ProductKey => Some(&facts.product_key),
            Self::Name => Some(&facts.name),
            Self::Status => Some(facts.status),
            Self::Version(module) => facts.versions.get(module).map(String::as_str),
            Self::Tag(key) => facts.tags.get(key).map(String::as_str),
        }
    }
}

impl Test {
    fn holds(&self, value: &str) -> bool {
        match self {
            Self::Equal(text) => value == text,
            Self::Less(text) => order(value, text) == Ordering::Less,
            Self::More(text) => order(value, text) == Ordering::Greater,
            Self::In(texts) => texts.iter().any(|text| value == text),
            Self::Like(pattern) => like(value, pattern),
            Self::Present => true,
        }
    }
}

/// The order of texts, in which runs of digits count as numbers: `1.9` comes before `1.10`.
pub fn order(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        let (Some(first), Some(second)) = (a.first(), b.first()) else { return a.len().cmp(&b.len()) };
        if first.is_ascii_digit() && second.is_ascii_digit() {
            let (number, rest_of_a) = digits(a);
            let (other, rest_of_b) = digits(b);
            let by_number = number.len().cmp(&other.len()).then_with(|| number.cmp(other));
            if by_number != Ordering::Equal {
                return by_number;
            }
            (a, b) = (rest_of_a, rest_of_b);
        } else if first == second {
            (a, b) = (&a[1..], &b[1..]);
        } else {
            return first.cmp(second);
        }
    }
}

/// The digits that a text begins with, without leading zeros, and what follows them.
fn digits(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    let zeros = number.iter().position(|byte| *byte != b'0').unwrap_or(number.len());
    (&number[zeros..], rest)
}

/// Whether a text looks like a pattern, in which `%` stands for any characters.
fn like(text: &str, pattern: &str) -> bool {
    let mut parts = pattern.split('%');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    // Without `%` the pattern is the whole text.
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        // The earliest place leaves the most for what follows.
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All(parts) => list(f, " and ", parts, |part| matches!(part, Self::All(_) | Self::Any(_))),
            Self::Any(parts) => list(f, " or ", parts, |part| matches!(part, Self::Any(_))),
            Self::Not(part) if matches!(**part, Self::All(_) | Self::Any(_)) => write!(f, "not ({part})"),
            Self::Not(part) => write!(f, "not {part}"),
            Self::Is(Field::Tag(key), Test::Present) => write!(f, "tag.tag_name = {}", Quoted(key)),
            Self::Is(Field::Version(module), Test::Present) => {
                write!(f, "ota_module.name = {}", Quoted(module))
            }
            Self::Is(field, test) => condition(f, field, test, ["=", "<", ">", "in", "like"]),
            Self::IsNot(field, test) => condition(f, field, test, ["!=", ">=", "<=", "not in", "not like"]),
        }
    }
}

fn list(
    f: &mut fmt::Formatter<'_>,
    between: &str,
    parts: &[Expression],
    enclosed: fn(&Expression) -> bool,
) -> fmt::Result {
    for (at, part) in parts.iter().enumerate() {
        if at > 0 {
            f.write_str(between)?;
        }
        if enclosed(part) {
            write!(f, "({part})")?;
        } else {
            write!(f, "{part}")?;
        }
    }
    Ok(())
}

fn condition(
    f: &mut fmt::Formatter<'_>,
    field: &Field,
    test: &Test,
    [equal, less, more, within, like]: [&str; 5],
) -> fmt::Result {
    match test {
        Test::Equal(text) => write!(f, "{field} {equal} {}", Quoted(text)),
        Test::Less(text) => write!(f, "{field} {less} {}", Quoted(text)),
        Test::More(text) => write!(f, "{field} {more} {}", Quoted(text)),
        Test::Like(text) => write!(f, "{field} {like} {}", Quoted(text)),
        Test::In(texts) => {
            write!(f, "{field} {within} (")?;
            for (at, text) in texts.iter().enumerate() {
                write!(f, "{}{}", if at > 0 { ", " } else { "" }, Quoted(text))?;
            }
            f.write_str(")")
        }
        // Written by the caller: it has no operator.
        Test::Present => Ok(()),
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ProductKey => f.write_str("product_key"),
            Self::Name => f.write_str("name"),
            Self::Status => f.write_str("status"),
            Self::Version(module) if module == DEFAULT_MODULE => f.write_str("version"),
            Self::Version(module) => write!(f, "version.{}", Key(module)),
            Self::Tag(key) => write!(f, "tag.{}", Key(key)),
        }
    }
}

/// A text in quotes.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}'", self.0.replace('\'', "''"))
    }
}

/// What follows `tag.` or `version.`: in quotes, if it must be.
struct Key<'a>(&'a str);

impl fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = !self.0.is_empty()
            && self.0.chars().all(super::parse::in_word)
            && !matches!(self.0, "tag_name" | "tag_value");
        if plain { f.write_str(self.0) } else { Quoted(self.0).fmt(f) }
    }
}
