//! Parameters: from query and body to one sorted list, and from the list to typed values.

use crate::api::error::ApiError;
use percent_encoding::percent_decode;
use std::collections::BTreeMap;

/// All parameters of a call, by name.
///
/// Query and form body are merged; of a name in both, the body's value counts, as the official SDKs sign it.
/// A name given twice in one place is refused, and so are texts that are not UTF-8 or hold U+0000.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Params(BTreeMap<String, String>);

impl Params {
    /// Reads a query string and a form body.
    pub fn read(query: &str, body: &[u8]) -> Result<Self, ApiError> {
        let (params, spoilt) = Self::read_leniently(query, body);
        spoilt.map_or(Ok(params), Err)
    }

    /// Reads what can be read, and says what cannot: a refusal should still be in the format asked for.
    pub fn read_leniently(query: &str, body: &[u8]) -> (Self, Option<ApiError>) {
        let mut spoilt = None;
        let mut merged = pairs(query.as_bytes(), &mut spoilt);
        merged.append(&mut pairs(body, &mut spoilt));
        (Self(merged), spoilt)
    }

    /// Parameters from pairs, for tests and clients of our own.
    pub fn from_pairs<K: Into<String>, V: Into<String>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }

    /// Every parameter in name order, as it was sent.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// A value as it was sent, also if empty.
    pub fn raw(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// An optional text; an empty one counts as absent.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.raw(name).filter(|value| !value.is_empty())
    }

    /// A mandatory text.
    pub fn need(&self, name: &str) -> Result<&str, ApiError> {
        self.text(name).ok_or_else(|| ApiError::missing(name))
    }

    /// An optional integer.
    pub fn int(&self, name: &str) -> Result<Option<i64>, ApiError> {
        self.text(name)
            .map(|text| text.parse().map_err(|_| ApiError::invalid(name, "It must be a whole number.")))
            .transpose()
    }

    /// A mandatory integer.
    pub fn need_int(&self, name: &str) -> Result<i64, ApiError> {
        self.int(name)?.ok_or_else(|| ApiError::missing(name))
    }

    /// An optional boolean, in any capitalisation (the Python SDKs send `True`).
    pub fn flag(&self, name: &str) -> Result<Option<bool>, ApiError> {
        self.text(name)
            .map(|text| {
                if text.eq_ignore_ascii_case("true") {
                    Ok(true)
                } else if text.eq_ignore_ascii_case("false") {
                    Ok(false)
                } else {
                    Err(ApiError::invalid(name, "It must be true or false."))
                }
            })
            .transpose()
    }

    /// A repeated parameter, `Name.1`, `Name.2`, …: at most `max`, without gaps.
    pub fn list(&self, name: &str, max: usize) -> Result<Vec<&str>, ApiError> {
        let mut found = BTreeMap::new();
        for (index, rest, value) in self.indexed(name)? {
            if !rest.is_empty() {
                return Err(ApiError::invalid(name, "Its items are plain values."));
            }
            found.insert(index, value);
        }
        without_gaps(name, max, found.keys().copied())?;
        Ok(found.into_values().collect())
    }

    /// A repeated structure, `Name.1.Field`, …: at most `max`, without gaps, fields by name.
    pub fn structs(&self, name: &str, max: usize) -> Result<Vec<BTreeMap<&str, &str>>, ApiError> {
        let mut found: BTreeMap<usize, BTreeMap<&str, &str>> = BTreeMap::new();
        for (index, rest, value) in self.indexed(name)? {
            if rest.is_empty() {
                return Err(ApiError::invalid(name, "Its items are structures."));
            }
            found.entry(index).or_default().insert(rest, value);
        }
        without_gaps(name, max, found.keys().copied())?;
        Ok(found.into_values().collect())
    }

    /// Whether `name` or `name.…` was given with a value.
    pub fn has(&self, name: &str) -> bool {
        self.text(name).is_some() || self.below(name).any(|(_, value)| !value.is_empty())
    }

    fn below<'a>(&'a self, name: &str) -> impl Iterator<Item = (&'a str, &'a str)> {
        let prefix = format!("{name}.");
        self.0
            .range(prefix.clone()..)
            .take_while(move |(found, _)| found.starts_with(&prefix))
            .map(|(found, value)| (found.as_str(), value.as_str()))
    }

    /// Index, remaining name and value of each `Name.N…`; indices count from 1, without leading zeros.
    fn indexed(&self, name: &str) -> Result<Vec<(usize, &str, &str)>, ApiError> {
        self.below(name)
            .map(|(found, value)| {
                let tail = &found[name.len() + 1..];
                let (index, rest) = tail.split_once('.').unwrap_or((tail, ""));
                let number: usize = index
                    .parse()
                    .ok()
                    .filter(|number| *number >= 1 && !index.starts_with(['0', '+']))
                    .ok_or_else(|| ApiError::invalid(name, "Its items are numbered from 1."))?;
                Ok((number, rest, value))
            })
            .collect()
    }
}

