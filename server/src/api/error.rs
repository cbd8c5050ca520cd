//! An error on its way to the caller: its code, its words, and what only the log says.

pub use crate::api::code::{Code, Kind};

use crate::api::answer::Object;
use std::borrow::Cow;
use updraft_store::StoreError;

/// An error on its way to the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// The code on the wire.
    pub code: Cow<'static, str>,
    /// How it travels.
    pub kind: Kind,
    /// What the caller reads.
    pub message: String,
    /// What only the log says.
    pub internal: Option<String>,
    /// When to try again, in milliseconds (throttling).
    pub retry_after_ms: Option<i64>,
    /// Fields of the operation's answer that tell what was refused (business errors).
    pub told: Object,
}

impl ApiError {
    /// An error with its standard text.
    pub fn new(code: Code) -> Self {
        Self::with(code, code.text())
    }

    /// An error with a text of its own.
    pub fn with(code: Code, message: impl Into<String>) -> Self {
        Self {
            code: Cow::Borrowed(code.wire()),
            kind: code.kind(),
            message: message.into(),
            internal: None,
            retry_after_ms: None,
            told: Object::new(),
        }
    }

    /// A mandatory parameter is missing.
    pub fn missing(parameter: &str) -> Self {
        Self {
            code: Cow::Owned(format!("Missing{}", plain(parameter))),
            kind: Kind::Gateway(400),
            message: format!("{parameter} is mandatory for this action."),
            internal: None,
            retry_after_ms: None,
            told: Object::new(),
        }
    }

    /// A parameter has a wrong type or form.
    pub fn invalid(parameter: &str, why: &str) -> Self {
        Self {
            code: Cow::Owned(format!("Invalid{}", plain(parameter))),
            kind: Kind::Gateway(400),
            message: format!("Specified parameter {parameter} is not valid. {why}"),
            internal: None,
            retry_after_ms: None,
            told: Object::new(),
        }
    }

    /// Adds fields of the operation's answer that tell what was refused.
    #[must_use]
    pub fn telling(mut self, told: Object) -> Self {
        self.told = told;
        self
    }

    /// Adds what only the log should say.
    #[must_use]
    pub fn because(mut self, internal: impl Into<String>) -> Self {
        self.internal = Some(internal.into());
        self
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        match self.kind {
            Kind::Gateway(status) => status,
            Kind::Business => 200,
        }
    }
}

/// A parameter's name as part of a code: `Tag.1.Key` becomes `Tag`; nothing but letters and digits, at most
/// 40 characters, since callers choose names.
fn plain(parameter: &str) -> String {
    let head = parameter.split('.').next().unwrap_or_default();
    head.chars().filter(char::is_ascii_alphanumeric).take(40).collect()
}

impl From<Code> for ApiError {
    fn from(code: Code) -> Self {
        Self::new(code)
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let code = if error.is_retryable() { Code::ServiceUnavailable } else { Code::SystemException };
        Self::new(code).because(error.to_string())
    }
}

impl From<crate::seal::Unsealable> for ApiError {
    fn from(error: crate::seal::Unsealable) -> Self {
        Self::new(Code::SystemException).because(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caller_chosen_names_stay_tame() {
        assert_eq!(ApiError::missing("FirmwareId").code, "MissingFirmwareId");
        assert_eq!(ApiError::invalid("Tag.1.Key", "").code, "InvalidTag");
        assert_eq!(ApiError::invalid("<b>\u{1}", "").code, "Invalidb");
    }
}
