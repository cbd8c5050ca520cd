//! QueryDevice: the devices of a product, page by page, newest first.
//!
//! Numbered pages skip the ones before them, which the platform's bound of 10,000 rows keeps short. Beyond it a
//! page begins where the token of the page before says: a range of an index.

use crate::api::answer::{Node, Object, gmt};
use crate::api::device::register_device::SEAL_PURPOSE;
use crate::api::error::{ApiError, Code};
use crate::api::{Call, Operation, page};
use crate::app::App;
use updraft_core::id::DeviceNo;
use updraft_core::limits::{DEVICE_PAGE_REACH_MAX, DEVICE_PAGE_SIZE_MAX};
use updraft_store::{Device, Product};

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "QueryDevice",
    qps: 50,
    changes: false,
    required: &["ProductKey"],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

/// Rows per page if the caller does not say.
const PAGE_SIZE_DEFAULT: i64 = 10;

async fn run(call: Call) -> Result<Object, ApiError> {
    let (instance, params) = (call.instance, &call.params);
    let key = params.need("ProductKey")?.to_owned();
    let number = params.int("CurrentPage")?.unwrap_or(1);
    let size = params.int("PageSize")?.unwrap_or(PAGE_SIZE_DEFAULT);
    let page = page::new(number, size, DEVICE_PAGE_SIZE_MAX)?;
    page::throttle_deep(&call, "QueryDevice, far pages", page)?;
    let below = params.text("NextToken").map(read_token).transpose()?;
    if below.is_none() && page.number() * page.size() > DEVICE_PAGE_REACH_MAX {
        return Err(ApiError::with(
            Code::InvalidPageParams,
            format!("Beyond {DEVICE_PAGE_REACH_MAX} rows give the NextToken of the page before."),
        ));
    }
    let (product, devices, more) = call
        .app
        .store
        .read(move |tx| {
            let product =
                tx.product_find(instance, &key)?.ok_or_else(|| ApiError::new(Code::ProductNotFound))?;
            let devices = match below {
                Some(below) => tx.device_list_below(product.no, below, page.size())?,
                None => tx.device_list(product.no, page)?,
            };
            let more = match devices.last() {
                Some(last) => !tx.device_list_below(product.no, last.no, 1)?.is_empty(),
                None => false,
            };
            Ok::<_, ApiError>((product, devices, more))
        })
        .await?;
    let token = devices.last().filter(|_| more).map(|last| write_token(last.no)).unwrap_or_default();
    let rows = devices.iter().map(|device| row(&call.app, &product, device));
    let rows = rows.collect::<Result<Vec<Node>, ApiError>>()?;
    Ok(Object::new()
        .int("Total", product.device_count)
        .int("PageCount", page.count(product.device_count))
        .int("PageSize", page.size())
        .int("Page", page.number())
        .text("NextToken", token)
        .list("Data", "DeviceInfo", rows))
}

/// A token says which device was the last one of a page. It opens nothing: the product is looked up by itself.
pub(in crate::api) fn write_token(last: DeviceNo) -> String {
    format!("1-{:x}", last.0)
}

/// What such a token says.
pub(in crate::api) fn read_token(text: &str) -> Result<DeviceNo, ApiError> {
    let number = text.strip_prefix("1-").and_then(|hex| i64::from_str_radix(hex, 16).ok());
    number
        .map(DeviceNo)
        .ok_or_else(|| ApiError::invalid("NextToken", "It must be that of an earlier answer."))
}

fn row(app: &App, product: &Product, device: &Device) -> Result<Node, ApiError> {
    let modified = device.created_at.max(device.status_at);
    Ok(Node::Object(
        Object::new()
            .text("ProductKey", &product.product_key)
            .text("DeviceName", &device.name)
            .text("DeviceSecret", app.master.open(SEAL_PURPOSE, &device.secret_sealed)?)
            .text("IotId", &device.iot_id)
            .opt_text("Nickname", device.nickname.as_deref())
            .text("DeviceStatus", device.status.name())
            .text("DeviceType", product.node_type.to_string())
            .text("GmtCreate", gmt(device.created_at))
            .text("GmtModified", gmt(modified))
            .utc("UtcCreate", device.created_at)
            .utc("UtcModified", modified),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_read_back_and_others_are_refused() {
        assert_eq!(read_token(&write_token(DeviceNo(1_000_000))), Ok(DeviceNo(1_000_000)));
        for wrong in ["", "1", "1-", "2-a", "1-xyz", "1-ffffffffffffffffff"] {
            assert!(read_token(wrong).is_err(), "{wrong}");
        }
    }
}
