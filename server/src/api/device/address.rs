//! How a caller names one device: by IotId, or by ProductKey and DeviceName. Both given: IotId wins.

use crate::api::error::{ApiError, Code};
use crate::api::params::Params;
use updraft_core::id::InstanceNo;
use updraft_store::{Device, Product, Tx};

/// A device as a caller names it.
pub enum Address {
    /// By IotId.
    IotId(String),
    /// By product key and name.
    Names(String, String),
}

impl Address {
    /// Reads the three parameters.
    pub fn read(params: &Params) -> Result<Self, ApiError> {
        if let Some(id) = params.text("IotId") {
            return Ok(Self::IotId(id.to_owned()));
        }
        let names = params.text("ProductKey").zip(params.text("DeviceName"));
        let (key, name) = names.ok_or(Code::NullDeviceName)?;
        Ok(Self::Names(key.to_owned(), name.to_owned()))
    }

    /// The device, with its product.
    pub fn find(&self, tx: &mut Tx<'_>, instance: InstanceNo) -> Result<(Product, Device), ApiError> {
        let not_found = || ApiError::new(Code::DeviceNotFound);
        match self {
            Self::IotId(id) => {
                let device = tx.device_find_by_iot_id(instance, id)?.ok_or_else(not_found)?;
                Ok((tx.product_load(device.product)?.ok_or_else(not_found)?, device))
            }
            Self::Names(key, name) => {
                let product =
                    tx.product_find(instance, key)?.ok_or_else(|| ApiError::new(Code::ProductNotFound))?;
                let device = tx.device_find(product.no, name)?.ok_or_else(not_found)?;
                Ok((product, device))
            }
        }
    }
}
