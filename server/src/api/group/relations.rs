//! The devices that a call adds to a group or takes out of it.

use crate::api::error::ApiError;
use crate::api::params::Params;
use std::collections::{BTreeMap, BTreeSet};
use updraft_core::id::{DeviceNo, InstanceNo};
use updraft_core::limits::GROUP_RELATIONS_MAX;
use updraft_store::{Membership, Tx};

/// Device names by product key, each name once.
pub type Named = BTreeMap<String, BTreeSet<String>>;

/// Reads `Device.N.ProductKey` and `Device.N.DeviceName`.
pub fn read(params: &Params) -> Result<Named, ApiError> {
    let mut named = Named::new();
    for device in params.structs("Device", GROUP_RELATIONS_MAX)? {
        let field = |name: &str| device.get(name).filter(|value| !value.is_empty());
        let (Some(key), Some(name)) = (field("ProductKey"), field("DeviceName")) else {
            return Err(ApiError::invalid("Device", "Each item needs a ProductKey and a DeviceName."));
        };
        named.entry((*key).to_owned()).or_default().insert((*name).to_owned());
    }
    if named.is_empty() {
        return Err(ApiError::missing("Device"));
    }
    Ok(named)
}

/// Those of the named devices that exist, each with its memberships.
pub fn find(
    tx: &mut Tx<'_>,
    instance: InstanceNo,
    named: &Named,
) -> Result<BTreeMap<DeviceNo, Vec<Membership>>, ApiError> {
    let mut found = BTreeMap::new();
    for (key, names) in named {
        let Some(product) = tx.product_find(instance, key)? else { continue };
        let names: Vec<String> = names.iter().cloned().collect();
        for device in tx.devices_find(product.no, &names)? {
            found.insert(device.no, Vec::new());
        }
    }
    let devices: Vec<DeviceNo> = found.keys().copied().collect();
    for of in tx.groups_of(&devices)? {
        found.entry(of.device).or_default().push(of);
    }
    Ok(found)
}
