//! QueryDeviceStatistics: how many devices a product, a group, a product within a group or the instance has; how many
//! of them were ever online, and how many are.

use crate::api::answer::Object;
use crate::api::error::{ApiError, Code};
use crate::api::{Call, Operation};
use crate::app::App;
use updraft_core::id::{DeviceNo, GroupNo, ProductNo};
use updraft_store::Counted;

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "QueryDeviceStatistics",
    qps: 50,
    changes: false,
    required: &[],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

/// Entries of an index that are counted at once; others may read in between.
const COUNTED_AT_ONCE: i64 = 50_000;
/// Members of a group that are looked at at once: each is a look at a device.
const LOOKED_AT_AT_ONCE: i64 = 5_000;

#[derive(Default)]
struct Statistics {
    devices: i64,
    active: i64,
    online: i64,
}

async fn run(call: Call) -> Result<Object, ApiError> {
    let instance = call.instance;
    let key = call.params.text("ProductKey").map(str::to_owned);
    let group = call.params.text("GroupId").map(str::to_owned);
    let (products, group) = call
        .app
        .store
        .read(move |tx| {
            let products = match &key {
                Some(key) => {
                    let product = tx.product_find(instance, key)?.ok_or(Code::ProductNotFound)?;
                    vec![(product.no, product.device_count)]
                }
                None if group.is_some() => Vec::new(),
                None => tx.products_counted(instance)?,
            };
            let group = match &group {
                Some(id) => Some(tx.group_find(instance, id)?.ok_or(Code::GroupNotFound)?.no),
                None => None,
            };
            Ok::<_, ApiError>((products, group))
        })
        .await?;
    let all = match group {
        Some(group) => of_group(&call.app, group, products.first().map(|(product, _)| *product)).await?,
        None => of_products(&call.app, products).await?,
    };
    let data = Object::new()
        .int("deviceCount", all.devices)
        .int("activeCount", all.active)
        .int("onlineCount", all.online);
    Ok(Object::new().object("Data", data))
}

async fn of_products(app: &App, products: Vec<(ProductNo, i64)>) -> Result<Statistics, ApiError> {
    let mut all = Statistics::default();
    for (product, devices) in products.into_iter().filter(|(_, devices)| *devices > 0) {
        all.devices += devices;
        all.active += count(app, product, Counted::Active).await?;
        all.online += count(app, product, Counted::Online).await?;
    }
    Ok(all)
}

async fn count(app: &App, product: ProductNo, what: Counted) -> Result<i64, ApiError> {
    let (mut all, mut after) = (0, DeviceNo(0));
    loop {
        let piece = move |tx: &mut updraft_store::Tx<'_>| {
            Ok::<_, ApiError>(tx.devices_counted(product, what, after, COUNTED_AT_ONCE)?)
        };
        let (counted, last) = app.store.read(piece).await?;
        all += counted;
        if counted < COUNTED_AT_ONCE {
            return Ok(all);
        }
        after = last;
        tokio::task::yield_now().await;
    }
}

async fn of_group(app: &App, group: GroupNo, product: Option<ProductNo>) -> Result<Statistics, ApiError> {
    let (mut all, mut after) = (Statistics::default(), DeviceNo(0));
    loop {
        let piece = move |tx: &mut updraft_store::Tx<'_>| {
            Ok::<_, ApiError>(tx.members_counted(group, product, after, LOOKED_AT_AT_ONCE)?)
        };
        let piece = app.store.read(piece).await?;
        all.devices += piece.devices;
        all.active += piece.active;
        all.online += piece.online;
        if piece.looked_at < LOOKED_AT_AT_ONCE {
            return Ok(all);
        }
        after = piece.last;
        tokio::task::yield_now().await;
    }
}
