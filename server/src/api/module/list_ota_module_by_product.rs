//! ListOTAModuleByProduct: the modules that were made for a product.

use crate::api::answer::{Node, Object, gmt};
use crate::api::error::{ApiError, Code};
use crate::api::{Call, Operation};

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "ListOTAModuleByProduct",
    qps: 10,
    changes: false,
    required: &["ProductKey"],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

async fn run(call: Call) -> Result<Object, ApiError> {
    let instance = call.instance;
    let key = call.params.need("ProductKey")?.to_owned();
    let (product, modules) = call
        .app
        .store
        .read(move |tx| {
            let product =
                tx.product_find(instance, &key)?.ok_or_else(|| ApiError::new(Code::ProductNotFound))?;
            let modules = tx.modules(product.no)?;
            Ok::<_, ApiError>((product, modules))
        })
        .await?;
    let row = |module: &updraft_store::Module| {
        Node::Object(
            Object::new()
                .text("ModuleName", &module.name)
                .opt_text("AliasName", module.alias.as_deref())
                .opt_text("Desc", module.description.as_deref())
                .text("ProductKey", &product.product_key)
                .text("GmtCreate", gmt(module.created_at))
                .text("GmtModified", gmt(module.modified_at)),
        )
    };
    Ok(Object::new().with("Data", Node::Bare(modules.iter().map(row).collect())))
}
