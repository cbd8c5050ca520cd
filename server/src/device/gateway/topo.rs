//! `thing/topo/…`: who is behind the gateway.

use super::envelope::{Entry, head, list, names, quoted};
use super::{Ask, Kind, Name, Request};
use crate::device::topic::Owner;
use std::fmt::Write as _;
use updraft_core::topo::{Change, Refusal};

/// What a question about the topology asks.
pub(super) fn read(kind: Kind, params: &str, max: usize) -> Result<(Vec<Name>, Ask), Refusal> {
    if kind == Kind::TopoGet {
        return Ok((Vec::new(), Ask::Server(Request::List)));
    }
    let entries = Entry::read(params, max, Refusal::Parameter)?;
    let named: Vec<Name> = entries.iter().map(Entry::name).collect();
    let request = if kind == Kind::TopoAdd {
        let claims: Result<Vec<_>, _> = entries.iter().map(|entry| entry.claim(None)).collect();
        Request::Add(claims?)
    } else {
        Request::Remove(named.clone())
    };
    Ok((named, Ask::Server(request)))
}

/// The topic on which a gateway is told that its topology changed.
pub fn change_topic(gateway: Owner<'_>) -> String {
    ["/sys/", gateway.product_key, "/", gateway.device_name, "/thing/topo/change"].concat()
}

/// What it is told there.
pub fn change(id: i64, change: Change, subs: &[Name]) -> Vec<u8> {
    let mut json = head(&quoted(&id.to_string()));
    // Writing to a String cannot fail.
    let _ = write!(json, r#""version":"1.0","params":{{"status":{},"subList":"#, change.status());
    list(&mut json, subs, object);
    json.push_str(r#"},"method":"thing.topo.change"}"#);
    json.into_bytes()
}

/// The topic on which a gateway is asked to put devices behind it.
pub fn notify_topic(gateway: Owner<'_>) -> String {
    ["/sys/", gateway.product_key, "/", gateway.device_name, "/thing/topo/add/notify"].concat()
}

/// What it is asked there.
pub fn notify(id: i64, subs: &[Name]) -> Vec<u8> {
    let mut json = head(&quoted(&id.to_string()));
    json.push_str(r#""version":"1.0","params":"#);
    list(&mut json, subs, object);
    json.push_str(r#","method":"thing.topo.add.notify"}"#);
    json.into_bytes()
}

fn object(json: &mut String, name: &Name) {
    json.push('{');
    names(json, name);
    json.push('}');
}
