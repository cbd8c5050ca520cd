//! Progress and failure reports: `/ota/device/progress/{pk}/{dn}`.

use super::link::DeviceEvent;
use super::{Ignored, module_or_default, payload_text};
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::borrow::Cow;
use updraft_core::limits::PROGRESS_DESC_CHARS_MAX;
use updraft_core::task::FailedStep;
use updraft_core::text::clip;

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    params: Params<'a>,
}

#[derive(Deserialize)]
struct Params<'a> {
    #[serde(borrow)]
    step: Step<'a>,
    #[serde(borrow, default)]
    desc: Option<Desc<'a>>,
    #[serde(borrow, default)]
    module: Option<Cow<'a, str>>,
}

/// The manual writes the step as a text; firmware also sends numbers.
#[derive(Deserialize)]
#[serde(untagged)]
enum Step<'a> {
    Number(i64),
    #[serde(borrow)]
    Text(Cow<'a, str>),
    Other(IgnoredAny),
}

/// The description decides nothing, so no form of it makes a report invalid.
#[derive(Deserialize)]
#[serde(untagged)]
enum Desc<'a> {
    #[serde(borrow)]
    Text(Cow<'a, str>),
    Other(IgnoredAny),
}

/// What a progress report says: a percentage, or a failure.
pub fn decode(payload: &[u8]) -> Result<DeviceEvent, Ignored> {
    let message: Message<'_> = serde_json::from_str(payload_text(payload)?).map_err(|_| Ignored::NotJson)?;
    let params = message.params;
    let step = match params.step {
        Step::Number(step) => step,
        Step::Text(text) => text.trim().parse().map_err(|_| Ignored::Step)?,
        Step::Other(IgnoredAny) => return Err(Ignored::Step),
    };
    let desc = match params.desc {
        // No database text may hold U+0000.
        Some(Desc::Text(text)) => clip(&text, PROGRESS_DESC_CHARS_MAX).replace('\0', ""),
        Some(Desc::Other(IgnoredAny)) | None => String::new(),
    };
    let module = module_or_default(params.module.as_deref())?;
    match (step, FailedStep::from_step(step)) {
        (0..=100, _) => Ok(DeviceEvent::Progress { module, percent: step, desc }),
        (_, Some(step)) => Ok(DeviceEvent::Failure { module, step, desc }),
        (_, None) => Err(Ignored::Step),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sdks_form_is_understood() {
        let progress = |module: &str, percent, desc: &str| DeviceEvent::Progress {
            module: module.to_owned(),
            percent,
            desc: desc.to_owned(),
        };
        let failure = |step, desc: &str| DeviceEvent::Failure {
            module: "default".to_owned(),
            step,
            desc: desc.to_owned(),
        };
        for (payload, expected) in [
            // The manual.
            (r#"{"id":"123","params":{"step":"50","desc":"…","module":"MCU"}}"#, progress("MCU", 50, "…")),
            // Link SDK for C, 4.x and 3.x.
            (r#"{"id":2, "params":{"step":"0","desc":""}}"#, progress("default", 0, "")),
            (
                r#"{"id":0,"params":{"step":"0","desc":"Enter in downloading state"}}"#,
                progress("default", 0, "Enter in downloading state"),
            ),
            // Firmware in the field.
            (r#"{"params":{"step":100}}"#, progress("default", 100, "")),
            (r#"{"params":{"step":" 7 ","desc":null,"x":{}}}"#, progress("default", 7, "")),
            (r#"{"params":{"step":7,"desc":12,"module":""}}"#, progress("default", 7, "")),
            (r#"{"params":{"step":7,"desc":"a\u0000b"}}"#, progress("default", 7, "ab")),
            (r#"{"params":{"step":"-1","desc":"x"}}"#, failure(FailedStep::Upgrade, "x")),
            (r#"{"params":{"step":-2}}"#, failure(FailedStep::Download, "")),
            (r#"{"params":{"step":"-3"}}"#, failure(FailedStep::Verification, "")),
            (r#"{"params":{"step":-4,"desc":["?"]}}"#, failure(FailedStep::Flashing, "")),
        ] {
            assert_eq!(decode(payload.as_bytes()), Ok(expected), "{payload}");
        }
    }

    #[test]
    fn long_descriptions_are_cut() {
        let payload = format!(r#"{{"params":{{"step":1,"desc":"{}"}}}}"#, "路".repeat(1_000));
        let Ok(DeviceEvent::Progress { desc, .. }) = decode(payload.as_bytes()) else { panic!("refused") };
        assert_eq!(desc.chars().count(), PROGRESS_DESC_CHARS_MAX);
    }

    #[test]
    fn absurd_steps_are_named() {
        for step in
            ["101", "-5", "\"101\"", "\"\"", "\"x\"", "\"1e2\"", "1.5", "null", "[]", "99999999999999999999"]
        {
            let payload = format!(r#"{{"params":{{"step":{step}}}}}"#);
            assert_eq!(decode(payload.as_bytes()), Err(Ignored::Step), "{step}");
        }
        assert_eq!(decode(br#"{"params":{"desc":"x"}}"#), Err(Ignored::NotJson));
        assert_eq!(decode(b"\xff"), Err(Ignored::NotUtf8));
        assert_eq!(decode(br#"{"params":{"step":1,"module":"/"}}"#), Err(Ignored::Module));
        let deep = format!(r#"{{"params":{{"step":{}}}}}"#, "[".repeat(100_000));
        assert_eq!(decode(deep.as_bytes()), Err(Ignored::NotJson));
    }
}
