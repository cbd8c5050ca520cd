//! Version reports: `/ota/device/inform/{pk}/{dn}`.

use super::link::DeviceEvent;
use super::{Ignored, module_or_default, payload_text};
use serde::Deserialize;
use std::borrow::Cow;

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    params: Params<'a>,
}

#[derive(Deserialize)]
struct Params<'a> {
    #[serde(borrow)]
    version: Cow<'a, str>,
    #[serde(borrow, default)]
    module: Option<Cow<'a, str>>,
}

/// What a version report says. Nobody answers it, so its `id` does not matter.
pub fn decode(payload: &[u8]) -> Result<DeviceEvent, Ignored> {
    let message: Message<'_> = serde_json::from_str(payload_text(payload)?).map_err(|_| Ignored::NotJson)?;
    if !updraft_core::text::version(&message.params.version) {
        return Err(Ignored::Version);
    }
    let module = module_or_default(message.params.module.as_deref())?;
    Ok(DeviceEvent::Report { module, version: message.params.version.into_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sdks_form_is_understood() {
        for (payload, module, version) in [
            // The manual.
            (r#"{"id":"123","params":{"version":"1.0.1","module":"MCU"}}"#, "MCU", "1.0.1"),
            // Link SDK for Python.
            (r#"{"id": 1, "params": {"version": "1.0.0"}}"#, "default", "1.0.0"),
            (r#"{"id": 1,"params": {"version":"1.0.0","module": "MCU"}}"#, "MCU", "1.0.0"),
            // Link SDK for C, 4.x and 3.x.
            (r#"{"id":1, "params":{"version":"1.0.0"}}"#, "default", "1.0.0"),
            (r#"{"id":1, "params":{"version":"1.0.0","module":"MCU"}}"#, "MCU", "1.0.0"),
            (r#"{"id":"0","params":{"version":"1.0.0"}}"#, "default", "1.0.0"),
            // Firmware in the field.
            (r#"{"params":{"version":"1","module":null,"imei":["x",{}]},"extra":1}"#, "default", "1"),
            (
                "\r\n\t{ \"params\" :\n{ \"version\" : \"\\u0031.0\" , \"module\":\"\" } } \0",
                "default",
                "1.0",
            ),
        ] {
            let expected = DeviceEvent::Report { module: module.to_owned(), version: version.to_owned() };
            assert_eq!(decode(payload.as_bytes()), Ok(expected), "{payload}");
        }
    }

    #[test]
    fn nonsense_is_named() {
        let long = format!(r#"{{"params":{{"version":"{}"}}}}"#, "1".repeat(65));
        let deep = format!(r#"{{"params":{{"version":"1","x":{}}}}}"#, "[".repeat(100_000));
        for (payload, reason) in [
            (&b""[..], Ignored::NotJson),
            (b"null", Ignored::NotJson),
            (b"[]", Ignored::NotJson),
            (b"{}", Ignored::NotJson),
            (br#"{"params":{}}"#, Ignored::NotJson),
            (br#"{"params":{"version":1}}"#, Ignored::NotJson),
            (br#"{"params":{"version":"1.0"}"#, Ignored::NotJson),
            (b"{\"params\":{\"version\":\"\xff\"}}", Ignored::NotUtf8),
            (br#"{"params":{"version":"1 0"}}"#, Ignored::Version),
            (br#"{"params":{"version":"1\u0000"}}"#, Ignored::Version),
            (br#"{"params":{"version":""}}"#, Ignored::Version),
            (br#"{"params":{"version":"1","module":"a b"}}"#, Ignored::Module),
            (long.as_bytes(), Ignored::Version),
            (deep.as_bytes(), Ignored::NotJson),
        ] {
            assert_eq!(decode(payload), Err(reason), "{}", String::from_utf8_lossy(payload));
        }
    }
}
