//! The form that gateways' questions and their answers share.
//!
//! Names and values of what a question says are taken in any JSON type that SDKs write them in: numbers as texts,
//! booleans as texts.

use super::sign::Signed;
use super::{Claim, Kind, Name, Question, Secret};
use crate::device::firmware_get::is_echoed;
use crate::device::{Ignored, payload_text};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::fmt::Write as _;
use updraft_core::registration::signed_content;
use updraft_core::topo::{Refusal, Refused};

/// A question: what stands around its parameters. Other keys (`version`, `method`, `sys`) say nothing.
pub struct Message<'a> {
    /// Its id, as JSON text; empty if it has none.
    pub id: &'a str,
    /// Its parameters, as JSON text; empty if it has none.
    pub params: &'a str,
}

#[derive(Deserialize)]
struct Raw<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
}

impl<'a> Message<'a> {
    /// Takes a payload apart.
    pub fn read(payload: &'a [u8]) -> Result<Self, Ignored> {
        let message: Raw<'a> = serde_json::from_str(payload_text(payload)?).map_err(|_| Ignored::NotJson)?;
        let id = message.id.map_or("", RawValue::get);
        if !is_echoed(id) {
            return Err(Ignored::Id);
        }
        Ok(Self { id, params: message.params.map_or("", RawValue::get) })
    }
}

/// A device in a question.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry<'a> {
    product_key: String,
    device_name: String,
    #[serde(borrow, default)]
    client_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    timestamp: Option<&'a RawValue>,
    #[serde(borrow, default)]
    random: Option<&'a RawValue>,
    #[serde(borrow, default)]
    sign: Option<&'a RawValue>,
    #[serde(borrow, default)]
    sign_method: Option<&'a RawValue>,
    /// Link SDKs for Python and C write it so in `topo/add`.
    #[serde(borrow, default, rename = "signmethod")]
    signmethod: Option<&'a RawValue>,
    #[serde(borrow, default)]
    clean_session: Option<&'a RawValue>,
}

impl<'a> Entry<'a> {
    /// The devices of a list, or the only one that stands there without a list.
    pub fn read(params: &'a str, max: usize, too_many: Refusal) -> Result<Vec<Self>, Refusal> {
        let entries = if params.starts_with('{') {
            serde_json::from_str(params).map(|entry| vec![entry])
        } else {
            serde_json::from_str::<Vec<Self>>(params)
        };
        let entries = entries.map_err(|_| Refusal::Parameter)?;
        if entries.len() > max {
            return Err(too_many);
        }
        let empty = |entry: &Self| entry.product_key.is_empty() || entry.device_name.is_empty();
        if entries.is_empty() || entries.iter().any(empty) {
            return Err(Refusal::Parameter);
        }
        Ok(entries)
    }

    /// The device's names.
    pub fn name(&self) -> Name {
        Name { product_key: self.product_key.clone(), device_name: self.device_name.clone() }
    }

    /// Its client id, whole.
    pub fn client_id(&self) -> Option<String> {
        self.client_id.and_then(text)
    }

    /// Whether it wants to find its subscriptions again at its next login.
    pub fn keeps_session(&self) -> bool {
        self.clean_session.and_then(text).is_some_and(|clean| clean.eq_ignore_ascii_case("false"))
    }

    /// A claim to know the device's secret: all that is sent is signed, in the order of the names, but for
    /// signature, method and `cleanSession`. `method` is that of the whole question.
    pub fn claim(&self, method: Option<&str>) -> Result<Claim, Refusal> {
        let mut content = String::new();
        let (client_id, timestamp) = (self.client_id(), self.timestamp.and_then(text));
        let parts = [
            ("clientId", client_id.as_deref()),
            ("deviceName", Some(self.device_name.as_str())),
            ("productKey", Some(self.product_key.as_str())),
            ("timestamp", timestamp.as_deref()),
        ];
        for (key, value) in parts {
            if let Some(value) = value {
                content.extend([key, value]);
            }
        }
        self.signed(method, content)
    }

