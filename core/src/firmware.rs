//! One update package: whether it may be verified, whether it may be rolled out.

use crate::job::Counts;
use crate::task::TaskStatus;

/// Where a package stands. Numbers and meaning are QueryOTAFirmware's `Status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirmwareStatus {
    /// -1: made without the need to be verified.
    NoVerification,
    /// 0: not verified yet.
    Unverified,
    /// 1: verified.
    Verified,
    /// 2: a verification batch runs.
    Verifying,
    /// 3: the last verification batch did not succeed on every device.
    VerifyFailed,
}

impl FirmwareStatus {
    /// Every status.
    pub const ALL: [Self; 5] =
        [Self::NoVerification, Self::Unverified, Self::Verified, Self::Verifying, Self::VerifyFailed];

    /// The number on the wire and in the database.
    pub fn code(self) -> i64 {
        match self {
            Self::NoVerification => -1,
            Self::Unverified => 0,
            Self::Verified => 1,
            Self::Verifying => 2,
            Self::VerifyFailed => 3,
        }
    }

    /// The status of a number.
    pub fn from_code(code: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.code() == code)
    }

    /// The status of a new package.
    pub fn initial(need_to_verify: bool) -> Self {
        if need_to_verify { Self::Unverified } else { Self::NoVerification }
    }

    /// Whether a verification batch may start (CreateOTAVerifyJob: not while verifying or verified).
    pub fn may_verify(self) -> bool {
        !matches!(self, Self::Verifying | Self::Verified)
    }

    /// Whether an upgrade batch may start: verified, or made without the need.
    pub fn may_upgrade(self) -> bool {
        matches!(self, Self::NoVerification | Self::Verified)
    }

    /// The status after a verification batch whose tasks ended like `counts`: verified only if every
    /// test device succeeded, and there was one.
    pub fn after_verification(counts: &Counts) -> Self {
        if counts.total() > 0 && counts.of(TaskStatus::Succeeded) == counts.total() {
            Self::Verified
        } else {
            Self::VerifyFailed
        }
    }
}

/// What a package's files hold. Numbers are CreateOTAFirmware's `Type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirmwareKind {
    /// 0: the whole software.
    Full,
    /// 1: the difference to one source version; to any other it is poison.
    Differential,
}

impl FirmwareKind {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::Full, Self::Differential];

    /// The number on the wire and in the database.
    pub fn code(self) -> i64 {
        self as i64
    }

    /// The kind of a number.
    pub fn from_code(code: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }
}

/// How a package's files are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignMethod {
    /// MD5 of the file.
    Md5,
    /// SHA-256 of the file.
    Sha256,
}

impl SignMethod {
    /// Every method, in storage order.
    pub const ALL: [Self; 2] = [Self::Md5, Self::Sha256];

    /// The number in the database.
    pub fn code(self) -> i64 {
        self as i64
    }

    /// The method of a number in the database.
    pub fn from_code(code: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.code() == code)
    }

    /// The name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha256 => "SHA256",
        }
    }

    /// The method with this name in the API.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.name() == name)
    }

    /// The name that devices insist on: `Md5`, not `MD5` (Link SDKs for Python and C).
    pub fn device_name(self) -> &'static str {
        match self {
            Self::Md5 => "Md5",
            Self::Sha256 => "SHA256",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_verified_or_exempt_packages_roll_out() {
        let may: Vec<i64> =
            FirmwareStatus::ALL.into_iter().filter(|s| s.may_upgrade()).map(FirmwareStatus::code).collect();
        assert_eq!(may, [-1, 1]);
        let may: Vec<i64> =
            FirmwareStatus::ALL.into_iter().filter(|s| s.may_verify()).map(FirmwareStatus::code).collect();
        assert_eq!(may, [-1, 0, 3]);
    }

    #[test]
    fn verification_needs_every_device_and_at_least_one() {
        let mut counts = Counts::default();
        assert_eq!(FirmwareStatus::after_verification(&counts), FirmwareStatus::VerifyFailed);
        counts.add(TaskStatus::Succeeded, 2);
        assert_eq!(FirmwareStatus::after_verification(&counts), FirmwareStatus::Verified);
        counts.add(TaskStatus::Canceled, 1);
        assert_eq!(FirmwareStatus::after_verification(&counts), FirmwareStatus::VerifyFailed);
    }
}
