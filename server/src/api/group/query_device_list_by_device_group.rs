//! QueryDeviceListByDeviceGroup: the devices of a group of either kind, page by page, newest first.

use crate::api::answer::{Node, Object};
use crate::api::error::ApiError;
use crate::api::group::kind;
use crate::api::group::query_device_group_list::PAGE_SIZE;
use crate::api::{Call, Operation, page};
use updraft_core::id::DeviceNo;
use updraft_core::limits::GROUP_PAGE_SIZE_MAX;
use updraft_store::Member;

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "QueryDeviceListByDeviceGroup",
    qps: 5,
    changes: false,
    required: &["GroupId"],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

async fn run(call: Call) -> Result<Object, ApiError> {
    let (instance, params) = (call.instance, &call.params);
    let id = params.need("GroupId")?.to_owned();
    let number = params.int("CurrentPage")?.unwrap_or(1);
    let page = page::new(number, params.int("PageSize")?.unwrap_or(PAGE_SIZE), GROUP_PAGE_SIZE_MAX)?;
    let (total, members) = call
        .app
        .store
        .read(move |tx| {
            let group = kind::find(tx, instance, &id)?;
            Ok::<_, ApiError>((
                group.device_count,
                tx.group_members(group.no, DeviceNo(i64::MAX), page.skip(), page.size())?,
            ))
        })
        .await?;
    Ok(Object::new()
        .int("Total", total)
        .int("PageCount", page.count(total))
        .int("PageSize", page.size())
        .int("Page", page.number())
        .list("Data", "SimpleDeviceInfo", members.iter().map(row).collect()))
}

fn row(member: &Member) -> Node {
    Node::Object(
        Object::new()
            .text("ProductKey", &member.product_key)
            .text("ProductName", &member.product_name)
            .text("DeviceName", &member.name)
            .text("IotId", &member.iot_id),
    )
}
