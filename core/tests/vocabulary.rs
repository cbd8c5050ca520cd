//! The numbers that databases hold and the names that callers and devices read: none of them may ever change.

use std::fmt::Debug;
use updraft_core::apply::{ApplyStatus, NameProblem};
use updraft_core::device::DeviceStatus;
use updraft_core::explain::{Foreseen, Holds, Verdict, Wait};
use updraft_core::firmware::{FirmwareKind, FirmwareStatus, SignMethod};
use updraft_core::history::{Cause, What};
use updraft_core::job::{DownloadProtocol, DynamicMode, JobStatus, JobType, OverwriteMode, TargetSelection};
use updraft_core::limits;
use updraft_core::plan::Fate;
use updraft_core::registration;
use updraft_core::task::{Cancel, Event, FailedStep, TaskStatus};
use updraft_core::time::{self, Timestamp};
use updraft_core::topo::{Change, Refusal};

/// Numbers that nothing has.
const STRANGE: [i64; 4] = [i64::MIN, -2, 99, i64::MAX];

/// Each value has its number, and each number its value.
fn numbered<T: Copy + Debug + PartialEq>(
    expected: &[(T, i64)],
    code: impl Fn(T) -> i64,
    from_code: impl Fn(i64) -> Option<T>,
) {
    for (value, number) in expected {
        assert_eq!((code(*value), from_code(*number)), (*number, Some(*value)));
    }
    assert!(STRANGE.into_iter().all(|strange| from_code(strange).is_none()));
}

/// Each value has its name.
fn named<T: Copy + Debug>(expected: &[(T, &str)], name: impl Fn(T) -> &'static str) {
    for (value, text) in expected {
        assert_eq!(name(*value), *text, "{value:?}");
    }
}

#[test]
fn numbers_in_the_database() {
    numbered(
        &[(NameProblem::Taken, 1), (NameProblem::ProductFull, 2)],
        NameProblem::code,
        NameProblem::from_code,
    );
    numbered(
        &[(FirmwareKind::Full, 0), (FirmwareKind::Differential, 1)],
        FirmwareKind::code,
        FirmwareKind::from_code,
    );
    numbered(&[(SignMethod::Md5, 0), (SignMethod::Sha256, 1)], SignMethod::code, SignMethod::from_code);
    numbered(&[(JobType::Verify, 0), (JobType::Upgrade, 1)], JobType::code, JobType::from_code);
    numbered(
        &[(DynamicMode::NowAndLater, 1), (DynamicMode::Later, 2)],
        DynamicMode::code,
        DynamicMode::from_code,
    );
    numbered(
        &[(OverwriteMode::Keep, 1), (OverwriteMode::Replace, 2)],
        OverwriteMode::code,
        OverwriteMode::from_code,
    );
    numbered(
        &[(DownloadProtocol::Https, 0), (DownloadProtocol::Mqtt, 1)],
        DownloadProtocol::code,
        DownloadProtocol::from_code,
    );
    use registration::Mode;
    numbered(&[(Mode::Off, 0), (Mode::Preregistered, 1), (Mode::Any, 2)], Mode::code, Mode::from_code);
    use JobStatus::{Canceled, Completed, InProgress, Planned};
    numbered(
        &[(Planned, 0), (InProgress, 1), (Completed, 2), (Canceled, 3)],
        JobStatus::code,
        JobStatus::from_code,
    );
    use TargetSelection::{All, Gray, Group, Specific};
    numbered(
        &[(All, 0), (Specific, 1), (Gray, 2), (Group, 3)],
        TargetSelection::code,
        TargetSelection::from_code,
    );
    use FirmwareStatus::{NoVerification, Unverified, Verified, VerifyFailed, Verifying};
    numbered(
        &[(NoVerification, -1), (Unverified, 0), (Verified, 1), (Verifying, 2), (VerifyFailed, 3)],
        FirmwareStatus::code,
        FirmwareStatus::from_code,
    );
    use DeviceStatus::{Disable, Offline, Online, Unactive};
    numbered(
        &[(Unactive, 0), (Online, 1), (Offline, 2), (Disable, 3)],
        DeviceStatus::code,
        DeviceStatus::from_code,
    );
}

