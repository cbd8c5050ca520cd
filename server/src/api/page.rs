//! Paging, as all lists take and answer it.

use crate::api::Call;
use crate::api::answer::Object;
use crate::api::error::{ApiError, Code};
use crate::api::params::Params;
use updraft_core::limits::DEEP_PAGE_ROWS;
use updraft_core::page::Page;

/// Calls per second for far pages of QueryDevice and QueryProductList.
const DEEP_PAGE_QPS: u32 = 2;

/// The page that a caller wants; both parameters are mandatory.
pub fn need(params: &Params, size_max: i64) -> Result<Page, ApiError> {
    let (number, size) = (params.need_int("CurrentPage")?, params.need_int("PageSize")?);
    new(number, size, size_max)
}

/// A page, or the platform's error for one that does not exist.
pub fn new(number: i64, size: i64, size_max: i64) -> Result<Page, ApiError> {
    named(number, size, size_max, "CurrentPage")
}

/// The same, where the page's number has a name of its own.
pub fn named(number: i64, size: i64, size_max: i64, name: &str) -> Result<Page, ApiError> {
    Page::new(number, size, size_max).ok_or_else(|| {
        ApiError::with(
            Code::InvalidPageParams,
            format!("{name} must be 1 or more and PageSize 1 to {size_max}."),
        )
    })
}

/// A page far behind costs more and has a quota of its own: 2 calls a second from 100,000 rows on.
pub fn throttle_deep(call: &Call, bucket: &'static str, page: Page) -> Result<(), ApiError> {
    if page.number() * page.size() < DEEP_PAGE_ROWS {
        return Ok(());
    }
    let app = &call.app;
    app.quotas
        .take(call.account, bucket, DEEP_PAGE_QPS, app.now())
        .map_err(|wait_ms| ApiError { retry_after_ms: Some(wait_ms), ..ApiError::new(Code::ThrottlingUser) })
}

/// Adds the paging fields to an answer.
pub fn fields(answer: Object, page: Page, total: i64) -> Object {
    answer
        .int("Total", total)
        .int("PageCount", page.count(total))
        .int("PageSize", page.size())
        .int("CurrentPage", page.number())
}
