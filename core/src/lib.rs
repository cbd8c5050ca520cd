//! Updraft's rules, and nothing else.
//!
//! This crate decides: what a name may look like, which batch may start, what an event does to a
//! device's task, when a batch has ended. It has no I/O, no clock, no randomness and no wire format:
//! `now` and identifiers are arguments, so every rule is a function that a table can test.
//!
//! Reading order: [`task`] (one device), [`job`] (one batch), [`firmware`] (one package),
//! [`pace`] (who is pushed when), [`target`] (who gets a task), [`dynamic`] (who gets one later), [`plan`] and
//! [`forecast`] (what a batch would do, and how long), [`explain`] (why all that), then the vocabulary in [`id`],
//! [`text`], [`limits`] and [`time`]; [`policy`] and [`quota`] are about callers, [`registration`] about devices that
//! register themselves, [`lookout`] about the nodes that serve together.

pub mod apply;
pub mod device;
pub mod dynamic;
pub mod explain;
pub mod firmware;
pub mod forecast;
pub mod group;
pub mod history;
pub mod id;
pub mod job;
pub mod limits;
pub mod list_file;
pub mod lookout;
pub mod pace;
pub mod page;
pub mod plan;
pub mod policy;
pub mod quota;
pub mod registration;
pub mod share;
pub mod target;
pub mod task;
pub mod text;
pub mod time;
pub mod topo;
pub mod turn;
