//! ConfirmOTATask: the end users of up to ten devices agreed, so their tasks wait for their push. All or none.

use crate::api::answer::Object;
use crate::api::error::ApiError;
use crate::api::task::ids;
use crate::api::{Call, Operation};
use crate::engine;
use crate::engine::advance::Door;
use std::sync::Arc;
use updraft_core::task::{Event, TaskStatus};
use updraft_store::Lane;

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "ConfirmOTATask",
    qps: 20,
    changes: true,
    required: &["TaskId"],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

async fn run(call: Call) -> Result<Object, ApiError> {
    let wanted = ids::read(&call.params)?;
    let (instance, app) = (call.instance, Arc::clone(&call.app));
    engine::write(&call.app, Lane::Interactive, move |tx| {
        let tasks = wanted.iter().map(|id| Ok((id, ids::find(tx, instance, id)?)));
        let tasks = tasks.collect::<Result<Vec<_>, ApiError>>()?;
        let mut door = Door::open(tx, &app, app.now());
        door.load_tasks_and_beside(&tasks.iter().map(|(_, no)| *no).collect::<Vec<_>>())?;
        for (id, no) in tasks {
            let waited = door.status(no) == Some(TaskStatus::Confirm);
            door.apply_asked(no, &Event::Confirm)?
                .map_err(|refused| ids::forbidden(id, refused.status.name(), refused.why))?;
            // A second confirmation is no reason to tell a device again that is at work.
            if waited && door.is_reached(no)? {
                door.offer(no)?;
            }
        }
        Ok::<_, ApiError>(((), door.close()?))
    })
    .await?;
    Ok(Object::new())
}