#[test]
fn numbers_in_the_database_in_the_order_of_all() {
    fn counted<T: Copy + Debug + PartialEq>(all: &[T], code: fn(T) -> i64, from_code: fn(i64) -> Option<T>) {
        let expected: Vec<(T, i64)> = all.iter().copied().zip(0..).collect();
        numbered(&expected, code, from_code);
    }
    counted(&ApplyStatus::ALL, ApplyStatus::code, ApplyStatus::from_code);
    counted(&TaskStatus::ALL, TaskStatus::code, TaskStatus::from_code);
    counted(&What::ALL, What::code, What::from_code);
}

#[test]
fn names_on_the_wire() {
    for (status, name) in TaskStatus::ALL.into_iter().zip([
        "CONFIRM",
        "QUEUED",
        "NOTIFIED",
        "IN_PROGRESS",
        "SUCCEEDED",
        "FAILED",
        "CANCELED",
    ]) {
        assert_eq!((status.name(), TaskStatus::from_name(name)), (name, Some(status)));
    }
    assert_eq!(TaskStatus::from_name("queued"), None);
    for (status, name) in ApplyStatus::ALL.into_iter().zip([
        "CHECK",
        "CREATE",
        "CHECK_SUCCESS",
        "CHECK_FAILED",
        "CREATE_SUCCESS",
        "CREATE_FAILED",
        "FORGOTTEN",
    ]) {
        assert_eq!(status.name(), name);
    }
    for (what, name) in What::ALL.into_iter().zip([
        "CONFIRMED",
        "PUSHED",
        "PULLED",
        "PROGRESS",
        "FAILURE",
        "VERSION",
        "TIMEOUT",
        "RETRY",
        "CANCEL",
        "REPLACED",
        "REUPGRADE",
        "FINISH_TIME",
    ]) {
        assert_eq!(what.name(), name);
    }
    named(
        &[
            (Cause::Operator, "OPERATOR"),
            (Cause::Device, "DEVICE"),
            (Cause::Timer, "TIMER"),
            (Cause::Batch, "BATCH"),
        ],
        Cause::name,
    );
    use DeviceStatus::{Disable, Offline, Online, Unactive};
    named(
        &[(Unactive, "UNACTIVE"), (Online, "ONLINE"), (Offline, "OFFLINE"), (Disable, "DISABLE")],
        DeviceStatus::name,
    );
    use TargetSelection::{All, Gray, Group, Specific};
    named(&[(All, "ALL"), (Specific, "SPECIFIC"), (Gray, "GRAY"), (Group, "GROUP")], TargetSelection::name);
    named(&[(DownloadProtocol::Https, "HTTPS"), (DownloadProtocol::Mqtt, "MQTT")], DownloadProtocol::name);
    use registration::Mode;
    named(&[(Mode::Off, "OFF"), (Mode::Preregistered, "PREREGISTERED"), (Mode::Any, "ANY")], Mode::name);
}

#[test]
fn bounds_are_the_platforms() {
    assert_eq!((time::MINUTE_MS, time::HOUR_MS), (60_000, 3_600_000));
    assert_eq!((time::MILLI_US, time::SECOND_US), (1_000, 1_000_000));
    assert_eq!(limits::FILE_BYTES_MAX, 1_048_576_000);
    assert_eq!((limits::SCHEDULE_AHEAD_MINUTES, limits::SCHEDULE_LENGTH_MINUTES), (5..=10_080, 60..=43_200));
    assert_eq!((limits::MQTT_PAYLOAD_BYTES_MAX, limits::HTTP_PAYLOAD_BYTES_MAX), (262_144, 131_072));
    assert_eq!((limits::MQTT_BLOCK_BYTES_MAX, limits::DEVICE_PROPS_BYTES_MAX), (131_072, 5_120));
}

#[test]
fn a_method_of_signing_has_one_name_for_callers_and_one_for_devices() {
    for (method, name, device_name) in
        [(SignMethod::Md5, "MD5", "Md5"), (SignMethod::Sha256, "SHA256", "SHA256")]
    {
        assert_eq!((method.name(), method.device_name()), (name, device_name));
        assert_eq!(SignMethod::from_name(name), Some(method));
    }
    assert_eq!(SignMethod::from_name("Md5"), None);
}

