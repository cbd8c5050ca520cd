//! QueryDeviceGroupList: the groups of an instance, page by page, newest first.

use crate::api::answer::Object;
use crate::api::error::{ApiError, Code};
use crate::api::group::kind;
use crate::api::{Call, Operation, page};
use updraft_core::limits::GROUP_PAGE_SIZE_MAX;
use updraft_core::text;
use updraft_store::GroupFilter;

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "QueryDeviceGroupList",
    qps: 100,
    changes: false,
    required: &[],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

/// Rows of a page whose size is not given; on this and the other lists of groups and their devices.
pub const PAGE_SIZE: i64 = 10;

async fn run(call: Call) -> Result<Object, ApiError> {
    let (instance, params) = (call.instance, &call.params);
    let number = params.int("CurrentPage")?.unwrap_or(1);
    let page = page::new(number, params.int("PageSize")?.unwrap_or(PAGE_SIZE), GROUP_PAGE_SIZE_MAX)?;
    let dynamic = kind::read(params.list("GroupTypes", 1)?.first().copied())?;
    let name = params.text("GroupName").map(str::to_owned);
    if name.as_deref().is_some_and(|name| !text::group_name(name)) {
        return Err(Code::InvalidGroupName.into());
    }
    let parent = params.text("SuperGroupId").map(str::to_owned);
    let (groups, total) = call
        .app
        .store
        .read(move |tx| {
            let parent = match &parent {
                Some(id) => Some(kind::find_of_kind(tx, instance, id, false)?.no),
                None => None,
            };
            let filter = GroupFilter { dynamic, name: name.as_deref(), parent };
            Ok::<_, ApiError>(tx.group_list(instance, filter, page)?)
        })
        .await?;
    let rows = groups.iter().map(kind::row).collect();
    Ok(page::fields(Object::new(), page, total).list("Data", "GroupInfo", rows))
}
