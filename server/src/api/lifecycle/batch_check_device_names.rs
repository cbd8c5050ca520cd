//! BatchCheckDeviceNames: begins a registration of devices with given names in bulk, with the check of the names.

use crate::api::answer::{Node, Object};
use crate::api::error::{ApiError, Code};
use crate::api::lifecycle::apply;
use crate::api::params::Params;
use crate::api::{Call, Operation};
use crate::engine;
use crate::engine::advance::Effects;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use updraft_core::apply::{ApplyStatus, Flaw, flaws};
use updraft_core::limits::APPLY_NAMES_MAX;
use updraft_store::{Lane, NewApply};

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "BatchCheckDeviceNames",
    qps: 10,
    changes: true,
    required: &["ProductKey"],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

async fn run(call: Call) -> Result<Object, ApiError> {
    let key = call.params.need("ProductKey")?.to_owned();
    let names = read(&call.params)?;
    refuse_flaws(&names)?;
    let names: Vec<_> =
        names.into_iter().map(|(name, nickname)| (name.to_owned(), nickname.map(str::to_owned))).collect();
    let (instance, app, now) = (call.instance, Arc::clone(&call.app), call.app.now());
    let apply_id = engine::write(&call.app, Lane::Bulk, move |tx| {
        let product = tx.product_find(instance, &key)?.ok_or_else(|| ApiError::new(Code::ProductNotFound))?;
        let new =
            NewApply { product: product.no, apply_id: 0, status: ApplyStatus::Check, names: names.clone() };
        let apply_id = apply::insert(tx, &app, &new, now)?;
        tx.apply_checks_trim(product.no, app.config.device_checks_max)?;
        Ok::<_, ApiError>((apply_id, Effects { wake: true, ..Effects::default() }))
    })
    .await?;
    Ok(Object::new().object("Data", Object::new().int("ApplyId", apply_id)))
}

/// A name, and the name for people.
type Named<'a> = (&'a str, Option<&'a str>);

/// What an item of `DeviceNameList` says; without a name it has an empty one, which is refused as such.
fn named<'a>(item: &BTreeMap<&str, &'a str>) -> Named<'a> {
    let field = |name| item.get(name).copied().filter(|value: &&str| !value.is_empty());
    (field("DeviceName").unwrap_or_default(), field("DeviceNickname"))
}

/// The names asked for; where both lists are given the one with names for people counts.
fn read(params: &Params) -> Result<Vec<Named<'_>>, ApiError> {
    let names: Vec<Named<'_>> = if params.has("DeviceNameList") {
        params.structs("DeviceNameList", usize::MAX)?.iter().map(named).collect()
    } else {
        params.list("DeviceName", usize::MAX)?.into_iter().map(|name| (name, None)).collect()
    };
    if names.is_empty() {
        return Err(Code::NoneDeviceName.into());
    }
    if names.len() > APPLY_NAMES_MAX {
        return Err(apply::too_many());
    }
    Ok(names)
}

/// Refuses names that break the rules or stand there twice; the answer lists them.
fn refuse_flaws(names: &[Named<'_>]) -> Result<(), ApiError> {
    let found = flaws(names);
    let Some(first) = found.iter().map(|(_, flaw)| *flaw).min() else { return Ok(()) };
    // A text that is wrong in several places is listed once.
    let distinct = |kind: Flaw| -> Vec<Node> {
        let text = |(at, _): &(usize, Flaw)| match kind {
            Flaw::Nickname => names[*at].1.unwrap_or_default(),
            Flaw::Name | Flaw::Repeated => names[*at].0,
        };
        let texts: BTreeSet<&str> = found.iter().filter(|(_, flaw)| *flaw == kind).map(text).collect();
        texts.into_iter().map(|text| Node::Text(text.to_owned())).collect()
    };
    let detail = |(at, flaw): &(usize, Flaw)| {
        let (name, nickname) = names[*at];
        let detail = Object::new().text("DeviceName", name).opt_text("NickName", nickname);
        Node::Object(detail.text("ErrorMsg", code(*flaw).text()))
    };
    let data = Object::new()
        .list("InvalidDeviceNameList", "InvalidDeviceName", distinct(Flaw::Name))
        .list("InvalidDeviceNicknameList", "InvalidDeviceNickname", distinct(Flaw::Nickname))
        .list("RepeatedDeviceNameList", "RepeatDevieNameList", distinct(Flaw::Repeated))
        .list("InvalidDetailList", "InvalidDetailList", found.iter().map(detail).collect());
    Err(ApiError::new(code(first)).telling(Object::new().object("Data", data)))
}

fn code(flaw: Flaw) -> Code {
    match flaw {
        Flaw::Name => Code::InvalidDeviceName,
        Flaw::Nickname => Code::InvalidNickname,
        Flaw::Repeated => Code::RepeatedDeviceName,
    }
}
