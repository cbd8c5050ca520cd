//! CancelOTAStrategyByJob: a dynamic batch takes nobody in any more. Its tasks live on.

use crate::api::answer::Object;
use crate::api::error::{ApiError, Code};
use crate::api::{Call, Operation};
use std::sync::Arc;
use updraft_store::{Lane, Tx};

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "CancelOTAStrategyByJob",
    qps: 10,
    changes: true,
    required: &["JobId"],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

async fn run(call: Call) -> Result<Object, ApiError> {
    let id = call.params.need("JobId")?.to_owned();
    let (instance, now) = (call.instance, call.app.now());
    let wake = Arc::clone(&call.app);
    // Older dynamic batches may look at their devices again.
    let begin = move |(): &()| wake.awaken();
    let cancel = move |tx: &mut Tx<'_>| {
        let job = tx.job_find(instance, &id)?.ok_or_else(|| ApiError::new(Code::JobNotFound))?;
        if job.conduct.dynamic.is_none() {
            return Err(ApiError::new(Code::NotDynamicJob));
        }
        // A second call finds nothing to do.
        if job.policy {
            tx.policy_end(&job, now)?;
            tracing::info!(job.id = job.job_id, tasks = job.task_count, "a dynamic batch ends");
        }
        Ok::<_, ApiError>(())
    };
    call.app.store.write_then(Lane::Interactive, cancel, begin).await?;
    Ok(Object::new())
}
