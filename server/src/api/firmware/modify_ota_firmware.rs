//! ModifyOTAFirmware: changes a package's name, description or custom information. What is not given stays.

use crate::api::answer::Object;
use crate::api::error::{ApiError, Code};
use crate::api::{Call, Operation};
use updraft_core::limits::{FIRMWARE_DESC_CHARS_MAX, UDI_CHARS_MAX};
use updraft_core::text;
use updraft_store::{FirmwareChanges, Lane};

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "ModifyOTAFirmware",
    qps: 10,
    changes: true,
    required: &["FirmwareId", "ProductKey"],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

async fn run(call: Call) -> Result<Object, ApiError> {
    let params = &call.params;
    let owned = |name: &str| params.text(name).map(str::to_owned);
    let changes = FirmwareChanges {
        name: owned("FirmwareName"),
        description: owned("FirmwareDesc"),
        udi: owned("FirmwareUdi"),
    };
    if changes.name.as_ref().is_some_and(|name| !text::firmware_name(name)) {
        return Err(Code::InvalidFirmwareName.into());
    }
    let long = |value: &Option<String>, max| value.as_ref().is_some_and(|value| !text::at_most(value, max));
    if long(&changes.description, FIRMWARE_DESC_CHARS_MAX) || long(&changes.udi, UDI_CHARS_MAX) {
        return Err(Code::LongFirmwareText.into());
    }
    let (id, key) = (params.need("FirmwareId")?.to_owned(), params.need("ProductKey")?.to_owned());
    let (instance, now) = (call.instance, call.app.now());
    call.app
        .store
        .write(Lane::Interactive, move |tx| {
            let firmware =
                tx.firmware_find(instance, &id)?.ok_or_else(|| ApiError::new(Code::FirmwareNotFound))?;
            let product =
                tx.product_find(instance, &key)?.ok_or_else(|| ApiError::new(Code::ProductNotFound))?;
            if product.no != firmware.product {
                return Err(Code::FirmwareOfOtherProduct.into());
            }
            if tx.firmware_modify(&firmware, &changes, now)? {
                Ok(())
            } else {
                Err(ApiError::new(Code::FirmwareNameExists))
            }
        })
        .await?;
    Ok(Object::new())
}
