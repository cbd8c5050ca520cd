//! Paging, as all lists take and answer it.

use crate::api::answer::Object;
use crate::api::error::{ApiError, Code};
use crate::api::params::Params;
use updraft_core::page::Page;

/// The page that a caller wants; both parameters are mandatory.
pub fn need(params: &Params, size_max: i64) -> Result<Page, ApiError> {
    let (number, size) = (params.need_int("CurrentPage")?, params.need_int("PageSize")?);
    new(number, size, size_max)
}

/// A page, or the platform's error for one that does not exist.
pub fn new(number: i64, size: i64, size_max: i64) -> Result<Page, ApiError> {
    Page::new(number, size, size_max).ok_or_else(|| {
        ApiError::with(
            Code::InvalidPageParams,
            format!("CurrentPage must be 1 or more and PageSize 1 to {size_max}."),
        )
    })
}

/// Adds the paging fields to an answer.
pub fn fields(answer: Object, page: Page, total: i64) -> Object {
    answer
        .int("Total", total)
        .int("PageCount", page.count(total))
        .int("PageSize", page.size())
        .int("CurrentPage", page.number())
}
