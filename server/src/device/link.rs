//! The seam between the device endpoint and the rest of the server.
//!
//! Upwards: what a device did, as [`Happened`] values, in order for each device. Downwards: what to send
//! it, as [`Downlink`] values. The endpoint knows MQTT and JSON; the engine knows neither.

use super::gateway::{Answer, Request};
use super::register::{Asked as Asking, Given, Refusal as NotRegistered};
use crate::files::pace::Pace;
use bytes::Bytes;
use std::future::Future;
use std::sync::Arc;
use updraft_core::firmware::SignMethod;
use updraft_core::id::{DeviceNo, TaskNo};
use updraft_core::job::Tag;
use updraft_core::task::FailedStep;
use updraft_core::topo::Refused;
pub use updraft_store::CertifiedDevice;
use updraft_store::DeviceToken;

/// The server cannot take this now (database or shutdown); the device should come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server cannot take this now")]
pub struct Unavailable;

/// What the endpoint needs from the rest of the server. The engine implements it; tests of the endpoint
/// bring their own.
pub trait Backend: Send + Sync + 'static {
    /// Finds the device that says it is `device_name` of `product_key`.
    fn login(
        &self,
        product_key: &str,
        device_name: &str,
    ) -> impl Future<Output = Result<Named, Unavailable>> + Send;

    /// Registers a device that knows its product's secret; durable when this returns.
    fn register(&self, asked: Asking) -> impl Future<Output = Result<Given, NotRegistered>> + Send;

    /// Finds the device whose certificate has this serial number.
    fn certified(
        &self,
        serial: &str,
    ) -> impl Future<Output = Result<Option<CertifiedDevice>, Unavailable>> + Send;

    /// Takes what devices did and returns once it is durable: a QoS 1 message is acknowledged only then.
    fn happened(&self, events: Vec<Happened>) -> impl Future<Output = Result<(), Unavailable>> + Send;

    /// Answers what a gateway asks about devices that are behind it, or are to be, once it is durable.
    fn gateway(
        &self,
        gateway: DeviceNo,
        request: Request,
    ) -> impl Future<Output = Result<Result<Answer, Refused>, Unavailable>> + Send;

    /// Reads a block of a file that a task of the device is for. Must not block.
    fn block(&self, device: DeviceNo, wanted: Wanted) -> impl Future<Output = Result<Block, NoBlock>> + Send;

    /// What holds back the blocks of a device that begins to download; `None`: nothing does.
    fn block_pace(&self) -> Option<Pace> {
        None
    }
}

/// A block that a device asks for, in the numbers that it was told; nothing is checked yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// The stream: the batch's row number.
    pub stream: i64,
    /// The file's place in the package, from 1.
    pub file: i64,
    /// Its first byte.
    pub offset: i64,
    /// Bytes; fewer come at the file's end.
    pub size: i64,
}

/// A block of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Its bytes, one at least.
    pub bytes: Vec<u8>,
    /// Their CRC-16/ARC.
    pub crc: u16,
    /// Bytes of the whole file.
    pub file_bytes: i64,
}

/// Why a device gets no block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoBlock {
    /// No unfinished task of which the device was told is for this stream and file.
    NotYours,
    /// The block is not within the file, or too large.
    OutOfRange,
    /// The file cannot be read now.
    Unavailable,
}

/// The way down to connected devices: the session registry, or a simulated world.
pub trait DeviceLink: Send + Sync + 'static {
    /// Whether a push would reach the device now.
    fn listening(&self, device: DeviceNo) -> bool;

    /// Sends something to the device, if it is connected. Called right after the commit that decided it, in
    /// commit order; must not block.
    fn send(&self, device: DeviceNo, downlink: Downlink);

    /// Takes back what was decided for a task before `revision` and is not written to the socket yet, because
    /// the task was cancelled, or its device left the version that its package is the difference to.
    fn withdraw(&self, device: DeviceNo, task: TaskNo, revision: i64);

    /// Ends the device's connection, if it has one: it was disabled or deleted. What is not written yet never is.
    fn kick(&self, device: DeviceNo);

    /// Ends the device's session, if it is logged in through a gateway: it is behind that gateway no more.
    fn log_out(&self, _device: DeviceNo) {}

    /// Ends this login of the device, if it has no later one here: it has logged in at another node.
    fn end(&self, _device: DeviceNo, _session: i64) {}

    /// Ends all connections: devices are to come back, here or to another node.
    fn cut_off(&self) {}

    /// Numbers logins from here on, which must lie above every number of before.
    fn renumber(&self, _first: i64) {}
}

