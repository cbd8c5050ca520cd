//! What the engine does for device groups: which devices are in dynamic ones, and forgetting the members of deleted
//! ones.
//!
//! Membership is stored. It follows from what is stored of a device when it is looked at, so looking twice does no
//! harm. A new group looks at all devices that exist, in chunks, with a cursor on its row; after that devices that
//! change are noted for review.

use crate::app::App;
use crate::engine::chunk_rows;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use updraft_core::group::expression::Expression;
use updraft_core::id::{DeviceNo, GroupNo, InstanceNo};
use updraft_store::{DeviceChange, Lane, StoreError, Tx};

/// Brings the dynamic groups that these devices are in up to date.
pub fn refresh(tx: &mut Tx<'_>, devices: &[DeviceNo]) -> Result<(), StoreError> {
    if !tx.groups_ask_for(DeviceChange::Itself)? {
        return Ok(());
    }
    let facts = tx.device_facts(devices)?;
    let mut rules: BTreeMap<InstanceNo, Vec<(GroupNo, Expression)>> = BTreeMap::new();
    for instance in facts.values().map(|(instance, _)| *instance).collect::<BTreeSet<_>>() {
        rules.insert(instance, load_rules(tx, instance)?);
    }
    let known: Vec<DeviceNo> = facts.keys().copied().collect();
    let memberships = tx.groups_of(&known)?;
    let before: BTreeSet<(GroupNo, DeviceNo)> =
        memberships.iter().filter(|of| of.dynamic).map(|of| (of.group, of.device)).collect();
    let mut joining: BTreeMap<GroupNo, Vec<DeviceNo>> = BTreeMap::new();
    let mut leaving: BTreeMap<GroupNo, Vec<DeviceNo>> = BTreeMap::new();
    for (device, (instance, facts)) in &facts {
        for (group, expression) in rules.get(instance).into_iter().flatten() {
            match (before.contains(&(*group, *device)), expression.matches(facts)) {
                (false, true) => joining.entry(*group).or_default().push(*device),
                (true, false) => leaving.entry(*group).or_default().push(*device),
                _ => {}
            }
        }
    }
    for (group, devices) in &joining {
        tx.group_members_add(*group, devices)?;
    }
    for (group, devices) in &leaving {
        tx.group_members_remove(*group, devices)?;
    }
    Ok(())
}

fn load_rules(tx: &mut Tx<'_>, instance: InstanceNo) -> Result<Vec<(GroupNo, Expression)>, StoreError> {
    let mut rules = Vec::new();
    for (group, text) in tx.groups_dynamic(instance)? {
        match Expression::parse(&text) {
            Ok(expression) => rules.push((group, expression)),
            // It was read when it was stored. The group stays as it is, and the others go on.
            Err(error) => {
                tracing::error!(group = group.0, %error, "a dynamic group's expression cannot be read");
            }
        }
    }
    Ok(rules)
}

/// Lets the next new dynamic group look at its next devices; answers whether there may be more.
pub async fn walk_chunk(app: &Arc<App>) -> Result<bool, StoreError> {
    if app.store.read(|tx| tx.group_walking()).await?.is_none() {
        return Ok(false);
    }
    let rows = chunk_rows(app);
    app.store
        .write(Lane::Bulk, move |tx| {
            let Some(walk) = tx.group_walking()? else { return Ok(false) };
            let next = tx.group_walk_devices(&walk, rows)?;
            let own: Vec<DeviceNo> =
                next.iter().filter(|(_, of)| *of == walk.instance).map(|(device, _)| *device).collect();
            refresh(tx, &own)?;
            let last = next.last().filter(|_| next.len() as i64 == rows).map(|(device, _)| *device);
            tx.group_walk_set(walk.group, last)?;
            Ok(true)
        })
        .await
}

/// Forgets the next members of a deleted group; answers whether there may be more.
pub async fn clear_chunk(app: &Arc<App>) -> Result<bool, StoreError> {
    if app.store.read(|tx| tx.group_clearing()).await?.is_none() {
        return Ok(false);
    }
    let rows = chunk_rows(app);
    app.store
        .write(Lane::Bulk, move |tx| {
            let Some(group) = tx.group_clearing()? else { return Ok(false) };
            tx.group_clear(group, rows)?;
            Ok(true)
        })
        .await
}
