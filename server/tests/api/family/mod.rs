//! What the tests that enumerate every operation know of each, by family: good requests, and values that must be
//! refused.

mod batch;
mod device;
mod group;
mod lifecycle;
mod list_file;
mod module;
mod package;
mod product;
pub mod topo;

pub use crate::shop::{Pairs, Shop};

/// An operation, and for each parameter that it reads a value that it must refuse, with the code of the refusal.
/// `x*101` stands for that many letters.
pub type Refusals = (&'static str, &'static [(&'static str, &'static str, &'static str)]);

/// Every family's refusals.
pub const REFUSALS: &[&[Refusals]] = &[
    batch::REFUSALS,
    device::REFUSALS,
    group::REFUSALS,
    lifecycle::REFUSALS,
    list_file::REFUSALS,
    module::REFUSALS,
    package::REFUSALS,
    product::REFUSALS,
    topo::REFUSALS,
];

/// Parameters with which an operation succeeds, on things made for this call only.
pub async fn valid(shop: &Shop<'_>, action: &str, device: &str) -> Option<Pairs> {
    if let Some(found) = batch::valid(shop, action, device).await {
        return Some(found);
    }
    if let Some(found) = device::valid(shop, action, device).await {
        return Some(found);
    }
    if let Some(found) = group::valid(shop, action, device).await {
        return Some(found);
    }
    if let Some(found) = lifecycle::valid(shop, action, device).await {
        return Some(found);
    }
    if let Some(found) = list_file::valid(shop, action, device).await {
        return Some(found);
    }
    if let Some(found) = module::valid(shop, action, device).await {
        return Some(found);
    }
    if let Some(found) = package::valid(shop, action, device).await {
        return Some(found);
    }
    if let Some(found) = product::valid(shop, action, device).await {
        return Some(found);
    }
    if let Some(found) = topo::valid(shop, action, device).await {
        return Some(found);
    }
    None
}
