//! QueryBatchRegisterDeviceStatus: tells how far a registration in bulk is, and which names it failed for.

use crate::api::answer::{Node, Object};
use crate::api::error::ApiError;
use crate::api::lifecycle::apply;
use crate::api::{Call, Operation};
use updraft_core::limits::APPLY_NAMES_MAX;
use updraft_store::ApplyName;

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "QueryBatchRegisterDeviceStatus",
    qps: 30,
    changes: false,
    required: &["ProductKey", "ApplyId"],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

async fn run(call: Call) -> Result<Object, ApiError> {
    let (key, apply_id) = (call.params.need("ProductKey")?.to_owned(), call.params.need_int("ApplyId")?);
    let instance = call.instance;
    let (status, names) = call
        .app
        .store
        .read(move |tx| {
            let (_, apply) = apply::find(tx, instance, &key, apply_id)?;
            let listed = if apply.status.has_failed() { APPLY_NAMES_MAX as i64 } else { 0 };
            Ok::<_, ApiError>((apply.status, tx.apply_names(apply.no, 0, listed)?))
        })
        .await?;
    let data = Object::new().text("Status", status.name());
    Ok(Object::new().object("Data", if status.has_failed() { lists(data, &names) } else { data }))
}

/// Adds which names were good and which were not.
fn lists(data: Object, names: &[ApplyName]) -> Object {
    let of = |bad: bool| {
        let names = names.iter().filter(|name| name.problem.is_some() == bad);
        names.map(|name| Node::Text(name.name.clone())).collect()
    };
    let detail = |name: &ApplyName| {
        let detail =
            Object::new().text("DeviceName", &name.name).opt_text("NickName", name.nickname.as_deref());
        name.problem.map(|problem| Node::Object(detail.text("ErrorMsg", problem.text())))
    };
    data.list("ValidList", "Name", of(false)).list("InvalidList", "Name", of(true)).list(
        "InvalidDetailList",
        "invalidDetailList",
        names.iter().filter_map(detail).collect(),
    )
}
