//! What every answer of the API must look like, whatever was asked.

use crate::http::Answer;
use crate::{Broken, shown};
use quick_xml::events::Event;
use serde_json::Value;
use updraft_server::api::error::Code;

/// What an answer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Whether the call succeeded.
    pub success: bool,
    /// The error code, or nothing.
    pub code: String,
    /// The whole answer; null if it came in XML.
    pub json: Value,
}

/// Finds a field of an answer by name.
type Field = Box<dyn Fn(&str) -> Option<String>>;

/// Judges an answer in JSON or XML.
pub fn judge(answer: &Answer) -> Result<Said, Broken> {
    let text = std::str::from_utf8(&answer.body)
        .map_err(|_| Broken::new("an answer is not UTF-8", shown(&answer.body)))?;
    let wrong =
        |what: &str| Err(Broken::new(what, format!("HTTP {} {}", answer.status, shown(text.as_bytes()))));
    if answer.status >= 500 {
        return wrong("a 5xx");
    }
    let kind = answer.header("content-type").unwrap_or_default();
    let (json, field): (Value, Field) = match kind {
        "application/json;charset=utf-8" => {
            let Ok(json) = serde_json::from_str::<Value>(text) else { return wrong("an answer is not JSON") };
            let copy = json.clone();
            let field = move |name: &str| match copy.get(name)? {
                Value::String(text) => Some(text.clone()),
                other => Some(other.to_string()),
            };
            (json, Box::new(field))
        }
        "text/xml;charset=utf-8" => {
            let Some(fields) = xml_fields(text) else { return wrong("an answer is not XML") };
            let field = move |name: &str| {
                fields.iter().find(|(found, _)| found == name).map(|(_, value)| value.clone())
            };
            (Value::Null, Box::new(field))
        }
        _ => return wrong("an answer has a strange type"),
    };
    let request_id = field("RequestId").unwrap_or_default();
    let is_uuid = request_id.len() == 36
        && request_id.chars().all(|c| c == '-' || c.is_ascii_digit() || c.is_ascii_uppercase());
    if !is_uuid {
        return wrong("an answer has no RequestId");
    }
    let code = field("Code").unwrap_or_default();
    let success = field("Success").as_deref() == Some("true");
    let fits = match answer.status {
        200 if success => code.is_empty() && field("ErrorMessage").is_none(),
        200 => code.to_ascii_lowercase().starts_with("iot.") && field("ErrorMessage").is_some(),
        _ => field("Message").is_some() && field("HostId").is_some() && !code.is_empty(),
    };
    if !fits {
        return wrong("an answer is neither success nor refusal");
    }
    if code == Code::SystemException.wire() || code == Code::InternalError.wire() {
        return wrong("a fault of the server");
    }
    Ok(Said { success, code, json })
}

/// The fields right below the root of a well-formed document; `None` if it is not one.
fn xml_fields(text: &str) -> Option<Vec<(String, String)>> {
    // The parser lets characters pass that XML does not allow.
    let allowed = |c: char| matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{fffd}' | '\u{10000}'..);
    if !text.chars().all(allowed) {
        return None;
    }
    let mut reader = quick_xml::Reader::from_str(text);
    let mut open: Vec<String> = Vec::new();
    let (mut fields, mut value, mut roots) = (Vec::new(), String::new(), 0);
    loop {
        match reader.read_event().ok()? {
            Event::Start(start) => {
                roots += i32::from(open.is_empty());
                open.push(start.name().as_ref().to_owned());
                value.clear();
            }
            Event::End(_) => {
                let name = open.pop()?;
                if open.len() == 1 {
                    fields.push((name, std::mem::take(&mut value)));
                }
            }
            Event::Text(text) => value.push_str(&text),
            Event::Eof => return (open.is_empty() && roots == 1).then_some(fields),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, kind: &str, body: &str) -> Answer {
        let headers = vec![("content-type".to_owned(), kind.to_owned())];
        Answer { status, headers, body: body.as_bytes().to_vec() }
    }

    const JSON: &str = "application/json;charset=utf-8";
    const XML: &str = "text/xml;charset=utf-8";
    const ID: &str = "8906582E-6722-4F5B-9D7B-0123456789AB";

    #[test]
    fn good_answers_pass_and_bad_ones_do_not() {
        let good = format!(r#"{{"RequestId":"{ID}","Success":true}}"#);
        assert!(judge(&answer(200, JSON, &good)).unwrap().success);
        let refused = format!(
            "<?xml version='1.0' encoding='UTF-8'?><Error><RequestId>{ID}</RequestId><HostId>h</HostId>\
             <Code>InvalidVersion</Code><Message>m</Message></Error>"
        );
        assert_eq!(judge(&answer(400, XML, &refused)).unwrap().code, "InvalidVersion");
        for (status, kind, body) in [
            (503, JSON, good.as_str()),
            (200, JSON, "{}"),
            (200, JSON, "no JSON"),
            (200, XML, "<a><b></a>"),
            (400, XML, &refused.replace("HostId>h", "HostId>\u{1}")),
            (200, JSON, &format!(r#"{{"RequestId":"{ID}","Success":true,"Code":"x"}}"#)),
            (200, JSON, &format!(r#"{{"RequestId":"{ID}","Success":false,"Code":"iot.x"}}"#)),
        ] {
            assert!(judge(&answer(status, kind, body)).is_err(), "{body}");
        }
        let fault = format!(
            r#"{{"RequestId":"{ID}","Success":false,"Code":"iot.system.SystemException","ErrorMessage":""}}"#
        );
        assert!(judge(&answer(200, JSON, &fault)).is_err());
    }
}
