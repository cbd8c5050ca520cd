//! `/ext/session/…/combine/…`: logins of devices behind the gateway, one by one and in batches.

use super::envelope::{Entry, text};
use super::{Ask, Entrant, Kind, Name};
use crate::device::login::asks_for_delivery;
use serde::Deserialize;
use serde_json::value::RawValue;
use updraft_core::topo::Refusal;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Batch<'a> {
    #[serde(borrow, default)]
    sign_method: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "signmethod")]
    signmethod: Option<&'a RawValue>,
    #[serde(borrow)]
    device_list: &'a RawValue,
}

/// What a question about logins asks.
pub(super) fn read(kind: Kind, params: &str, max: usize) -> Result<(Vec<Name>, Ask), Refusal> {
    let (method, entries) = if kind == Kind::BatchLogin {
        let batch: Batch<'_> = serde_json::from_str(params).map_err(|_| Refusal::Parameter)?;
        (batch.sign_method.or(batch.signmethod).and_then(text), batch.device_list.get())
    } else {
        (None, params)
    };
    let entries = Entry::read(entries, max, Refusal::TooManyLogins)?;
    if kind.is_single() && entries.len() > 1 {
        return Err(Refusal::Parameter);
    }
    let names: Vec<Name> = entries.iter().map(Entry::name).collect();
    if matches!(kind, Kind::Logout | Kind::BatchLogout) {
        return Ok((names, Ask::Logout));
    }
    let entrant = |entry: &Entry<'_>| {
        let auto_subscribe = entry.client_id().is_some_and(|id| asks_for_delivery(&id));
        let claim = entry.claim(method.as_deref())?;
        Ok(Entrant { claim, auto_subscribe, keeps_session: entry.keeps_session() })
    };
    let entrants: Result<Vec<Entrant>, Refusal> = entries.iter().map(entrant).collect();
    Ok((names, Ask::Login(entrants?)))
}
