//! Who gets a task when a batch is expanded.

/// What is known of a device that a batch might be for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// The version of the package's module that the device last reported.
    pub version: Option<&'a str>,
    /// Whether the device has an unfinished task of another batch.
    pub busy: bool,
}

/// What a candidate gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// A queued task.
    Queue,
    /// A task that fails at once, because the device is busy and the batch does not overwrite.
    FailBusy,
    /// No task: the device already runs the version.
    SkipOnDestVersion,
}

/// Decides for one candidate of a batch that leads to `dest_version`.
pub fn judge(candidate: &Candidate<'_>, dest_version: &str) -> Verdict {
    if candidate.version == Some(dest_version) {
        Verdict::SkipOnDestVersion
    } else if candidate.busy {
        Verdict::FailBusy
    } else {
        Verdict::Queue
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_on_the_version_are_skipped_even_when_busy() {
        let judge = |version, busy| super::judge(&Candidate { version, busy }, "2.0");
        assert_eq!(judge(Some("2.0"), true), Verdict::SkipOnDestVersion);
        assert_eq!(judge(Some("1.0"), true), Verdict::FailBusy);
        assert_eq!(judge(Some("1.0"), false), Verdict::Queue);
        assert_eq!(judge(None, false), Verdict::Queue);
    }
}
