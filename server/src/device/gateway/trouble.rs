//! `/ext/error/{gateway}`: what a gateway is told when a device behind it has no session, or lost it.

use super::Name;
use super::envelope::{head, names, quoted};
use crate::device::firmware_get::is_echoed;
use crate::device::topic::Owner;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::fmt::Write as _;
use updraft_core::topo::Refusal;

/// The topic.
pub fn topic(gateway: Owner<'_>) -> String {
    ["/ext/error/", gateway.product_key, "/", gateway.device_name].concat()
}

/// What it is told of a device. `id` is JSON text.
pub fn payload(id: &str, why: Refusal, sub: Owner<'_>) -> Vec<u8> {
    // Of a message without a session the platform says it in other words than of a logout without one.
    let message = if why == Refusal::NoSession { "device session error" } else { why.message() };
    let mut json = head(id);
    // Writing to a String cannot fail.
    let _ = write!(json, r#""code":{},"data":{{"#, why.code());
    let name = Name { product_key: sub.product_key.to_owned(), device_name: sub.device_name.to_owned() };
    names(&mut json, &name);
    let _ = write!(json, r#"}},"message":{}}}"#, quoted(message));
    json.into_bytes()
}

#[derive(Deserialize)]
struct WithId<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
}

/// The id of a message that has one which can be repeated, as JSON text.
pub fn id_of(payload: &[u8]) -> Option<String> {
    let message: WithId<'_> = serde_json::from_slice(payload).ok()?;
    let id = message.id.map(RawValue::get)?;
    is_echoed(id).then(|| id.to_owned())
}

/// The device that a topic is about, if it is one on which devices speak: `/ota/device/…/{pk}/{dn}` or
/// `/sys/{pk}/{dn}/…`.
pub fn speaker(topic: &str) -> Option<Owner<'_>> {
    let (product_key, device_name) = if let Some(rest) = topic.strip_prefix("/sys/") {
        let mut levels = rest.splitn(3, '/');
        let names = (levels.next()?, levels.next()?);
        levels.next()?;
        names
    } else {
        let (kind, names) = topic.strip_prefix("/ota/device/")?.split_once('/')?;
        let names = names.split_once('/')?;
        if kind.is_empty() || names.1.contains('/') {
            return None;
        }
        names
    };
    (!product_key.is_empty() && !device_name.is_empty()).then_some(Owner { product_key, device_name })
}
