//! CancelOTATaskByJob: ends the tasks of a batch that are in the states named by flags.
//!
//! Up to a chunk of tasks is cancelled in the call's own transaction. A larger wish is stored with the batch and
//! carried out chunk by chunk; a crash in between resumes it. Until it is done, no further device of the batch
//! is told: else a task that was not in a named state when the call was made could slip into one.

use crate::api::answer::Object;
use crate::api::error::{ApiError, Code};
use crate::api::{Call, Operation};
use crate::engine;
use crate::engine::advance::Effects;
use std::sync::Arc;
use updraft_core::job::JobStatus;
use updraft_core::task::Cancel;
use updraft_store::Lane;

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "CancelOTATaskByJob",
    qps: 5,
    changes: true,
    required: &["JobId"],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

async fn run(call: Call) -> Result<Object, ApiError> {
    let params = &call.params;
    let id = params.need("JobId")?.to_owned();
    let flag = |name| params.flag(name).map(|flag| flag.unwrap_or(false));
    let queued = flag("CancelQueuedTask")?;
    let cancel = Cancel {
        // Unset, tasks that wait for consent follow CancelQueuedTask; set, the flag decides by itself.
        confirm: params.flag("CancelUnconfirmedTask")?.unwrap_or(queued),
        queued,
        notified: flag("CancelNotifiedTask")?,
        in_progress: flag("CancelInProgressTask")?,
    };
    // A flag of its own for batches that wait for their time: it reaches all of their tasks.
    let scheduled = flag("CancelScheduledTask")?;
    if cancel == Cancel::default() && !scheduled {
        return Err(Code::NullCancelFlag.into());
    }
    let (instance, now) = (call.instance, call.app.now());
    let app = Arc::clone(&call.app);
    let (job, more) = engine::write(&call.app, Lane::Interactive, move |tx| {
        let job = tx.job_find(instance, &id)?.ok_or_else(|| ApiError::new(Code::JobNotFound))?;
        let planned = scheduled && job.status == JobStatus::Planned;
        let cancel = if planned { Cancel::ALL } else { cancel };
        if job.is_over() || cancel == Cancel::default() {
            return Ok(((job.no, false), Effects::default()));
        }
        // A second call adds to one that is still being carried out.
        tx.job_cancel_add(job.no, cancel, now)?;
        let (more, effects) = engine::cancel_step(tx, &app, job.no)?;
        Ok::<_, ApiError>(((job.no, more || !job.expanded), effects))
    })
    .await?;
    if more {
        engine::finish_cancel(&call.app, job).await?;
    }
    Ok(Object::new())
}
