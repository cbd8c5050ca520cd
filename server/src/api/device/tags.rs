//! Device tags as calls give them: `Props` and `Tag.N`.

use crate::api::error::{ApiError, Code};
use crate::api::params::Params;
use serde_json::Value;
use std::collections::BTreeMap;
use updraft_core::limits::{DEVICE_PROPS_BYTES_MAX, DEVICE_TAGS_MAX, TAGS_ASKED_MAX};
use updraft_core::text;
use updraft_store::TagAsked;

/// Most characters of a caller's text that a message repeats.
const TOLD_CHARS_MAX: usize = 40;

/// Reads the tags of `Props`: a JSON object of texts; numbers and booleans are taken as they are written.
pub fn read_props(props: &str) -> Result<BTreeMap<String, String>, ApiError> {
    if props.len() > DEVICE_PROPS_BYTES_MAX {
        return Err(Code::LongDeviceProps.into());
    }
    let Ok(Value::Object(all)) = serde_json::from_str(props) else {
        return Err(Code::InvalidDeviceProps.into());
    };
    if all.is_empty() {
        return Err(Code::NoDeviceProps.into());
    }
    if all.len() > DEVICE_TAGS_MAX {
        return Err(Code::TooManyDeviceProps.into());
    }
    all.into_iter().map(|(key, value)| Ok((read_key(&key)?, read_value(&key, value)?))).collect()
}

fn read_key(key: &str) -> Result<String, ApiError> {
    if text::device_tag_key(key) { Ok(key.to_owned()) } else { Err(Code::InvalidDevicePropKey.into()) }
}

fn read_value(key: &str, value: Value) -> Result<String, ApiError> {
    let value = match value {
        Value::String(text) => text,
        Value::Number(number) => number.to_string(),
        Value::Bool(flag) => flag.to_string(),
        Value::Null | Value::Array(_) | Value::Object(_) => return Err(Code::InvalidDeviceProps.into()),
    };
    if text::device_tag_value(&value) {
        return Ok(value);
    }
    let key = text::clip(key, TOLD_CHARS_MAX);
    Err(ApiError::with(
        Code::InvalidDevicePropValue,
        format!("{key}: {}", Code::InvalidDevicePropValue.text()),
    ))
}

/// Reads a repeated structure of `TagKey` and an optional `TagValue`, of up to ten.
pub fn read_asked(params: &Params, name: &str) -> Result<Vec<TagAsked>, ApiError> {
    let tags = params.structs(name, TAGS_ASKED_MAX)?;
    let asked = tags.iter().enumerate().map(|(at, tag)| {
        let field = |field: &str| tag.get(field).copied().filter(|text| !text.is_empty());
        let key = field("TagKey").ok_or_else(|| ApiError::missing(&format!("{name}.{}.TagKey", at + 1)))?;
        Ok(TagAsked { key: key.to_owned(), value: field("TagValue").map(str::to_owned) })
    });
    asked.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn code(props: &str) -> String {
        read_props(props).unwrap_err().code.into_owned()
    }

    #[test]
    fn tags_are_texts_and_what_is_written_like_one() {
        let tags = read_props(r#"{"colour": "red", "floor": 3, "lit": true, "a.b": "路灯"}"#).unwrap();
        let tags: Vec<(&str, &str)> =
            tags.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(tags, [("a.b", "路灯"), ("colour", "red"), ("floor", "3"), ("lit", "true")]);
    }

    #[test]
    fn what_is_no_tag_is_refused() {
        for bad in
            ["", "red", "[]", "1", r#"{"a": "#, r#"{"a": null}"#, r#"{"a": {"b": "c"}}"#, r#"{"a": []}"#]
        {
            assert_eq!(code(bad), "iot.device.InvalidFormattedDevicePropertiesString", "{bad}");
        }
        assert_eq!(code("{}"), "iot.device.NoneDeviceProperties");
        for bad in ["", "a b", "a_b", "abc", &"k".repeat(33)] {
            assert_eq!(code(&format!(r#"{{"{bad}": "x"}}"#)), "iot.device.InvalidFormattedDevicePropertyKey");
        }
        for bad in ["", "a b", &"v".repeat(129)] {
            assert_eq!(
                code(&format!(r#"{{"a": "{bad}"}}"#)),
                "iot.device.InvalidFormattedDevicePropertyValue"
            );
        }
    }

    #[test]
    fn five_kilobytes_and_a_hundred_tags_are_the_most() {
        let tags = |count: usize| {
            let all: Vec<String> = (0..count).map(|n| format!(r#""k{n}":"v""#)).collect();
            format!("{{{}}}", all.join(","))
        };
        assert_eq!(read_props(&tags(100)).unwrap().len(), 100);
        assert_eq!(code(&tags(101)), "iot.device.TooManyDevicePropertiesPerTime");
        let padded = |bytes: usize| format!("{}{}", r#"{"a":"b"}"#, " ".repeat(bytes - 9));
        assert_eq!(read_props(&padded(5 * 1024)).unwrap().len(), 1);
        assert_eq!(code(&padded(5 * 1024 + 1)), "iot.device.LongDevicePropertiesString");
    }

    proptest! {
        #[test]
        fn no_text_panics(props in any::<String>()) {
            let _ = read_props(&props);
        }
    }
}
