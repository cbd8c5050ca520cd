//! CreateOTAStaticUpgradeJob: upgrades all devices of a product, a share of them, those of a group, or those given
//! by name; at once or at a given time.
//!
//! The set of devices is fixed at creation: a device registered later is not in the batch. Unless the devices are
//! named in the call, it returns at once and the engine makes the tasks in bounded chunks.

use crate::api::answer::Object;
use crate::api::error::ApiError;
use crate::api::job::static_batch::{REQUIRED, StaticBatch, Whom};
use crate::api::{Call, Operation};
use crate::engine::advance::Effects;
use crate::engine::{self, expand};
use std::sync::Arc;
use updraft_core::id;
use updraft_store::{Lane, Tx};

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "CreateOTAStaticUpgradeJob",
    qps: 20,
    changes: true,
    required: REQUIRED,
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

async fn run(call: Call) -> Result<Object, ApiError> {
    let app = &call.app;
    let (instance, now) = (call.instance, app.now());
    let batch = StaticBatch::read(&call.params, now, app.config.minute_ms)?;
    let job_id = id::job_id(&app.random.bytes("job_id"));
    let answer = Object::new().text("JobId", &job_id).utc("UtcCreate", now);
    let listed = batch.listed(app, instance).await?;
    let part_devices = app.config.engine_chunk_rows as usize;
    let engine_app = Arc::clone(app);
    let create = move |tx: &mut Tx<'_>| {
        let allowed = batch.check(tx, &engine_app, instance)?;
        let job = tx.job_insert(&batch.row(&allowed, instance, &job_id), now)?;
        let effects = match &allowed.whom {
            Whom::UpTo(_) => Effects::default(),
            Whom::Named(candidates) => expand::create_all(tx, &engine_app, job, candidates, now)?,
            Whom::Listed => {
                tx.job_list_insert(job, listed.as_deref().unwrap_or_default(), part_devices)?;
                Effects::default()
            }
        };
        Ok::<_, ApiError>(((), Effects { wake: true, ..effects }))
    };
    engine::write(app, Lane::Interactive, create).await?;
    Ok(Object::new().object("Data", answer))
}
