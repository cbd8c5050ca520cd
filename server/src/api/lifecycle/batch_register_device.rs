//! BatchRegisterDevice: registers devices in bulk, with names that are drawn.

use crate::api::answer::Object;
use crate::api::error::{ApiError, Code};
use crate::api::lifecycle::apply;
use crate::api::{Call, Operation};
use crate::engine;
use crate::engine::advance::Effects;
use std::sync::Arc;
use updraft_core::apply::ApplyStatus;
use updraft_core::id;
use updraft_core::limits::APPLY_NAMES_MAX;
use updraft_store::{Lane, NewApply};

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "BatchRegisterDevice",
    qps: 10,
    changes: true,
    required: &["ProductKey", "Count"],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

async fn run(call: Call) -> Result<Object, ApiError> {
    let (key, count) = (call.params.need("ProductKey")?.to_owned(), call.params.need_int("Count")?);
    let wanted = usize::try_from(count).ok().filter(|count| *count > 0);
    let wanted = wanted.ok_or_else(|| ApiError::invalid("Count", "It must be 1 or more."))?;
    if wanted > APPLY_NAMES_MAX {
        return Err(apply::too_many());
    }
    let (instance, app, now) = (call.instance, Arc::clone(&call.app), call.app.now());
    let name = |_| (id::alphanumeric(&app.random.bytes::<20>("device_name")), None);
    let names: Vec<_> = (0..wanted).map(name).collect();
    let apply_id = engine::write(&call.app, Lane::Bulk, move |tx| {
        let product = tx.product_find(instance, &key)?.ok_or_else(|| ApiError::new(Code::ProductNotFound))?;
        apply::refuse_running(tx, &product)?;
        apply::refuse_full(&app, &product, count)?;
        let new =
            NewApply { product: product.no, apply_id: 0, status: ApplyStatus::Create, names: names.clone() };
        let apply_id = apply::insert(tx, &app, &new, now)?;
        Ok::<_, ApiError>((apply_id, Effects { wake: true, ..Effects::default() }))
    })
    .await?;
    Ok(Object::new().object("Data", Object::new().int("ApplyId", apply_id)))
}