#[test]
fn refusals_and_logs_name_events() {
    let percent = Event::Progress { percent: 1, desc: "" };
    let failure = Event::Failure { step: FailedStep::Upgrade, desc: "" };
    for (event, name) in [
        (Event::Confirm, "confirm"),
        (Event::Slot(Timestamp(1)), "slot"),
        (Event::SlotLost, "slot lost"),
        (Event::Hold(Timestamp(1)), "hold"),
        (Event::Turn, "turn"),
        (Event::Push, "push"),
        (Event::Pull, "pull"),
        (percent, "progress"),
        (failure, "failure"),
        (Event::Version("1"), "version"),
        (Event::Timeout, "timeout"),
        (Event::RetryDue, "retry due"),
        (Event::Cancel(Cancel::ALL), "cancel"),
        (Event::Overwritten, "overwritten"),
        (Event::Reupgrade(None), "reupgrade"),
    ] {
        assert_eq!(event.name(), name);
    }
}

#[test]
fn two_cancellations_reach_what_either_reaches() {
    let nothing = Cancel::default();
    for one in [
        Cancel { confirm: true, ..nothing },
        Cancel { queued: true, ..nothing },
        Cancel { notified: true, ..nothing },
        Cancel { in_progress: true, ..nothing },
    ] {
        assert_eq!((one.or(nothing), nothing.or(one), one.or(Cancel::ALL)), (one, one, Cancel::ALL));
    }
    assert_eq!(nothing.or(nothing), nothing);
}

#[test]
fn a_negative_step_says_what_failed() {
    use FailedStep::{Download, Flashing, Upgrade, Verification};
    let found: Vec<_> = (-5..=1).map(FailedStep::from_step).collect();
    assert_eq!(found, [None, Some(Flashing), Some(Verification), Some(Download), Some(Upgrade), None, None]);
}

#[test]
fn what_is_wrong_is_said_in_different_words() {
    use registration::Refused;
    let words = [
        NameProblem::Taken.text(),
        NameProblem::ProductFull.text(),
        Refused::Off.why(),
        Refused::UnlistedOff.why(),
        Refused::Unknown.why(),
        Refused::Active.why(),
        Refused::Disabled.why(),
    ];
    let expected = ["exists", "as many", "is off", "not registered", "no device", "ResetThing", "disabled"];
    for (text, part) in words.into_iter().zip(expected) {
        assert!(text.contains(part), "{text:?} does not say {part:?}");
    }
}

#[test]
fn a_gateway_is_refused_with_the_platforms_codes_and_words() {
    use Refusal::{
        Active, BehindAnother, Deleted, Disabled, Elsewhere, Forbidden, GatewayBehindGateway, Itself,
        LoginSignature, NoGateway, NoSession, NoTopology, Parameter, RegisterSignature, RegistrationOff,
        SignMethod, Signature, Throttled, TooManyLogins, TooManySubs, UnknownDevice,
    };
    for (refusal, code, message) in [
        (Parameter, 460, "request parameter error"),
        (NoGateway, 460, "request parameter error: the product's NodeType is not gateway"),
        (GatewayBehindGateway, 460, "request parameter error: a gateway cannot be a sub-device"),
        (Signature, 401, "request auth error"),
        (LoginSignature, 6_287, "invalid sign"),
        (RegisterSignature, 6_600, "signature verification failed"),
        (SignMethod, 6_292, "sign method not supported"),
        (UnknownDevice, 6_100, "device not found"),
        (NoTopology, 6_401, "topo relation not exist"),
        (Itself, 6_402, "topo relation cannot add by self"),
        (Disabled, 6_204, "device forbidden"),
        (Forbidden, 522, "device forbidden"),
        (TooManySubs, 6_400, "too many subdevices of gateway"),
        (TooManyLogins, 428, "too many subdevices under gateway"),
        (Throttled, 429, "too many requests"),
        (RegistrationOff, 6_288, "dynamic registration is not enabled for the product"),
        (Active, 6_289, "device is active already"),
        (BehindAnother, 6_619, "device has been bound to another gateway"),
        (NoSession, 520, "device no session"),
        (Elsewhere, 427, "device connect in elsewhere"),
        (Deleted, 521, "device deleted"),
    ] {
        assert_eq!((refusal.code(), refusal.message()), (code, message));
    }
    for (refused, refusal) in [
        (registration::Refused::Off, RegistrationOff),
        (registration::Refused::UnlistedOff, RegistrationOff),
        (registration::Refused::Unknown, UnknownDevice),
        (registration::Refused::Active, Active),
        (registration::Refused::Disabled, Disabled),
    ] {
        assert_eq!(Refusal::from(refused), refusal);
    }
    let changes = [Change::Create, Change::Delete, Change::Enable, Change::Disable];
    assert_eq!(changes.map(Change::status), [0, 1, 2, 8]);
}