/// What a login names.
#[derive(Clone)]
pub enum Named {
    /// No device.
    Unknown,
    /// A device that was deleted.
    Deleted,
    /// A device.
    Known(KnownDevice),
}

/// A device that logs in with its secret.
#[derive(Clone)]
pub struct KnownDevice {
    /// The device.
    pub no: DeviceNo,
    /// Its secret, in the clear; never logged.
    pub secret: String,
    /// What it logs in with instead, if it registered itself without pre-registration.
    pub token: Option<DeviceToken>,
    /// Whether it may not connect.
    pub disabled: bool,
    /// Whether its product is one of gateways.
    pub is_gateway: bool,
    /// Whether it should have logged in with a certificate: its secret is for gateways then.
    pub certified: bool,
}

/// Something that a device did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Happened {
    /// Who.
    pub device: DeviceNo,
    /// What.
    pub event: DeviceEvent,
}

/// What a device can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceEvent {
    /// It logged in. `session` grows with every login on this server, so that a late `Offline` of an old
    /// connection cannot end a new one.
    Online {
        /// The login's number.
        session: i64,
        /// The address that it came from, without port.
        ip: String,
    },
    /// That login came through a gateway, which it must be behind. Comes right after `Online`.
    Through {
        /// The login's number.
        session: i64,
        /// The gateway.
        gateway: DeviceNo,
    },
    /// From now on pushes reach it: it asked for automatic delivery (`_ss=1`) or has subscribed.
    Listening,
    /// Its connection ended.
    Offline {
        /// The number of the login that ended.
        session: i64,
    },
    /// It told the version that a module runs.
    Report {
        /// The module; `default` for the whole firmware.
        module: String,
        /// The version.
        version: String,
    },
    /// It reported progress, 0–100 percent.
    Progress {
        /// The module.
        module: String,
        /// Percent.
        percent: i64,
        /// Free text.
        desc: String,
    },
    /// It reported that the update failed.
    Failure {
        /// The module.
        module: String,
        /// What failed.
        step: FailedStep,
        /// Free text.
        desc: String,
    },
    /// It asked whether there is an update.
    Pull {
        /// The module.
        module: String,
        /// How it asked, and so how it is answered.
        asked: Asked,
    },
}

/// How a device asks whether there is an update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// On which topic.
    pub by: Question,
    /// The request's `id`, as the JSON text that it was sent as: echoed unchanged.
    pub id: String,
}

/// The topics on which devices ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// `thing/ota/firmware/get`: always answered, on `get_reply`.
    Get,
    /// `/ota/device/request`, the way of Link SDKs for C 2.x and 3.x: answered on the same topic, like a push,
    /// and only if there is an update.
    Request,
}

/// Something to send to a device.
#[derive(Debug, Clone)]
pub enum Downlink {
    /// Tell it about a package.
    Push {
        /// The task that this is for.
        task: TaskNo,
        /// The task's revision when this was decided; see `Sessions::withdraw`.
        revision: i64,
        /// The package.
        package: Arc<Package>,
        /// Message id: milliseconds since the epoch.
        id: i64,
    },
    /// Answer its question.
    PullReply {
        /// The question.
        asked: Asked,
        /// The task that the answer belongs to, with its revision, and the package; `None`: nothing to do.
        package: Option<(TaskNo, i64, Arc<Package>)>,
    },
    /// Tell it anything else.
    Message {
        /// The topic, in full.
        topic: String,
        /// The message.
        payload: Bytes,
        /// At QoS 1: it waits in the device's session, if that is kept, until the device has it.
        kept: bool,
        /// Whether it answers the device, which then gets it without a subscription, too.
        answer: bool,
    },
}

/// What a device is told about a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// The version that it leads to.
    pub version: String,
    /// The module; `default` is left out on the wire.
    pub module: String,
    /// Whether it is the difference to a source version.
    pub differential: bool,
    /// How its files are signed.
    pub sign_method: SignMethod,
    /// Its files in order, one at least.
    pub files: Vec<PackageFile>,
    /// The number under which its only file is downloaded by MQTT, instead of from an address.
    pub stream: Option<i64>,
    /// The batch's tags.
    pub tags: Vec<Tag>,
    /// The package's custom information.
    pub udi: Option<String>,
}

/// What a device is told about a file of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageFile {
    /// Its name within the package; told only if the package has several files.
    pub name: String,
    /// Bytes.
    pub size: i64,
    /// The signed download path with its query, from the first `/`; the session puts the address in front. Or a whole
    /// address, of an object store.
    pub path: String,
    /// Hex digest by the package's sign method, lower case.
    pub sign: String,
    /// MD5, lower-case hex; C SDKs 3.x insist on one.
    pub md5: String,
}
