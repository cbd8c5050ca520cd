//! Why a device has no task of a batch, and whether it will have one.

use super::{
    Check, Explanation, Foreseen, Holds, Next, Said, Seen, Verdict, Wait, Waiting, package_check,
    version_check,
};
use crate::dynamic::{Earlier, Misfit, NotDue, Policy, not_due};
use crate::id::{DeviceNo, TaskNo};
use crate::job::{DynamicMode, TargetSelection};
use crate::limits::DYNAMIC_MATCHES_MAX;
use crate::target::{self, Candidate, Demand, Standing, Verdict as Judged};
use crate::task::{Condition, accepts_source};
use crate::time::Timestamp;

/// How far the tasks of a batch are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Making {
    /// Whether its devices are still to be chosen.
    pub selecting: bool,
    /// Whether all its tasks exist.
    pub done: bool,
    /// The last device looked at.
    pub after: DeviceNo,
    /// The last device to look at.
    pub upto: DeviceNo,
}

/// What is known of a rule that may take the device in: a dynamic batch.
#[derive(Debug, Clone, Copy)]
pub struct Rule<'a> {
    /// What it asks of devices.
    pub policy: Policy<'a>,
    /// Whether it still takes devices in.
    pub stands: bool,
    /// The id of the newest rule for the module that the device fits; it follows no other.
    pub follows: Option<&'a str>,
    /// Whether that is this one.
    pub is_followed: bool,
    /// Whether the package may be rolled out.
    pub may_upgrade: bool,
    /// The tasks of it that the device had.
    pub earlier: &'a [Earlier],
    /// Whether the device is noted to be looked at.
    pub is_noted: bool,
}

/// What is known of a device that has no open task of a batch.
#[derive(Debug, Clone, Copy)]
pub struct Newcomer<'a> {
    /// The device.
    pub no: DeviceNo,
    /// What is seen of it.
    pub device: &'a Seen<'a>,
    /// Its product's key.
    pub product_key: &'a str,
    /// The key of the batch's product.
    pub wanted_product_key: &'a str,
    /// When it was made.
    pub made_at: Timestamp,
    /// What it is going through.
    pub condition: Condition,
    /// What it wants.
    pub demand: Demand<'a>,
    /// Which devices it is for.
    pub selection: TargetSelection,
    /// How far its tasks are made.
    pub making: Making,
    /// Whether the device was chosen for the share of a gray batch, while that is known.
    pub chosen: Option<bool>,
    /// Whether it is in the batch's group.
    pub is_member: bool,
    /// Its unfinished tasks, as a new batch meets them.
    pub standing: &'a [(TaskNo, Standing<'a>)],
    /// Of a dynamic batch.
    pub rule: Option<Rule<'a>>,
}

/// Explains why a device has no open task of a batch; `named` tells the id of another task of the device.
pub fn newcomer(of: &Newcomer<'_>, named: impl Fn(TaskNo) -> String) -> Explanation {
    // In the order in which it is decided.
    let mut checks = vec![product(of), of.device.check(), package_check(of.condition.package_deleted)];
    match of.rule {
        None => checks.extend(place(of)),
        Some(rule) => checks.extend(standing(of, &rule)),
    }
    checks.push(dest(of));
    let accepted = accepts_source(of.demand.src_versions, of.device.version());
    checks.push(version_check(of.device, accepted, of.demand.src_versions));
    checks.extend(of.rule.iter().flat_map(|rule| following(of, rule)));
    checks.push(busy(of, &named));
    let mut explanation = match of.rule {
        None => of_static(of, checks),
        Some(rule) => of_rule(of, &rule, checks),
    };
    // That is asked once there is a task.
    explanation.checks.push(Check { holds: Holds::NotAsked, ..of.device.connection() });
    explanation
}

/// The first predicate that does not hold.
fn first_no(checks: &[Check]) -> Option<&Check> {
    checks.iter().find(|check| check.holds == Holds::No)
}

fn of_static(of: &Newcomer<'_>, checks: Vec<Check>) -> Explanation {
    let Newcomer { making, .. } = *of;
    let left_out = |summary, checks| Explanation {
        verdict: Verdict::LeftOut,
        summary,
        checks,
        waiting: None,
        next: Next::NOTHING,
        ends_by: None,
    };
    let to_come = |summary: Said, wait: Wait, checks| Explanation {
        verdict: Verdict::ToCome,
        summary,
        checks,
        waiting: Some(Waiting { since: of.made_at, wait }),
        next: Next::soon(Foreseen::Decision),
        ends_by: None,
    };
    let hard = ["PRODUCT", "DEVICE", "PACKAGE", "REGISTERED", "SELECTION"];
    let barred = first_no(&checks).filter(|check| hard.contains(&check.name)).map(|check| check.seen.clone());
    if let Some(seen) = barred {
        return left_out(Said::of("the batch has no task for the device: ").join(seen), checks);
    }
    if making.selecting {
        return to_come(Said::of("the batch's devices are still being chosen"), Wait::Choice, checks);
    }
    if !making.done && (of.selection == TargetSelection::Specific || is_ahead(of)) {
        let then = match judged(of) {
            Judged::Queue | Judged::Replace => "as things stand, it gets one",
            Judged::Busy => "as things stand, it gets one that fails at once, since the device is busy",
            Judged::SkipOnDestVersion => "as things stand, it gets none: it runs the version already",
            Judged::SkipOtherSource => {
                "as things stand, it gets none: the batch does not come from its version"
            }
        };
        let summary =
            Said::of(format!("the batch's tasks are being made, and the device's turn has not come; {then}"));
        return to_come(summary, Wait::Making, checks);
    }
    let since = "the batch has no task for the device, and makes no more: its tasks were made when it was created, at ";
    let made = Said::of(since).at(of.made_at);
    let summary = match first_no(&checks) {
        Some(check) => made.and(". As of now: ").join(check.seen.clone()),
        None => made.and(". As of now the device would fit; it did not then, or was not among those chosen"),
    };
    left_out(summary, checks)
}

