//! The Updraft server: everything with I/O.
//!
//! Reading order: [`serve`] puts it together; [`http`] and [`api`] answer back ends, [`device`] speaks MQTT
//! with devices, [`engine`] carries batches out, [`files`] moves bytes. [`app`] is where they meet.

pub mod api;
pub mod app;
pub mod authority;
pub mod backup;
pub mod certificates;
pub mod channel;
pub mod clock;
pub mod config;
pub mod demo;
pub mod device;
pub mod doctor;
pub mod engine;
pub mod files;
pub mod fleet_io;
pub mod gate;
pub mod http;
pub mod limiter;
pub mod migrate;
pub mod net;
pub mod networks;
pub mod nodes;
pub mod ports;
pub mod pretty;
pub mod proxy;
pub mod random;
pub mod retention;
pub mod seal;
pub mod serve;
pub mod service;
pub mod setup;
pub mod stall;
pub mod tls;
pub mod turnstile;
pub mod upload_form;
pub mod vigil;
pub mod websocket;
