//! Gateways and the devices behind them.

pub mod batch_add_thing_topo;
pub mod gateway;
pub mod get_gateway_by_sub_device;
pub mod get_thing_topo;
pub mod notify_add_thing_topo;
pub mod remove_thing_topo;
