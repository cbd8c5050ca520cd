//! QueryDynamicGroupDevices: the devices of a dynamic group, page by page, newest first, of one product, name or
//! status.
//!
//! Without a filter a page is a range of an index. With one, each device of the group is looked at, in pieces, so
//! that a large group holds nobody up.

use crate::api::answer::{Node, Object, gmt};
use crate::api::device::query_device::{read_token, write_token};
use crate::api::error::{ApiError, Code};
use crate::api::group::kind;
use crate::api::group::query_device_group_list::PAGE_SIZE;
use crate::api::params::Params;
use crate::api::{Call, Operation, page};
use crate::app::App;
use updraft_core::group::expression::STATUSES;
use updraft_core::id::{DeviceNo, GroupNo, ProductNo};
use updraft_core::limits::GROUP_PAGE_SIZE_MAX;
use updraft_core::page::Page;
use updraft_core::text;
use updraft_store::{Member, MemberTraits};

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "QueryDynamicGroupDevices",
    qps: 10,
    changes: false,
    required: &["GroupId"],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

/// Devices that one read looks at.
const LOOKED_AT_ONCE: i64 = 5_000;

/// Which devices of a group are asked for.
#[derive(Default)]
struct Filter {
    product: Option<ProductNo>,
    name: Option<String>,
    prefix: bool,
    status: Option<String>,
}

impl Filter {
    fn read(params: &Params) -> Result<Self, ApiError> {
        let name = params.text("DeviceName").map(str::to_owned);
        // A prefix obeys the same rule: four characters at least.
        if name.as_deref().is_some_and(|name| !text::device_name(name)) {
            return Err(Code::InvalidDeviceName.into());
        }
        let status = params.text("Status").map(str::to_owned);
        if status.as_deref().is_some_and(|status| !STATUSES.contains(&status)) {
            return Err(ApiError::invalid("Status", "It must be ONLINE, OFFLINE, UNACTIVE or DISABLE."));
        }
        let prefix = params.flag("FuzzyName")?.unwrap_or(false);
        Ok(Self { product: None, name, prefix, status })
    }

    fn is_empty(&self) -> bool {
        self.product.is_none() && self.name.is_none() && self.status.is_none()
    }

    fn admits(&self, device: &MemberTraits) -> bool {
        let named = |name: &str| {
            if self.prefix { device.name.starts_with(name) } else { device.name == name }
        };
        self.product.is_none_or(|product| product == device.product)
            && self.name.as_deref().is_none_or(named)
            && self.status.as_deref().is_none_or(|status| status == device.status.name())
    }
}

/// A page of devices, how many there are in all, and whether more follow.
struct Found {
    devices: Vec<Member>,
    total: i64,
    more: bool,
}

async fn run(call: Call) -> Result<Object, ApiError> {
    let (instance, params) = (call.instance, &call.params);
    let id = params.need("GroupId")?.to_owned();
    let number = params.int("CurrentPage")?.unwrap_or(1);
    let page = page::new(number, params.int("PageSize")?.unwrap_or(PAGE_SIZE), GROUP_PAGE_SIZE_MAX)?;
    let below = params.text("NextToken").map(read_token).transpose()?;
    let mut filter = Filter::read(params)?;
    let key = params.text("ProductKey").map(str::to_owned);
    let (group, product) = call
        .app
        .store
        .read(move |tx| {
            let group = kind::find_of_kind(tx, instance, &id, true)?;
            let product = match &key {
                Some(key) => {
                    let product = tx.product_find(instance, key)?;
                    Some(product.ok_or_else(|| ApiError::new(Code::ProductNotFound))?.no)
                }
                None => None,
            };
            Ok::<_, ApiError>((group, product))
        })
        .await?;
    filter.product = product;
    // A token says where to go on; there is nothing to skip then.
    let skip = if below.is_some() { 0 } else { page.skip() };
    let below = below.unwrap_or(DeviceNo(i64::MAX));
    let found = if filter.is_empty() {
        all(&call.app, group.no, below, skip, page).await?
    } else {
        filtered(&call.app, group.no, &filter, below, skip, page).await?
    };
    let total = if filter.is_empty() { group.device_count } else { found.total };
    let last = found.devices.last().filter(|_| found.more);
    Ok(Object::new()
        .int("Total", total)
        .int("PageCount", page.count(total))
        .int("PageSize", page.size())
        .int("Page", page.number())
        .text("NextToken", last.map(|last| write_token(last.device)).unwrap_or_default())
        .list("Data", "SimpleDeviceInfo", found.devices.iter().map(row).collect()))
}

async fn all(app: &App, group: GroupNo, below: DeviceNo, skip: i64, page: Page) -> Result<Found, ApiError> {
    app.store
        .read(move |tx| {
            // One more than the page has, to see whether there is a next one.
            let mut devices = tx.group_members(group, below, skip, page.size() + 1)?;
            let more = devices.len() as i64 > page.size();
            devices.truncate(page.size() as usize);
            Ok(Found { devices, total: 0, more })
        })
        .await
}

async fn filtered(
    app: &App,
    group: GroupNo,
    filter: &Filter,
    below: DeviceNo,
    skip: i64,
    page: Page,
) -> Result<Found, ApiError> {
    let (mut total, mut passed, mut chosen) = (0_i64, 0_i64, Vec::new());
    let mut next = DeviceNo(i64::MAX);
    loop {
        let from = next;
        let some = app.store.read(move |tx| tx.group_member_traits(group, from, LOOKED_AT_ONCE)).await?;
        for device in some.iter().filter(|device| filter.admits(device)) {
            total += 1;
            if device.device < below {
                passed += 1;
                if passed > skip && (chosen.len() as i64) < page.size() {
                    chosen.push(device.device);
                }
            }
        }
        match some.last() {
            Some(last) if some.len() as i64 == LOOKED_AT_ONCE => next = last.device,
            _ => break,
        }
        tokio::task::yield_now().await;
    }
    let more = passed > skip.saturating_add(chosen.len() as i64);
    let devices = app.store.read(move |tx| tx.members_load(&chosen)).await?;
    Ok(Found { devices, total, more })
}

fn row(member: &Member) -> Node {
    Node::Object(
        Object::new()
            .text("ProductKey", &member.product_key)
            .text("ProductName", &member.product_name)
            .opt_text("CategoryKey", member.category_key.as_deref())
            .text("DeviceName", &member.name)
            .text("IotId", &member.iot_id)
            .opt_text("Nickname", member.nickname.as_deref())
            .int("NodeType", member.node_type)
            .text("Status", member.status.name())
            .opt_text("ActiveTime", member.active_at.map(gmt))
            .opt_utc("UtcActiveTime", member.active_at)
            .opt_text("LastOnlineTime", member.online_at.map(gmt))
            .opt_utc("UtcLastOnlineTime", member.online_at),
    )
}
