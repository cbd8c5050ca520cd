//! How a caller names a gateway beside other devices: `GwIotId`, or `GwProductKey` and `GwDeviceName`.

use crate::api::device::address::Address;
use crate::api::error::{ApiError, Code};
use crate::api::params::Params;
use updraft_core::id::InstanceNo;
use updraft_store::{Device, Product, Tx};

/// Reads the parameters that name the gateway.
pub fn read(params: &Params) -> Result<Address, ApiError> {
    if let Some(id) = params.text("GwIotId") {
        return Ok(Address::IotId(id.to_owned()));
    }
    let names = params.text("GwProductKey").zip(params.text("GwDeviceName"));
    let (key, name) = names.ok_or_else(|| {
        ApiError::with(Code::NullDeviceName, "Give GwIotId, or GwProductKey together with GwDeviceName.")
    })?;
    Ok(Address::Names(key.to_owned(), name.to_owned()))
}

/// The gateway, with its product.
pub fn find(address: &Address, tx: &mut Tx<'_>, instance: InstanceNo) -> Result<(Product, Device), ApiError> {
    let (product, device) = address.find(tx, instance)?;
    if product.node_type != 1 {
        return Err(ApiError::with(
            Code::AddTopoFailed,
            "The device is no gateway: its product's NodeType is 0.",
        ));
    }
    Ok((product, device))
}
