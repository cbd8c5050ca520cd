//! ListOTAModuleVersionsByDevice: the versions that a device has reported, module by module.

use crate::api::answer::{Node, Object};
use crate::api::device::address::Address;
use crate::api::error::ApiError;
use crate::api::{Call, Operation, page};
use updraft_core::limits::MODULE_PAGE_SIZE_MAX;

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "ListOTAModuleVersionsByDevice",
    qps: 10,
    changes: false,
    required: &["CurrentPage", "PageSize"],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

async fn run(call: Call) -> Result<Object, ApiError> {
    let instance = call.instance;
    let page = page::need(&call.params, MODULE_PAGE_SIZE_MAX)?;
    let address = Address::read(&call.params)?;
    let (product, device, (versions, total)) = call
        .app
        .store
        .read(move |tx| {
            let (product, device) = address.find(tx, instance)?;
            let versions = tx.versions_page(device.no, page)?;
            Ok::<_, ApiError>((product, device, versions))
        })
        .await?;
    let row = |(module, version): &(String, String)| {
        Node::Object(
            Object::new()
                .text("ModuleName", module)
                .text("ModuleVersion", version)
                .text("ProductKey", &product.product_key)
                .text("DeviceName", &device.name)
                .text("IotId", &device.iot_id),
        )
    };
    let rows = versions.iter().map(row).collect();
    let data = Object::new().list("Data", "SimpleOTAModuleInfo", rows);
    Ok(page::fields(data, page, total))
}
