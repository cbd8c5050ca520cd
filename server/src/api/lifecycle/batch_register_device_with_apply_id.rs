//! BatchRegisterDeviceWithApplyId: makes the devices whose names BatchCheckDeviceNames checks.

use crate::api::answer::Object;
use crate::api::error::{ApiError, Code};
use crate::api::lifecycle::apply;
use crate::api::{Call, Operation};
use crate::engine;
use crate::engine::advance::Effects;
use std::sync::Arc;
use updraft_core::apply::ApplyStatus;
use updraft_store::{Apply, Lane};

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "BatchRegisterDeviceWithApplyId",
    qps: 500,
    changes: true,
    required: &["ProductKey", "ApplyId"],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

async fn run(call: Call) -> Result<Object, ApiError> {
    let (key, apply_id) = (call.params.need("ProductKey")?.to_owned(), call.params.need_int("ApplyId")?);
    let (instance, app, now) = (call.instance, Arc::clone(&call.app), call.app.now());
    engine::write(&call.app, Lane::Interactive, move |tx| {
        let (product, mut apply) = apply::find(tx, instance, &key, apply_id)?;
        apply::refuse_running(tx, &product)?;
        refuse_ended(&apply)?;
        apply::refuse_full(&app, &product, tx.apply_size(apply.no)?)?;
        apply.wanted = true;
        // While the names are still being checked, the wish waits for the check.
        if apply.status == ApplyStatus::CheckSuccess {
            apply.status = ApplyStatus::Create;
        }
        tx.apply_put(&apply, now)?;
        Ok::<_, ApiError>(((), Effects { wake: true, ..Effects::default() }))
    })
    .await?;
    Ok(Object::new().object("Data", Object::new().int("ApplyId", apply_id)))
}

/// Refuses a registration of which nothing can become any more.
fn refuse_ended(apply: &Apply) -> Result<(), ApiError> {
    let why = match apply.status {
        ApplyStatus::Check | ApplyStatus::CheckSuccess => return Ok(()),
        ApplyStatus::CheckFailed => {
            "Some names of this ApplyId cannot be registered: QueryBatchRegisterDeviceStatus lists them. Check \
             the corrected names with BatchCheckDeviceNames, and use its ApplyId."
        }
        ApplyStatus::Create
        | ApplyStatus::CreateSuccess
        | ApplyStatus::CreateFailed
        | ApplyStatus::Forgotten => "The devices of this ApplyId were registered already.",
    };
    Err(ApiError::with(Code::IncorrectApply, why))
}
