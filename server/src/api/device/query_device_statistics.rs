//! QueryDeviceStatistics: how many devices a product, a group, a product within a group or the instance has; how many
//! of them were ever online, and how many are.

use crate::api::answer::Object;
use crate::api::error::{ApiError, Code};
use crate::api::{Call, Operation};
use crate::app::App;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicI64, Ordering};
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

/// Counts that are kept for calls that wait; beyond it they are forgotten, and made anew.
const SHARED_MAX: usize = 1_000;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Statistics {
    devices: i64,
    active: i64,
    online: i64,
}

/// Whose devices are counted: those of a group, of a product, or of a product within a group.
type Scope = (Option<GroupNo>, Option<ProductNo>);

/// Counts that calls share. There is one at a time, and a call takes one that began after it came: however often it is
/// asked, counting a large fleet keeps one processor busy at most, and no answer is older than its call.
#[derive(Debug, Default)]
pub struct SharedCounts {
    came: AtomicI64,
    last: tokio::sync::Mutex<BTreeMap<Scope, (i64, Statistics)>>,
}

impl SharedCounts {
    async fn take(
        &self,
        scope: Scope,
        count: impl Future<Output = Result<Statistics, ApiError>>,
    ) -> Result<Statistics, ApiError> {
        let came = self.came.fetch_add(1, Ordering::SeqCst);
        let mut last = self.last.lock().await;
        if let Some((_, counted)) = last.get(&scope).filter(|(began, _)| *began > came) {
            return Ok(*counted);
        }
        let began = self.came.fetch_add(1, Ordering::SeqCst);
        let counted = count.await?;
        if last.len() >= SHARED_MAX {
            last.clear();
        }
        last.insert(scope, (began, counted));
        Ok(counted)
    }
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
        Some(group) => {
            let product = products.first().map(|(product, _)| *product);
            let count = of_group(&call.app, group, product);
            call.app.device_counts.take((Some(group), product), count).await?
        }
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
        let counted = app.device_counts.take((None, Some(product)), of_product(app, product)).await?;
        all.devices += devices;
        all.active += counted.active;
        all.online += counted.online;
    }
    Ok(all)
}

async fn of_product(app: &App, product: ProductNo) -> Result<Statistics, ApiError> {
    let active = count(app, product, Counted::Active).await?;
    let online = count(app, product, Counted::Online).await?;
    Ok(Statistics { active, online, ..Statistics::default() })
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

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::Notify;

    #[tokio::test]
    async fn calls_that_come_during_a_count_share_the_next_one() {
        let (shared, made, go) = (SharedCounts::default(), AtomicI64::new(0), Notify::new());
        let scope = (None, Some(ProductNo(1)));
        let next = || Statistics { online: made.fetch_add(1, Ordering::SeqCst) + 1, ..Statistics::default() };
        let quick = |scope| shared.take(scope, async { Ok(next()) });
        let slow = shared.take(scope, async {
            let counted = next();
            go.notified().await;
            Ok(counted)
        });
        let other = (Some(GroupNo(1)), Some(ProductNo(1)));
        let (slow, second, third, of_other, ()) =
            tokio::join!(slow, quick(scope), quick(scope), quick(other), async { go.notify_one() });
        let online = [slow, second, third, of_other].map(|counted| counted.unwrap().online);
        assert_eq!(online, [1, 2, 2, 3]);
        // A count that began before the call is too old for it.
        assert_eq!(quick(scope).await.unwrap().online, 4);
    }
}
