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
    /// It only asks, again and again: devices of the HTTP channel, which nobody can push to.
    Poll {
        /// Time between two questions, in milliseconds of the device's time.
        every_ms: i64,
    },
}

/// What a device does to get the files of an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Obtain {
    /// It downloads them and checks their digests.
    #[default]
    Whole,
    /// It asks for their headers only, and believes what they say of the length.
    Head,
    /// It asks for nothing and reports as if it had: what is measured then is the server's work with reports.
    Nothing,
}

/// The device's line to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Line {
    /// What each message takes, in milliseconds of the device's time.
    pub delay_ms: i64,
    /// How fast the line is; messages and downloads share it by turns.
    pub bytes_per_second: Option<u64>,
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
    /// From an offer to the first report.
    pub think_ms: i64,
    /// Between two reports of a device that downloads nothing.
    pub step_ms: i64,
    /// Mean time between two reconnections that the device makes for no reason; 0: it makes none.
    pub churn_ms: i64,
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
            think_ms: 0,
            step_ms: SECOND_MS,
            churn_ms: 0,
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
    /// What it does to get the files of an update.
    pub obtain: Obtain,
    /// Its line.
    pub line: Line,
    /// Progress is reported when it has grown by this many percent, 1 to 100.
    pub report_every_percent: i64,
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
            obtain: Obtain::default(),
            line: Line::default(),
            report_every_percent: 10,
            keepalive_s: login.keepalive_s,
            clean_session: login.clean_session,
            behaviour: Behaviour::default(),
            timing: Timing::default(),
            seed: 0,
        }
    }
}
