//! One device's presence, as QueryDeviceDetail names it.

/// A device's status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeviceStatus {
    /// Never connected.
    Unactive,
    /// Has a connection now.
    Online,
    /// Was connected before.
    Offline,
}

impl DeviceStatus {
    /// Every status, in storage order.
    pub const ALL: [Self; 3] = [Self::Unactive, Self::Online, Self::Offline];

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unactive => "UNACTIVE",
            Self::Online => "ONLINE",
            Self::Offline => "OFFLINE",
        }
    }

    /// The number in the database.
    pub fn code(self) -> i64 {
        self as i64
    }

    /// The status of a number in the database.
    pub fn from_code(code: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.code() == code)
    }
}

/// The module that stands for the device's whole firmware; its version is `FirmwareVersion`.
pub const DEFAULT_MODULE: &str = "default";