    /// A claim to know the product's secret.
    pub fn product_claim(&self) -> Result<Claim, Refusal> {
        let random = self.random.and_then(text).ok_or(Refusal::Parameter)?;
        self.signed(None, signed_content(&self.product_key, &self.device_name, &random))
    }

    fn signed(&self, method: Option<&str>, content: String) -> Result<Claim, Refusal> {
        let sign = self.sign.and_then(text).ok_or(Refusal::Parameter)?;
        let own = self.sign_method.or(self.signmethod).and_then(text);
        let signed = Signed::new(own.as_deref().or(method), content, sign);
        Ok(Claim { name: self.name(), signed })
    }
}

/// A single value as text; nothing for `null` and for what is nested.
pub fn text(raw: &RawValue) -> Option<String> {
    match raw.get() {
        "null" => None,
        quoted if quoted.starts_with('"') => serde_json::from_str(quoted).ok(),
        nested if nested.starts_with(['{', '[']) => None,
        plain => Some(plain.to_owned()),
    }
}

/// What an answer tells of devices.
pub enum Told<'a> {
    /// Their names.
    Names(&'a [Name]),
    /// Their names and secrets.
    Secrets(&'a [Secret]),
}

/// The payload of a question's answer. Compact: some SDKs search the text.
pub fn reply(question: &Question, outcome: &Result<Told<'_>, Refused>) -> Vec<u8> {
    let (code, message) = match outcome {
        Ok(_) => (200, "success"),
        Err(refused) => (refused.why.code(), refused.why.message()),
    };
    let mut data = String::new();
    match outcome {
        Ok(Told::Secrets(secrets)) => list(&mut data, secrets, |data, secret| {
            // Writing to a String cannot fail, here and below.
            let _ = write!(data, r#"{{"iotId":{},"#, quoted(&secret.iot_id));
            names(data, &secret.name);
            let _ = write!(data, r#","deviceSecret":{}}}"#, quoted(&secret.secret));
        }),
        Ok(Told::Names(told)) => told_names(&mut data, question.kind, told),
        Err(refused) => {
            let told: Vec<Name> =
                refused.at.iter().filter_map(|place| question.names.get(*place)).cloned().collect();
            told_names(&mut data, question.kind, &told);
        }
    }
    let mut json = head(&question.id);
    let _ = write!(json, r#""code":{code},"data":{data},"message":{}"#, quoted(message));
    if let Some(method) = question.kind.method() {
        let _ = write!(json, r#","method":"{method}","version":"1.0""#);
    }
    json.push('}');
    json.into_bytes()
}

/// The beginning of an object, with the id that is JSON text already.
pub fn head(id: &str) -> String {
    if id.is_empty() { "{".to_owned() } else { format!(r#"{{"id":{id},"#) }
}

/// A text as JSON.
pub fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// `"deviceName":…,"productKey":…`, the order of the platform.
pub fn names(json: &mut String, name: &Name) {
    let (device, product) = (quoted(&name.device_name), quoted(&name.product_key));
    let _ = write!(json, r#""deviceName":{device},"productKey":{product}"#);
}

fn told_names(json: &mut String, kind: Kind, told: &[Name]) {
    let object = |json: &mut String, name: &Name| {
        json.push('{');
        names(json, name);
        json.push('}');
    };
    match (kind.is_single(), told) {
        (true, [name, ..]) => object(json, name),
        (true, []) => json.push_str("{}"),
        (false, told) => list(json, told, object),
    }
}

/// A JSON list.
pub fn list<T>(json: &mut String, items: &[T], item: impl Fn(&mut String, &T)) {
    json.push('[');
    for (at, one) in items.iter().enumerate() {
        if at > 0 {
            json.push(',');
        }
        item(json, one);
    }
    json.push(']');
}
