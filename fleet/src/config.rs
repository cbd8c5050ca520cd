//! What a device is, and how long things take on it.

use updraft_core::device::DEFAULT_MODULE;
use updraft_core::time::SECOND_MS;

use crate::behaviour::Behaviour;
use crate::login::{HmacKind, Identity, Login};

/// How offers reach a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Delivery {
    /// It has the server subscribe (`_ss=1`).
    #[default]
    Auto,
    /// It subscribes itself.
    Subscribe,
    /// It has the server subscribe, and asks for a package after each connection as well.
    Ask,
}

/// Quality of service of a publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Qos {
    /// 0: sent once.
    AtMostOnce,
    /// 1: acknowledged.
    #[default]
    AtLeastOnce,
}

/// How long things take, in milliseconds of the device's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// From progress 100 to the reboot.
    pub install_ms: i64,
    /// From the reboot to the next connection.
    pub reboot_ms: i64,
    /// First wait before reconnecting; it doubles each time.
    pub backoff_first_ms: i64,
    /// Longest wait before reconnecting.
    pub backoff_max_ms: i64,
    /// How long a flaky device stays away.
    pub away_ms: i64,
    /// From a lost download to the device's own attempt to go on, if no push comes first.
    pub resume_ms: i64,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            install_ms: 2 * SECOND_MS,
            reboot_ms: 5 * SECOND_MS,
            backoff_first_ms: SECOND_MS,
            backoff_max_ms: 60 * SECOND_MS,
            away_ms: 10 * SECOND_MS,
            resume_ms: 30 * SECOND_MS,
        }
    }
}

/// What a device is.
#[derive(Debug, Clone)]
pub struct DeviceConfig {
    /// Who it is.
    pub identity: Identity,
    /// Its modules and the versions that they run.
    pub versions: Vec<(String, String)>,
    /// Which HMAC it logs in with.
    pub hmac: HmacKind,
    /// How offers reach it.
    pub delivery: Delivery,
    /// QoS of what it publishes.
    pub qos: Qos,
    /// Keepalive in seconds.
    pub keepalive_s: u16,
    /// Whether its sessions are clean.
    pub clean_session: bool,
    /// What it does with an update.
    pub behaviour: Behaviour,
    /// How long things take.
    pub timing: Timing,
    /// Where its small variations come from.
    pub seed: u64,
}

impl DeviceConfig {
    /// A well-behaved device whose default module runs `version`.
    pub fn new(identity: Identity, version: impl Into<String>) -> Self {
        let login = Login::default();
        Self {
            identity,
            versions: vec![(DEFAULT_MODULE.to_owned(), version.into())],
            hmac: login.hmac,
            delivery: Delivery::default(),
            qos: Qos::default(),
            keepalive_s: login.keepalive_s,
            clean_session: login.clean_session,
            behaviour: Behaviour::default(),
            timing: Timing::default(),
            seed: 0,
        }
    }
}