fn without_gaps(name: &str, max: usize, indices: impl Iterator<Item = usize>) -> Result<(), ApiError> {
    for (expected, index) in indices.enumerate() {
        if index != expected + 1 {
            return Err(ApiError::invalid(name, &format!("Item {} is missing.", expected + 1)));
        }
        if index > max {
            return Err(ApiError::invalid(name, &format!("At most {max} items are allowed.")));
        }
    }
    Ok(())
}

fn pairs(text: &[u8], spoilt: &mut Option<ApiError>) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for pair in text.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
        let (name, value) = match pair.iter().position(|byte| *byte == b'=') {
            Some(at) => (&pair[..at], &pair[at + 1..]),
            None => (pair, &[][..]),
        };
        let Some(name) = decode(name) else {
            *spoilt = Some(ApiError::invalid("Name", "A parameter name is not percent-encoded UTF-8 text."));
            continue;
        };
        let Some(value) = decode(value) else {
            *spoilt = Some(ApiError::invalid(&name, "Its value is not percent-encoded UTF-8 text."));
            continue;
        };
        if found.insert(name.clone(), value).is_some() {
            *spoilt = Some(ApiError::invalid(&name, "It is given twice."));
        }
    }
    found
}

fn decode(text: &[u8]) -> Option<String> {
    // A `%` that two hexadecimal digits do not follow is a mistake, not text.
    let mut parts = text.split(|byte| *byte == b'%');
    parts.next();
    if !parts.all(|part| part.get(..2).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit))) {
        return None;
    }
    let spaced: Vec<u8> = text.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    let bytes: Vec<u8> = percent_decode(&spaced).collect();
    // U+0000 is refused at the edge: PostgreSQL cannot store it.
    String::from_utf8(bytes).ok().filter(|text| !text.contains('\0'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn params(query: &str) -> Params {
        Params::read(query, b"").unwrap()
    }

    #[test]
    fn the_body_wins_over_the_query() {
        let merged = Params::read("A=1&B=2", b"B=3&C=x%20y+z").unwrap();
        assert_eq!(merged.iter().collect::<Vec<_>>(), [("A", "1"), ("B", "3"), ("C", "x y z")]);
    }

    #[test]
    fn doubled_names_broken_utf8_and_nul_are_refused() {
        assert_eq!(Params::read("A=1&A=2", b"").unwrap_err().code, "InvalidA");
        assert_eq!(Params::read("A=%FF", b"").unwrap_err().code, "InvalidA");
        assert_eq!(Params::read("", b"A=%00").unwrap_err().code, "InvalidA");
        for broken in ["%", "%4", "%zz", "a%E4%BD", "%u4F60"] {
            assert_eq!(Params::read(&format!("A={broken}"), b"").unwrap_err().code, "InvalidA", "{broken}");
        }
    }

    #[test]
    fn lists_are_numbered_from_one_without_gaps() {
        assert_eq!(params("N.2=b&N.1=a&N.10=x").list("N", 200).unwrap_err().code, "InvalidN");
        let ten: Vec<String> = (1..=10).map(|n| format!("N.{n}=v{n}")).collect();
        let ten = ten.join("&");
        assert_eq!(params(&ten).list("N", 10).unwrap()[9], "v10");
        assert!(params(&ten).list("N", 9).is_err());
        for bad in ["N.0=a", "N.x=a", "N.01=a", "N.1.K=a", "N.99999999999999999999=a"] {
            assert!(params(bad).list("N", 200).is_err(), "{bad}");
        }
    }

    #[test]
    fn structures_keep_their_fields_together() {
        let all = params("Tag.1.Key=k&Tag.1.Value=v&Tag.2.Key=k2");
        let tags = all.structs("Tag", 10).unwrap();
        assert_eq!(tags.len(), 2);
        assert_eq!(tags[1].get("Value"), None);
        assert!(params("Tag.1=k").structs("Tag", 10).is_err());
    }

    #[test]
    fn booleans_come_in_any_capitalisation() {
        assert_eq!(params("A=True").flag("A").unwrap(), Some(true));
        assert_eq!(params("A=FALSE").flag("A").unwrap(), Some(false));
        assert_eq!(params("A=").flag("A").unwrap(), None);
        assert!(params("A=1").flag("A").is_err());
    }

    #[test]
    fn absurd_numbers_are_refused() {
        for bad in ["99999999999999999999", "1.5", "1e3", " 1", "0x10"] {
            let all = Params::from_pairs([("N", bad)]);
            assert_eq!(all.int("N").unwrap_err().code, "InvalidN", "{bad}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(query in any::<String>(), body in any::<Vec<u8>>()) {
            if let Ok(all) = Params::read(&query, &body) {
                let _ = all.list("N", 10);
                let _ = all.structs("Tag", 10);
                let _ = all.has("N");
            }
        }
    }
}
