//! A registration of devices in bulk: names are checked, then devices are made of them.
//!
//! The engine goes through the names in chunks; what the last chunk means for the whole is decided here.

use crate::text;
use std::collections::BTreeSet;

/// How far a registration is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ApplyStatus {
    /// Names are being checked.
    Check,
    /// Devices are being made.
    Create,
    /// Every name is free.
    CheckSuccess,
    /// Some names are not free; nothing comes of the registration.
    CheckFailed,
    /// Every device is made.
    CreateSuccess,
    /// Some devices could not be made; the others are.
    CreateFailed,
    /// It is to be forgotten, and found no more.
    Forgotten,
}

impl ApplyStatus {
    /// Every status, in storage order: those that the engine works at first.
    pub const ALL: [Self; 7] = [
        Self::Check,
        Self::Create,
        Self::CheckSuccess,
        Self::CheckFailed,
        Self::CreateSuccess,
        Self::CreateFailed,
        Self::Forgotten,
    ];

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Check => "CHECK",
            Self::Create => "CREATE",
            Self::CheckSuccess => "CHECK_SUCCESS",
            Self::CheckFailed => "CHECK_FAILED",
            Self::CreateSuccess => "CREATE_SUCCESS",
            Self::CreateFailed => "CREATE_FAILED",
            Self::Forgotten => "FORGOTTEN",
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

    /// Whether it ended with names that something is wrong with.
    pub fn has_failed(self) -> bool {
        matches!(self, Self::CheckFailed | Self::CreateFailed)
    }

    /// What becomes of it when its last name was looked at: `bad` names have a problem, and its caller has asked
    /// for the devices already or has not. A check that fails makes no device.
    #[must_use]
    pub fn done(self, bad: i64, wanted: bool) -> Self {
        match (self, bad, wanted) {
            (Self::Check, 0, true) => Self::Create,
            (Self::Check, 0, false) => Self::CheckSuccess,
            (Self::Check, ..) => Self::CheckFailed,
            (Self::Create, 0, _) => Self::CreateSuccess,
            (Self::Create, ..) => Self::CreateFailed,
            _ => self,
        }
    }
}

/// Why a name of a registration has no device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameProblem {
    /// The product has a device of that name.
    Taken,
    /// The product has as many devices as it may.
    ProductFull,
}

impl NameProblem {
    /// Every problem, in storage order.
    pub const ALL: [Self; 2] = [Self::Taken, Self::ProductFull];

    /// What callers read.
    pub fn text(self) -> &'static str {
        match self {
            Self::Taken => "A device of this name exists in the product already.",
            Self::ProductFull => "The product has as many devices as it may have.",
        }
    }

    /// The number in the database; 0 means no problem.
    pub fn code(self) -> i64 {
        self as i64 + 1
    }

    /// The problem of a number in the database.
    pub fn from_code(code: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|problem| problem.code() == code)
    }
}

/// What is wrong with a name before the product is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flaw {
    /// The name breaks its rule, or is missing.
    Name,
    /// The name for people breaks its rule.
    Nickname,
    /// It stands further up already.
    Repeated,
}

/// The flaws of the names (with names for people) of one request, by their places from 0.
pub fn flaws(names: &[(&str, Option<&str>)]) -> Vec<(usize, Flaw)> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for (at, (name, nickname)) in names.iter().enumerate() {
        if !text::device_name(name) {
            found.push((at, Flaw::Name));
        }
        if nickname.is_some_and(|nickname| !text::nickname(nickname)) {
            found.push((at, Flaw::Nickname));
        }
        if !seen.insert(*name) {
            found.push((at, Flaw::Repeated));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_flaws_of_three_kinds() {
        let names = [("dev1", None), ("de", Some("a")), ("dev1", Some("a nickname")), ("dev2", Some("nick"))];
        let found = flaws(&names);
        let expected = [(1, Flaw::Name), (1, Flaw::Nickname), (2, Flaw::Nickname), (2, Flaw::Repeated)];
        assert_eq!(found, expected);
        assert_eq!(flaws(&[("dev1", None), ("DEV1", None)]), [], "upper and lower case differ");
    }

    #[test]
    fn numbers_are_read_back() {
        for status in ApplyStatus::ALL {
            assert_eq!(ApplyStatus::from_code(status.code()), Some(status));
        }
        for problem in NameProblem::ALL {
            assert_eq!(NameProblem::from_code(problem.code()), Some(problem));
        }
        assert_eq!((ApplyStatus::from_code(7), NameProblem::from_code(0)), (None, None));
    }

    #[test]
    fn what_the_engine_works_at_comes_first() {
        // A partial index says `status < 2`.
        let working = [ApplyStatus::Check, ApplyStatus::Create];
        assert!(ApplyStatus::ALL.into_iter().all(|status| working.contains(&status) == (status.code() < 2)));
    }

    #[test]
    fn what_failed_has_names_that_something_is_wrong_with() {
        let failed = ApplyStatus::ALL.map(ApplyStatus::has_failed);
        assert_eq!(failed, [false, false, false, true, false, true, false]);
    }

    #[test]
    fn a_failed_check_makes_no_device_whatever_was_asked_for() {
        use ApplyStatus::{Check, CheckFailed, CheckSuccess, Create, CreateFailed, CreateSuccess};
        assert_eq!((Check.done(0, false), Check.done(0, true)), (CheckSuccess, Create));
        assert_eq!((Check.done(1, false), Check.done(1, true)), (CheckFailed, CheckFailed));
        assert_eq!((Create.done(0, true), Create.done(1, true)), (CreateSuccess, CreateFailed));
        for ended in [CheckSuccess, CheckFailed, CreateSuccess, CreateFailed] {
            assert_eq!(ended.done(0, true), ended);
        }
    }
}
