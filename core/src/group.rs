//! Device groups: how many a device may be in, and which devices a dynamic one is of ([`expression`]).

pub mod expression;
mod parse;

use crate::limits::STATIC_GROUPS_PER_DEVICE_MAX;

/// What becomes of a device that is to be added to a static group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It becomes a member.
    Add,
    /// It is one already.
    Already,
    /// It is in as many groups as it may be.
    Exceeds,
}

/// Decides for a device that is in `static_groups` static groups, this one among them or not.
pub fn admit(is_member: bool, static_groups: usize) -> Admission {
    if is_member {
        Admission::Already
    } else if static_groups >= STATIC_GROUPS_PER_DEVICE_MAX {
        Admission::Exceeds
    } else {
        Admission::Add
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_in_at_most_ten_groups() {
        assert_eq!(admit(false, 9), Admission::Add);
        assert_eq!(admit(false, 10), Admission::Exceeds);
        assert_eq!(admit(true, 10), Admission::Already);
        assert_eq!(admit(true, 1), Admission::Already);
    }
}
