//! The device endpoint: MQTT on one side, [`link`] on the other.
//!
//! Reading order: [`link`] (the seam), [`login`] and [`topic`] (who is it, what may it touch), one file per
//! kind of message ([`inform`], [`progress`], [`firmware_get`], [`file_download`], [`push`]), then [`mailbox`] and
//! [`flights`] (what a device hears, and has not acknowledged), [`session`] (who is connected), [`packet`], [`aliases`] and
//! [`wire`] (bytes of either version of MQTT), [`talk`] and [`fetches`] (what a device says and asks),
//! [`admission`] and [`connection`] (one connection's life).
//!
//! This is not a broker: nothing is routed between devices, and nothing is retained. A session outlives its
//! connection if the device wants it ([`kept`]), in memory only: what a device must still be told is the engine's to
//! know; it tells it again after the next login.

pub mod admission;
pub mod aliases;
#[cfg(test)]
mod c_sdks;
pub mod certificate;
pub mod connection;
pub mod fetches;
pub mod file_download;
pub mod firmware_get;
pub mod flights;
pub mod gateway;
pub mod inform;
pub mod kept;
pub mod link;
pub mod login;
pub mod mailbox;
pub mod newcomer;
pub mod packet;
pub mod progress;
pub mod push;
pub mod register;
pub mod session;
pub mod talk;
pub mod topic;
pub mod wire;

/// Why a message on a known topic is ignored. The device gets no answer; the log gets these words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Ignored {
    /// The payload is not UTF-8.
    #[error("the payload is not UTF-8")]
    NotUtf8,
    /// The payload is not JSON of the topic's shape.
    #[error("the payload is not JSON of the expected shape")]
    NotJson,
    /// The version breaks the rule for versions.
    #[error("the version is not 1 to 64 of A-Z a-z 0-9 . _ -")]
    Version,
    /// The module breaks the rule for modules.
    #[error("the module is not 1 to 64 of A-Z a-z 0-9 . _ -")]
    Module,
    /// The step is none of those that the platform names.
    #[error("the step is neither 0 to 100 nor -1 to -4")]
    Step,
    /// The id is too long or no single value.
    #[error("the id, or the file's token, is no number or text of at most 256 bytes")]
    Id,
    /// A block is not named by whole numbers.
    #[error("stream, file, size and offset are not whole numbers")]
    Block,
}

pub use updraft_core::device::DEFAULT_MODULE;

/// A payload as text. Firmware written in C often sends the terminating zero with it.
fn payload_text(payload: &[u8]) -> Result<&str, Ignored> {
    let text = std::str::from_utf8(payload).map_err(|_| Ignored::NotUtf8)?;
    Ok(text.trim_end_matches('\0'))
}

/// The module that a message names; absent and empty both mean the default one.
fn module_or_default(module: Option<&str>) -> Result<String, Ignored> {
    match module {
        None | Some("") => Ok(DEFAULT_MODULE.to_owned()),
        Some(module) if updraft_core::text::module_name(module) => Ok(module.to_owned()),
        Some(_) => Err(Ignored::Module),
    }
}