/// Whether the making of tasks has not come to the device.
fn is_ahead(of: &Newcomer<'_>) -> bool {
    of.no > of.making.after && of.no <= of.making.upto
}

/// What the batch would decide now.
fn judged(of: &Newcomer<'_>) -> Judged {
    judged_with(of, of.device.version(), &of.demand)
}

fn judged_with(of: &Newcomer<'_>, version: Option<&str>, demand: &Demand<'_>) -> Judged {
    let standing: Vec<Standing<'_>> = of.standing.iter().map(|(_, standing)| *standing).collect();
    target::judge(&Candidate { version, standing: &standing }, demand)
}

fn in_the_way<'n>(of: &'n Newcomer<'_>) -> impl Iterator<Item = &'n (TaskNo, Standing<'n>)> {
    let Demand { conduct, module, .. } = of.demand;
    of.standing.iter().filter(move |(_, other)| target::in_the_way(&conduct, module, other.module))
}

fn product(of: &Newcomer<'_>) -> Check {
    let seen = Said::of(format!("the device is of product {}", of.product_key));
    let wanted = format!("product {}", of.wanted_product_key);
    Check::new("PRODUCT", of.product_key == of.wanted_product_key, seen, &wanted)
}

fn dest(of: &Newcomer<'_>) -> Check {
    let dest = of.demand.dest_version;
    let wanted = format!("another version than {dest}, to which the package leads");
    Check::new(
        "DEST_VERSION",
        target::is_for(of.device.version(), &[], dest),
        of.device.reported_said(),
        &wanted,
    )
}

fn busy(of: &Newcomer<'_>, named: &impl Fn(TaskNo) -> String) -> Check {
    // Of a device whose version is not looked at: what is left is whether it is busy.
    let judged = judged_with(of, None, &Demand { src_versions: &[], ..of.demand });
    let tasks: Vec<String> =
        in_the_way(of).map(|(no, other)| format!("{} ({})", named(*no), other.status.name())).collect();
    let seen = match (judged, tasks.is_empty()) {
        (_, true) => "no other task of the device is in the way".to_owned(),
        (Judged::Busy, false) => format!("the device has unfinished tasks that stay: {}", tasks.join(", ")),
        (_, false) => format!("unfinished tasks of the device are replaced: {}", tasks.join(", ")),
    };
    Check::new("BUSY", judged != Judged::Busy, Said::of(seen), "a device that nothing else keeps busy")
}

/// The device is one of those that a static batch is for.
fn place(of: &Newcomer<'_>) -> Vec<Check> {
    let mut checks = Vec::new();
    if of.selection != TargetSelection::Specific && of.product_key == of.wanted_product_key {
        let seen = Said::of("the device was registered at ").at(of.device.created_at);
        let wanted = "a device that was registered before the batch was made";
        checks.push(Check::new("REGISTERED", of.no <= of.making.upto, seen, wanted));
    }
    let (holds, seen) = match of.selection {
        TargetSelection::All => (Holds::Yes, "the batch is for all devices of the product"),
        TargetSelection::Group if of.is_member => (Holds::Yes, "the device is in the batch's group now"),
        TargetSelection::Group => (Holds::No, "the device is not in the batch's group now"),
        TargetSelection::Specific if of.making.done => {
            (Holds::NotAsked, "the batch is for named devices; which names led to no task is not kept")
        }
        TargetSelection::Specific => (Holds::NotAsked, "the batch's list of names is being worked through"),
        TargetSelection::Gray => match of.chosen {
            _ if of.making.selecting => (Holds::NotAsked, "the share of devices is still being chosen"),
            Some(true) => (Holds::Yes, "the share of devices includes this one"),
            Some(false) => (Holds::No, "the share of devices does not include this one"),
            None => (Holds::NotAsked, "who was in the share of devices and got no task is not kept"),
        },
    };
    checks.push(Check::new("SELECTION", holds, Said::of(seen), of.selection.name()));
    checks
}

