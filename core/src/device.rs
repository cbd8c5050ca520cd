//! One device's status, as QueryDeviceDetail names it.

/// A device's status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeviceStatus {
    /// Never connected.
    Unactive,
    /// Has a connection now.
    Online,
    /// Was connected before.
    Offline,
    /// May not connect, until it is enabled again. Never stored: a device keeps its presence beside it.
    Disable,
}

impl DeviceStatus {
    /// Every status, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Unactive, Self::Online, Self::Offline, Self::Disable];

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unactive => "UNACTIVE",
            Self::Online => "ONLINE",
            Self::Offline => "OFFLINE",
            Self::Disable => "DISABLE",
        }
    }

    /// The number in the database and in what is read from it.
    pub fn code(self) -> i64 {
        self as i64
    }

    /// The status of such a number.
    pub fn from_code(code: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.code() == code)
    }
}

/// The module that stands for the device's whole firmware; its version is `FirmwareVersion`.
pub const DEFAULT_MODULE: &str = "default";
