//! Virtual devices: what a device on the platform's Link SDK does, and what a troubled one does.
//!
//! Nothing here reads a clock, draws random numbers, or opens a socket. A [`Device`] is given an
//! [`Input`] and the current time and answers with [`Output`]s; whoever drives it (real sockets, or a
//! simulated world) carries them out. The same seed and the same inputs give the same outputs.
//!
//! Reading order: [`device`] (the state machine's door), [`update`] (one update on a device),
//! [`behaviour`] (what may go wrong), [`config`], then the wire in [`login`] and [`message`].

pub mod behaviour;
mod chance;
pub mod config;
pub mod device;
pub mod login;
pub mod message;
pub mod pushed;
pub mod update;

pub use behaviour::{Behaviour, Mix};
pub use chance::draw_percent;
pub use config::{Delivery, DeviceConfig, Line, Obtain, Qos, Timing};
pub use device::{Device, Fetch, Input, Output, Phase, Stats};
pub use login::{ConnectInfo, HmacKind, Identity, Login};
pub use pushed::Pushed;