/// The dynamic batch goes on, and the device is in its group.
fn standing(of: &Newcomer<'_>, rule: &Rule<'_>) -> Vec<Check> {
    let seen = if rule.stands { "the dynamic batch takes devices in" } else { "the dynamic batch has ended" };
    let mut checks = vec![Check::new("RULE", rule.stands, Said::of(seen), "a dynamic batch that goes on")];
    if rule.policy.conduct.group.is_some() {
        let seen = if of.is_member {
            "the device is in the batch's group"
        } else {
            "the device is not in the batch's group"
        };
        checks.push(Check::new("SELECTION", of.is_member, Said::of(seen), "a device of the group"));
    }
    checks
}

/// The device follows the dynamic batch, and is to get a task of it.
fn following(of: &Newcomer<'_>, rule: &Rule<'_>) -> Vec<Check> {
    let misfit = rule.policy.misfit(of.device.reported, |_| of.is_member);
    let told = match misfit {
        None => Holds::Yes,
        Some(Misfit::NotReportedSince) => Holds::No,
        Some(Misfit::Version | Misfit::Group) => Holds::NotAsked,
    };
    let wanted = match rule.policy.conduct.dynamic {
        Some(DynamicMode::Later) => "a report since the batch was made (DynamicMode 2)",
        _ => "any report, or none",
    };
    let (holds, seen) = match (misfit, rule.is_followed, rule.follows) {
        (Some(_), ..) => (Holds::NotAsked, "a device follows a dynamic batch only if it fits it".to_owned()),
        (None, true, _) => (Holds::Yes, "the device follows this batch".to_owned()),
        (None, false, Some(other)) => (Holds::No, format!("the device follows the newer batch {other}")),
        (None, false, None) => (Holds::NotAsked, "the batch is none that devices follow".to_owned()),
    };
    let ready =
        if rule.may_upgrade { "the package may be rolled out" } else { "the package is not verified" };
    vec![
        Check::new("REPORT", told, of.device.reported_said(), wanted),
        Check::new(
            "NEWEST",
            holds,
            Said::of(seen),
            "the newest dynamic batch for the module that the device fits",
        ),
        Check::new("VERIFIED", rule.may_upgrade, Said::of(ready), "a package that may be rolled out"),
        again(of, rule),
    ]
}

/// The tasks that the device had of the rule allow another one.
fn again(of: &Newcomer<'_>, rule: &Rule<'_>) -> Check {
    let had = rule.earlier.len();
    let count = format!("the device had {had} of at most {DYNAMIC_MATCHES_MAX} tasks of this batch");
    let (holds, seen) = match not_due(rule.earlier, of.device.reported) {
        None if had == 0 => (true, Said::of("the device had no task of this batch")),
        None => (true, Said::of(count).and(", and has reported since")),
        Some(NotDue::Open) => (false, Said::of("the device has an open task of this batch")),
        Some(NotDue::TooOften) => (false, Said::of(count)),
        Some(NotDue::Canceled(at)) => {
            (false, Said::of("its last task of this batch was cancelled, and that stands; at ").at(at))
        }
        Some(NotDue::NotReportedSince(at)) => (
            false,
            Said::of("the device has reported no version since its last task of this batch ended, at ")
                .at(at),
        ),
    };
    Check::new("AGAIN", holds, seen, "no open task, and a report since the last one ended")
}

fn of_rule(of: &Newcomer<'_>, rule: &Rule<'_>, checks: Vec<Check>) -> Explanation {
    let is_noted = rule.is_noted || !of.making.done && is_ahead(of);
    let first = first_no(&checks);
    let waiting = match (first.map(|check| check.name), not_due(rule.earlier, of.device.reported)) {
        (None, _) => Some((Wait::Round, of.made_at)),
        (Some("REPORT"), _) => Some((Wait::Report, of.made_at)),
        (Some("VERIFIED"), _) => Some((Wait::Verification, of.made_at)),
        (Some("AGAIN"), Some(NotDue::NotReportedSince(end))) => Some((Wait::Report, end)),
        (Some("BUSY"), _) => Some((Wait::Free, of.made_at)),
        (Some(_), _) => None,
    };
    let waiting = waiting.map(|(wait, since)| Waiting { since, wait });
    let seen = first.map(|check| check.seen.clone()).unwrap_or_default();
    let (verdict, summary) = match waiting {
        Some(Waiting { since, wait }) => (
            Verdict::ToCome,
            Said::of("the dynamic batch may take the device in; that waits since ")
                .at(since)
                .and(format!(" for {}", wait.text())),
        ),
        None if is_noted => {
            (Verdict::ToCome, Said::of("the device is about to be looked at; as things stand: ").join(seen))
        }
        None => (Verdict::LeftOut, Said::of("the dynamic batch has no task for the device: ").join(seen)),
    };
    let next = if is_noted { Next::soon(Foreseen::Decision) } else { Next::NOTHING };
    Explanation { verdict, summary, checks, waiting, next, ends_by: None }
}
