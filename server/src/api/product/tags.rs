//! Product tags as calls give them, and as answers have them.

use crate::api::answer::{Node, Object};
use crate::api::error::{ApiError, Code};
use crate::api::params::Params;
use std::collections::BTreeMap;
use updraft_core::limits::PRODUCT_TAGS_PER_CALL_MAX;
use updraft_core::text;

/// Reads `ProductTag.N`: up to ten, each with a key that no other has and a value.
pub fn read(params: &Params) -> Result<BTreeMap<String, String>, ApiError> {
    let (mut good, mut bad) = (BTreeMap::new(), Vec::new());
    for (at, tag) in params.structs("ProductTag", PRODUCT_TAGS_PER_CALL_MAX)?.iter().enumerate() {
        let field = |field: &str| {
            let given = tag.get(field).copied().filter(|text| !text.is_empty());
            given
                .map(str::to_owned)
                .ok_or_else(|| ApiError::missing(&format!("ProductTag.{}.{field}", at + 1)))
        };
        let (key, value) = (field("TagKey")?, field("TagValue")?);
        if text::product_tag_key(&key) && text::product_tag_value(&value) && !good.contains_key(&key) {
            good.insert(key, value);
        } else {
            bad.push((key, value));
        }
    }
    refuse(Code::InvalidProductTag, bad.iter().map(|(key, value)| (key, value)))?;
    Ok(good)
}

/// Refuses a call because of these tags, and says so of each in `InvalidProductTags`; without any, does nothing.
pub fn refuse<'a>(code: Code, bad: impl Iterator<Item = (&'a String, &'a String)>) -> Result<(), ApiError> {
    let rows: Vec<Node> = bad.map(row).collect();
    if rows.is_empty() {
        return Ok(());
    }
    Err(ApiError::new(code).telling(Object::new().list("InvalidProductTags", "ProductTag", rows)))
}

/// A tag in an answer.
pub fn row((key, value): (&String, &String)) -> Node {
    Node::Object(Object::new().text("TagKey", key).text("TagValue", value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(tags: &[(&str, &str)]) -> Params {
        let mut all = Vec::new();
        for (at, (key, value)) in (1..).zip(tags) {
            all.push((format!("ProductTag.{at}.TagKey"), (*key).to_owned()));
            all.push((format!("ProductTag.{at}.TagValue"), (*value).to_owned()));
        }
        Params::from_pairs(all)
    }

    #[test]
    fn the_tags_that_do_not_fit_are_told() {
        assert_eq!(read(&params(&[("room", "hall_1"), ("a.b", "路")])).unwrap().len(), 2);
        let tags = [("room", "hall"), ("abc", "x"), ("b", "a b"), ("room", "cellar"), ("c d", "x")];
        let error = read(&params(&tags)).unwrap_err();
        assert_eq!(error.code, "iot.prod.InvalidProductTag");
        let told = String::from_utf8(error.told.render(crate::api::answer::Format::Json, "")).unwrap();
        let all: serde_json::Value = serde_json::from_str(&told).unwrap();
        let keys: Vec<_> = all["InvalidProductTags"]["ProductTag"]
            .as_array()
            .unwrap()
            .iter()
            .map(|tag| tag["TagKey"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(keys, ["abc", "b", "room", "c d"]);
    }

    #[test]
    fn ten_tags_are_the_most_and_each_has_both_fields() {
        let eleven: Vec<String> = (0..11).map(|n| format!("k{n}")).collect();
        let eleven: Vec<(&str, &str)> = eleven.iter().map(|key| (key.as_str(), "v")).collect();
        assert_eq!(read(&params(&eleven[..10])).unwrap().len(), 10);
        assert_eq!(read(&params(&eleven)).unwrap_err().code, "InvalidProductTag");
        assert_eq!(read(&params(&[("k", "")])).unwrap_err().code, "MissingProductTag");
        assert_eq!(read(&params(&[("", "v")])).unwrap_err().code, "MissingProductTag");
    }
}