#[test]
fn names_in_explanations() {
    named(&[(Holds::Yes, "YES"), (Holds::No, "NO"), (Holds::NotAsked, "NOT_ASKED")], Holds::name);
    named(
        &[
            (Verdict::Updated, "UPDATED"),
            (Verdict::Ended, "ENDED"),
            (Verdict::UnderWay, "UNDER_WAY"),
            (Verdict::Waiting, "WAITING"),
            (Verdict::ToCome, "TO_COME"),
            (Verdict::LeftOut, "LEFT_OUT"),
        ],
        Verdict::name,
    );
    // Each with a word that its text has.
    let waits = [
        (Wait::Start, "START", "start"),
        (Wait::Consent, "CONSENT", "ConfirmOTATask"),
        (Wait::Cancellation, "CANCELLATION", "its cancellation"),
        (Wait::OthersCancellation, "OTHERS_CANCELLATION", "does not reach it"),
        (Wait::Connection, "CONNECTION", "connect"),
        (Wait::Question, "QUESTION", "NeedPush"),
        (Wait::Turn, "TURN", "turn"),
        (Wait::Slot, "SLOT", "MaximumPerMinute"),
        (Wait::Retry, "RETRY", "attempt"),
        (Wait::Answer, "ANSWER", "word of the device"),
        (Wait::Version, "VERSION", "new version"),
        (Wait::Choice, "CHOICE", "choice"),
        (Wait::Making, "MAKING", "being made"),
        (Wait::Round, "ROUND", "round"),
        (Wait::Report, "REPORT", "report"),
        (Wait::Free, "FREE", "another task"),
        (Wait::Verification, "VERIFICATION", "verification"),
    ];
    for (wait, name, word) in waits {
        assert_eq!(wait.name(), name);
        assert!(wait.text().contains(word), "{wait:?}");
    }
    let foreseen = [
        (Foreseen::Start, "START", "starts"),
        (Foreseen::Push, "PUSH", "pushed"),
        (Foreseen::Look, "LOOK", "looked at"),
        (Foreseen::Retry, "RETRY", "attempt"),
        (Foreseen::TimeOut, "TIMEOUT", "out of time"),
        (Foreseen::Cancel, "CANCEL", "cancelled"),
        (Foreseen::Decision, "DECISION", "decided"),
        (Foreseen::Nothing, "NOTHING", "nothing"),
    ];
    for (what, name, word) in foreseen {
        assert_eq!(what.name(), name);
        assert!(what.text().contains(word), "{what:?}");
    }
}

#[test]
fn names_in_plans() {
    // Each with words that its meaning has.
    let fates = [
        (Fate::Queued, "QUEUED", "is updated"),
        (Fate::Replacing, "REPLACING", "in other batches is cancelled"),
        (Fate::Busy, "BUSY", "fails at once"),
        (Fate::OnDestVersion, "ON_DEST_VERSION", "runs the version already"),
        (Fate::OtherSource, "OTHER_SRC_VERSION", "none of the source versions"),
        (Fate::NoVersion, "NO_VERSION", "never told its version"),
        (Fate::NotChosen, "NOT_CHOSEN", "not in the share"),
    ];
    assert_eq!(fates.map(|(fate, ..)| fate), Fate::ALL);
    for (fate, name, words) in fates {
        assert_eq!((fate.name(), Fate::from_name(name)), (name, Some(fate)));
        assert!(fate.meaning().contains(words), "{fate:?}");
    }
}
