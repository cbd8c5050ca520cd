//! What the operations about registrations in bulk have in common.

use crate::api::error::{ApiError, Code};
use crate::app::App;
use updraft_core::id::InstanceNo;
use updraft_core::limits::APPLY_NAMES_MAX;
use updraft_core::time::Timestamp;
use updraft_store::{Apply, NewApply, Product, StoreError, Tx};

/// Draws of an id before giving up; that one is taken already is next to impossible.
const DRAWS_MAX: usize = 8;

/// More names than one registration takes.
pub fn too_many() -> ApiError {
    ApiError::with(
        Code::DeviceCountExceeded,
        format!("At most {APPLY_NAMES_MAX} devices are registered with one ApplyId."),
    )
}

/// Refuses what would make the product larger than it may be.
pub fn refuse_full(app: &App, product: &Product, more: i64) -> Result<(), ApiError> {
    let max = app.config.devices_per_product_max;
    if product.device_count.saturating_add(more) <= max {
        return Ok(());
    }
    Err(ApiError::with(
        Code::ProductDeviceCountExceeded,
        format!(
            "The product has {} of at most {max} devices (devices_per_product_max); {more} more are too many.",
            product.device_count
        ),
    ))
}

/// Refuses to make devices in bulk while others of the product are being made.
pub fn refuse_running(tx: &mut Tx<'_>, product: &Product) -> Result<(), ApiError> {
    if tx.apply_running(product.no)? { Err(Code::CreateDeviceTaskIsRunning.into()) } else { Ok(()) }
}

/// Adds a registration under a new id, which it answers.
pub fn insert(tx: &mut Tx<'_>, app: &App, new: &NewApply, now: Timestamp) -> Result<i64, ApiError> {
    for _ in 0..DRAWS_MAX {
        // 48 bits: JavaScript reads it without loss, and nobody guesses it.
        let mut bytes = [0; 8];
        bytes[2..].copy_from_slice(&app.random.bytes::<6>("apply_id"));
        let apply_id = i64::from_be_bytes(bytes).max(1);
        if tx.apply_insert(&NewApply { apply_id, ..new.clone() }, now)?.is_some() {
            return Ok(apply_id);
        }
    }
    Err(StoreError::Internal("no ApplyId is free".to_owned()).into())
}

/// The product that a call names, and its registration.
pub fn find(
    tx: &mut Tx<'_>,
    instance: InstanceNo,
    product_key: &str,
    apply_id: i64,
) -> Result<(Product, Apply), ApiError> {
    let product =
        tx.product_find(instance, product_key)?.ok_or_else(|| ApiError::new(Code::ProductNotFound))?;
    let apply = tx.apply_find(instance, apply_id)?.filter(|apply| apply.product == product.no);
    Ok((product, apply.ok_or_else(|| ApiError::new(Code::ApplyNotFound))?))
}
