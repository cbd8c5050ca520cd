//! The device's question for a package: `/sys/{pk}/{dn}/thing/ota/firmware/get`, and of older SDKs
//! `/ota/device/request/{pk}/{dn}`.

use super::link::{Asked, DeviceEvent, Question};
use super::{Ignored, module_or_default, payload_text};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// Longest id that is echoed, in bytes of JSON text. SDKs for JavaScript use ids that hold a whole topic.
pub const ID_BYTES_MAX: usize = 256;

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    params: Option<Params<'a>>,
}

#[derive(Deserialize)]
struct Params<'a> {
    #[serde(borrow, default)]
    module: Option<Cow<'a, str>>,
}

/// What a device asks. Its id is kept as JSON text, since the answer must repeat it in the same type; an
/// absent one is the empty text.
pub fn decode(payload: &[u8]) -> Result<DeviceEvent, Ignored> {
    question(payload, Question::Get)
}

/// The same on the topic of older SDKs.
pub fn decode_request(payload: &[u8]) -> Result<DeviceEvent, Ignored> {
    question(payload, Question::Request)
}

fn question(payload: &[u8], by: Question) -> Result<DeviceEvent, Ignored> {
    let message: Message<'_> = serde_json::from_str(payload_text(payload)?).map_err(|_| Ignored::NotJson)?;
    let id = message.id.map_or("", RawValue::get);
    if !is_echoed(id) {
        return Err(Ignored::Id);
    }
    let module = module_or_default(message.params.and_then(|params| params.module).as_deref())?;
    Ok(DeviceEvent::Pull { module, asked: Asked { by, id: id.to_owned() } })
}

/// Whether an answer can repeat this JSON text: a number or a text; anything longer or nested is not ours to carry
/// around. Raw JSON text may hold half a surrogate pair, which is no text: the echo would make the answer unreadable.
pub fn is_echoed(raw: &str) -> bool {
    raw.len() <= ID_BYTES_MAX
        && !raw.starts_with(['{', '[', 't', 'f'])
        && !(raw.starts_with('"') && serde_json::from_str::<String>(raw).is_err())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sdks_form_is_understood() {
        for (payload, module, id) in [
            // The manual.
            (
                r#"{"id":"123","version":"1.0","params":{"module":"MCU"},"method":"thing.ota.firmware.get"}"#,
                "MCU",
                r#""123""#,
            ),
            // Link SDK for Python.
            (r#"{"id": 1, "params": {"module": "MCU"}}"#, "MCU", "1"),
            (r#"{"id": 1, "params": {}}"#, "default", "1"),
            // Link SDK for C, 4.x.
            (r#"{"id":1, "params":{}}"#, "default", "1"),
            // Link SDK for JavaScript.
            (r#"{"id":"3|exp-topic|/a/b","params":{}}"#, "default", r#""3|exp-topic|/a/b""#),
            // Others.
            ("{}", "default", ""),
            (r#"{"id":null,"params":null}"#, "default", ""),
            (r#"{"id" :  -1.50e2 }"#, "default", "-1.50e2"),
        ] {
            let asked = Asked { by: Question::Get, id: id.to_owned() };
            let expected = DeviceEvent::Pull { module: module.to_owned(), asked };
            assert_eq!(decode(payload.as_bytes()), Ok(expected), "{payload}");
        }
    }

    #[test]
    fn nonsense_is_named() {
        let long = format!(r#"{{"id":"{}"}}"#, "x".repeat(ID_BYTES_MAX));
        for (payload, reason) in [
            (&b"1"[..], Ignored::NotJson),
            (b"\xc3\x28", Ignored::NotUtf8),
            (br#"{"id":[1]}"#, Ignored::Id),
            (br#"{"id":{}}"#, Ignored::Id),
            (br#"{"id":true}"#, Ignored::Id),
            (br#"{"id":"half a pair: \ud800"}"#, Ignored::Id),
            (long.as_bytes(), Ignored::Id),
            (br#"{"id":1,"params":{"module":"a/b"}}"#, Ignored::Module),
            (br#"{"id":1,"params":{"module":1}}"#, Ignored::NotJson),
        ] {
            assert_eq!(decode(payload), Err(reason), "{}", String::from_utf8_lossy(payload));
        }
    }
}
