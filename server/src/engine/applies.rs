//! Registrations of devices in bulk: checks names and makes devices, a chunk of one registration a round.
//!
//! How far each is stands in its row, in the transaction of the work itself: a crash loses and doubles nothing.

use crate::api::device::register_device::SEAL_PURPOSE;
use crate::app::App;
use crate::engine::chunk_rows;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use updraft_core::apply::{ApplyStatus, NameProblem};
use updraft_core::id;
use updraft_core::time::Timestamp;
use updraft_store::{Apply, ApplyName, Lane, NewDevice, StoreError, Tx};

/// Works at the oldest registration; answers whether there may be more to do.
pub async fn work_chunk(app: &Arc<App>) -> Result<bool, StoreError> {
    if app.store.read(|tx| tx.apply_next()).await?.is_none() {
        return Ok(false);
    }
    let shared = Arc::clone(app);
    app.store.write(Lane::Bulk, move |tx| work(tx, &shared, shared.now())).await
}

fn work(tx: &mut Tx<'_>, app: &App, now: Timestamp) -> Result<bool, StoreError> {
    let Some(mut apply) = tx.apply_next()? else { return Ok(false) };
    let rows = chunk_rows(app);
    let names = tx.apply_names(apply.no, apply.done, rows)?;
    if apply.status == ApplyStatus::Check {
        check(tx, &mut apply, &names)?;
    } else {
        create(tx, app, &mut apply, names.clone(), now)?;
    }
    if let Some(last) = names.last() {
        apply.done = last.ordinal;
    }
    if (names.len() as i64) < rows {
        apply.status = apply.status.done(apply.bad, apply.wanted);
        apply.done = 0;
        tracing::info!(
            apply = apply.apply_id,
            status = apply.status.name(),
            made = apply.made,
            bad = apply.bad,
            "a registration in bulk goes on"
        );
    }
    tx.apply_put(&apply, now)?;
    Ok(true)
}

/// Notes which names the product has already.
fn check(tx: &mut Tx<'_>, apply: &mut Apply, names: &[ApplyName]) -> Result<(), StoreError> {
    let taken = taken(tx, apply, names)?;
    let is_taken = |name: &&ApplyName| taken.contains(&name.name);
    let bad: Vec<_> = names.iter().filter(is_taken).map(|name| (name.ordinal, NameProblem::Taken)).collect();
    tx.apply_names_bad(apply.no, &bad)?;
    apply.bad += bad.len() as i64;
    Ok(())
}

/// Makes devices of names. A name may have been taken since it was checked, and the product may be full by now.
fn create(
    tx: &mut Tx<'_>,
    app: &App,
    apply: &mut Apply,
    names: Vec<ApplyName>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let product = tx.product_load(apply.product)?.ok_or_else(|| StoreError::Corrupt {
        place: "device_apply.product",
        detail: format!("there is no product {}", apply.product),
    })?;
    let room = usize::try_from(app.config.devices_per_product_max - product.device_count).unwrap_or(0);
    let taken = taken(tx, apply, &names)?;
    let (mut bad, mut new, mut ordinals) = (Vec::new(), Vec::new(), BTreeMap::new());
    for name in names {
        if taken.contains(&name.name) {
            bad.push((name.ordinal, NameProblem::Taken));
        } else if new.len() >= room {
            bad.push((name.ordinal, NameProblem::ProductFull));
        } else {
            ordinals.insert(name.name.clone(), name.ordinal);
            new.push(device(app, apply, name)?);
        }
    }
    let made = tx.devices_insert(apply.product, &new, now)?;
    let made: Vec<_> =
        made.into_iter().filter_map(|(name, device)| Some((*ordinals.get(&name)?, device))).collect();
    tx.apply_names_made(apply.no, &made)?;
    tx.apply_names_bad(apply.no, &bad)?;
    apply.made += made.len() as i64;
    apply.bad += bad.len() as i64;
    Ok(())
}

/// Those of the names that devices of the product have.
fn taken(tx: &mut Tx<'_>, apply: &Apply, names: &[ApplyName]) -> Result<BTreeSet<String>, StoreError> {
    let names: Vec<String> = names.iter().map(|name| name.name.clone()).collect();
    Ok(tx.devices_find(apply.product, &names)?.into_iter().map(|device| device.name).collect())
}

fn device(app: &App, apply: &Apply, name: ApplyName) -> Result<NewDevice, StoreError> {
    let secret = app.random.secret("device_secret");
    let sealed = app.master.seal(SEAL_PURPOSE, &secret);
    Ok(NewDevice {
        product: apply.product,
        name: name.name,
        iot_id: id::alphanumeric(&app.random.bytes::<32>("iot_id")),
        secret_sealed: sealed.map_err(|error| StoreError::Internal(error.to_string()))?,
        nickname: name.nickname,
    })
}
