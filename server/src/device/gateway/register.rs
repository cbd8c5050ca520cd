//! `thing/sub/register`, `thing/sub/unregister` and `thing/proxy/provisioning/product_register`: secrets of devices
//! that are to be behind the gateway.

use super::envelope::Entry;
use super::{Ask, Kind, Name, Request};
use serde::Deserialize;
use serde_json::value::RawValue;
use updraft_core::topo::Refusal;

#[derive(Deserialize)]
struct Proxied<'a> {
    #[serde(borrow)]
    proxieds: &'a RawValue,
}

/// What a question about registration asks.
pub(super) fn read(kind: Kind, params: &str, max: usize) -> Result<(Vec<Name>, Ask), Refusal> {
    let params = if kind == Kind::ProductRegister {
        let proxied: Proxied<'_> = serde_json::from_str(params).map_err(|_| Refusal::Parameter)?;
        proxied.proxieds.get()
    } else {
        params
    };
    let entries = Entry::read(params, max, Refusal::Parameter)?;
    let names: Vec<Name> = entries.iter().map(Entry::name).collect();
    let request = match kind {
        Kind::ProductRegister => {
            let claims: Result<Vec<_>, _> = entries.iter().map(Entry::product_claim).collect();
            Request::ProductRegister(claims?)
        }
        Kind::Unregister => Request::Unregister(names.clone()),
        _ => Request::Register(names.clone()),
    };
    Ok((names, Ask::Server(request)))
}
